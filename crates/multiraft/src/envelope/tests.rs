use super::*;
use trimaran_raft::{Life, Term};

fn joined(messages: &[(GroupId, Message)]) -> Bytes {
    Bytes::from(encode(messages).concat())
}

fn message(term: u64, body: Body) -> (GroupId, Message) {
    let term = Term(term);
    (GroupId(300), Message { term, body })
}

fn append(prev_index: u64, payloads: impl IntoIterator<Item = Payload>) -> Body {
    let indices = (1..).map(|place| LogIndex(prev_index + place));
    let entry = |(payload, index)| Entry {
        index,
        term: Term(2),
        payload,
    };
    Body::Append {
        prev_index: LogIndex(prev_index),
        prev_term: Term(2),
        commit: LogIndex(3),
        replicated_index: LogIndex(1),
        entries: payloads.into_iter().zip(indices).map(entry).collect(),
    }
}

fn data(bytes: &'static [u8]) -> Payload {
    Payload::Data(Bytes::from_static(bytes))
}

fn configuration() -> Configuration {
    Configuration {
        voters: vec![NodeId(1), NodeId(2)],
        outgoing: vec![NodeId(1)],
        learners: vec![NodeId(3)],
    }
}

fn every_body() -> Vec<Body> {
    let (i, t) = (LogIndex, Term);
    let members = Payload::Configuration(Box::new(configuration()));
    vec![
        Body::PreVote {
            last_index: i(5),
            last_term: t(2),
        },
        Body::PreVoteReply {
            granted: false,
            longer_log: true,
        },
        Body::Vote {
            last_index: i(5),
            last_term: t(2),
            transfer: true,
        },
        Body::VoteReply { granted: true },
        append(4, [Payload::Blank, data(b"first"), data(b""), data(b"second"), members]),
        Body::AppendAccepted {
            match_index: i(7),
            commit: i(6),
            life: Life(0),
        },
        Body::AppendRejected {
            prev_index: i(7),
            hint_index: i(6),
            hint_term: t(1),
        },
        Body::Heartbeat { commit: i(9), round: 2 },
        Body::HeartbeatReply { commit: i(9), round: 2 },
        Body::TimeoutNow,
        Body::Snapshot {
            snapshot: Box::new(Snapshot {
                index: i(40),
                term: t(2),
                configuration: configuration(),
                data: Bytes::from_static(b"third"),
            }),
            commit: i(41),
            replicated_index: i(39),
        },
        Body::Lost { life: Life(5) },
        Body::Rejoin {
            since: i(42),
            life: Life(5),
        },
        Body::Seek,
    ]
}

fn every_message() -> Messages {
    every_body().into_iter().map(|body| message(3, body)).collect()
}

#[test]
fn every_message_comes_back() {
    assert_eq!(decode(joined(&[])), Ok(Messages::new()));
    for message in every_message() {
        assert_eq!(decode(joined(std::slice::from_ref(&message))), Ok(vec![message]));
    }
    assert_eq!(decode(joined(&every_message())), Ok(every_message()));
}

/// Formats are promises: brokers of two releases talk to each other while a cluster is upgraded. If this fails, either
/// undo the change of the format or give the peer protocol a new version.
#[test]
fn bytes_are_golden() {
    // Fourteen messages of group 300 (ac02) in term 3, then the payloads "first", "second" and "third".
    let golden = "0e ac0203 000502 ac0203 010001 ac0203 02050201 ac0203 0301 \
         ac0203 0404020301 05 0200 020105 020100 020106 0202 020102 0101 0103 \
         ac0203 05070600 ac0203 06070601 ac0203 070902 ac0203 080902 ac0203 09 \
         ac0203 0a 2802 020102 0101 0103 05 2927 ac0203 0b05 ac0203 0c2a05 ac0203 0d \
         6669727374 7365636f6e64 7468697264";
    let bytes = joined(&every_message());
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, golden.replace(' ', ""));
}

fn payload_of(messages: &Messages) -> &Bytes {
    match &messages[0].1.body {
        Body::Append { entries, .. } => match &entries[0].payload {
            Payload::Data(bytes) => bytes,
            other => panic!("{other:?}"),
        },
        Body::Snapshot { snapshot, .. } => &snapshot.data,
        other => panic!("{other:?}"),
    }
}

fn snapshot(data: Bytes) -> Body {
    Body::Snapshot {
        snapshot: Box::new(Snapshot {
            index: LogIndex(40),
            term: Term(2),
            configuration: configuration(),
            data,
        }),
        commit: LogIndex(41),
        replicated_index: LogIndex(39),
    }
}

#[test]
fn payloads_are_copied_by_detaching_only() {
    let payload = Bytes::from(vec![1u8; 1_000]);
    for body in [append(0, [Payload::Data(payload.clone())]), snapshot(payload.clone())] {
        let messages = [message(1, body)];
        assert_eq!(encode(&messages).last().unwrap().as_ptr(), payload.as_ptr());
        let received = joined(&messages);
        let within = received.as_ptr_range();
        let mut messages = decode(received).unwrap();
        assert!(within.contains(&payload_of(&messages).as_ptr()));
        detach(&mut messages);
        assert!(!within.contains(&payload_of(&messages).as_ptr()));
        assert_eq!(payload_of(&messages), &payload);
    }
}

#[test]
fn what_is_wrong_is_named() {
    let good = joined(&every_message());
    assert_eq!(decode(good.slice(..good.len() - 1)), Err(EnvelopeError::Payload));
    let longer = [&good[..], &[0]].concat();
    assert_eq!(decode(Bytes::from(longer)), Err(EnvelopeError::Trailing(1)));
    assert!(matches!(decode(good.slice(..20)), Err(EnvelopeError::Format(_))));
    assert!(matches!(decode(Bytes::new()), Err(EnvelopeError::Format(_))));
    // One message, of group 1 in term 1; and one with an entry in term 1.
    let of = |rest: &[u8]| decode(Bytes::from([&[1, 1, 1], rest].concat()));
    assert_eq!(of(&[14]), Err(EnvelopeError::Kind(14)));
    assert_eq!(of(&[4, 0, 0, 0, 0, 1, 1, 3]), Err(EnvelopeError::Kind(3)));
}

#[test]
fn a_count_beyond_the_bytes_is_refused() {
    // 2^35 messages are promised, none is there.
    let bytes = [0x80, 0x80, 0x80, 0x80, 0x80, 0x01];
    let refused = decode(Bytes::copy_from_slice(&bytes));
    assert!(matches!(refused, Err(EnvelopeError::Format(_))));
}

/// The last index that there is has no successor.
#[test]
fn an_append_at_the_end_of_all_indices_is_read() {
    let empty = append(0, [Payload::Blank, Payload::Blank]);
    let mut bytes = joined(&[message(1, empty)]).to_vec();
    let prev_index = bytes.iter().position(|byte| *byte == 4).unwrap() + 1;
    bytes.splice(prev_index..=prev_index, [&[0xff; 9][..], &[1]].concat());
    let messages = decode(Bytes::from(bytes)).unwrap();
    let Body::Append { entries, .. } = &messages[0].1.body else {
        panic!("an append")
    };
    assert!(entries.iter().all(|entry| entry.index == LogIndex::MAX));
}

/// On the wire these take a few megabytes; in memory they would take a hundred times as much.
#[test]
fn an_envelope_names_no_more_than_it_may() {
    let decoded = |messages: Messages| decode(joined(&messages));
    let seeks = |count: usize| vec![message(1, Body::Seek); count];
    assert!(decoded(seeks(MAX_PARTS)).is_ok());
    assert_eq!(decoded(seeks(MAX_PARTS + 1)), Err(EnvelopeError::TooMany));
    let appends = |entries: usize| vec![message(1, append(0, vec![Payload::Blank; entries])); 2];
    assert!(
        decoded(appends(MAX_PARTS / 2 - 1)).is_ok(),
        "with the messages themselves it is all"
    );
    assert_eq!(decoded(appends(MAX_PARTS / 2)), Err(EnvelopeError::TooMany));
}

#[test]
fn members_count_as_well() {
    let decoded = |members: usize, entries: usize| {
        let configuration = Configuration::of_voters((0..members as u64).map(NodeId));
        let payload = Payload::Configuration(Box::new(configuration));
        decode(joined(&[message(1, append(0, vec![payload; entries]))]))
    };
    assert!(decoded(MAX_MEMBERS, 1).is_ok());
    assert_eq!(decoded(MAX_MEMBERS + 1, 1), Err(EnvelopeError::TooMany));
    assert!(decoded(MAX_MEMBERS, MAX_PARTS / MAX_MEMBERS - 1).is_ok());
    assert_eq!(
        decoded(MAX_MEMBERS, MAX_PARTS / MAX_MEMBERS),
        Err(EnvelopeError::TooMany)
    );
}

/// The promise of [`MAX_PARTS`]: the values of an envelope take no more than the longest frame that there is, 256 MiB.
#[test]
fn parts_are_small() {
    let message = size_of::<(GroupId, Message)>() + size_of::<Snapshot>();
    let entry = size_of::<Entry>() + size_of::<Configuration>();
    let length = size_of::<u32>();
    assert!(
        MAX_PARTS * (message.max(entry) + length) <= 256 << 20,
        "{message}, {entry}"
    );
}

/// Every message, with each of its bytes exchanged for each other one, and cut off everywhere.
#[test]
fn no_bytes_panic() {
    let read = |bytes: Vec<u8>| {
        if let Ok(messages) = decode(Bytes::from(bytes)) {
            assert_eq!(decode(joined(&messages)), Ok(messages), "what is read can be written");
        }
    };
    let good = joined(&every_message()).to_vec();
    for at in 0..good.len() {
        read(good[..at].to_vec());
        for byte in 0..=u8::MAX {
            let mut bytes = good.clone();
            bytes[at] = byte;
            read(bytes);
        }
    }
}

/// The size of an envelope is limited where it is read: nobody may send more.
#[test]
fn many_messages_become_several_envelopes() {
    let envelopes = split(vec![message(1, Body::Seek); FULL_AFTER_MESSAGES + 1]);
    let lengths: Vec<usize> = envelopes.iter().map(Vec::len).collect();
    assert_eq!(lengths, [FULL_AFTER_MESSAGES, 1]);
    assert!(envelopes.iter().all(|envelope| decode(joined(envelope)).is_ok()));
    assert!(split(Messages::new()).is_empty());
}

#[test]
fn large_payloads_become_envelopes_of_their_own() {
    let of = |bytes: usize| message(1, append(0, [Payload::Data(vec![0; bytes].into())]));
    let envelopes = split(vec![of(100), of(FULL_AFTER_BYTES), of(10), of(10)]);
    let lengths: Vec<usize> = envelopes.iter().map(Vec::len).collect();
    assert_eq!(lengths, [1, 1, 2]);
}
