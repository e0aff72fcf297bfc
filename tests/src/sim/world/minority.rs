//! Endings in which somebody is missed: when faults stop, a minority of the brokers is down for good, or cut off for
//! good from everybody, or one is wiped in that moment and comes back.
//!
//! **What is demanded** of those that are left is what is demanded of a whole cluster: every client has its answers, every
//! group has one serving leader known to all, its replicas hold the same, all that was acknowledged is there, and an
//! idle group says nothing. Not demanded is what needs a broker that is gone: that a partition arrives there, and that
//! it leads what it is preferred for.
//!
//! **When:** a broker is spared only if every group can decide without it. Of every configuration that may be in force
//! somewhere (those of the replicas that run, and each one that their logs hold beyond what is committed), both the
//! voters and the outgoing ones have a majority among replicas that run and have lost nothing. A replica that has lost
//! what it promised may not vote until a leader has filled it again: two voters left of three, one of them lost, have
//! to wait for the third. Nor is a broker lost to which a partition is being moved: until all of the new replicas are
//! there, it may have fewer in sync than it needs to be written. Brokers that are down when faults stop are among those
//! that are missed, since what their logs hold can't be seen. While an administrator has something left to do but
//! moves, or some disk takes no writes for good, nobody is missed: that may need everyone. Nor does anything hang in
//! the end where somebody is missed.

use super::World;
use crate::sim::broker::{METADATA, Running};
use crate::sim::faults::Kind;
use crate::sim::network::Place;
use crate::sim::queue::Micros;
use crate::sim::rng::Rng;
use std::collections::BTreeSet;
use trimaran_raft::{Configuration, GroupId, LogIndex, NodeId};
use trimaran_registry::BrokerId;

/// What becomes of those that don't simply come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    AllReturn,
    Down,
    CutOff,
    Wiped,
}

/// Drawn from the seed, apart from everything else: until faults stop, a run is the same however it ends.
pub(super) struct Endings {
    ending: Ending,
    rng: Rng,
    /// Brokers that don't come back.
    gone: BTreeSet<u32>,
}

impl Endings {
    pub(super) fn draw(seed: u64) -> Endings {
        let mut rng = Rng::new(seed ^ 0x00e4_d146);
        let all = [Ending::AllReturn, Ending::Down, Ending::CutOff, Ending::Wiped];
        let ending = rng.pick(&all).copied().unwrap_or(Ending::AllReturn);
        Endings {
            ending,
            rng,
            gone: BTreeSet::new(),
        }
    }
}

impl Endings {
    pub(super) fn nobody_is_gone(&self) -> bool {
        self.gone.is_empty()
    }

    /// Brokers that don't come back.
    pub(super) fn missed(&self) -> usize {
        self.gone.len()
    }
}

impl World {
    pub(super) fn is_gone(&self, broker: u32) -> bool {
        self.endings.gone.contains(&broker)
    }

    /// Groups that have a replica on a broker that isn't gone.
    pub(super) fn groups_left(&self) -> BTreeSet<GroupId> {
        let left = self
            .machines
            .iter()
            .filter(|machine| !self.is_gone(machine.settings.id));
        left.filter_map(|machine| machine.running.as_ref())
            .flat_map(Running::hosted)
            .collect()
    }

    /// Whether it is gone, and no process of it runs.
    pub(super) fn is_down_for_good(&self, broker: u32) -> bool {
        self.is_gone(broker) && self.endings.ending == Ending::Down
    }

    /// Whether a partition is to be somewhere that is gone.
    pub(super) fn needs_gone(&self, brokers: &[BrokerId]) -> bool {
        let broker = |id: &BrokerId| u32::try_from(id.0).unwrap_or(0);
        brokers.iter().any(|id| self.is_gone(broker(id)))
    }

    /// Faults stop. What is on its way to and from those that are missed is lost as well.
    pub(super) fn choose_ending(&mut self) {
        let all_write = !self.machines.iter().any(|machine| machine.has_dead_segments);
        let ending = self.endings.ending;
        match ending {
            Ending::Down | Ending::CutOff if all_write && self.administers_nothing() => self.lose_minority(),
            Ending::Wiped => self.wipe_victim(),
            _ => {}
        }
    }

    /// Moves that have not begun are given up; whether nothing else is left to do.
    fn administers_nothing(&mut self) -> bool {
        self.clients.first_mut().is_none_or(|client| {
            client.spare_the_missing();
            client.is_done()
        })
    }

    /// Shortly before faults stop, one broker is cut off from the others: it won't know what they decide until then,
    /// such as who has taken a partition over from whom.
    pub(super) fn single_one_out(&mut self) {
        let broker = 1 + u32::try_from(self.endings.rng.below(u64::from(self.brokers()))).unwrap_or(0);
        self.note(format!("b{broker} is left out"));
        for other in (1..=self.brokers()).filter(|other| *other != broker) {
            self.network.cut(Place::Broker(broker), Place::Broker(other));
            self.network.cut(Place::Broker(other), Place::Broker(broker));
        }
    }

    /// When to single one out, if at all.
    pub(super) fn singles_out_at(&mut self, suffers_until: Micros) -> Option<Micros> {
        let misses = matches!(self.endings.ending, Ending::Down | Ending::CutOff);
        let before = self.endings.rng.between(500_000, 2_500_000);
        (misses && self.endings.rng.chance(500)).then(|| suffers_until.saturating_sub(before))
    }

    fn lose_minority(&mut self) {
        let down = (1..=self.brokers()).filter(|broker| self.machines[*broker as usize - 1].running.is_none());
        let mut gone: BTreeSet<u32> = down.collect();
        let mut others: Vec<u32> = (1..=self.brokers()).collect();
        self.endings.rng.shuffle(&mut others);
        let most = if self.endings.rng.chance(700) { 1 } else { others.len() };
        for broker in others {
            let before = gone.len();
            gone.insert(broker);
            if gone.len() > before && (gone.len() > most.max(before) || !self.can_do_without(&gone)) {
                gone.remove(&broker);
            }
        }
        if gone.is_empty() || !self.can_do_without(&gone) {
            return;
        }
        self.note(format!("{:?} for good: {gone:?}", self.endings.ending));
        for &broker in &gone {
            if self.endings.ending == Ending::Down {
                self.crash(broker, Micros::MAX / 2);
            }
        }
        self.endings.gone = gone;
    }

    /// Cuts all ways to and from those that are gone, again if they have been repaired.
    pub(super) fn cut_off_gone(&mut self) {
        let clients = (0..self.clients.len()).filter_map(|client| u32::try_from(client).ok());
        let brokers = (1..=self.brokers()).filter(|broker| !self.is_gone(*broker));
        let others: Vec<Place> = brokers.map(Place::Broker).chain(clients.map(Place::Client)).collect();
        for &broker in &self.endings.gone {
            for &other in &others {
                self.network.cut(Place::Broker(broker), other);
                self.network.cut(other, Place::Broker(broker));
            }
        }
    }

    /// The one whose disk may fail loses it now, if it has not before.
    fn wipe_victim(&mut self) {
        let may = self.kinds.contains(Kind::Reformat);
        let Some(victim) = self
            .victim
            .filter(|victim| may && self.can_do_without(&BTreeSet::from([*victim])))
        else {
            return;
        };
        self.victim = None;
        let downtime = self.endings.rng.between(1_000, 500_000);
        self.crash(victim, downtime);
        self.empty_disk(victim);
        self.note(format!("b{victim} has an empty disk in the end"));
    }

    /// See the module's comment.
    fn can_do_without(&self, gone: &BTreeSet<u32>) -> bool {
        let machines = self.machines.iter();
        let left = machines.filter(|machine| !gone.contains(&machine.settings.id));
        let running: Option<Vec<(u32, &Running)>> = left
            .map(|machine| Some((machine.settings.id, machine.running.as_ref()?)))
            .collect();
        let Some(running) = running else { return false };
        // Only who leads the metadata group knows all partitions: after a restart, a catalog is empty until a leader
        // says what is committed.
        let leads = |up: &Running| {
            let replica = up.shard_of(METADATA).replica(METADATA);
            replica.is_some_and(|(member, _)| member.is_serving())
        };
        let Some((_, controller)) = running.iter().find(|(_, up)| leads(up)) else {
            return false;
        };
        let topics = controller.agent().catalog().topics();
        let partitions: Vec<_> = topics.flat_map(|topic| &topic.partitions).collect();
        // Where a partition is being moved to, it may not be writable before all are there.
        let needs = |wanted: &[BrokerId]| {
            wanted
                .iter()
                .any(|id| gone.iter().any(|gone| i64::from(*gone) == i64::from(id.0)))
        };
        let is_awaited = partitions.iter().any(|p| p.reassignment.is_some() && needs(p.wanted()));
        if is_awaited {
            return false;
        }
        let groups = partitions.iter().map(|partition| GroupId(partition.group.0));
        groups
            .chain([METADATA])
            .chain(self.groups())
            .all(|group| self.decides(&running, group))
    }

    fn decides(&self, running: &[(u32, &Running)], group: GroupId) -> bool {
        let hosts = running
            .iter()
            .filter(|(_, up)| up.hosted().any(|hosted| hosted == group));
        let replicas = hosts.filter_map(|(id, up)| Some((*id, up.shard_of(group).replica(group)?)));
        let replicas: Vec<_> = replicas.collect();
        let sound: Vec<NodeId> = replicas
            .iter()
            .filter(|(id, (member, _))| !member.is_lost() && self.failing_disk != Some(*id))
            .map(|(id, _)| NodeId(u64::from(*id)))
            .collect();
        // The next leader holds what is committed, as far as a sound replica knows: an earlier configuration decides
        // nothing.
        let known = replicas.iter().filter_map(|(_, (member, log))| {
            let mut entered = log.configurations().iter().rev();
            entered
                .find(|(index, _)| *index <= member.commit())
                .map(|(index, _)| *index)
        });
        let committed = known.max().unwrap_or_default();
        let entered = replicas.iter().flat_map(|(_, (_, log))| log.configurations());
        let later = entered
            .filter(|(index, _)| *index >= committed)
            .map(|(_, entered)| entered);
        let founded = replicas
            .iter()
            .filter(|(_, (_, log))| committed == LogIndex::default() && log.configurations().is_empty());
        let mut relevant = later.chain(founded.map(|(_, (member, _))| member.configuration()));
        let is_majority = |of: &[NodeId]| of.iter().filter(|node| sound.contains(node)).count() * 2 > of.len();
        let decides =
            |known: &Configuration| is_majority(&known.voters) && (!known.is_joint() || is_majority(&known.outgoing));
        !replicas.is_empty() && relevant.all(decides)
    }
}
