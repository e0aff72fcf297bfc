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

/// The bytes of one write, with [`RECORD_OVERHEAD_BYTES`] for each record: a group's whole state is one record. The
/// topic that holds the log must take batches of this size and a batch header more.
pub const WRITE_BYTES: usize = 4 << 20;

/// The bytes that a record's place in a batch takes, at most: lengths, deltas and attributes.
pub const RECORD_OVERHEAD_BYTES: usize = 32;

/// Members of one group, whatever the configuration says: a rebalance and a group's record are linear in it.
pub const MEMBERS_PER_GROUP: usize = 10_000;

/// The bytes of writes under way from which on clients are told to wait: the log is slower than they are.
pub const WAITING_BYTES: usize = 32 << 20;

/// The bytes that a member's fields of fixed size are counted as: time-outs, lengths, deadlines.
pub const MEMBER_OVERHEAD_BYTES: usize = 128;

/// The bytes of ids and metadata of all members of a group. Together with their assignments, which are of the same
/// kind and often as large, they must fit into one write.
pub const GROUP_MEMBERS_BYTES: usize = WRITE_BYTES / 2;

/// The bytes of one member's protocols: with cooperative assignors, a member's metadata names every partition it has.
pub const MEMBER_METADATA_BYTES: usize = 512 << 10;

/// Protocols of one member: clients have three or four assignors.
pub const PROTOCOLS_PER_MEMBER: usize = 64;

/// Names that a client chooses and the coordinator keeps: client ids, instance ids, protocols, the kind of a group.
pub const NAME_BYTES: usize = 1_024;

/// Ids of new members that have not yet joined with them. They go after a session time-out.
pub const PROMISED_IDS_PER_GROUP: usize = MEMBERS_PER_GROUP;

/// A string of a record can't be longer, whatever the configuration allows for notes.
pub const MAX_METADATA_BYTES: usize = 32_767;

/// Committed offsets of one group: a mirror of a whole cluster has one for each of its partitions.
pub const OFFSETS_PER_GROUP: usize = 100_000;

/// The bytes of one reply, more or less: a client that names the same group a thousand times gets no thousand copies.
pub const REPLY_BYTES: usize = 32 << 20;

/// Offsets that one portion of background work looks at: a few milliseconds.
pub const OFFSETS_PER_PORTION: usize = 10_000;

/// Deleted topics whose offsets are yet to be deleted: more than an administrator deletes in a minute.
pub const DELETED_TOPICS: usize = 10_000;
