use super::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn plan() -> IntervalPlan {
    IntervalPlan::new(ms(250)).expect("in range")
}

#[test]
fn the_default_budget_gives_the_intervals_of_the_documentation() {
    let plan = plan();
    assert_eq!(plan.heartbeat_interval, ms(25));
    assert_eq!(plan.suspicion_timeout, ms(100));
    assert_eq!(plan.suspicion_delay, ms(10));
    assert_eq!(plan.exchange() * EXCHANGES, ms(90));
    assert_eq!(plan.rank_delay, ms(30));
    assert_eq!(plan.planned(), ms(230));
}

#[test]
fn every_budget_holds_what_is_planned_for_it() {
    for budget in [50, 100, 250, 777, 1_000, 10_000, 60_000] {
        let plan = IntervalPlan::new(ms(budget)).expect("in range");
        assert!(plan.planned() < plan.budget, "{budget}");
        assert!(
            plan.heartbeat_interval * 4 <= plan.suspicion_timeout,
            "three heartbeats may be lost: {budget}"
        );
        assert!(plan.rank_delay >= plan.exchange(), "one candidate at a time: {budget}");
        assert!(
            plan.retransmit_timeout > plan.exchange(),
            "no needless retransmission: {budget}"
        );
        assert!(plan.heartbeat_interval >= ms(5), "no finer than timers: {budget}");
    }
}

#[test]
fn silly_budgets_are_refused() {
    for budget in [0, 49, 60_001] {
        let refused = IntervalPlan::new(ms(budget));
        assert_eq!(refused, Err(BudgetOutOfRange(ms(budget))));
    }
    assert_eq!(
        BudgetOutOfRange(ms(7)).to_string(),
        "a failover budget of 7 ms is not between 50 and 60000 ms"
    );
}

#[test]
fn a_healthy_broker_is_safe() {
    let mut headroom = Headroom::new(plan());
    let now = Instant(5_000_000);
    headroom.fsync(now, Duration::from_micros(150));
    headroom.lateness(now, ms(2));
    assert_eq!(headroom.safety(now), Safety::Safe);
}

#[test]
fn one_slow_sync_endangers_the_budget_and_is_forgotten_after_two_windows() {
    let mut headroom = Headroom::new(plan());
    let at = Instant(5_000_000);
    headroom.fsync(at, ms(60));
    assert_eq!(headroom.safety(at), Safety::Slow { expected: ms(290) });
    let later = at + WINDOW;
    assert_eq!(headroom.safety(later), Safety::Slow { expected: ms(290) });
    assert_eq!(headroom.safety(later + WINDOW), Safety::Safe);
}

#[test]
fn a_late_scheduler_makes_a_live_broker_look_dead() {
    let mut headroom = Headroom::new(plan());
    headroom.lateness(Instant(1), ms(80));
    assert_eq!(headroom.safety(Instant(1)), Safety::Jittery { delay: ms(80) });
    assert_eq!(headroom.safety(Instant(1) + WINDOW * 3), Safety::Safe);
}
