//! The threads that may block on files: flushes of committed entries to segments, loads of old ones for followers,
//! opening replicas' folders; and one that deletes them, since a file system may need many seconds for large files, and
//! nothing waits for that.

use crate::control::{ControlInput, ControlQueue};
use crate::fatal::Fatal;
use crate::ids;
use crate::journal::{JournalInput, JournalQueue};
use crate::metrics::Metrics;
use crate::queue::Queue;
use crate::shards::Mailboxes;
use crate::starts::{self, NotAdmitted, StartStore};
use crate::threads;
use crate::workers::{Activity, Workers};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use trimaran_multiraft::{Input, Lives, Load, Loaded};
use trimaran_node::{self as node, OpenJob};
use trimaran_raft::GroupId;
use trimaran_registry::BrokerId;
use trimaran_registry::starts::{Accepted, Announcement, Start};
use trimaran_storage::fs::{Fs, RealFs};
use trimaran_storage::log::{FlushJob, delete_quarantine};

/// The disk. What is read wrong and then right does no harm, and is said: memory, a cable or a controller may be
/// failing.
pub(crate) fn disk(metrics: Arc<Metrics>) -> Arc<dyn Fs> {
    Arc::new(RealFs::telling(move |misread| {
        metrics.misreads.inc();
        tracing::warn!(
            file = %misread.path.display(), byte = misread.position, what = misread.what,
            "what was read was wrong, and right when it was read again: nothing is lost. If it happens again, check \
             the machine's memory and the disk's controller. See \"A disk is damaged\" in docs/operations.md"
        );
    }))
}

/// The way to the I/O threads.
pub(crate) struct FileQueue {
    work: Queue<FileJob>,
    deletions: Queue<FileJob>,
}

impl FileQueue {
    /// An empty one.
    pub(crate) fn new() -> FileQueue {
        FileQueue {
            work: Queue::new(),
            deletions: Queue::new(),
        }
    }

    /// Hands a job to a thread that does its kind.
    pub(crate) fn push(&self, job: FileJob) {
        let queue = match job {
            FileJob::Flush(_)
            | FileJob::Load(_)
            | FileJob::Open(_)
            | FileJob::NoteStart(..)
            | FileJob::JudgeStart(..) => &self.work,
            FileJob::Delete(_) | FileJob::DeleteQuarantine(_) => &self.deletions,
        };
        queue.push(job);
    }

    /// The jobs that are there are still done; then the threads end.
    pub(crate) fn close(&self) {
        self.work.close();
        self.deletions.close();
    }
}

/// A job of the I/O threads.
pub(crate) enum FileJob {
    /// Write committed entries to their segments.
    Flush(FlushJob),
    /// Read entries that are no longer in memory, for a follower.
    Load(Load),
    /// Open or create a replica's log.
    Open(Box<OpenJob>),
    /// Delete the folder of a group that is gone for good.
    Delete(GroupId),
    /// Delete what was damaged of a replica that is whole again.
    DeleteQuarantine(GroupId),
    /// Note a start of another broker that the catalog has told of.
    NoteStart(StartStore, BrokerId, Start),
    /// Judge a start that another broker has announced through a third one, and note it.
    JudgeStart(StartStore, BrokerId, Announcement),
}

/// Everything that the threads need.
#[derive(Clone)]
pub(crate) struct FileThreads {
    /// Where their work comes from.
    pub(crate) queue: Arc<FileQueue>,
    /// Numbers what this start loses.
    pub(crate) lives: Arc<Mutex<Lives>>,
    /// The file system.
    pub(crate) fs: Arc<dyn Fs>,
    /// The folder of the replicas' folders.
    pub(crate) partitions: PathBuf,
    /// The control thread, which is told the outcome.
    pub(crate) mailboxes: Mailboxes,
    /// Told what can be recycled.
    pub(crate) journal: Arc<JournalQueue>,
    /// Told which replicas are open.
    pub(crate) control: Arc<ControlQueue>,
    /// Counters.
    pub(crate) metrics: Arc<Metrics>,
    /// The threads, and what each is at.
    pub(crate) workers: Arc<Workers>,
    /// Told if a thread panics.
    pub(crate) fatal: Arc<Fatal>,
}

/// It is noted again when its broker connects, and it is not let in before.
fn note_start(store: &StartStore, broker: BrokerId, start: Start) {
    if let Err(error) = store.note(broker, start) {
        tracing::warn!(%broker, %error, "can't note the start of a broker in starts.toml of the data folder");
    }
}

/// Notes the start of a broker that is reached through a third one. Its messages are taken from then on; those that
/// were dropped before, it sends again.
fn judge_start(store: &StartStore, broker: BrokerId, announced: &Announcement) {
    let start = announced.start;
    match store.admit_relayed(broker, announced) {
        Ok(Accepted::OtherFolder(before)) => starts::say_other_folder(broker, "a third broker", start, before),
        Ok(Accepted::Again | Accepted::Later) => {}
        Err(NotAdmitted::Refused(refusal)) => tracing::warn!(
            broker = ids::broker_name(broker), %start, ?refusal,
            "takes nothing from a broker that it reaches through a third one: its start is refused, and it is told so \
             when the link to it works again"
        ),
        Err(NotAdmitted::Io(error)) => starts::say_not_noted(broker, &error),
    }
}

impl FileThreads {
    /// Starts the threads that [`Workers`] names. They end when the queue is closed and empty.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(crate) fn spawn(self) -> std::io::Result<Vec<JoinHandle<()>>> {
        let start = |activity: &Arc<Activity>, deletes: bool| {
            let (this, activity) = (self.clone(), Arc::clone(activity));
            let name = activity.name().to_owned();
            threads::spawn(&name, &self.fatal, move || {
                let queue = if deletes {
                    &this.queue.deletions
                } else {
                    &this.queue.work
                };
                while let Ok(job) = queue.pop() {
                    activity.begin();
                    this.run(job);
                    activity.end();
                }
            })
        };
        let files = self.workers.files.iter().map(|activity| start(activity, false));
        files.chain([start(&self.workers.cleanup, true)]).collect()
    }

    fn run(&self, job: FileJob) {
        match job {
            FileJob::Flush(job) => self.flush(job),
            FileJob::Load(load) => self.load(load),
            FileJob::Open(job) => self.open(*job),
            FileJob::Delete(group) => self.delete(group),
            FileJob::DeleteQuarantine(group) => self.delete_quarantine(group),
            FileJob::NoteStart(store, broker, start) => note_start(&store, broker, start),
            FileJob::JudgeStart(store, broker, announced) => judge_start(&store, broker, &announced),
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
            Err(error) => {
                self.metrics.flush_failures.inc();
                tracing::error!(%group, %error, "committed records can't be written to their segment");
            }
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
        let group = job.group();
        let opened = job.run(&self.fs, &self.partitions, |known| {
            self.lives.lock().unwrap_or_else(PoisonError::into_inner).next(known)
        });
        if let Some(flushed) = opened.flushed {
            self.journal.submit(JournalInput::Release(group, flushed));
        }
        self.control
            .push(ControlInput::Node(node::Input::Opened(Box::new(opened))));
    }

    /// Deletes the files that were quarantined, which are not needed any more.
    fn delete_quarantine(&self, group: GroupId) {
        let dir = node::folder(&self.partitions, group);
        match delete_quarantine(&*self.fs, &dir) {
            Ok(()) => tracing::info!(%group, "what was damaged of this replica is deleted"),
            Err(error) => tracing::warn!(
                %group, %error,
                "what was damaged of this replica, and is not needed any more, can't be deleted; it is tried again at \
                 the next start"
            ),
        }
    }

    fn delete(&self, group: GroupId) {
        let dir = node::folder(&self.partitions, group);
        let deleted = self
            .fs
            .remove_dir_all(&dir)
            .and_then(|()| self.fs.sync_dir(&self.partitions));
        match deleted {
            Ok(()) => tracing::info!(%group, "deleted the data of a partition that is kept here no more"),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(
                %group, %error, folder = %dir.display(),
                "the data of a partition that is kept here no more can't be deleted; it is tried again at the next \
                 start"
            ),
        }
        self.control.push(ControlInput::Node(node::Input::Deleted(group)));
    }
}
