//! The control thread: the host of the node. It hands in what happens, and does what comes out.

use super::event::{Effect, Event};
use super::{ADMIN_TIMEOUT, Job, METADATA, OTHER_FOUNDERS, Running, Views, Waiter, broker_id};
use crate::checker::Violation;
use crate::sim::clients::Answer;
use crate::sim::envelope;
use crate::sim::queue::Micros;
use crate::sim::trace::Happening;
use trimaran_multiraft::{Acks, Input as ShardInput, Ticket};
use trimaran_node::{Fatal, Health, Input, Notice, Now, Output, Report};
use trimaran_registry::agent::{self, AdminRequest};
use trimaran_registry::catalog::Partition;

impl Running {
    pub(super) fn now(&self, now: Micros) -> Now {
        Now {
            at: self.clock(now),
            wall_ms: self.settings.wall_clock_ms(now),
        }
    }

    pub(super) fn control_tick(&mut self, now: Micros, effects: &mut Vec<Effect>) -> Result<(), String> {
        let health = Health {
            stalled: self.watchdog.withholds(self.workers(now)),
            write: None,
        };
        let mut outputs = Vec::new();
        self.node.tick(self.now(now), health, &mut outputs);
        self.publish(now, outputs, effects)
    }

    pub(super) fn plan_control(&mut self, now: Micros, effects: &mut Vec<Effect>) {
        let at = self.virtual_time(self.node.deadline()).max(now) + 1;
        if self.control_at.is_none_or(|planned| planned != at) {
            self.control_at = Some(at);
            effects.push(Effect::At(at, Event::Control(at)));
        }
    }

    /// One thing happens to the node.
    pub(super) fn tell_node(&mut self, now: Micros, input: Input, effects: &mut Vec<Effect>) -> Result<(), String> {
        let mut outputs = Vec::new();
        self.node.handle(self.now(now), input, &mut outputs);
        self.publish(now, outputs, effects)
    }

    pub(super) fn request_of_admin(
        &mut self,
        now: Micros,
        (client, number): (u32, u64),
        request: AdminRequest,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        let Ticket(ticket) = self.ticket(Waiter::Admin { client, number });
        let input = Input::Request(agent::Ticket(ticket), ADMIN_TIMEOUT, request);
        self.tell_node(now, input, effects)
    }

    /// What a shard's step has reported.
    pub(super) fn reported(
        &mut self,
        now: Micros,
        reports: Vec<Report>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        let mut outputs = Vec::new();
        for report in reports {
            if let Report::Leader(change) = &report {
                effects.push(Effect::Trace(Happening::Leads {
                    broker: self.settings.id,
                    group: change.group.0,
                    term: change.term.0,
                    leader: change.leader.map(|leader| leader.0),
                    serving: change.serving,
                }));
                effects.push(Effect::Leader(*change));
            }
            self.node.handle(self.now(now), Input::Report(report), &mut outputs);
        }
        self.publish(now, outputs, effects)
    }

    fn publish(&mut self, now: Micros, mut outputs: Vec<Output>, effects: &mut Vec<Effect>) -> Result<(), String> {
        self.node.publish(&mut outputs);
        outputs
            .into_iter()
            .try_for_each(|output| self.do_output(now, output, effects))
    }

    fn do_output(&mut self, now: Micros, output: Output, effects: &mut Vec<Effect>) -> Result<(), String> {
        match output {
            Output::Shard(group, input) => {
                if matches!(input, ShardInput::Open(_)) {
                    effects.push(Effect::Opened(group));
                }
                if matches!(input, ShardInput::Open(_) | ShardInput::Damaged(_)) {
                    self.views.opened(group.0);
                }
                self.tell(now, group, input, effects);
            }
            Output::AllShards(broadcast) => {
                for shard in 0..self.seats.len() {
                    self.tell_shard(now, shard, broadcast.to_shard(), effects);
                }
            }
            Output::Propose(batch) => {
                let ticket = self.ticket(Waiter::Proposal);
                let input = ShardInput::Append {
                    group: METADATA,
                    batch,
                    acks: Acks::All,
                    ticket,
                };
                self.tell(now, METADATA, input, effects);
            }
            Output::Open(job) => self.begin_job(now, Job::Open(job), effects),
            Output::AskStatus(group) => {
                let ticket = self.ticket(Waiter::Status(group));
                self.tell(now, group, ShardInput::Status(ticket, group), effects);
            }
            Output::DeleteQuarantine(group) => self.begin_job(now, Job::DeleteQuarantine(group), effects),
            Output::Send(to, frame) => self.send(to, frame, effects),
            Output::Heartbeat(to, heartbeat) => {
                let to = u32::try_from(to.0).unwrap_or(0);
                effects.push(Effect::Send(to, envelope::heartbeat_out(heartbeat)));
            }
            Output::Routes(routes) => self.routes = routes,
            // Every broker is reached by its number.
            Output::Newcomers(_) => {}
            Output::NoteFounders(founders, with) => {
                let noted = match with {
                    Some(with) => super::folder::note_founding(&self.fs, &with),
                    None => Ok(()),
                };
                let noted = noted.and_then(|()| super::folder::note_founders(&self.fs, &founders));
                noted.map_err(|error| format!("the founders can't be noted: {error}"))?;
            }
            Output::NoteMembership => {
                let noted = super::folder::note_membership(&self.fs);
                noted.map_err(|error| format!("the membership can't be noted: {error}"))?;
            }
            Output::NoteStart(broker, start) => effects.push(Effect::NoteStart(broker, start)),
            Output::Publish(view) => {
                self.view = *view;
                self.judge_view(effects);
            }
            Output::Reply(ticket, result) => {
                let told = self.agent().catalog().applied().0;
                if let (Ok(_), Err(violation)) = (&result, Views::answered(told, self.view.catalog.applied().0)) {
                    effects.push(Effect::Broken(violation));
                }
                if let Some(Waiter::Admin { client, number }) = self.tickets.remove(&ticket.0) {
                    effects.push(Effect::Answer(client, number, Answer::Admin(result)));
                }
            }
            Output::Notice(notice) => return self.note_notice(notice, effects),
            Output::Fatal(Fatal::OtherFounders { noted, .. }) => return Err(format!("{OTHER_FOUNDERS}: {noted}")),
            Output::Fatal(fatal) => return Err(format!("{fatal:?}")),
        }
        Ok(())
    }

    fn judge_view(&mut self, effects: &mut Vec<Effect>) {
        let own = broker_id(self.settings.id);
        let catalog = &self.view.catalog;
        let is_here = |partition: &&Partition| partition.replicas.contains(&own);
        let partitions = catalog.topics().flat_map(|topic| topic.partitions.iter());
        let placed = partitions.filter(is_here).map(|partition| partition.group.0);
        let registered = catalog.start(own) == Some(self.announced.start);
        let judged = self
            .views
            .published(registered, self.view.ready, placed.chain([METADATA.0]));
        let named = |broken: Violation| {
            let detail = format!("b{}: {}", self.settings.id, broken.detail);
            Effect::Broken(Violation::new(broken.law, detail))
        };
        effects.extend(judged.err().map(named));
    }

    fn note_notice(&mut self, notice: Notice, effects: &mut Vec<Effect>) -> Result<(), String> {
        match notice {
            Notice::Rejected(from, error) => return Err(format!("a message from b{from} was rejected: {error:?}")),
            Notice::Damaged(group, error) => {
                effects.push(self.note(format!("sets the log of group {group} aside: {error:?}")));
                effects.push(Effect::GivesUp(group, error));
            }
            Notice::Opening(replica) => effects.push(self.note(format!(
                "opens group {}: {}-{} founded by {:?}, {:?}",
                replica.group, replica.topic, replica.partition, replica.founders, replica.standing
            ))),
            Notice::Closed(group) => {
                self.views.closed(group.0);
                effects.push(self.note(format!("closes group {group}")));
            }
            notice => effects.push(self.note(format!("{notice:?}"))),
        }
        Ok(())
    }
}
