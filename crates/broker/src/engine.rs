//! The asynchronous face of the broker's threads: what the Kafka handlers, the administration port and the tests use.
//!
//! Every call hands its request to a thread **when it is called**, in the order of the calls, and returns a future of
//! the answer: what is produced on one connection stays in order without anybody waiting. Nothing here blocks. What
//! is over a limit is answered at once (`Busy`, `Overloaded`).

use crate::config::Settings;
use crate::control::{ControlInput, ControlQueue};
use crate::coordinators::mailboxes::Coordinators;
use crate::ids;
use crate::journal::JournalQueue;
use crate::memory::MemoryBudget;
use crate::metrics::Metrics;
use crate::server::Stage;
use crate::shards::{Mailbox, Mailboxes};
use crate::workers::Workers;
use bytes::{Bytes, BytesMut};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use trimaran_multiraft::{Completion, GroupStatus, Input, OffsetLookup, OffsetQuery, Ticket, TransferOutcome};
use trimaran_node as node;
use trimaran_raft::{GroupId, NodeId};
use trimaran_registry::agent::{AdminError, AdminReply, AdminRequest};
use trimaran_registry::leaders::Leadership;
use trimaran_registry::{BrokerId, Catalog};
use trimaran_storage::log::{Chunk, LogError};
use trimaran_wire::batch::LeaderEpoch;

pub use trimaran_multiraft::{Acks, AppendError, Appended, ReadError, ReadRequest, ReadResult};
pub use trimaran_node::{AdminAnswer, ClusterView};

/// A handle to the broker's threads; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

/// The parts that an engine is made of.
pub(crate) struct Parts {
    pub(crate) settings: Arc<Settings>,
    pub(crate) mailboxes: Mailboxes,
    pub(crate) journal: Arc<JournalQueue>,
    pub(crate) control: Arc<ControlQueue>,
    pub(crate) view: watch::Receiver<Arc<ClusterView>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) memory: Arc<MemoryBudget>,
    pub(crate) stopped: watch::Receiver<Stage>,
    pub(crate) workers: Arc<Workers>,
    pub(crate) coordinators: Coordinators,
}

struct Inner {
    parts: Parts,
    broker: BrokerId,
}

impl Engine {
    pub(crate) fn new(parts: Parts) -> Engine {
        let broker = BrokerId(i32::try_from(parts.settings.broker.id).unwrap_or(i32::MAX));
        Engine {
            inner: Arc::new(Inner { parts, broker }),
        }
    }

    // --- What is known without asking anyone ---

    /// This broker.
    pub fn broker_id(&self) -> BrokerId {
        self.inner.broker
    }

    /// This broker's rack.
    pub fn rack(&self) -> Option<&str> {
        self.settings().broker.rack.as_deref()
    }

    /// The whole configuration.
    pub fn settings(&self) -> &Settings {
        &self.inner.parts.settings
    }

    /// Counters.
    pub fn metrics(&self) -> &Metrics {
        &self.inner.parts.metrics
    }

    /// The budget for memory that grows with load.
    pub fn memory(&self) -> &Arc<MemoryBudget> {
        &self.inner.parts.memory
    }

    /// The coordinators of consumer groups that this broker has.
    pub(crate) fn coordinators(&self) -> &Coordinators {
        &self.inner.parts.coordinators
    }

    /// Catalog, leaders and controller, of one moment.
    pub fn view(&self) -> Arc<ClusterView> {
        Arc::clone(&self.inner.parts.view.borrow())
    }

    /// Brokers, topics, partitions, configuration.
    pub fn catalog(&self) -> Catalog {
        self.inner.parts.view.borrow().catalog.clone()
    }

    /// A group's leadership as far as known: term, leader, in-sync replicas. Not only of groups with a replica here.
    pub fn leader_of(&self, group: GroupId) -> Option<Leadership> {
        let view = self.inner.parts.view.borrow();
        view.leaders.leadership(ids::catalog_group(group)).cloned()
    }

    /// The broker that leads the metadata group, as far as known.
    pub fn controller(&self) -> Option<BrokerId> {
        self.inner.parts.view.borrow().controller
    }

    /// Whether this broker is registered in the cluster, knows a controller, has opened all its replicas, and no thread
    /// that it needs is stalled.
    pub fn is_ready(&self) -> bool {
        self.inner.parts.view.borrow().ready && self.stalled_thread().is_none()
    }

    /// The thread whose stall keeps this broker from serving, and for how long it has been busy with one thing; none if
    /// there is none.
    pub fn stalled_thread(&self) -> Option<(String, Duration)> {
        let hindrance = self.inner.parts.workers.hindrance();
        hindrance.map(|(thread, busy)| (thread.to_owned(), busy))
    }

    /// Whether clients are being let go because the broker stops.
    pub fn is_stopping(&self) -> bool {
        *self.inner.parts.stopped.borrow() >= Stage::ClientsLeave
    }

    // --- Waiting for news ---

    /// Completes when the broker begins to let its clients go.
    pub async fn stopping(&self) {
        let mut stopped = self.inner.parts.stopped.clone();
        // An error means that the server is gone, which is a reason to stop as well.
        let _ = stopped.wait_for(|now| *now >= Stage::ClientsLeave).await;
    }

    /// Every new view, as it is published.
    pub fn views(&self) -> watch::Receiver<Arc<ClusterView>> {
        self.inner.parts.view.clone()
    }

    /// Waits until a view satisfies the condition, and returns it; none at the deadline.
    pub async fn wait_until(
        &self,
        deadline: Duration,
        condition: impl FnMut(&Arc<ClusterView>) -> bool,
    ) -> Option<Arc<ClusterView>> {
        let mut views = self.views();
        match tokio::time::timeout(deadline, views.wait_for(condition)).await {
            Ok(Ok(view)) => Some(Arc::clone(&view)),
            // The deadline, or the broker has stopped.
            Ok(Err(_)) | Err(_) => None,
        }
    }

    // --- Partitions ---

    /// Appends one record batch whose structure and CRC are checked already. Base offset and leader epoch are stamped
    /// by the group's leader. The batch is queued when this is called, behind all that was appended before it.
    ///
    /// Dropping the future does not take the batch back.
    pub fn append(&self, group: GroupId, batch: BytesMut, acks: Acks) -> Pending<Result<Appended, AppendError>> {
        let parts = &self.inner.parts;
        if parts.journal.backlog_bytes() > parts.settings.limits.journal_backlog_bytes {
            return Pending::ready(Err(AppendError::Busy));
        }
        let bytes = batch.len();
        let asked = self.ask(group, bytes, |ticket| Input::Append {
            group,
            batch,
            acks,
            ticket,
        });
        match asked {
            Some((_, answer)) => Pending::waiting(answer, appended),
            None => Pending::ready(Err(AppendError::Busy)),
        }
    }

    /// Reads whole record batches from an offset on. With `wait` set, answers only once there is something to read, or
    /// on an error; dropping the future takes the request back.
    ///
    /// Chunks that lie in files are read by [`Engine::load`].
    pub fn read(&self, request: ReadRequest) -> Reading {
        let group = request.group;
        match self.ask(group, 0, |ticket| Input::Read(ticket, request)) {
            Some((ticket, answer)) => Reading {
                pending: Pending::waiting(answer, read),
                cancel: Some((self.clone(), group, ticket)),
            },
            None => Reading {
                // To a consumer, "not at the moment" is an empty answer or a retry: it is the same error as a leader
                // that may not serve yet.
                pending: Pending::ready(Err(ReadError::NotServing)),
                cancel: None,
            },
        }
    }

    /// Looks up an offset of a group that is led here: by timestamp, earliest, latest, or the end of an epoch.
    pub fn offsets(
        &self,
        group: GroupId,
        query: OffsetQuery,
        current_epoch: Option<LeaderEpoch>,
    ) -> Pending<Result<OffsetLookup, ReadError>> {
        let asked = self.ask(group, 0, |ticket| Input::Offsets {
            ticket,
            group,
            query,
            current_epoch,
        });
        match asked {
            Some((_, answer)) => Pending::waiting(answer, offsets),
            None => Pending::ready(Err(ReadError::NotServing)),
        }
    }

    /// The state of this broker's replica of a group; none if there is no replica here (or its shard is overloaded).
    pub fn status(&self, group: GroupId) -> Pending<Option<GroupStatus>> {
        match self.ask(group, 0, |ticket| Input::Status(ticket, group)) {
            Some((_, answer)) => Pending::waiting(answer, status),
            None => Pending::ready(None),
        }
    }

    /// Hands the leadership of a group that is led here to the named replica, or to the most caught-up one.
    pub fn transfer(&self, group: GroupId, to: Option<NodeId>) -> Pending<TransferOutcome> {
        match self.ask(group, 0, |ticket| Input::Transfer(ticket, group, to)) {
            Some((_, answer)) => Pending::waiting(answer, transferred),
            None => Pending::ready(nothing_transferred()),
        }
    }

    /// Hands over every leadership of this broker, and says what became of it.
    pub async fn transfer_all(&self) -> TransferOutcome {
        let mut asked = Vec::new();
        for mailbox in self.inner.parts.mailboxes.all() {
            // Not a client's request: an overloaded shard has all the more reason to give its leaderships away.
            let Some((ticket, answer)) = mailbox.tickets.issue() else {
                continue;
            };
            mailbox.tell(Input::TransferAll(ticket));
            asked.push(Pending::waiting(answer, transferred));
        }
        let mut total = nothing_transferred();
        for answer in asked {
            let outcome = answer.await;
            total.handed_over += outcome.handed_over;
            total.kept.extend(outcome.kept);
        }
        total
    }

    /// Makes another broker than `failed` lead a group: asks every replica, wherever it is, to believe `failed` gone
    /// and to stand for election (`failed` itself, if it can hear it, hands over), again and again until another one
    /// serves. Returns the new leadership, or none at the deadline. If another one serves already, nothing is done.
    pub async fn fail_over(&self, group: GroupId, failed: BrokerId, deadline: Duration) -> Option<Leadership> {
        let retry_every = Duration::from_millis(self.settings().cluster.failover_budget_ms);
        let taken_over = |view: &ClusterView| {
            let now = view.leaders.leadership(ids::catalog_group(group))?;
            let other = now.serving && now.leader.is_some_and(|leader| leader != failed);
            other.then(|| now.clone())
        };
        let retried = async {
            loop {
                let now = taken_over(&self.view());
                if now.is_some() {
                    return now;
                }
                let failed = Some(ids::node(failed));
                let control = &self.inner.parts.control;
                control.push(ControlInput::Node(node::Input::FailOver { group, failed }));
                self.wait_until(retry_every, |view| taken_over(view).is_some()).await;
            }
        };
        tokio::time::timeout(deadline, retried).await.ok().flatten()
    }

    /// Reads chunks that lie in files, on a thread that may block; what is in memory is passed through. In order.
    ///
    /// # Errors
    /// A segment can't be read. The group's replica has been told, and gives up its leadership.
    pub async fn load(&self, group: GroupId, chunks: Vec<Chunk>) -> Result<Vec<Bytes>, LogError> {
        if chunks.iter().all(|chunk| matches!(chunk, Chunk::Memory(_))) {
            return Ok(chunks.into_iter().filter_map(in_memory).collect());
        }
        let read = tokio::task::spawn_blocking(move || chunks.into_iter().map(bytes_of).collect::<Result<Vec<_>, _>>());
        let bytes = read.await.unwrap_or_else(|_| Err(stopping()));
        if let Err(error) = &bytes {
            tracing::error!(%group, %error, "records can't be read for a consumer");
            self.mailbox(group).tell(Input::Unreadable(group, error.clone()));
        }
        bytes
    }

    // --- The cluster ---

    /// Takes a request to the controller, wherever it is, and answers once the result is applied to this broker's own
    /// catalog. A retry after a lost answer does nothing twice.
    pub fn admin(
        &self,
        request: AdminRequest,
        deadline: Duration,
    ) -> Pending<Result<AdminReply, AdminError>, AdminAnswer> {
        let (sender, receiver) = oneshot::channel();
        let limit = self.settings().limits.mailbox_requests;
        let asked = ControlInput::Request(sender, deadline, request);
        if self.inner.parts.control.offer(asked, limit) {
            Pending::waiting(receiver, administered)
        } else {
            Pending::ready(Err(AdminError::Overloaded))
        }
    }

    /// A producer id that nobody else has or will have.
    pub async fn producer_id(&self, deadline: Duration) -> Result<i64, AdminError> {
        match self.admin(AdminRequest::ProducerId, deadline).await? {
            AdminReply::ProducerId(id) => Ok(id),
            // An answer to another question would be a bug of the agent; to the client it is no answer.
            AdminReply::Topic(_) | AdminReply::Valid => Err(AdminError::TimedOut),
        }
    }

    fn ask(
        &self,
        group: GroupId,
        bytes: usize,
        input: impl FnOnce(Ticket) -> Input,
    ) -> Option<(Ticket, oneshot::Receiver<Completion>)> {
        ask_mailbox(self.inner.parts.mailboxes.of(group), bytes, input)
    }

    /// The way to one group's shard, for what is not a request.
    pub(crate) fn mailbox(&self, group: GroupId) -> &Mailbox {
        self.inner.parts.mailboxes.of(group)
    }
}

fn ask_mailbox(
    mailbox: &Mailbox,
    bytes: usize,
    input: impl FnOnce(Ticket) -> Input,
) -> Option<(Ticket, oneshot::Receiver<Completion>)> {
    let (ticket, answer) = mailbox.tickets.issue()?;
    if mailbox.request(input(ticket), bytes).is_err() {
        mailbox.tickets.forget(ticket);
        return None;
    }
    Some((ticket, answer))
}

/// A request that has been handed over; completes with its answer.
#[must_use = "the answer comes only to who waits for it"]
pub struct Pending<T, A = Completion> {
    state: PendingState<T, A>,
}

enum PendingState<T, A> {
    Ready(Option<T>),
    /// The function makes a result of the answer, or of its absence: the broker stops.
    Waiting(oneshot::Receiver<A>, fn(Option<A>) -> T),
}

impl<T, A> Pending<T, A> {
    fn ready(result: T) -> Pending<T, A> {
        Pending {
            state: PendingState::Ready(Some(result)),
        }
    }

    fn waiting(answer: oneshot::Receiver<A>, convert: fn(Option<A>) -> T) -> Pending<T, A> {
        Pending {
            state: PendingState::Waiting(answer, convert),
        }
    }
}

impl<T: Unpin, A> Future for Pending<T, A> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match &mut self.state {
            PendingState::Ready(result) => match result.take() {
                Some(result) => Poll::Ready(result),
                // Polled again after it was ready: a mistake of the caller that must not become a panic.
                None => Poll::Pending,
            },
            PendingState::Waiting(answer, convert) => {
                let convert = *convert;
                Pin::new(answer).poll(context).map(|answer| convert(answer.ok()))
            }
        }
    }
}

/// A read under way; dropping it takes the request back.
#[must_use = "dropping it takes the request back"]
pub struct Reading {
    pending: Pending<Result<ReadResult, ReadError>>,
    cancel: Option<(Engine, GroupId, Ticket)>,
}

impl Future for Reading {
    type Output = Result<ReadResult, ReadError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = Pin::new(&mut self.pending).poll(context);
        if answer.is_ready() {
            self.cancel = None;
        }
        answer
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if let Some((engine, group, ticket)) = self.cancel.take() {
            let mailbox = engine.mailbox(group);
            mailbox.tickets.forget(ticket);
            mailbox.tell(Input::CancelRead(ticket));
        }
    }
}

// What an answer means, and what its absence means. An answer of another kind would be a bug of the shard; the ticket
// names the request, so it can't come about, and is treated like no answer.

fn appended(answer: Option<Completion>) -> Result<Appended, AppendError> {
    match answer {
        Some(Completion::Appended(result)) => result,
        _ => Err(AppendError::Lost),
    }
}

fn read(answer: Option<Completion>) -> Result<ReadResult, ReadError> {
    match answer {
        Some(Completion::Read(result)) => result,
        _ => Err(ReadError::NotServing),
    }
}

fn offsets(answer: Option<Completion>) -> Result<OffsetLookup, ReadError> {
    match answer {
        Some(Completion::Offsets(result)) => result,
        _ => Err(ReadError::NotServing),
    }
}

fn status(answer: Option<Completion>) -> Option<GroupStatus> {
    match answer {
        Some(Completion::Status(status)) => status,
        _ => None,
    }
}

fn transferred(answer: Option<Completion>) -> TransferOutcome {
    match answer {
        Some(Completion::Transferred(outcome)) => outcome,
        _ => nothing_transferred(),
    }
}

fn administered(answer: Option<AdminAnswer>) -> AdminAnswer {
    answer.unwrap_or(Err(AdminError::TimedOut))
}

fn nothing_transferred() -> TransferOutcome {
    TransferOutcome {
        handed_over: 0,
        kept: Vec::new(),
    }
}

fn in_memory(chunk: Chunk) -> Option<Bytes> {
    match chunk {
        Chunk::Memory(bytes) => Some(bytes),
        Chunk::File(_) => None,
    }
}

fn bytes_of(chunk: Chunk) -> Result<Bytes, LogError> {
    match chunk {
        Chunk::Memory(bytes) => Ok(bytes),
        Chunk::File(slice) => slice.read(),
    }
}

fn stopping() -> LogError {
    LogError::Io {
        path: std::path::PathBuf::new(),
        source: std::io::Error::other("the broker is stopping"),
    }
}
