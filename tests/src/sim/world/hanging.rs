//! A thread of a broker hangs for good while all the rest of the cluster is well: others must lead what it led, as far
//! as they are a majority. Then its system call returns, and everything has to be whole again.

use super::ending::CONVERGES_WITHIN;
use super::{Phase, World};
use crate::checker::{Law, Violation};
use crate::sim::broker::{Hanging, METADATA, Running};
use trimaran_raft::NodeId;

impl World {
    /// What hangs in a process goes on, if it still lives that life.
    pub(super) fn go_on(&mut self, broker: u32, life: u64) -> Result<(), Violation> {
        let now = self.now();
        let machine = self.machine(broker);
        let mut effects = Vec::new();
        if let (Some(running), true) = (&mut machine.running, machine.life == life) {
            running.go_on(now, &mut effects);
        }
        self.carry_out(broker, effects)
    }

    /// The thread on which some leader depends hangs, more often than not that of its shard.
    pub(super) fn begin_hanging(&mut self) {
        // A group that already does without a broker whose segments can't be written may have no majority without
        // another.
        if self.machines.iter().any(|machine| machine.has_dead_segments) {
            return;
        }
        let groups = self.groups();
        let Some(group) = self.rng.pick(&groups).copied() else {
            return;
        };
        let drawn = self.rng.below(10);
        let now = self.now();
        let leads = |running: &Running| {
            let replica = running.shard_of(group).replica(group);
            replica.is_some_and(|(member, _)| member.is_serving())
        };
        let mut machines = self.machines.iter_mut();
        let machine = machines.find(|machine| machine.running.as_ref().is_some_and(leads));
        let Some(machine) = machine else { return };
        let (broker, life) = (machine.settings.id, machine.life);
        let Some(running) = &mut machine.running else { return };
        let what = match drawn {
            0 | 1 => Hanging::Journal,
            2 => Hanging::Files,
            _ => running.thread_of(group),
        };
        running.hang(now, what);
        self.phase = Phase::Hanging { broker, life };
        self.healed_at = now;
        self.note(format!("b{broker}, which leads group {group}, hangs: {what:?}"));
    }

    /// Whether others lead everything that they can lead by now.
    pub(super) fn look_at_hanging(&mut self, broker: u32, life: u64) -> Result<(), Violation> {
        let now = self.now();
        let hanging = self.machine(broker).running.as_ref().and_then(Running::hanging);
        let (Some(what), true) = (hanging, self.machine(broker).life == life) else {
            // It has ended for another reason, and starts again as a whole.
            self.phase = Phase::Ending;
            self.healed_at = now;
            return Ok(());
        };
        match self.not_taken_over(broker) {
            None => {
                self.note(format!("others lead what b{broker} led"));
                self.phase = Phase::Ending;
                self.healed_at = now;
                self.go_on(broker, life)
            }
            Some(left) if now > self.healed_at + CONVERGES_WITHIN => {
                let detail = format!("{left}, whose {what:?} hangs");
                Err(Violation::new(Law::Converges, detail))
            }
            Some(_) => Ok(()),
        }
    }

    /// A group that others could lead, and nobody does but that broker; none if there is none.
    fn not_taken_over(&self, broker: u32) -> Option<String> {
        let others = self.machines.iter().filter(|machine| machine.settings.id != broker);
        let others: Vec<&Running> = others.filter_map(|machine| machine.running.as_ref()).collect();
        self.groups().into_iter().find_map(|group| {
            let members: Vec<_> = others
                .iter()
                .filter_map(|running| running.shard_of(group).replica(group))
                .map(|(member, _)| member)
                .collect();
            // While voters are exchanged, both sets must do without it.
            let configuration = members.first()?.configuration();
            let can_decide = |voters: &[NodeId]| {
                let left = voters.iter().filter(|voter| voter.0 != u64::from(broker)).count();
                voters.is_empty() || left * 2 > voters.len()
            };
            if !can_decide(&configuration.voters) || !can_decide(&configuration.outgoing) {
                return None;
            }
            if !members.iter().any(|member| member.is_serving()) {
                return Some(format!("group {group} is led by nobody but b{broker}"));
            }
            let believes = |running: &&Running| {
                let known = running
                    .agent()
                    .leaders()
                    .leadership(trimaran_registry::GroupId(group.0));
                let leader = known.filter(|known| known.serving).and_then(|known| known.leader);
                leader.is_some_and(|leader| u32::try_from(leader.0) != Ok(broker))
            };
            let misled = group != METADATA && !others.iter().all(believes);
            misled.then(|| format!("clients are still sent to the leader of group {group} at b{broker}"))
        })
    }
}
