//! What the cluster's operator may set.

/// The settings of a coordinator, with the names and defaults of Kafka's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `group.max.size`: members of one group.
    pub group_max_size: usize,
    /// `group.min.session.timeout.ms`
    pub group_min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`
    pub group_max_session_timeout_ms: i32,
    /// `group.initial.rebalance.delay.ms`: how long the first members of an empty group wait for others.
    pub group_initial_rebalance_delay_ms: u64,
    /// `offset.metadata.max.bytes`: the note of a committed offset.
    pub offset_metadata_max_bytes: usize,
    /// `offsets.retention.minutes`, in milliseconds: how long offsets are kept after their group has become empty.
    pub offsets_retention_ms: u64,
    /// `offsets.retention.check.interval.ms`
    pub offsets_retention_check_interval_ms: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            // Kafka's default is no limit; here a group's state is one record, which ends at about this size.
            group_max_size: crate::limits::MEMBERS_PER_GROUP,
            group_min_session_timeout_ms: 6_000,
            group_max_session_timeout_ms: 1_800_000,
            group_initial_rebalance_delay_ms: 3_000,
            offset_metadata_max_bytes: 4_096,
            offsets_retention_ms: 7 * 24 * 60 * 60 * 1_000,
            offsets_retention_check_interval_ms: 600_000,
        }
    }
}
