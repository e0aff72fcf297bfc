//! What each of the broker's threads is at: since when it has been busy with one thing, and what follows from that.
//!
//! | thread | a heartbeat is withheld when it is stalled | why |
//! |---|---|---|
//! | `journal` | yes | nothing is acknowledged without it |
//! | `shard-N` | yes | its groups neither append nor answer; the others' followers can't know |
//! | `files-N` | when all of them are | flushes, loads and openings wait; groups go on in memory and journal for a while |
//! | `cleanup` | no | it deletes what nobody needs any more |
//! | `control` | there is none then | it sends them |
//!
//! The rule itself is [`Watchdog`]'s, so that the simulation runs it too.

use crate::clock::Clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use trimaran_multiraft::{IntervalPlan, Watchdog, Worker};

/// Whether one thread is busy, and since when.
#[derive(Debug)]
pub(crate) struct Activity {
    name: String,
    worker: Worker,
    clock: Clock,
    /// In microseconds of the broker's clock; zero if it is idle.
    busy_since: AtomicU64,
}

impl Activity {
    fn new(name: String, worker: Worker, clock: Clock) -> Activity {
        Activity {
            name,
            worker,
            clock,
            busy_since: AtomicU64::new(0),
        }
    }

    /// The thread's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Of a thread that nobody watches.
    #[cfg(test)]
    pub(crate) fn unwatched() -> Arc<Activity> {
        Arc::new(Activity::new("test".to_owned(), Worker::Shard, Clock::start()))
    }

    /// Something waits for the thread, which sleeps. To be said under the lock under which it fell asleep: it wakes, begins and
    /// ends afterwards.
    pub(crate) fn called(&self) {
        if self.busy_since.load(Ordering::Relaxed) == 0 {
            self.begin();
        }
    }

    /// The thread begins with something.
    pub(crate) fn begin(&self) {
        self.busy_since.store(self.clock.now().0.max(1), Ordering::Relaxed);
    }

    /// It has done it, and waits for the next.
    pub(crate) fn end(&self) {
        self.busy_since.store(0, Ordering::Relaxed);
    }

    /// For how long it has been busy with one thing; zero if it is idle.
    pub(crate) fn busy_for(&self) -> Duration {
        match self.busy_since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_micros(self.clock.now().0.saturating_sub(since)),
        }
    }
}

/// All threads that are watched.
#[derive(Debug)]
pub(crate) struct Workers {
    /// The journal's.
    pub(crate) journal: Arc<Activity>,
    /// The shards', in order.
    pub(crate) shards: Vec<Arc<Activity>>,
    /// Those that may block on files.
    pub(crate) files: Vec<Arc<Activity>>,
    /// The one that deletes.
    pub(crate) cleanup: Arc<Activity>,
    /// The control thread's.
    pub(crate) control: Arc<Activity>,
    watchdog: Watchdog,
}

impl Workers {
    /// So many threads, all idle.
    pub(crate) fn new(plan: IntervalPlan, shards: usize, files: usize, clock: Clock) -> Workers {
        let one = |name: &str, worker| Arc::new(Activity::new(name.to_owned(), worker, clock));
        let many =
            |count: usize, name: &str, worker| (0..count).map(|at| one(&format!("{name}-{at}"), worker)).collect();
        Workers {
            journal: one("journal", Worker::Journal),
            shards: many(shards, "shard", Worker::Shard),
            files: many(files, "files", Worker::Files),
            cleanup: one("cleanup", Worker::Cleanup),
            control: one("control", Worker::Control),
            watchdog: Watchdog::new(plan),
        }
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Activity> {
        let single = [&self.journal, &self.cleanup, &self.control];
        let many = self.shards.iter().chain(&self.files);
        single.into_iter().chain(many).map(|activity| &**activity)
    }

    /// Whether what this broker leads can't be served, so that others had better lead it.
    pub(crate) fn withhold_heartbeats(&self) -> bool {
        self.watchdog
            .withholds(self.all().map(|activity| (activity.worker, activity.busy_for())))
    }

    /// A thread that keeps this broker from serving, and for how long it has done so; none if there is none.
    pub(crate) fn hindrance(&self) -> Option<(&str, Duration)> {
        let hinders = |activity: &&Activity| match activity.worker {
            Worker::Control => self.is_stalled(activity),
            Worker::Journal | Worker::Shard | Worker::Files => self.is_stalled(activity) && self.withhold_heartbeats(),
            Worker::Cleanup => false,
        };
        let worst = self.all().filter(hinders).max_by_key(|activity| activity.busy_for())?;
        Some((worst.name(), worst.busy_for()))
    }

    /// Whether a thread has been busy with one thing for longer than it may.
    pub(crate) fn is_stalled(&self, activity: &Activity) -> bool {
        activity.busy_for() > self.watchdog.patience(activity.worker)
    }
}

/// Between two looks at the threads, for the log.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What the log calls a stall: shorter ones are the metrics' business.
const WORTH_A_LINE: Duration = Duration::from_secs(1);

/// Logs stalls as they begin and end, until the task is dropped. Runs beside all the threads that it watches.
pub(crate) async fn log_stalls(workers: Arc<Workers>) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // How long each stalled thread had been so when it was looked at last.
    let mut stalls: Vec<Option<Duration>> = vec![None; workers.all().count()];
    loop {
        ticks.tick().await;
        for (activity, stall) in workers.all().zip(&mut stalls) {
            let busy = activity.busy_for();
            let thread = activity.name();
            if busy >= WORTH_A_LINE && workers.is_stalled(activity) {
                if stall.replace(busy).is_none() {
                    let withheld = workers.withhold_heartbeats();
                    tracing::error!(
                        thread,
                        ?busy,
                        heartbeats_withheld = withheld,
                        "thread stalled: a disk or a system call keeps it. While heartbeats are withheld, other brokers take the \
                         leaderships over. See \"A broker hangs\" in docs/operations.md"
                    );
                }
            } else if let Some(lasted) = stall.take() {
                tracing::info!(thread, ?lasted, "thread goes on");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn wait_for(what: &str, condition: impl Fn() -> bool) {
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while !condition() {
            assert!(std::time::Instant::now() < deadline, "{what}");
            std::thread::yield_now();
        }
    }

    fn workers() -> Workers {
        let plan = IntervalPlan::new(IntervalPlan::MIN_BUDGET).expect("in range");
        Workers::new(plan, 2, 2, Clock::start())
    }

    #[test]
    fn a_busy_shard_hinders_the_broker_until_it_is_done() {
        let workers = workers();
        assert!(!workers.withhold_heartbeats());
        assert_eq!(workers.hindrance(), None);
        workers.shards[1].begin();
        wait_for("the shard is stalled", || workers.withhold_heartbeats());
        assert_eq!(workers.hindrance().map(|(name, _)| name), Some("shard-1"));
        workers.shards[1].end();
        assert!(!workers.withhold_heartbeats());
        assert_eq!(workers.hindrance(), None);
    }

    #[test]
    fn a_control_thread_that_hangs_is_a_hindrance() {
        let workers = workers();
        workers.control.begin();
        wait_for("the control thread is stalled", || workers.hindrance().is_some());
        assert!(!workers.withhold_heartbeats(), "it sends none anyway");
    }

    #[test]
    fn every_thread_has_a_name() {
        let workers = workers();
        let names: Vec<&str> = workers.all().map(Activity::name).collect();
        assert_eq!(
            names,
            [
                "journal", "cleanup", "control", "shard-0", "shard-1", "files-0", "files-1"
            ]
        );
    }
}
