//! The way to the coordinators of this broker, for those who ask them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot};
use trimaran_coordinator::{Error, Reply, Request};
use trimaran_raft::GroupId;

/// Requests that wait for one coordinator's task. It handles thousands in a millisecond; beyond that, clients are told
/// to ask again.
pub(super) const MAILBOX_REQUESTS: usize = 4_096;

/// A request on its way to a coordinator.
pub(super) struct Call {
    pub(super) request: Request,
    /// Dropped if the client no longer waits.
    pub(super) answer: oneshot::Sender<Result<Reply, Error>>,
}

/// The way to the coordinators of this broker.
#[derive(Debug, Default)]
pub(crate) struct Coordinators {
    /// By the partition's group.
    mailboxes: Mutex<BTreeMap<GroupId, mpsc::Sender<Call>>>,
}

impl Coordinators {
    /// Hands a request to the coordinator of that partition's group, and waits for its reply.
    ///
    /// # Errors
    /// [`Error::NotCoordinator`] if this broker doesn't lead the partition, and [`Error::CoordinatorLoadInProgress`] if
    /// it can't take the request yet.
    pub(crate) async fn ask(&self, group: GroupId, request: Request) -> Result<Reply, Error> {
        let mailbox = self.all().get(&group).cloned();
        let mailbox = mailbox.ok_or(Error::NotCoordinator)?;
        let (answer, reply) = oneshot::channel();
        mailbox
            .try_send(Call { request, answer })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => Error::CoordinatorLoadInProgress,
                mpsc::error::TrySendError::Closed(_) => Error::NotCoordinator,
            })?;
        // The replica goes, and its coordinator with it.
        reply.await.unwrap_or(Err(Error::NotCoordinator))
    }

    /// The partitions that have a coordinator here, whether it leads or not.
    pub(crate) fn hosted(&self) -> Vec<GroupId> {
        self.all().keys().copied().collect()
    }

    /// The mailboxes by the partitions' groups.
    pub(super) fn all(&self) -> MutexGuard<'_, BTreeMap<GroupId, mpsc::Sender<Call>>> {
        // No user code runs under the lock.
        self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
