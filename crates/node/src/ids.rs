//! The same numbers in the words of `raft`, `registry`, `wire` and `transport`: the crates know each other's words as
//! little as possible, so they are translated here, and only here.

use trimaran_raft as raft;
use trimaran_registry as registry;

/// A broker's id as a member of Raft groups.
pub fn node(broker: registry::BrokerId) -> raft::NodeId {
    // Broker ids are never negative: the catalog and the configuration refuse them.
    raft::NodeId(u64::from(broker.0.unsigned_abs()))
}

/// A member of a Raft group as a broker.
pub fn broker(node: raft::NodeId) -> registry::BrokerId {
    registry::BrokerId(i32::try_from(node.0).unwrap_or(i32::MAX))
}

/// A partition's group, as Raft knows it.
pub fn group(group: registry::GroupId) -> raft::GroupId {
    raft::GroupId(group.0)
}

/// A Raft group, as the catalog knows it.
pub fn catalog_group(group: raft::GroupId) -> registry::GroupId {
    registry::GroupId(group.0)
}

/// The same moment; both count microseconds.
pub fn registry_instant(at: raft::Instant) -> registry::Instant {
    registry::Instant(at.0)
}

/// The same term.
pub fn registry_term(term: raft::Term) -> registry::Term {
    registry::Term(term.0)
}

/// What humans and JSON requests call a broker: `broker-1`.
pub fn broker_name(broker: registry::BrokerId) -> String {
    format!("broker-{broker}")
}

/// The broker behind a name such as `broker-1`.
pub fn broker_of_name(name: &str) -> Option<registry::BrokerId> {
    let id: i32 = name.strip_prefix("broker-")?.parse().ok()?;
    (id >= 0).then_some(registry::BrokerId(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        let id = registry::BrokerId(7);
        assert_eq!(broker_of_name(&broker_name(id)), Some(id));
        assert_eq!(broker(node(id)), id);
        for bad in ["7", "broker-", "broker--1", "broker-99999999999", "Broker-1"] {
            assert_eq!(broker_of_name(bad), None, "{bad}");
        }
    }
}
