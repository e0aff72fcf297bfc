//! The shards: what wakes them, and what a step of theirs leads to.

use super::event::{Effect, Event};
use super::{Job, Running};
use crate::sim::queue::Micros;
use crate::sim::trace::Happening;
use trimaran_multiraft::{Input, Outbox};
use trimaran_node::reports;
use trimaran_raft::GroupId;

impl Running {
    pub(super) fn tell(&mut self, now: Micros, group: GroupId, input: Input, effects: &mut Vec<Effect>) {
        self.tell_shard(now, self.seat_of(group), input, effects);
    }

    pub(super) fn tell_shard(&mut self, now: Micros, shard: usize, input: Input, effects: &mut Vec<Effect>) {
        let seat = &mut self.seats[shard];
        seat.mailbox.push(input);
        if !seat.awake {
            seat.awake = true;
            let wake = now + self.rng.between(1, 60);
            effects.push(Effect::At(wake, Event::Step(shard)));
        }
    }

    pub(super) fn step(&mut self, now: Micros, shard: usize, effects: &mut Vec<Effect>) -> Result<(), String> {
        let clock = self.clock(now);
        let seat = &mut self.seats[shard];
        seat.awake = false;
        let mut inputs = std::mem::take(&mut seat.mailbox);
        let mut out = std::mem::take(&mut seat.outbox);
        let given = inputs.len();
        seat.shard.step(clock, &mut inputs, &mut out);
        seat.mailbox = inputs;
        effects.push(Effect::Trace(Happening::Stepped {
            broker: self.settings.id,
            shard,
            inputs: given,
            envelopes: out.messages.len(),
            completions: out.completions.len(),
            journal_bytes: out.journal.bytes(),
        }));
        self.take(now, shard, &mut out, effects)?;
        self.seats[shard].outbox = out;
        effects.push(Effect::Stepped(shard));
        self.plan_timer(now, shard, effects);
        Ok(())
    }

    fn plan_timer(&mut self, now: Micros, shard: usize, effects: &mut Vec<Effect>) {
        let deadline = self.seats[shard].shard.deadline();
        // A moment later than the deadline says, so that a step never finds that nothing is due.
        let at = deadline.map(|deadline| self.virtual_time(deadline).max(now) + 1);
        if at != self.seats[shard].timer_at {
            self.seats[shard].timer_at = at;
            if let Some(at) = at {
                effects.push(Effect::At(at, Event::Timer(shard, at)));
            }
        }
    }

    pub(super) fn take(
        &mut self,
        now: Micros,
        shard: usize,
        out: &mut Outbox,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        for (to, messages) in out.messages.drain(..) {
            self.send_groups(to, messages, effects);
        }
        if !out.journal.is_empty() {
            self.unwritten
                .push((shard, out.sequence, std::mem::take(&mut out.journal)));
            if self.early_acks {
                self.tell_shard(now, shard, Input::Persisted(out.sequence), effects);
            }
        }
        for group in out.closed.drain(..) {
            self.leavings.push((shard, out.sequence, group));
        }
        self.begin_write(now, effects);
        for job in out.flushes.drain(..) {
            self.begin_job(now, Job::Flush(job), effects);
        }
        for load in out.loads.drain(..) {
            self.begin_job(now, Job::Load(load), effects);
        }
        for (ticket, completion) in std::mem::take(&mut out.completions) {
            self.complete(now, ticket, completion, effects)?;
        }
        let mut reported = Vec::new();
        reports(out, |report| reported.push(report));
        if !reported.is_empty() {
            self.reported(now, reported, effects)?;
        }
        (out.elections, out.resets) = (0, 0);
        Ok(())
    }
}
