//! The protocol between brokers: a versioned postcard envelope, with record bytes carried beside it.
//!
//! A frame is a version byte, a kind byte, a postcard body, and the payloads of its entries back to back. Payloads do
//! not pass through serde: sending lists them as they are, to be written vectored ([`encode`]), and receiving slices
//! them out of the frame ([`decode`]).
//!
//! The handshake ([`Hello`], [`Welcome`], [`Refused`]) carries version [`HANDSHAKE_VERSION`] and never changes: it is
//! how two brokers find out which version the rest speaks. Everything else carries [`PROTOCOL_VERSION`].
//!
//! This crate knows no other crate of ours: ids are newtypes here, and the composing crate converts them.

#[cfg(test)]
mod tests;

use bytes::{Bytes, BytesMut};
use core::fmt;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// The version of the handshake's frames, for ever.
pub const HANDSHAKE_VERSION: u8 = 0;

/// The version of all other frames, and of what a hello says behind [`Hello::to`]. Version 2 did not say with which
/// data folder a broker was started; version 3 knew neither founders nor frames that a third broker passes on.
pub const PROTOCOL_VERSION: u8 = 4;

/// The version byte and the kind byte.
const ENVELOPE_LEN: usize = 2;

/// Messages, entries and members that one frame may name, all together. On the wire each takes as little as one to
/// three bytes, in memory up to a hundred: without this limit, a frame of the greatest length would become twenty times
/// as much. With it, what a frame becomes (beside its payloads, which are slices of it) stays below that greatest
/// length itself, and leaves room for a message of every group of the largest broker.
pub const MAX_PARTS: usize = 1 << 20;

/// Messages after which a sender begins another frame, so that whatever entries and members they name, the frame stays
/// within [`MAX_PARTS`]. (Who sends also limits the payloads of a frame, and so its entries.)
pub const FULL_AFTER_MESSAGES: usize = 1 << 16;

/// The members of each kind that a configuration may name: as many as there may be brokers, and some more.
const MAX_MEMBERS: usize = 4096;

/// The fewest bytes of a message, and of an entry: less memory is needed if fewer are left than are promised.
const MIN_MESSAGE_LEN: usize = 3;
const MIN_ENTRY_LEN: usize = 2;

mod kind {
    pub(super) const HELLO: u8 = 0;
    pub(super) const WELCOME: u8 = 1;
    pub(super) const REFUSED: u8 = 2;
    pub(super) const HEARTBEAT: u8 = 3;
    pub(super) const GROUPS: u8 = 4;
    pub(super) const CONTROL: u8 = 5;
    pub(super) const FAIL_OVER: u8 = 6;
    pub(super) const RELAYED: u8 = 7;
    pub(super) const INQUIRY: u8 = 8;
    pub(super) const ACCOUNT: u8 = 9;
}

macro_rules! word {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub $inner);
    };
}

word! {
    /// A broker of the cluster.
    BrokerId(i32)
}
word! {
    /// A consensus group.
    GroupId(u64)
}
word! {
    /// A member of a consensus group.
    NodeId(u64)
}
word! {
    /// A Raft term.
    Term(u64)
}
word! {
    /// The position of an entry in a group's log, counted from one.
    LogIndex(u64)
}

/// The name of a broker's data folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FolderId(pub [u8; 16]);

/// A start of a broker's process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The data folder that it was made with.
    pub folder: FolderId,
    /// Larger than that of any start before.
    pub incarnation: u64,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The only frame of a broker that is about to start: it asks what is known of it.
    Inquiry(Inquiry),
    /// The answer to an inquiry; the connection is closed behind it.
    Account(Account),
    /// The first frame of a broker that connects.
    Hello(Hello),
    /// The answer to a hello that is accepted.
    Welcome(Welcome),
    /// The answer to a hello that is not; the connection is closed behind it.
    Refused(Refused),
    /// One a pair of brokers, whatever the number of groups.
    Heartbeat(Heartbeat),
    /// The messages of any number of groups to their members on the receiver.
    Groups(Vec<(GroupId, Message)>),
    /// A message between registry agents, in their own encoding.
    Control(Bytes),
    /// A failover on request, told to every replica of the group.
    FailOver(FailOver),
    /// A frame that a third broker passes on, where two can't reach each other.
    Relayed(Relayed),
}

/// A broker is about to start. It asks before it opens its journal, and so before it promises anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inquiry {
    /// The cluster that the sender belongs to.
    pub cluster_id: String,
    /// The sender.
    pub broker: BrokerId,
    /// The sender's data folder, and the last start that was made with it (zero: it holds nothing).
    pub last: Start,
}

/// The answer of a broker to one that is about to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The cluster that the sender belongs to.
    pub cluster_id: String,
    /// The sender.
    pub broker: BrokerId,
    /// The latest start of the asker that the sender has seen.
    pub seen: Option<Start>,
    /// The start of the asker's id that the sender is in contact with now.
    pub alive: Option<Start>,
}

/// The first frame on a connection: its sender, and the broker that it believes to reach. The fields behind
/// [`Hello::to`] are only read if the sender speaks
/// [`PROTOCOL_VERSION`]: a later one may say something else there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The version that the sender will speak.
    pub protocol: u8,
    /// The cluster that the sender belongs to.
    pub cluster_id: String,
    /// The sender.
    pub broker: BrokerId,
    /// The number of this start of the sender's process.
    pub incarnation: u64,
    /// The broker that the sender wants to reach: an address may have passed to another broker.
    pub to: BrokerId,
    /// The sender's data folder.
    pub folder: FolderId,
    /// The incarnation of the start before this one with the same data folder; zero if the folder held nothing.
    pub previous: u64,
    /// The brokers that founded the cluster, as the sender was told, in ascending order.
    pub founders: Vec<BrokerId>,
    /// Where the sender's own peer listener can be reached, `host:port`: the others' configuration says so only of
    /// founders.
    pub address: String,
}

#[derive(Serialize, Deserialize)]
struct HelloHead {
    protocol: u8,
    cluster_id: String,
    broker: BrokerId,
    incarnation: u64,
    to: BrokerId,
}

#[derive(Default, Serialize, Deserialize)]
struct HelloTail {
    folder: FolderId,
    previous: u64,
    founders: Vec<BrokerId>,
    address: String,
}

/// The broker that has been reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version that the connection speaks from here on.
    pub protocol: u8,
    /// The cluster that the sender belongs to.
    pub cluster_id: String,
    /// The sender.
    pub broker: BrokerId,
    /// Counts the starts of the sender's process.
    pub incarnation: u64,
}

/// Why a hello is not accepted. New reasons may be added at the end only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refused {
    /// The receiver speaks only this version.
    Version {
        /// That version.
        supported: u8,
    },
    /// The receiver belongs to another cluster.
    OtherCluster {
        /// That cluster.
        cluster_id: String,
    },
    /// The receiver is another broker.
    OtherBroker {
        /// That broker.
        broker: BrokerId,
    },
    /// The receiver has never heard of the sender.
    UnknownBroker,
    /// Any other reason, in words.
    Other(String),
    /// The receiver has seen a later start of the sender.
    Superseded(Start),
    /// The sender's data folder is older than this start of it, which the receiver has seen.
    RolledBack(Start),
    /// The receiver is in contact with another process that has the sender's id and another data folder.
    AnotherRuns(Start),
    /// The receiver was told other founders of the cluster.
    OtherFounders {
        /// The founders that the receiver was told.
        founders: Vec<BrokerId>,
    },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Version { supported } => write!(f, "the peer speaks version {supported} of the peer protocol"),
            Refused::OtherCluster { cluster_id } => write!(f, "the peer belongs to cluster {cluster_id}"),
            Refused::OtherBroker { broker } => write!(f, "the peer is broker {}", broker.0),
            Refused::UnknownBroker => f.write_str("the peer does not know this broker"),
            Refused::Other(reason) => f.write_str(reason),
            Refused::Superseded(seen) => write!(
                f,
                "the peer has seen a later start of this broker ({})",
                seen.incarnation
            ),
            Refused::RolledBack(seen) => write!(
                f,
                "this broker's data folder is older than a start of it that the peer has seen ({})",
                seen.incarnation
            ),
            Refused::AnotherRuns(start) => write!(
                f,
                "the peer is in contact with another process that runs as this broker (start {})",
                start.incarnation
            ),
            Refused::OtherFounders { founders } => {
                f.write_str("the peer's `cluster.voters` names ")?;
                list(founders, f)?;
                f.write_str(
                    ", this broker's names others: the list says who founded the cluster, and never changes. Correct \
                     it where it is wrong; see \"Growing a cluster\" in docs/operations.md",
                )
            }
        }
    }
}

fn list(brokers: &[BrokerId], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (at, broker) in brokers.iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        write!(f, "{comma}{}", broker.0)?;
    }
    Ok(())
}

/// I live, and I have heard from you.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Counts the starts of the sender's process: a change means that it restarted.
    pub incarnation: u64,
    /// Counts the sender's heartbeats to this receiver, from one.
    pub sequence: u64,
    /// The highest sequence the sender has had from the receiver.
    pub echo_sequence: u64,
    /// The receiver's incarnation that `echo_sequence` belongs to.
    pub echo_incarnation: u64,
    /// The brokers that the sender is in contact with, in ascending order.
    pub hears: Vec<BrokerId>,
}

/// A frame between two brokers that are out of contact, on its way through a third one. It is passed on once. It
/// announces the start of its sender as a [`Hello`] does: the receiver has had none from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relayed {
    /// The broker that the frame is from.
    pub from: BrokerId,
    /// The broker that it is for.
    pub to: BrokerId,
    /// The start of `from` that sent it.
    pub start: Start,
    /// See [`Hello::previous`].
    pub previous: u64,
    /// The frame, encoded.
    pub frame: Bytes,
}

#[derive(Serialize, Deserialize)]
struct RelayedHead {
    from: BrokerId,
    to: BrokerId,
    start: Start,
    previous: u64,
}

/// Somebody asks for a failover: believe the failed leader gone, and stand for election.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailOver {
    /// The group.
    pub group: GroupId,
    /// The leader that is said to have failed; none means any leader.
    pub failed: Option<BrokerId>,
}

/// A message between two members of one group. Its words are the Raft paper's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The sender's term, or the term that a pre-vote is about.
    pub term: Term,
    /// The message itself.
    pub body: Body,
}

/// The content of a message; one variant for each of the core's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "trimaran-raft's `message` module documents each field; this crate only carries them"
)]
pub enum Body {
    PreVote {
        last_index: LogIndex,
        last_term: Term,
    },
    PreVoteReply {
        granted: bool,
        longer_log: bool,
    },
    Vote {
        last_index: LogIndex,
        last_term: Term,
        transfer: bool,
    },
    VoteReply {
        granted: bool,
    },
    Append {
        prev_index: LogIndex,
        prev_term: Term,
        commit: LogIndex,
        replicated_index: LogIndex,
        entries: Vec<Entry>,
    },
    AppendAccepted {
        match_index: LogIndex,
        commit: LogIndex,
        life: u64,
    },
    AppendRejected {
        prev_index: LogIndex,
        hint_index: LogIndex,
        hint_term: Term,
    },
    Heartbeat {
        commit: LogIndex,
        round: u64,
    },
    HeartbeatReply {
        commit: LogIndex,
        round: u64,
    },
    TimeoutNow,
    Snapshot {
        snapshot: Box<Snapshot>,
        commit: LogIndex,
        replicated_index: LogIndex,
    },
    Lost {
        life: u64,
    },
    Rejoin {
        since: LogIndex,
        life: u64,
    },
    Seek,
}

/// One entry of a group's log. Entries of an append are contiguous from its `prev_index` on, so they carry no index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The term of the leader that created it.
    pub term: Term,
    /// Its payload.
    pub payload: Payload,
}

/// The payload of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: a leader's first entry.
    Blank,
    /// A caller's bytes.
    Data(Bytes),
    /// The group's members from here on.
    Configuration(Configuration),
}

/// The members of a group. Its words are the Raft paper's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// The voters; the preferred leader first.
    #[serde(deserialize_with = "members")]
    pub voters: Vec<NodeId>,
    /// While voters are exchanged: those before.
    #[serde(deserialize_with = "members")]
    pub outgoing: Vec<NodeId>,
    /// They get the log, but do not vote.
    #[serde(deserialize_with = "members")]
    pub learners: Vec<NodeId>,
}

impl Configuration {
    fn count(&self) -> usize {
        self.voters.len() + self.outgoing.len() + self.learners.len()
    }
}

/// [`MAX_MEMBERS`] nodes at most: postcard says how many there are before the first one is read.
fn members<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<NodeId>, D::Error> {
    struct Members;

    impl<'de> Visitor<'de> for Members {
        type Value = Vec<NodeId>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MAX_MEMBERS} members")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut nodes: A) -> Result<Vec<NodeId>, A::Error> {
            let count = nodes.size_hint().unwrap_or(usize::MAX);
            if count > MAX_MEMBERS {
                return Err(A::Error::invalid_length(count, &self));
            }
            let mut members = Vec::with_capacity(count);
            while let Some(node) = nodes.next_element()? {
                members.push(node);
            }
            Ok(members)
        }
    }

    from.deserialize_seq(Members)
}

/// A position in a group's log, and what is needed to go on from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The last entry that it stands for.
    pub index: LogIndex,
    /// The term of that entry.
    pub term: Term,
    /// The configuration in force there.
    pub configuration: Configuration,
    /// Whatever the log's owner needs to know about it.
    pub data: Bytes,
}

/// The part of a message that postcard sees: everything but its entries, which follow it, and the payloads.
#[derive(Serialize, Deserialize)]
struct MessageHead {
    group: GroupId,
    term: Term,
    body: BodyHead,
}

/// The order of variants and fields is the format: change it only together with [`PROTOCOL_VERSION`].
#[derive(Serialize, Deserialize)]
enum BodyHead {
    PreVote {
        last_index: LogIndex,
        last_term: Term,
    },
    PreVoteReply {
        granted: bool,
        longer_log: bool,
    },
    Vote {
        last_index: LogIndex,
        last_term: Term,
        transfer: bool,
    },
    VoteReply {
        granted: bool,
    },
    Append {
        prev_index: LogIndex,
        prev_term: Term,
        commit: LogIndex,
        replicated_index: LogIndex,
        /// How many entries follow this message, each an [`EntryHead`].
        entries: usize,
    },
    AppendAccepted {
        match_index: LogIndex,
        commit: LogIndex,
        life: u64,
    },
    AppendRejected {
        prev_index: LogIndex,
        hint_index: LogIndex,
        hint_term: Term,
    },
    Heartbeat {
        commit: LogIndex,
        round: u64,
    },
    HeartbeatReply {
        commit: LogIndex,
        round: u64,
    },
    TimeoutNow,
    Snapshot {
        snapshot: SnapshotHead,
        commit: LogIndex,
        replicated_index: LogIndex,
    },
    Lost {
        life: u64,
    },
    Rejoin {
        since: LogIndex,
        life: u64,
    },
    Seek,
}

#[derive(Serialize, Deserialize)]
struct EntryHead {
    term: Term,
    payload: PayloadHead,
}

#[derive(Serialize, Deserialize)]
enum PayloadHead {
    Blank,
    /// Bytes of the payload, which follows behind the postcard body in the order of the entries.
    Data(u32),
    Configuration(Configuration),
}

#[derive(Serialize, Deserialize)]
struct SnapshotHead {
    index: LogIndex,
    term: Term,
    configuration: Configuration,
    /// Bytes of its data, which follows behind the postcard body like a payload.
    length: u32,
}

/// Why bytes are no frame between brokers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerError {
    /// Fewer bytes than an envelope has.
    Truncated,
    /// A version that this broker does not speak.
    Version(u8),
    /// A kind that the version does not have.
    Kind(u8),
    /// The postcard body does not follow the format.
    Body(postcard::Error),
    /// Payloads are promised that are not there.
    Payload,
    /// Bytes are left over.
    Trailing(usize),
    /// More than [`MAX_PARTS`] messages, entries and members.
    TooMany,
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerError::Truncated => f.write_str("the peer's frame is shorter than an envelope"),
            PeerError::Version(version) => write!(f, "version {version} of the peer protocol is not spoken here"),
            PeerError::Kind(kind) => write!(f, "the peer's frame is of unknown kind {kind}"),
            PeerError::Body(error) => write!(f, "the peer's frame does not follow the format: {error}"),
            PeerError::Payload => f.write_str("the peer's frame promises payloads that it does not hold"),
            PeerError::TooMany => write!(
                f,
                "the peer's frame names more than {MAX_PARTS} messages, entries and members, which no broker of this \
                 release sends: see which release it runs"
            ),
            PeerError::Trailing(bytes) => write!(f, "the peer's frame has {bytes} bytes too many"),
        }
    }
}

impl std::error::Error for PeerError {}

/// The frame as chunks to be written back to back: envelope and body first, then the payloads as they are. The length
/// before the frame is the transport's.
///
/// # Panics
/// If a payload has 4 GiB or more: what is proposed is limited far below.
pub fn encode(frame: &Frame) -> Vec<Bytes> {
    match frame {
        Frame::Hello(hello) => vec![encode_hello(hello).freeze()],
        Frame::Welcome(welcome) => vec![body(HANDSHAKE_VERSION, kind::WELCOME, welcome).freeze()],
        Frame::Refused(refused) => vec![body(HANDSHAKE_VERSION, kind::REFUSED, refused).freeze()],
        Frame::Inquiry(inquiry) => vec![body(PROTOCOL_VERSION, kind::INQUIRY, inquiry).freeze()],
        Frame::Account(account) => vec![body(PROTOCOL_VERSION, kind::ACCOUNT, account).freeze()],
        Frame::Heartbeat(heartbeat) => vec![body(PROTOCOL_VERSION, kind::HEARTBEAT, heartbeat).freeze()],
        Frame::Groups(messages) => encode_groups(messages),
        Frame::Control(bytes) => vec![Bytes::from_static(&[PROTOCOL_VERSION, kind::CONTROL]), bytes.clone()],
        Frame::FailOver(request) => vec![body(PROTOCOL_VERSION, kind::FAIL_OVER, request).freeze()],
        Frame::Relayed(relayed) => {
            let head = RelayedHead {
                from: relayed.from,
                to: relayed.to,
                start: relayed.start,
                previous: relayed.previous,
            };
            let head = body(PROTOCOL_VERSION, kind::RELAYED, &head);
            vec![head.freeze(), relayed.frame.clone()]
        }
    }
}

fn encode_hello(hello: &Hello) -> BytesMut {
    let head = HelloHead {
        protocol: hello.protocol,
        cluster_id: hello.cluster_id.clone(),
        broker: hello.broker,
        incarnation: hello.incarnation,
        to: hello.to,
    };
    let tail = HelloTail {
        folder: hello.folder,
        previous: hello.previous,
        founders: hello.founders.clone(),
        address: hello.address.clone(),
    };
    let head = body(HANDSHAKE_VERSION, kind::HELLO, &head);
    match hello.protocol {
        PROTOCOL_VERSION => written(&tail, head),
        _ => head,
    }
}

fn body(version: u8, kind: u8, body: &impl Serialize) -> BytesMut {
    written(body, BytesMut::from(&[version, kind][..]))
}

fn written(value: &impl Serialize, out: BytesMut) -> BytesMut {
    postcard::to_extend(value, out).expect("writing to memory does not fail")
}

fn encode_groups(messages: &[(GroupId, Message)]) -> Vec<Bytes> {
    let mut heads = body(PROTOCOL_VERSION, kind::GROUPS, &messages.len());
    for (group, message) in messages {
        heads = written(&head(*group, message), heads);
        if let Body::Append { entries, .. } = &message.body {
            heads = entries
                .iter()
                .fold(heads, |heads, entry| written(&entry_head(entry), heads));
        }
    }
    let mut chunks = vec![heads.freeze()];
    for (_, message) in messages {
        let data = |entry: &Entry| match &entry.payload {
            Payload::Data(bytes) if !bytes.is_empty() => Some(bytes.clone()),
            _ => None,
        };
        match &message.body {
            Body::Append { entries, .. } => chunks.extend(entries.iter().filter_map(data)),
            Body::Snapshot { snapshot, .. } if !snapshot.data.is_empty() => chunks.push(snapshot.data.clone()),
            _ => {}
        }
    }
    chunks
}

fn head(group: GroupId, message: &Message) -> MessageHead {
    MessageHead {
        group,
        term: message.term,
        body: body_head(&message.body),
    }
}

fn body_head(body: &Body) -> BodyHead {
    match *body {
        Body::PreVote { last_index, last_term } => BodyHead::PreVote { last_index, last_term },
        Body::PreVoteReply { granted, longer_log } => BodyHead::PreVoteReply { granted, longer_log },
        Body::Vote {
            last_index,
            last_term,
            transfer,
        } => BodyHead::Vote {
            last_index,
            last_term,
            transfer,
        },
        Body::VoteReply { granted } => BodyHead::VoteReply { granted },
        Body::Append {
            prev_index,
            prev_term,
            commit,
            replicated_index,
            ref entries,
        } => BodyHead::Append {
            prev_index,
            prev_term,
            commit,
            replicated_index,
            entries: entries.len(),
        },
        Body::AppendAccepted {
            match_index,
            commit,
            life,
        } => BodyHead::AppendAccepted {
            match_index,
            commit,
            life,
        },
        Body::AppendRejected {
            prev_index,
            hint_index,
            hint_term,
        } => BodyHead::AppendRejected {
            prev_index,
            hint_index,
            hint_term,
        },
        Body::Heartbeat { commit, round } => BodyHead::Heartbeat { commit, round },
        Body::HeartbeatReply { commit, round } => BodyHead::HeartbeatReply { commit, round },
        Body::TimeoutNow => BodyHead::TimeoutNow,
        Body::Snapshot {
            ref snapshot,
            commit,
            replicated_index,
        } => BodyHead::Snapshot {
            snapshot: snapshot_head(snapshot),
            commit,
            replicated_index,
        },
        Body::Lost { life } => BodyHead::Lost { life },
        Body::Rejoin { since, life } => BodyHead::Rejoin { since, life },
        Body::Seek => BodyHead::Seek,
    }
}

fn entry_head(entry: &Entry) -> EntryHead {
    EntryHead {
        term: entry.term,
        payload: match &entry.payload {
            Payload::Blank => PayloadHead::Blank,
            Payload::Data(bytes) => PayloadHead::Data(length(bytes)),
            Payload::Configuration(configuration) => PayloadHead::Configuration(configuration.clone()),
        },
    }
}

fn snapshot_head(snapshot: &Snapshot) -> SnapshotHead {
    SnapshotHead {
        index: snapshot.index,
        term: snapshot.term,
        configuration: snapshot.configuration.clone(),
        length: length(&snapshot.data),
    }
}

fn length(payload: &Bytes) -> u32 {
    u32::try_from(payload.len()).expect("a payload is shorter than 4 GiB")
}

/// Reads exactly one frame. Payloads are slices of it, so they keep it in memory as long as they live.
pub fn decode(frame: Bytes) -> Result<Frame, PeerError> {
    let (&version, &kind) = match (frame.first(), frame.get(1)) {
        (Some(version), Some(kind)) => (version, kind),
        _ => return Err(PeerError::Truncated),
    };
    let rest = frame.slice(ENVELOPE_LEN..);
    match (version, kind) {
        (HANDSHAKE_VERSION, kind::HELLO) => decode_hello(&rest).map(Frame::Hello),
        (HANDSHAKE_VERSION, kind::WELCOME) => whole(&rest).map(Frame::Welcome),
        (HANDSHAKE_VERSION, kind::REFUSED) => whole(&rest).map(Frame::Refused),
        (PROTOCOL_VERSION, kind::INQUIRY) => whole(&rest).map(Frame::Inquiry),
        (PROTOCOL_VERSION, kind::ACCOUNT) => whole(&rest).map(Frame::Account),
        (PROTOCOL_VERSION, kind::HEARTBEAT) => whole(&rest).map(Frame::Heartbeat),
        (PROTOCOL_VERSION, kind::GROUPS) => decode_groups(rest).map(Frame::Groups),
        (PROTOCOL_VERSION, kind::CONTROL) => Ok(Frame::Control(rest)),
        (PROTOCOL_VERSION, kind::FAIL_OVER) => whole(&rest).map(Frame::FailOver),
        (PROTOCOL_VERSION, kind::RELAYED) => decode_relayed(&rest).map(Frame::Relayed),
        (HANDSHAKE_VERSION | PROTOCOL_VERSION, kind) => Err(PeerError::Kind(kind)),
        (version, _) => Err(PeerError::Version(version)),
    }
}

fn decode_hello(bytes: &[u8]) -> Result<Hello, PeerError> {
    let (head, rest): (HelloHead, _) = postcard::take_from_bytes(bytes).map_err(PeerError::Body)?;
    let tail: HelloTail = match head.protocol {
        PROTOCOL_VERSION => whole(rest)?,
        _ => HelloTail::default(),
    };
    Ok(Hello {
        protocol: head.protocol,
        cluster_id: head.cluster_id,
        broker: head.broker,
        incarnation: head.incarnation,
        to: head.to,
        folder: tail.folder,
        previous: tail.previous,
        founders: tail.founders,
        address: tail.address,
    })
}

/// A body that nothing follows. Postcard takes a sequence's or a string's length only if that many bytes are left.
fn whole<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, PeerError> {
    let (value, rest) = postcard::take_from_bytes(bytes).map_err(PeerError::Body)?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(PeerError::Trailing(rest.len()))
    }
}

fn decode_relayed(bytes: &Bytes) -> Result<Relayed, PeerError> {
    let (head, rest): (RelayedHead, _) = postcard::take_from_bytes(bytes).map_err(PeerError::Body)?;
    let frame = bytes.slice(bytes.len() - rest.len()..);
    Ok(Relayed {
        from: head.from,
        to: head.to,
        start: head.start,
        previous: head.previous,
        frame,
    })
}

fn decode_groups(bytes: Bytes) -> Result<Vec<(GroupId, Message)>, PeerError> {
    let mut heads = Heads::new(&bytes);
    let count = heads.next()?;
    heads.expect(count, MIN_MESSAGE_LEN)?;
    let mut read = Vec::with_capacity(count);
    for _ in 0..count {
        read.push(heads.message()?);
    }
    let mut payloads = bytes.slice(bytes.len() - heads.rest.len()..);
    let messages = read
        .into_iter()
        .map(|(head, entries)| message(head, entries, &mut payloads))
        .collect::<Result<_, _>>()?;
    if payloads.is_empty() {
        Ok(messages)
    } else {
        Err(PeerError::Trailing(payloads.len()))
    }
}

/// Reads the heads of a frame one after the other, and allocates for none that the frame can't hold or may not have.
struct Heads<'a> {
    rest: &'a [u8],
    /// The rest of [`MAX_PARTS`].
    parts: usize,
}

impl<'a> Heads<'a> {
    fn new(rest: &'a [u8]) -> Heads<'a> {
        let parts = MAX_PARTS;
        Heads { rest, parts }
    }

    fn next<T: Deserialize<'a>>(&mut self) -> Result<T, PeerError> {
        let (value, rest) = postcard::take_from_bytes(self.rest).map_err(PeerError::Body)?;
        self.rest = rest;
        Ok(value)
    }

    /// So many of something follow, each of so many bytes at least.
    fn expect(&mut self, count: usize, min_len: usize) -> Result<(), PeerError> {
        if count > self.rest.len() / min_len {
            return Err(PeerError::Body(postcard::Error::DeserializeUnexpectedEnd));
        }
        self.spend(count)
    }

    fn spend(&mut self, parts: usize) -> Result<(), PeerError> {
        self.parts = self.parts.checked_sub(parts).ok_or(PeerError::TooMany)?;
        Ok(())
    }

    fn message(&mut self) -> Result<(MessageHead, Vec<EntryHead>), PeerError> {
        let head: MessageHead = self.next()?;
        let mut entries = Vec::new();
        match &head.body {
            BodyHead::Append { entries: count, .. } => entries = self.entries(*count)?,
            BodyHead::Snapshot { snapshot, .. } => self.spend(snapshot.configuration.count())?,
            _ => {}
        }
        Ok((head, entries))
    }

    fn entries(&mut self, count: usize) -> Result<Vec<EntryHead>, PeerError> {
        self.expect(count, MIN_ENTRY_LEN)?;
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            let entry: EntryHead = self.next()?;
            if let PayloadHead::Configuration(configuration) = &entry.payload {
                self.spend(configuration.count())?;
            }
            entries.push(entry);
        }
        Ok(entries)
    }
}

fn message(head: MessageHead, entries: Vec<EntryHead>, payloads: &mut Bytes) -> Result<(GroupId, Message), PeerError> {
    let body = match head.body {
        BodyHead::PreVote { last_index, last_term } => Body::PreVote { last_index, last_term },
        BodyHead::PreVoteReply { granted, longer_log } => Body::PreVoteReply { granted, longer_log },
        BodyHead::Vote {
            last_index,
            last_term,
            transfer,
        } => Body::Vote {
            last_index,
            last_term,
            transfer,
        },
        BodyHead::VoteReply { granted } => Body::VoteReply { granted },
        BodyHead::Append {
            prev_index,
            prev_term,
            commit,
            replicated_index,
            entries: _,
        } => {
            let entries = entries
                .into_iter()
                .map(|head| entry(head, payloads))
                .collect::<Result<_, _>>()?;
            Body::Append {
                prev_index,
                prev_term,
                commit,
                replicated_index,
                entries,
            }
        }
        BodyHead::AppendAccepted {
            match_index,
            commit,
            life,
        } => Body::AppendAccepted {
            match_index,
            commit,
            life,
        },
        BodyHead::AppendRejected {
            prev_index,
            hint_index,
            hint_term,
        } => Body::AppendRejected {
            prev_index,
            hint_index,
            hint_term,
        },
        BodyHead::Heartbeat { commit, round } => Body::Heartbeat { commit, round },
        BodyHead::HeartbeatReply { commit, round } => Body::HeartbeatReply { commit, round },
        BodyHead::TimeoutNow => Body::TimeoutNow,
        BodyHead::Snapshot {
            snapshot: head,
            commit,
            replicated_index,
        } => Body::Snapshot {
            snapshot: Box::new(snapshot(head, payloads)?),
            commit,
            replicated_index,
        },
        BodyHead::Lost { life } => Body::Lost { life },
        BodyHead::Rejoin { since, life } => Body::Rejoin { since, life },
        BodyHead::Seek => Body::Seek,
    };
    Ok((head.group, Message { term: head.term, body }))
}

fn entry(head: EntryHead, payloads: &mut Bytes) -> Result<Entry, PeerError> {
    Ok(Entry {
        term: head.term,
        payload: match head.payload {
            PayloadHead::Blank => Payload::Blank,
            PayloadHead::Data(length) => Payload::Data(take(length, payloads)?),
            PayloadHead::Configuration(configuration) => Payload::Configuration(configuration),
        },
    })
}

fn snapshot(head: SnapshotHead, payloads: &mut Bytes) -> Result<Snapshot, PeerError> {
    Ok(Snapshot {
        index: head.index,
        term: head.term,
        configuration: head.configuration,
        data: take(head.length, payloads)?,
    })
}

/// The next payload, of that length.
fn take(length: u32, payloads: &mut Bytes) -> Result<Bytes, PeerError> {
    let length = usize::try_from(length).map_err(|_| PeerError::Payload)?;
    if length > payloads.len() {
        return Err(PeerError::Payload);
    }
    Ok(payloads.split_to(length))
}
