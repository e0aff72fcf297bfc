//! Where replicas go: spread over racks and brokers, leaders even.

use crate::{BrokerId, CatalogError};

/// A broker that may be given replicas, with what it holds already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The broker.
    pub id: BrokerId,
    /// Its rack, if it names one.
    pub rack: Option<String>,
    /// Replicas it holds already, as leader or not.
    pub replicas: usize,
    /// Partitions of which it is the preferred leader already.
    pub leaders: usize,
}

/// Places `partitions` new partitions of `replication_factor` replicas each. The result has one list a partition, the
/// preferred leader first. The same input always gives the same result.
///
/// # Errors
/// [`CatalogError::InvalidReplicationFactor`] if it is zero or there are fewer candidates.
pub fn place(
    candidates: &[Candidate],
    partitions: usize,
    replication_factor: usize,
) -> Result<Vec<Vec<BrokerId>>, CatalogError> {
    let _ = (candidates, partitions, replication_factor);
    todo!()
}
