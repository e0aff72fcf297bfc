//! What brokers say to each other.

use bytes::Bytes;
use trimaran_multiraft::envelope::{self, Messages};
use trimaran_raft::{Body, Configuration, Entry, GroupId, Life, LogIndex, Message, NodeId, Payload, Snapshot, Term};
use trimaran_wire::batch;
use trimaran_wire::peer::{
    self, Account, BrokerId, FailOver, FolderId, Frame, Handshake, Heartbeat, Hello, Inquiry, PROTOCOL_VERSION,
    Refused, Relayed, Start, Versions, Welcome,
};

pub(super) fn target(data: &[u8]) {
    if let Ok(handshake) = Handshake::decode(data) {
        assert_eq!(Handshake::decode(&handshake.encode().concat()), Ok(handshake));
    }
    let Ok(frame) = Frame::decode(Bytes::copy_from_slice(data)) else {
        return;
    };
    if let Frame::Groups(messages) = &frame {
        groups(messages);
    }
    let again = whole(&frame);
    assert!(again.len() <= data.len(), "no encoding is shorter than ours");
    assert_eq!(Frame::decode(again), Ok(frame));
}

fn groups(bytes: &Bytes) {
    let Ok(messages) = envelope::decode(bytes.clone()) else {
        return;
    };
    let entries = messages.iter().flat_map(|(_, message)| match &message.body {
        Body::Append { entries, .. } => entries.as_slice(),
        _ => &[],
    });
    let payloads: usize = entries
        .map(|entry| match &entry.payload {
            Payload::Data(bytes) => bytes.len(),
            Payload::Blank | Payload::Configuration(_) => 0,
        })
        .sum();
    assert!(
        payloads <= bytes.len(),
        "payloads are slices of the envelope, each of its own part"
    );
    let again = Bytes::from(envelope::encode(&messages).concat());
    assert!(again.len() <= bytes.len(), "no encoding is shorter than ours");
    assert_eq!(envelope::decode(again), Ok(messages));
}

/// The messages in a frame, if it can be read.
pub(super) fn messages(frame: &[u8]) -> Messages {
    match Frame::decode(Bytes::copy_from_slice(frame)) {
        Ok(Frame::Groups(messages)) => envelope::decode(messages).unwrap_or_default(),
        _ => Messages::new(),
    }
}

fn whole(frame: &Frame) -> Bytes {
    Bytes::from(frame.encode(PROTOCOL_VERSION).concat())
}

/// One of every kind, and of every kind of message.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut frames = vec![
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
            group: peer::GroupId(77),
            failed: Some(BrokerId(2)),
        }),
    ];
    let messages: Messages = bodies()
        .into_iter()
        .enumerate()
        .map(|(number, body)| (GroupId(number as u64 * 100), Message { term: Term(9), body }))
        .collect();
    let envelopes = messages.iter().map(|message| vec![message.clone()]);
    let envelopes = envelopes.chain([Messages::new(), messages.clone()]);
    frames.extend(envelopes.map(|messages| Frame::Groups(envelope::encode(&messages).concat().into())));
    let frames = frames.iter().map(|frame| whole(frame).to_vec());
    let handshakes = handshakes().into_iter().map(|handshake| handshake.encode().concat());
    handshakes.chain(frames).collect()
}

fn handshakes() -> Vec<Handshake> {
    let start = Start {
        folder: FolderId([7; 16]),
        incarnation: 1_700_000_000_000,
    };
    let hello = Hello {
        versions: Versions::SUPPORTED,
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
    let of_range = Hello {
        versions: Versions { lowest: 4, highest: 6 },
        ..hello.clone()
    };
    let handshakes = [
        Handshake::Hello(hello),
        Handshake::Hello(of_range),
        Handshake::Welcome(welcome),
        Handshake::Inquiry(inquiry),
        Handshake::Account(account),
    ];
    handshakes.into_iter().chain(refusals.map(Handshake::Refused)).collect()
}

fn bodies() -> Vec<Body> {
    let payload = batch::build(5, &[(Some(b"k"), Some(b"v"))]).freeze();
    let payloads = [
        Payload::Data(payload.clone()),
        Payload::Blank,
        Payload::Data(Bytes::new()),
        Payload::Configuration(Box::new(configuration())),
        Payload::Data(payload),
    ];
    let entry = |(payload, place): (Payload, u64)| Entry {
        index: LogIndex((1 << 40) + place),
        term: Term(9),
        payload,
    };
    let entries = payloads.into_iter().zip(1..).map(entry).collect();
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
            life: Life(300),
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
        Body::Lost { life: Life(300) },
        Body::Rejoin {
            since: index,
            life: Life(300),
        },
        Body::Seek,
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
            match Handshake::decode(&seed) {
                Ok(handshake) => assert_eq!(handshake.encode().concat(), seed),
                Err(_) => assert_eq!(whole(&Frame::decode(Bytes::from(seed.clone())).unwrap()), seed),
            }
        }
    }
}
