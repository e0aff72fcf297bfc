//! The link between two brokers is cut, and nothing else is wrong: both of them know every leader.
//!
//! Everything has healed before, so that whatever is missing is missing because of the link.

use super::ending::{IDLE_FOR, differing_catalogs};
use super::{Phase, SECOND, World};
use crate::checker::{Law, Violation};
use crate::sim::broker::{self, Running};
use crate::sim::clients::Request;
use crate::sim::network::Place;
use crate::sim::queue::Micros;
use std::collections::BTreeMap;
use trimaran_raft::GroupId;
use trimaran_registry::agent::AdminRequest;
use trimaran_registry::catalog::{Layout, NewTopic};

/// By when leaders are known on both sides: suspicion and elections take some budgets (a second at most), and news that
/// was lost is asked for every second.
const FOUND_WITHIN: Micros = 12 * SECOND;

impl World {
    /// Cuts the link between two brokers, and has every leader hand over, so that each side has news to miss. Where
    /// there is no third broker, or one is gone or has a dead disk, nothing is cut.
    pub(super) fn cut_a_link(&mut self) -> Result<(), Violation> {
        let (now, brokers) = (self.now(), self.brokers());
        let is_whole = self.endings.nobody_is_gone() && !self.machines.iter().any(|machine| machine.has_dead_segments);
        if brokers < 3 || !is_whole {
            let until = now + IDLE_FOR;
            self.phase = Phase::Idle { until, watched: false };
            return Ok(());
        }
        let one = 1 + u32::try_from(self.rng.below(u64::from(brokers))).unwrap_or(0);
        let step = 1 + u32::try_from(self.rng.below(u64::from(brokers - 1))).unwrap_or(0);
        let other = 1 + (one - 1 + step) % brokers;
        self.note(format!("only the link between b{one} and b{other} is cut"));
        for (from, to) in [(one, other), (other, one)] {
            self.network.cut(Place::Broker(from), Place::Broker(to));
        }
        let until = now + FOUND_WITHIN;
        self.phase = Phase::LinkCut {
            between: (one, other),
            until,
        };
        self.create_topic_at(one)?;
        for group in self.groups() {
            for broker in 1..=brokers {
                let life = self.machine(broker).life;
                self.at_broker(broker, life, broker::Event::Transfer(group))?;
            }
        }
        Ok(())
    }

    /// Somebody asks one end of the link for a topic, which the other end has not heard of.
    fn create_topic_at(&mut self, broker: u32) -> Result<(), Violation> {
        let layout = Layout::Spread {
            partitions: 2,
            replication_factor: 3,
        };
        let topic = NewTopic {
            name: "during-the-cut".to_owned(),
            layout,
            config: BTreeMap::new(),
        };
        let create = AdminRequest::CreateTopic {
            topic,
            validate_only: false,
        };
        let life = self.machine(broker).life;
        // The administrator has had all its answers, and knows no request of this number.
        let event = broker::Event::Request {
            client: 0,
            number: u64::MAX,
            request: Request::Admin(create),
        };
        self.at_broker(broker, life, event)
    }

    /// Every broker must know every leader, and take it for reachable.
    pub(super) fn judge_link(&mut self, between: (u32, u32)) -> Result<(), Violation> {
        let machines = self.machines.iter();
        let running: Vec<(u32, &Running)> = machines
            .filter_map(|machine| Some((machine.settings.id, machine.running.as_ref()?)))
            .collect();
        let groups = self.groups().into_iter();
        let created = running
            .iter()
            .all(|(_, up)| up.agent().catalog().topic("during-the-cut").is_some());
        let not_created = (!created).then(|| "a topic that was created meanwhile is not known to all".to_owned());
        let lost = not_created.or_else(|| differing_catalogs(&running)).or_else(|| {
            groups
                .filter_map(|group| unknown_leader(&running, group, between))
                .next()
        });
        if let Some(lost) = lost {
            let (one, other) = between;
            let detail = format!("only the link between b{one} and b{other} is cut: {lost}");
            return Err(Violation::new(Law::LeadersAreFound, detail));
        }
        self.note("the link is repaired");
        self.network.heal();
        Ok(())
    }
}

/// The reason why a client of some broker does not find a group's leader. A group of which no majority can talk to each
/// other has none.
fn unknown_leader(running: &[(u32, &Running)], group: GroupId, (one, other): (u32, u32)) -> Option<String> {
    let replicas = running.iter().filter_map(|(id, up)| {
        let hosted = up.hosted().any(|hosted| hosted == group);
        let (member, _) = hosted.then(|| up.shard_of(group).replica(group)).flatten()?;
        Some((*id, member))
    });
    let replicas: Vec<_> = replicas.collect();
    let voters = replicas.first().map(|(_, member)| member.voters().to_vec())?;
    let pair = [one, other].map(|id| trimaran_raft::NodeId(u64::from(id)));
    if voters.len() == 2 && pair.iter().all(|node| voters.contains(node)) {
        return None;
    }
    let mut leaders = replicas
        .iter()
        .filter(|(_, member)| member.is_serving())
        .map(|(id, _)| *id);
    let Some(leader) = leaders.next() else {
        return Some(format!("group {group} has no serving leader"));
    };
    running.iter().find_map(|(id, up)| {
        if *id != leader && up.unreachable().contains(&leader) {
            return Some(format!(
                "group {group} is led by b{leader}, which b{id} takes for out of reach"
            ));
        }
        let known = up.agent().leaders().leadership(trimaran_registry::GroupId(group.0));
        let known = known
            .and_then(|known| known.leader)
            .and_then(|known| u32::try_from(known.0).ok());
        let right = known == Some(leader);
        (!right).then(|| format!("group {group} is led by b{leader}, and b{id} believes {known:?}"))
    })
}
