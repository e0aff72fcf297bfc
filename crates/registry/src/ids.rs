//! The words of the catalog, as types. None of them is an integer to calculate with.

use core::fmt;
use core::time::Duration;
use serde::{Deserialize, Serialize};

macro_rules! word {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

word! {
    /// A broker of the cluster, as Kafka's clients see it: never negative.
    BrokerId(i32)
}
word! {
    /// A consensus group. Zero is [`METADATA_GROUP`]; every partition has one of its own, and none is ever used twice.
    GroupId(u64)
}
word! {
    /// A partition's number within its topic, from zero.
    PartitionIndex(i32)
}
word! {
    /// The term of a group's leader: the same number that Kafka's clients know as the leader epoch.
    Term(u64)
}
word! {
    /// Tells the starts of one broker's process apart: a later start has a larger one.
    Incarnation(u64)
}
word! {
    /// The place of a command in the metadata group's log.
    CommandIndex(u64)
}

/// The group that replicates the catalog itself. Its leader is the controller.
pub const METADATA_GROUP: GroupId = GroupId(0);

/// A topic's identity for as long as it exists: a topic that is deleted and created again has another one (KIP-516).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicId(pub [u8; 16]);

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicId({self})")
    }
}

/// Hexadecimal, as a UUID is written.
impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, byte) in self.0.iter().enumerate() {
            if matches!(position, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// Names one data folder of a broker: random, made together with the folder. A broker that comes back with another one has
/// lost all that it had promised, whatever its id says.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FolderId(pub [u8; 16]);

impl fmt::Debug for FolderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FolderId({self})")
    }
}

/// Thirty-two hexadecimal digits.
impl fmt::Display for FolderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why a text is no folder's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAFolderId;

impl fmt::Display for NotAFolderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a folder's id is thirty-two hexadecimal digits")
    }
}

impl core::error::Error for NotAFolderId {}

impl core::str::FromStr for FolderId {
    type Err = NotAFolderId;

    /// What [`fmt::Display`] writes.
    fn from_str(text: &str) -> Result<FolderId, NotAFolderId> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NotAFolderId);
        }
        u128::from_str_radix(text, 16)
            .map(|number| FolderId(number.to_be_bytes()))
            .map_err(|_| NotAFolderId)
    }
}

/// A moment of the caller's monotonic clock, in microseconds since an origin of its choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl core::ops::Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, rhs: Duration) -> Instant {
        let micros = u64::try_from(rhs.as_micros()).unwrap_or(u64::MAX);
        Instant(self.0.saturating_add(micros))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folders_id_is_read_as_it_is_written() {
        let id = FolderId(*b"\x00\x01sixteen bytes\xff");
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in [
            "",
            "00",
            "+0000000000000000000000000000000",
            "0000000000000000000000000000000g",
        ] {
            assert_eq!(bad.parse::<FolderId>(), Err(NotAFolderId), "{bad}");
        }
    }
}
