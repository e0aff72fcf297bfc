//! Puts a broker together: who it is, its queues, its threads, its tasks.

use super::{Addresses, Server, Sockets, Stage, StartError, Tasks, Threads};
use crate::admin;
use crate::clock::Clock;
use crate::config::{Settings, Voter};
use crate::control::{self, ControlInput, ControlParts, ControlQueue};
use crate::coordinators;
use crate::coordinators::mailboxes::Coordinators;
use crate::engine::{ClusterView, Engine, Parts};
use crate::fatal::Fatal;
use crate::files::{FileQueue, FileThreads};
use crate::folder::Folder;
use crate::ids;
use crate::journal::{JournalQueue, JournalThread};
use crate::kafka::Handlers;
use crate::memory::{self, Machine, MemoryBudget};
use crate::metrics::{Elsewhere, Metrics};
use crate::peers::{Agreed, Outbound, Peers, Twins};
use crate::shards::{self, MailboxLimits, Mailboxes, Outputs};
use crate::starts::StartStore;
use crate::workers::{self, Workers};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;
use trimaran_multiraft::{IntervalPlan, Lives, ShardConfig};
use trimaran_raft::{GroupId, NodeId};
use trimaran_registry::catalog::{Broker, Endpoint};
use trimaran_registry::{BrokerId, Founders, Incarnation};
use trimaran_storage::fs::Fs;
use trimaran_storage::journal::{Journal, RecoveredGroup};
use trimaran_transport::{self as transport, LinkEvent, PeerId, PeerLinks, Statistics};
use trimaran_wire::peer::Versions;

/// Threads that write segments, load old entries and open logs: one at a time would let a slow load delay a flush, and
/// one that hangs would let all of them wait.
const FILE_THREADS: usize = 2;

/// Idempotent producers that a broker remembers, before its partitions are cut down to 4,096 each: about 256 MB.
const MAX_PRODUCERS: usize = 500_000;

/// This broker, and the others.
pub(super) struct Identity {
    broker: Broker,
    /// The cluster's founders: this broker is one of them, or joins them.
    voters: Vec<NodeId>,
    /// The other founders' peer listeners.
    others: Vec<(NodeId, String)>,
}

impl Identity {
    pub(super) fn of(settings: &Settings, addresses: Addresses, incarnation: u64) -> Identity {
        let id = BrokerId(i32::try_from(settings.broker.id).unwrap_or(i32::MAX));
        let own = ids::node(id);
        let listed: Vec<(NodeId, String)> = settings
            .cluster
            .voters
            .iter()
            .map(|voter| (NodeId(u64::from(voter.id)), voter.address.clone()))
            .collect();
        let voters = if listed.is_empty() {
            vec![own]
        } else {
            listed.iter().map(|(node, _)| *node).collect()
        };
        let peer = listed.iter().find(|(node, _)| *node == own);
        let listeners = &settings.listeners;
        let peer = peer.map(|(_, address)| address).or(listeners.advertised_peer.as_ref());
        let peer = peer.and_then(|address| endpoint_of(address));
        Identity {
            broker: Broker {
                id,
                incarnation: Incarnation(incarnation),
                rack: settings.broker.rack.clone(),
                client: Endpoint {
                    host: listeners
                        .advertised_host
                        .clone()
                        .unwrap_or_else(|| addresses.client.ip().to_string()),
                    port: listeners.advertised_port.unwrap_or(addresses.client.port()),
                },
                peer: peer.unwrap_or_else(|| endpoint(addresses.peer)),
                admin: endpoint(addresses.admin),
            },
            voters,
            others: listed.into_iter().filter(|(node, _)| *node != own).collect(),
        }
    }
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint {
        host: address.ip().to_string(),
        port: address.port(),
    }
}

/// As a configuration would name it.
pub(crate) fn address_of(endpoint: &Endpoint) -> String {
    let Endpoint { host, port } = endpoint;
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

fn endpoint_of(address: &str) -> Option<Endpoint> {
    let (host, port) = address.rsplit_once(':')?;
    Some(Endpoint {
        host: host.trim_matches(['[', ']']).to_owned(),
        port: port.parse().ok()?,
    })
}

/// Everything that exists before the threads run.
pub(super) struct Assembly {
    settings: Arc<Settings>,
    folder: Folder,
    starts: StartStore,
    identity: Identity,
    plan: IntervalPlan,
    clock: Clock,
    seed: u64,
    mailboxes: Mailboxes,
    journal: Arc<JournalQueue>,
    files: Arc<FileQueue>,
    control: Arc<ControlQueue>,
    metrics: Arc<Metrics>,
    memory: Arc<MemoryBudget>,
    workers: Arc<Workers>,
    fatal: Arc<Fatal>,
    peers: Arc<Peers>,
    links: PeerLinks,
    outbound: Outbound,
}

impl Assembly {
    pub(super) fn new(
        settings: Settings,
        plan: IntervalPlan,
        (folder, starts): (Folder, StartStore),
        identity: Identity,
        metrics: Arc<Metrics>,
    ) -> Assembly {
        let clock = Clock::start();
        let memory = Arc::new(memory_budget(&settings));
        let limits = MailboxLimits {
            requests: settings.limits.mailbox_requests,
            bytes: mailbox_bytes(&settings, &memory),
        };
        let workers = Arc::new(Workers::new(plan, settings.broker.shards.max(1), FILE_THREADS, clock));
        let mailboxes = Mailboxes::new(&workers.shards, limits);
        let control = Arc::new(ControlQueue::watched(Arc::clone(&workers.control)));
        let peers = Arc::new(Peers {
            cluster_id: settings.cluster.id.clone(),
            node: ids::node(identity.broker.id),
            start: folder.announcement(),
            starts: starts.clone(),
            versions: Versions::SUPPORTED,
            agreed: Agreed::default(),
            twins: Twins::default(),
            founders: Founders::new(identity.voters.iter().copied().map(ids::broker)),
            address: address_of(&identity.broker.peer),
            newcomers: Mutex::default(),
            mailboxes: mailboxes.clone(),
            control: Arc::clone(&control),
            metrics: Arc::clone(&metrics),
        });
        let seed = seed(&identity.broker);
        let peer_queue = memory.queue_of_peer(identity.others.len());
        let links = links(&settings, peer_queue, &peers, &control, seed);
        for (node, address) in &identity.others {
            links.set_peer(PeerId(node.0), address);
        }
        let own = ids::node(identity.broker.id);
        let outbound = Outbound::new(links.clone(), own, folder.announcement(), peers.agreed.clone());
        Assembly {
            outbound,
            starts,
            settings: Arc::new(settings),
            folder,
            identity,
            plan,
            clock,
            seed,
            mailboxes,
            journal: Arc::new(JournalQueue::new(Arc::clone(&workers.journal))),
            files: Arc::new(FileQueue::new()),
            control,
            metrics,
            memory,
            workers,
            fatal: Arc::new(Fatal::new()),
            peers,
            links,
        }
    }

    pub(super) fn finish(
        self,
        sockets: Sockets,
        addresses: Addresses,
        fs: Arc<dyn Fs>,
        journal: Journal,
        recovered: BTreeMap<GroupId, RecoveredGroup>,
    ) -> Result<Server, StartError> {
        let (view, views) = watch::channel(Arc::new(ClusterView::default()));
        let (stop, stopped) = watch::channel(Stage::Serving);
        let engine = Engine::new(Parts {
            settings: Arc::clone(&self.settings),
            mailboxes: self.mailboxes.clone(),
            journal: Arc::clone(&self.journal),
            control: Arc::clone(&self.control),
            view: views,
            metrics: Arc::clone(&self.metrics),
            memory: Arc::clone(&self.memory),
            stopped: stopped.clone(),
            workers: Arc::clone(&self.workers),
            coordinators: Coordinators::default(),
        });
        let threads = self
            .start_threads(fs, journal, recovered, view)
            .map_err(StartError::System)?;
        let tasks = self
            .start_tasks(sockets, &engine, &stopped)
            .map_err(StartError::System)?;
        Ok(Server {
            engine,
            addresses,
            control: self.control,
            journal: self.journal,
            files: self.files,
            mailboxes: self.mailboxes,
            links: self.links,
            fatal: self.fatal,
            stop,
            tasks,
            threads,
            _folder: self.folder,
        })
    }

    fn start_threads(
        &self,
        fs: Arc<dyn Fs>,
        journal: Journal,
        recovered: BTreeMap<GroupId, RecoveredGroup>,
        view: watch::Sender<Arc<ClusterView>>,
    ) -> std::io::Result<Threads> {
        let files = FileThreads {
            queue: Arc::clone(&self.files),
            fs,
            partitions: self.folder.partitions(),
            lives: Arc::new(Mutex::new(Lives::new(self.folder.incarnation()))),
            mailboxes: self.mailboxes.clone(),
            journal: Arc::clone(&self.journal),
            control: Arc::clone(&self.control),
            metrics: Arc::clone(&self.metrics),
            workers: Arc::clone(&self.workers),
            fatal: Arc::clone(&self.fatal),
        };
        let journal = JournalThread {
            journal,
            queue: Arc::clone(&self.journal),
            mailboxes: self.mailboxes.clone(),
            files: Arc::clone(&self.files),
            metrics: Arc::clone(&self.metrics),
            fatal: Arc::clone(&self.fatal),
            noted_at: std::time::Instant::now(),
        };
        Ok(Threads {
            journal: Some(journal.spawn()?),
            files: files.spawn()?,
            shards: (0..self.mailboxes.all().len())
                .map(|shard| self.start_shard(shard))
                .collect::<Result<_, _>>()?,
            control: Some(control::spawn(self.control_parts(recovered, view))?),
        })
    }

    fn start_shard(&self, shard: usize) -> std::io::Result<JoinHandle<()>> {
        let node = ids::node(self.identity.broker.id);
        let leader_rebalance_after = Duration::from_millis(self.settings.cluster.leader_rebalance_ms);
        let catch_up = self.settings.limits.catch_up_bytes_per_second;
        let config = ShardConfig {
            catch_up_bytes_per_second: (catch_up > 0).then(|| (catch_up / self.mailboxes.all().len() as u64).max(1)),
            leader_rebalance_after: (!leader_rebalance_after.is_zero()).then_some(leader_rebalance_after),
            flush_bytes: self.settings.limits.flush_bytes,
            max_producers: MAX_PRODUCERS / self.mailboxes.all().len(),
            tails_bytes: Some(self.memory.tails() / self.mailboxes.all().len() as u64),
            ..ShardConfig::new(node, self.plan.tuning(self.seed ^ shard as u64))
        };
        let outputs = Outputs {
            mailboxes: self.mailboxes.clone(),
            journal: Arc::clone(&self.journal),
            files: Arc::clone(&self.files),
            control: Arc::clone(&self.control),
            peers: self.outbound.clone(),
            memory: Arc::clone(&self.memory),
            metrics: Arc::clone(&self.metrics),
            fatal: Arc::clone(&self.fatal),
        };
        shards::spawn(shard, config, self.clock, outputs)
    }

    fn control_parts(
        &self,
        recovered: BTreeMap<GroupId, RecoveredGroup>,
        view: watch::Sender<Arc<ClusterView>>,
    ) -> ControlParts {
        ControlParts {
            settings: Arc::clone(&self.settings),
            plan: self.plan,
            clock: self.clock,
            broker: self.identity.broker.clone(),
            voters: self.identity.voters.clone(),
            seed: self.seed,
            folder: self.folder.id(),
            founded_with: self.folder.founded_with(),
            is_member: self.folder.is_member(),
            noted_founders: self.folder.founders(),
            notes: self.folder.notes(),
            starts: self.starts.clone(),
            recovered,
            queue: Arc::clone(&self.control),
            mailboxes: self.mailboxes.clone(),
            files: Arc::clone(&self.files),
            journal: Arc::clone(&self.journal),
            workers: Arc::clone(&self.workers),
            outbound: self.outbound.clone(),
            view,
            metrics: Arc::clone(&self.metrics),
            fatal: Arc::clone(&self.fatal),
        }
    }

    fn start_tasks(
        &self,
        sockets: Sockets,
        engine: &Engine,
        stopped: &watch::Receiver<Stage>,
    ) -> std::io::Result<Tasks> {
        let client = tokio_listener(sockets.client)?;
        let peer = tokio_listener(sockets.peer)?;
        let admin = tokio_listener(sockets.admin)?;
        let clients = Arc::new(Statistics::default());
        let exporter = self.metrics.exporter(Elsewhere {
            clients: Arc::clone(&clients),
            links: self.links.clone(),
            mailboxes: self.mailboxes.clone(),
            journal: Arc::clone(&self.journal),
            workers: Arc::clone(&self.workers),
            memory: Arc::clone(&self.memory),
            view: engine.views(),
        });
        let handlers = Arc::new(Handlers::new(engine.clone()));
        let client = transport::Listener::new("client", client);
        let limits = client_limits(&self.settings, &self.memory);
        let stop = when(stopped.clone(), Stage::ClientsLeave);
        let serve_clients = async move {
            let drained = transport::serve(client, handlers, limits, clients, stop).await;
            tracing::debug!(?drained, "the client listener is closed");
        };
        let peers = Arc::clone(&self.peers);
        let statistics = Arc::new(Statistics::default());
        let limits = transport::PeerLimits::default();
        let serve_peers =
            transport::serve_peers(peer, peers, limits, statistics, when(stopped.clone(), Stage::AllLeave));
        let serve_admin = admin::serve(admin, engine.clone(), exporter, when(stopped.clone(), Stage::AllLeave));
        let stalls = workers::log_stalls(Arc::clone(&self.workers));
        Ok(Tasks {
            stalls: tokio::spawn(stalls),
            coordinators: tokio::spawn(coordinators::supervise(engine.clone())),
            clients: tokio::spawn(serve_clients),
            peers: tokio::spawn(serve_peers),
            admin: tokio::spawn(serve_admin),
        })
    }
}

/// The intervals that follow from the failover budget.
///
/// # Errors
/// [`StartError::Settings`].
pub(super) fn interval_plan(settings: &Settings) -> Result<IntervalPlan, StartError> {
    let budget = Duration::from_millis(settings.cluster.failover_budget_ms);
    IntervalPlan::new(budget).map_err(|out_of_range| {
        StartError::Settings(format!(
            "`cluster.failover_budget_ms` is out of range: {out_of_range:?}"
        ))
    })
}

/// A cluster over several machines whose clients can connect from this machine only is rarely what was meant.
pub(super) fn warn_of_lonely_clients(settings: &Settings) {
    let elsewhere = |voter: &Voter| {
        let ip = voter.address.parse::<SocketAddr>().map(|address| address.ip());
        ip.is_ok_and(|ip| !ip.is_loopback())
    };
    let listeners = &settings.listeners;
    if settings.cluster.voters.iter().any(elsewhere) && listeners.client.ip().is_loopback() {
        tracing::warn!(
            client = %listeners.client,
            "the cluster is spread over machines, but clients can connect from this machine only: set \
             `listeners.client` to an address that they can reach"
        );
    }
}

async fn when(mut stopped: watch::Receiver<Stage>, stage: Stage) {
    // An error means that the server is gone, which is a reason to stop as well.
    let _ = stopped.wait_for(|now| *now >= stage).await;
}

fn tokio_listener(listener: TcpListener) -> std::io::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

/// The memory budget that the configuration names, or the default for this machine.
fn memory_budget(settings: &Settings) -> MemoryBudget {
    let machine = Machine::find();
    let total = settings
        .limits
        .memory_bytes
        .unwrap_or_else(|| memory::default_bytes(&machine));
    let budget = MemoryBudget::new(total, settings.broker.shards);
    tracing::info!(
        memory_bytes = budget.total(),
        available_bytes = machine.bytes,
        available_from = %machine.origin,
        "memory budget"
    );
    if total > machine.bytes {
        tracing::warn!(
            "`limits.memory_bytes` is {total}, but there are only {} bytes ({}): lower it, or the system will end this \
             process",
            machine.bytes,
            machine.origin
        );
    }
    if settings.limits.frame_bytes as u64 > budget.requests() {
        tracing::info!(
            "requests of more than {} bytes are refused, although `limits.frame_bytes` is {}: a quarter of \
             `limits.memory_bytes` is for requests",
            budget.requests(),
            settings.limits.frame_bytes
        );
    }
    budget
}

/// A batch in a mailbox is a copy of what its request's frame holds, and both count towards the requests; and the
/// largest batch that a topic may allow arrives as one message all the same ([`crate::shards::Mailbox`] lets one in
/// alone).
fn mailbox_bytes(settings: &Settings, memory: &MemoryBudget) -> usize {
    let share = memory.requests() / (2 * settings.broker.shards.max(1) as u64);
    settings
        .limits
        .mailbox_bytes
        .min(usize::try_from(share).unwrap_or(usize::MAX))
}

fn client_limits(settings: &Settings, memory: &MemoryBudget) -> transport::Limits {
    let limits = &settings.limits;
    let requests = usize::try_from(memory.requests()).unwrap_or(usize::MAX);
    transport::Limits {
        max_frame_bytes: limits.frame_bytes.min(requests),
        in_flight_bytes_total: requests,
        max_connections: limits.connections,
        max_connections_per_ip: limits.connections_per_ip,
        pipeline: limits.pipeline,
        idle_timeout: limits.idle,
        drain_timeout: settings
            .broker
            .stop_deadline
            .min(transport::Limits::default().drain_timeout),
        ..transport::Limits::default()
    }
}

fn links(
    settings: &Settings,
    queue_bytes: u64,
    peers: &Arc<Peers>,
    control: &Arc<ControlQueue>,
    seed: u64,
) -> PeerLinks {
    let limits = transport::LinkLimits {
        queue_frames: settings.limits.peer_queue,
        queue_bytes: usize::try_from(queue_bytes).unwrap_or(usize::MAX),
        ..transport::LinkLimits::default()
    };
    let control = Arc::clone(control);
    let rejections = Mutex::new(BTreeMap::new());
    PeerLinks::new(Arc::clone(peers), limits, seed, move |event| match event {
        LinkEvent::Refused(peer) => control.push(ControlInput::Node(trimaran_node::Input::Refused(NodeId(peer.0)))),
        LinkEvent::Connected(peer) => tracing::debug!(%peer, "connected"),
        LinkEvent::Closed(peer, reason) => tracing::debug!(%peer, reason, "the connection is lost"),
        LinkEvent::Unreachable {
            peer,
            address,
            reason,
            since,
        } => tracing::warn!(
            broker = peer.0,
            address,
            reason,
            for_s = since.as_secs(),
            "this broker can't be reached: does it run, and is that the address of its peer listener \
             (`cluster.voters`)?"
        ),
        LinkEvent::HandshakeRejected(peer, reason) => {
            // Said once, not at every attempt.
            let mut rejections = rejections.lock().unwrap_or_else(PoisonError::into_inner);
            if rejections.insert(peer, reason.clone()).as_ref() != Some(&reason) {
                tracing::error!(broker = peer.0, reason, "this peer can't be used");
            }
        }
    })
}

/// Random enough to tell brokers and their starts apart; nothing secret depends on it.
fn seed(broker: &Broker) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
    hasher.write_i32(broker.id.0);
    hasher.write_u64(broker.incarnation.0);
    hasher.finish()
}
