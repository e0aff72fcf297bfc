//! One broker's process: a host of the real node, shards and journal, as the `broker` crate is one, but told the time and
//! the disk's delays.

mod control;
mod disk;
mod event;
pub mod folder;
mod hang;
mod peers;
mod requests;
mod settings;
mod shards;

use super::bug::Bug;
use super::queue::Micros;
use super::rng::Rng;
use super::trace::Happening;
use crate::checker::views::Views;
pub use event::{Effect, Event};
use folder::Folder;
pub use folder::{FOUNDERS, JOURNAL};
use hang::Hang;
pub use hang::Hanging;
use settings::node_config;
pub use settings::{DiskPace, Limits, Settings};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use trimaran_multiraft::{
    Input as ShardInput, IntervalPlan, Lives, Load, Outbox, Shard, ShardConfig, Ticket, Watchdog,
};
pub use trimaran_node::METADATA;
use trimaran_node::{ClusterView, Input, Node, OpenJob};
use trimaran_raft::{GroupId, Instant, NodeId};
use trimaran_registry::BrokerId;
use trimaran_registry::agent::Agent;
use trimaran_registry::starts::Announcement;
use trimaran_storage::fs::faulty::FaultyFs;
use trimaran_storage::journal::{Journal, JournalBatch, JournalError, JournalOptions, Owner, RecoveredGroup};
use trimaran_storage::log::FlushJob;

/// How an error begins that says that the configuration names other founders than the folder.
pub const OTHER_FOUNDERS: &str = "the cluster was founded by others";

/// How long an administrator's request is tried at one broker.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(3);

/// One start of a broker.
pub struct Running {
    settings: Settings,
    /// This start, as others are told of it.
    announced: Announcement,
    fs: FaultyFs,
    rng: Rng,
    seats: Vec<Seat>,
    journal: Journal,
    /// Numbers what this start loses.
    lives: Lives,
    node: Node,
    /// What clients are told from.
    view: ClusterView,
    /// Whether what it publishes is true.
    views: Views,
    /// Brokers that what the cluster has to know reaches through others.
    routes: BTreeMap<NodeId, NodeId>,
    watchdog: Watchdog,
    /// A thread that hangs.
    hang: Option<Hang>,
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
    leaving: BTreeSet<u64>,
    disk: DiskPace,
    early_acks: bool,
}

struct Seat {
    shard: Shard,
    mailbox: Vec<ShardInput>,
    outbox: Outbox,
    awake: bool,
    timer_at: Option<Micros>,
}

struct Writing {
    batch: JournalBatch,
    /// For each shard, up to which sequence.
    parts: Vec<(usize, u64)>,
    since: Micros,
}

enum Job {
    Flush(FlushJob),
    Load(Load),
    Open(Box<OpenJob>),
    Delete(GroupId),
    DeleteQuarantine(GroupId),
}

enum Waiter {
    Produce { client: u32, number: u64 },
    Fetch { client: u32, number: u64, group: GroupId },
    Admin { client: u32, number: u64 },
    Proposal,
    Status(GroupId),
    Transfer,
    Leave,
}

impl Running {
    /// Starts the process: recovers the journal, asks how the metadata group is to be opened, and waits for what
    /// happens.
    pub fn start(
        settings: Settings,
        announced: &Announcement,
        fs: FaultyFs,
        mut rng: Rng,
        now: Micros,
        effects: &mut Vec<Effect>,
    ) -> Result<Running, String> {
        let clock = settings.clock(now);
        let incarnation = announced.start.incarnation.0;
        let options = JournalOptions {
            file_bytes: 64 << 10,
            max_files: 3,
        };
        let folder = Folder::read(&fs, announced.start.folder);
        let folder = folder.map_err(|error| format!("the folder can't be used: {error}"))?;
        let owner = folder.owner(incarnation);
        let opened = open_journal(settings.bug, Arc::new(fs.clone()), options, owner);
        let (journal, recovered) = opened.map_err(|error| format!("the journal does not open: {error:?}"))?;
        let plan = IntervalPlan::new(settings.budget).map_err(|error| format!("{error:?}"))?;
        let node = NodeId(u64::from(settings.id));
        let mut shard_config = ShardConfig::new(node, plan.tuning(rng.next()));
        if let Some(limits) = settings.limits {
            limits.limit(&mut shard_config.tuning);
        }
        shard_config.flush_bytes = 8 << 10;
        // Sooner than in earnest: a run is over by then.
        shard_config.failure_pause = Duration::from_millis(200);
        shard_config.flush_age = Duration::from_secs(2);
        // Sooner than in earnest, so that it happens between faults, too.
        shard_config.leader_rebalance_after = settings.gives_back.then_some(Duration::from_secs(1));
        let seats = (0..settings.shards)
            .map(|_| Seat {
                shard: Shard::new(shard_config.clone(), clock),
                mailbox: Vec::new(),
                outbox: Outbox::default(),
                awake: false,
                timer_at: None,
            })
            .collect();
        let config = node_config(&settings, plan, incarnation, rng.next(), folder, recovered);
        let mut running = Running {
            lives: Lives::new(incarnation),
            node: Node::new(config, clock),
            view: ClusterView::default(),
            views: Views::default(),
            routes: BTreeMap::new(),
            watchdog: Watchdog::new(plan),
            hang: None,
            disk: settings.disk,
            settings,
            announced: *announced,
            fs,
            rng,
            seats,
            journal,
            control_at: None,
            unwritten: Vec::new(),
            writing: None,
            leavings: Vec::new(),
            jobs: BTreeMap::new(),
            tickets: BTreeMap::new(),
            next_number: 0,
            leaving: BTreeSet::new(),
            early_acks: false,
        };
        if let Some(bug) = running.settings.bug {
            let shards = running.seats.iter_mut().map(|seat| &mut seat.shard);
            bug.build_in(shards, &mut running.node, &mut running.watchdog);
        }
        running.control_tick(now, effects)?;
        running.plan_control(now, effects);
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
        if self.keep_back(&event) {
            return Ok(());
        }
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
                let input = Input::Refused(NodeId(u64::from(peer)));
                self.tell_node(now, input, effects)?;
            }
            Event::Request {
                client,
                number,
                request,
            } => self.request(now, client, number, request, effects)?,
            Event::Transfer(group) => {
                let ticket = self.ticket(Waiter::Transfer);
                self.tell(now, group, ShardInput::Transfer(ticket, group, None), effects);
            }
            Event::Failover(group) => self.tell(now, group, ShardInput::Failover { group, failed: None }, effects),
            Event::ClockJump(ahead) => self.settings.clock_ahead += ahead,
            Event::ClockSet(ahead_ms) => self.settings.wall_ahead_ms = ahead_ms,
            Event::Leave => self.leave(now, effects)?,
        }
        self.plan_control(now, effects);
        Ok(())
    }

    /// Clients that wait for an answer, with their numbers for it.
    pub fn waiting_clients(&self) -> Vec<(u32, u64)> {
        self.tickets
            .values()
            .filter_map(|waiter| match waiter {
                Waiter::Produce { client, number }
                | Waiter::Fetch { client, number, .. }
                | Waiter::Admin { client, number } => Some((*client, *number)),
                Waiter::Proposal | Waiter::Status(_) | Waiter::Transfer | Waiter::Leave => None,
            })
            .collect()
    }

    /// Requests of anybody that have not been answered.
    pub fn open_tickets(&self) -> usize {
        self.tickets.len()
    }

    /// The brokers that are out of reach, as far as it knows.
    pub fn unreachable(&self) -> BTreeSet<u32> {
        let unreachable = self.view.unreachable.iter();
        unreachable.filter_map(|broker| u32::try_from(broker.0).ok()).collect()
    }

    /// Its registry agent.
    pub fn agent(&self) -> &Agent {
        self.node.control().agent()
    }

    /// Groups that have a replica here.
    pub fn hosted(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.node.control().replicas().groups()
    }

    /// Whether some replica here takes no part, because its disk could not be read.
    pub fn is_silent(&self) -> bool {
        self.node.control().replicas().has_failed()
    }

    /// The last batch that a shard handed to the journal.
    pub fn batch_of(&self, shard: usize) -> u64 {
        self.seats[shard].outbox.sequence
    }

    /// The shard that drives a group.
    pub fn shard_of(&self, group: GroupId) -> &Shard {
        &self.seats[self.seat_of(group)].shard
    }

    /// Groups of one shard.
    pub fn hosted_by(&self, shard: usize) -> impl Iterator<Item = GroupId> + '_ {
        self.hosted().filter(move |group| self.seat_of(*group) == shard)
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

    fn note(&self, words: String) -> Effect {
        Effect::Trace(Happening::Note(format!("b{} {words}", self.settings.id)))
    }
}

type OpenedJournal = Result<(Journal, BTreeMap<GroupId, RecoveredGroup>), JournalError>;

fn open_journal(bug: Option<Bug>, fs: Arc<FaultyFs>, options: JournalOptions, owner: Owner) -> OpenedJournal {
    let dir = Path::new(JOURNAL);
    #[cfg(feature = "sabotage")]
    if let Some(how) = bug.and_then(Bug::of_storage) {
        return Journal::open_sabotaged(fs, dir, options, owner, how);
    }
    let _ = bug;
    Journal::open_owned(fs, dir, options, owner)
}

/// Wall-clock time: virtual time, some years after the epoch.
pub(super) fn wall_clock_ms(now: Micros) -> i64 {
    1_700_000_000_000 + i64::try_from(now / 1000).unwrap_or(0)
}

fn broker_id(id: u32) -> BrokerId {
    BrokerId(i32::try_from(id).unwrap_or(i32::MAX))
}

fn of_node(node: NodeId) -> BrokerId {
    BrokerId(i32::try_from(node.0).unwrap_or(i32::MAX))
}
