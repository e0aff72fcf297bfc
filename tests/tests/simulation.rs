//! The standard seeds, and proof that the simulation can fail.

use trimaran_tests::checker::Law;
use trimaran_tests::sim::{self, Cause, Deceit, Options};

/// Runs the seeds of one test; a failure shows the last events and how to replay it.
#[track_caller]
fn hold(seeds: std::ops::RangeInclusive<u64>) {
    for seed in seeds {
        match sim::run(&Options::new(seed)) {
            Ok(report) => println!("seed {seed}: {report}"),
            Err(failure) => panic!("{failure}"),
        }
    }
}

// Several tests, so that they share the machine's cores.

#[test]
fn standard_seeds_one() {
    hold(1..=10);
}

#[test]
fn standard_seeds_two() {
    hold(11..=20);
}

#[test]
fn standard_seeds_three() {
    hold(21..=30);
}

#[test]
fn standard_seeds_four() {
    hold(31..=40);
}

#[test]
fn the_same_seed_is_the_same_run() {
    let run = || sim::run(&Options::new(7)).expect("seed 7 holds");
    let first = run();
    assert_eq!(first, run());
    let other = sim::run(&Options::new(8)).expect("seed 8 holds");
    assert_ne!(first.trace_hash, other.trace_hash);
}

/// Within so many seeds each kind of deceit must be noticed.
const SEEDS_TO_NOTICE: u64 = 30;

/// Runs seeds with a law broken on purpose until a checker (or an assertion of the code itself) notices.
#[track_caller]
fn noticed(deceit: Deceit) -> Cause {
    for seed in 1..=SEEDS_TO_NOTICE {
        let options = Options {
            deceit: Some(deceit),
            ..Options::new(seed)
        };
        if let Err(failure) = sim::run(&options) {
            println!("{deceit:?} is noticed with seed {seed}: {:?}", failure.cause);
            return failure.cause;
        }
    }
    panic!("{deceit:?} passed {SEEDS_TO_NOTICE} seeds");
}

#[track_caller]
fn breaks(cause: &Cause, laws: &[Law]) {
    match cause {
        Cause::Violation(violation) => assert!(laws.contains(&violation.law), "noticed as {violation}"),
        // The code's own assertions may be faster than the checkers.
        Cause::Panic(_) => {}
    }
}

const LOSS: [Law; 10] = [
    Law::CommittedStays,
    Law::CommittedIsHeld,
    Law::AcknowledgedIsHeld,
    Law::LeaderHasCommitted,
    Law::LogsMatch,
    Law::AcknowledgedStays,
    Law::ReadStays,
    Law::OneOffset,
    Law::OneLeaderATerm,
    Law::Converges,
];

#[test]
fn writes_acknowledged_early_are_noticed() {
    breaks(&noticed(Deceit::EarlyAcknowledgements), &LOSS);
}

#[test]
fn lying_disks_are_noticed() {
    breaks(&noticed(Deceit::LyingDisks), &LOSS);
}

#[test]
fn amnesia_is_noticed() {
    breaks(&noticed(Deceit::Amnesia), &LOSS);
}

#[test]
fn bought_votes_are_noticed() {
    breaks(&noticed(Deceit::BoughtVotes), &LOSS);
}

#[test]
fn inflated_matches_are_noticed() {
    breaks(&noticed(Deceit::InflatedMatches), &LOSS);
}
