//! Random clients, failovers at any write, and checks that know nothing of how a coordinator works.
//!
//! A seed is a run: clients join, commit, leave, crash and are started again as their own twins; writes are committed late,
//! or die with their leader, or are committed without its knowledge. What must hold is in `checks`, and in `world`: leader
//! and followers have the same state after each write, no member notices a failover, and without disturbances every client
//! has its share in the end.

mod checks;
mod client;
mod world;

use trimaran_coordinator::Coordinator;
use world::World;

/// Runs a seed, with a built-in bug or without.
fn run(seed: u64, prepare: impl Fn(&mut Coordinator)) -> Result<(), String> {
    World::new(seed, &prepare).run()
}

#[test]
fn groups_go_on_whatever_happens() {
    for seed in 1..=150 {
        if let Err(violation) = run(seed, |_| {}) {
            panic!("seed {seed}: {violation}");
        }
    }
}

/// Each bug is noticed within so many seeds, several times what it takes today.
#[cfg(feature = "sabotage")]
#[test]
fn every_built_in_bug_is_found() {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    const SEEDS: u64 = 300;
    for how in trimaran_coordinator::Sabotage::ALL {
        let found = (1..=SEEDS).find_map(|seed| {
            let outcome = catch_unwind(AssertUnwindSafe(|| run(seed, |replica| replica.break_with(*how))));
            match outcome {
                Ok(Ok(())) => None,
                Ok(Err(violation)) => Some((seed, violation)),
                Err(_) => Some((seed, "an assertion".to_owned())),
            }
        });
        let (seed, violation) = found.unwrap_or_else(|| panic!("{how:?} is not noticed within {SEEDS} seeds"));
        println!("{how:?}: seed {seed}: {violation}");
    }
}
