//! Faults as they strike.

use super::{Event, Phase, World};
use crate::checker::Violation;
use crate::sim::broker::{self, DiskPace, Running};
use crate::sim::faults::{self, Fault};
use crate::sim::network::Place;
use crate::sim::queue::Micros;
use trimaran_raft::{GroupId, Role};
use trimaran_storage::fs::faulty::{Fault as DiskFault, Operation as DiskOperation};

impl World {
    pub(super) fn misfortune(&mut self) -> Result<(), Violation> {
        if self.phase != Phase::Suffering {
            return Ok(());
        }
        let brokers = self.brokers();
        let fault = faults::random(&mut self.rng, brokers);
        self.faults += 1;
        self.note(format!("FAULT {fault:?}"));
        let pause = self.rng.between(self.fault_every / 4, self.fault_every * 7 / 4);
        self.queue.after(pause, Event::Misfortune);
        self.strike(fault)
    }

    fn strike(&mut self, fault: Fault) -> Result<(), Violation> {
        match fault {
            Fault::Crash(brokers) => {
                for (broker, downtime) in brokers {
                    self.crash(broker, downtime);
                }
            }
            Fault::Pause(broker, lasts) => {
                let machine = self.machine(broker);
                if machine.running.is_some() && !machine.paused {
                    machine.paused = true;
                    let life = machine.life;
                    self.queue.after(lasts, Event::Resume(broker, life));
                }
            }
            Fault::Split { side, lasts } => {
                let other: Vec<u32> = (1..=self.brokers()).filter(|broker| !side.contains(broker)).collect();
                let ways = side
                    .iter()
                    .flat_map(|one| other.iter().flat_map(|two| [(*one, *two), (*two, *one)]))
                    .map(|(from, to)| (Place::Broker(from), Place::Broker(to)))
                    .collect();
                self.cut(ways, lasts);
            }
            Fault::OneWay { cuts, lasts } => {
                let ways = cuts
                    .into_iter()
                    .map(|(from, to)| (Place::Broker(from), Place::Broker(to)))
                    .collect();
                self.cut(ways, lasts);
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
            Fault::SlowDisk { broker, max_us, lasts } => {
                let machine = self.machine(broker);
                if let Some(running) = &mut machine.running {
                    running.set_disk(DiskPace { min_us: 100, max_us });
                    let life = machine.life;
                    self.queue.after(lasts, Event::FairDisk(broker, life));
                }
            }
            Fault::BrokenDisk(broker, _) => self.machine(broker).fs.fail(DiskFault {
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
            Fault::FullDisk(broker) => {
                let machine = self.machine(broker);
                let used = machine.fs.files().iter().map(|(_, bytes)| bytes).sum();
                machine.fs.set_capacity(Some(used));
            }
            Fault::Transfer => return self.tell_leader(broker::Event::Transfer),
            Fault::Failover => return self.tell_all_replicas(),
            Fault::Leave(broker, downtime) => {
                let machine = self.machine(broker);
                if machine.running.is_some() && machine.leaving.is_none() {
                    machine.leaving = Some(downtime);
                    let life = machine.life;
                    return self.at_broker(broker, life, broker::Event::Leave);
                }
            }
        }
        Ok(())
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

    fn tell_all_replicas(&mut self) -> Result<(), Violation> {
        let groups = self.groups();
        let Some(group) = self.rng.pick(&groups).copied() else {
            return Ok(());
        };
        for broker in self.holders(group) {
            let life = self.machine(broker).life;
            self.at_broker(broker, life, broker::Event::Failover(group))?;
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
