//! Everything that exists in a run, and its laws of motion.

use super::broker::{self, DiskPace, Effect, METADATA, Running, Settings};
use super::clients::{Answer, Client, Moves, PartitionName, Request};
use super::envelope;
use super::faults::{self, Fault};
use super::network::{Network, Place};
use super::observer::{self, Observer};
use super::plan::{self, Plan};
use super::queue::{Micros, Queue};
use super::rng::Rng;
use super::trace::{Happening, Trace, fingerprint};
use super::{Options, Report, Sabotage};
use crate::checker::history::{History, Log};
use crate::checker::{Law, Violation};
use bytes::Bytes;
use std::collections::BTreeMap;
use trimaran_multiraft::LeaderChange;
use trimaran_raft::{GroupId, LogView, Role};
use trimaran_registry::PartitionIndex;
use trimaran_registry::agent::AdminReply;
use trimaran_storage::fs::faulty::{Fault as DiskFault, FaultyFs, Operation as DiskOperation};
use trimaran_wire::peer::{Body, Frame};

const SECOND: Micros = 1_000_000;

/// Once faults stop, everything has to work again within this time: clients wait up to 1.5 seconds for an answer that
/// was lost, administrators 4, and some of them ask several times.
const CONVERGES_WITHIN: Micros = 30 * SECOND;

/// How often it is asked whether everything works again.
const ASK_EVERY: Micros = 100_000;

/// Messages that a paused process's sockets hold.
const STALLED_EVENTS: usize = 20_000;

/// How long an idle cluster is watched, after as long a time for what is under way to end.
const IDLE_FOR: Micros = 3 * SECOND;

/// By when each leadership is back where it is preferred to be, once all works: what was given back shortly before a
/// fault is given back again after a minute, and one attempt may have failed.
const HOME_WITHIN: Micros = 150 * SECOND;

enum Event {
    Frame {
        from: u32,
        to: u32,
        life: u64,
        bytes: Bytes,
    },
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
    Heal,
    Ask,
}

/// A broker's machine: its disk stays, processes come and go.
struct Machine {
    settings: Settings,
    fs: FaultyFs,
    running: Option<Running>,
    /// Counts starts and ends of processes: what was meant for another life has no effect.
    life: u64,
    paused: bool,
    stalled: Vec<Event>,
    leaving: Option<Micros>,
}

/// What the world waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Things go wrong.
    Suffering,
    /// Producers and administrators end what they began.
    Ending,
    /// Consumers read everything.
    Reading,
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
    observer: Observer,
    history: History,
    trace: Trace,
    sabotage: Option<Sabotage>,
    faults: u64,
    terms: BTreeMap<GroupId, u64>,
    idle_envelopes: u64,
    idle_writes: u64,
    finished: bool,
}

impl World {
    /// The world of a seed, before anything happened.
    pub fn new(options: &Options) -> World {
        let mut rng = Rng::new(options.seed);
        let Plan {
            brokers,
            partitions,
            clients,
            active,
            suffers_until,
            fault_every,
        } = plan::draw(&mut rng);
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
            })
            .collect();
        World {
            network: Network::new(rng.fork()),
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
            observer: Observer::default(),
            history: History::new(),
            trace: Trace::new(options.print),
            sabotage: options.sabotage,
            faults: 0,
            terms: BTreeMap::new(),
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
            .after(self.rng.between(SECOND, 3 * SECOND), Event::Misfortune);
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
            Event::Frame { from, to, life, bytes } => self.frame_arrives(from, to, life, bytes),
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
                Ok(())
            }
            Event::FairWeather => {
                self.note("the weather is fair");
                self.network.set_weather(super::network::Weather::fair());
                Ok(())
            }
            Event::FairDisk(broker, life) => {
                let machine = self.machine(broker);
                if let (Some(running), true) = (&mut machine.running, machine.life == life) {
                    running.set_disk(DiskPace::FAIR);
                }
                Ok(())
            }
            Event::Heal => self.heal(),
            Event::Ask => self.ask(),
        }
    }

    // Brokers.

    fn start(&mut self, broker: u32, life: u64) -> Result<(), Violation> {
        let now = self.now();
        let rng = self.rng.fork();
        let sabotage = self.sabotage;
        let machine = self.machine(broker);
        if machine.life != life || machine.running.is_some() {
            return Ok(());
        }
        machine.life += 1;
        if sabotage == Some(Sabotage::Amnesia) && machine.life > 1 {
            machine.fs = FaultyFs::new(machine.life);
        }
        if sabotage == Some(Sabotage::LyingDisks) {
            machine.fs.lie_about_syncs(true);
        }
        let mut effects = Vec::new();
        let incarnation = machine.life;
        let started = Running::start(
            machine.settings.clone(),
            incarnation,
            machine.fs.clone(),
            rng,
            now,
            &mut effects,
        );
        match started {
            Ok(mut running) => {
                if sabotage == Some(Sabotage::EarlyAcknowledgements) {
                    running.acknowledge_early();
                }
                machine.running = Some(running);
            }
            Err(error) if is_disk_fault(&error) => {
                machine.fs.heal();
                machine.fs.crash();
                let life = machine.life;
                self.note(format!("b{broker} does not start: {error}"));
                self.queue.after(SECOND / 10, Event::Start(broker, life));
                return Ok(());
            }
            Err(error) => {
                return Err(Violation::new(
                    Law::Converges,
                    format!("b{broker} does not start: {error}"),
                ));
            }
        }
        self.note(format!("b{broker} starts for the {incarnation}. time"));
        self.observer.forget(broker);
        self.carry_out(broker, effects)
    }

    fn at_broker(&mut self, broker: u32, life: u64, event: broker::Event) -> Result<(), Violation> {
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
        if let Err(error) = outcome {
            return self.stopped(broker, &error);
        }
        Ok(())
    }

    /// A process can't go on. Only a broken disk is an excuse.
    fn stopped(&mut self, broker: u32, error: &str) -> Result<(), Violation> {
        if !is_disk_fault(error) {
            return Err(Violation::new(Law::Converges, format!("b{broker} stops: {error}")));
        }
        self.note(format!("b{broker} stops: {error}"));
        let downtime = self.rng.between(100_000, 2 * SECOND);
        self.crash(broker, downtime);
        Ok(())
    }

    fn carry_out(&mut self, broker: u32, effects: Vec<Effect>) -> Result<(), Violation> {
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
                    if matches!(happening, Happening::Journalled { .. }) && self.is_watched() {
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
                Effect::Left => self.left(broker),
                Effect::Fail(error) => self.stopped(broker, &error)?,
            }
        }
        Ok(())
    }

    fn leader(&mut self, broker: u32, change: LeaderChange) -> Result<(), Violation> {
        let term = self.terms.entry(change.group).or_insert(0);
        *term = change.term.0.max(*term);
        let at = usize::try_from(broker).unwrap_or(1) - 1;
        match &self.machines[at].running {
            Some(running) => self.observer.leader(broker, running, change),
            None => Ok(()),
        }
    }

    fn send(&mut self, from: u32, to: u32, mut frame: Frame) -> Result<(), Violation> {
        if let Frame::Groups(messages) = &mut frame {
            if self.is_watched() {
                self.idle_envelopes += 1;
            }
            self.observer.sent(from, messages)?;
            if self.sabotage == Some(Sabotage::BoughtVotes) {
                buy_votes(messages);
            }
            if self.sabotage == Some(Sabotage::InflatedMatches) {
                inflate_matches(messages);
            }
        }
        let (way_out, way_in) = (Place::Broker(from), Place::Broker(to));
        let delays = self.network.deliveries(way_out, way_in);
        if delays.is_empty() {
            let what = envelope::name(&frame);
            self.trace.push(
                self.queue.now(),
                Happening::Lost {
                    from: way_out,
                    to: way_in,
                    what,
                },
            );
            return Ok(());
        }
        let bytes = envelope::encode(&frame);
        let life = self.machine(to).life;
        for delay in delays {
            let bytes = bytes.clone();
            self.queue.after(delay, Event::Frame { from, to, life, bytes });
        }
        Ok(())
    }

    fn frame_arrives(&mut self, from: u32, to: u32, life: u64, bytes: Bytes) -> Result<(), Violation> {
        // A cut closes connections: what was under way is lost too.
        if !self.network.is_open(Place::Broker(from), Place::Broker(to)) {
            return Ok(());
        }
        let what = envelope::decode(bytes.clone()).map_or("garbage", |frame| envelope::name(&frame));
        self.trace.push(
            self.queue.now(),
            Happening::Arrived {
                from: Place::Broker(from),
                to: Place::Broker(to),
                what,
                fingerprint: fingerprint(&bytes),
            },
        );
        self.at_broker(to, life, broker::Event::Frame { from, bytes })
    }

    // Clients.

    fn plan_wake(&mut self, client: usize, at: Micros) {
        let at = at.max(self.now() + 1);
        if self.wakes[client] != Some(at) {
            self.wakes[client] = Some(at);
            let client = u32::try_from(client).unwrap_or(0);
            self.queue.at(at, Event::Wake { client, at });
        }
    }

    fn at_client(&mut self, client: u32, answer: Option<(u64, Answer)>) -> Result<(), Violation> {
        let now = self.now();
        let at = usize::try_from(client).unwrap_or(0);
        let mut moves = Moves::default();
        match answer {
            Some((number, answer)) => {
                self.trace_answer(client, number, &answer);
                self.clients[at].answer(now, number, answer, &mut moves);
            }
            None => self.clients[at].wake(now, &mut moves),
        }
        self.wakes[at] = None;
        if let Some(wake) = moves.wake_at {
            self.plan_wake(at, wake);
        }
        for operation in moves.operations {
            self.history.push(operation);
        }
        for (to, number, request) in moves.requests {
            let arrival = self.network.connection(Place::Client(client), Place::Broker(to), now);
            if let Some(arrival) = arrival {
                let event = Event::Request {
                    client,
                    to,
                    life: self.machine(to).life,
                    number,
                    request,
                };
                self.queue.at(arrival, event);
            }
        }
        moves.violation.map_or(Ok(()), Err)
    }

    fn trace_answer(&mut self, client: u32, number: u64, answer: &Answer) {
        let words = match answer {
            Answer::Metadata(news) => format!("metadata {news:?}"),
            Answer::Produced(result) => format!("produced {result:?}"),
            Answer::Fetched(Ok(fetched)) => format!(
                "fetched {} B below {} in epoch {}",
                fetched.records.len(),
                fetched.high_watermark,
                fetched.epoch
            ),
            Answer::Fetched(Err(error)) => format!("fetched {error:?}"),
            Answer::Admin(Ok(AdminReply::ProducerId(id))) => format!("producer id {id}"),
            Answer::Admin(Ok(_)) => "admin ok".to_owned(),
            Answer::Admin(Err(error)) => format!("admin {error:?}"),
            Answer::Closed => "closed".to_owned(),
        };
        self.note(format!("c{client} request {number}: {words}"));
    }

    fn request_arrives(
        &mut self,
        client: u32,
        (to, life): (u32, u64),
        number: u64,
        request: Request,
    ) -> Result<(), Violation> {
        let machine = self.machine(to);
        // A connection ends with the process that it was made to.
        if machine.running.is_none() || machine.life != life {
            self.answer(to, client, number, Answer::Closed);
            return Ok(());
        }
        let event = broker::Event::Request {
            client,
            number,
            request,
        };
        self.at_broker(to, life, event)
    }

    fn answer(&mut self, broker: u32, client: u32, number: u64, answer: Answer) {
        let now = self.now();
        let arrival = self
            .network
            .connection(Place::Broker(broker), Place::Client(client), now);
        if let Some(arrival) = arrival {
            self.queue.at(arrival, Event::Answer { client, number, answer });
        }
    }

    // Faults.

    fn misfortune(&mut self) -> Result<(), Violation> {
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

    fn crash(&mut self, broker: u32, downtime: Micros) {
        let mut rng = self.rng.fork();
        let machine = self.machine(broker);
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
        machine.fs.heal();
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

    fn resume(&mut self, broker: u32, life: u64) {
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

    fn groups(&self) -> Vec<GroupId> {
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

    // The end.

    fn heal(&mut self) -> Result<(), Violation> {
        self.note("everything heals");
        self.phase = Phase::Ending;
        self.healed_at = self.now();
        self.network.heal();
        for broker in 1..=self.brokers() {
            let machine = self.machine(broker);
            machine.fs.heal();
            let life = machine.life;
            if let Some(running) = &mut machine.running {
                running.set_disk(DiskPace::FAIR);
            }
            self.resume(broker, life);
            self.start(broker, life)?;
        }
        self.clients[..self.active]
            .iter_mut()
            .for_each(|client| client.finish());
        self.queue.after(ASK_EVERY, Event::Ask);
        Ok(())
    }

    fn ask(&mut self) -> Result<(), Violation> {
        let now = self.now();
        let missing = self.missing();
        match self.phase {
            Phase::Suffering => {}
            Phase::Ending if missing.is_none() => {
                self.note("producers and administrators are done");
                self.phase = Phase::Reading;
                self.clients[self.active..]
                    .iter_mut()
                    .for_each(|client| client.finish());
                for client in self.active..self.clients.len() {
                    self.plan_wake(client, now);
                }
            }
            Phase::Reading if missing.is_none() => {
                self.note("consumers are done");
                let until = now + IDLE_FOR;
                self.phase = Phase::Idle { until, watched: false };
            }
            Phase::Ending | Phase::Reading => {
                if now > self.healed_at + CONVERGES_WITHIN {
                    return Err(Violation::new(Law::Converges, missing.unwrap_or_default()));
                }
            }
            Phase::Idle { until, watched: false } if now >= until => {
                if let Some(astray) = self.astray() {
                    if now > self.healed_at + CONVERGES_WITHIN + HOME_WITHIN {
                        return Err(Violation::new(Law::Converges, astray));
                    }
                    let until = now + IDLE_FOR;
                    self.phase = Phase::Idle { until, watched: false };
                    self.queue.after(ASK_EVERY, Event::Ask);
                    return Ok(());
                }
                let until = now + IDLE_FOR;
                self.phase = Phase::Idle { until, watched: true };
            }
            Phase::Idle { until, watched: true } if now >= until => {
                self.finished = true;
                if let Some(missing) = missing {
                    return Err(Violation::new(Law::Converges, format!("it did not last: {missing}")));
                }
                if self.idle_envelopes + self.idle_writes > 0 {
                    let (envelopes, writes) = (self.idle_envelopes, self.idle_writes);
                    let detail = format!("{envelopes} envelopes, {writes} journal writes in {IDLE_FOR} us");
                    return Err(Violation::new(Law::IdleIsSilent, detail));
                }
            }
            Phase::Idle { .. } => {}
        }
        self.queue.after(ASK_EVERY, Event::Ask);
        Ok(())
    }

    /// What keeps the cluster from being whole; none if it is.
    fn missing(&self) -> Option<String> {
        let mut running = Vec::new();
        for machine in &self.machines {
            let id = machine.settings.id;
            match &machine.running {
                Some(up) if !machine.paused => running.push((id, up)),
                Some(_) => return Some(format!("b{id} is paused")),
                None => return Some(format!("b{id} is down")),
            }
        }
        let waited_for = match self.phase {
            Phase::Suffering | Phase::Ending => &self.clients[..self.active],
            Phase::Reading | Phase::Idle { .. } => &self.clients[..],
        };
        if let Some(client) = waited_for.iter().find(|client| !client.is_done()) {
            return Some(client.describe());
        }
        if waited_for.len() == self.clients.len()
            && let Some((id, up)) = running.iter().find(|(_, up)| up.open_tickets() > 0)
        {
            return Some(format!("b{id} has {} tickets open", up.open_tickets()));
        }
        differing_catalogs(&running).or_else(|| self.groups().into_iter().find_map(|group| unsettled(&running, group)))
    }

    /// A group that isn't led by its preferred leader; none if all are.
    fn astray(&self) -> Option<String> {
        let running = self.machines.iter().filter_map(|machine| machine.running.as_ref());
        running.into_iter().find_map(|running| {
            let mut hosted = running.hosted();
            let strays = hosted.find(|group| {
                let member = running.shard_of(*group).replica(*group).map(|(member, _)| member);
                member.is_some_and(|member| member.leader() != member.voters().first().copied())
            });
            strays.map(|group| format!("group {} is not led by its preferred leader", group.0))
        })
    }

    /// Everything has ended: the last and largest check.
    fn judge(&mut self) -> Result<Report, Violation> {
        let mut logs: Vec<Log> = Vec::new();
        for partition in &self.partitions {
            logs.push(self.final_log(partition)?);
        }
        let tally = self.history.check(&logs)?;
        Ok(Report {
            trace_hash: self.trace.hash(),
            events: self.trace.events(),
            virtual_time_us: self.now(),
            faults: self.faults,
            deleted: logs.iter().map(|log| log.start).sum(),
            elections: self.terms.values().sum(),
            tally,
        })
    }

    /// The content of a partition, once it is certain that all its replicas have the same: each deletes old segments by
    /// itself, so they may begin at different offsets.
    fn final_log(&self, partition: &PartitionName) -> Result<Log, Violation> {
        let broken = |what: String| Violation::new(Law::Converges, format!("{partition}: {what}"));
        let index = PartitionIndex(partition.index);
        let mut longest: Option<Log> = None;
        let mut start = 0;
        for machine in &self.machines {
            let Some(running) = &machine.running else { continue };
            let Some(placed) = running.agent().catalog().partition(&partition.topic, index) else {
                return Err(broken("is not in the catalog".to_owned()));
            };
            let group = GroupId(placed.group.0);
            if !running.hosted().any(|hosted| hosted == group) {
                continue;
            }
            let log = replica_log(running, group).map_err(broken)?;
            start = log.start.max(start);
            let known = longest.get_or_insert_with(|| log.clone());
            let common = known.records.len().min(log.records.len());
            let same = known.records[known.records.len() - common..] == log.records[log.records.len() - common..];
            if !same {
                let detail = format!("{partition}: b{}'s replica has other records", machine.settings.id);
                return Err(Violation::new(Law::LogsMatch, detail));
            }
            if log.start < known.start {
                *known = log;
            }
        }
        let mut log = longest.ok_or_else(|| broken("has no replica".to_owned()))?;
        log.records.retain(|(offset, _)| *offset >= start);
        log.start = start;
        Ok(log)
    }
}

fn replica_log(running: &Running, group: GroupId) -> Result<Log, String> {
    let (start, content) = observer::content(running, group)?;
    let records = if content.is_empty() {
        Vec::new()
    } else {
        super::records::decode(&content)?
    };
    Ok(Log {
        start,
        records: records.into_iter().map(|read| (read.offset, read.record)).collect(),
    })
}

/// Whether a process stopped because its disk failed as planned.
fn is_disk_fault(error: &str) -> bool {
    ["planned fault", "Poisoned", "StorageFull"]
        .iter()
        .any(|word| error.contains(word))
}

fn leads(running: &Running, group: GroupId) -> bool {
    running
        .shard_of(group)
        .replica(group)
        .is_some_and(|(member, _)| member.role() == Role::Leader)
}

fn differing_catalogs(running: &[(u32, &Running)]) -> Option<String> {
    let applied: Vec<(u32, u64)> = running
        .iter()
        .map(|(id, up)| (*id, up.agent().catalog().applied().0))
        .collect();
    let same = applied.windows(2).all(|pair| pair[0].1 == pair[1].1);
    (!same).then(|| format!("catalogs differ: {applied:?}"))
}

/// What keeps a group from being whole: one serving leader, known to all, and every replica with the same log.
fn unsettled(running: &[(u32, &Running)], group: GroupId) -> Option<String> {
    let mut leader = None;
    let mut logs = Vec::new();
    for (id, up) in running {
        if !up.hosted().any(|hosted| hosted == group) {
            continue;
        }
        let Some((member, log)) = up.shard_of(group).replica(group) else {
            return Some(format!("group {group} is not open at b{id}"));
        };
        if member.is_serving() && leader.replace(*id).is_some() {
            return Some(format!("group {group} has two serving leaders"));
        }
        logs.push((*id, member.term().0, member.commit().0, log.last_index().0));
    }
    let Some(leader) = leader else {
        return Some(format!(
            "group {group} has no serving leader: (broker, term, commit, last) {logs:?}"
        ));
    };
    let settled = logs
        .iter()
        .all(|log| log.2 == log.3 && (log.1, log.2) == (logs[0].1, logs[0].2));
    if !settled {
        return Some(format!(
            "group {group} led by b{leader}: (broker, term, commit, last) {logs:?}"
        ));
    }
    if group == METADATA {
        return None;
    }
    running.iter().find_map(|(id, up)| {
        let known = up.agent().leaders().leadership(trimaran_registry::GroupId(group.0));
        let right = known.is_some_and(|known| {
            known.serving && known.leader.is_some_and(|known| u32::try_from(known.0) == Ok(leader))
        });
        (!right).then(|| format!("group {group} is led by b{leader}, and b{id} believes {known:?}"))
    })
}

/// Every refused vote becomes a granted one.
fn buy_votes(messages: &mut [(trimaran_wire::peer::GroupId, trimaran_wire::peer::Message)]) {
    for (_, message) in messages {
        match &mut message.body {
            Body::VoteReply { granted } | Body::PreVoteReply { granted, .. } => *granted = true,
            _ => {}
        }
    }
}

/// Every follower claims to hold more than it does.
fn inflate_matches(messages: &mut [(trimaran_wire::peer::GroupId, trimaran_wire::peer::Message)]) {
    for (_, message) in messages {
        if let Body::AppendRejected { prev_index, .. } = &message.body {
            message.body = Body::AppendAccepted {
                match_index: *prev_index,
                commit: trimaran_wire::peer::LogIndex(0),
            };
        }
    }
}
