//! The threads that may block on files: flushes of committed entries to segments, loads of old ones for followers,
//! opening replicas' folders; and one that deletes them, since a file system may need many seconds for large files, and
//! nothing waits for that.

use crate::control::{ControlInput, ControlQueue, METADATA};
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
use trimaran_multiraft::{Damaged, GroupOptions, Input, Lives, Load, Loaded, Open};
use trimaran_raft::{GroupId, HardState, LogView, NodeId};
use trimaran_registry::starts::{Accepted, Announcement, Start};
use trimaran_registry::{BrokerId, Standing};
use trimaran_storage::fs::{Fs, RealFs};
use trimaran_storage::journal::RecoveredGroup;
use trimaran_storage::log::{FlushJob, LogError, LogOptions, ReplicaLog, delete_quarantine};

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
            FileJob::Delete(_) | FileJob::DeleteAside(_) => &self.deletions,
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
    DeleteAside(GroupId),
    /// Note a start of another broker that the catalog has told of.
    NoteStart(StartStore, BrokerId, Start),
    /// Judge a start that another broker has announced through a third one, and note it.
    JudgeStart(StartStore, BrokerId, Announcement),
}

/// A replica to be opened.
pub(crate) struct OpenJob {
    /// Its group.
    pub(crate) group: GroupId,
    /// The group's first members, the preferred leader first.
    pub(crate) founders: Vec<NodeId>,
    /// The brokers that should have a replica; empty if that is not known yet.
    pub(crate) wanted: Vec<NodeId>,
    /// Whether other brokers have replicas, which could fill this one.
    pub(crate) has_others: bool,
    /// As what.
    pub(crate) how: How,
    /// Sizes and limits of its log.
    pub(crate) log_options: LogOptions,
    /// The options that may differ from group to group.
    pub(crate) options: GroupOptions,
}

/// As what a replica is opened.
#[derive(Clone, Debug)]
pub(crate) enum How {
    /// With what the journal, and perhaps the folder, have of it.
    Found(Box<RecoveredGroup>),
    /// The disk has nothing of it.
    Nothing(Standing),
    /// It turned out to be damaged while it ran.
    Damaged,
}

/// The outcome of opening a replica.
#[derive(Debug)]
pub(crate) enum Opened {
    /// It is open.
    Sound,
    /// It is open, holds nothing, and is filled by the others.
    Lost,
    /// The same, since what it held is damaged.
    SetAside(LogError),
    /// It takes no part.
    Failed(LogError),
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

/// The folder of one replica, within the folder of all: the group's number, since topics' names can be used again.
pub(crate) fn group_folder(group: GroupId) -> String {
    format!("group-{}", group.0)
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
            FileJob::DeleteAside(group) => self.delete_aside(group),
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
        let (group, wanted) = (job.group, job.wanted.clone());
        let opened = match &job.how {
            How::Nothing(Standing::Founding) => self.open_or_set_aside(&job, &RecoveredGroup::default()),
            How::Found(recovered) => self.open_or_set_aside(&job, recovered),
            How::Nothing(Standing::Joining) => self.open_lost_unless_alone(&job),
            How::Damaged => self
                .open_lost(&job, HardState::default())
                .map(|open| (open, Opened::Lost)),
        };
        let (input, outcome) = match opened {
            Ok((open, outcome)) => {
                let open = open.wanting(wanted);
                // Of its members, only some are meant to vote.
                let open = if group == METADATA {
                    open.keeping_learners()
                } else {
                    open
                };
                (Input::Open(Box::new(open)), outcome)
            }
            // It takes no part, and must say so: this broker's heartbeats vouch for all of its replicas.
            Err(error) => {
                let damaged = Damaged {
                    group,
                    voters: job.founders,
                    recovered: match job.how {
                        How::Found(recovered) => *recovered,
                        How::Nothing(_) | How::Damaged => RecoveredGroup::default(),
                    },
                };
                (Input::Damaged(Box::new(damaged)), Opened::Failed(error))
            }
        };
        self.mailboxes.of(group).tell(input);
        self.control.push(ControlInput::Opened(group, outcome));
    }

    /// A damaged log is set aside, and its replica filled by the others, if there are any.
    fn open_or_set_aside(&self, job: &OpenJob, recovered: &RecoveredGroup) -> Result<(Open, Opened), LogError> {
        match self.open_found(job, recovered.clone()) {
            Err(error) if error.is_damage() && job.has_others => {
                let open = self.open_lost(job, recovered.hard_state)?;
                Ok((open, Opened::SetAside(error)))
            }
            outcome => outcome,
        }
    }

    /// A replica that the journal does not know is filled again by the others. Where there is nobody else, what lies in
    /// the folder is all there is of the partition: it stays where it is, and is not used.
    fn open_lost_unless_alone(&self, job: &OpenJob) -> Result<(Open, Opened), LogError> {
        if !job.has_others {
            self.open_found(job, RecoveredGroup::default())?;
        }
        let open = self.open_lost(job, HardState::default())?;
        Ok((open, Opened::Lost))
    }

    fn open_found(&self, job: &OpenJob, recovered: RecoveredGroup) -> Result<(Open, Opened), LogError> {
        let dir = self.partitions.join(group_folder(job.group));
        let hard_state = recovered.hard_state;
        let options = job.log_options.clone();
        let log = ReplicaLog::open(Arc::clone(&self.fs), &dir, job.group, options, recovered)?;
        // A flush that was done before a crash, and not heard of: without this the journal keeps its files for ever.
        self.journal
            .submit(JournalInput::Release(job.group, log.flushed_index()));
        // What it may have promised before it was lost, it holds again.
        let whole = hard_state.barred <= log.last_index();
        if whole && log.has_quarantine() {
            self.delete_aside(job.group);
        }
        let open = Open::new(job.founders.clone(), log, hard_state, job.options.clone())?;
        Ok((open, if whole { Opened::Sound } else { Opened::Lost }))
    }

    fn open_lost(&self, job: &OpenJob, known: HardState) -> Result<Open, LogError> {
        let dir = self.partitions.join(group_folder(job.group));
        let options = job.log_options.clone();
        let log = ReplicaLog::open_lost(Arc::clone(&self.fs), &dir, job.group, options)?;
        let life = self
            .lives
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next(known.life);
        Ok(Open::lost(job.founders.clone(), log, known, life, job.options.clone()))
    }

    /// The files that were set aside are not needed any more.
    fn delete_aside(&self, group: GroupId) {
        let dir = self.partitions.join(group_folder(group));
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
        let dir = self.partitions.join(group_folder(group));
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
        self.control.push(ControlInput::Deleted(group));
    }
}
