//! How a broker starts: what it asks the others first, what they note of it, and what becomes of one that is not taken
//! for what it says. As `broker` does it on its peer connections.

use super::machines::is_disk_fault;
use super::{Event, SECOND, World};
use crate::checker::{Law, Violation};
use crate::sim::broker::{OTHER_FOUNDERS, Running, folder};
use crate::sim::queue::Micros;
use crate::sim::{Deceit, envelope};
use std::io;
use std::time::Duration;
use trimaran_registry::starts::{Accepted, Account, Announcement, Inquiry, InquiryConfig, Outcome, Refusal, Start};
use trimaran_registry::{BrokerId, Incarnation, Instant};
use trimaran_storage::fs::faulty::FaultyFs;
use trimaran_wire::peer::{self, Handshake};

/// Between two looks at whether enough others have answered.
const LOOK_EVERY: Micros = 10_000;

/// Shorter than in earnest, so that a short run has room for many starts.
const PATIENCE: Duration = Duration::from_millis(300);
const GRACE: Duration = Duration::from_millis(30);

impl World {
    pub(super) fn start(&mut self, broker: u32, life: u64) -> Result<(), Violation> {
        let now = self.now();
        let deceit = self.deceit;
        let is_gone = self.is_down_for_good(broker);
        let machine = self.machine(broker);
        // Its configuration names no others.
        let founders = 1..=machine.settings.founders;
        let others = founders.filter(|other| *other != broker).map(id).collect();
        if machine.life != life || machine.running.is_some() || machine.starting.is_some() || is_gone {
            return Ok(());
        }
        machine.life += 1;
        if deceit == Some(Deceit::Amnesia) && machine.life > 1 {
            machine.fs = FaultyFs::new(machine.life);
        }
        if deceit == Some(Deceit::LyingDisks) {
            machine.fs.lie_about_syncs(true);
        }
        let read = folder::last_start(&machine.fs, machine.settings.bug)
            .and_then(|last| Ok((last, folder::starts(&machine.fs)?)));
        let ((last, known), mut starts) = match read {
            Ok(read) => read,
            Err(error) => return self.does_not_start(broker, &error.to_string()),
        };
        let machine = self.machine(broker);
        if let Some(bug) = machine.settings.bug {
            bug.build_into_starts(&mut starts);
        }
        let told = starts.latest(id(broker)).map_or(known, |start| start.incarnation);
        let config = InquiryConfig {
            broker: id(broker),
            others,
            last,
            known: known.max(told),
            patience: PATIENCE,
            grace: GRACE,
            wall_clock_ms: u64::try_from(machine.settings.wall_clock_ms(now)).unwrap_or(0),
        };
        let mut inquiry = Inquiry::new(config, Instant(now));
        if let Some(bug) = machine.settings.bug {
            bug.build_into_inquiry(&mut inquiry);
        }
        machine.starts = starts;
        machine.starting = Some(inquiry);
        let life = machine.life;
        self.inquire(broker, life)
    }

    pub(super) fn inquire(&mut self, broker: u32, life: u64) -> Result<(), Violation> {
        let now = Instant(self.now());
        let machine = self.machine(broker);
        let Some(inquiry) = machine.starting.as_mut().filter(|_| machine.life == life) else {
            return Ok(());
        };
        if let Some(Outcome::Begin { incarnation, lost }) = inquiry.outcome(now) {
            machine.starting = None;
            return self.begin(broker, incarnation, lost);
        }
        let ask = inquiry.ask(now);
        self.queue.after(LOOK_EVERY, Event::Inquire(broker, life));
        for to in ask {
            let inquiry = peer::Inquiry {
                cluster_id: String::new(),
                broker: peer::BrokerId(id(broker).0),
                last: peer::Start::default(),
            };
            self.send_bytes(broker, number(to), Handshake::Inquiry(inquiry).encode().concat().into());
        }
        Ok(())
    }

    pub(super) fn answer_inquiry(&mut self, at: u32, life: u64, inquiry: &peer::Inquiry) -> Result<(), Violation> {
        let asker = BrokerId(inquiry.broker.0);
        let machine = self.machine(at);
        let is_up = machine.running.is_some() || machine.starting.is_some();
        if machine.life != life || machine.paused || !is_up {
            return Ok(());
        }
        let account = peer::Account {
            cluster_id: String::new(),
            broker: peer::BrokerId(id(at).0),
            seen: machine.starts.latest(asker).map(envelope::start_out),
            alive: None,
        };
        self.send_bytes(at, number(asker), Handshake::Account(account).encode().concat().into());
        Ok(())
    }

    pub(super) fn hear_account(
        &mut self,
        from: u32,
        (at, life): (u32, u64),
        account: &peer::Account,
    ) -> Result<(), Violation> {
        let now = Instant(self.now());
        let seen = account.seen.map(envelope::start_in);
        let machine = self.machine(at);
        if machine.life == life
            && let Some(inquiry) = &mut machine.starting
        {
            inquiry.answered(now, id(from), Account { seen, alive: None });
        }
        Ok(())
    }

    fn begin(
        &mut self,
        broker: u32,
        incarnation: Incarnation,
        lost: Option<(BrokerId, Start)>,
    ) -> Result<(), Violation> {
        let now = self.now();
        let mut rng = self.rng.fork();
        let early = self.deceit == Some(Deceit::EarlyAcknowledgements);
        let machine = self.machine(broker);
        let announced = match folder::begin(&machine.fs, &mut rng, incarnation, lost.is_some(), machine.settings.bug) {
            Ok(announced) => announced,
            Err(error) => return self.does_not_start(broker, &error.to_string()),
        };
        machine.announced = announced;
        let mut effects = Vec::new();
        let settings = machine.settings.clone();
        match Running::start(settings, &announced, machine.fs.clone(), rng, now, &mut effects) {
            Ok(mut running) => {
                if early {
                    running.acknowledge_early();
                }
                machine.running = Some(running);
            }
            Err(error) => return self.does_not_start(broker, &error),
        }
        if let Some((by, seen)) = lost {
            self.note(format!("b{broker} has an old folder: b{by} has seen {seen}"));
        }
        self.note(format!("b{broker} starts: {announced:?}"));
        self.observer.forget(broker);
        self.carry_out(broker, effects)
    }

    /// Only a broken disk is an excuse, and a wrong configuration; it is tried again.
    fn does_not_start(&mut self, broker: u32, error: &str) -> Result<(), Violation> {
        if self.gives_up_journal(broker, error) {
            let life = self.machine(broker).life;
            self.note(format!(
                "b{broker} does not start, and its journal is taken away: {error}"
            ));
            self.queue.after(SECOND / 10, Event::Start(broker, life));
            return Ok(());
        }
        if error.starts_with(OTHER_FOUNDERS) {
            // The operator reads why, and corrects the list.
            self.note(format!("b{broker} does not start: {error}"));
            let founders = self.founders;
            let machine = self.machine(broker);
            machine.settings.founders = founders;
            let life = machine.life;
            self.queue.after(SECOND / 10, Event::Start(broker, life));
            return Ok(());
        }
        if !is_disk_fault(error) {
            let detail = format!("b{broker} does not start: {error}");
            return Err(Violation::new(Law::Converges, detail));
        }
        let machine = self.machine(broker);
        machine.heal_disk();
        machine.fs.crash();
        let life = machine.life;
        self.note(format!("b{broker} does not start: {error}"));
        self.queue.after(SECOND / 10, Event::Start(broker, life));
        Ok(())
    }

    /// Whether a process takes frames of another one that is connected to it. It notes the other's start first.
    pub(super) fn admits(&mut self, at: u32, life: u64, (from, announced): (u32, &Announcement)) -> bool {
        match self.judge_start(at, life, (from, announced)) {
            Some(Ok(is_noted)) => is_noted,
            Some(Err(refusal)) => {
                let delay = self.rng.between(100, 3_000);
                self.queue.after(delay, Event::Disowned(from, *announced, refusal));
                false
            }
            None => false,
        }
    }

    /// Whether it takes a frame that a third one passes on: as if its sender were connected, which is told nothing.
    pub(super) fn admits_relayed(&mut self, at: u32, life: u64, relayed: &peer::Relayed) -> bool {
        let announced = Announcement {
            start: envelope::start_in(relayed.start),
            previous: Incarnation(relayed.previous),
        };
        let origin = number(BrokerId(relayed.from.0));
        self.judge_start(at, life, (origin, &announced)) == Some(Ok(true))
    }

    /// Whether a start is accepted, and noted. None if nobody is there to say so.
    fn judge_start(
        &mut self,
        at: u32,
        life: u64,
        (from, announced): (u32, &Announcement),
    ) -> Option<Result<bool, Refusal>> {
        let machine = self.machine(at);
        if machine.life != life || machine.running.is_none() {
            return None;
        }
        Some(match machine.starts.judge(id(from), announced, None) {
            Ok(Accepted::Again) => Ok(true),
            // One that can't note it lets nobody in; soon it stops, or its disk is whole again.
            Ok(Accepted::Later | Accepted::OtherFolder(_)) => Ok(self.note_start(at, from, announced.start).is_ok()),
            Err(refusal) => Err(refusal),
        })
    }

    fn note_start(&mut self, at: u32, of: u32, start: Start) -> io::Result<()> {
        let machine = self.machine(at);
        let mut starts = machine.starts.clone();
        if starts.note(id(of), start) {
            folder::note_starts(&machine.fs, &starts)?;
            machine.starts = starts;
        }
        Ok(())
    }

    /// Notes a start that the catalog names, too.
    pub(super) fn note_registered(&mut self, at: u32, of: BrokerId, start: Start) -> Result<(), Violation> {
        let noted = self.note_start(at, number(of), start);
        noted.or_else(|error| self.stopped(at, &error.to_string()))
    }

    /// A process learns that nothing is taken from it. It stops, and is started again.
    pub(super) fn disowned(
        &mut self,
        broker: u32,
        announced: &Announcement,
        refusal: Refusal,
    ) -> Result<(), Violation> {
        let machine = self.machine(broker);
        if machine.running.is_none() || machine.announced != *announced || machine.paused {
            return Ok(());
        }
        let noted = match refusal {
            Refusal::RolledBack(_) => folder::note_lost(&machine.fs),
            Refusal::Superseded(later) | Refusal::AnotherRuns(later) => self.note_start(broker, broker, later),
        };
        if let Err(error) = noted {
            return self.stopped(broker, &error.to_string());
        }
        self.note(format!("b{broker} stops: {refusal:?}"));
        self.crash(broker, SECOND / 10);
        Ok(())
    }

    /// A copy of a disk as it is now.
    pub(super) fn copy_disk(&mut self, broker: u32) {
        let seed = self.rng.next();
        let machine = self.machine(broker);
        // A disk that fails holds nothing that could be copied.
        if let Ok((last, _)) = folder::last_start(&machine.fs, None) {
            machine.copy = Some((machine.fs.copy(seed), last));
        }
    }

    /// The copy takes the disk's place, if every other broker knows of a later start: nobody could tell otherwise.
    pub(super) fn bring_back_copy(&mut self, broker: u32, downtime: Micros) {
        let Some((_, last)) = &self.machine(broker).copy else {
            return;
        };
        let last = last.incarnation;
        let knows = |start: Option<Start>| start.is_some_and(|start| start.incarnation > last);
        let others = self.machines.iter().filter(|machine| machine.settings.id != broker);
        let mut noted = others.map(|machine| folder::starts(&machine.fs));
        if last == Incarnation(0) || !noted.all(|starts| starts.is_ok_and(|starts| knows(starts.latest(id(broker))))) {
            return;
        }
        // Once: a broker that is filled again may hold what nobody else does.
        self.victim = None;
        self.crash(broker, downtime);
        let founders = self.founders;
        let machine = self.machine(broker);
        if let Some((copy, _)) = machine.copy.take() {
            machine.fs = copy;
            machine.settings.founders = founders;
            self.note(format!("b{broker} has an old copy of its disk"));
        }
    }
}

fn id(broker: u32) -> BrokerId {
    BrokerId(i32::try_from(broker).unwrap_or(i32::MAX))
}

fn number(broker: BrokerId) -> u32 {
    u32::try_from(broker.0).unwrap_or(0)
}
