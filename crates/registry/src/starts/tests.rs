use super::*;

const SECOND: u64 = 1_000_000;

fn start(folder: u8, incarnation: u64) -> Start {
    Start {
        folder: FolderId([folder; 16]),
        incarnation: Incarnation(incarnation),
    }
}

fn announced(folder: u8, incarnation: u64, previous: u64) -> Announcement {
    Announcement {
        start: start(folder, incarnation),
        previous: Incarnation(previous),
    }
}

fn inquiry(others: &[i32], last: Start, wall_clock_ms: u64) -> Inquiry {
    let config = InquiryConfig {
        broker: BrokerId(1),
        others: others.iter().copied().map(BrokerId).collect(),
        last,
        known: last.incarnation,
        patience: PATIENCE,
        grace: GRACE,
        wall_clock_ms,
    };
    Inquiry::new(config, Instant(0))
}

fn seen(start: Start) -> Account {
    Account {
        seen: Some(start),
        alive: None,
    }
}

fn sound(incarnation: u64) -> Option<Outcome> {
    Some(Outcome::Begin {
        incarnation: Incarnation(incarnation),
        lost: None,
    })
}

#[test]
fn a_lone_broker_starts_at_once() {
    assert_eq!(inquiry(&[], start(7, 5), 100).outcome(Instant(0)), sound(100));
    assert_eq!(inquiry(&[], start(7, 500), 100).outcome(Instant(0)), sound(501));
}

#[test]
fn a_broker_starts_when_all_have_answered_or_a_majority_and_a_moment_more() {
    let mut all = inquiry(&[2, 3], start(7, 5), 100);
    assert_eq!(all.outcome(Instant(1)), None);
    all.answered(Instant(2), BrokerId(2), seen(start(7, 5)));
    assert_eq!(all.waits_for(), [BrokerId(3)]);
    assert_eq!(all.outcome(Instant(3)), None);
    let mut one = all.clone();
    all.answered(Instant(4), BrokerId(3), Account::default());
    assert_eq!(all.outcome(Instant(4)), sound(100));
    let later = Instant(2) + GRACE;
    assert_eq!(one.outcome(Instant(later.0 - 1)), None);
    assert_eq!(one.outcome(later), sound(100));
    one.answered(later, BrokerId(9), seen(start(7, 900)));
    assert_eq!(one.outcome(later), sound(100), "a stranger's word does not count");
}

#[test]
fn a_broker_that_reaches_nobody_starts_after_a_while() {
    let alone = inquiry(&[2, 3], start(7, 5), 100);
    assert_eq!(alone.outcome(Instant(2 * SECOND)), None);
    assert_eq!(alone.outcome(Instant(0) + PATIENCE), sound(100));
}

#[test]
fn a_folder_that_is_behind_is_lost_whatever_its_name() {
    for later in [start(7, 6), start(8, 6)] {
        let mut asked = inquiry(&[2, 3], start(7, 5), 100);
        asked.answered(Instant(0), BrokerId(2), Account::default());
        asked.answered(Instant(0), BrokerId(3), seen(later));
        let outcome = Outcome::Begin {
            incarnation: Incarnation(100),
            lost: Some((BrokerId(3), later)),
        };
        assert_eq!(asked.outcome(Instant(0)), Some(outcome));
    }
}

#[test]
fn a_folder_that_was_told_of_a_later_start_is_lost_although_nobody_answers() {
    let mut config = inquiry(&[], start(7, 5), 100).config;
    config.known = Incarnation(6);
    let outcome = Inquiry::new(config, Instant(0)).outcome(Instant(0));
    assert!(
        matches!(
            outcome,
            Some(Outcome::Begin {
                lost: Some((BrokerId(1), _)),
                ..
            })
        ),
        "{outcome:?}"
    );
}

#[test]
fn a_new_folder_is_later_than_its_predecessor_though_the_clock_is_behind() {
    let mut asked = inquiry(&[2], start(8, 0), 100);
    asked.answered(Instant(0), BrokerId(2), seen(start(7, 900)));
    assert_eq!(asked.outcome(Instant(0)), sound(901));
}

#[test]
fn whoever_has_not_answered_is_asked_again_but_not_without_a_pause() {
    let mut asked = inquiry(&[2, 3], start(7, 5), 100);
    assert_eq!(asked.ask(Instant(0)), [BrokerId(2), BrokerId(3)]);
    assert!(asked.ask(Instant(1)).is_empty());
    asked.answered(Instant(2), BrokerId(3), Account::default());
    assert_eq!(asked.ask(Instant(0) + ASK_EVERY), [BrokerId(2)]);
}

#[test]
fn a_second_process_gives_up_and_a_successor_waits_until_the_first_is_gone() {
    let alive = Account {
        seen: Some(start(7, 5)),
        alive: Some(start(7, 5)),
    };
    let mut second = inquiry(&[2], start(8, 0), 100);
    second.answered(Instant(0), BrokerId(2), alive);
    assert_eq!(second.outcome(Instant(4 * SECOND)), None);
    let mut successor = second.clone();
    let occupied = Outcome::Occupied(BrokerId(2), start(7, 5));
    assert_eq!(second.outcome(Instant(5 * SECOND)), Some(occupied));
    assert_eq!(successor.ask(Instant(SECOND)), [BrokerId(2)]);
    successor.answered(Instant(SECOND), BrokerId(2), seen(start(7, 5)));
    assert_eq!(successor.outcome(Instant(SECOND)), sound(100));
    // What listens at the own address is no peer, but a process all the same.
    let mut twin = inquiry(&[2], start(8, 0), 100);
    twin.answered(Instant(0), BrokerId(1), alive);
    twin.answered(Instant(0), BrokerId(2), Account::default());
    assert_eq!(twin.outcome(Instant(SECOND)), None);
}

#[test]
fn a_peer_takes_nothing_from_a_start_that_is_behind_what_it_has_seen() {
    let broker = BrokerId(2);
    let mut starts = Starts::default();
    let judge = |starts: &Starts, announced: Announcement| starts.judge(broker, &announced, None);
    assert_eq!(judge(&starts, announced(7, 5, 3)), Ok(Accepted::Later));
    assert!(starts.note(broker, start(7, 5)));
    assert_eq!(judge(&starts, announced(7, 5, 3)), Ok(Accepted::Again));
    assert_eq!(judge(&starts, announced(7, 6, 5)), Ok(Accepted::Later));
    assert_eq!(
        judge(&starts, announced(7, 9, 8)),
        Ok(Accepted::Later),
        "it has missed some"
    );
    assert_eq!(
        judge(&starts, announced(7, 6, 4)),
        Err(Refusal::RolledBack(start(7, 5)))
    );
    assert_eq!(
        judge(&starts, announced(6, 6, 4)),
        Err(Refusal::RolledBack(start(7, 5)))
    );
    assert_eq!(
        judge(&starts, announced(8, 6, 0)),
        Ok(Accepted::OtherFolder(start(7, 5)))
    );
    assert_eq!(
        judge(&starts, announced(7, 4, 3)),
        Err(Refusal::Superseded(start(7, 5)))
    );
    assert_eq!(
        judge(&starts, announced(8, 5, 0)),
        Err(Refusal::Superseded(start(7, 5)))
    );
    assert!(!starts.note(broker, start(8, 5)));
    assert_eq!(starts.latest(broker), Some(start(7, 5)));
}

#[test]
fn the_process_that_is_alive_wins_over_a_newcomer_with_another_folder() {
    let broker = BrokerId(2);
    let starts = Starts::recovered([(broker, start(7, 5))]);
    let alive = Some(start(7, 5));
    let newcomer = starts.judge(broker, &announced(8, 6, 0), alive);
    assert_eq!(newcomer, Err(Refusal::AnotherRuns(start(7, 5))));
    // The folder's lock is proof that the process before is gone.
    assert_eq!(starts.judge(broker, &announced(7, 6, 5), alive), Ok(Accepted::Later));
}
