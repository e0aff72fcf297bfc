//! Limits, each with its reason.

/// Kafka's own limit: with partition number and separators the name still fits a file name.
pub const TOPIC_NAME_BYTES: usize = 249;

/// A topic is created by one command, which must fit one log entry comfortably: 10,000 partitions with 7 replicas are
/// about 200 KiB.
pub const PARTITIONS_PER_TOPIC: usize = 10_000;

/// Every partition is a Raft group with a log on each of its replicas' brokers. What one catalog holds in memory, and
/// one broker's file descriptors and start-up allow, ends about here.
pub const PARTITIONS_PER_CLUSTER: usize = 200_000;

/// A Raft group of seven survives three failures; more voters make every commit slower and nothing safer in practice.
pub const REPLICATION_FACTOR: usize = 7;

/// Heartbeats and leadership news go between every pair of brokers.
pub const BROKERS: usize = 1_000;

/// Host names are at most 253 characters in DNS.
pub const HOST_BYTES: usize = 255;

/// Racks and cluster ids are names for humans.
pub const LABEL_BYTES: usize = 255;

/// All accepted values are numbers or short words.
pub const CONFIG_VALUE_BYTES: usize = 256;

/// There are about thirty known keys; a request with more names some twice.
pub const CONFIG_ENTRIES: usize = 64;

/// How many requests one broker may have under way at the controller. Also how many settled requests the catalog
/// remembers of each broker, so that a retry is recognised.
pub const REQUESTS_PER_BROKER: usize = 512;

/// Producer ids handed to a broker at once, as in Kafka: one command for a thousand producers.
pub const PRODUCER_ID_BLOCK: i64 = 1_000;

/// A command or a message between agents: the largest is a topic with all its partitions.
pub const MESSAGE_BYTES: usize = 1 << 20;

/// Leaderships told in one message: some 30 bytes each.
pub const NEWS_PER_MESSAGE: usize = 4_096;

/// The most that `max.message.bytes` may be: a batch is one log entry, and travels between brokers in one frame.
pub const MAX_MESSAGE_BYTES: i64 = 64 << 20;
