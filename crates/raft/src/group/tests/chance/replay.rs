//! The law of replay: a step is a function of state, input and time.

use super::*;

/// Runs some seeds, and hands over every life of every member.
fn for_every_life(check: impl Fn(usize, u64, Life)) {
    for (seed, own_time) in [(1, false), (2, true), (3, false), (4, true)] {
        let mut world = World::new(seed, 3, own_time);
        world.history = Some(BTreeMap::new());
        for node in 0..world.nodes.len() {
            world.record_beginning(node);
        }
        world.run();
        let history = world.history.take().unwrap_or_default();
        assert!(history.values().map(|life| life.told.len()).sum::<usize>() > 100);
        for ((node, number), life) in history {
            check(node, number, life);
        }
    }
}

/// A step is a function of state, input and time: what is told again is said again.
#[test]
fn replay_gives_identical_output() {
    for_every_life(|node, number, mut life| {
        for (at, (now, deed, said)) in core::mem::take(&mut life.told).into_iter().enumerate() {
            life.compact(at);
            let mut output = Output::default();
            deed.apply(&mut life.group, now, &life.log, &mut output);
            if let Some(persist) = &output.persist {
                life.log.apply(persist);
            }
            output.messages.extend(plans_read(&mut output.appends, &life.log));
            assert_eq!(fingerprint(&output), said, "node {node}, life {number}, at {now:?}");
        }
    });
}

/// What moments and writes are called makes no difference, even if it changes before every step.
#[test]
fn a_renamed_group_says_the_same() {
    // Beyond the length of any run.
    const HOUR: u64 = 3_600_000_000;
    for_every_life(|node, number, mut life| {
        let (mut zero, mut issued, mut completed) = (0, 0, 0);
        let mut last = life.group.now;
        for (at, (now, mut deed, said)) in (0..).zip(core::mem::take(&mut life.told)) {
            life.compact(at as usize);
            let name = Instant(HOUR + at % 1000);
            life.group.rename(name);
            zero = completed.max(zero);
            if let Some(Input::Persisted(token)) = deed.input() {
                completed = completed.max(token.0.min(issued));
                *token = Token(token.0.saturating_sub(zero));
            }
            let elapsed = now.since(last);
            last = last.max(now);
            let mut output = Output::default();
            deed.apply(&mut life.group, name + elapsed, &life.log, &mut output);
            if let Some(persist) = &mut output.persist {
                life.log.apply(persist);
                issued += 1;
                assert_eq!(persist.token.0 + zero, issued, "tokens count on");
                persist.token = Token(issued);
            }
            output.messages.extend(plans_read(&mut output.appends, &life.log));
            assert_eq!(fingerprint(&output), said, "node {node}, life {number}, at {now:?}");
        }
    });
}
