//! The settings of a shard.

use core::time::Duration;
use trimaran_raft::{NodeId, Tuning};

/// The settings that all groups of a shard have in common.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// This broker.
    pub node: NodeId,
    /// The cores' intervals and limits.
    pub tuning: Tuning,
    /// A follower that has not been caught up for longer is out of sync.
    pub replica_lag: Duration,
    /// Unflushed bytes of a group beyond which its committed entries are written to segments.
    pub flush_bytes: u64,
    /// Age of the oldest unflushed committed record beyond which it is written to a segment all the same.
    pub flush_age: Duration,
    /// Idempotent producers that all groups of this shard may remember together, before each is cut down to the 4,096
    /// that sent something last. Some 500 bytes each.
    pub max_producers: usize,
    /// How long a replica whose log can't be read or written serves nobody before it tries again (a full disk may have
    /// been made room on). Each further failure to write doubles it, up to twelve times as much.
    pub failure_pause: Duration,
    /// A leader gives its group back to the first live voter in the order of preference once that one has been alive
    /// and in sync for so long; none: leaderships stay where elections put them.
    pub leader_rebalance_after: Option<Duration>,
    /// Bytes a second that this shard reads from segments for followers that are far behind, at most; none: as fast as
    /// they take it. Only they wait for it: what is in memory is sent at once.
    pub catch_up_bytes_per_second: Option<u64>,
    /// Bytes that the tails of all logs may take together. What is in segments already is given up beyond it, the
    /// idlest log's first, flushes begin earlier, and appends are refused as [`crate::AppendError::Busy`]; none: no
    /// limit.
    pub tails_bytes: Option<u64>,
}

impl ShardConfig {
    /// With everything else at its default: half a million producers, ten seconds of replica lag, flushes at 1 MiB or
    /// after a minute (earlier if the journal asks for it: [`crate::Input::FlushNow`]), leaderships rebalanced after
    /// five seconds.
    pub fn new(node: NodeId, tuning: Tuning) -> ShardConfig {
        ShardConfig {
            node,
            tuning,
            replica_lag: Duration::from_secs(10),
            flush_bytes: 1 << 20,
            flush_age: Duration::from_secs(60),
            max_producers: 500_000,
            failure_pause: Duration::from_secs(5),
            leader_rebalance_after: Some(Duration::from_secs(5)),
            catch_up_bytes_per_second: None,
            tails_bytes: None,
        }
    }
}
