//! Golden bytes.

use super::*;
use crate::{Generation, Offset};
use ::bytes::Bytes;

/// Bytes in hexadecimal, with spaces to read them by.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits
        .chunks(2)
        .map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap())
        .collect()
}

#[test]
fn keys_are_kafkas() {
    let check = |text: &str, key: Key| {
        assert_eq!(Key::decode(&hex(text)), Ok(key.clone()), "{text}");
        assert_eq!(key.encode(), hex(text), "{text}");
    };
    let offset = Key::Offset(OffsetKey {
        group: "g".into(),
        topic: "top".into(),
        partition: 7,
    });
    check("0001 0001 67 0003 746f70 00000007", offset.clone());
    check("0002 0002 6772", Key::Group("gr".into()));
    // Version 0 has the same fields, and is not written any more.
    assert_eq!(Key::decode(&hex("0000 0001 67 0003 746f70 00000007")), Ok(offset));
    // ConsumerGroupMetadataKey, and one that nobody has defined.
    assert_eq!(Key::decode(&hex("0003 0001 67")), Ok(Key::Unknown(3)));
    assert_eq!(Key::decode(&hex("7fff")), Ok(Key::Unknown(i16::MAX)));
}

#[test]
fn offsets_are_kafkas() {
    let check = |text: &str, value: &OffsetValue, written: bool| {
        assert_eq!(OffsetValue::decode(&hex(text)), Ok(value.clone()), "{text}");
        if written {
            assert_eq!(value.encode(), hex(text), "{text}");
        }
    };
    let mut value = OffsetValue {
        offset: Offset(42),
        leader_epoch: Some(3),
        metadata: "mark".into(),
        commit_time_ms: 1_000,
        expire_time_ms: None,
        topic_id: None,
    };
    check(
        "0003 000000000000002a 00000003 0004 6d61726b 00000000000003e8",
        &value,
        true,
    );
    check(
        "0004 000000000000002a 00000003 05 6d61726b 00000000000003e8 00",
        &value,
        false,
    );
    value.topic_id = Some([0xab; 16]);
    check(
        "0004 000000000000002a 00000003 05 6d61726b 00000000000003e8 01 00 10 abababababababababababababababab",
        &value,
        true,
    );
    // A tagged field that came later is skipped.
    check(
        "0004 000000000000002a 00000003 05 6d61726b 00000000000003e8 02 00 10 abababababababababababababababab 07 01 ff",
        &value,
        false,
    );
    value.topic_id = None;
    value.leader_epoch = None;
    check(
        "0003 000000000000002a ffffffff 0004 6d61726b 00000000000003e8",
        &value,
        true,
    );
    check("0002 000000000000002a 0004 6d61726b 00000000000003e8", &value, false);
    check("0000 000000000000002a 0004 6d61726b 00000000000003e8", &value, false);
    check(
        "0001 000000000000002a 0004 6d61726b 00000000000003e8 ffffffffffffffff",
        &value,
        false,
    );
    value.expire_time_ms = Some(2_000);
    check(
        "0001 000000000000002a 0004 6d61726b 00000000000003e8 00000000000007d0",
        &value,
        true,
    );
}

/// A group with one static member.
fn group() -> GroupValue {
    GroupValue {
        protocol_type: "consumer".into(),
        generation: Generation(5),
        protocol: Some("range".into()),
        leader: Some("m1".into()),
        state_time_ms: Some(1_000),
        members: vec![MemberValue {
            member_id: "m1".into(),
            instance_id: Some("i".into()),
            client_id: "c".into(),
            client_host: "/h".into(),
            rebalance_timeout_ms: 60_000,
            session_timeout_ms: 10_000,
            subscription: Bytes::from_static(&[1, 2]),
            assignment: Bytes::from_static(&[3]),
        }],
    }
}

const CONSUMER: &str = "0008 636f6e73756d6572 00000005 0005 72616e6765 0002 6d31";

#[test]
fn groups_are_kafkas() {
    let mut value = group();
    let members = "00000001 0002 6d31 0001 69 0001 63 0002 2f68 0000ea60 00002710 00000002 0102 00000001 03";
    let text = format!("0003 {CONSUMER} 00000000000003e8 {members}");
    assert_eq!(value.encode(), hex(&text));
    assert_eq!(GroupValue::decode(&hex(&text)), Ok(value.clone()));
    assert_eq!(value.members[0].encoded_len(), hex(members).len() - 4);

    let compact = "0004 09 636f6e73756d6572 00000005 06 72616e6765 03 6d31 00000000000003e8 02 \
                   03 6d31 02 69 02 63 03 2f68 0000ea60 00002710 03 0102 02 03 00 00";
    assert_eq!(GroupValue::decode(&hex(compact)), Ok(value.clone()));

    value.members[0].instance_id = None;
    let members = "00000001 0002 6d31 0001 63 0002 2f68 0000ea60 00002710 00000002 0102 00000001 03";
    let text = format!("0002 {CONSUMER} 00000000000003e8 {members}");
    assert_eq!(GroupValue::decode(&hex(&text)), Ok(value.clone()));
    value.state_time_ms = None;
    assert_eq!(
        GroupValue::decode(&hex(&format!("0001 {CONSUMER} {members}"))),
        Ok(value.clone())
    );
    // Version 0 has one time-out for both.
    value.members[0].rebalance_timeout_ms = 10_000;
    let members = "00000001 0002 6d31 0001 63 0002 2f68 00002710 00000002 0102 00000001 03";
    assert_eq!(
        GroupValue::decode(&hex(&format!("0000 {CONSUMER} {members}"))),
        Ok(value)
    );
}

#[test]
fn an_empty_group_has_neither_protocol_nor_leader() {
    let value = GroupValue {
        protocol_type: "consumer".into(),
        generation: Generation(6),
        state_time_ms: Some(1_000),
        ..GroupValue::default()
    };
    let text = "0003 0008 636f6e73756d6572 00000006 ffff ffff 00000000000003e8 00000000";
    assert_eq!(value.encode(), hex(text));
    assert_eq!(GroupValue::decode(&hex(text)), Ok(value.clone()));
    let compact = "0004 09 636f6e73756d6572 00000006 00 00 00000000000003e8 01 00";
    assert_eq!(GroupValue::decode(&hex(compact)), Ok(value));
}

#[test]
fn bytes_that_are_not_a_record_are_an_error() {
    assert_eq!(OffsetValue::decode(&hex("0005")), Err(DecodeError::Version(5)));
    assert_eq!(GroupValue::decode(&hex("ffff")), Err(DecodeError::Version(-1)));
    assert_eq!(Key::decode(&hex("ffff")), Err(DecodeError::Malformed));
    // A string that is not UTF-8, and one that is none where there must be one.
    assert_eq!(Key::decode(&hex("0002 0001 ff")), Err(DecodeError::Malformed));
    assert_eq!(Key::decode(&hex("0002 ffff")), Err(DecodeError::Malformed));
    assert_eq!(
        Key::decode(&hex("0002 0001 67 00")),
        Err(DecodeError::Malformed),
        "something follows"
    );
    // Two thousand million members in no bytes.
    let text = format!("0003 {CONSUMER} 00000000000003e8 7fffffff");
    assert_eq!(GroupValue::decode(&hex(&text)), Err(DecodeError::Malformed));
    let text = "0004 01 00000005 00 00 00000000000003e8 ffffffff0f 00";
    assert_eq!(GroupValue::decode(&hex(text)), Err(DecodeError::Malformed));
}

/// Every beginning of a valid value but the whole of it is refused.
#[test]
fn what_is_cut_off_is_an_error() {
    let value = group().encode();
    for end in 0..value.len() {
        assert!(GroupValue::decode(&value[..end]).is_err(), "{end}");
    }
}

#[test]
fn topics_of_a_subscription() {
    // Version 1, two topics, then user data and owned partitions, which nobody looks at.
    let subscription = hex("0001 00000002 0001 61 0002 6262 ffffffff 00000000");
    assert_eq!(
        subscribed_topics(&subscription),
        Some(vec!["a".to_owned(), "bb".to_owned()])
    );
    assert_eq!(subscribed_topics(&hex("0001 7fffffff")), None);
    assert_eq!(subscribed_topics(&[]), None);
}
