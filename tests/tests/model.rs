//! Every state that small groups can reach, within bounds that a minute allows.

use trimaran_tests::model::{Budget, Exploration, Limits, Scenario, explore};

/// So many states take a second or two.
const LIMITS: Limits = Limits {
    depth: u32::MAX,
    states: 300_000,
    converge_one_in: 100,
};

#[track_caller]
fn explored(scenario: &Scenario) -> Exploration {
    let exploration =
        explore(scenario, LIMITS, |_, _| {}).unwrap_or_else(|failure| panic!("{}:\n{failure}", scenario.name));
    println!("{}: {exploration}", scenario.name);
    assert!(
        exploration.converged > 0,
        "from some states on, it was seen to converge"
    );
    exploration
}

#[test]
fn no_law_is_broken_in_any_state_near_the_start() {
    for scenario in Scenario::all() {
        explored(&scenario);
    }
}

#[test]
fn a_leader_that_replicates_is_explored_to_the_end() {
    let mut scenario = Scenario::replication();
    scenario.budget.proposals = 1;
    assert!(explored(&scenario).is_complete);
    scenario.budget = Budget {
        proposals: 2,
        ..Budget::default()
    };
    assert!(explored(&scenario).is_complete);
}
