use super::*;
use crate::testing::Rng;

fn joined(frame: &Frame) -> Bytes {
    let chunks = encode(frame);
    Bytes::from(chunks.concat())
}

fn message(term: u64, body: Body) -> (GroupId, Message) {
    (GroupId(300), Message { term: Term(term), body })
}

fn every_body() -> Vec<Body> {
    let (i, t) = (LogIndex, Term);
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
        Body::Append {
            prev_index: i(4),
            prev_term: t(2),
            commit: i(3),
            replicated_index: i(1),
            entries: entries(),
        },
        Body::AppendAccepted {
            match_index: i(7),
            commit: i(6),
            life: 0,
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
        Body::Lost { life: 5 },
        Body::Rejoin { since: i(42), life: 5 },
        Body::Seek,
    ]
}

fn entries() -> Vec<Entry> {
    let payloads = [
        Payload::Blank,
        Payload::Data(Bytes::from_static(b"first")),
        Payload::Data(Bytes::new()),
        Payload::Data(Bytes::from_static(b"second")),
        Payload::Configuration(configuration()),
    ];
    payloads
        .into_iter()
        .map(|payload| Entry { term: Term(2), payload })
        .collect()
}

fn configuration() -> Configuration {
    let nodes = |ids: &[u64]| ids.iter().copied().map(NodeId).collect();
    Configuration {
        voters: nodes(&[1, 2]),
        outgoing: nodes(&[1]),
        learners: nodes(&[3]),
    }
}

fn start(incarnation: u64) -> Start {
    let folder = FolderId([0xfa; 16]);
    Start { folder, incarnation }
}

fn every_frame() -> Vec<Frame> {
    let cluster_id = "c1".to_string();
    let mut frames = vec![
        Frame::Hello(Hello {
            protocol: PROTOCOL_VERSION,
            cluster_id: cluster_id.clone(),
            broker: BrokerId(1),
            incarnation: 7,
            to: BrokerId(2),
            folder: FolderId([0xfa; 16]),
            previous: 6,
            founders: vec![BrokerId(1), BrokerId(2), BrokerId(3)],
            address: "h:9".to_owned(),
        }),
        Frame::Welcome(Welcome {
            protocol: 1,
            cluster_id: cluster_id.clone(),
            broker: BrokerId(2),
            incarnation: 8,
        }),
        Frame::Heartbeat(Heartbeat {
            incarnation: 7,
            sequence: 1_000,
            echo_sequence: 999,
            echo_incarnation: 8,
            hears: vec![BrokerId(2), BrokerId(300)],
        }),
        Frame::Relayed(Relayed {
            from: BrokerId(2),
            to: BrokerId(3),
            start: start(6),
            previous: 5,
            frame: Bytes::from_static(b"a frame"),
        }),
        Frame::Groups(every_body().into_iter().map(|body| message(3, body)).collect()),
        Frame::Control(Bytes::from_static(b"opaque")),
        Frame::FailOver(FailOver {
            group: GroupId(300),
            failed: Some(BrokerId(2)),
        }),
        Frame::Inquiry(Inquiry {
            cluster_id: cluster_id.clone(),
            broker: BrokerId(1),
            last: start(6),
        }),
        Frame::Account(Account {
            cluster_id: cluster_id.clone(),
            broker: BrokerId(2),
            seen: Some(start(7)),
            alive: None,
        }),
    ];
    let refusals = [
        Refused::Version { supported: 1 },
        Refused::OtherCluster { cluster_id },
        Refused::OtherBroker { broker: BrokerId(3) },
        Refused::UnknownBroker,
        Refused::Other("busy".into()),
        Refused::Superseded(start(9)),
        Refused::RolledBack(start(9)),
        Refused::AnotherRuns(start(9)),
        Refused::OtherFounders {
            founders: vec![BrokerId(1), BrokerId(2)],
        },
    ];
    frames.extend(refusals.map(Frame::Refused));
    frames
}

#[test]
fn every_frame_comes_back() {
    for frame in every_frame() {
        assert_eq!(decode(joined(&frame)), Ok(frame));
    }
}

/// Formats are promises: brokers of two releases talk to each other while a cluster is upgraded. If this fails, either
/// undo the change of the format or give it a new version.
#[test]
fn bytes_are_golden() {
    let golden = [
        "0000 04 026331 02 07 04 fafafafafafafafafafafafafafafafa 06 03020406 03683a39",
        "0001 01 026331 04 08",
        "0403 07 e807 e707 08 02 04 d804",
        "0407 04 06 fafafafafafafafafafafafafafafafa 06 05 61206672616d65",
        // Fourteen messages of group 300 (ac02) in term 3, then the payloads "first", "second" and "third".
        "0404 0e ac0203 000502 ac0203 010001 ac0203 02050201 ac0203 0301 \
         ac0203 0404020301 05 0200 020105 020100 020106 0202 020102 0101 0103 \
         ac0203 05070600 ac0203 06070601 ac0203 070902 ac0203 080902 ac0203 09 \
         ac0203 0a 2802 020102 0101 0103 05 2927 ac0203 0b05 ac0203 0c2a05 ac0203 0d \
         6669727374 7365636f6e64 7468697264",
        "0405 6f7061717565",
        "0406 ac02 01 04",
        "0408 026331 02 fafafafafafafafafafafafafafafafa 06",
        "0409 026331 04 01 fafafafafafafafafafafafafafafafa 07 00",
        "0002 00 01",
        "0002 01 026331",
        "0002 02 06",
        "0002 03",
        "0002 04 0462757379",
        "0002 05 fafafafafafafafafafafafafafafafa 09",
        "0002 06 fafafafafafafafafafafafafafafafa 09",
        "0002 07 fafafafafafafafafafafafafafafafa 09",
        "0002 08 02 02 04",
    ];
    let frames = every_frame();
    assert_eq!(golden.len(), frames.len());
    for (expected, frame) in golden.iter().zip(frames) {
        let hex: String = joined(&frame).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected.replace(' ', ""), "{frame:?}");
    }
}

/// Another build may say something else behind what never changes.
#[test]
fn a_hello_of_another_version_is_read_up_to_what_never_changes() {
    let Frame::Hello(hello) = every_frame().remove(0) else {
        panic!("a hello comes first")
    };
    let mut bytes = joined(&Frame::Hello(hello.clone())).to_vec();
    bytes[2] = PROTOCOL_VERSION + 1;
    bytes.extend_from_slice(b"something else");
    let expected = Hello {
        protocol: PROTOCOL_VERSION + 1,
        folder: FolderId::default(),
        previous: 0,
        founders: Vec::new(),
        address: String::new(),
        ..hello
    };
    assert_eq!(decode(Bytes::from(bytes)), Ok(Frame::Hello(expected.clone())));
    assert_eq!(
        decode(joined(&Frame::Hello(expected.clone()))),
        Ok(Frame::Hello(expected))
    );
}

#[test]
fn payloads_are_not_copied() {
    let payload = Bytes::from(vec![1u8; 1_000]);
    let entries = vec![Entry {
        term: Term(1),
        payload: Payload::Data(payload.clone()),
    }];
    let (i, t) = (LogIndex(0), Term(0));
    let append = Body::Append {
        prev_index: i,
        prev_term: t,
        commit: i,
        replicated_index: i,
        entries,
    };
    let frame = Frame::Groups(vec![message(1, append)]);
    let chunks = encode(&frame);
    assert_eq!(chunks.last().unwrap().as_ptr(), payload.as_ptr());

    let received = joined(&frame);
    let range = received.as_ptr_range();
    let Ok(Frame::Groups(messages)) = decode(received) else {
        panic!("a frame of groups")
    };
    let Body::Append { entries, .. } = &messages[0].1.body else {
        panic!("an append")
    };
    let Payload::Data(received) = &entries[0].payload else {
        panic!("bytes")
    };
    assert!(range.contains(&received.as_ptr()));
}

#[test]
fn what_is_wrong_is_named() {
    let good = joined(&every_frame()[4]);
    assert_eq!(decode(Bytes::new()), Err(PeerError::Truncated));
    assert_eq!(
        decode(Bytes::from_static(&[PROTOCOL_VERSION])),
        Err(PeerError::Truncated)
    );
    assert_eq!(decode(Bytes::from_static(&[9, 0])), Err(PeerError::Version(9)));
    assert_eq!(
        decode(Bytes::from_static(&[PROTOCOL_VERSION, 99])),
        Err(PeerError::Kind(99))
    );
    assert_eq!(
        decode(Bytes::from_static(&[PROTOCOL_VERSION, kind::HELLO])),
        Err(PeerError::Kind(kind::HELLO))
    );
    assert_eq!(decode(good.slice(..good.len() - 1)), Err(PeerError::Payload));
    let mut longer = good.to_vec();
    longer.push(0);
    assert_eq!(decode(Bytes::from(longer)), Err(PeerError::Trailing(1)));
    assert!(matches!(decode(good.slice(..20)), Err(PeerError::Body(_))));
}

#[test]
fn a_count_beyond_the_bytes_is_refused() {
    // 2^35 messages are promised, none is there.
    let frame = [PROTOCOL_VERSION, kind::GROUPS, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01];
    assert!(matches!(
        decode(Bytes::copy_from_slice(&frame)),
        Err(PeerError::Body(_))
    ));
}

fn append(entries: Vec<Entry>) -> Body {
    let (prev_index, prev_term) = (LogIndex(0), Term(0));
    let (commit, replicated_index) = (LogIndex(0), LogIndex(0));
    Body::Append {
        prev_index,
        prev_term,
        commit,
        replicated_index,
        entries,
    }
}

fn blank() -> Entry {
    let (term, payload) = (Term(1), Payload::Blank);
    Entry { term, payload }
}

/// On the wire these take a few megabytes; in memory they would take a hundred times as much.
#[test]
fn a_frame_names_no_more_than_it_may() {
    let decoded = |frame: &Frame| decode(joined(frame));
    let seeks = |count: usize| Frame::Groups(vec![message(1, Body::Seek); count]);
    assert!(decoded(&seeks(MAX_PARTS)).is_ok());
    assert_eq!(decoded(&seeks(MAX_PARTS + 1)), Err(PeerError::TooMany));
    let appends = |entries: usize| Frame::Groups(vec![message(1, append(vec![blank(); entries])); 2]);
    assert!(
        decoded(&appends(MAX_PARTS / 2 - 1)).is_ok(),
        "with the messages themselves it is all"
    );
    assert_eq!(decoded(&appends(MAX_PARTS / 2)), Err(PeerError::TooMany));
}

#[test]
fn members_count_as_well() {
    let of = |count: u64| Configuration {
        voters: (0..count).map(NodeId).collect(),
        ..Configuration::default()
    };
    let decoded = |configuration: Configuration, entries: usize| {
        let payload = Payload::Configuration(configuration);
        let entry = Entry { term: Term(1), payload };
        decode(joined(&Frame::Groups(vec![message(1, append(vec![entry; entries]))])))
    };
    let most = MAX_MEMBERS as u64;
    assert!(decoded(of(most), 1).is_ok());
    assert!(matches!(decoded(of(most + 1), 1), Err(PeerError::Body(_))));
    assert!(decoded(of(most), MAX_PARTS / MAX_MEMBERS - 1).is_ok());
    assert_eq!(decoded(of(most), MAX_PARTS / MAX_MEMBERS), Err(PeerError::TooMany));
}

/// What [`MAX_PARTS`] promises: the values of a frame take no more than the longest frame that there is, 256 MiB (while
/// they are being read, messages and entries are held twice).
#[test]
fn parts_are_small() {
    let largest = size_of::<(GroupId, Message)>().max(size_of::<Entry>());
    let largest_read = size_of::<(MessageHead, Vec<EntryHead>)>().max(size_of::<EntryHead>());
    assert!(
        MAX_PARTS * (largest + largest_read) <= 256 << 20,
        "{largest} + {largest_read}"
    );
}

#[test]
fn no_bytes_panic() {
    let mut rng = Rng(2);
    let seeds: Vec<Bytes> = every_frame().iter().map(joined).collect();
    for _ in 0..20_000 {
        let seed = &seeds[rng.below(seeds.len())];
        if let Ok(frame) = decode(Bytes::from(rng.mutate(seed))) {
            assert_eq!(decode(joined(&frame)), Ok(frame), "what is read can be written");
        }
    }
    for _ in 0..20_000 {
        let mut bytes = rng.bytes(100);
        if bytes.len() > 1 {
            (bytes[0], bytes[1]) = (bytes[0] & 3, bytes[1] % 10);
        }
        let _ = decode(Bytes::from(bytes));
    }
}
