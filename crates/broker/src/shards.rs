//! The threads that drive the Raft groups, and their mailboxes.
//!
//! A shard drains its mailbox, steps every group that has input, hands on what follows (to the journal, the peers, the
//! I/O threads, the control thread and those that wait), and goes on without waiting for the disk.

use crate::clock::Clock;
use crate::control::{ControlInput, ControlQueue};
use crate::fatal::Fatal;
use crate::files::{FileJob, FileQueue};
use crate::journal::{JournalInput, JournalQueue};
use crate::memory::MemoryBudget;
use crate::metrics::Metrics;
use crate::threads;
use crate::tickets::Tickets;
use crate::workers::Activity;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use trimaran_multiraft::{Completion, Input, Outbox, PeerSink, Shard, ShardConfig};
use trimaran_node::reports;
use trimaran_raft::{GroupId, Message, NodeId};

/// What a mailbox takes at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MailboxLimits {
    /// Clients' requests, in number.
    pub(crate) requests: usize,
    /// Clients' requests and peers' messages, in bytes, each for itself.
    pub(crate) bytes: usize,
}

/// The way into one shard.
pub(crate) struct Mailbox {
    state: Mutex<State>,
    ready: Condvar,
    limits: MailboxLimits,
    /// What the shard's thread is at.
    activity: Arc<Activity>,
    /// Who waits for this shard's answers.
    pub(crate) tickets: Tickets,
}

#[derive(Default)]
struct State {
    inputs: Vec<Input>,
    requests: usize,
    request_bytes: usize,
    message_bytes: usize,
    asleep: bool,
    closed: bool,
}

/// The mailbox is full (or closed): the client should try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Mailbox {
    /// An empty mailbox. At most `waiters` may wait for answers at a time.
    pub(crate) fn new(limits: MailboxLimits, waiters: usize, activity: Arc<Activity>) -> Mailbox {
        Mailbox {
            state: Mutex::new(State::default()),
            ready: Condvar::new(),
            limits,
            activity,
            tickets: Tickets::new(waiters),
        }
    }

    /// A client's request, of about `bytes`.
    ///
    /// # Errors
    /// [`Full`] if too much waits already; the request is dropped.
    pub(crate) fn request(&self, input: Input, bytes: usize) -> Result<(), Full> {
        let mut state = self.lock();
        let fits = state.requests < self.limits.requests && state.request_bytes + bytes <= self.limits.bytes;
        // One request is let in however large, or it never could be.
        if state.closed || !(fits || state.requests == 0) {
            return Err(Full);
        }
        state.requests += 1;
        state.request_bytes += bytes;
        self.put(state, input);
        Ok(())
    }

    /// A peer's messages, of about `bytes`. Dropped (`false`) if too many wait: Raft sends again.
    pub(crate) fn messages(&self, from: NodeId, messages: Vec<(GroupId, Message)>, bytes: usize) -> bool {
        let mut state = self.lock();
        let fits = state.message_bytes == 0 || state.message_bytes + bytes <= self.limits.bytes;
        if state.closed || !fits {
            return false;
        }
        state.message_bytes += bytes;
        self.put(state, Input::Messages(from, messages));
        true
    }

    /// News from within the broker: bounded by what caused it, and never refused while the shard runs.
    pub(crate) fn tell(&self, input: Input) {
        let state = self.lock();
        if !state.closed {
            self.put(state, input);
        }
    }

    /// How many inputs wait.
    pub(crate) fn len(&self) -> usize {
        self.lock().inputs.len()
    }

    /// The shard ends once it has worked off what is there. Who waits then learns that no answer will come.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_one();
    }

    fn put(&self, mut state: MutexGuard<'_, State>, input: Input) {
        state.inputs.push(input);
        if std::mem::take(&mut state.asleep) {
            // From now on the shard has something to do: one that is not woken hangs as well as one that does not
            // return.
            self.activity.called();
            drop(state);
            self.ready.notify_one();
        }
    }

    /// Swaps what waits into `inputs` (which must be empty), after waiting for something until `until`. False once
    /// the mailbox is closed and empty.
    fn take(&self, inputs: &mut Vec<Input>, until: Option<std::time::Instant>) -> bool {
        let mut state = self.lock();
        if state.inputs.is_empty() && !state.closed {
            state.asleep = true;
            state = match until {
                None => self.ready.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let patience = until.saturating_duration_since(std::time::Instant::now());
                    let woken = self.ready.wait_timeout(state, patience);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.asleep = false;
        }
        if state.inputs.is_empty() && state.closed {
            return false;
        }
        std::mem::swap(&mut state.inputs, inputs);
        state.requests = 0;
        state.request_bytes = 0;
        state.message_bytes = 0;
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No user code runs under the lock, so a panic elsewhere can't have left it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All the mailboxes, and which group lives where.
#[derive(Clone)]
pub(crate) struct Mailboxes(Arc<[Mailbox]>);

impl Mailboxes {
    /// One for each of these shards, of which there is one at least.
    pub(crate) fn new(shards: &[Arc<Activity>], limits: MailboxLimits) -> Mailboxes {
        // A consumer's long poll may wait on each of many partitions: far more may wait for answers than for a turn.
        let waiters = limits.requests.saturating_mul(16);
        let mailbox = |activity: &Arc<Activity>| Mailbox::new(limits, waiters, Arc::clone(activity));
        Mailboxes(shards.iter().map(mailbox).collect())
    }

    /// The shard that a group lives in; the same for as long as the process runs.
    pub(crate) fn shard_of(&self, group: GroupId) -> usize {
        (group.0 % self.0.len() as u64) as usize
    }

    /// The mailbox of a group's shard.
    pub(crate) fn of(&self, group: GroupId) -> &Mailbox {
        &self.0[self.shard_of(group)]
    }

    /// The mailbox of one shard.
    pub(crate) fn shard(&self, shard: usize) -> &Mailbox {
        &self.0[shard]
    }

    /// All of them, in order.
    pub(crate) fn all(&self) -> &[Mailbox] {
        &self.0
    }

    /// Tells every shard.
    pub(crate) fn tell_all(&self, input: impl Fn() -> Input) {
        for mailbox in self.all() {
            mailbox.tell(input());
        }
    }
}

/// Where a shard's outputs go.
pub(crate) struct Outputs<P> {
    /// The mailboxes; this shard's own holds its waiters.
    pub(crate) mailboxes: Mailboxes,
    /// What must become durable.
    pub(crate) journal: Arc<JournalQueue>,
    /// What must be read or written where blocking is allowed.
    pub(crate) files: Arc<FileQueue>,
    /// Metadata that was committed, and news of leaders.
    pub(crate) control: Arc<ControlQueue>,
    /// Messages to other brokers.
    pub(crate) peers: P,
    /// Told what the tails take.
    pub(crate) memory: Arc<MemoryBudget>,
    /// Counters.
    pub(crate) metrics: Arc<Metrics>,
    /// Told if the thread panics.
    pub(crate) fatal: Arc<Fatal>,
}

/// Starts the thread of one shard. It ends when its mailbox is closed.
///
/// # Errors
/// When the system has no thread to give.
pub(crate) fn spawn<P: PeerSink + Send + 'static>(
    shard: usize,
    config: ShardConfig,
    clock: Clock,
    outputs: Outputs<P>,
) -> std::io::Result<JoinHandle<()>> {
    let fatal = Arc::clone(&outputs.fatal);
    threads::spawn(&format!("shard-{shard}"), &fatal, move || {
        run(shard, config, clock, outputs)
    })
}

fn run<P: PeerSink>(at: usize, config: ShardConfig, clock: Clock, mut outputs: Outputs<P>) {
    let mailboxes = outputs.mailboxes.clone();
    let mailbox = mailboxes.shard(at);
    let activity = Arc::clone(&mailbox.activity);
    let mut shard = Shard::new(config, clock.now());
    let mut inputs = Vec::new();
    let mut outbox = Outbox::default();
    while mailbox.take(&mut inputs, shard.deadline().map(|at| clock.std(at))) {
        activity.begin();
        shard.step(clock.now(), &mut inputs, &mut outbox);
        inputs.clear();
        outputs.memory.note_tails(at, shard.tails_bytes());
        hand_on(at, &mut outbox, &mut outputs);
        activity.end();
    }
    mailbox.tickets.close();
}

/// Everything that a step decided goes its way: first what others wait for longest.
fn hand_on<P: PeerSink>(at: usize, out: &mut Outbox, to: &mut Outputs<P>) {
    if !out.journal.is_empty() {
        let batch = std::mem::take(&mut out.journal);
        to.journal.submit(JournalInput::Batch {
            shard: at,
            sequence: out.sequence,
            batch,
        });
    }
    for (peer, messages) in out.messages.drain(..) {
        to.peers.send(peer, messages);
    }
    for group in out.closed.drain(..) {
        to.journal.submit(JournalInput::Closed(group));
    }
    let mailbox = to.mailboxes.shard(at);
    for (ticket, completion) in out.completions.drain(..) {
        let committed = matches!(completion, Completion::Appended(Ok(_)));
        if let (true, Some(took)) = (committed, mailbox.tickets.complete(ticket, completion)) {
            to.metrics.appended(took);
        }
    }
    for job in out.flushes.drain(..) {
        to.files.push(FileJob::Flush(job));
    }
    for load in out.loads.drain(..) {
        to.files.push(FileJob::Load(load));
    }
    let mut reported = Vec::new();
    reports(out, |report| reported.push(report));
    if !reported.is_empty() {
        to.control.push(ControlInput::Reports(reported));
    }
    to.metrics.log_resets.inc_by(std::mem::take(&mut out.resets));
    to.metrics.elections.inc_by(std::mem::take(&mut out.elections));
}
