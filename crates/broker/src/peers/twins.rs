//! What to do about other processes that run under this broker's id, or under a peer's: how often to say so, and when to give
//! up.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use trimaran_transport::PeerId;
use trimaran_wire::peer as wire;

/// Between two lines in the log about a process that tries again and again.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// How long a peer may go on to be in contact with another process under this broker's id before this one gives up: far
/// longer than a peer believes in a process that is gone.
const OCCUPIED_FOR: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Twins {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    said_at: Option<Instant>,
    /// Peers that are in contact with another process, and since when that is known.
    occupied: BTreeMap<PeerId, Instant>,
}

impl Twins {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is time for another line in the log.
    pub(super) fn may_say(&self) -> bool {
        let mut state = self.state();
        let due = state.said_at.is_none_or(|at| at.elapsed() >= SAY_EVERY);
        if due {
            state.said_at = Some(Instant::now());
        }
        due
    }

    /// A peer has accepted this process.
    pub(super) fn accepted(&self, peer: PeerId) {
        self.state().occupied.remove(&peer);
    }

    /// Whether this process must stop, now that a peer has refused it.
    pub(super) fn is_final(&self, peer: PeerId, refused: &wire::Refused) -> bool {
        match refused {
            wire::Refused::Superseded(_) | wire::Refused::RolledBack(_) => true,
            wire::Refused::AnotherRuns(_) => {
                let mut state = self.state();
                let since = state.occupied.entry(peer).or_insert_with(Instant::now);
                since.elapsed() >= OCCUPIED_FOR
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_said_once_in_a_while() {
        let twins = Twins::default();
        assert!(twins.may_say());
        assert!(!twins.may_say());
    }

    #[test]
    fn a_process_that_is_behind_stops_at_once_and_one_that_is_not_alone_after_a_while() {
        let twins = Twins::default();
        let start = wire::Start::default();
        assert!(twins.is_final(PeerId(2), &wire::Refused::Superseded(start)));
        assert!(twins.is_final(PeerId(2), &wire::Refused::RolledBack(start)));
        assert!(!twins.is_final(PeerId(2), &wire::Refused::UnknownBroker));
        assert!(!twins.is_final(PeerId(2), &wire::Refused::AnotherRuns(start)));
        let long_ago = Instant::now()
            .checked_sub(OCCUPIED_FOR)
            .expect("the machine has been up for so long");
        twins.state().occupied.insert(PeerId(2), long_ago);
        assert!(twins.is_final(PeerId(2), &wire::Refused::AnotherRuns(start)));
        twins.accepted(PeerId(2));
        assert!(!twins.is_final(PeerId(2), &wire::Refused::AnotherRuns(start)));
    }
}
