//! One journal for many threads.

use super::{Journal, JournalBatch, JournalError};
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

/// Payload bytes that are written together, unless one batch alone has more: enough for a disk to be at its best, and a
/// write that takes no longer than some milliseconds.
const MAX_TOGETHER_BYTES: u64 = 16 << 20;

/// Payload bytes that wait, at most, unless one batch alone has more: what is submitted beyond makes its caller write
/// first.
const MAX_WAITING_BYTES: u64 = 64 << 20;

/// The outcome of a write. Threads whose batches were written together share an error.
pub type Outcome = Result<(), Arc<JournalError>>;

/// A journal that many threads may write to: their batches go to disk together, with one write and one sync. A clone is
/// the same one.
///
/// It has no thread. The first caller that waits does, for all that have submitted something by then; the others
/// sleep until theirs is durable. While it writes, the next batches gather.
///
/// Batches are written in the order in which they were submitted, so two threads that write the same group must agree
/// on that order between themselves.
///
/// ```
/// use std::{path::Path, sync::Arc, thread};
/// use trimaran_raft::{Entry, GroupId, LogIndex, Payload, Term};
/// use trimaran_storage::fs::faulty::FaultyFs;
/// use trimaran_storage::journal::{GroupCommit, Journal, JournalBatch, JournalOptions};
///
/// let options = JournalOptions { file_bytes: 1 << 20, max_files: 4 };
/// let (journal, _) = Journal::open(Arc::new(FaultyFs::new(1)), Path::new("/journal"), options)?;
/// let journal = GroupCommit::new(journal);
/// thread::scope(|scope| {
///     for group in 1..=8 {
///         let journal = &journal;
///         scope.spawn(move || {
///             let payload = Payload::Data("hello".into());
///             let mut batch = JournalBatch::default();
///             batch.entries(GroupId(group), &[Entry { index: LogIndex(1), term: Term(1), payload }]);
///             journal.write(batch).expect("the disk takes it"); // durable
///         });
///     }
/// });
/// assert_eq!(journal.counts().batches, 8);
/// assert!(journal.counts().writes <= 8);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct GroupCommit {
    shared: Arc<Shared>,
}

/// Counts since the journal was shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Batches that are durable.
    pub batches: u64,
    /// Writes that made them durable, each with one sync (two, where it began a file).
    pub writes: u64,
    /// Batches that are submitted, and that no thread has begun to write.
    pub waiting: usize,
}

/// A batch that was submitted. It is certain to be written only if somebody waits: for it, or for one that was
/// submitted later.
#[must_use = "nothing is written until somebody waits"]
pub struct Ticket {
    shared: Arc<Shared>,
    outcome: Arc<OnceLock<Outcome>>,
}

struct Shared {
    state: Mutex<State>,
    /// The journal is free again, and some outcomes are known.
    changed: Condvar,
}

struct State {
    /// None while a thread uses it; for ever, if that thread panicked.
    journal: Option<Journal>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: u64,
    /// The first failure to write: nothing is accepted after it.
    failure: Option<Arc<JournalError>>,
    counts: Counts,
}

struct Waiting {
    batch: JournalBatch,
    outcome: Arc<OnceLock<Outcome>>,
}

impl GroupCommit {
    /// Shares a journal.
    pub fn new(journal: Journal) -> GroupCommit {
        let state = State {
            journal: Some(journal),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            failure: None,
            counts: Counts::default(),
        };
        GroupCommit {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                changed: Condvar::new(),
            }),
        }
    }

    /// Writes a batch; on return it is durable. Blocks.
    ///
    /// # Errors
    /// [`JournalError::Refused`] if this batch was refused; the others are written. After any other error it is unknown
    /// how much is durable of what was written together: everybody whose batch was among it gets that error, and so
    /// does everybody after them. Drop all clones and tickets, and open the journal again to find out.
    pub fn write(&self, batch: JournalBatch) -> Outcome {
        self.submit(batch).wait()
    }

    /// Hands over a batch without waiting for the disk, unless too much is waiting already. An empty batch is durable
    /// when everything that was submitted before it is.
    pub fn submit(&self, batch: JournalBatch) -> Ticket {
        let shared = &self.shared;
        let outcome = Arc::new(OnceLock::new());
        let mut state = shared.lock();
        while state.is_full(&batch) {
            state = shared.write_or_wait(state);
        }
        match &state.failure {
            Some(failure) => drop(outcome.set(Err(Arc::clone(failure)))),
            None => state.push(batch, Arc::clone(&outcome)),
        }
        drop(state);
        Ticket {
            shared: Arc::clone(shared),
            outcome,
        }
    }

    /// Uses the journal between two writes: to release entries, or to ask for [`Journal::groups_to_flush`]. What is
    /// submitted meanwhile waits.
    ///
    /// # Errors
    /// The errors of `f`; and [`JournalError::Poisoned`] if a thread panicked while it used the journal.
    pub fn with<R>(&self, f: impl FnOnce(&mut Journal) -> Result<R, JournalError>) -> Result<R, Arc<JournalError>> {
        let mut state = self.shared.lock();
        loop {
            if let Some(journal) = state.journal.take() {
                drop(state);
                let mut turn = Turn::new(&self.shared, journal, Vec::new());
                return f(turn.journal()).map_err(Arc::new);
            }
            if let Some(failure) = &state.failure {
                return Err(Arc::clone(failure));
            }
            state = self.shared.wait(state);
        }
    }

    /// Counts since the journal was shared.
    pub fn counts(&self) -> Counts {
        let state = self.shared.lock();
        let waiting = state.waiting.len();
        Counts {
            waiting,
            ..state.counts
        }
    }
}

impl fmt::Debug for GroupCommit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupCommit").finish_non_exhaustive()
    }
}

impl Ticket {
    /// Waits until the batch is durable. Blocks, and writes for others too.
    ///
    /// # Errors
    /// As [`GroupCommit::write`].
    pub fn wait(self) -> Outcome {
        let mut state = self.shared.lock();
        loop {
            if let Some(outcome) = self.outcome.get() {
                return outcome.clone();
            }
            state = self.shared.write_or_wait(state);
        }
    }

    /// The outcome, if it is known yet. Does not block.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome.get().cloned()
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("outcome", &self.outcome.get()).finish()
    }
}

impl Shared {
    /// A panic elsewhere leaves the state as it is: [`Turn`] sees to the journal.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is waiting, or waits for the thread that uses the journal.
    fn write_or_wait<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let Some(journal) = state.journal.take() else {
            return self.wait(state);
        };
        let (batches, outcomes) = state.take_together();
        drop(state);
        let mut turn = Turn::new(self, journal, outcomes);
        let (refusals, written) = turn.journal().write_each(batches);
        turn.finish(refusals, written);
        drop(turn);
        self.lock()
    }
}

impl State {
    fn is_full(&self, batch: &JournalBatch) -> bool {
        !self.waiting.is_empty() && self.waiting_bytes + batch.bytes() > MAX_WAITING_BYTES
    }

    fn push(&mut self, batch: JournalBatch, outcome: Arc<OnceLock<Outcome>>) {
        self.waiting_bytes += batch.bytes();
        self.waiting.push_back(Waiting { batch, outcome });
    }

    /// The first batches that are waiting, at least one, and as many as may be written together.
    fn take_together(&mut self) -> (Vec<JournalBatch>, Vec<Arc<OnceLock<Outcome>>>) {
        let mut bytes = 0;
        let fits = |waiting: &Waiting| {
            let is_first = bytes == 0;
            bytes += waiting.batch.bytes();
            is_first || bytes <= MAX_TOGETHER_BYTES
        };
        let count = self.waiting.iter().map(fits).take_while(|fits| *fits).count();
        let together = self.waiting.drain(..count);
        let (batches, outcomes): (Vec<_>, _) = together.map(|waiting| (waiting.batch, waiting.outcome)).unzip();
        self.waiting_bytes -= batches.iter().map(JournalBatch::bytes).sum::<u64>();
        (batches, outcomes)
    }

    /// Nothing is accepted any more, and all that waits is told.
    fn fail(&mut self, failure: &Arc<JournalError>) {
        let failure = self.failure.get_or_insert_with(|| Arc::clone(failure));
        for waiting in self.waiting.drain(..) {
            let _ = waiting.outcome.set(Err(Arc::clone(failure)));
        }
        self.waiting_bytes = 0;
    }
}

/// A thread's turn with the journal. However it ends, the others go on.
struct Turn<'a> {
    shared: &'a Shared,
    /// None once the turn is over.
    journal: Option<Journal>,
    /// Of the batches that are written in this turn.
    outcomes: Vec<Arc<OnceLock<Outcome>>>,
}

impl<'a> Turn<'a> {
    fn new(shared: &'a Shared, journal: Journal, outcomes: Vec<Arc<OnceLock<Outcome>>>) -> Turn<'a> {
        Turn {
            shared,
            journal: Some(journal),
            outcomes,
        }
    }

    fn journal(&mut self) -> &mut Journal {
        self.journal.as_mut().expect("a turn has the journal until it ends")
    }

    /// Reports the outcome of this turn to all whose batches it wrote.
    fn finish(&mut self, refusals: Vec<Option<JournalError>>, written: Result<(), JournalError>) {
        let written = written.map_err(Arc::new);
        let mut state = self.shared.lock();
        let mut batches = 0;
        for (outcome, refusal) in self.outcomes.drain(..).zip(refusals) {
            batches += u64::from(refusal.is_none());
            let _ = outcome.set(refusal.map_or_else(|| written.clone(), |refusal| Err(Arc::new(refusal))));
        }
        match written {
            Ok(()) if batches > 0 => {
                state.counts.batches += batches;
                state.counts.writes += 1;
            }
            Ok(()) => {}
            Err(failure) => state.fail(&failure),
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if thread::panicking() {
            // What it was at is unknown. The journal is closed, and can be opened again.
            let failure = Arc::new(JournalError::Poisoned);
            for outcome in self.outcomes.drain(..) {
                let _ = outcome.set(Err(Arc::clone(&failure)));
            }
            state.fail(&failure);
            drop(self.journal.take());
        } else {
            state.journal = self.journal.take();
        }
        drop(state);
        self.shared.changed.notify_all();
    }
}
