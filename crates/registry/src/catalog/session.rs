//! What is remembered of each broker's requests, so that a retry is recognised (Raft dissertation, section 6.3).

use super::RequestId;
use crate::{Incarnation, limits};
use std::collections::BTreeSet;

/// The requests of one start of one broker.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Session {
    incarnation: Incarnation,
    /// Requests below this one are answered for good.
    settled: u64,
    /// Requests from `settled` on that have been applied.
    applied: BTreeSet<u64>,
}

/// Whether a request is to be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is new.
    New,
    /// It was applied before.
    Repeated,
    /// It is settled, or from an earlier start.
    Stale,
}

impl Session {
    pub(super) fn admits(&self, request: RequestId) -> Admission {
        if request.incarnation > self.incarnation {
            Admission::New
        } else if request.incarnation < self.incarnation || request.sequence < self.settled {
            Admission::Stale
        } else if self.applied.contains(&request.sequence) {
            Admission::Repeated
        } else {
            Admission::New
        }
    }

    /// Remembers an admitted request, and forgets those that the asker has settled. An asker has no more than
    /// [`limits::REQUESTS_PER_BROKER`] requests open, so the oldest of more are settled whether it says so or not.
    pub(super) fn record(&mut self, request: RequestId, settled: u64) {
        if request.incarnation > self.incarnation {
            *self = Session {
                incarnation: request.incarnation,
                ..Session::default()
            };
        }
        self.applied.insert(request.sequence);
        self.settled = self.settled.max(settled.min(request.sequence));
        while self.applied.len() > limits::REQUESTS_PER_BROKER {
            let Some(oldest) = self.applied.pop_first() else { break };
            self.settled = self.settled.max(oldest + 1);
        }
        self.applied = self.applied.split_off(&self.settled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BrokerId;

    fn request(incarnation: u64, sequence: u64) -> RequestId {
        RequestId {
            broker: BrokerId(1),
            incarnation: Incarnation(incarnation),
            sequence,
        }
    }

    #[test]
    fn a_retry_is_recognised_until_it_is_settled() {
        let mut session = Session::default();
        session.record(request(1, 1), 1);
        session.record(request(1, 3), 1);
        assert_eq!(session.admits(request(1, 1)), Admission::Repeated);
        assert_eq!(session.admits(request(1, 2)), Admission::New);
        session.record(request(1, 4), 3);
        assert_eq!(session.admits(request(1, 2)), Admission::Stale);
        assert_eq!(session.admits(request(1, 3)), Admission::Repeated);
        assert_eq!(session.applied.len(), 2);
    }

    #[test]
    fn a_later_start_makes_earlier_ones_stale() {
        let mut session = Session::default();
        session.record(request(1, 9), 9);
        assert_eq!(session.admits(request(2, 1)), Admission::New);
        session.record(request(2, 1), 1);
        assert_eq!(session.admits(request(1, 10)), Admission::Stale);
        assert_eq!(session.admits(request(2, 1)), Admission::Repeated);
    }

    #[test]
    fn it_never_grows_beyond_its_limit() {
        let mut session = Session::default();
        for sequence in 1..=10 * limits::REQUESTS_PER_BROKER as u64 {
            session.record(request(1, sequence), 0);
        }
        assert_eq!(session.applied.len(), limits::REQUESTS_PER_BROKER);
        assert_eq!(session.admits(request(1, 1)), Admission::Stale);
    }
}
