//! Machines and the processes on them: starting, running, crashing, pausing.

use super::{Event, SECOND, World};
use crate::checker::{Law, Violation};
use crate::sim::broker::{self, Effect, Running, Settings};
use crate::sim::clients::Answer;
use crate::sim::network::Place;
use crate::sim::queue::Micros;
use crate::sim::trace::Happening;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use trimaran_multiraft::LeaderChange;
use trimaran_raft::GroupId;
use trimaran_registry::starts::{Announcement, Inquiry, Start, Starts};
use trimaran_storage::fs::faulty::{Fault, FaultyFs, Operation};
use trimaran_storage::log::LogError;

/// Messages that a paused process's sockets hold.
const STALLED_EVENTS: usize = 20_000;

/// A broker's machine: its disk stays, processes come and go.
pub(super) struct Machine {
    pub(super) settings: Settings,
    pub(super) fs: FaultyFs,
    pub(super) running: Option<Running>,
    /// Counts starts and ends of processes: what was meant for another life has no effect.
    pub(super) life: u64,
    pub(super) paused: bool,
    pub(super) stalled: Vec<Event>,
    pub(super) leaving: Option<Micros>,
    /// Something on its disk is not what was written there.
    pub(super) is_damaged: bool,
    /// Replicas whose logs it has given up because they couldn't be written. A crash may come between the quarantine of
    /// their files and the journal's note of it: the next start finds them damaged.
    pub(super) given_up: BTreeSet<GroupId>,
    /// Nothing can be written to its segments, whatever else heals.
    pub(super) has_dead_segments: bool,
    /// Asks what the others have seen, before its process begins.
    pub(super) starting: Option<Inquiry>,
    /// The start that its process announces.
    pub(super) announced: Announcement,
    /// The starts of all brokers that it has seen, as its disk has them.
    pub(super) starts: Starts,
    /// A copy of its disk, and the last start that was made with it.
    pub(super) copy: Option<(FaultyFs, Start)>,
    /// A copy of its journal, to be brought back.
    pub(super) copied: Option<super::journals::Copy>,
}

impl Machine {
    /// All faults of the disk end but for what is dead.
    pub(super) fn heal_disk(&self) {
        self.fs.heal();
        self.break_what_is_dead();
    }

    pub(super) fn break_what_is_dead(&self) {
        if self.has_dead_segments {
            self.fs.fail(Fault {
                operation: Operation::Write,
                path_contains: "group-".to_owned(),
                after: 0,
                times: u64::MAX,
                kind: std::io::ErrorKind::Other,
            });
        }
    }

    /// The next so many reads of some byte of a segment return it with a flipped bit: the file and the byte are chosen
    /// by this number.
    pub(super) fn flip_reads(&self, which: u64, times: u64) {
        if let Some((path, position)) = self.byte(which) {
            self.fs.corrupt_reads(&path, position, times);
        }
    }

    /// A bit of some segment is flipped.
    pub(super) fn flip_a_bit(&mut self, which: u64) {
        if let Some((path, position)) = self.byte(which) {
            self.is_damaged |= self.fs.corrupt(&path, position);
        }
    }

    /// Whether its folder says who founded the cluster.
    pub(super) fn has_noted_founders(&self) -> bool {
        let files = self.fs.files();
        files
            .iter()
            .any(|(path, bytes)| path.as_path() == Path::new(broker::FOUNDERS) && *bytes > 0)
    }

    /// A byte of a segment.
    fn byte(&self, which: u64) -> Option<(PathBuf, u64)> {
        let mut files = self.fs.files();
        files.retain(|(path, bytes)| *bytes > 0 && path.to_string_lossy().contains("group-"));
        let place = usize::try_from(which).ok()?.checked_rem(files.len())?;
        let (path, bytes) = files.swap_remove(place);
        Some((path, which.rotate_left(32) % bytes))
    }
}

impl World {
    pub(super) fn at_broker(&mut self, broker: u32, life: u64, event: broker::Event) -> Result<(), Violation> {
        let now = self.now();
        let machine = self.machine(broker);
        if machine.life != life {
            return Ok(());
        }
        if machine.paused {
            if machine.stalled.len() < STALLED_EVENTS {
                machine.stalled.push(Event::Broker {
                    id: broker,
                    life,
                    event,
                });
            }
            return Ok(());
        }
        let Some(running) = &mut machine.running else {
            return Ok(());
        };
        let mut effects = Vec::new();
        let outcome = running.handle(now, event, &mut effects);
        self.carry_out(broker, effects)?;
        outcome.or_else(|error| self.stopped(broker, &error))
    }

    /// A process can't go on. Only a broken disk is an excuse.
    pub(super) fn stopped(&mut self, broker: u32, error: &str) -> Result<(), Violation> {
        if !is_disk_fault(error) {
            return Err(Violation::new(Law::Converges, format!("b{broker} stops: {error}")));
        }
        self.note(format!("b{broker} stops: {error}"));
        let downtime = self.rng.between(100_000, 2 * SECOND);
        self.crash(broker, downtime);
        Ok(())
    }

    pub(super) fn carry_out(&mut self, broker: u32, effects: Vec<Effect>) -> Result<(), Violation> {
        let now = self.now();
        let life = self.machine(broker).life;
        for effect in effects {
            match effect {
                Effect::Send(to, frame) => self.send(broker, to, frame)?,
                Effect::Answer(client, number, answer) => self.answer(broker, client, number, answer),
                Effect::At(at, event) => self.queue.at(
                    at,
                    Event::Broker {
                        id: broker,
                        life,
                        event,
                    },
                ),
                Effect::Trace(happening) => {
                    if matches!(happening, Happening::Journalled { .. }) && self.is_watched() && !self.is_gone(broker) {
                        self.idle_writes += 1;
                    }
                    self.trace.push(now, happening);
                }
                Effect::Leader(change) => self.leader(broker, change)?,
                Effect::Stepped(shard) => {
                    let at = usize::try_from(broker).unwrap_or(1) - 1;
                    if let Some(running) = &self.machines[at].running {
                        self.observer.stepped(broker, running, shard)?;
                    }
                }
                Effect::Synced(shard, sequence) => self.observer.synced(broker, shard, sequence),
                Effect::Opened(group) => self.observer.opened(broker, group),
                Effect::NoteStart(of, start) => self.note_registered(broker, of, start)?,
                Effect::GivesUp(group, error) => self.gives_up(broker, group, &error)?,
                Effect::Broken(violation) => return Err(violation),
                Effect::Left => self.left(broker),
                Effect::Fail(error) => self.stopped(broker, &error)?,
            }
        }
        Ok(())
    }

    /// A replica takes its log for damaged, or its group does without it since it can't be written. What was only read
    /// wrong, a few times, is no excuse.
    fn gives_up(&mut self, broker: u32, group: GroupId, error: &LogError) -> Result<(), Violation> {
        let machine = self.machine(broker);
        if !error.is_damage() {
            machine.given_up.insert(group);
            return Ok(());
        }
        if machine.is_damaged || machine.given_up.contains(&group) || self.deceit.is_some() {
            return Ok(());
        }
        let text = format!("b{broker} gives up group {group}, and its disk holds what was written: {error}");
        Err(Violation::new(Law::Converges, text))
    }

    pub(super) fn leader(&mut self, broker: u32, change: LeaderChange) -> Result<(), Violation> {
        self.elections.reached(self.now(), change.group.0, change.term.0)?;
        let at = usize::try_from(broker).unwrap_or(1) - 1;
        match &self.machines[at].running {
            Some(running) => self.observer.leader(broker, running, change),
            None => Ok(()),
        }
    }

    /// A broker that is down gets an empty disk, and the right list of voters: with a wrong one as well it would take
    /// itself for another cluster.
    pub(super) fn empty_disk(&mut self, broker: u32) {
        let (now, founders) = (self.now(), self.founders);
        let machine = self.machine(broker);
        machine.fs = FaultyFs::new(now);
        machine.settings.founders = founders;
    }

    pub(super) fn crash(&mut self, broker: u32, downtime: Micros) {
        let mut rng = self.rng.fork();
        let machine = self.machine(broker);
        if machine.starting.take().is_some() {
            machine.life += 1;
            machine.fs.crash();
            let life = machine.life;
            self.queue.after(downtime, Event::Start(broker, life));
            return;
        }
        let Some(running) = machine.running.take() else {
            return;
        };
        machine.life += 1;
        machine.paused = false;
        machine.stalled.clear();
        machine.leaving = None;
        let life = machine.life;
        let clients = running.waiting_clients();
        running.lose_power(&mut rng);
        machine.heal_disk();
        self.note(format!("b{broker} is down for {downtime} us"));
        self.queue.after(downtime, Event::Start(broker, life));
        self.refuse_peers(broker);
        for (client, number) in clients {
            self.answer(broker, client, number, Answer::Closed);
        }
    }

    /// Others find their connections closed, and a new one refused, unless they can't reach the machine.
    fn refuse_peers(&mut self, broker: u32) {
        for peer in 1..=self.brokers() {
            let reachable = self.network.is_open(Place::Broker(peer), Place::Broker(broker))
                && self.network.is_open(Place::Broker(broker), Place::Broker(peer));
            if peer == broker || !reachable || !self.rng.chance(800) {
                continue;
            }
            let life = self.machine(peer).life;
            let event = Event::Broker {
                id: peer,
                life,
                event: broker::Event::Refused(broker),
            };
            self.queue.after(self.rng.between(100, 3_000), event);
        }
    }

    pub(super) fn resume(&mut self, broker: u32, life: u64) {
        let machine = self.machine(broker);
        if machine.life != life || !machine.paused {
            return;
        }
        machine.paused = false;
        let stalled = std::mem::take(&mut machine.stalled);
        self.note(format!("b{broker} goes on, with {} events waiting", stalled.len()));
        for event in stalled {
            self.queue.after(0, event);
        }
    }

    fn left(&mut self, broker: u32) {
        if let Some(downtime) = self.machine(broker).leaving {
            self.crash(broker, downtime);
        }
    }
}

/// Whether a process stopped because its disk failed as planned.
pub(super) fn is_disk_fault(error: &str) -> bool {
    ["planned fault", "Poisoned", "StorageFull", "no storage space"]
        .iter()
        .any(|word| error.contains(word))
}
