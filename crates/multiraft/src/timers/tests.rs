use super::*;

fn ms(ms: u64) -> Instant {
    Instant(ms * 1_000)
}

/// Inserts timers at these milliseconds, steps through deadlines until none is left, and returns what fired when.
fn run(start: u64, at: &[u64]) -> Vec<(u64, u64)> {
    let mut wheel = TimerWheel::new(ms(start));
    for &at in at {
        wheel.insert(ms(at), at);
    }
    let mut fired = Vec::new();
    let mut due = Vec::new();
    while let Some(deadline) = wheel.deadline() {
        wheel.advance(deadline, &mut due);
        fired.extend(due.drain(..).map(|what| (deadline.0 / 1_000, what)));
    }
    fired
}

#[test]
fn fires_each_timer_at_its_millisecond() {
    let at = [1, 2, 63, 64, 65, 4_095, 4_096, 5_000, 262_144, 300_000, 40_000_000];
    let expected: Vec<_> = at.iter().map(|&at| (at, at)).collect();
    assert_eq!(run(0, &at), expected);
}

#[test]
fn fires_in_order_from_any_start() {
    let mut state = 7_u64;
    for _ in 0..200 {
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        let start = next() % 1_000_000;
        let mut at: Vec<u64> = (0..50).map(|_| start + 1 + next() % (1 << (next() % 24))).collect();
        let fired = run(start, &at);
        at.sort_unstable();
        assert_eq!(fired, at.iter().map(|&at| (at, at)).collect::<Vec<_>>());
    }
}

#[test]
fn a_timer_in_the_past_fires_at_once() {
    assert_eq!(run(100, &[3, 100]), [(100, 3), (100, 100)]);
}

#[test]
fn never_fires_early_within_a_millisecond() {
    let mut wheel = TimerWheel::new(Instant(0));
    wheel.insert(Instant(1_001), 'a');
    let mut due = Vec::new();
    wheel.advance(Instant(1_999), &mut due);
    assert!(due.is_empty());
    assert_eq!(wheel.deadline(), Some(Instant(2_000)));
    wheel.advance(Instant(2_000), &mut due);
    assert_eq!(due, ['a']);
}

#[test]
fn a_long_pause_fires_everything_once_in_order() {
    let mut wheel = TimerWheel::new(ms(0));
    for at in [70_000, 5, 700, 9_999_999] {
        wheel.insert(ms(at), at);
    }
    let mut due = Vec::new();
    wheel.advance(ms(100_000), &mut due);
    assert_eq!(due, [5, 700, 70_000]);
    wheel.insert(ms(100_001), 1);
    due.clear();
    wheel.advance(ms(100_001), &mut due);
    assert_eq!(due, [1]);
}

#[test]
fn the_end_of_the_clock_is_a_moment_too() {
    let mut wheel = TimerWheel::new(Instant(u64::MAX - 10_000_000));
    wheel.insert(Instant(u64::MAX), 'x');
    let mut due = Vec::new();
    wheel.advance(Instant(u64::MAX - 5_000_000), &mut due);
    assert!(due.is_empty());
    assert!(wheel.deadline().is_some());
}

#[test]
fn ten_thousand_distant_timers_cost_nothing_to_pass_by() {
    let mut wheel = TimerWheel::new(ms(0));
    for n in 0..10_000_u64 {
        wheel.insert(ms(1_000_000 + n), n);
    }
    wheel.insert(ms(10), 0);
    let mut due = Vec::new();
    wheel.advance(ms(10), &mut due);
    assert_eq!(due, [0]);
    assert!(wheel.deadline().expect("armed") > ms(500_000));
}

#[test]
fn a_distant_deadline_is_armed_once_however_often_a_nearer_one_comes_and_goes() {
    let mut armed = Armed::default();
    let at = |ms: u64| Instant(ms * 1_000);
    assert!(armed.needs(at(60_000)), "a flush");
    for ms in (0..1_000).step_by(100) {
        assert!(armed.needs(at(ms + 50)), "a retransmission");
        assert!(!armed.needs(at(60_000)) && !armed.needs(at(ms + 50)) && !armed.needs(at(ms + 70)));
        assert!(!armed.is_called(at(ms + 40)), "not for this");
        assert!(armed.is_called(at(ms + 50)));
        assert!(!armed.needs(at(60_000)), "still armed");
    }
    assert!(armed.needs(at(30_000)), "sooner");
    assert!(armed.is_called(at(61_000)), "both at once");
    assert!(!armed.is_called(at(61_000)));
    assert!(armed.needs(at(60_000)), "once more");
}
