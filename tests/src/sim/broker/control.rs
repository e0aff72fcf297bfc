//! The control thread: the registry agent, what it wishes, and what the shards tell it.

use super::event::{Effect, Event};
use super::opening::Opening;
use super::settings::{group_options, log_options};
use super::{METADATA, Running, Waiter, node_of, of_node, registry_instant};
use crate::sim::clients::Answer;
use crate::sim::queue::Micros;
use crate::sim::trace::Happening;
use bytes::Bytes;
use trimaran_multiraft::{Acks, GroupOptions, InSync, Input, LeaderChange, Members};
use trimaran_raft::{GroupId, Instant, LogIndex, NodeId};
use trimaran_registry::agent::{self, Effect as Wish, OpenReplica};
use trimaran_registry::founding::Decision;
use trimaran_registry::{BrokerId, CommandIndex, Founders, Standing, Term};
use trimaran_storage::log::Retention;
use trimaran_wire::batch;
use trimaran_wire::peer::Frame;

impl Running {
    pub(super) fn control_tick(&mut self, now: Micros, effects: &mut Vec<Effect>) -> Result<(), String> {
        let clock = self.clock(now);
        if self.monitor.deadline() <= clock {
            let mut events = Vec::new();
            self.monitor.set_stalled(self.watchdog.withholds(self.workers(now)));
            self.monitor.tick(clock, &mut events);
            self.liveness(now, events, effects)?;
        }
        if self.agent.deadline() <= registry_instant(clock) {
            self.tell_agent(now, agent::Input::Tick, effects)?;
        }
        Ok(())
    }

    pub(super) fn plan_control(&mut self, now: Micros, effects: &mut Vec<Effect>) {
        let next = self.monitor.deadline().0.min(self.agent.deadline().0);
        let at = self.virtual_time(Instant(next)).max(now) + 1;
        if self.control_at.is_none_or(|planned| planned != at) {
            self.control_at = Some(at);
            effects.push(Effect::At(at, Event::Control(at)));
        }
    }

    pub(super) fn tell_agent(
        &mut self,
        now: Micros,
        input: agent::Input<'_>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        let mut wishes = Vec::new();
        let clock = registry_instant(self.clock(now));
        self.agent.step(clock, input, &mut wishes);
        for wish in wishes {
            self.fulfil(now, wish, effects)?;
        }
        Ok(())
    }

    fn fulfil(&mut self, now: Micros, wish: Wish, effects: &mut Vec<Effect>) -> Result<(), String> {
        match wish {
            Wish::Propose(command) => {
                let batch = batch::build(self.settings.wall_clock_ms(now), &[(None, Some(&command))]);
                let ticket = self.ticket(Waiter::Proposal);
                let input = Input::Append {
                    group: METADATA,
                    batch,
                    acks: Acks::All,
                    ticket,
                };
                self.tell(now, METADATA, input, effects);
            }
            Wish::Send(to, message) => {
                self.send(node_of(to), Frame::Control(Bytes::from(message)), effects);
            }
            Wish::OpenMetadata(decision) => self.open_metadata(now, &decision, effects)?,
            Wish::Open(replica) => self.open_replica(now, &replica, effects)?,
            Wish::Replicas { group, replicas, since } => {
                let group = GroupId(group.0);
                let wanted: Vec<NodeId> = replicas.iter().map(|id| node_of(*id)).collect();
                let opening = self.postponed.get_mut(&group).or_else(|| self.openings.get_mut(&group));
                if let Some(opening) = opening {
                    opening.wanted.clone_from(&wanted);
                    opening.since = Some(since.0);
                }
                self.tell(now, group, Input::Replicas(group, wanted, since.0), effects);
            }
            Wish::Newcomers(brokers) => {
                let nodes: Vec<NodeId> = brokers.iter().map(|broker| node_of(broker.id)).collect();
                let clock = self.clock(now);
                nodes.iter().for_each(|node| self.monitor.add_peer(clock, *node));
                if let Some(opening) = self.openings.get_mut(&METADATA) {
                    opening.learners = Some(nodes.clone());
                }
                self.tell(now, METADATA, Input::Learners(METADATA, nodes), effects);
            }
            Wish::Configure { group, config } => {
                let group = GroupId(group.0);
                let input = Input::Configure(group, group_options(&config), log_options());
                self.tell(now, group, input, effects);
            }
            Wish::Close(group) => {
                let group = GroupId(group.0);
                effects.push(self.note(format!("closes group {group}")));
                self.silent.remove(&group);
                self.postponed.remove(&group);
                if self.openings.remove(&group).is_some() {
                    self.closing.insert(group);
                }
                self.tell(now, group, Input::Close(group), effects);
            }
            Wish::Reply(ticket, result) => {
                if let Some(Waiter::Admin { client, number }) = self.tickets.remove(&ticket.0) {
                    effects.push(Effect::Answer(client, number, Answer::Admin(result)));
                }
            }
            Wish::Rejected { from, error } => return Err(format!("a message from b{from} was rejected: {error:?}")),
            Wish::Unreadable { index, error } => return Err(format!("command {index} can't be read: {error:?}")),
        }
        Ok(())
    }

    fn open_metadata(&mut self, now: Micros, decision: &Decision, effects: &mut Vec<Effect>) -> Result<(), String> {
        effects.push(self.note(format!("opens the metadata group: {decision:?}")));
        let all = self.settings.founders();
        let founders = Founders::new(all.iter().map(|node| of_node(*node)));
        let noted = match decision {
            Decision::Found(with) => super::folder::note_founding(&self.fs, with),
            Decision::Resume | Decision::Join => Ok(()),
        };
        let noted = noted.and_then(|()| super::folder::note_founders(&self.fs, &founders));
        noted.map_err(|error| format!("the founders can't be noted: {error}"))?;
        let options = GroupOptions {
            min_insync_replicas: 1,
            retention: Retention::default(),
            deliver: true,
        };
        let standing = match decision {
            Decision::Join => Standing::Joining,
            Decision::Resume | Decision::Found(_) => Standing::Founding,
        };
        let opening = Opening {
            founders: all.clone(),
            wanted: all,
            since: None,
            standing,
            options,
            learners: None,
        };
        self.open(now, METADATA, opening, effects)
    }

    fn open_replica(&mut self, now: Micros, replica: &OpenReplica, effects: &mut Vec<Effect>) -> Result<(), String> {
        let group = GroupId(replica.group.0);
        let founders: Vec<NodeId> = replica.founders.iter().map(|id| node_of(*id)).collect();
        let wanted = replica.replicas.iter().map(|id| node_of(*id)).collect();
        effects.push(self.note(format!(
            "opens group {group}: {}-{} founded by {:?}, {:?}",
            replica.topic, replica.partition, founders, replica.standing
        )));
        let opening = Opening {
            founders,
            wanted,
            since: None,
            standing: replica.standing,
            options: group_options(&replica.config),
            learners: None,
        };
        self.open(now, group, opening, effects)
    }

    pub(super) fn committed(
        &mut self,
        now: Micros,
        group: GroupId,
        index: LogIndex,
        payload: &Bytes,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        if group != METADATA {
            return Err(format!(
                "group {group} was opened without delivery and delivered {index}"
            ));
        }
        if !self.is_member {
            self.is_member = true;
            let noted = super::folder::note_membership(&self.fs);
            noted.map_err(|error| format!("the membership can't be noted: {error}"))?;
        }
        let values = batch::values(payload).map_err(|error| format!("metadata entry {index}: {error:?}"))?;
        for command in values.iter().flatten() {
            let input = agent::Input::Applied {
                index: CommandIndex(index.0),
                command,
            };
            self.tell_agent(now, input, effects)?;
        }
        Ok(())
    }

    pub(super) fn leader_changed(
        &mut self,
        now: Micros,
        change: LeaderChange,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        effects.push(Effect::Trace(Happening::Leads {
            broker: self.settings.id,
            group: change.group.0,
            term: change.term.0,
            leader: change.leader.map(|leader| leader.0),
            serving: change.serving,
        }));
        effects.push(Effect::Leader(change));
        let input = agent::Input::Led {
            group: trimaran_registry::GroupId(change.group.0),
            term: Term(change.term.0),
            leader: change.leader.map(of_node),
            serving: change.serving,
        };
        self.tell_agent(now, input, effects)
    }

    pub(super) fn members(&mut self, now: Micros, report: &Members, effects: &mut Vec<Effect>) -> Result<(), String> {
        effects.push(self.note(format!(
            "leads group {} with voters {:?} and learners {:?}",
            report.group, report.voters, report.learners
        )));
        let Some(version) = report.fulfils else { return Ok(()) };
        let ids = |nodes: &[NodeId]| nodes.iter().map(|node| of_node(*node)).collect::<Vec<BrokerId>>();
        let input = agent::Input::Members {
            group: trimaran_registry::GroupId(report.group.0),
            since: CommandIndex(version),
            voters: &ids(&report.voters),
            learners: &ids(&report.learners),
        };
        self.tell_agent(now, input, effects)
    }

    pub(super) fn in_sync(&mut self, now: Micros, report: &InSync, effects: &mut Vec<Effect>) -> Result<(), String> {
        let replicas: Vec<BrokerId> = report.replicas.iter().map(|node| of_node(*node)).collect();
        let input = agent::Input::InSync {
            group: trimaran_registry::GroupId(report.group.0),
            term: Term(report.term.0),
            replicas: &replicas,
        };
        self.tell_agent(now, input, effects)
    }
}
