//! Limits, each with its reason.

/// Kafka's `offset.metadata.max.bytes`: a note, not a store.
pub const METADATA_BYTES: usize = 4_096;

/// A string of Kafka's protocol can't be longer.
pub const GROUP_ID_BYTES: usize = 32_767;

/// Topic names are at most this long in Kafka.
pub const TOPIC_BYTES: usize = 249;

/// Offsets in one commit: a consumer that reads so many partitions commits in parts.
pub const OFFSETS_PER_COMMIT: usize = 10_000;

/// Offsets that one store keeps in memory, a few hundred bytes each.
pub const OFFSETS_PER_STORE: usize = 1_000_000;

/// Groups that one store keeps in memory.
pub const GROUPS_PER_STORE: usize = 100_000;

/// A command is one log entry; the largest is a commit of many offsets with their notes.
pub const COMMAND_BYTES: usize = 1 << 20;
