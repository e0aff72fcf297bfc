//! Looking for a seed that notices.

use super::{Room, SCENARIOS, Scenario};
use crate::sim::{self, Bug, Cause, Options};
use std::fmt::Debug;

/// A bug was noticed.
#[derive(Clone, Debug)]
pub struct Found {
    /// By the run of so many seeds, from the first on.
    pub seeds: u64,
    /// How.
    pub cause: Cause,
}

/// Runs short seeds with the scenario's bug, from the first on, until one fails; none within the bound if it passes for good.
pub fn find(scenario: &Scenario, bound: u64) -> Option<Found> {
    let bug = bug(scenario).unwrap_or_else(|| panic!("{} has no switch {}", scenario.room.name(), scenario.switch));
    (1..=bound).find_map(|seed| {
        let options = Options {
            bug: Some(bug),
            ..Options::short(seed)
        };
        let failure = sim::run(&options).err()?;
        // What fails without the bug too says nothing about it.
        sim::run(&Options::short(seed)).ok()?;
        Some(Found {
            seeds: seed,
            cause: failure.cause,
        })
    })
}

/// Switches that no scenario names.
pub fn unlisted() -> Vec<String> {
    let listed = |switch: &String| SCENARIOS.iter().any(|scenario| scenario.switch == switch);
    let cores = CORES.iter().copied().flatten().map(name);
    let shards = trimaran_multiraft::Sabotage::ALL.iter().map(name);
    let registry = trimaran_registry::Sabotage::ALL.iter().map(name);
    let node = trimaran_node::Sabotage::ALL.iter().map(name);
    let storage = trimaran_storage::Sabotage::ALL.iter().map(name);
    cores
        .chain(shards)
        .chain(registry)
        .chain(node)
        .chain(storage)
        .filter(|switch| !listed(switch))
        .collect()
}

/// The core's switches.
const CORES: [&[trimaran_raft::Sabotage]; 2] = [
    trimaran_raft::Sabotage::ALL,
    trimaran_raft::Sabotage::OF_MEMBERS_AND_READS,
];

fn bug(scenario: &Scenario) -> Option<Bug> {
    match scenario.room {
        Room::Raft => CORES.iter().find_map(|all| named(all, scenario.switch)).map(Bug::Core),
        Room::Multiraft => named(trimaran_multiraft::Sabotage::ALL, scenario.switch).map(Bug::Shard),
        Room::Registry => named(trimaran_registry::Sabotage::ALL, scenario.switch).map(Bug::Registry),
        Room::Node => named(trimaran_node::Sabotage::ALL, scenario.switch).map(Bug::Node),
        Room::Storage => named(trimaran_storage::Sabotage::ALL, scenario.switch).map(Bug::Storage),
    }
}

fn named<S: Copy + Debug>(all: &[S], switch: &str) -> Option<S> {
    all.iter().copied().find(|how| name(how) == switch)
}

fn name(how: &impl Debug) -> String {
    format!("{how:?}")
}
