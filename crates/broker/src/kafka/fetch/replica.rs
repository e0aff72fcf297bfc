//! Which replica a consumer reads from (KIP-392).

use super::Wanted;
use crate::config::ReplicaSelector;
use crate::engine::{ClusterView, Engine, ReadRequest, ReadResult};
use crate::ids;
use trimaran_raft::{GroupId, NodeId};
use trimaran_registry::BrokerId;

/// The first version in which a consumer names its rack.
const FIRST_RACK_VERSION: i16 = 11;

/// A consumer's rack, and whether it may read from a follower.
pub(super) struct Reader {
    /// The consumer's rack, if it has one, and consumers may be sent to their racks.
    rack: Option<String>,
    /// This broker is in that rack, so a replica here may answer although it does not lead.
    follower_ok: bool,
}

impl Reader {
    pub(super) fn new(engine: &Engine, version: i16, rack: &str) -> Reader {
        let by_rack = match engine.settings().cluster.replica_selector {
            ReplicaSelector::Leader => false,
            ReplicaSelector::RackAware => version >= FIRST_RACK_VERSION && !rack.is_empty(),
        };
        Reader {
            rack: by_rack.then(|| rack.to_owned()),
            // A consumer of another rack is here because its metadata is old: it should hear so.
            follower_ok: by_rack && engine.rack() == Some(rack),
        }
    }

    pub(super) fn request(&self, group: GroupId, wanted: &Wanted, max_bytes: usize, wait: bool) -> ReadRequest {
        ReadRequest {
            group,
            from: wanted.from,
            max_bytes,
            current_epoch: wanted.current_epoch,
            follower_ok: self.follower_ok,
            wait,
        }
    }

    /// The broker that the consumer should read from instead of this one, the leader.
    pub(super) fn elsewhere(&self, engine: &Engine, result: &ReadResult) -> Option<i32> {
        let rack = self.rack.as_deref()?;
        if self.follower_ok {
            return None;
        }
        preferred(&engine.view(), rack, &result.in_sync).map(|broker| broker.0)
    }
}

/// An in-sync replica in the rack; the list is empty on a follower, which sends nobody anywhere. Among several the choice is
/// always the same, so that a consumer that comes back is sent to where its data is in memory.
fn preferred(view: &ClusterView, rack: &str, in_sync: &[NodeId]) -> Option<BrokerId> {
    let in_rack = |broker: &BrokerId| {
        let known = view.catalog.broker(*broker);
        known.is_some_and(|known| known.rack.as_deref() == Some(rack))
    };
    in_sync.iter().map(|node| ids::broker(*node)).filter(in_rack).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::tests::view;

    #[test]
    fn an_in_sync_replica_in_the_rack_is_preferred() {
        let in_sync = [NodeId(1), NodeId(3)];
        assert_eq!(preferred(&view(), "c", &in_sync), Some(BrokerId(3)));
        assert_eq!(preferred(&view(), "b", &in_sync), None, "its replica is not in sync");
        assert_eq!(preferred(&view(), "z", &in_sync), None);
        assert_eq!(preferred(&view(), "c", &[]), None, "a follower sends nobody anywhere");
    }
}
