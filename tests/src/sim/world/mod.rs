//! Everything that exists in a run, and its laws of motion.

mod ending;
mod hanging;
mod journals;
mod link;
mod machines;
mod mail;
mod minority;
mod misfortune;
mod starting;
mod verdict;

use super::broker::{self, Settings};
use super::clients::{Answer, Client, PartitionName, Request};
use super::faults::{Ambush, Kind, Kinds};
use super::focus::Focus;
use super::network::{Network, Place};
use super::observer::Observer;
use super::plan::{self, Plan};
use super::queue::{Micros, Queue};
use super::rng::Rng;
use super::trace::Trace;
use super::{Deceit, Length, Options, Report};
use crate::checker::elections::ElectionChecker;
use crate::checker::history::History;
use crate::checker::{Law, Violation};
use bytes::Bytes;
use machines::Machine;
use minority::Endings;
use std::collections::BTreeMap;
use trimaran_registry::starts::{Announcement, Refusal, Starts};
use trimaran_storage::fs::faulty::FaultyFs;

const SECOND: Micros = 1_000_000;

enum Event {
    Frame {
        from: u32,
        to: u32,
        life: u64,
        /// As the sender announced itself when the connection was made.
        announced: Announcement,
        bytes: Bytes,
    },
    /// A broker that is about to start asks, and asks again.
    Inquire(u32, u64),
    /// A process is told that nothing is taken from it any more.
    Disowned(u32, Announcement, Refusal),
    Broker {
        id: u32,
        life: u64,
        event: broker::Event,
    },
    Request {
        client: u32,
        to: u32,
        life: u64,
        number: u64,
        request: Request,
    },
    Answer {
        client: u32,
        number: u64,
        answer: Answer,
    },
    Wake {
        client: u32,
        at: Micros,
    },
    Misfortune,
    Start(u32, u64),
    Resume(u32, u64),
    Repair(Vec<(Place, Place)>),
    FairWeather,
    FairDisk(u32, u64),
    /// What hangs in a process goes on, if it still lives that life.
    GoOn(u32, u64),
    /// A process loses power, if it still lives that life, and starts again after that time.
    Crash(u32, u64, Micros),
    /// A copy of a broker's journal takes its place.
    BringJournalBack(u32, Micros),
    Heal,
    /// One broker is cut off from the others until faults stop.
    SingleOut,
    Ask,
}

/// What the world waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Things go wrong.
    Suffering,
    /// Producers and administrators end what they began.
    Ending,
    /// A thread of that broker, in that life, hangs until others lead everything that they can.
    Hanging { broker: u32, life: u64 },
    /// Consumers read everything.
    Reading,
    /// Only the link between two brokers is cut, until they are looked at.
    LinkCut { between: (u32, u32), until: Micros },
    /// Nobody asks for anything.
    Idle { until: Micros, watched: bool },
}

/// One run.
pub struct World {
    rng: Rng,
    queue: Queue<Event>,
    network: Network,
    machines: Vec<Machine>,
    partitions: Vec<PartitionName>,
    clients: Vec<Box<dyn Client>>,
    wakes: Vec<Option<Micros>>,
    active: usize,
    suffers_until: Micros,
    fault_every: Micros,
    phase: Phase,
    healed_at: Micros,
    /// When the link that was cut in the end was repaired.
    link_repaired_at: Micros,
    /// When clients had all their answers, and every group was whole again.
    whole_at: Micros,
    observer: Observer,
    history: History,
    trace: Trace,
    length: Length,
    gives_back: bool,
    /// How many of the brokers founded the cluster.
    founders: u32,
    /// Whose disk may fail for good.
    victim: Option<u32>,
    /// A thread is still to hang in the end.
    hangs_in_the_end: bool,
    /// Whose disk may hold damage that nobody has read yet.
    failing_disk: Option<u32>,
    deceit: Option<Deceit>,
    kinds: Kinds,
    focus: Focus,
    faults: BTreeMap<Kind, u64>,
    /// The one that was laid last.
    ambush: Option<Ambush>,
    elections: ElectionChecker,
    endings: Endings,
    idle_envelopes: u64,
    idle_writes: u64,
    finished: bool,
}

impl World {
    /// The world of a seed, before anything happened.
    pub fn new(options: &Options) -> World {
        let mut rng = Rng::new(options.seed);
        let Plan {
            focus,
            brokers,
            partitions,
            clients,
            active,
            suffers_until,
            fault_every,
            weather,
            first_weather,
            gives_back,
            victim,
            hangs_in_the_end,
        } = plan::draw(&mut rng, options);
        let founders = brokers.first().map_or(1, |settings| settings.founders);
        let election_timeout = brokers.first().map_or(0, Settings::election_timeout);
        let machines = brokers
            .into_iter()
            .map(|settings| Machine {
                settings,
                fs: FaultyFs::new(rng.next()),
                running: None,
                life: 0,
                paused: false,
                stalled: Vec::new(),
                leaving: None,
                is_damaged: false,
                given_up: std::collections::BTreeSet::new(),
                has_dead_segments: false,
                starting: None,
                announced: Announcement::default(),
                starts: Starts::default(),
                copy: None,
                copied: None,
            })
            .collect();
        let mut network = Network::new(rng.fork(), weather);
        if let Some(weather) = first_weather {
            network.set_weather(weather);
        }
        World {
            network,
            rng,
            queue: Queue::default(),
            machines,
            partitions,
            wakes: vec![None; clients.len()],
            clients,
            active,
            suffers_until,
            fault_every,
            phase: Phase::Suffering,
            healed_at: 0,
            link_repaired_at: 0,
            whole_at: 0,
            observer: Observer::excusing(victim),
            history: History::new(),
            trace: Trace::new(options.print),
            length: options.length,
            gives_back,
            founders,
            victim,
            hangs_in_the_end,
            failing_disk: victim,
            deceit: options.deceit,
            kinds: options.faults,
            focus,
            faults: BTreeMap::new(),
            ambush: None,
            elections: ElectionChecker::new(election_timeout),
            endings: Endings::draw(options.seed),
            idle_envelopes: 0,
            idle_writes: 0,
            finished: false,
        }
    }

    /// What happened.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Lets everything happen, from the first start to the last check.
    pub fn run(&mut self) -> Result<Report, Violation> {
        for broker in 1..=self.brokers() {
            self.queue.at(self.rng.below(100_000), Event::Start(broker, 0));
        }
        for client in 0..self.clients.len() {
            let at = self.rng.below(50_000);
            self.plan_wake(client, at);
        }
        self.queue
            .after(self.rng.between(SECOND / 4, SECOND), Event::Misfortune);
        if let Some(at) = self.singles_out_at(self.suffers_until) {
            self.queue.at(at, Event::SingleOut);
        }
        self.queue.at(self.suffers_until, Event::Heal);
        while !self.finished {
            let Some(event) = self.queue.next_event() else {
                return Err(Violation::new(Law::Converges, "nothing happens any more"));
            };
            self.happen(event)?;
        }
        self.judge()
    }

    fn brokers(&self) -> u32 {
        u32::try_from(self.machines.len()).unwrap_or(0)
    }

    fn machine(&mut self, broker: u32) -> &mut Machine {
        &mut self.machines[usize::try_from(broker).unwrap_or(1) - 1]
    }

    fn is_watched(&self) -> bool {
        matches!(self.phase, Phase::Idle { watched: true, .. })
    }

    fn now(&self) -> Micros {
        self.queue.now()
    }

    fn note(&mut self, words: impl Into<String>) {
        self.trace.note(self.queue.now(), words);
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Frame {
                from,
                to,
                life,
                announced,
                bytes,
            } => self.frame_arrives((from, &announced), (to, life), bytes),
            Event::Inquire(broker, life) => self.inquire(broker, life),
            Event::Disowned(broker, announced, refusal) => self.disowned(broker, &announced, refusal),
            Event::Broker { id, life, event } => self.at_broker(id, life, event),
            Event::Request {
                client,
                to,
                life,
                number,
                request,
            } => self.request_arrives(client, (to, life), number, request),
            Event::Answer { client, number, answer } => self.at_client(client, Some((number, answer))),
            Event::Wake { client, at } => {
                let due = self.wakes.get(usize::try_from(client).unwrap_or(0)).copied().flatten();
                if due == Some(at) {
                    self.at_client(client, None)
                } else {
                    Ok(())
                }
            }
            Event::Misfortune => self.misfortune(),
            Event::Start(broker, life) => self.start(broker, life),
            Event::Resume(broker, life) => {
                self.resume(broker, life);
                Ok(())
            }
            Event::Repair(ways) => {
                self.note("ways are repaired");
                ways.iter().for_each(|(from, to)| self.network.repair(*from, *to));
                self.cut_off_gone();
                Ok(())
            }
            Event::FairWeather => {
                self.note("the weather is fair");
                self.network.clear_up();
                Ok(())
            }
            Event::FairDisk(broker, life) => {
                let machine = self.machine(broker);
                if let (Some(running), true) = (&mut machine.running, machine.life == life) {
                    running.set_disk(machine.settings.disk);
                }
                Ok(())
            }
            Event::GoOn(broker, life) => self.go_on(broker, life),
            Event::Crash(broker, life, downtime) => {
                if self.machine(broker).life == life && self.phase == Phase::Suffering {
                    self.note(format!("b{broker} loses power"));
                    self.crash(broker, downtime);
                }
                Ok(())
            }
            Event::BringJournalBack(broker, downtime) => {
                self.bring_journal_back(broker, downtime);
                Ok(())
            }
            Event::SingleOut => {
                self.single_one_out();
                Ok(())
            }
            Event::Heal => self.heal(),
            Event::Ask => self.ask(),
        }
    }
}
