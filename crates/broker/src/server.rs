//! Assembles a broker: folder, journal, threads, sockets; and takes it apart again, in the order that loses nothing.

mod assembly;
mod inquiry;

pub(crate) use assembly::address_of;

use crate::config::{Listeners, Settings};
use crate::control::{ControlInput, ControlQueue};
use crate::engine::Engine;
use crate::fatal::Fatal;
use crate::files::{self, FileQueue};
use crate::folder::{Folder, FolderError};
use crate::journal::JournalQueue;
use crate::metrics::Metrics;
use crate::shards::Mailboxes;
use crate::starts::StartStore;
use assembly::{Assembly, Identity, interval_plan, warn_of_lonely_clients};
pub(crate) use inquiry::account_frame;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;
use trimaran_multiraft::TransferOutcome;
use trimaran_raft::GroupId;
use trimaran_registry::starts::{Outcome, Start};
use trimaran_storage::fs::Fs;
use trimaran_storage::journal::{Journal, JournalError, JournalOptions, RecoveredGroup};
use trimaran_transport::PeerLinks;

/// How long the last frames to peers may take when a broker stops.
const LINKS_DEADLINE: Duration = Duration::from_millis(500);

/// How long the threads may take to end. One that hangs in a system call never does; what it holds is as safe as after
/// a `kill -9`.
const THREADS_DEADLINE: Duration = Duration::from_secs(5);

/// A broker's three listening sockets.
#[derive(Debug)]
pub struct Sockets {
    /// For Kafka clients.
    pub client: TcpListener,
    /// For the other brokers.
    pub peer: TcpListener,
    /// HTTP.
    pub admin: TcpListener,
}

impl Sockets {
    /// Binds what the configuration says. Port 0 binds any free port.
    ///
    /// # Errors
    /// [`StartError::Bind`], naming the listener.
    pub fn bind(listeners: &Listeners) -> Result<Sockets, StartError> {
        Ok(Sockets {
            client: bind("client", listeners.client)?,
            peer: bind("peer", listeners.peer)?,
            admin: bind("admin", listeners.admin)?,
        })
    }
}

fn bind(listener: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).map_err(|source| StartError::Bind {
        listener,
        address,
        source,
    })
}

/// Where a broker can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// By Kafka clients.
    pub client: SocketAddr,
    /// By other brokers.
    pub peer: SocketAddr,
    /// By HTTP.
    pub admin: SocketAddr,
}

/// Why a broker does not start. Says what to do.
#[derive(Debug)]
pub enum StartError {
    /// A listener's address can't be had.
    Bind {
        /// `client`, `peer` or `admin`.
        listener: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The data folder can't be used.
    Folder(FolderError),
    /// The journal can't be opened.
    Journal(JournalError),
    /// The system has no thread or socket to give.
    System(std::io::Error),
    /// The configuration asks for what can't be.
    Settings(String),
    /// Another process runs as this broker.
    Occupied {
        /// The `broker.id` of both.
        broker: u32,
        /// The broker that is in contact with the other process; this broker itself if that process listens at its
        /// address.
        by: String,
        /// The other process.
        start: Start,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Bind {
                listener,
                address,
                source,
            } => write!(
                f,
                "the {listener} listener can't bind to {address}: {source}; free that port, or choose another with \
                 `listeners.{listener}` (--listeners-{listener})"
            ),
            StartError::Folder(error) => error.fmt(f),
            StartError::Journal(error @ JournalError::Mismatch { .. }) => write!(
                f,
                "{error}. Put the latest `journal` and `identity.toml` back (is the right disk mounted?). If they are \
                 lost, and other brokers have this one's replicas, move `journal` away and start again: the others \
                 then fill this broker. See \"A disk is damaged\" in docs/operations.md"
            ),
            StartError::Journal(error) => write!(
                f,
                "the journal can't be opened: {error}. If its disk is damaged and this broker has replicas elsewhere, \
                 move its data folder away and follow \"When one is lost\" in docs/operations.md: an empty broker \
                 alone is not refilled"
            ),
            StartError::System(error) => write!(f, "the system refuses a thread or a socket: {error}"),
            StartError::Settings(what) => f.write_str(what),
            StartError::Occupied { broker, by, start } => write!(
                f,
                "another process runs as broker {broker} of this cluster: {by} says that {start} is alive. Give each \
                 broker its own `broker.id`; to replace that process, stop it first"
            ),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StartError::Bind { source, .. } | StartError::System(source) => Some(source),
            StartError::Folder(error) => Some(error),
            StartError::Journal(error) => Some(error),
            StartError::Settings(_) | StartError::Occupied { .. } => None,
        }
    }
}

/// A running broker.
pub struct Server {
    engine: Engine,
    addresses: Addresses,
    control: Arc<ControlQueue>,
    journal: Arc<JournalQueue>,
    files: Arc<FileQueue>,
    mailboxes: Mailboxes,
    links: PeerLinks,
    fatal: Arc<Fatal>,
    stop: watch::Sender<Stage>,
    tasks: Tasks,
    threads: Threads,
    /// Let go last: then the next process may have it.
    _folder: Folder,
}

/// How far the end has come. The peers and the administration port are served until the clients are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Serving,
    ClientsLeave,
    AllLeave,
}

struct Tasks {
    /// Logs when a thread stalls. Ends with the server.
    stalls: tokio::task::JoinHandle<()>,
    /// Coordinates consumer groups. Ends when the clients leave.
    coordinators: tokio::task::JoinHandle<()>,
    clients: tokio::task::JoinHandle<()>,
    peers: tokio::task::JoinHandle<()>,
    admin: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Threads {
    shards: Vec<JoinHandle<()>>,
    journal: Option<JoinHandle<()>>,
    files: Vec<JoinHandle<()>>,
    control: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a broker on the sockets that its configuration names. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left behind.
    pub async fn start(settings: Settings) -> Result<Server, StartError> {
        let sockets = Sockets::bind(&settings.listeners)?;
        Server::start_on(settings, sockets).await
    }

    /// Starts a broker on sockets that are bound already.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left behind.
    pub async fn start_on(settings: Settings, sockets: Sockets) -> Result<Server, StartError> {
        let addresses = addresses(&sockets).map_err(StartError::System)?;
        let alone = settings
            .cluster
            .voters
            .iter()
            .all(|voter| voter.id == settings.broker.id);
        let open = if alone { Folder::open_alone } else { Folder::open };
        let folder = open(&settings.broker.data, &settings.cluster.id, settings.broker.id);
        let mut folder = folder.map_err(StartError::Folder)?;
        let plan = interval_plan(&settings)?;
        let starts = StartStore::open(&settings.broker.data, plan.suspicion_timeout).map_err(StartError::Folder)?;
        begin(&settings, &mut folder, &starts, &sockets.peer).await?;
        let metrics = Arc::new(Metrics::new());
        let fs = files::disk(Arc::clone(&metrics));
        let (journal, recovered) = open_journal(&settings, &folder, Arc::clone(&fs)).await?;
        let identity = Identity::of(&settings, addresses, folder.incarnation());
        tracing::info!(
            broker = settings.broker.id,
            cluster = settings.cluster.id,
            client = %addresses.client, peer = %addresses.peer, admin = %addresses.admin,
            data = %settings.broker.data.display(),
            groups = recovered.len(),
            "starts"
        );
        if settings.is_newcomer() {
            let founders: Vec<String> = settings
                .cluster
                .voters
                .iter()
                .map(|voter| voter.id.to_string())
                .collect();
            tracing::info!(
                founders = founders.join(", "),
                "`cluster.voters` does not list this broker: it joins the cluster that the listed ones founded"
            );
        }
        warn_of_lonely_clients(&settings);
        Assembly::new(settings, plan, (folder, starts), identity, metrics)
            .finish(sockets, addresses, fs, journal, recovered)
    }

    /// The engine that handlers use; for embedding a broker and for tests.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Where it can be reached.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Waits until this broker is registered in its cluster and has opened its replicas. False at the deadline.
    pub async fn ready(&self, deadline: Duration) -> bool {
        self.engine.wait_until(deadline, |view| view.ready).await.is_some()
    }

    /// Completes if the broker can't go on: its disk failed, or its identity is taken. Says what to do.
    pub async fn failed(&self) -> String {
        self.fatal.failed().await.to_owned()
    }

    /// Leaves well: hands every leadership to a caught-up replica, finishes what is in flight, and stops. Takes no
    /// longer than the configuration's `broker.stop_deadline_ms`, and a little for the threads to end.
    pub async fn leave(self) -> TransferOutcome {
        self.control.push(ControlInput::Node(trimaran_node::Input::Leaving));
        let deadline = self.engine.settings().broker.stop_deadline;
        let outcome = tokio::time::timeout(deadline, self.engine.transfer_all()).await;
        let outcome = outcome.unwrap_or(TransferOutcome {
            handed_over: 0,
            kept: Vec::new(),
        });
        tracing::info!(
            handed_over = outcome.handed_over,
            kept = outcome.kept.len(),
            "handed over its leaderships"
        );
        self.end(deadline).await;
        outcome
    }

    /// Stops at once, as if the process had been killed: nothing is handed over or finished.
    pub async fn kill(self) {
        let tasks = &self.tasks;
        for task in [&tasks.coordinators, &tasks.clients, &tasks.peers, &tasks.admin] {
            task.abort();
        }
        self.end(Duration::ZERO).await;
    }

    async fn end(mut self, deadline: Duration) {
        // A task that was aborted, or has panicked, has ended, too. The listeners have their own, shorter deadline for
        // what is in flight.
        let patience = deadline.max(Duration::from_millis(100));
        self.stop.send_replace(Stage::ClientsLeave);
        let _ = tokio::time::timeout(patience, self.tasks.clients).await;
        self.stop.send_replace(Stage::AllLeave);
        self.links.close(LINKS_DEADLINE.min(deadline)).await;
        let _ = tokio::time::timeout(patience, self.tasks.peers).await;
        let _ = tokio::time::timeout(patience, self.tasks.admin).await;
        let threads = std::mem::take(&mut self.threads);
        let mailboxes = self.mailboxes.clone();
        let (journal, files, control) = (self.journal.clone(), self.files.clone(), self.control.clone());
        let joined = tokio::task::spawn_blocking(move || {
            // Downstream last: what a shard still says is still written, and its files are flushed.
            for mailbox in mailboxes.all() {
                mailbox.close();
            }
            join(threads.shards);
            journal.close();
            join(threads.journal);
            files.close();
            join(threads.files);
            control.close();
            join(threads.control);
        });
        // Whatever a thread panicked with is reported by its guard.
        if tokio::time::timeout(THREADS_DEADLINE, joined).await.is_err() {
            tracing::error!(stalled = ?self.engine.stalled_thread(), "a thread does not end: stops without it");
        }
        self.tasks.stalls.abort();
    }
}

fn join(threads: impl IntoIterator<Item = JoinHandle<()>>) {
    for thread in threads {
        // See above.
        let _ = thread.join();
    }
}

fn addresses(sockets: &Sockets) -> std::io::Result<Addresses> {
    Ok(Addresses {
        client: sockets.client.local_addr()?,
        peer: sockets.peer.local_addr()?,
        admin: sockets.admin.local_addr()?,
    })
}

/// Counts this start, once it is known what the others have seen of this broker.
async fn begin(
    settings: &Settings,
    folder: &mut Folder,
    starts: &StartStore,
    peer: &TcpListener,
) -> Result<(), StartError> {
    match inquiry::inquire(settings, folder, starts, peer).await? {
        Outcome::Begin { incarnation, lost } => {
            if let Some((by, seen)) = lost {
                inquiry::say_lost(settings, folder.last(), by, seen);
            }
            folder.begin(incarnation, lost.is_some()).map_err(StartError::Folder)
        }
        Outcome::Occupied(by, start) => Err(StartError::Occupied {
            broker: settings.broker.id,
            by: crate::ids::broker_name(by),
            start,
        }),
    }
}

async fn open_journal(
    settings: &Settings,
    folder: &Folder,
    fs: Arc<dyn Fs>,
) -> Result<(Journal, BTreeMap<GroupId, RecoveredGroup>), StartError> {
    let options = JournalOptions {
        file_bytes: settings.limits.journal_file_bytes,
        max_files: settings.limits.journal_files,
    };
    let (dir, owner) = (folder.journal(), folder.owner());
    let opened = tokio::task::spawn_blocking(move || Journal::open_owned(fs, &dir, options, owner)).await;
    match opened {
        Ok(opened) => opened.map_err(StartError::Journal),
        Err(_) => Err(StartError::System(std::io::Error::other(
            "opening the journal panicked",
        ))),
    }
}
