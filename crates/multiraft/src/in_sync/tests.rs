use super::*;
use trimaran_raft::ProgressState;

const LAG: Duration = Duration::from_millis(100);

/// The view of leader 1 over followers 2 and 3.
struct Check {
    view: InSyncView,
    ends: Ends,
    followers: [(u64, Liveness); 2],
}

impl Check {
    fn new(commit: u64, last: u64) -> Check {
        let mut view = InSyncView::default();
        view.begin(NodeId(1), &[NodeId(1), NodeId(2), NodeId(3)]);
        let ends = Ends {
            commit: LogIndex(commit),
            last: LogIndex(last),
        };
        Check {
            view,
            ends,
            followers: [(0, Liveness::Alive); 2],
        }
    }

    #[track_caller]
    fn at(&mut self, ms: u64, expected: &[u64]) {
        let (followers, before) = (self.followers, self.view.replicas());
        let changed = self.view.update(Instant(ms * 1_000), LAG, self.ends, |node| {
            let (match_index, liveness) = *followers.get(usize::try_from(node.0).ok()?.checked_sub(2)?)?;
            Some(Progress {
                state: ProgressState::Replicate,
                match_index: LogIndex(match_index),
                next_index: LogIndex(match_index).next(),
                inflight_bytes: 0,
                snapshot_under_way: false,
                commit: LogIndex::ZERO,
                liveness,
                is_lost: false,
                is_retiring: false,
                is_caught_up: true,
            })
        });
        let expected: Vec<_> = expected.iter().map(|&node| NodeId(node)).collect();
        assert_eq!(self.view.replicas(), expected);
        assert_eq!(changed, before != expected);
        assert_eq!(self.view.count(), expected.len());
    }
}

#[test]
fn followers_join_when_they_hold_what_is_committed() {
    let mut check = Check::new(5, 7);
    check.at(0, &[1]);
    check.followers = [(4, Liveness::Alive), (5, Liveness::Alive)];
    check.at(1, &[1, 3]);
    check.followers[0].0 = 7;
    check.at(2, &[1, 2, 3]);
}

#[test]
fn the_dead_leave_at_once_and_the_suspected_in_time() {
    let mut check = Check::new(5, 5);
    check.followers = [(5, Liveness::Alive); 2];
    check.at(0, &[1, 2, 3]);
    check.followers = [(5, Liveness::Dead), (5, Liveness::Suspected)];
    check.at(1_000, &[1, 3]);
    assert_eq!(check.view.deadline(LAG), Some(Instant(1_100_000)));
    check.at(1_099, &[1, 3]);
    check.at(1_100, &[1]);
    check.followers = [(5, Liveness::Alive); 2];
    check.at(1_101, &[1, 2, 3]);
    assert_eq!(check.view.deadline(LAG), None);
}

#[test]
fn a_follower_that_keeps_reaching_where_the_log_was_stays() {
    let mut check = Check::new(1, 1);
    check.followers = [(1, Liveness::Alive); 2];
    check.at(0, &[1, 2, 3]);
    for step in 1..20 {
        // Never at the end, but each time where the end was 80 ms ago.
        check.ends = Ends {
            commit: LogIndex(step * 10),
            last: LogIndex(step * 10 + 9),
        };
        check.followers = [(step * 10, Liveness::Alive), (step * 10 + 9, Liveness::Alive)];
        check.at(step * 80, &[1, 2, 3]);
    }
    check.ends.last = LogIndex(1_000);
    check.at(19 * 80 + 99, &[1, 2, 3]);
    check.followers[1].0 = 1_000;
    check.at(20 * 80 + 99, &[1, 3]);
}
