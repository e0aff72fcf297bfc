//! Which threads a broker's groups depend on, and how long each may be busy with one thing before the broker's
//! heartbeats stop vouching for its groups.
//!
//! A heartbeat says "whatever I lead, I serve". A thread that hangs in a system call (a bad sector, a network disk, a
//! stalled controller) makes that untrue while everything else in the process goes on. So heartbeats are withheld, and
//! the others take the leaderships over, exactly as if the process hung.

use crate::IntervalPlan;
use crate::sabotage::Sabotage;
use core::time::Duration;

/// The least that every file thread must be stuck for: a slow disk may need seconds for one large flush.
const LEAST_FOR_FILES: Duration = Duration::from_secs(5);

/// Budgets that file threads may be stuck for.
const BUDGETS_FOR_FILES: u32 = 20;

/// A kind of thread of a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Worker {
    /// Writes the journal. Nothing is acknowledged without it.
    Journal,
    /// Drives some of the groups. Those neither append, nor answer, nor hear of elections without it.
    Shard,
    /// Flushes, loads and opens logs, beside others of its kind. Groups go on in memory and in the journal for a while,
    /// until neither has room left; as long as one of these threads is free, it does what waits.
    Files,
    /// Deletes what nobody needs any more. Nothing waits for it.
    Cleanup,
    /// Sends the heartbeats. If it hangs, there are none anyway.
    Control,
}

/// Decides whether heartbeats are withheld. One a broker.
#[derive(Clone, Copy, Debug)]
pub struct Watchdog {
    plan: IntervalPlan,
    #[cfg(feature = "sabotage")]
    sabotage: Option<Sabotage>,
}

impl Watchdog {
    /// With the patience that follows from the budget.
    pub fn new(plan: IntervalPlan) -> Watchdog {
        Watchdog {
            plan,
            #[cfg(feature = "sabotage")]
            sabotage: None,
        }
    }

    /// How long a thread may be busy with one thing before it counts as stalled.
    pub fn patience(&self, worker: Worker) -> Duration {
        match worker {
            // As long as the others wait for a broker that says nothing: for clients it is the same.
            Worker::Journal | Worker::Shard | Worker::Control => self.plan.suspicion_timeout,
            Worker::Files | Worker::Cleanup => LEAST_FOR_FILES.max(self.plan.budget * BUDGETS_FOR_FILES),
        }
    }

    /// Whether heartbeats are to be withheld, from what each thread is at and for how long it has been busy with it
    /// (zero: it is idle): one journal or shard thread that is stalled is enough, of the file threads it takes all.
    pub fn withholds(&self, workers: impl IntoIterator<Item = (Worker, Duration)>) -> bool {
        let (mut files, mut free_files) = (0, 0);
        let mut withholds = false;
        for (worker, busy) in workers {
            let is_stalled = busy > self.patience(worker);
            match worker {
                Worker::Journal => withholds |= is_stalled,
                Worker::Shard => withholds |= is_stalled && !self.is(Sabotage::WatchJournalOnly),
                Worker::Files => {
                    files += 1;
                    free_files += usize::from(!is_stalled);
                }
                Worker::Cleanup | Worker::Control => {}
            }
        }
        withholds || (files > 0 && free_files == 0 && !self.is(Sabotage::WatchJournalOnly))
    }

    #[cfg(not(feature = "sabotage"))]
    const fn is(&self, _: Sabotage) -> bool {
        false
    }

    #[cfg(feature = "sabotage")]
    fn is(&self, how: Sabotage) -> bool {
        self.sabotage == Some(how)
    }

    /// From now on it is broken in that way: for tests of tests.
    #[cfg(feature = "sabotage")]
    pub fn sabotage(&mut self, how: Sabotage) {
        self.sabotage = Some(how);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::ZERO;

    fn watchdog(budget_ms: u64) -> Watchdog {
        Watchdog::new(IntervalPlan::new(Duration::from_millis(budget_ms)).expect("in range"))
    }

    #[track_caller]
    fn check(workers: &[(Worker, Duration)], expected: bool) {
        assert_eq!(
            watchdog(250).withholds(workers.iter().copied()),
            expected,
            "{workers:?}"
        );
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_stalled_journal_or_shard_is_enough() {
        check(&[], false);
        check(&[(Worker::Journal, IDLE), (Worker::Shard, ms(100))], false);
        check(&[(Worker::Journal, ms(101)), (Worker::Shard, IDLE)], true);
        check(
            &[(Worker::Journal, IDLE), (Worker::Shard, IDLE), (Worker::Shard, ms(101))],
            true,
        );
    }

    #[test]
    fn one_file_thread_that_is_free_does_what_waits() {
        check(&[(Worker::Files, ms(60_000)), (Worker::Files, IDLE)], false);
        check(&[(Worker::Files, ms(60_000)), (Worker::Files, ms(4_000))], false);
        check(&[(Worker::Files, ms(60_000)), (Worker::Files, ms(5_001))], true);
    }

    #[test]
    fn nothing_waits_for_a_deletion() {
        check(&[(Worker::Cleanup, ms(60_000)), (Worker::Files, IDLE)], false);
    }

    #[test]
    fn patience_follows_from_the_budget() {
        assert_eq!(watchdog(250).patience(Worker::Shard), ms(100));
        assert_eq!(watchdog(1_000).patience(Worker::Journal), ms(400));
        assert_eq!(watchdog(1_000).patience(Worker::Files), ms(20_000));
    }
}
