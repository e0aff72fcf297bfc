//! How two brokers find out who the other one is, and which version of the protocol they speak.

use super::{BrokerId, ENVELOPE_LEN, FolderId, PeerError, Start, body, kind, taken, whole, written};
use bytes::{Bytes, BytesMut};
use core::fmt;
use serde::{Deserialize, Serialize};

/// The version of a hello and its answers, for ever.
pub const HANDSHAKE_VERSION: u8 = 0;

/// The version of an inquiry and its answer, for ever: a broker that asks knows nothing of the one that it asks.
const INQUIRY_VERSION: u8 = 4;

/// The last version whose brokers speak it alone. Their hello names it and nothing else; a later one names a range.
const LAST_SINGLE: u8 = 4;

/// The versions of the peer protocol that a broker speaks: its release's, and the one before, so that a cluster can be
/// upgraded one broker at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The lowest.
    pub lowest: u8,
    /// The highest; not below `lowest`.
    pub highest: u8,
}

impl Versions {
    /// The versions of this build. Version 2 did not say with which data folder a broker was started, version 3 knew
    /// neither founders nor frames that a third broker passes on; builds of these versions can't be spoken to.
    pub const SUPPORTED: Versions = Versions { lowest: 4, highest: 4 };

    /// The range of a broker that speaks one version.
    pub fn only(version: u8) -> Versions {
        let (lowest, highest) = (version, version);
        Versions { lowest, highest }
    }

    /// The highest version that both speak.
    pub fn common(self, other: Versions) -> Option<u8> {
        let version = self.highest.min(other.highest);
        (self.contains(version) && other.contains(version)).then_some(version)
    }

    /// Whether a version is one of these.
    pub fn contains(self, version: u8) -> bool {
        (self.lowest..=self.highest).contains(&version)
    }

    /// The version of these that is nearest to those of another broker, with which they have none in common.
    pub fn nearest(self, other: Versions) -> u8 {
        if other.highest < self.lowest {
            self.lowest
        } else {
            self.highest
        }
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Versions { lowest, highest } = self;
        if lowest == highest {
            write!(f, "version {lowest}")
        } else {
            write!(f, "versions {lowest} to {highest}")
        }
    }
}

/// A frame that stands at the beginning of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handshake {
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
}

impl Handshake {
    /// The frame as chunks to be written back to back. The length before it is the transport's.
    pub fn encode(&self) -> Vec<Bytes> {
        let frame = match self {
            Handshake::Hello(hello) => hello.encode(),
            Handshake::Welcome(welcome) => body(HANDSHAKE_VERSION, kind::WELCOME, welcome),
            Handshake::Refused(refused) => body(HANDSHAKE_VERSION, kind::REFUSED, refused),
            Handshake::Inquiry(inquiry) => body(INQUIRY_VERSION, kind::INQUIRY, inquiry),
            Handshake::Account(account) => body(INQUIRY_VERSION, kind::ACCOUNT, account),
        };
        vec![frame.freeze()]
    }

    /// Reads exactly one frame.
    ///
    /// # Errors
    /// The bytes are no frame of a handshake.
    pub fn decode(frame: &[u8]) -> Result<Handshake, PeerError> {
        let Some((&[version, kind], rest)) = frame.split_first_chunk::<ENVELOPE_LEN>() else {
            return Err(PeerError::Truncated);
        };
        match (version, kind) {
            (HANDSHAKE_VERSION, kind::HELLO) => Hello::decode(rest).map(Handshake::Hello),
            (HANDSHAKE_VERSION, kind::WELCOME) => whole(rest).map(Handshake::Welcome),
            (HANDSHAKE_VERSION, kind::REFUSED) => whole(rest).map(Handshake::Refused),
            (INQUIRY_VERSION, kind::INQUIRY) => whole(rest).map(Handshake::Inquiry),
            (INQUIRY_VERSION, kind::ACCOUNT) => whole(rest).map(Handshake::Account),
            (HANDSHAKE_VERSION | INQUIRY_VERSION, kind) => Err(PeerError::Kind(kind)),
            (version, _) => Err(PeerError::Version(version)),
        }
    }
}

/// A question that a broker asks before it opens its journal, and so before it promises anything.
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

/// The first frame on a connection: its sender, and the broker that it believes to reach.
///
/// On the wire it begins with the highest version that the sender speaks. In a hello of version 4, the sender's data
/// folder and what follows it here stand behind `to`, and nothing else. In a later one the lowest version stands before
/// them, and further fields may follow; they are ignored by those that don't know them. Of an earlier one nothing is
/// read behind `to`: its sender can't be spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The versions that the sender speaks. Those of a hello of version 4 or before are one version.
    pub versions: Versions,
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

impl Hello {
    fn encode(&self) -> BytesMut {
        let Versions { lowest, highest } = self.versions;
        let addressed = (highest, &self.cluster_id, self.broker, self.incarnation, self.to);
        let mut frame = body(HANDSHAKE_VERSION, kind::HELLO, &addressed);
        if highest > LAST_SINGLE {
            frame = written(&lowest, frame);
        }
        if highest >= LAST_SINGLE {
            frame = written(&(self.folder, self.previous, &self.founders, &self.address), frame);
        }
        frame
    }

    fn decode(bytes: &[u8]) -> Result<Hello, PeerError> {
        let ((highest, cluster_id, broker, incarnation, to), rest) = taken(bytes)?;
        let (mut versions, mut rest) = (Versions::only(highest), rest);
        if highest > LAST_SINGLE {
            (versions.lowest, rest) = taken(rest)?;
        }
        let (folder, previous, founders, address) = match highest {
            ..LAST_SINGLE => Default::default(),
            LAST_SINGLE => whole(rest)?,
            _ => taken(rest)?.0,
        };
        if versions.lowest > highest {
            return Err(PeerError::Versions(versions));
        }
        Ok(Hello {
            versions,
            cluster_id,
            broker,
            incarnation,
            to,
            folder,
            previous,
            founders,
            address,
        })
    }
}

/// The broker that has been reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version that the connection speaks from here on: the highest that both speak.
    pub protocol: u8,
    /// The cluster that the sender belongs to.
    pub cluster_id: String,
    /// The sender.
    pub broker: BrokerId,
    /// Counts the starts of the sender's process.
    pub incarnation: u64,
}

/// The reason that a hello is not accepted. New reasons may be added at the end only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refused {
    /// The receiver speaks none of the sender's versions.
    Version {
        /// The receiver's version that is nearest to the sender's.
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
