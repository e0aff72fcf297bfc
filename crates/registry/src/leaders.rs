//! Who leads what, ordered by term: news may come late, twice, or from several sides.

use crate::{BrokerId, GroupId, Term};
use std::sync::Arc;

/// What is known of a group's leadership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// The latest term known.
    pub term: Term,
    /// Its leader, if one is known.
    pub leader: Option<BrokerId>,
    /// The leader has said so itself, and serves clients.
    pub serving: bool,
    /// The replicas that the leader reports in sync, itself included. Empty until it has reported.
    pub in_sync: Arc<[BrokerId]>,
}

/// All leaderships that are known. A clone is cheap and never changes: publish one after every change.
#[derive(Clone, Debug, Default)]
pub struct LeaderView {
    _todo: (),
}

impl LeaderView {
    /// What is known of a group, or none.
    pub fn leadership(&self, group: GroupId) -> Option<&Leadership> {
        let _ = group;
        todo!()
    }

    /// The broker that leads a group as far as known.
    pub fn leader(&self, group: GroupId) -> Option<BrokerId> {
        self.leadership(group)?.leader
    }

    /// Counts the changes: an unchanged version is an unchanged view.
    pub fn version(&self) -> u64 {
        todo!()
    }
}
