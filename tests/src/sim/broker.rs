//! One broker's process: the real shards, journal, monitor and agent, introduced to one another as the `broker` crate
//! does it, but told the time and the disk's delays.

use super::clients::{Answer, Fetched, PartitionName, PartitionNews, Request};
use super::envelope;
use super::queue::Micros;
use super::rng::Rng;
use super::trace::Happening;
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use trimaran_multiraft::{
    Acks, AppendError, Completion, GroupOptions, InSync, Input, IntervalPlan, LeaderChange, LivenessEvent,
    LivenessMonitor, Load, Loaded, Open, Outbox, ReadError, ReadRequest, ReadResult, Shard, ShardConfig, Ticket,
};
use trimaran_raft::{GroupId, HardState, Instant, Liveness, LogIndex, NodeId};
use trimaran_registry::agent::{self, Agent, AgentConfig, Effect as Wish, OpenReplica};
use trimaran_registry::catalog::{Broker as Registered, Endpoint};
use trimaran_registry::{BrokerId, CommandIndex, Incarnation, PartitionIndex, Term, TopicConfig};
use trimaran_storage::fs::faulty::FaultyFs;
use trimaran_storage::journal::{Journal, JournalBatch, JournalOptions, RecoveredGroup};
use trimaran_storage::log::{Chunk, FlushJob, LogOptions, ReplicaLog, Retention};
use trimaran_wire::batch;
use trimaran_wire::peer::Frame;

/// The group that replicates the catalog.
pub const METADATA: GroupId = GroupId(0);

/// How long an administrator's request is tried at one broker.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(3);

/// How often retention is looked at.
const RETAIN_EVERY: Micros = 400_000;

/// What stays the same from start to start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its id.
    pub id: u32,
    /// How many brokers there are; their ids count from one.
    pub brokers: u32,
    /// Shards it runs.
    pub shards: usize,
    /// Its rack.
    pub rack: Option<String>,
    /// The failover budget that all intervals come from.
    pub budget: Duration,
    /// How far its clock is ahead of the virtual one.
    pub clock_ahead: Micros,
    /// How much faster than the virtual one its clock runs, in millionths.
    pub clock_drift_ppm: u64,
}

impl Settings {
    /// What its clock shows.
    fn clock(&self, now: Micros) -> Instant {
        Instant(self.clock_ahead + now + now * self.clock_drift_ppm / 1_000_000)
    }

    /// The virtual time of a moment of its clock.
    fn virtual_time(&self, at: Instant) -> Micros {
        let shown = at.0.saturating_sub(self.clock_ahead);
        shown.saturating_mul(1_000_000) / (1_000_000 + self.clock_drift_ppm)
    }
}

/// What happens to a running broker.
#[derive(Debug)]
pub enum Event {
    /// A shard has input.
    Step(usize),
    /// A shard's timer, if it was not set anew since.
    Timer(usize, Micros),
    /// The control thread's timer, if it was not set anew since.
    Control(Micros),
    /// The journal's write is done.
    Journal,
    /// A flush or a load is done.
    Job(u64),
    /// A long poll has waited long enough.
    Cancel(u64),
    /// A frame from another broker.
    Frame {
        /// The other broker.
        from: u32,
        /// The frame.
        bytes: Bytes,
    },
    /// Another broker's process refuses connections.
    Refused(u32),
    /// A client asks.
    Request {
        /// The client.
        client: u32,
        /// The client's number for the request.
        number: u64,
        /// What it asks.
        request: Request,
    },
    /// Hand over one group.
    Transfer(GroupId),
    /// Believe a group's leader gone.
    Failover(GroupId),
    /// Delete what retention allows, and again after a while.
    Retain,
    /// Hand over everything, then stop.
    Leave,
}

/// What a running broker wants of its world.
#[derive(Debug)]
pub enum Effect {
    /// Send a frame.
    Send(u32, Frame),
    /// Answer a client.
    Answer(u32, u64, Answer),
    /// Let this happen here at that time.
    At(Micros, Event),
    /// For the trace.
    Trace(Happening),
    /// A replica here reports a leader.
    Leader(LeaderChange),
    /// A shard took a step: its replicas may be looked at.
    Stepped(usize),
    /// It handed over what it could and is ready to stop.
    Left,
    /// It can't go on.
    Fail(String),
}

/// One start of a broker.
pub struct Running {
    settings: Settings,
    fs: FaultyFs,
    rng: Rng,
    seats: Vec<Seat>,
    journal: Journal,
    recovered: BTreeMap<GroupId, RecoveredGroup>,
    monitor: LivenessMonitor,
    agent: Agent,
    control_at: Option<Micros>,
    /// Handed out by shards, in order, not being written yet.
    unwritten: Vec<(usize, u64, JournalBatch)>,
    /// Being written.
    writing: Option<Writing>,
    /// Folders that may go once the shard's batch of that sequence is durable.
    leavings: Vec<(usize, u64, GroupId)>,
    jobs: BTreeMap<u64, Job>,
    tickets: BTreeMap<u64, Waiter>,
    next_number: u64,
    hosted: BTreeSet<GroupId>,
    leaving: BTreeSet<u64>,
    disk: DiskPace,
    early_acks: bool,
}

/// How long the disk takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskPace {
    /// At least.
    pub min_us: Micros,
    /// At most.
    pub max_us: Micros,
}

impl DiskPace {
    /// A good disk.
    pub const FAIR: DiskPace = DiskPace {
        min_us: 60,
        max_us: 400,
    };
}

struct Seat {
    shard: Shard,
    mailbox: Vec<Input>,
    outbox: Outbox,
    awake: bool,
    timer_at: Option<Micros>,
}

struct Writing {
    batch: JournalBatch,
    /// For each shard, up to which sequence.
    parts: Vec<(usize, u64)>,
}

enum Job {
    Flush(FlushJob),
    Load(Load),
}

enum Waiter {
    Produce { client: u32, number: u64 },
    Fetch { client: u32, number: u64, group: GroupId },
    Admin { client: u32, number: u64 },
    Proposal,
    Transfer,
    Leave,
}

impl Running {
    /// Starts the process: recovers the journal, opens the metadata group, and waits for what happens.
    pub fn start(
        settings: Settings,
        incarnation: u64,
        fs: FaultyFs,
        mut rng: Rng,
        now: Micros,
        effects: &mut Vec<Effect>,
    ) -> Result<Running, String> {
        let clock = settings.clock(now);
        let options = JournalOptions {
            file_bytes: 64 << 10,
            max_files: 3,
        };
        let (journal, recovered) = Journal::open(Arc::new(fs.clone()), Path::new("/data/journal"), options)
            .map_err(|error| format!("the journal does not open: {error:?}"))?;
        let plan = IntervalPlan::new(settings.budget).map_err(|error| format!("{error:?}"))?;
        let node = NodeId(u64::from(settings.id));
        let peers: Vec<NodeId> = (1..=settings.brokers)
            .filter(|peer| *peer != settings.id)
            .map(|peer| NodeId(u64::from(peer)))
            .collect();
        let mut shard_config = ShardConfig::new(node, plan.tuning(rng.next()));
        shard_config.flush_bytes = 8 << 10;
        shard_config.flush_age = Duration::from_secs(2);
        // Sooner than in earnest, so that it happens between faults, too.
        shard_config.give_back_after = Some(Duration::from_secs(1));
        let seats = (0..settings.shards)
            .map(|_| Seat {
                shard: Shard::new(shard_config.clone(), clock),
                mailbox: Vec::new(),
                outbox: Outbox::default(),
                awake: false,
                timer_at: None,
            })
            .collect();
        let known_groups = recovered
            .keys()
            .map(|group| trimaran_registry::GroupId(group.0))
            .collect();
        let config = agent_config(&settings, incarnation, rng.next(), known_groups);
        let agent = Agent::new(config, registry_instant(clock));
        let mut running = Running {
            monitor: LivenessMonitor::new(plan.liveness(node, incarnation), &peers, clock),
            settings,
            fs,
            rng,
            seats,
            journal,
            recovered,
            agent,
            control_at: None,
            unwritten: Vec::new(),
            writing: None,
            leavings: Vec::new(),
            jobs: BTreeMap::new(),
            tickets: BTreeMap::new(),
            next_number: 0,
            hosted: BTreeSet::new(),
            leaving: BTreeSet::new(),
            disk: DiskPace::FAIR,
            early_acks: false,
        };
        let all = (1..=running.settings.brokers).map(|id| NodeId(u64::from(id))).collect();
        let options = GroupOptions {
            min_insync_replicas: 1,
            retention: Retention::default(),
            deliver: true,
        };
        running.open(now, METADATA, all, options, effects)?;
        running.plan_control(now, effects);
        effects.push(Effect::At(now + RETAIN_EVERY, Event::Retain));
        Ok(running)
    }

    /// From now on the disk is so fast.
    pub fn set_disk(&mut self, disk: DiskPace) {
        self.disk = disk;
    }

    /// Breaks the law on purpose: writes are reported durable before they are. For testing the checkers.
    pub fn acknowledge_early(&mut self) {
        self.early_acks = true;
    }

    /// One thing happens. An error means that the process stops.
    pub fn handle(&mut self, now: Micros, event: Event, effects: &mut Vec<Effect>) -> Result<(), String> {
        match event {
            Event::Step(shard) => self.step(now, shard, effects)?,
            Event::Timer(shard, at) => {
                if self.seats[shard].timer_at == Some(at) {
                    self.seats[shard].timer_at = None;
                    self.step(now, shard, effects)?;
                }
            }
            Event::Control(at) => {
                if self.control_at == Some(at) {
                    self.control_at = None;
                    self.control_tick(now, effects)?;
                }
            }
            Event::Journal => self.journalled(now, effects)?,
            Event::Job(number) => self.job_done(now, number, effects)?,
            Event::Cancel(ticket) => self.cancel(now, ticket, effects),
            Event::Frame { from, bytes } => self.frame(now, from, bytes, effects)?,
            Event::Refused(peer) => {
                let mut events = Vec::new();
                let clock = self.clock(now);
                self.monitor.refused(clock, NodeId(u64::from(peer)), &mut events);
                self.liveness(now, events, effects)?;
            }
            Event::Request {
                client,
                number,
                request,
            } => self.request(now, client, number, request, effects)?,
            Event::Transfer(group) => {
                let ticket = self.ticket(Waiter::Transfer);
                self.tell(now, group, Input::Transfer(ticket, group, None), effects);
            }
            Event::Failover(group) => self.tell(now, group, Input::Failover { group, failed: None }, effects),
            Event::Retain => {
                for shard in 0..self.seats.len() {
                    let now_ms = wall_clock_ms(now);
                    self.tell_shard(now, shard, Input::Retain { now_ms }, effects);
                }
                effects.push(Effect::At(now + RETAIN_EVERY, Event::Retain));
            }
            Event::Leave => self.leave(now, effects),
        }
        self.plan_control(now, effects);
        Ok(())
    }

    /// What a disk holds after power is lost now: a write that is under way may have been done in part, or wholly
    /// without anybody having heard of it.
    pub fn lose_power(mut self, rng: &mut Rng) {
        let fate = rng.below(3);
        if fate == 1 {
            self.fs.crash_at(self.fs.operations() + rng.between(1, 3));
        }
        if fate > 0 {
            if let Some(writing) = self.writing.take() {
                // Its outcome reaches nobody.
                drop(self.journal.write(&writing.batch));
            }
            for job in std::mem::take(&mut self.jobs).into_values() {
                if let Job::Flush(job) = job {
                    drop(job.run());
                }
            }
        }
        self.fs.crash();
    }

    /// Clients that wait for an answer, with their numbers for it.
    pub fn waiting_clients(&self) -> Vec<(u32, u64)> {
        self.tickets
            .values()
            .filter_map(|waiter| match waiter {
                Waiter::Produce { client, number }
                | Waiter::Fetch { client, number, .. }
                | Waiter::Admin { client, number } => Some((*client, *number)),
                Waiter::Proposal | Waiter::Transfer | Waiter::Leave => None,
            })
            .collect()
    }

    /// Requests of anybody that have not been answered.
    pub fn open_tickets(&self) -> usize {
        self.tickets.len()
    }

    /// Its registry agent.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Groups that have a replica here.
    pub fn hosted(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.hosted.iter().copied()
    }

    /// The shard that drives a group.
    pub fn shard_of(&self, group: GroupId) -> &Shard {
        &self.seats[self.seat_of(group)].shard
    }

    /// Groups of one shard.
    pub fn hosted_by(&self, shard: usize) -> impl Iterator<Item = GroupId> + '_ {
        self.hosted
            .iter()
            .copied()
            .filter(move |group| self.seat_of(*group) == shard)
    }

    fn seat_of(&self, group: GroupId) -> usize {
        usize::try_from(group.0).unwrap_or(0) % self.seats.len()
    }

    fn clock(&self, now: Micros) -> Instant {
        self.settings.clock(now)
    }

    /// The virtual time of a moment of this broker's clock.
    fn virtual_time(&self, at: Instant) -> Micros {
        self.settings.virtual_time(at)
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn ticket(&mut self, waiter: Waiter) -> Ticket {
        let number = self.number();
        self.tickets.insert(number, waiter);
        Ticket(number)
    }

    // The shards.

    fn tell(&mut self, now: Micros, group: GroupId, input: Input, effects: &mut Vec<Effect>) {
        self.tell_shard(now, self.seat_of(group), input, effects);
    }

    fn tell_shard(&mut self, now: Micros, shard: usize, input: Input, effects: &mut Vec<Effect>) {
        let seat = &mut self.seats[shard];
        seat.mailbox.push(input);
        if !seat.awake {
            seat.awake = true;
            let wake = now + self.rng.between(1, 60);
            effects.push(Effect::At(wake, Event::Step(shard)));
        }
    }

    fn step(&mut self, now: Micros, shard: usize, effects: &mut Vec<Effect>) -> Result<(), String> {
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

    fn take(&mut self, now: Micros, shard: usize, out: &mut Outbox, effects: &mut Vec<Effect>) -> Result<(), String> {
        for (to, messages) in out.messages.drain(..) {
            let to = u32::try_from(to.0).unwrap_or(0);
            effects.push(Effect::Send(to, envelope::groups_out(messages)));
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
        for (group, index, payload) in std::mem::take(&mut out.committed) {
            self.committed(now, group, index, &payload, effects)?;
        }
        for change in std::mem::take(&mut out.leaders) {
            self.leader_changed(now, change, effects)?;
        }
        for report in std::mem::take(&mut out.in_sync) {
            self.in_sync(now, &report, effects)?;
        }
        for (ticket, completion) in std::mem::take(&mut out.completions) {
            self.complete(now, ticket, completion, effects)?;
        }
        out.elections = 0;
        Ok(())
    }

    // The disk.

    fn begin_write(&mut self, now: Micros, effects: &mut Vec<Effect>) {
        if self.writing.is_some() || self.unwritten.is_empty() {
            return;
        }
        let mut batch = JournalBatch::default();
        let mut parts = Vec::new();
        for (shard, sequence, part) in self.unwritten.drain(..) {
            batch.extend(part);
            parts.push((shard, sequence));
        }
        self.writing = Some(Writing { batch, parts });
        let delay = self.disk_delay();
        effects.push(Effect::At(now + delay, Event::Journal));
    }

    fn disk_delay(&mut self) -> Micros {
        self.rng.between(self.disk.min_us, self.disk.max_us)
    }

    fn journalled(&mut self, now: Micros, effects: &mut Vec<Effect>) -> Result<(), String> {
        let Some(writing) = self.writing.take() else {
            return Ok(());
        };
        self.journal
            .write(&writing.batch)
            .map_err(|error| format!("the journal does not take a write: {error:?}"))?;
        effects.push(Effect::Trace(Happening::Journalled {
            broker: self.settings.id,
            bytes: writing.batch.bytes(),
        }));
        for (shard, sequence) in writing.parts {
            if !self.early_acks {
                self.tell_shard(now, shard, Input::Persisted(sequence), effects);
            }
            self.remove_folders(shard, sequence);
        }
        for group in self.journal.laggards() {
            effects.push(self.note(format!("asks group {group} to let go of the oldest journal file")));
            self.tell(now, group, Input::FlushNow(group), effects);
        }
        self.begin_write(now, effects);
        Ok(())
    }

    fn remove_folders(&mut self, shard: usize, durable: u64) {
        let fs = self.fs.clone();
        self.leavings.retain(|(of, sequence, group)| {
            let gone = *of == shard && *sequence <= durable;
            if gone {
                // What is left of a deleted topic is found and removed at the next start.
                drop(trimaran_storage::fs::Fs::remove_dir_all(&fs, &folder(*group)));
            }
            !gone
        });
    }

    fn begin_job(&mut self, now: Micros, job: Job, effects: &mut Vec<Effect>) {
        let number = self.number();
        self.jobs.insert(number, job);
        let delay = self.disk_delay();
        effects.push(Effect::At(now + delay, Event::Job(number)));
    }

    fn job_done(&mut self, now: Micros, number: u64, effects: &mut Vec<Effect>) -> Result<(), String> {
        match self.jobs.remove(&number) {
            Some(Job::Flush(job)) => {
                let group = job.group();
                let flushed = job.run();
                if let Ok(flushed) = &flushed {
                    self.journal
                        .release(group, flushed.upto)
                        .map_err(|error| format!("the journal does not release: {error:?}"))?;
                }
                self.tell(now, group, Input::Flushed(group, flushed), effects);
            }
            Some(Job::Load(load)) => {
                let loaded = Loaded {
                    group: load.group,
                    entries: load.job.run(),
                    plan: load.plan,
                };
                self.tell(now, load.group, Input::Loaded(loaded), effects);
            }
            None => {}
        }
        Ok(())
    }

    // Other brokers.

    fn frame(&mut self, now: Micros, from: u32, bytes: Bytes, effects: &mut Vec<Effect>) -> Result<(), String> {
        let frame = envelope::decode(bytes).map_err(|error| format!("a frame from b{from}: {error}"))?;
        match frame {
            Frame::Heartbeat(heartbeat) => {
                let mut events = Vec::new();
                let clock = self.clock(now);
                let heartbeat = envelope::heartbeat_in(heartbeat);
                self.monitor
                    .received(clock, NodeId(u64::from(from)), heartbeat, &mut events);
                self.liveness(now, events, effects)?;
            }
            Frame::Groups(messages) => {
                let mut by_shard: BTreeMap<usize, Vec<_>> = BTreeMap::new();
                for (group, message) in envelope::groups_in(messages) {
                    by_shard.entry(self.seat_of(group)).or_default().push((group, message));
                }
                for (shard, messages) in by_shard {
                    let input = Input::Messages(NodeId(u64::from(from)), messages);
                    self.tell_shard(now, shard, input, effects);
                }
            }
            Frame::Control(message) => {
                let from = broker_id(from);
                self.tell_agent(
                    now,
                    agent::Input::Peer {
                        from,
                        message: &message,
                    },
                    effects,
                )?;
            }
            Frame::Hello(_) | Frame::Welcome(_) | Frame::Refused(_) | Frame::FailOver(_) => {}
        }
        Ok(())
    }

    fn liveness(&mut self, now: Micros, events: Vec<LivenessEvent>, effects: &mut Vec<Effect>) -> Result<(), String> {
        for event in events {
            match event {
                LivenessEvent::Send(to, heartbeat) => {
                    let to = u32::try_from(to.0).unwrap_or(0);
                    effects.push(Effect::Send(to, envelope::heartbeat_out(heartbeat)));
                }
                LivenessEvent::Changed(node, liveness) => {
                    effects.push(self.note(format!("finds b{node} {liveness:?}")));
                    for shard in 0..self.seats.len() {
                        self.tell_shard(now, shard, Input::Liveness(node, liveness), effects);
                    }
                    if liveness != Liveness::Alive {
                        self.tell_agent(now, agent::Input::Down(of_node(node)), effects)?;
                    }
                }
                LivenessEvent::Restored(node) => {
                    effects.push(self.note(format!("is in contact with b{node} again")));
                    for shard in 0..self.seats.len() {
                        self.tell_shard(now, shard, Input::Restored(node), effects);
                    }
                    self.tell_agent(now, agent::Input::Restored(of_node(node)), effects)?;
                }
            }
        }
        Ok(())
    }

    fn note(&self, words: String) -> Effect {
        Effect::Trace(Happening::Note(format!("b{} {words}", self.settings.id)))
    }

    // The registry.

    fn control_tick(&mut self, now: Micros, effects: &mut Vec<Effect>) -> Result<(), String> {
        let clock = self.clock(now);
        if self.monitor.deadline() <= clock {
            let mut events = Vec::new();
            self.monitor.tick(clock, &mut events);
            self.liveness(now, events, effects)?;
        }
        if self.agent.deadline() <= registry_instant(clock) {
            self.tell_agent(now, agent::Input::Tick, effects)?;
        }
        Ok(())
    }

    fn plan_control(&mut self, now: Micros, effects: &mut Vec<Effect>) {
        let next = self.monitor.deadline().0.min(self.agent.deadline().0);
        let at = self.virtual_time(Instant(next)).max(now) + 1;
        if self.control_at.is_none_or(|planned| planned != at) {
            self.control_at = Some(at);
            effects.push(Effect::At(at, Event::Control(at)));
        }
    }

    fn tell_agent(&mut self, now: Micros, input: agent::Input<'_>, effects: &mut Vec<Effect>) -> Result<(), String> {
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
                let batch = batch::build(wall_clock_ms(now), &[(None, Some(&command))]);
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
                let to = u32::try_from(to.0).unwrap_or(0);
                effects.push(Effect::Send(to, Frame::Control(Bytes::from(message))));
            }
            Wish::Open(replica) => self.open_replica(now, &replica, effects)?,
            Wish::Configure { group, config } => {
                let group = GroupId(group.0);
                let input = Input::Configure(group, group_options(&config), log_options());
                self.tell(now, group, input, effects);
            }
            Wish::Close(group) => {
                let group = GroupId(group.0);
                effects.push(self.note(format!("closes group {group}")));
                self.hosted.remove(&group);
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

    fn open_replica(&mut self, now: Micros, replica: &OpenReplica, effects: &mut Vec<Effect>) -> Result<(), String> {
        let group = GroupId(replica.group.0);
        let voters = replica.replicas.iter().map(|id| node_of(*id)).collect();
        effects.push(self.note(format!(
            "opens group {group}: {}-{} on {:?}",
            replica.topic, replica.partition, voters
        )));
        self.open(now, group, voters, group_options(&replica.config), effects)
    }

    fn open(
        &mut self,
        now: Micros,
        group: GroupId,
        voters: Vec<NodeId>,
        options: GroupOptions,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        let recovered = self.recovered.remove(&group).unwrap_or_default();
        let hard_state: HardState = recovered.hard_state;
        let fs = Arc::new(self.fs.clone());
        let log = ReplicaLog::open(fs, &folder(group), group, log_options(), recovered)
            .map_err(|error| format!("the log of group {group} does not open: {error:?}"))?;
        // A flush that was done before a crash, and not heard of.
        self.journal
            .release(group, log.flushed_index())
            .map_err(|error| format!("the journal does not release: {error:?}"))?;
        let open = Open::new(voters, log, hard_state, options)
            .map_err(|error| format!("the log of group {group} can't be read: {error:?}"))?;
        self.hosted.insert(group);
        self.tell(now, group, Input::Open(Box::new(open)), effects);
        Ok(())
    }

    fn committed(
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

    fn leader_changed(&mut self, now: Micros, change: LeaderChange, effects: &mut Vec<Effect>) -> Result<(), String> {
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

    fn in_sync(&mut self, now: Micros, report: &InSync, effects: &mut Vec<Effect>) -> Result<(), String> {
        let replicas: Vec<BrokerId> = report.replicas.iter().map(|node| of_node(*node)).collect();
        let input = agent::Input::InSync {
            group: trimaran_registry::GroupId(report.group.0),
            term: Term(report.term.0),
            replicas: &replicas,
        };
        self.tell_agent(now, input, effects)
    }

    // Clients.

    fn request(
        &mut self,
        now: Micros,
        client: u32,
        number: u64,
        request: Request,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        match request {
            Request::Metadata(partition) => {
                effects.push(Effect::Answer(client, number, Answer::Metadata(self.news(&partition))));
            }
            Request::Produce { partition, batch, acks } => {
                self.produce(now, (client, number), &partition, batch, acks, effects);
            }
            Request::Fetch {
                partition,
                from,
                epoch,
                wait,
            } => self.fetch(now, (client, number), &partition, (from, epoch, wait), effects),
            Request::Admin(request) => {
                let Ticket(ticket) = self.ticket(Waiter::Admin { client, number });
                let input = agent::Input::Request {
                    ticket: agent::Ticket(ticket),
                    timeout: ADMIN_TIMEOUT,
                    request,
                };
                self.tell_agent(now, input, effects)?;
            }
        }
        Ok(())
    }

    /// The group of a partition, if it has a replica here.
    fn group_here(&self, partition: &PartitionName) -> Option<GroupId> {
        let index = PartitionIndex(partition.index);
        let group = GroupId(self.agent.catalog().partition(&partition.topic, index)?.group.0);
        self.hosted.contains(&group).then_some(group)
    }

    fn news(&self, partition: &PartitionName) -> Option<PartitionNews> {
        let index = PartitionIndex(partition.index);
        let placed = self.agent.catalog().partition(&partition.topic, index)?;
        let leadership = self.agent.leaders().leadership(placed.group);
        Some(PartitionNews {
            leader: leadership
                .and_then(|known| known.leader)
                .and_then(|leader| u32::try_from(leader.0).ok()),
            epoch: leadership.map_or(-1, |known| i32::try_from(known.term.0).unwrap_or(i32::MAX)),
            replicas: placed
                .replicas
                .iter()
                .filter_map(|id| u32::try_from(id.0).ok())
                .collect(),
        })
    }

    fn produce(
        &mut self,
        now: Micros,
        (client, number): (u32, u64),
        partition: &PartitionName,
        batch: BytesMut,
        acks: Acks,
        effects: &mut Vec<Effect>,
    ) {
        let Some(group) = self.group_here(partition) else {
            let answer = Answer::Produced(Err(AppendError::UnknownGroup));
            effects.push(Effect::Answer(client, number, answer));
            return;
        };
        let ticket = self.ticket(Waiter::Produce { client, number });
        let input = Input::Append {
            group,
            batch,
            acks,
            ticket,
        };
        self.tell(now, group, input, effects);
    }

    fn fetch(
        &mut self,
        now: Micros,
        (client, number): (u32, u64),
        partition: &PartitionName,
        (from, epoch, wait): (i64, Option<i32>, Option<Micros>),
        effects: &mut Vec<Effect>,
    ) {
        let Some(group) = self.group_here(partition) else {
            let answer = Answer::Fetched(Err(ReadError::UnknownGroup));
            effects.push(Effect::Answer(client, number, answer));
            return;
        };
        let ticket = self.ticket(Waiter::Fetch { client, number, group });
        let read = ReadRequest {
            group,
            from: batch::Offset(from),
            max_bytes: 4 << 10,
            current_epoch: epoch.map(batch::LeaderEpoch),
            follower_ok: true,
            wait: wait.is_some(),
        };
        self.tell(now, group, Input::Read(ticket, read), effects);
        if let Some(wait) = wait {
            effects.push(Effect::At(now + wait, Event::Cancel(ticket.0)));
        }
    }

    fn cancel(&mut self, now: Micros, ticket: u64, effects: &mut Vec<Effect>) {
        if let Some(Waiter::Fetch { group, .. }) = self.tickets.get(&ticket) {
            let group = *group;
            self.tell(now, group, Input::CancelRead(Ticket(ticket)), effects);
        }
    }

    fn leave(&mut self, now: Micros, effects: &mut Vec<Effect>) {
        for shard in 0..self.seats.len() {
            let Ticket(ticket) = self.ticket(Waiter::Leave);
            self.leaving.insert(ticket);
            self.tell_shard(now, shard, Input::TransferAll(Ticket(ticket)), effects);
        }
    }

    fn complete(
        &mut self,
        now: Micros,
        ticket: Ticket,
        completion: Completion,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        let Some(waiter) = self.tickets.remove(&ticket.0) else {
            return Err(format!("ticket {} was completed twice, or never given", ticket.0));
        };
        match (waiter, completion) {
            (Waiter::Produce { client, number }, Completion::Appended(result)) => {
                let result = result.map(|appended| appended.base_offset.0);
                effects.push(Effect::Answer(client, number, Answer::Produced(result)));
            }
            (Waiter::Fetch { client, number, group }, Completion::Read(result)) => {
                let answer = result.and_then(|read| self.fetched(now, group, &read, effects));
                effects.push(Effect::Answer(client, number, Answer::Fetched(answer)));
            }
            (Waiter::Proposal, Completion::Appended(_)) => {}
            (Waiter::Transfer, Completion::Transferred(outcome)) => {
                effects.push(self.note(format!("transferred: {outcome:?}")));
            }
            (Waiter::Leave, Completion::Transferred(outcome)) => {
                effects.push(self.note(format!("leaves, and handed over: {outcome:?}")));
                self.leaving.remove(&ticket.0);
                if self.leaving.is_empty() {
                    effects.push(Effect::Left);
                }
            }
            _ => return Err(format!("ticket {} was completed as something else", ticket.0)),
        }
        Ok(())
    }

    fn fetched(
        &mut self,
        now: Micros,
        group: GroupId,
        read: &ReadResult,
        effects: &mut Vec<Effect>,
    ) -> Result<Fetched, ReadError> {
        let mut records = BytesMut::new();
        for chunk in &read.chunks {
            match chunk {
                Chunk::Memory(bytes) => records.extend_from_slice(bytes),
                Chunk::File(slice) => match slice.read() {
                    Ok(bytes) => records.extend_from_slice(&bytes),
                    Err(error) => {
                        effects.push(self.note(format!("can't read a chunk of group {group}: {error:?}")));
                        self.tell(now, group, Input::Unreadable(group), effects);
                        return Err(ReadError::Storage);
                    }
                },
            }
        }
        Ok(Fetched {
            epoch: read.epoch.0,
            high_watermark: read.high_watermark.0.0,
            records: records.freeze(),
        })
    }
}

fn agent_config(
    settings: &Settings,
    incarnation: u64,
    seed: u64,
    known_groups: BTreeSet<trimaran_registry::GroupId>,
) -> AgentConfig {
    let endpoint = |base: u16| Endpoint {
        host: "sim".to_owned(),
        port: base + u16::try_from(settings.id).unwrap_or(0),
    };
    AgentConfig {
        broker: Registered {
            id: broker_id(settings.id),
            incarnation: Incarnation(incarnation),
            rack: settings.rack.clone(),
            client: endpoint(9092),
            peer: endpoint(9192),
            admin: endpoint(9292),
        },
        cluster_id: "simulated".to_owned(),
        metadata_replicas: (1..=settings.brokers).map(broker_id).collect(),
        seed,
        default_partitions: 1,
        default_replication_factor: 3,
        retry_after: Duration::from_millis(300),
        digest_every: Duration::from_secs(1),
        known_groups,
    }
}

fn group_options(config: &TopicConfig) -> GroupOptions {
    GroupOptions {
        min_insync_replicas: config.min_insync_replicas,
        retention: Retention {
            bytes: config.retention_bytes,
            ms: config.retention_ms,
        },
        deliver: false,
    }
}

/// Small, so that a short run has many segments and reads from disk.
fn log_options() -> LogOptions {
    LogOptions {
        segment_bytes: 16 << 10,
        segment_ms: 60_000,
        tail_bytes: 8 << 10,
    }
}

fn folder(group: GroupId) -> PathBuf {
    PathBuf::from(format!("/data/group-{group}"))
}

/// Wall-clock time: virtual time, some years after the epoch.
pub(super) fn wall_clock_ms(now: Micros) -> i64 {
    1_700_000_000_000 + i64::try_from(now / 1000).unwrap_or(0)
}

fn registry_instant(instant: Instant) -> trimaran_registry::Instant {
    trimaran_registry::Instant(instant.0)
}

fn broker_id(id: u32) -> BrokerId {
    BrokerId(i32::try_from(id).unwrap_or(i32::MAX))
}

fn node_of(id: BrokerId) -> NodeId {
    NodeId(u64::try_from(id.0).unwrap_or(0))
}

fn of_node(node: NodeId) -> BrokerId {
    BrokerId(i32::try_from(node.0).unwrap_or(i32::MAX))
}
