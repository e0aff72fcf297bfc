//! What brokers say to each other.

use bytes::{Bytes, BytesMut};
use trimaran_wire::batch;
use trimaran_wire::peer::{
    Account, Body, BrokerId, Configuration, Entry, FailOver, FolderId, Frame, GroupId, Heartbeat, Hello, Inquiry,
    LogIndex, Message, NodeId, PROTOCOL_VERSION, Payload, Refused, Relayed, Snapshot, Start, Term, Welcome, decode,
    encode,
};

pub(super) fn target(data: &[u8]) {
    let frame = Bytes::copy_from_slice(data);
    let Ok(decoded) = decode(frame) else { return };
    if let Frame::Groups(messages) = &decoded {
        let payloads = messages.iter().flat_map(|(_, message)| match &message.body {
            Body::Append { entries, .. } => entries.as_slice(),
            _ => &[],
        });
        let bytes: usize = payloads
            .map(|entry| match &entry.payload {
                Payload::Data(bytes) => bytes.len(),
                Payload::Blank | Payload::Configuration(_) => 0,
            })
            .sum();
        assert!(
            bytes <= data.len(),
            "payloads are slices of the frame, each of its own part"
        );
    }
    let again = whole(&decoded);
    assert!(again.len() <= data.len(), "no encoding is shorter than ours");
    assert_eq!(decode(again), Ok(decoded));
}

fn whole(frame: &Frame) -> Bytes {
    let mut bytes = BytesMut::new();
    for chunk in encode(frame) {
        bytes.extend_from_slice(&chunk);
    }
    bytes.freeze()
}

/// One of every kind, and of every kind of message.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut frames = handshakes();
    frames.extend([
        Frame::Heartbeat(Heartbeat {
            incarnation: 1_700_000_000_000,
            sequence: 300,
            echo_sequence: 299,
            echo_incarnation: 1,
            hears: vec![BrokerId(2), BrokerId(3)],
        }),
        Frame::Relayed(Relayed {
            from: BrokerId(2),
            to: BrokerId(3),
            start: Start {
                folder: FolderId([7; 16]),
                incarnation: 1_700_000_000_000,
            },
            previous: 300,
            frame: Bytes::from_static(b"a frame"),
        }),
        Frame::Control(Bytes::from_static(b"\x01what agents say")),
        Frame::FailOver(FailOver {
            group: GroupId(77),
            failed: Some(BrokerId(2)),
        }),
        Frame::Groups(Vec::new()),
    ]);
    let messages: Vec<(GroupId, Message)> = bodies()
        .into_iter()
        .enumerate()
        .map(|(number, body)| (GroupId(number as u64 * 100), Message { term: Term(9), body }))
        .collect();
    frames.extend(messages.iter().map(|message| Frame::Groups(vec![message.clone()])));
    frames.push(Frame::Groups(messages));
    frames.iter().map(|frame| whole(frame).to_vec()).collect()
}

fn handshakes() -> Vec<Frame> {
    let start = Start {
        folder: FolderId([7; 16]),
        incarnation: 1_700_000_000_000,
    };
    let hello = Hello {
        protocol: PROTOCOL_VERSION,
        cluster_id: "trimaran".into(),
        broker: BrokerId(1),
        incarnation: start.incarnation,
        to: BrokerId(2),
        folder: start.folder,
        previous: start.incarnation - 1,
        founders: vec![BrokerId(1), BrokerId(2), BrokerId(3)],
        address: "host:9192".into(),
    };
    let inquiry = Inquiry {
        cluster_id: "trimaran".into(),
        broker: BrokerId(1),
        last: start,
    };
    let account = Account {
        cluster_id: "trimaran".into(),
        broker: BrokerId(2),
        seen: Some(start),
        alive: Some(start),
    };
    let welcome = Welcome {
        protocol: 1,
        cluster_id: "trimaran".into(),
        broker: BrokerId(2),
        incarnation: 5,
    };
    let refusals = [
        Refused::Version { supported: 1 },
        Refused::OtherCluster { cluster_id: "x".into() },
        Refused::OtherBroker { broker: BrokerId(-1) },
        Refused::UnknownBroker,
        Refused::Other("because".into()),
        Refused::OtherFounders {
            founders: vec![BrokerId(1)],
        },
        Refused::Superseded(start),
        Refused::RolledBack(start),
        Refused::AnotherRuns(start),
    ];
    let handshakes = [
        Frame::Hello(hello),
        Frame::Welcome(welcome),
        Frame::Inquiry(inquiry),
        Frame::Account(account),
    ];
    handshakes.into_iter().chain(refusals.map(Frame::Refused)).collect()
}

fn bodies() -> Vec<Body> {
    let payload = batch::build(5, &[(Some(b"k"), Some(b"v"))]).freeze();
    let entries = vec![
        Entry {
            term: Term(8),
            payload: Payload::Data(payload.clone()),
        },
        Entry {
            term: Term(9),
            payload: Payload::Blank,
        },
        Entry {
            term: Term(9),
            payload: Payload::Data(Bytes::new()),
        },
        Entry {
            term: Term(9),
            payload: Payload::Configuration(configuration()),
        },
        Entry {
            term: Term(9),
            payload: Payload::Data(payload),
        },
    ];
    let (index, term) = (LogIndex(1 << 40), Term(9));
    vec![
        Body::PreVote {
            last_index: index,
            last_term: term,
        },
        Body::PreVoteReply {
            granted: true,
            longer_log: false,
        },
        Body::Vote {
            last_index: index,
            last_term: term,
            transfer: true,
        },
        Body::VoteReply { granted: false },
        Body::Append {
            prev_index: index,
            prev_term: term,
            commit: index,
            replicated_index: LogIndex(3),
            entries,
        },
        Body::AppendAccepted {
            match_index: index,
            commit: index,
            life: 300,
        },
        Body::AppendRejected {
            prev_index: index,
            hint_index: LogIndex(7),
            hint_term: term,
        },
        Body::Heartbeat {
            commit: index,
            round: 3,
        },
        Body::HeartbeatReply {
            commit: index,
            round: 3,
        },
        Body::TimeoutNow,
        Body::Snapshot {
            snapshot: Box::new(Snapshot {
                index,
                term,
                configuration: configuration(),
                data: Bytes::from_static(b"where its segments are"),
            }),
            commit: index,
            replicated_index: LogIndex(3),
        },
        Body::Lost { life: 300 },
        Body::Rejoin {
            since: index,
            life: 300,
        },
    ]
}

/// Voters are being exchanged.
fn configuration() -> Configuration {
    Configuration {
        voters: [1, 2, 3].map(NodeId).to_vec(),
        outgoing: [1, 2, 4].map(NodeId).to_vec(),
        learners: vec![NodeId(5)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_a_frame() {
        for seed in seeds() {
            assert_eq!(whole(&decode(Bytes::from(seed.clone())).unwrap()), seed);
        }
    }
}
