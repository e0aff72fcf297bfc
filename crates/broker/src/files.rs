//! The threads that may block on files: flushes of committed entries to segments, loads of old ones for followers,
//! opening and deleting replicas' folders.

use crate::control::{ControlInput, ControlQueue};
use crate::fatal::Fatal;
use crate::journal::{JournalInput, JournalQueue};
use crate::metrics::Metrics;
use crate::queue::Queue;
use crate::shards::Mailboxes;
use crate::threads;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use trimaran_multiraft::{Damaged, GroupOptions, Input, Load, Loaded, Open};
use trimaran_raft::{GroupId, NodeId};
use trimaran_storage::fs::Fs;
use trimaran_storage::journal::RecoveredGroup;
use trimaran_storage::log::{FlushJob, LogError, LogOptions, ReplicaLog};

/// The way to the I/O threads.
pub(crate) type FileQueue = Queue<FileJob>;

/// What the I/O threads do.
pub(crate) enum FileJob {
    /// Write committed entries to their segments.
    Flush(FlushJob),
    /// Read entries that are no longer in memory, for a follower.
    Load(Load),
    /// Open or create a replica's log.
    Open(Box<OpenJob>),
    /// Delete the folder of a group that is gone for good.
    Delete(GroupId),
}

/// A replica to be opened.
pub(crate) struct OpenJob {
    /// Its group.
    pub(crate) group: GroupId,
    /// All replicas, the preferred leader first.
    pub(crate) voters: Vec<NodeId>,
    /// Sizes and limits of its log.
    pub(crate) log_options: LogOptions,
    /// What may differ from group to group.
    pub(crate) options: GroupOptions,
    /// What the journal had of it.
    pub(crate) recovered: RecoveredGroup,
}

/// What the threads need.
#[derive(Clone)]
pub(crate) struct FileThreads {
    /// Where their work comes from.
    pub(crate) queue: Arc<FileQueue>,
    /// The file system.
    pub(crate) fs: Arc<dyn Fs>,
    /// The folder of the replicas' folders.
    pub(crate) partitions: PathBuf,
    /// Who is told.
    pub(crate) mailboxes: Mailboxes,
    /// Told what can be recycled.
    pub(crate) journal: Arc<JournalQueue>,
    /// Told which replicas are open.
    pub(crate) control: Arc<ControlQueue>,
    /// Counters.
    pub(crate) metrics: Arc<Metrics>,
    /// Told if a thread panics.
    pub(crate) fatal: Arc<Fatal>,
}

/// The folder of one replica, within the folder of all: the group's number, since topics' names can be used again.
pub(crate) fn group_folder(group: GroupId) -> String {
    format!("group-{}", group.0)
}

impl FileThreads {
    /// Starts `count` threads. They end when the queue is closed and empty.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(crate) fn spawn(self, count: usize) -> std::io::Result<Vec<JoinHandle<()>>> {
        (0..count)
            .map(|at| {
                let this = self.clone();
                let fatal = Arc::clone(&self.fatal);
                threads::spawn(&format!("files-{at}"), &fatal, move || this.run())
            })
            .collect()
    }

    fn run(self) {
        while let Ok(job) = self.queue.pop() {
            match job {
                FileJob::Flush(job) => self.flush(job),
                FileJob::Load(load) => self.load(load),
                FileJob::Open(job) => self.open(*job),
                FileJob::Delete(group) => self.delete(group),
            }
        }
    }

    fn flush(&self, job: FlushJob) {
        let group = job.group();
        let bytes = job.bytes();
        let result = job.run();
        match &result {
            Ok(flushed) => {
                self.journal.submit(JournalInput::Release(group, flushed.upto));
                self.metrics.flushed(bytes);
            }
            Err(error) => tracing::error!(%group, %error, "committed records can't be written to their segment"),
        }
        self.mailboxes.of(group).tell(Input::Flushed(group, result));
    }

    fn load(&self, load: Load) {
        let Load { group, job, plan } = load;
        let entries = job.run();
        if let Err(error) = &entries {
            tracing::error!(%group, %error, "records for a follower can't be read");
        }
        self.mailboxes
            .of(group)
            .tell(Input::Loaded(Loaded { group, plan, entries }));
    }

    fn open(&self, job: OpenJob) {
        let group = job.group;
        let (voters, recovered) = (job.voters.clone(), job.recovered.clone());
        let opened = self.try_open(job);
        let (input, outcome) = match opened {
            Ok(open) => (Input::Open(Box::new(open)), Ok(())),
            // It takes no part, and must say so: this broker's heartbeats vouch for all of its replicas.
            Err(error) => {
                let damaged = Damaged {
                    group,
                    voters,
                    recovered,
                };
                (Input::Damaged(Box::new(damaged)), Err(error))
            }
        };
        self.mailboxes.of(group).tell(input);
        self.control.push(ControlInput::Opened(group, outcome));
    }

    fn try_open(&self, job: OpenJob) -> Result<Open, LogError> {
        let dir = self.partitions.join(group_folder(job.group));
        let hard_state = job.recovered.hard_state;
        let log = ReplicaLog::open(Arc::clone(&self.fs), &dir, job.group, job.log_options, job.recovered)?;
        // A flush that was done before a crash, and not heard of: without this the journal keeps its files for ever.
        self.journal
            .submit(JournalInput::Release(job.group, log.flushed_index()));
        Open::new(job.voters, log, hard_state, job.options)
    }

    fn delete(&self, group: GroupId) {
        let dir = self.partitions.join(group_folder(group));
        let deleted = self
            .fs
            .remove_dir_all(&dir)
            .and_then(|()| self.fs.sync_dir(&self.partitions));
        match deleted {
            Ok(()) => tracing::info!(%group, "deleted the data of a deleted partition"),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(
                %group, %error, folder = %dir.display(),
                "the data of a deleted partition can't be deleted; it is tried again at the next start"
            ),
        }
    }
}
