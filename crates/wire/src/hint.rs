//! Where the leader is now: hints in the responses of Produce from v10 on and Fetch (KIP-951), which spare the client a
//! Metadata request.

use crate::batch::LeaderEpoch;
use crate::writer::Writer;

/// Who leads a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderHint {
    /// The broker's id.
    pub leader_id: i32,
    /// Since which epoch.
    pub leader_epoch: LeaderEpoch,
}

/// How a broker is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEndpoint {
    /// The broker's id.
    pub node_id: i32,
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: i32,
    /// Its rack, if it has one.
    pub rack: Option<String>,
}

/// The content of the tagged field `current_leader`.
pub(crate) fn leader(hint: LeaderHint) -> Vec<u8> {
    let mut writer = Writer::new(true, 9);
    writer.i32(hint.leader_id);
    writer.i32(hint.leader_epoch.0);
    writer.tags(&[]);
    writer.finish().concat()
}

/// The content of the tagged field `node_endpoints`, which is left out if there is none.
pub(crate) fn endpoints(endpoints: &[NodeEndpoint]) -> Option<Vec<u8>> {
    if endpoints.is_empty() {
        return None;
    }
    let mut writer = Writer::new(true, 64 * endpoints.len());
    writer.count(Some(endpoints.len()));
    for endpoint in endpoints {
        writer.i32(endpoint.node_id);
        writer.text(&endpoint.host);
        writer.i32(endpoint.port);
        writer.nullable_text(endpoint.rack.as_deref());
        writer.tags(&[]);
    }
    Some(writer.finish().concat())
}
