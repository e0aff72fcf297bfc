use super::*;
use crate::testing::Rng;

fn joined(frame: &Frame) -> Bytes {
    Bytes::from(frame.encode(PROTOCOL_VERSION).concat())
}

fn shaken(handshake: &Handshake) -> Vec<u8> {
    handshake.encode().concat()
}

fn start(incarnation: u64) -> Start {
    let folder = FolderId([0xfa; 16]);
    Start { folder, incarnation }
}

fn hello(versions: Versions) -> Hello {
    Hello {
        versions,
        cluster_id: "c1".to_owned(),
        broker: BrokerId(1),
        incarnation: 7,
        to: BrokerId(2),
        folder: FolderId([0xfa; 16]),
        previous: 6,
        founders: vec![BrokerId(1), BrokerId(2), BrokerId(3)],
        address: "h:9".to_owned(),
    }
}

fn range(lowest: u8, highest: u8) -> Versions {
    Versions { lowest, highest }
}

/// Each with its bytes.
fn every_handshake() -> Vec<(Handshake, &'static str)> {
    let cluster_id = "c1".to_string();
    let mut handshakes = vec![
        (
            Handshake::Hello(hello(Versions::only(4))),
            "0000 04 026331 02 07 04 fafafafafafafafafafafafafafafafa 06 03020406 03683a39",
        ),
        (
            Handshake::Hello(hello(range(4, 5))),
            "0000 05 026331 02 07 04 04 fafafafafafafafafafafafafafafafa 06 03020406 03683a39",
        ),
        (
            Handshake::Welcome(Welcome {
                protocol: 1,
                cluster_id: cluster_id.clone(),
                broker: BrokerId(2),
                incarnation: 8,
            }),
            "0001 01 026331 04 08",
        ),
        (
            Handshake::Inquiry(Inquiry {
                cluster_id: cluster_id.clone(),
                broker: BrokerId(1),
                last: start(6),
            }),
            "0408 026331 02 fafafafafafafafafafafafafafafafa 06",
        ),
        (
            Handshake::Account(Account {
                cluster_id: cluster_id.clone(),
                broker: BrokerId(2),
                seen: Some(start(7)),
                alive: None,
            }),
            "0409 026331 04 01 fafafafafafafafafafafafafafafafa 07 00",
        ),
    ];
    let refusals = [
        (Refused::Version { supported: 1 }, "0002 00 01"),
        (Refused::OtherCluster { cluster_id }, "0002 01 026331"),
        (Refused::OtherBroker { broker: BrokerId(3) }, "0002 02 06"),
        (Refused::UnknownBroker, "0002 03"),
        (Refused::Other("busy".into()), "0002 04 0462757379"),
        (
            Refused::Superseded(start(9)),
            "0002 05 fafafafafafafafafafafafafafafafa 09",
        ),
        (
            Refused::RolledBack(start(9)),
            "0002 06 fafafafafafafafafafafafafafafafa 09",
        ),
        (
            Refused::AnotherRuns(start(9)),
            "0002 07 fafafafafafafafafafafafafafafafa 09",
        ),
        (
            Refused::OtherFounders {
                founders: vec![BrokerId(1), BrokerId(2)],
            },
            "0002 08 02 02 04",
        ),
    ];
    handshakes.extend(refusals.map(|(refused, bytes)| (Handshake::Refused(refused), bytes)));
    handshakes
}

/// Each with its bytes.
fn every_frame() -> [(Frame, &'static str); 5] {
    [
        (
            Frame::Heartbeat(Heartbeat {
                incarnation: 7,
                sequence: 1_000,
                echo_sequence: 999,
                echo_incarnation: 8,
                hears: vec![BrokerId(2), BrokerId(300)],
            }),
            "0403 07 e807 e707 08 02 04 d804",
        ),
        (
            Frame::Relayed(Relayed {
                from: BrokerId(2),
                to: BrokerId(3),
                start: start(6),
                previous: 5,
                frame: Bytes::from_static(b"a frame"),
            }),
            "0407 04 06 fafafafafafafafafafafafafafafafa 06 05 61206672616d65",
        ),
        (Frame::Groups(Bytes::from_static(b"opaque")), "0404 6f7061717565"),
        (Frame::Control(Bytes::from_static(b"opaque")), "0405 6f7061717565"),
        (
            Frame::FailOver(FailOver {
                group: GroupId(300),
                failed: Some(BrokerId(2)),
            }),
            "0406 ac02 01 04",
        ),
    ]
}

#[test]
fn every_frame_comes_back() {
    for (frame, _) in every_frame() {
        assert_eq!(Frame::decode(joined(&frame)), Ok(frame));
    }
    for (handshake, _) in every_handshake() {
        assert_eq!(Handshake::decode(&shaken(&handshake)), Ok(handshake));
    }
}

/// Formats are promises: brokers of two releases talk to each other while a cluster is upgraded. If this fails, either
/// undo the change of the format or give it a new version.
#[test]
fn bytes_are_golden() {
    let frames = every_frame().into_iter();
    let frames = frames.map(|(frame, golden)| (joined(&frame).to_vec(), golden));
    let handshakes = every_handshake().into_iter();
    let handshakes = handshakes.map(|(handshake, golden)| (shaken(&handshake), golden));
    for (bytes, golden) in frames.chain(handshakes) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, golden.replace(' ', ""));
    }
}

#[test]
fn a_frame_carries_the_version_of_its_connection() {
    for (frame, _) in every_frame() {
        let chunks = frame.encode(9);
        assert_eq!(chunks[0][0], 9);
        assert_eq!(Frame::decode(Bytes::from(chunks.concat())), Err(PeerError::Version(9)));
    }
}

#[test]
fn two_brokers_speak_the_highest_version_of_both() {
    let n = Versions::only(5);
    for (offered, common) in [
        (range(5, 6), Some(5)),
        (range(4, 5), Some(5)),
        (range(5, 5), Some(5)),
        (range(4, 7), Some(5)),
        (range(6, 7), None),
        (range(3, 4), None),
    ] {
        assert_eq!((n.common(offered), offered.common(n)), (common, common), "{offered}");
    }
    assert_eq!(range(4, 6).common(range(3, 5)), Some(5));
    assert_eq!(
        (range(4, 5).nearest(range(1, 2)), range(4, 5).nearest(range(7, 8))),
        (4, 5)
    );
    assert_eq!(
        (range(4, 5).to_string(), n.to_string()),
        ("versions 4 to 5".into(), "version 5".into())
    );
}

/// Builds of version 4 read a hello to its end, and nothing behind its first part if it begins with another version.
#[test]
fn a_build_of_one_version_reads_the_hello_of_a_range() {
    let of_range = shaken(&Handshake::Hello(hello(range(4, 5))));
    let of_one = shaken(&Handshake::Hello(hello(Versions::only(4))));
    let first = 9;
    assert_eq!(
        (of_range[2], &of_range[3..first]),
        (5, &of_one[3..first]),
        "it sees version 5, and refuses that"
    );
    let mut longer = of_one;
    longer.push(0);
    assert_eq!(Handshake::decode(&longer), Err(PeerError::Trailing(1)));
}

/// Later versions may say more at the end of a hello, and earlier ones said something else there.
#[test]
fn a_hello_of_another_version_is_read_as_far_as_it_never_changes() {
    let later = Handshake::Hello(hello(range(6, 7)));
    let mut bytes = shaken(&later);
    bytes.extend_from_slice(b"something else");
    assert_eq!(Handshake::decode(&bytes), Ok(later));
    bytes[2] = 3;
    let Ok(Handshake::Hello(earlier)) = Handshake::decode(&bytes) else {
        panic!("a hello")
    };
    let expected = Hello {
        folder: FolderId::default(),
        previous: 0,
        founders: Vec::new(),
        address: String::new(),
        ..hello(Versions::only(3))
    };
    assert_eq!(earlier, expected);
}

#[test]
fn bytes_of_other_encodings_are_not_copied() {
    let payload = Bytes::from(vec![1u8; 1_000]);
    let chunks = encode_groups(PROTOCOL_VERSION, vec![payload.clone()]);
    assert_eq!(chunks.last().unwrap().as_ptr(), payload.as_ptr());
    assert_eq!(chunks.concat(), joined(&Frame::Groups(payload)));
    let received = Bytes::from(chunks.concat());
    let range = received.as_ptr_range();
    let Ok(Frame::Groups(messages)) = Frame::decode(received) else {
        panic!("a frame of groups")
    };
    assert!(range.contains(&messages.as_ptr()));
}

#[test]
fn what_is_wrong_is_named() {
    let frame = |bytes: &'static [u8]| Frame::decode(Bytes::from_static(bytes));
    assert_eq!(frame(&[]), Err(PeerError::Truncated));
    assert_eq!(frame(&[PROTOCOL_VERSION]), Err(PeerError::Truncated));
    assert_eq!(frame(&[9, 0]), Err(PeerError::Version(9)));
    assert_eq!(frame(&[PROTOCOL_VERSION, 99]), Err(PeerError::Kind(99)));
    assert_eq!(
        frame(&[PROTOCOL_VERSION, kind::HELLO]),
        Err(PeerError::Kind(kind::HELLO))
    );
    assert_eq!(
        frame(&[PROTOCOL_VERSION, kind::FAIL_OVER, 1, 0, 0]),
        Err(PeerError::Trailing(1))
    );
    assert_eq!(Handshake::decode(&[0]), Err(PeerError::Truncated));
    assert_eq!(Handshake::decode(&[9, 0]), Err(PeerError::Version(9)));
    assert_eq!(
        Handshake::decode(&[0, kind::GROUPS]),
        Err(PeerError::Kind(kind::GROUPS))
    );
    let nothing = shaken(&Handshake::Hello(hello(range(6, 5))));
    assert_eq!(Handshake::decode(&nothing), Err(PeerError::Versions(range(6, 5))));
}

#[test]
fn a_count_beyond_the_bytes_is_refused() {
    // 2^35 brokers are promised, none is there.
    let mut frame = vec![PROTOCOL_VERSION, kind::HEARTBEAT, 7, 1, 1, 8];
    frame.extend([0x80, 0x80, 0x80, 0x80, 0x80, 0x01]);
    assert!(matches!(Frame::decode(Bytes::from(frame)), Err(PeerError::Body(_))));
}

#[test]
fn no_bytes_panic() {
    let mut rng = Rng(2);
    let frames = every_frame().into_iter().map(|(frame, _)| joined(&frame).to_vec());
    let handshakes = every_handshake().into_iter().map(|(handshake, _)| shaken(&handshake));
    let seeds: Vec<Vec<u8>> = frames.chain(handshakes).collect();
    let read = |bytes: Vec<u8>| {
        if let Ok(handshake) = Handshake::decode(&bytes) {
            let again = Handshake::decode(&shaken(&handshake));
            assert_eq!(again, Ok(handshake), "what is read can be written");
        }
        if let Ok(frame) = Frame::decode(Bytes::from(bytes)) {
            assert_eq!(Frame::decode(joined(&frame)), Ok(frame), "what is read can be written");
        }
    };
    for _ in 0..20_000 {
        let seed = &seeds[rng.below(seeds.len())];
        read(rng.mutate(seed));
    }
    for _ in 0..20_000 {
        let mut bytes = rng.bytes(100);
        if bytes.len() > 1 {
            (bytes[0], bytes[1]) = ([0, 4][usize::from(bytes[0] & 1)], bytes[1] % 10);
        }
        read(bytes);
    }
}
