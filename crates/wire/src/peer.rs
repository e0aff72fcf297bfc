//! The protocol between brokers: versioned frames around postcard bodies.
//!
//! A frame is a version byte, a kind byte and a body. The messages of groups, and what registry agents say, are in
//! their own encodings, which this crate does not know: it frames their bytes, and sends and receives them without a
//! copy.
//!
//! A connection begins with a [`Handshake`], whose frames never change but at their end: it is how two brokers find out
//! which version the rest speaks. That is the highest that both speak, each broker speaking its release's version and
//! the one before ([`Versions`]); every [`Frame`] carries it.
//!
//! This crate knows no other crate of ours: ids are newtypes here, and the composing crate converts them.

mod handshake;
#[cfg(test)]
mod tests;

use bytes::{Bytes, BytesMut};
use core::fmt;
pub use handshake::{Account, HANDSHAKE_VERSION, Handshake, Hello, Inquiry, Refused, Versions, Welcome};
use serde::{Deserialize, Serialize};

/// The newest version of all frames but a handshake's.
pub const PROTOCOL_VERSION: u8 = Versions::SUPPORTED.highest;

/// The version byte and the kind byte.
const ENVELOPE_LEN: usize = 2;

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

/// A frame behind the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// One a pair of brokers, whatever the number of groups.
    Heartbeat(Heartbeat),
    /// The messages of any number of groups to their members on the receiver, in `multiraft`'s encoding. To send them,
    /// [`encode_groups`] copies nothing.
    Groups(Bytes),
    /// A message between registry agents, in their encoding.
    Control(Bytes),
    /// A failover on request, told to every replica of the group.
    FailOver(FailOver),
    /// A frame that a third broker passes on, where two can't reach each other.
    Relayed(Relayed),
}

/// A sign of life, with what its sender has heard.
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

/// A request for a failover: the receiver is to believe the failed leader gone, and to stand for election.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailOver {
    /// The group.
    pub group: GroupId,
    /// The leader that is said to have failed; none means any leader.
    pub failed: Option<BrokerId>,
}

/// The reason that bytes are no frame between brokers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerError {
    /// Fewer bytes than an envelope has.
    Truncated,
    /// A version that this broker does not speak.
    Version(u8),
    /// A hello offers a range that holds nothing.
    Versions(Versions),
    /// A kind that the version does not have.
    Kind(u8),
    /// The postcard body does not follow the format.
    Body(postcard::Error),
    /// Bytes are left over.
    Trailing(usize),
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerError::Truncated => f.write_str("the peer's frame is shorter than an envelope"),
            PeerError::Version(version) => write!(
                f,
                "version {version} of the peer protocol is not spoken here: this broker speaks {}",
                Versions::SUPPORTED
            ),
            PeerError::Versions(versions) => write!(f, "the peer offers {versions} of the peer protocol: no version"),
            PeerError::Kind(kind) => write!(f, "the peer's frame is of unknown kind {kind}"),
            PeerError::Body(error) => write!(f, "the peer's frame does not follow the format: {error}"),
            PeerError::Trailing(bytes) => write!(f, "the peer's frame has {bytes} bytes too many"),
        }
    }
}

impl std::error::Error for PeerError {}

impl Frame {
    /// The frame in one of the [supported](Versions::SUPPORTED) versions, as chunks to be written back to back. The
    /// length before it is the transport's.
    pub fn encode(&self, version: u8) -> Vec<Bytes> {
        let envelope = |kind, bytes: &Bytes| vec![Bytes::copy_from_slice(&[version, kind]), bytes.clone()];
        match self {
            Frame::Heartbeat(heartbeat) => vec![body(version, kind::HEARTBEAT, heartbeat).freeze()],
            Frame::Groups(messages) => envelope(kind::GROUPS, messages),
            Frame::Control(message) => envelope(kind::CONTROL, message),
            Frame::FailOver(request) => vec![body(version, kind::FAIL_OVER, request).freeze()],
            Frame::Relayed(relayed) => {
                let Relayed {
                    from,
                    to,
                    start,
                    previous,
                    frame,
                } = relayed;
                let head = body(version, kind::RELAYED, &(from, to, start, previous));
                vec![head.freeze(), frame.clone()]
            }
        }
    }

    /// Reads exactly one frame of any supported version. Bytes of others' encodings are slices of it.
    ///
    /// # Errors
    /// The bytes are no such frame.
    pub fn decode(frame: Bytes) -> Result<Frame, PeerError> {
        let Some(&[version, kind]) = frame.first_chunk::<ENVELOPE_LEN>() else {
            return Err(PeerError::Truncated);
        };
        if !Versions::SUPPORTED.contains(version) {
            return Err(PeerError::Version(version));
        }
        let rest = frame.slice(ENVELOPE_LEN..);
        match kind {
            kind::HEARTBEAT => whole(&rest).map(Frame::Heartbeat),
            kind::GROUPS => Ok(Frame::Groups(rest)),
            kind::CONTROL => Ok(Frame::Control(rest)),
            kind::FAIL_OVER => whole(&rest).map(Frame::FailOver),
            kind::RELAYED => Relayed::decode(&rest).map(Frame::Relayed),
            kind => Err(PeerError::Kind(kind)),
        }
    }
}

/// The frame of groups' messages that are already encoded, as chunks: see [`Frame::encode`].
pub fn encode_groups(version: u8, mut messages: Vec<Bytes>) -> Vec<Bytes> {
    messages.insert(0, Bytes::copy_from_slice(&[version, kind::GROUPS]));
    messages
}

impl Relayed {
    fn decode(bytes: &Bytes) -> Result<Relayed, PeerError> {
        let ((from, to, start, previous), rest) = taken(bytes)?;
        Ok(Relayed {
            from,
            to,
            start,
            previous,
            frame: bytes.slice(bytes.len() - rest.len()..),
        })
    }
}

fn body(version: u8, kind: u8, body: &impl Serialize) -> BytesMut {
    written(body, BytesMut::from(&[version, kind][..]))
}

fn written(value: &impl Serialize, out: BytesMut) -> BytesMut {
    postcard::to_extend(value, out).expect("writing to memory does not fail")
}

/// A value, and the bytes behind it. Postcard takes a sequence's or a string's length only if that many bytes are left.
fn taken<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), PeerError> {
    postcard::take_from_bytes(bytes).map_err(PeerError::Body)
}

/// A body that nothing follows.
fn whole<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, PeerError> {
    match taken(bytes)? {
        (value, []) => Ok(value),
        (_, rest) => Err(PeerError::Trailing(rest.len())),
    }
}
