//! Every fuzz target, on a fixed number of inputs; `cargo xtask fuzz` looks further.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use trimaran_tests::fuzz::{TARGETS, Target, inputs};

/// The same inputs on every run. `FUZZ_TIMES=100 cargo test -p trimaran-tests --test fuzz` tries a hundred times as many.
const SEED: u64 = 3;

fn times() -> usize {
    let times = std::env::var("FUZZ_TIMES").ok();
    times.map_or(1, |times| times.parse().expect("FUZZ_TIMES is a number"))
}

fn check(name: &str) {
    let target = trimaran_tests::fuzz::find(name).expect("its name is in the list");
    for (number, input) in inputs(&(target.seeds)(), SEED, times() * target.tested_inputs).enumerate() {
        if catch_unwind(AssertUnwindSafe(|| (target.run)(&input))).is_err() {
            panic!("input {number} of {name} fails; its message is above. The input: {input:?}");
        }
    }
}

/// One test a target, so that they run side by side.
macro_rules! checks {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                check(stringify!($name));
            }
        )*

        const CHECKED: &[&str] = &[$(stringify!($name)),*];
    };
}

checks! {
    frames kafka_requests kafka_responses batches decompression peers group_messages shard_messages positions
    catalog_commands agent_messages coordinator_records journal journal_damage segments segments_damage json node config
}

/// No target may be forgotten here or under cargo-fuzz.
#[test]
fn every_target_runs_everywhere() {
    let listed: BTreeSet<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(listed.len(), TARGETS.len(), "names are unique");
    assert_eq!(CHECKED.iter().copied().collect::<BTreeSet<_>>(), listed);
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(package.join("Cargo.toml")).unwrap();
    for Target { name, what, .. } in TARGETS {
        let section = format!("[[bin]]\nname = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"\n");
        assert!(manifest.contains(&section), "tests/fuzz/Cargo.toml needs:\n{section}");
        let expected = format!(
            "//! {what}\n#![no_main]\n\nlibfuzzer_sys::fuzz_target!(|data: &[u8]| trimaran_tests::fuzz::run(\"{name}\", data));\n"
        );
        let found = fs::read_to_string(package.join(format!("fuzz_targets/{name}.rs"))).unwrap_or_default();
        assert_eq!(found, expected, "tests/fuzz/fuzz_targets/{name}.rs");
    }
    assert_eq!(
        fs::read_dir(package.join("fuzz_targets")).unwrap().count(),
        TARGETS.len()
    );
}

#[test]
fn every_target_has_seeds_that_it_accepts() {
    for Target {
        name, what, run, seeds, ..
    } in TARGETS
    {
        let seeds = seeds();
        assert!(!seeds.is_empty() && !what.is_empty(), "{name}");
        seeds.iter().for_each(|seed| run(seed));
    }
}
