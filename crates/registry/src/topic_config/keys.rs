//! The table (source: Kafka 4's `TopicConfig` and `LogConfig`, documentation "Topic Configs").

use super::{Key, Kind, Rule};
use crate::limits;

const I32: i64 = i32::MAX as i64;
const I64: i64 = i64::MAX;

const fn key(name: &'static str, kind: Kind, default: &'static str, rule: Rule, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        default,
        doc,
        rule,
    }
}

const TIERED: &str = "tiered storage is not available";
const THROTTLE: &str = "replication is not throttled";
const SYNCED: &str = "a batch is on the disks of a majority before it is acknowledged, and never later";

/// Sorted by name. Where a value can't have an effect, the text says so.
pub(super) const KEYS: &[Key] = &[
    key(
        "cleanup.policy",
        Kind::List,
        "delete",
        Rule::DefaultOnly("compaction is not available yet"),
        "What happens to old segments: 'delete' discards them by age and size.",
    ),
    key(
        "compression.gzip.level",
        Kind::Int,
        "-1",
        Rule::Range(-1, 9),
        "The level for compression.type=gzip. Without effect on batches that their producer compressed with gzip.",
    ),
    key(
        "compression.lz4.level",
        Kind::Int,
        "9",
        Rule::Range(1, 17),
        "The level for compression.type=lz4. Without effect on batches that their producer compressed with lz4.",
    ),
    key(
        "compression.type",
        Kind::Text,
        "producer",
        Rule::OneOf(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]),
        "'producer' keeps the compression that the producer chose. With any other value, the leader compresses batches again that \
         come in another compression, which takes processor time.",
    ),
    key(
        "compression.zstd.level",
        Kind::Int,
        "3",
        Rule::Range(-131_072, 22),
        "The level for compression.type=zstd. Without effect on batches that their producer compressed with zstd.",
    ),
    key(
        "delete.retention.ms",
        Kind::Long,
        "86400000",
        Rule::Range(0, I64),
        "How long delete markers of compacted topics stay. Without effect while cleanup.policy is 'delete'.",
    ),
    key(
        "file.delete.delay.ms",
        Kind::Long,
        "60000",
        Rule::Range(0, I64),
        "Without effect: the files of a deleted segment go when nobody reads them any more.",
    ),
    key(
        "flush.messages",
        Kind::Long,
        "9223372036854775807",
        Rule::DefaultOr("1", SYNCED),
        "Kafka's knob for syncing after so many records. Here every acknowledged batch has been synced.",
    ),
    key(
        "flush.ms",
        Kind::Long,
        "9223372036854775807",
        Rule::DefaultOr("0", SYNCED),
        "Kafka's knob for syncing after so many milliseconds. Here every acknowledged batch has been synced.",
    ),
    key(
        "follower.replication.throttled.replicas",
        Kind::List,
        "",
        Rule::DefaultOnly(THROTTLE),
        "Replicas whose catching up is slowed down.",
    ),
    key(
        "index.interval.bytes",
        Kind::Int,
        "4096",
        Rule::Range(0, I32),
        "Without effect: every batch has its place in the index.",
    ),
    key(
        "leader.replication.throttled.replicas",
        Kind::List,
        "",
        Rule::DefaultOnly(THROTTLE),
        "Replicas whose catching up is slowed down.",
    ),
    key(
        "local.retention.bytes",
        Kind::Long,
        "-2",
        Rule::DefaultOnly(TIERED),
        "Bytes of a partition that stay local with tiered storage.",
    ),
    key(
        "local.retention.ms",
        Kind::Long,
        "-2",
        Rule::DefaultOnly(TIERED),
        "Milliseconds for which segments stay local with tiered storage.",
    ),
    key(
        "max.compaction.lag.ms",
        Kind::Long,
        "9223372036854775807",
        Rule::Range(1, I64),
        "How long a record may stay uncompacted. Without effect while cleanup.policy is 'delete'.",
    ),
    key(
        "max.message.bytes",
        Kind::Int,
        "1048588",
        Rule::Range(0, limits::MAX_MESSAGE_BYTES),
        "The largest record batch that is accepted, in bytes, compressed as it is.",
    ),
    key(
        "message.timestamp.after.max.ms",
        Kind::Long,
        "3600000",
        Rule::Range(0, I64),
        "How far a record's timestamp may lie after the broker's clock, for message.timestamp.type=CreateTime.",
    ),
    key(
        "message.timestamp.before.max.ms",
        Kind::Long,
        "9223372036854775807",
        Rule::Range(0, I64),
        "How far a record's timestamp may lie before the broker's clock, for message.timestamp.type=CreateTime.",
    ),
    key(
        "message.timestamp.type",
        Kind::Text,
        "CreateTime",
        Rule::OneOf(&["CreateTime", "LogAppendTime"]),
        "Whether a record's timestamp is the producer's or the time at which the leader appended it.",
    ),
    key(
        "min.cleanable.dirty.ratio",
        Kind::Double,
        "0.5",
        Rule::Share,
        "When a log is worth compacting. Without effect while cleanup.policy is 'delete'.",
    ),
    key(
        "min.compaction.lag.ms",
        Kind::Long,
        "0",
        Rule::Range(0, I64),
        "How long a record stays uncompacted at least. Without effect while cleanup.policy is 'delete'.",
    ),
    key(
        "min.insync.replicas",
        Kind::Int,
        "1",
        Rule::Range(1, I32),
        "acks=all is refused while fewer replicas are in sync, and acknowledged once as many have the batch on disk. \
         A majority always has.",
    ),
    key(
        "preallocate",
        Kind::Boolean,
        "false",
        Rule::Flag,
        "Without effect: the journal recycles its files, segments are written in large pieces.",
    ),
    key(
        "remote.log.copy.disable",
        Kind::Boolean,
        "false",
        Rule::DefaultOnly(TIERED),
        "Stops copying to tiered storage.",
    ),
    key(
        "remote.log.delete.on.disable",
        Kind::Boolean,
        "false",
        Rule::DefaultOnly(TIERED),
        "Deletes what is in tiered storage when it is turned off.",
    ),
    key(
        "remote.storage.enable",
        Kind::Boolean,
        "false",
        Rule::DefaultOnly(TIERED),
        "Turns tiered storage on.",
    ),
    key(
        "retention.bytes",
        Kind::Long,
        "-1",
        Rule::Range(-1, I64),
        "A partition's oldest segments are deleted while it is larger than this many bytes; -1 for no limit.",
    ),
    key(
        "retention.ms",
        Kind::Long,
        "604800000",
        Rule::Range(-1, I64),
        "Segments are deleted once their newest record is older than this many milliseconds; -1 for never.",
    ),
    key(
        "segment.bytes",
        Kind::Int,
        "1073741824",
        Rule::Range(1 << 20, I32),
        "The size of a segment in bytes. Retention deletes whole segments.",
    ),
    key(
        "segment.index.bytes",
        Kind::Int,
        "10485760",
        Rule::Range(4, I32),
        "Without effect: an index grows with its segment.",
    ),
    key(
        "segment.jitter.ms",
        Kind::Long,
        "0",
        Rule::Range(0, I64),
        "Without effect: segments are closed when something is appended, not by a timer that many could share.",
    ),
    key(
        "segment.ms",
        Kind::Long,
        "604800000",
        Rule::Range(1, I64),
        "A segment's age in milliseconds after which the next one is begun.",
    ),
    key(
        "unclean.leader.election.enable",
        Kind::Boolean,
        "false",
        Rule::DefaultOnly("a leader always has every committed record"),
        "Kafka's choice between losing records and being unavailable. Here no committed record is ever given up.",
    ),
];
