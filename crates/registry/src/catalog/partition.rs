//! A partition: on which brokers it is kept, and how that changes.

use crate::founding::Standing;
use crate::{BrokerId, CommandIndex, GroupId};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A partition: a consensus group with its replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its consensus group.
    pub group: GroupId,
    /// The brokers that it is kept on, as of the last finished reassignment, the preferred leader first.
    pub replicas: Arc<[BrokerId]>,
    /// Those that it was created on: the group's first configuration, which never changes.
    pub founders: Arc<[BrokerId]>,
    /// While it is on its way to other brokers.
    pub reassignment: Option<Arc<Reassignment>>,
    /// The command that created it.
    pub(super) created: CommandIndex,
    /// Founders that have been replicas ever since.
    pub(super) faithful: Arc<[BrokerId]>,
}

/// A partition's way to other brokers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reassignment {
    /// Where it should be, the preferred leader first.
    pub target: Arc<[BrokerId]>,
    /// The command that asked for it. Names it: a later one replaces it.
    pub since: CommandIndex,
    /// Brokers on which an earlier target, that was given up meanwhile, may have left a replica.
    pub(super) stranded: Arc<[BrokerId]>,
}

impl Partition {
    pub(super) fn new(group: GroupId, replicas: &[BrokerId], created: CommandIndex) -> Partition {
        let replicas: Arc<[BrokerId]> = replicas.into();
        Partition {
            group,
            founders: replicas.clone(),
            faithful: replicas.clone(),
            replicas,
            reassignment: None,
            created,
        }
    }

    /// Where it should be: the target of its reassignment, or where it is.
    pub fn wanted(&self) -> &Arc<[BrokerId]> {
        self.reassignment
            .as_ref()
            .map_or(&self.replicas, |under_way| &under_way.target)
    }

    /// The command that [`Partition::wanted`] follows from.
    pub fn wanted_since(&self) -> CommandIndex {
        self.reassignment
            .as_ref()
            .map_or(self.created, |under_way| under_way.since)
    }

    /// Where it is or should be, each broker once: what Kafka's clients are told are its replicas.
    pub fn assigned(&self) -> Vec<BrokerId> {
        let mut assigned = self.replicas.to_vec();
        assigned.extend(self.adding());
        assigned
    }

    /// Brokers that it is not kept on yet, and should be.
    pub fn adding(&self) -> Vec<BrokerId> {
        let wanted = self.wanted().iter().copied();
        wanted.filter(|broker| !self.replicas.contains(broker)).collect()
    }

    /// Brokers that it is kept on, and should no longer be.
    pub fn removing(&self) -> Vec<BrokerId> {
        let replicas = self.replicas.iter().copied();
        replicas.filter(|broker| !self.wanted().contains(broker)).collect()
    }

    /// Whether a broker has, or should have, a replica of it.
    pub fn is_on(&self, broker: BrokerId) -> bool {
        let under_way =
            |under_way: &Arc<Reassignment>| under_way.target.contains(&broker) || under_way.stranded.contains(&broker);
        self.replicas.contains(&broker) || self.reassignment.as_ref().is_some_and(under_way)
    }

    /// As what a broker opens its replica if its disk holds nothing of it, given since when it has its folder.
    ///
    /// A founder has promised nothing as long as its folder is the one that the partition was created on. Whoever came
    /// later, or came again, must first be taken in by the group.
    pub(crate) fn standing(&self, broker: BrokerId, folder_since: Option<CommandIndex>) -> Standing {
        let same_folder = folder_since.is_some_and(|since| since < self.created);
        if same_folder && self.faithful.contains(&broker) {
            Standing::Founding
        } else {
            Standing::Joining
        }
    }

    /// Everyone that [`Partition::is_on`] is true of.
    pub(crate) fn hosts(&self) -> BTreeSet<BrokerId> {
        let mut hosts: BTreeSet<BrokerId> = self.assigned().into_iter().collect();
        if let Some(under_way) = &self.reassignment {
            hosts.extend(under_way.stranded.iter());
        }
        hosts
    }

    /// From now on it should be there.
    pub(super) fn reassign(&mut self, target: &[BrokerId], since: CommandIndex) {
        let kept = |broker: &BrokerId| target.contains(broker) || self.replicas.contains(broker);
        let stranded = self.hosts().into_iter().filter(|broker| !kept(broker)).collect();
        self.reassignment = Some(Arc::new(Reassignment {
            target: target.into(),
            since,
            stranded,
        }));
    }

    /// It is where it should be. Returns where it is no more.
    pub(super) fn finish(&mut self) -> Vec<BrokerId> {
        let hosts = self.hosts();
        if let Some(under_way) = self.reassignment.take() {
            self.replicas = under_way.target.clone();
        }
        let stayed = |broker: &BrokerId| self.replicas.contains(broker);
        if !self.faithful.iter().all(stayed) {
            self.faithful = self.faithful.iter().copied().filter(stayed).collect();
        }
        hosts.into_iter().filter(|broker| !stayed(broker)).collect()
    }
}
