//! When it is worth saying that a peer can't be reached.

use std::time::Duration;
use tokio::time::Instant;

/// Attempts that fail for less than that are a restart, or a cluster that is being started.
pub(crate) const FIRST: Duration = Duration::from_secs(3);

/// The longest pause between two reports of the same.
const LONGEST: Duration = Duration::from_secs(600);

/// A row of failed attempts.
#[derive(Debug, Default)]
pub(crate) struct Failing {
    row: Option<Row>,
}

#[derive(Debug)]
struct Row {
    began: Instant,
    reason: String,
    /// The next report of the same reason.
    report_at: Instant,
    /// The next report of another one.
    change_at: Instant,
    pause: Duration,
}

impl Failing {
    /// Another attempt failed. Says for how long they have, if that is worth a report.
    pub(crate) fn failed(&mut self, now: Instant, reason: &str) -> Option<Duration> {
        let row = self.row.get_or_insert_with(|| Row {
            began: now,
            reason: reason.to_owned(),
            report_at: now + FIRST,
            change_at: now + FIRST,
            pause: FIRST,
        });
        let since = now.saturating_duration_since(row.began);
        if row.reason != reason {
            reason.clone_into(&mut row.reason);
            row.pause = FIRST;
            row.report_at = row.report_at.min(row.change_at);
        }
        if now < row.report_at {
            return None;
        }
        row.pause = (row.pause * 2).min(LONGEST);
        row.report_at = now + row.pause;
        row.change_at = now + FIRST;
        Some(since)
    }

    /// An attempt succeeded, or the address is another one.
    pub(crate) fn end(&mut self) {
        self.row = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seconds after which one of the attempts, one a second, is reported.
    fn reports(reasons: &[&str]) -> Vec<u64> {
        let start = Instant::now();
        let mut failing = Failing::default();
        let attempts = (0..).zip(reasons);
        let report = |(second, reason): (u64, &&str)| failing.failed(start + Duration::from_secs(second), reason);
        attempts.filter_map(report).map(|since| since.as_secs()).collect()
    }

    #[test]
    fn what_lasts_is_said_more_and_more_rarely() {
        assert_eq!(reports(&["refused"; 3]), [0_u64; 0]);
        assert_eq!(reports(&["refused"; 50]), [3, 9, 21, 45]);
    }

    #[test]
    fn another_reason_is_said_at_once() {
        let mut reasons = vec!["no such host"; 30];
        reasons.extend(["refused"; 3]);
        assert_eq!(reports(&reasons), [3, 9, 21, 30]);
    }

    #[test]
    fn reasons_that_alternate_are_no_flood() {
        let reasons: Vec<&str> = ["refused", "closed"].into_iter().cycle().take(12).collect();
        assert_eq!(reports(&reasons), [3, 6, 9]);
    }

    #[test]
    fn a_connection_ends_the_row() {
        let start = Instant::now();
        let mut failing = Failing::default();
        assert_eq!(failing.failed(start, "refused"), None);
        failing.end();
        assert_eq!(failing.failed(start + FIRST, "refused"), None);
        assert_eq!(failing.failed(start + FIRST * 2, "refused"), Some(FIRST));
    }
}
