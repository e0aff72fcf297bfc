//! The one thread that writes the journal: it collects the batches of all shards, writes and syncs them together, and
//! tells each shard how far it is durable.

use crate::fatal::Fatal;
use crate::files::{FileJob, FileQueue};
use crate::metrics::Metrics;
use crate::queue::Queue;
use crate::shards::Mailboxes;
use crate::threads;
use crate::workers::Activity;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use trimaran_multiraft::Input;
use trimaran_raft::{GroupId, LogIndex};
use trimaran_storage::journal::{Journal, JournalBatch, JournalError};

/// What the journal's thread is told.
pub(crate) enum JournalInput {
    /// One step's writes of one shard; answered by [`Input::Persisted`].
    Batch {
        /// Which shard.
        shard: usize,
        /// The shard's number for it.
        sequence: u64,
        /// What to write.
        batch: JournalBatch,
    },
    /// A group's entries up to here are durable in its segments.
    Release(GroupId, LogIndex),
    /// A group was closed for good: once everything submitted before this is durable, its folder is deleted.
    Closed(GroupId),
}

/// The way to the journal's thread, and what is known of it without asking.
pub(crate) struct JournalQueue {
    queue: Queue<JournalInput>,
    /// Bytes submitted and not yet durable.
    backlog_bytes: AtomicU64,
    /// What the thread is at.
    activity: Arc<Activity>,
    /// The longest write since somebody asked, in microseconds.
    worst_write_micros: AtomicU64,
}

impl JournalQueue {
    /// An idle one.
    pub(crate) fn new(activity: Arc<Activity>) -> JournalQueue {
        JournalQueue {
            queue: Queue::watched(Arc::clone(&activity)),
            backlog_bytes: AtomicU64::new(0),
            activity,
            worst_write_micros: AtomicU64::new(0),
        }
    }

    /// Hands something to the journal's thread.
    pub(crate) fn submit(&self, input: JournalInput) {
        if let JournalInput::Batch { batch, .. } = &input {
            self.backlog_bytes.fetch_add(batch.bytes(), Ordering::Relaxed);
        }
        self.queue.push(input);
    }

    /// Bytes submitted and not yet durable.
    pub(crate) fn backlog_bytes(&self) -> u64 {
        self.backlog_bytes.load(Ordering::Relaxed)
    }

    /// For how long the disk has kept the thread waiting: what is to be durable, or recycled, is not yet. Zero if it is
    /// idle.
    pub(crate) fn stalled_for(&self) -> Duration {
        self.activity.busy_for()
    }

    /// How long the longest write took since this was last asked; none if nothing was written.
    pub(crate) fn take_worst_write(&self) -> Option<Duration> {
        match self.worst_write_micros.swap(0, Ordering::Relaxed) {
            0 => None,
            micros => Some(Duration::from_micros(micros)),
        }
    }

    /// What is there is still written; then the thread ends.
    pub(crate) fn close(&self) {
        self.queue.close();
    }
}

/// What the thread needs.
pub(crate) struct JournalThread {
    /// The journal, which this thread owns from now on.
    pub(crate) journal: Journal,
    /// Where its work comes from.
    pub(crate) queue: Arc<JournalQueue>,
    /// Who is told.
    pub(crate) mailboxes: Mailboxes,
    /// Told which folders can go.
    pub(crate) files: Arc<FileQueue>,
    /// Counters.
    pub(crate) metrics: Arc<Metrics>,
    /// Told when the disk fails.
    pub(crate) fatal: Arc<Fatal>,
    /// When it was last noted outside the journal how far it has come.
    pub(crate) noted_at: Instant,
}

/// Between two notes of how far the journal has come, while it is written to: an older copy is recognised from the last
/// one on. A note is one more small write with its sync, so seldom that it is not seen among the journal's own.
const NOTE_EVERY: Duration = Duration::from_secs(5);

/// Batches after which the journal is asked which groups hold its oldest files, when nothing was released meanwhile.
const LAGGARDS_EVERY: u32 = 64;

impl JournalThread {
    /// Starts the thread. It ends when the queue is closed, or when the disk fails.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(crate) fn spawn(self) -> std::io::Result<JoinHandle<()>> {
        let fatal = Arc::clone(&self.fatal);
        threads::spawn("journal", &fatal, move || self.run())
    }

    fn run(mut self) {
        let mut inputs = Vec::new();
        let mut persisted = vec![None; self.mailboxes.all().len()];
        let mut since_laggards = 0;
        while self.queue.queue.take(&mut inputs, None).is_ok() {
            self.queue.activity.begin();
            let turn = self.turn(&mut inputs, &mut persisted);
            self.queue.activity.end();
            if let Err(error) = turn {
                self.queue.close();
                self.fatal.fail(format!(
                    "the journal can't be written, so nothing can be acknowledged any longer: {error}. The broker stops; \
                     check the disk of its data folder, then start it again"
                ));
                return;
            }
            since_laggards += 1;
            if since_laggards >= LAGGARDS_EVERY {
                since_laggards = 0;
                self.flush_laggards();
            }
        }
        if let Err(error) = self.journal.close() {
            tracing::warn!(%error, "how far the journal has come can't be noted");
        }
    }

    /// Everything that was waiting: one write, then the answers.
    fn turn(&mut self, inputs: &mut Vec<JournalInput>, persisted: &mut [Option<u64>]) -> Result<(), JournalError> {
        let mut write = JournalBatch::default();
        let mut releases = Vec::new();
        let mut closed = Vec::new();
        let mut backlog = 0;
        for input in inputs.drain(..) {
            match input {
                JournalInput::Batch { shard, sequence, batch } => {
                    persisted[shard] = Some(sequence);
                    backlog += batch.bytes();
                    if write.is_empty() {
                        write = batch;
                    } else {
                        write.extend(batch);
                    }
                }
                JournalInput::Release(group, upto) => releases.push((group, upto)),
                JournalInput::Closed(group) => closed.push(group),
            }
        }
        // They are about what was there before: a group that starts over in this write must not be released afterwards.
        for (group, upto) in releases {
            self.journal.release(group, upto)?;
        }
        if !write.is_empty() {
            self.write(&write)?;
        }
        self.queue.backlog_bytes.fetch_sub(backlog, Ordering::Relaxed);
        for (shard, sequence) in persisted.iter_mut().enumerate() {
            if let Some(sequence) = sequence.take() {
                self.mailboxes.shard(shard).tell(Input::Persisted(sequence));
            }
        }
        for group in closed {
            self.files.push(FileJob::Delete(group));
        }
        // Once everybody has been answered. Without something to write there is nothing to note.
        if self.noted_at.elapsed() >= NOTE_EVERY {
            self.journal.note_progress()?;
            self.noted_at = Instant::now();
        }
        Ok(())
    }

    fn write(&mut self, batch: &JournalBatch) -> Result<(), JournalError> {
        let bytes = batch.bytes();
        let began = Instant::now();
        self.journal.write(batch)?;
        let took = began.elapsed();
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        self.queue.worst_write_micros.fetch_max(micros, Ordering::Relaxed);
        self.metrics.journal_written(bytes, took);
        Ok(())
    }

    fn flush_laggards(&self) {
        for group in self.journal.groups_to_flush() {
            self.mailboxes.of(group).tell(Input::FlushNow(group));
        }
    }
}
