//! How a replica comes to a shard: what may differ from group to group, and what is read before it can be driven.

use crate::producers::ProducerTable;
use trimaran_raft::{GroupId, HardState, LogIndex, LogView, NodeId};
use trimaran_storage::log::{LogError, ReplicaLog, Retention};

/// Entries whose producers are read at open: as much as a broker may read before it is ready. Producers that were silent
/// for longer may begin anew, as those that expired.
const PRODUCER_WINDOW: u64 = 1 << 20;

/// What may differ from group to group.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    /// How many replicas must hold a batch before it is acknowledged to a producer that asked for all
    /// ([`crate::Acks::All`]); no more than there are are asked for (as Kafka does).
    pub min_insync_replicas: usize,
    /// What may be deleted.
    pub retention: Retention,
    /// Hand committed payloads to the caller by [`crate::Outbox::committed`] (the metadata group, coordinators), from the
    /// first held entry on.
    pub deliver: bool,
}

/// Adds a group to a shard. Made outside of the shard's thread, since opening a log and reading its producers' state
/// may block.
pub struct Open {
    pub(crate) voters: Vec<NodeId>,
    pub(crate) log: ReplicaLog,
    pub(crate) hard_state: HardState,
    pub(crate) options: GroupOptions,
    pub(crate) producers: ProducerTable,
}

impl Open {
    /// Whether `node` is one of its voters, and none is named twice.
    pub(crate) fn is_for(&self, node: NodeId) -> bool {
        let mut sorted = self.voters.clone();
        sorted.sort_unstable();
        sorted.dedup();
        sorted.len() == self.voters.len() && sorted.contains(&node)
    }

    /// A replica as it was found on disk: the voters (the preferred leader first), its log, and its hard state from
    /// the journal. Reads the log's batches to learn what its idempotent producers sent last: may block.
    ///
    /// # Errors
    /// The log can't be read.
    pub fn new(
        voters: Vec<NodeId>,
        log: ReplicaLog,
        hard_state: HardState,
        options: GroupOptions,
    ) -> Result<Open, LogError> {
        let window = log.last_index().0.saturating_sub(PRODUCER_WINDOW);
        let batches = log.batches(log.first_index().max(LogIndex(window)))?;
        let producers = ProducerTable::rebuild(&batches, log.flushed_index());
        Ok(Open {
            voters,
            log,
            hard_state,
            options,
            producers,
        })
    }

    /// The group.
    pub fn group(&self) -> GroupId {
        self.log.group()
    }
}
