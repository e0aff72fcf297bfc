use super::*;
use crate::workers::Activity;
use raft::{Body, Entry, GroupId, LogIndex, Message, Payload, Term};
use wire::{Handshake as Shake, Versions};

/// Broker 1.
fn peers() -> (tempfile::TempDir, Peers) {
    broker(1, Versions::SUPPORTED)
}

fn broker(node: u64, versions: Versions) -> (tempfile::TempDir, Peers) {
    let limits = crate::shards::MailboxLimits {
        requests: 8,
        bytes: 1024,
    };
    let folder = tempfile::tempdir().unwrap();
    let starts = StartStore::open(folder.path(), std::time::Duration::from_secs(3600)).unwrap();
    let peers = Peers {
        cluster_id: "c".to_owned(),
        node: NodeId(node),
        start: Announcement::default(),
        starts,
        versions,
        agreed: Agreed::default(),
        twins: Twins::default(),
        founders: Founders::new([1, 2].map(BrokerId)),
        address: "a:1".to_owned(),
        newcomers: Mutex::default(),
        mailboxes: Mailboxes::new(&[Activity::unwatched(), Activity::unwatched()], limits),
        control: Arc::new(ControlQueue::new()),
        metrics: Arc::new(Metrics::new()),
    };
    (folder, peers)
}

fn hello(change: impl FnOnce(&mut wire::Hello)) -> Bytes {
    let mut hello = wire::Hello {
        versions: Versions::SUPPORTED,
        cluster_id: "c".to_owned(),
        broker: wire::BrokerId(2),
        incarnation: 3,
        to: wire::BrokerId(1),
        folder: wire::FolderId([7; 16]),
        previous: 0,
        founders: vec![wire::BrokerId(1), wire::BrokerId(2)],
        address: "b:2".to_owned(),
    };
    change(&mut hello);
    Bytes::from(Shake::Hello(hello).encode().concat())
}

fn refusal(admission: Admission) -> wire::Refused {
    match admission {
        Admission::Rejected { answer, .. } => match Shake::decode(&answer.concat()) {
            Ok(Shake::Refused(refused)) => refused,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_brokers_of_the_cluster_are_let_in() {
    let (_folder, peers) = peers();
    let from = SocketAddr::from(([127, 0, 0, 1], 1));
    let admit = |change: fn(&mut wire::Hello)| peers.admit(from, hello(change));
    assert!(matches!(admit(|_| ()), Admission::Welcome(PeerId(2), _)));
    assert_eq!(
        refusal(admit(|h| h.cluster_id = "d".to_owned())),
        wire::Refused::OtherCluster {
            cluster_id: "c".to_owned()
        }
    );
    assert_eq!(
        refusal(admit(|h| h.to = wire::BrokerId(3))),
        wire::Refused::OtherBroker {
            broker: wire::BrokerId(1)
        }
    );
    assert!(matches!(
        refusal(admit(|h| h.versions = Versions::only(99))),
        wire::Refused::Version { .. }
    ));
    for stranger in [1, -1] {
        let hello = hello(|h| h.broker = wire::BrokerId(stranger));
        assert_eq!(refusal(peers.admit(from, hello)), wire::Refused::UnknownBroker);
    }
    for bytes in [&b""[..], b"GET / HTTP/1.1", b"\x00\x00"] {
        let admission = peers.admit(from, Bytes::from_static(bytes));
        assert!(matches!(admission, Admission::Rejected { ref answer, .. } if answer.is_empty()));
    }
}

/// The settings of the cluster from five to three brokers, one restart after the other, would give two majorities that
/// don't meet.
#[test]
fn a_broker_that_was_told_other_founders_is_refused_and_both_sides_are_told_what_to_do() {
    let (_folder, peers) = peers();
    let from = SocketAddr::from(([127, 0, 0, 1], 1));
    let others = hello(|h| h.founders = [1, 2, 3].map(wire::BrokerId).to_vec());
    let Admission::Rejected { answer, reason } = peers.admit(from, others) else {
        panic!("let in")
    };
    for part in [
        "`cluster.voters` names 1, 2, 3",
        "this broker's names 1, 2",
        "docs/operations.md",
    ] {
        assert!(reason.contains(part), "{part}: {reason}");
    }
    let told = peers
        .check_welcome(PeerId(2), Bytes::from(answer.concat()))
        .unwrap_err();
    for part in [
        "the peer's `cluster.voters` names 1, 2,",
        "Correct it",
        "docs/operations.md",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn a_broker_that_is_no_founder_is_let_in_and_says_where_it_is_reached() {
    let (_folder, peers) = peers();
    let from = SocketAddr::from(([127, 0, 0, 1], 1));
    let newcomer = hello(|h| h.broker = wire::BrokerId(7));
    assert!(matches!(peers.admit(from, newcomer), Admission::Welcome(PeerId(7), _)));
    let mut inputs = Vec::new();
    peers.control.take(&mut inputs, None).unwrap();
    assert!(
        matches!(&inputs[..], [ControlInput::Newcomer(NodeId(7), address)] if address == "b:2"),
        "the founders' configuration doesn't list it"
    );
    let others = (100..).map(NodeId).take(limits::BROKERS - 1);
    peers.newcomers.lock().unwrap().extend(others);
    let one_more = peers.admit(from, hello(|h| h.broker = wire::BrokerId(99)));
    assert_eq!(refusal(one_more), wire::Refused::UnknownBroker, "a cluster has a limit");
    assert!(
        matches!(
            peers.admit(from, hello(|h| h.broker = wire::BrokerId(7))),
            Admission::Welcome(..)
        ),
        "but those that were there come back"
    );
}

/// A frame for group 0.
fn seek() -> Bytes {
    groups(&vec![(GroupId(0), message(Body::Seek))])
}

fn message(body: Body) -> Message {
    Message { term: Term(1), body }
}

fn groups(messages: &Messages) -> Bytes {
    framed(&Frame::Groups(envelope::encode(messages).concat().into()))
}

fn framed(frame: &Frame) -> Bytes {
    Bytes::from(frame.encode(wire::PROTOCOL_VERSION).concat())
}

fn start_of(folder: u8, incarnation: u64) -> wire::Start {
    wire::Start {
        folder: wire::FolderId([folder; 16]),
        incarnation,
    }
}

fn relayed_from(start: wire::Start, previous: u64, (from, to): (i32, i32), frame: Bytes) -> Bytes {
    let relayed = wire::Relayed {
        from: wire::BrokerId(from),
        to: wire::BrokerId(to),
        start,
        previous,
        frame,
    };
    framed(&Frame::Relayed(relayed))
}

#[test]
fn a_frame_through_a_third_broker_is_taken_or_passed_on_once() {
    let (_folder, peers) = peers();
    let start = start_of(7, 3);
    peers.starts.note(BrokerId(3), starts::from_wire(start)).unwrap();
    let relayed = |from, to, frame| relayed_from(start, 0, (from, to), frame);
    // For this broker, from 3 through 2.
    peers.frame(PeerId(2), relayed(3, 1, seek()));
    assert_eq!(peers.mailboxes.shard(0).len(), 1);
    // From 2 for 3.
    peers.frame(PeerId(2), relayed(2, 3, seek()));
    let mut inputs = Vec::new();
    peers.control.take(&mut inputs, None).unwrap();
    assert!(matches!(&inputs[..], [ControlInput::PassOn(relayed)] if relayed.to == wire::BrokerId(3)));
    assert_eq!(peers.metrics.bad_frames.get(), 0);
    // What has been passed on already, what may not take that way, and what nobody else can have sent.
    peers.frame(PeerId(2), relayed(4, 3, seek()));
    peers.frame(PeerId(2), relayed(3, 1, relayed(3, 1, seek())));
    peers.frame(PeerId(2), relayed(3, 1, Bytes::from_static(b"?")));
    peers.frame(PeerId(2), relayed(1, 1, seek()));
    peers.frame(PeerId(2), relayed(-1, 1, seek()));
    assert_eq!(peers.metrics.bad_frames.get(), 5);
    assert_eq!(peers.mailboxes.shard(0).len(), 1);
}

/// A broker with a former data folder would vote through a third one where its own link is cut.
#[test]
fn a_frame_through_a_third_broker_is_taken_only_from_a_start_that_would_be_let_in() {
    let (_folder, peers) = peers();
    let taken = || peers.mailboxes.shard(0).len();
    let announced = |start: wire::Start, previous| {
        let before = taken();
        peers.frame(PeerId(2), relayed_from(start, previous, (3, 1), seek()));
        if taken() > before {
            return None;
        }
        let mut inputs = Vec::new();
        peers
            .control
            .take(&mut inputs, Some(std::time::Instant::now()))
            .unwrap();
        match &inputs[..] {
            [] => None,
            [ControlInput::Announced(BrokerId(3), announced)] => Some(*announced),
            _ => panic!("something else"),
        }
    };
    let judged = |start, previous| {
        let announced = announced(start, previous).expect("is judged off the link");
        peers.starts.admit_relayed(BrokerId(3), &announced)
    };
    // A start that nobody has heard of is judged and noted first, once; then its frames are taken.
    let first = start_of(7, 5);
    assert_eq!(judged(first, 0).unwrap(), Accepted::Later);
    assert_eq!(taken(), 0);
    assert_eq!(announced(first, 0), None);
    assert_eq!(taken(), 1);
    assert_eq!(judged(start_of(7, 9), 5).unwrap(), Accepted::Later);
    // The former start's, which were under way; an old copy of the folder; a former folder.
    let seen = starts::from_wire(start_of(7, 9));
    let refusal = |start, previous| match judged(start, previous) {
        Err(NotAdmitted::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal(first, 0), Refusal::Superseded(seen));
    assert_eq!(refusal(start_of(7, 11), 5), Refusal::RolledBack(seen));
    assert_eq!(refusal(start_of(6, 12), 5), Refusal::RolledBack(seen));
    assert_eq!(announced(start_of(6, 12), 5), None, "it was judged a moment ago");
    assert_eq!(taken(), 1);
    assert_eq!(announced(start_of(7, 9), 5), None);
    assert_eq!(taken(), 2);
    assert_eq!(peers.metrics.bad_frames.get(), 0);
}

/// A process that is not let in has promised nothing: its start must not make another one's folder look old.
#[test]
fn a_start_is_judged_before_its_founders_and_noted_after_them() {
    let (_folder, peers) = peers();
    let from = SocketAddr::from(([127, 0, 0, 1], 1));
    let admit = |incarnation: u64, previous: u64, founders: i32| {
        let hello = hello(|hello| {
            hello.incarnation = incarnation;
            hello.previous = previous;
            hello.founders = (1..=founders).map(wire::BrokerId).collect();
        });
        peers.admit(from, hello)
    };
    assert!(matches!(refusal(admit(9, 0, 3)), wire::Refused::OtherFounders { .. }));
    assert_eq!(peers.starts.latest(BrokerId(2)), None);
    assert!(matches!(admit(9, 0, 2), Admission::Welcome(PeerId(2), _)));
    let seen = start_of(7, 9);
    assert_eq!(refusal(admit(8, 0, 3)), wire::Refused::Superseded(seen));
    assert_eq!(refusal(admit(11, 5, 3)), wire::Refused::RolledBack(seen));
}

#[test]
fn a_start_is_let_in_only_if_its_folder_is_not_behind() {
    let (_folder, peers) = peers();
    let from = SocketAddr::from(([127, 0, 0, 1], 1));
    let seen = |incarnation| wire::Start {
        folder: wire::FolderId([7; 16]),
        incarnation,
    };
    let admit = |folder: u8, incarnation: u64, previous: u64| {
        peers.admit(
            from,
            hello(|hello| {
                hello.folder = wire::FolderId([folder; 16]);
                hello.incarnation = incarnation;
                hello.previous = previous;
            }),
        )
    };
    let is_in = |admission| matches!(admission, Admission::Welcome(PeerId(2), _));
    assert!(is_in(admit(7, 5, 0)));
    assert!(is_in(admit(7, 9, 5)));
    assert_eq!(refusal(admit(7, 8, 5)), wire::Refused::Superseded(seen(9)));
    assert_eq!(refusal(admit(7, 10, 5)), wire::Refused::RolledBack(seen(9)));
    assert_eq!(refusal(admit(6, 10, 5)), wire::Refused::RolledBack(seen(9)));
    peers.arrived(PeerId(2));
    assert_eq!(refusal(admit(8, 10, 0)), wire::Refused::AnotherRuns(seen(9)));
    peers.left(PeerId(2));
    assert!(is_in(admit(8, 10, 0)));
}

#[test]
fn a_broker_that_starts_is_told_what_is_known_of_it() {
    let (_folder, peers) = peers();
    let from = SocketAddr::from(([127, 0, 0, 1], 1));
    let ask = |cluster: &str, broker| {
        let inquiry = Shake::Inquiry(wire::Inquiry {
            cluster_id: cluster.to_owned(),
            broker: wire::BrokerId(broker),
            last: wire::Start::default(),
        });
        peers.admit(from, Bytes::from(inquiry.encode().concat()))
    };
    let told = |broker| match ask("c", broker) {
        Admission::Answered(answer) => match Shake::decode(&answer.concat()) {
            Ok(Shake::Account(account)) => (account.seen, account.alive),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    assert_eq!(told(2), (None, None));
    assert!(matches!(peers.admit(from, hello(|_| ())), Admission::Welcome(..)));
    let start = Some(wire::Start {
        folder: wire::FolderId([7; 16]),
        incarnation: 3,
    });
    assert_eq!(told(2), (start, None));
    peers.arrived(PeerId(2));
    assert_eq!(told(2), (start, start));
    // A process that asks under this broker's own id is another one.
    let own = Some(starts::to_wire(peers.start.start));
    assert_eq!(told(1), (own, own));
    assert!(matches!(refusal(ask("d", 2)), wire::Refused::OtherCluster { .. }));
}

#[test]
fn a_process_that_is_not_accepted_any_more_stops() {
    let (_folder, peers) = peers();
    let refused = wire::Refused::Superseded(wire::Start::default());
    let answer = Bytes::from(Shake::Refused(refused.clone()).encode().concat());
    assert!(peers.check_welcome(PeerId(2), answer).is_err());
    let mut inputs = Vec::new();
    peers.control.take(&mut inputs, None).unwrap();
    assert!(matches!(&inputs[..], [ControlInput::Disowned(NodeId(2), said)] if *said == refused));
}

#[test]
fn the_welcome_is_checked() {
    let (_folder, peers) = peers();
    let check = |cluster: &str, broker: i32| {
        let welcome = Shake::Welcome(wire::Welcome {
            protocol: wire::PROTOCOL_VERSION,
            cluster_id: cluster.to_owned(),
            broker: wire::BrokerId(broker),
            incarnation: 1,
        });
        peers.check_welcome(PeerId(2), Bytes::from(welcome.encode().concat()))
    };
    assert_eq!(check("c", 2), Ok(()));
    assert!(check("d", 2).unwrap_err().contains("cluster d"));
    assert!(check("c", 3).unwrap_err().contains("broker 3 answers"));
    let refused = Bytes::from(Shake::Refused(wire::Refused::UnknownBroker).encode().concat());
    assert!(peers.check_welcome(PeerId(2), refused).is_err());
    assert!(peers.check_welcome(PeerId(2), Bytes::from_static(b"?")).is_err());
}

#[test]
fn messages_find_their_shards_and_overflow_is_dropped() {
    let (_folder, peers) = peers();
    let of = |group| {
        let body = Body::HeartbeatReply {
            commit: LogIndex(1),
            round: 0,
        };
        (GroupId(group), message(body))
    };
    let frame = |count: u64| groups(&(0..count).map(of).collect());
    peers.frame(PeerId(2), frame(4));
    assert_eq!((peers.mailboxes.shard(0).len(), peers.mailboxes.shard(1).len()), (1, 1));
    // 1024 bytes of room, about 64 a message: the next frame of 40 has no room any longer.
    peers.frame(PeerId(2), frame(40));
    assert_eq!((peers.mailboxes.shard(0).len(), peers.mailboxes.shard(1).len()), (1, 1));
    assert_eq!(peers.metrics.dropped_messages.get(), 40);
    peers.frame(PeerId(2), Bytes::from_static(b"\x02\xff"));
    assert_eq!(peers.metrics.bad_frames.get(), 1);
}

/// One small entry of a quiet partition would keep it for as long as it is in memory.
#[test]
fn an_entry_does_not_keep_the_frame_that_it_came_in() {
    let (_folder, peers) = peers();
    let entry = Entry {
        index: LogIndex(1),
        term: Term(1),
        payload: Payload::Data(Bytes::from_static(b"a batch")),
    };
    let body = Body::Append {
        prev_index: LogIndex(0),
        prev_term: Term(0),
        commit: LogIndex(0),
        replicated_index: LogIndex(0),
        entries: vec![entry],
    };
    let frame = groups(&vec![(GroupId(0), message(body))]);
    peers.frame(PeerId(2), frame.clone());
    assert_eq!(peers.mailboxes.shard(0).len(), 1);
    assert!(frame.is_unique(), "and nothing that was made of it");
}

fn range(lowest: u8, highest: u8) -> Versions {
    Versions { lowest, highest }
}

/// Each half of two brokers' contact: the version that the one that says hello speaks then, or what both logs say.
fn shake_hands(from: &Peers, to: &Peers) -> Result<u8, [String; 2]> {
    let hello = Bytes::from(from.hello(PeerId(to.node.0)).concat());
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    match to.admit(address, hello) {
        Admission::Welcome(_, answer) => {
            let welcome = Bytes::from(answer.concat());
            from.check_welcome(PeerId(to.node.0), welcome).unwrap();
            Ok(from.agreed.with(to.node))
        }
        Admission::Rejected { answer, reason } => {
            let answer = Bytes::from(answer.concat());
            Err([from.check_welcome(PeerId(to.node.0), answer).unwrap_err(), reason])
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn brokers_of_neighbouring_releases_speak_the_version_that_both_know() {
    let one = |n| broker(1, Versions::only(n));
    for n in [4, 5] {
        for offered in [range(n, n + 1), range(n - 1, n), range(n, n)] {
            let ((_folder, one), (_other, two)) = (one(n), broker(2, offered));
            assert_eq!(shake_hands(&two, &one), Ok(n), "{offered} to {n}");
            assert_eq!(shake_hands(&one, &two), Ok(n), "{n} to {offered}");
        }
    }
    let ((_folder, one), (_other, two)) = (broker(1, range(4, 5)), broker(2, range(5, 6)));
    assert_eq!((shake_hands(&one, &two), shake_hands(&two, &one)), (Ok(5), Ok(5)));
}

#[test]
fn brokers_without_a_common_version_both_say_which_one_to_update() {
    for n in [4, 5] {
        let (_folder, older) = broker(1, Versions::only(n));
        let (_other, newer) = broker(2, range(n + 1, n + 2));
        for [from, to] in [[&older, &newer], [&newer, &older]] {
            let said = shake_hands(from, to).expect_err("they have no version in common");
            for (by, said) in [from, to].into_iter().zip(said) {
                let advice = if by.node == older.node {
                    "update this broker"
                } else {
                    "update broker 1"
                };
                let own = format!("this broker {}", by.versions);
                assert!(said.contains(advice) && said.contains(&own), "{said}");
                assert!(said.contains("docs/operations.md"), "{said}");
            }
        }
    }
}

#[test]
fn a_welcome_names_a_version_that_this_broker_speaks() {
    let (_folder, peers) = peers();
    let welcome = Shake::Welcome(wire::Welcome {
        protocol: Versions::SUPPORTED.highest + 1,
        cluster_id: "c".to_owned(),
        broker: wire::BrokerId(2),
        incarnation: 1,
    });
    let refused = peers.check_welcome(PeerId(2), welcome.encode().concat().into());
    assert!(refused.unwrap_err().contains("update this broker"));
}

#[test]
fn a_frame_is_encoded_for_the_one_that_decodes_it() {
    let agreed = Agreed::default();
    let [through, to] = [NodeId(2), NodeId(3)];
    assert_eq!(agreed.with(to), wire::PROTOCOL_VERSION);
    agreed.note(through, 7);
    assert_eq!((agreed.with(through), agreed.through(through, to)), (7, 7));
    agreed.note(to, 6);
    assert_eq!((agreed.with(to), agreed.through(through, to)), (6, 6));
}
