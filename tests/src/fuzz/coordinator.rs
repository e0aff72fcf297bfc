//! Records of `__consumer_offsets`: committed, they are applied on every replica, and must do the same there.

use super::pieces::{Pieces, put_piece};
use bytes::Bytes;
use std::collections::VecDeque;
use trimaran_coordinator::record::{
    GroupValue, Key, MemberValue, OffsetKey, OffsetValue, group_record, group_tombstone, offset_record,
    offset_tombstone, subscribed_topics,
};
use trimaran_coordinator::{Config, Coordinator, Generation, Offset, Output, Record, Time};

/// Several records, each of a key and a value behind a byte that says whether it has one. Replayed on two replicas, copied
/// to a third, and led with.
pub(super) fn target(data: &[u8]) {
    let mut pieces = Pieces::new(data);
    let [mut one, mut other, mut copy] = [(); 3].map(|()| Coordinator::new(Config::default()));
    let mut offset = Offset(0);
    while !pieces.is_empty() {
        let key = pieces.piece();
        let value = (pieces.u8() != 0).then(|| pieces.piece());
        round_trip(key, value.unwrap_or_default());
        let replayed = one.replay(offset, key, value);
        assert_eq!(other.replay(offset, key, value), replayed);
        if replayed.is_ok() {
            offset.0 += 1;
        }
        assert_eq!(one.applied(), offset);
    }
    assert!(one.same_state(&other));
    let mut after = None;
    loop {
        let portion = one.state_records(after.as_ref(), 100);
        for record in portion.records {
            let value = record.value.as_deref();
            copy.replay(copy.applied(), &record.key, value)
                .expect("a record of its own");
        }
        after = portion.next;
        if after.is_none() {
            break;
        }
    }
    assert!(copy.same_state(&one));
    lead(one);
}

/// What was decoded is the same when it is encoded and decoded again.
fn round_trip(key: &[u8], value: &[u8]) {
    if let Ok(key) = Key::decode(key) {
        assert_eq!(Key::decode(&key.encode()), Ok(key));
    }
    if let Ok(mut value) = OffsetValue::decode(value) {
        // No version holds all fields.
        if value.expire_time_ms.is_some() {
            (value.leader_epoch, value.topic_id) = (None, None);
        }
        assert_eq!(OffsetValue::decode(&value.encode()), Ok(value));
    }
    if let Ok(value) = GroupValue::decode(value) {
        assert_eq!(GroupValue::decode(&value.encode()), Ok(value));
    }
    let _ = subscribed_topics(value);
}

/// Whatever was replayed, a leader begins, and its timers come to an end.
fn lead(mut coordinator: Coordinator) {
    let mut out = Output::default();
    let mut time = Time::default();
    coordinator.lead(time, &mut out);
    let mut writes = VecDeque::new();
    for _ in 0..100 {
        writes.extend(out.writes.drain(..));
        if let Some(write) = writes.pop_front() {
            let first = coordinator.applied();
            coordinator.written(time, write.id, Ok(first), &mut out);
        } else if let Some(at_ms) = coordinator.deadline() {
            time.monotonic_ms = time.monotonic_ms.max(at_ms);
            coordinator.tick(time, &mut out);
        }
    }
    coordinator.resign(&mut out);
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let value = |expire_time_ms, topic_id| OffsetValue {
        offset: Offset(42),
        leader_epoch: Some(3),
        metadata: "mark".into(),
        commit_time_ms: 1_000,
        expire_time_ms,
        topic_id,
    };
    let member = |id: &str, instance_id: Option<&str>| MemberValue {
        member_id: id.into(),
        instance_id: instance_id.map(str::to_owned),
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout_ms: 60_000,
        session_timeout_ms: 10_000,
        subscription: Bytes::from_static(&[0, 1, 0, 0, 0, 1, 0, 1, b't', 0xff, 0xff, 0xff, 0xff]),
        assignment: Bytes::from_static(&[1, 2, 3]),
    };
    let group = |leader: Option<&str>, members: Vec<MemberValue>| GroupValue {
        protocol_type: "consumer".into(),
        generation: Generation(5),
        protocol: leader.map(|_| "range".to_owned()),
        leader: leader.map(str::to_owned),
        state_time_ms: Some(1_000),
        members,
    };
    let key = OffsetKey {
        group: "g".into(),
        topic: "t".into(),
        partition: 1,
    };
    let records = [
        offset_record("g", "t", 0, &value(None, None)),
        offset_record("g", "t", 1, &value(Some(2_000), None)),
        offset_record("g", "t", 2, &value(None, Some([7; 16]))),
        group_record(
            "g",
            &group(Some("m1"), vec![member("m1", None), member("m2", Some("i"))]),
        ),
        group_record("g", &group(None, vec![member("m2", Some("i"))])),
        group_record("g", &group(None, Vec::new())),
        Record {
            key: Key::Offset(key).encode().into(),
            value: None,
        },
        offset_tombstone("g", "t", 0),
        group_tombstone("g"),
        Record {
            key: Bytes::from_static(&[0, 3, 0, 1, b'g']),
            value: Some(Bytes::from_static(&[0, 0, 0, 0, 0, 1])),
        },
    ];
    let script = |records: &[Record]| {
        let mut script = Vec::new();
        for record in records {
            put_piece(&mut script, &record.key);
            script.push(u8::from(record.value.is_some()));
            if let Some(value) = &record.value {
                put_piece(&mut script, value);
            }
        }
        script
    };
    let mut seeds: Vec<Vec<u8>> = records.chunks(1).map(script).collect();
    seeds.push(script(&records));
    seeds
}
