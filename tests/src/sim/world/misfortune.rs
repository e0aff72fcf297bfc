//! Faults as they strike.

use super::{Event, Phase, World};
use crate::checker::Violation;
use crate::sim::broker::{self, DiskPace, Running};
use crate::sim::faults::{self, Ambush, Fault, Kind, Said};
use crate::sim::network::Place;
use crate::sim::queue::Micros;
use trimaran_raft::{Body, GroupId, Message, Role};
use trimaran_storage::fs::faulty::{Fault as DiskFault, Operation as DiskOperation};

impl World {
    pub(super) fn misfortune(&mut self) -> Result<(), Violation> {
        if self.phase != Phase::Suffering {
            return Ok(());
        }
        let pause = self.rng.between(self.fault_every / 4, self.fault_every * 7 / 4);
        self.queue.after(pause, Event::Misfortune);
        if let Some(victim) = self
            .victim
            .filter(|_| self.kinds.contains(Kind::OldFolder) && self.rng.chance(100))
        {
            self.copy_disk(victim);
        }
        let brokers = self.brokers();
        let Some((kind, fault)) = faults::random(&mut self.rng, brokers, self.kinds, self.focus) else {
            return Ok(());
        };
        *self.faults.entry(kind).or_insert(0) += 1;
        self.note(format!("FAULT {fault:?}"));
        self.strike(fault)
    }

    fn strike(&mut self, fault: Fault) -> Result<(), Violation> {
        let now = self.now();
        match fault {
            Fault::Crash(brokers) => {
                for (broker, downtime) in brokers {
                    self.crash(broker, downtime);
                }
            }
            Fault::Ambush(ambush) => self.lay(ambush),
            Fault::Pause(broker, lasts) => {
                let machine = self.machine(broker);
                if machine.running.is_some() && !machine.paused {
                    machine.paused = true;
                    let life = machine.life;
                    self.queue.after(lasts, Event::Resume(broker, life));
                }
            }
            Fault::Hang { broker, which, lasts } => {
                let machine = self.machine(broker);
                if let Some(running) = &mut machine.running {
                    running.hang(now, running.some_thread(which));
                    let life = machine.life;
                    self.queue.after(lasts, Event::GoOn(broker, life));
                }
            }
            Fault::Cut { ways, lasts } => self.cut(between_brokers(&ways).collect(), lasts),
            Fault::Clog { ways, queue, lasts } => {
                for (from, to) in between_brokers(&ways) {
                    self.network.clog(from, to, now + lasts, queue);
                }
            }
            Fault::NoClients(broker, lasts) => {
                let ways = (0..u32::try_from(self.clients.len()).unwrap_or(0))
                    .map(|client| (Place::Client(client), Place::Broker(broker)))
                    .collect();
                self.cut(ways, lasts);
            }
            Fault::Weather(weather, lasts) => {
                self.network.set_weather(weather);
                self.queue.after(lasts, Event::FairWeather);
            }
            Fault::ClockJump(broker, ahead) => {
                let machine = self.machine(broker);
                machine.settings.clock_ahead += ahead;
                let life = machine.life;
                return self.at_broker(broker, life, broker::Event::ClockJump(ahead));
            }
            Fault::Reformat(downtime) => {
                if let Some(victim) = self.victim_of_a_loss() {
                    self.victim = None;
                    // Once: a broker that is filled again may hold what nobody else does.
                    self.crash(victim, downtime);
                    self.empty_disk(victim);
                    self.note(format!("b{victim} has an empty disk"));
                }
            }
            Fault::DeadSegments => {
                // Like an empty disk: there must be two others that hold what there is.
                if let Some(victim) = self.victim_of_a_loss() {
                    self.victim = None;
                    self.note(format!("b{victim} can't write its segments any more"));
                    let machine = self.machine(victim);
                    machine.has_dead_segments = true;
                    machine.break_what_is_dead();
                }
            }
            Fault::ClockSet(broker, ahead_ms) => {
                let machine = self.machine(broker);
                machine.settings.wall_ahead_ms = ahead_ms;
                let life = machine.life;
                return self.at_broker(broker, life, broker::Event::ClockSet(ahead_ms));
            }
            Fault::Voters(broker, listed, downtime) => {
                let machine = self.machine(broker);
                // A broker with this mistake in its very first start founds another cluster.
                if listed < machine.settings.founders && machine.has_noted_founders() {
                    machine.settings.founders = listed;
                    self.crash(broker, downtime);
                }
            }
            Fault::OldFolder(downtime) => {
                if let Some(victim) = self.victim_of_a_loss() {
                    self.bring_back_copy(victim, downtime);
                }
            }
            Fault::LostJournal(downtime) => self.lose_journal(downtime),
            Fault::OldJournal { downtime, later, again } => self.copy_journal(downtime, later, again),
            Fault::Transfer => return self.tell_leader(broker::Event::Transfer),
            Fault::Failover { all } => return self.fail_over(all),
            Fault::Leave(broker, downtime) => {
                let machine = self.machine(broker);
                if machine.running.is_some() && machine.leaving.is_none() {
                    machine.leaving = Some(downtime);
                    let life = machine.life;
                    return self.at_broker(broker, life, broker::Event::Leave);
                }
            }
            Fault::SlowDisk { .. }
            | Fault::BrokenDisk(_)
            | Fault::BadSectors { .. }
            | Fault::ReadFlip { .. }
            | Fault::WriteFlip { .. }
            | Fault::FullDisk(_) => self.hurt_disk(fault),
        }
        Ok(())
    }

    /// The broker whose disk may lose what it holds; none while another one lacks something. A full disk makes a broker
    /// give up replicas, too, and nobody promises that two losses of three are survived.
    fn victim_of_a_loss(&self) -> Option<u32> {
        let victim = self.victim?;
        let holds_everything = |running: &broker::Running| {
            running.hosted().all(|group| {
                let replica = running.shard_of(group).replica(group);
                replica.is_some_and(|(member, _)| !member.is_lost())
            })
        };
        let mut others = self.machines.iter().filter(|machine| machine.settings.id != victim);
        others
            .all(|machine| machine.running.as_ref().is_some_and(holds_everything))
            .then_some(victim)
    }

    fn hurt_disk(&mut self, fault: Fault) {
        match fault {
            Fault::SlowDisk {
                broker,
                max_us,
                lasts,
                crash,
            } => {
                self.slow_disk(broker, max_us, lasts);
                if let Some((at, downtime)) = crash {
                    let life = self.machine(broker).life;
                    self.queue.after(at, Event::Crash(broker, life, downtime));
                }
            }
            Fault::BrokenDisk(broker) => self.machine(broker).fs.fail(DiskFault {
                operation: DiskOperation::Write,
                path_contains: "journal".to_owned(),
                after: 0,
                times: 1,
                kind: std::io::ErrorKind::Other,
            }),
            Fault::BadSectors { broker, writes, times } => self.machine(broker).fs.fail(DiskFault {
                operation: if writes {
                    DiskOperation::Write
                } else {
                    DiskOperation::Read
                },
                path_contains: "group-".to_owned(),
                after: 0,
                times,
                kind: std::io::ErrorKind::Other,
            }),
            // At any broker: what is read again is right.
            Fault::ReadFlip { which, times } => {
                let broker = which.rotate_left(16) % u64::from(self.brokers());
                self.machine(broker as u32 + 1).flip_reads(which, times);
            }
            // What is damaged is set aside. Two of three replicas would be too many.
            Fault::WriteFlip { which } => {
                if let Some(victim) = self.victim_of_a_loss() {
                    self.machine(victim).flip_a_bit(which);
                }
            }
            Fault::FullDisk(broker) => {
                let machine = self.machine(broker);
                let used = machine.fs.files().iter().map(|(_, bytes)| bytes).sum();
                machine.fs.set_capacity(Some(used));
            }
            _ => {}
        }
    }

    fn slow_disk(&mut self, broker: u32, max_us: Micros, lasts: Micros) {
        let machine = self.machine(broker);
        let life = machine.life;
        if let Some(running) = &mut machine.running {
            running.set_disk(DiskPace { min_us: 100, max_us });
            self.queue.after(lasts, Event::FairDisk(broker, life));
        }
    }

    fn lay(&mut self, ambush: Ambush) {
        if let Some((max_us, lasts)) = ambush.slow {
            self.slow_disk(ambush.broker, max_us, lasts);
        }
        self.ambush = Some(ambush);
    }

    /// Springs the ambush that is laid for a broker once it has said what it was waited for.
    pub(super) fn spring_ambush(&mut self, broker: u32, messages: &[(GroupId, Message)]) {
        let Some(Ambush {
            broker: prey,
            said,
            downtime,
            ..
        }) = self.ambush
        else {
            return;
        };
        if prey != broker || !messages.iter().any(|(_, message)| is_said(said, &message.body)) {
            return;
        }
        self.ambush = None;
        let life = self.machine(broker).life;
        let moment = self.rng.below(1_000);
        self.note(format!("b{broker} has said {said:?}"));
        self.queue.after(moment, Event::Crash(broker, life, downtime));
    }

    fn cut(&mut self, ways: Vec<(Place, Place)>, lasts: Micros) {
        ways.iter().for_each(|(from, to)| self.network.cut(*from, *to));
        self.queue.after(lasts, Event::Repair(ways));
    }

    pub(super) fn groups(&self) -> Vec<GroupId> {
        let mut groups: Vec<GroupId> = self
            .machines
            .iter()
            .filter_map(|machine| machine.running.as_ref())
            .flat_map(Running::hosted)
            .collect();
        groups.sort();
        groups.dedup();
        groups
    }

    fn tell_leader(&mut self, event: fn(GroupId) -> broker::Event) -> Result<(), Violation> {
        let groups = self.groups();
        let Some(group) = self.rng.pick(&groups).copied() else {
            return Ok(());
        };
        for broker in self.holders(group) {
            let machine = self.machine(broker);
            let leads = machine.running.as_ref().is_some_and(|running| leads(running, group));
            let life = machine.life;
            if leads {
                self.at_broker(broker, life, event(group))?;
            }
        }
        Ok(())
    }

    /// All replicas of a group, or of every group, are told to believe their leader gone.
    fn fail_over(&mut self, all: bool) -> Result<(), Violation> {
        let mut groups = self.groups();
        if !all {
            groups = self.rng.pick(&groups).copied().into_iter().collect();
        }
        for group in groups {
            for broker in self.holders(group) {
                let life = self.machine(broker).life;
                self.at_broker(broker, life, broker::Event::Failover(group))?;
            }
        }
        Ok(())
    }

    fn holders(&self, group: GroupId) -> Vec<u32> {
        self.machines
            .iter()
            .filter(|machine| {
                machine
                    .running
                    .as_ref()
                    .is_some_and(|running| running.hosted().any(|hosted| hosted == group))
            })
            .map(|machine| machine.settings.id)
            .collect()
    }
}

fn leads(running: &Running, group: GroupId) -> bool {
    running
        .shard_of(group)
        .replica(group)
        .is_some_and(|(member, _)| member.role() == Role::Leader)
}

fn between_brokers(ways: &[(u32, u32)]) -> impl Iterator<Item = (Place, Place)> {
    ways.iter().map(|(from, to)| (Place::Broker(*from), Place::Broker(*to)))
}

fn is_said(said: Said, body: &Body) -> bool {
    match said {
        Said::Candidacy => matches!(body, Body::Vote { .. }),
        Said::Vote => matches!(body, Body::VoteReply { granted: true }),
        Said::Entries => matches!(body, Body::Append { entries, .. } if !entries.is_empty()),
        Said::Acknowledgement => matches!(body, Body::AppendAccepted { .. }),
        Said::Commit => matches!(body, Body::Append { entries, .. } if entries.is_empty()),
    }
}
