//! Bugs that are built in on purpose, one at a time: see [`crate::sabotage`].
//!
//! Without the feature `sabotage` there is none, and no value of this type.

use trimaran_multiraft::{Shard, Watchdog};
use trimaran_node::Node;
use trimaran_registry::folder::FolderParts;
use trimaran_registry::starts::{Inquiry, Starts};

/// A bug, in whichever room it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// In every group's core.
    #[cfg(feature = "sabotage")]
    Core(trimaran_raft::Sabotage),
    /// In every shard, and in the watchdog over its thread.
    #[cfg(feature = "sabotage")]
    Shard(trimaran_multiraft::Sabotage),
    /// In every broker's catalog.
    #[cfg(feature = "sabotage")]
    Registry(trimaran_registry::Sabotage),
    /// In the life cycle of every broker's replicas.
    #[cfg(feature = "sabotage")]
    Node(trimaran_node::Sabotage),
    /// In every broker's journal.
    #[cfg(feature = "sabotage")]
    Storage(trimaran_storage::Sabotage),
}

impl Bug {
    /// Breaks what is noted of brokers' starts.
    pub(super) fn build_into_starts(self, starts: &mut Starts) {
        // See `build_in`.
        let _ = &starts;
        match self {
            #[cfg(feature = "sabotage")]
            Bug::Registry(how) => starts.sabotage(how),
            #[cfg(feature = "sabotage")]
            Bug::Core(_) | Bug::Shard(_) | Bug::Node(_) | Bug::Storage(_) => {}
        }
    }

    /// Breaks what a starting broker makes of the others' answers.
    pub(super) fn build_into_inquiry(self, inquiry: &mut Inquiry) {
        // See `build_in`.
        let _ = &inquiry;
        match self {
            #[cfg(feature = "sabotage")]
            Bug::Registry(how) => inquiry.sabotage(how),
            #[cfg(feature = "sabotage")]
            Bug::Core(_) | Bug::Shard(_) | Bug::Node(_) | Bug::Storage(_) => {}
        }
    }

    /// Breaks a process as it starts.
    pub(super) fn build_in<'a>(
        self,
        shards: impl Iterator<Item = &'a mut Shard>,
        node: &mut Node,
        watchdog: &mut Watchdog,
    ) {
        // Without the feature there is nobody to break, and nothing to break them with.
        let _ = (&shards, &node, &watchdog);
        match self {
            #[cfg(feature = "sabotage")]
            Bug::Core(how) => shards.for_each(|shard| shard.sabotage_cores(how)),
            #[cfg(feature = "sabotage")]
            Bug::Shard(how) => {
                node.detector_mut().monitor_mut().sabotage(how);
                watchdog.sabotage(how);
                shards.for_each(|shard| shard.sabotage(how));
            }
            #[cfg(feature = "sabotage")]
            Bug::Registry(how) => node.control_mut().agent_mut().sabotage(how),
            #[cfg(feature = "sabotage")]
            Bug::Node(how) => node.sabotage(how),
            #[cfg(feature = "sabotage")]
            Bug::Storage(_) => {}
        }
    }

    /// Breaks how a process sees its folder.
    pub(super) fn build_into_folder(self, parts: &mut FolderParts) {
        let _ = &parts;
        match self {
            #[cfg(feature = "sabotage")]
            Bug::Registry(how) => parts.sabotage(how),
            #[cfg(feature = "sabotage")]
            Bug::Core(_) | Bug::Shard(_) | Bug::Node(_) | Bug::Storage(_) => {}
        }
    }

    /// How a process's journal is broken.
    #[cfg(feature = "sabotage")]
    pub(super) fn of_storage(self) -> Option<trimaran_storage::Sabotage> {
        match self {
            Bug::Storage(how) => Some(how),
            Bug::Core(_) | Bug::Shard(_) | Bug::Registry(_) | Bug::Node(_) => None,
        }
    }
}
