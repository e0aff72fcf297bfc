use super::*;
use trimaran_raft::{LogIndex, NodeId, Term};

fn read(group: u64, bytes: u64) -> Parked {
    Parked {
        group: GroupId(group),
        bytes,
        plan: AppendPlan {
            to: NodeId(2),
            term: Term(1),
            prev_index: LogIndex(0),
            prev_term: Term(0),
            first: LogIndex(1),
            last: LogIndex(1),
            commit: LogIndex(1),
            replicated_index: LogIndex(0),
        },
    }
}

fn at(ms: u64) -> Instant {
    Instant(ms * 1_000)
}

#[test]
fn without_a_limit_nobody_waits() {
    let mut throttle = Throttle::new(None, at(0));
    assert!((0..1_000).all(|group| throttle.admit(at(0), read(group, u64::MAX))));
    assert_eq!(throttle.arm(), None);
}

#[test]
fn in_the_long_run_reads_take_no_more_than_the_rate() {
    let mut throttle = Throttle::new(Some(1_000_000), at(0));
    let (mut begun, mut now) = (0, at(0));
    for group in 0..1_000 {
        begun += u64::from(throttle.admit(now, read(group, 10_000)));
    }
    assert_eq!(begun, 25, "a quarter of a second's worth");
    while let Some(call) = throttle.arm() {
        assert!(call > now, "no busy loop");
        now = call;
        throttle.called(now);
        while let Some(next) = throttle.next(now) {
            assert_eq!(next.group, GroupId(begun), "in the order in which they came");
            throttle.take(next.bytes);
            begun += 1;
        }
    }
    assert_eq!(begun, 1_000);
    let expected = Duration::from_millis(9_750);
    let took = now.since(at(0));
    assert!(
        took >= expected - Duration::from_millis(20) && took <= expected,
        "{took:?}"
    );
}

#[test]
fn a_read_larger_than_the_bucket_has_its_turn_and_the_next_one_waits_for_it() {
    let mut throttle = Throttle::new(Some(1_000), at(0));
    assert!(throttle.admit(at(0), read(1, 5_000)));
    assert!(!throttle.admit(at(0), read(2, 1)));
    assert_eq!(throttle.next(at(4_750)).map(|next| next.group), None);
    assert_eq!(throttle.next(at(4_752)).map(|next| next.group), Some(GroupId(2)));
}

#[test]
fn an_idle_bucket_does_not_overflow() {
    let mut throttle = Throttle::new(Some(1_000), at(0));
    let begun = (0..1_000)
        .filter(|group| throttle.admit(at(3_600_000), read(*group, 10)))
        .count();
    assert_eq!(begun, 25);
}
