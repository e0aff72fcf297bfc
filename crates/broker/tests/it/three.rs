//! Three brokers over real sockets.

use crate::support::{LONG, Trio, append, broker, create, group, leader, one, read_request, stamped, values};
use std::time::Duration;
use trimaran_broker::engine::{Acks, AppendError, ReadError};
use trimaran_broker::{Engine, ids};
use trimaran_raft::GroupId;
use trimaran_registry::BrokerId;
use trimaran_wire::batch::Offset;

/// Waits until a broker's own replica holds everything below `offset`, committed.
async fn caught_up(engine: &Engine, group: GroupId, offset: i64) {
    let begin = std::time::Instant::now();
    loop {
        let status = engine.status(group).await;
        if status.is_some_and(|status| status.high_watermark.0 >= Offset(offset)) {
            return;
        }
        assert!(begin.elapsed() < LONG, "the replica never caught up");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_reach_all_replicas_and_survive_their_leader() {
    let mut trio = Trio::start().await;
    create(trio.engine(1), "t", 1, 3).await;
    let group = group(trio.engine(2), "t", 0).await;
    let first = leader(trio.engine(1), group, None).await;
    for n in 0..20 {
        append(trio.engine(first), group, &format!("v{n}")).await;
    }
    let expected: Vec<String> = (0..20).map(|n| format!("v{n}")).collect();
    for id in 1..=3 {
        caught_up(trio.engine(id), group, 20).await;
        assert_eq!(
            values(trio.engine(id), group, 0).await,
            expected,
            "as seen on broker {id}"
        );
    }
    trio.take(first).kill().await;
    let survivor = trio.running()[0];
    let second = leader(trio.engine(survivor), group, Some(first)).await;
    assert_eq!(
        append(trio.engine(second), group, "after").await.base_offset,
        Offset(20)
    );
    trio.restart(first).await;
    assert!(trio.servers[first as usize - 1].as_ref().unwrap().ready(LONG).await);
    caught_up(trio.engine(first), group, 21).await;
    assert_eq!(values(trio.engine(first), group, 0).await.len(), 21);
    stop(trio).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_learns_who_leads_and_who_is_in_sync() {
    let trio = Trio::start().await;
    create(trio.engine(3), "t", 6, 3).await;
    for partition in 0..6 {
        for id in 1..=3 {
            let group = group(trio.engine(id), "t", partition).await;
            let found = leader(trio.engine(id), group, None).await;
            assert_eq!(found, leader(trio.engine(1), group, None).await);
            let engine = trio.engine(id);
            let full = engine.wait_until(LONG, |view| {
                let known = view.leaders.leadership(trimaran_broker::ids::catalog_group(group));
                known.is_some_and(|known| known.in_sync.len() == 3)
            });
            assert!(full.await.is_some(), "all replicas are in sync, as broker {id} sees it");
        }
    }
    stop(trio).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_leaves_hands_its_leaderships_over() {
    let mut trio = Trio::start().await;
    create(trio.engine(1), "t", 6, 3).await;
    let mut groups = Vec::new();
    for partition in 0..6 {
        let group = group(trio.engine(1), "t", partition).await;
        let at = leader(trio.engine(1), group, None).await;
        append(trio.engine(at), group, "x").await;
        groups.push((group, at));
    }
    let leaving = groups[0].1;
    let outcome = trio.take(leaving).leave().await;
    let led = groups.iter().filter(|(_, at)| *at == leaving).count();
    assert!(outcome.handed_over >= led, "{outcome:?}, but it led {led}");
    assert!(outcome.kept.is_empty(), "{outcome:?}");
    let survivor = trio.running()[0];
    for (group, _) in groups {
        let now = leader(trio.engine(survivor), group, Some(leaving)).await;
        assert_eq!(append(trio.engine(now), group, "y").await.base_offset, Offset(1));
    }
    stop(trio).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_back_gets_its_leaderships_back() {
    let mut trio = Trio::start_with(|settings| settings.cluster.leader_rebalance_ms = 300).await;
    create(trio.engine(1), "t", 6, 3).await;
    let preferred = async |trio: &Trio, partition: i32| {
        let group = group(trio.engine(1), "t", partition).await;
        caught_up(trio.engine(1), group, 0).await;
        let status = trio.engine(1).status(group).await.expect("it has a replica");
        (group, ids::broker(status.voters[0]).0)
    };
    let mut groups = Vec::new();
    for partition in 0..6 {
        groups.push(preferred(&trio, partition).await);
    }
    trio.take(2).leave().await;
    trio.restart(2).await;
    // On a slow disk the first attempt may fail; the next one is made a minute later.
    assert!(
        trio.engine(1)
            .wait_until(Duration::from_secs(75) + LONG, |view| {
                groups.iter().all(|(group, preferred)| {
                    let known = view.leaders.leadership(ids::catalog_group(*group));
                    known.is_some_and(|known| known.serving && known.leader == Some(BrokerId(*preferred)))
                })
            })
            .await
            .is_some(),
        "each partition is led by the first of its replicas"
    );
    stop(trio).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_nothing_is_acknowledged_and_nothing_is_lost() {
    let mut trio = Trio::start().await;
    create(trio.engine(1), "t", 1, 3).await;
    let group = group(trio.engine(1), "t", 0).await;
    let at = leader(trio.engine(1), group, None).await;
    append(trio.engine(at), group, "before").await;
    let others: Vec<i32> = (1..=3).filter(|id| *id != at).collect();
    for id in &others {
        trio.take(*id).kill().await;
    }
    let lonely = trio.engine(at).append(group, one("lonely"), Acks::All);
    // It resigns, since it hears of no majority, and says what it can't promise.
    let answer = tokio::time::timeout(LONG, lonely).await.expect("an answer in time");
    assert_eq!(answer.unwrap_err(), AppendError::Lost, "one of three");
    trio.restart(others[0]).await;
    // Any leader now: one majority, one history.
    let begin = std::time::Instant::now();
    let offset = loop {
        let now = leader(trio.engine(at), group, None).await;
        if trio.running().contains(&now) {
            match trio.engine(now).append(group, one("after"), Acks::All).await {
                Ok(appended) => break appended.base_offset,
                Err(AppendError::NotLeader { .. } | AppendError::NotServing | AppendError::Lost) => {}
                Err(AppendError::NotEnoughReplicas { .. } | AppendError::Busy) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
        assert!(begin.elapsed() < LONG, "two of three never recovered");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    let all = values(trio.engine(at), group, 0).await;
    assert_eq!(all[0], "before");
    assert!(
        offset == Offset(1) || (offset == Offset(2) && all[1] == "lonely"),
        "{offset:?} {all:?}"
    );
    stop(trio).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idempotence_survives_a_failover() {
    let mut trio = Trio::start().await;
    create(trio.engine(1), "t", 1, 3).await;
    let group = group(trio.engine(1), "t", 0).await;
    let first = leader(trio.engine(1), group, None).await;
    append(trio.engine(first), group, "x").await;
    let id = trio.engine(2).producer_id(LONG).await.unwrap();
    let stored = trio
        .engine(first)
        .append(group, stamped("a", id, 0), Acks::All)
        .await
        .unwrap();
    trio.take(first).kill().await;
    let survivor = trio.running()[0];
    let second = leader(trio.engine(survivor), group, Some(first)).await;
    append(trio.engine(second), group, "y").await;
    let again = trio
        .engine(second)
        .append(group, stamped("a", id, 0), Acks::All)
        .await
        .unwrap();
    assert_eq!((again.base_offset, again.duplicate), (stored.base_offset, true));
    stop(trio).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_serves_readers_who_allow_it_and_nobody_else() {
    let trio = Trio::start().await;
    create(trio.engine(1), "t", 1, 3).await;
    let group = group(trio.engine(1), "t", 0).await;
    let at = leader(trio.engine(1), group, None).await;
    append(trio.engine(at), group, "x").await;
    let follower = (1..=3).find(|id| *id != at).unwrap();
    caught_up(trio.engine(follower), group, 1).await;
    assert_eq!(values(trio.engine(follower), group, 0).await, ["x"]);
    let mut strict = read_request(group, Offset(0));
    strict.follower_ok = false;
    let refused = trio.engine(follower).read(strict).await.err();
    assert!(
        matches!(refused, Some(ReadError::NotLeader { leader: Some(_) })),
        "{refused:?}"
    );
    stop(trio).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_on_request_needs_no_failure() {
    let trio = Trio::start().await;
    create(trio.engine(1), "t", 1, 3).await;
    let group = group(trio.engine(1), "t", 0).await;
    let first = leader(trio.engine(1), group, None).await;
    append(trio.engine(first), group, "x").await;
    // Asked of a broker that does not lead it.
    let asked = (1..=3).find(|id| *id != first).unwrap();
    let now = trio.engine(asked).fail_over(group, broker(first), LONG).await;
    let second = now.and_then(|now| now.leader).expect("another one serves").0;
    assert_ne!(second, first);
    assert_eq!(append(trio.engine(second), group, "y").await.base_offset, Offset(1));
    stop(trio).await;
}

async fn stop(trio: Trio) {
    for server in trio.servers.into_iter().flatten() {
        server.kill().await;
    }
}
