//! After the faults: healing, and becoming whole again within a bound.

use super::{Event, Phase, SECOND, World};
use crate::checker::{Law, Violation};
use crate::sim::Length;
use crate::sim::broker::{METADATA, Running};
use crate::sim::focus::Focus;
use crate::sim::queue::Micros;
use trimaran_raft::{Group, GroupId, LogView, NodeId};
use trimaran_storage::log::ReplicaLog;

/// Once faults stop, everything has to work again within this time: clients wait up to 1.5 seconds for an answer that
/// was lost, administrators 4, and some of them ask several times.
pub(super) const CONVERGES_WITHIN: Micros = 30 * SECOND;

/// How often it is asked whether everything works again.
const ASK_EVERY: Micros = 100_000;

/// How long an idle cluster is watched, after as long a time for what is under way to end.
pub(super) const IDLE_FOR: Micros = 3 * SECOND;

/// By when each leadership is back where it is preferred to be, once all works: what was given back shortly before a
/// fault is given back again after a minute, and one attempt may have failed.
const HOME_WITHIN: Micros = 150 * SECOND;

impl World {
    pub(super) fn heal(&mut self) -> Result<(), Violation> {
        self.note("everything heals");
        self.phase = Phase::Ending;
        self.ambush = None;
        self.healed_at = self.now();
        self.elections.faults_stop();
        self.choose_ending();
        self.network.heal();
        self.cut_off_gone();
        // With moves there would be those to the dead disk, which can't end.
        let stays_dead = self.focus == Focus::Elections;
        for broker in 1..=self.brokers() {
            let machine = self.machine(broker);
            machine.has_dead_segments &= stays_dead;
            machine.heal_disk();
            let life = machine.life;
            if let Some(running) = &mut machine.running {
                running.set_disk(machine.settings.disk);
            }
            self.resume(broker, life);
            self.go_on(broker, life)?;
            // An operator starts it again: what its disk refused to read may be readable now.
            if self.machine(broker).running.as_ref().is_some_and(Running::is_silent) {
                self.crash(broker, SECOND);
            }
            self.start(broker, life)?;
        }
        self.clients[..self.active]
            .iter_mut()
            .for_each(|client| client.finish());
        self.queue.after(ASK_EVERY, Event::Ask);
        Ok(())
    }

    pub(super) fn ask(&mut self) -> Result<(), Violation> {
        let now = self.now();
        let missing = self.missing();
        match self.phase {
            Phase::Suffering => {}
            // Without those that are missed, and without one that hangs, there may be no majority.
            Phase::Ending
                if missing.is_none() && self.endings.nobody_is_gone() && std::mem::take(&mut self.hangs_in_the_end) =>
            {
                self.begin_hanging();
            }
            Phase::Hanging { broker, life } => self.look_at_hanging(broker, life)?,
            Phase::Ending if missing.is_none() => {
                self.note("producers and administrators are done");
                self.whole_at = now;
                self.phase = Phase::Reading;
                self.clients[self.active..]
                    .iter_mut()
                    .for_each(|client| client.finish());
                for client in self.active..self.clients.len() {
                    self.plan_wake(client, now);
                }
            }
            Phase::Reading if missing.is_none() => {
                self.note("consumers are done");
                self.cut_a_link()?;
            }
            Phase::LinkCut { between, until } if now >= until => {
                self.judge_link(between)?;
                self.link_repaired_at = now;
                let until = now + IDLE_FOR;
                self.phase = Phase::Idle { until, watched: false };
            }
            Phase::LinkCut { .. } => {}
            Phase::Ending | Phase::Reading => {
                if now > self.healed_at + CONVERGES_WITHIN {
                    return Err(Violation::new(Law::Converges, missing.unwrap_or_default()));
                }
            }
            Phase::Idle { until, watched: false } if now >= until => {
                let comes_home =
                    self.length == Length::Full && !self.machines.iter().any(|machine| machine.has_dead_segments);
                if let Some(astray) = self.astray().filter(|_| comes_home) {
                    if now > self.healed_at.max(self.link_repaired_at) + CONVERGES_WITHIN + HOME_WITHIN {
                        return Err(Violation::new(Law::Converges, astray));
                    }
                    let until = now + IDLE_FOR;
                    self.phase = Phase::Idle { until, watched: false };
                    self.queue.after(ASK_EVERY, Event::Ask);
                    return Ok(());
                }
                let until = now + IDLE_FOR;
                self.phase = Phase::Idle { until, watched: true };
            }
            Phase::Idle { until, watched: true } if now >= until => {
                let home_by = self.healed_at.max(self.link_repaired_at) + CONVERGES_WITHIN + HOME_WITHIN;
                // Where somebody is missed, nothing says when leaderships have come home: one may be on its way now.
                let may_move = !self.endings.nobody_is_gone() && now <= home_by;
                if missing.is_some() && may_move {
                    let until = now + IDLE_FOR;
                    self.phase = Phase::Idle { until, watched: true };
                    self.queue.after(ASK_EVERY, Event::Ask);
                    return Ok(());
                }
                if let Some(missing) = missing {
                    return Err(Violation::new(Law::Converges, format!("it did not last: {missing}")));
                }
                let may_speak = self.gives_back && self.length == Length::Short;
                // A leader asks again, now and then, for what its follower's disk does not take.
                let may_speak = may_speak || self.machines.iter().any(|machine| machine.has_dead_segments);
                // A broker that is cut off goes on asking for votes, and those that are left for what it lacks.
                let may_speak = may_speak || !self.endings.nobody_is_gone();
                let spoke = self.idle_envelopes + self.idle_writes > 0 && !may_speak;
                self.finished = !spoke;
                if spoke && now <= home_by {
                    // A leader that has just come home may have something to say, and again if it gets no answer.
                    (self.idle_envelopes, self.idle_writes) = (0, 0);
                    let until = now + IDLE_FOR;
                    self.phase = Phase::Idle { until, watched: true };
                } else if spoke {
                    let (envelopes, writes) = (self.idle_envelopes, self.idle_writes);
                    let detail = format!("{envelopes} envelopes, {writes} journal writes in {IDLE_FOR} us");
                    return Err(Violation::new(Law::IdleIsSilent, detail));
                }
            }
            Phase::Idle { .. } => {}
        }
        self.queue.after(ASK_EVERY, Event::Ask);
        Ok(())
    }

    /// What keeps the cluster from being whole; none if it is.
    fn missing(&self) -> Option<String> {
        let mut running = Vec::new();
        let mut dead = None;
        for machine in self
            .machines
            .iter()
            .filter(|machine| !self.is_gone(machine.settings.id))
        {
            let id = machine.settings.id;
            match &machine.running {
                Some(up) if machine.has_dead_segments => dead = Some((id, up)),
                Some(up) if !machine.paused => running.push((id, up)),
                Some(_) => return Some(format!("b{id} is paused")),
                None => return Some(format!("b{id} is down")),
            }
        }
        let waited_for = match self.phase {
            Phase::Suffering | Phase::Ending | Phase::Hanging { .. } => &self.clients[..self.active],
            Phase::Reading | Phase::LinkCut { .. } | Phase::Idle { .. } => &self.clients[..],
        };
        if let Some(client) = waited_for.iter().find(|client| !client.is_done()) {
            return Some(client.describe());
        }
        if waited_for.len() == self.clients.len()
            && let Some((id, up)) = running.iter().find(|(_, up)| up.open_tickets() > 0)
        {
            return Some(format!("b{id} has {} tickets open", up.open_tickets()));
        }
        // Of one whose segments can't be written nothing is asked; of the others, that they do without it.
        differing_catalogs(&running)
            .or_else(|| self.misplaced(&running))
            .or_else(|| {
                let is_judged = |group: &GroupId| !dead.is_some_and(|(_, dead)| leads_idly(dead, *group));
                let mut groups = self.groups_left().into_iter().filter(is_judged);
                let all_return = self.endings.nobody_is_gone();
                groups.find_map(|group| unsettled(&running, group, all_return))
            })
            .or_else(|| dead.and_then(|dead| needed(&running, dead)))
    }

    /// A group that isn't led by its preferred leader; none if all are.
    fn astray(&self) -> Option<String> {
        let is_gone = |node: &NodeId| u32::try_from(node.0).is_ok_and(|broker| self.is_gone(broker));
        let left = self
            .machines
            .iter()
            .filter(|machine| !self.is_gone(machine.settings.id));
        let running = left.filter_map(|machine| machine.running.as_ref());
        running.into_iter().find_map(|running| {
            let mut hosted = running.hosted();
            let strays = hosted.find(|group| {
                let member = running.shard_of(*group).replica(*group).map(|(member, _)| member);
                member.is_some_and(|member| {
                    let preferred = member.voters().first();
                    member.leader() != preferred.copied() && !preferred.is_some_and(is_gone)
                })
            });
            strays.map(|group| format!("group {} is not led by its preferred leader", group.0))
        })
    }
}

/// A leader that has nothing to write does not know that it can't.
fn leads_idly(dead: &Running, group: GroupId) -> bool {
    let leads = |(member, log): (&Group, &ReplicaLog)| member.is_serving() && log.unflushed_bytes() == 0;
    dead.shard_of(group).replica(group).is_some_and(leads)
}

/// A group that counts on a broker whose disk takes nothing, although it can't write what it holds for it.
fn needed(running: &[(u32, &Running)], (id, dead): (u32, &Running)) -> Option<String> {
    let node = NodeId(u64::from(id));
    let holds = |group: &GroupId| {
        let unflushed =
            |(member, log): (&Group, &ReplicaLog)| log.unflushed_bytes() > 0 && log.flushed_index() < member.commit();
        *group != METADATA && dead.shard_of(*group).replica(*group).is_some_and(unflushed)
    };
    let is_voter = |group: &GroupId| {
        let leads = running.iter().filter_map(|(_, up)| up.shard_of(*group).replica(*group));
        leads
            .map(|(member, _)| member)
            .any(|member| member.is_serving() && member.configuration().is_voter(node))
    };
    let group = dead.hosted().filter(holds).find(is_voter)?;
    Some(format!(
        "group {group} counts on b{id}, whose segments can't be written"
    ))
}

pub(super) fn differing_catalogs(running: &[(u32, &Running)]) -> Option<String> {
    let applied: Vec<(u32, u64)> = running
        .iter()
        .map(|(id, up)| (*id, up.agent().catalog().applied().0))
        .collect();
    let same = applied.windows(2).all(|pair| pair[0].1 == pair[1].1);
    (!same).then(|| format!("catalogs differ: {applied:?}"))
}

/// What keeps a group from being whole: one serving leader, known to all, and every replica with the same log. Where
/// brokers are gone, a replica that its group has not taken in, or has let go already, may have to wait for them.
fn unsettled(running: &[(u32, &Running)], group: GroupId, all_return: bool) -> Option<String> {
    let mut leader = None;
    let mut configuration = None;
    let mut logs = Vec::new();
    for (id, up) in running {
        if !up.hosted().any(|hosted| hosted == group) {
            continue;
        }
        let Some((member, log)) = up.shard_of(group).replica(group) else {
            return Some(format!("group {group} is not open at b{id}"));
        };
        if member.is_serving() && leader.replace(*id).is_some() {
            return Some(format!("group {group} has two serving leaders"));
        }
        if member.is_serving() {
            configuration = Some(member.configuration());
        }
        logs.push((*id, member.term().0, member.commit().0, log.last_index().0));
    }
    let Some(leader) = leader else {
        return Some(format!(
            "group {group} has no serving leader: (broker, term, commit, last) {logs:?}"
        ));
    };
    if let Some(configuration) = configuration.filter(|_| !all_return) {
        logs.retain(|(id, ..)| configuration.members().any(|member| member.0 == u64::from(*id)));
    }
    let settled = logs
        .iter()
        .all(|log| log.2 == log.3 && (log.1, log.2) == (logs[0].1, logs[0].2));
    if !settled {
        return Some(format!(
            "group {group} led by b{leader}: (broker, term, commit, last) {logs:?}"
        ));
    }
    if group == METADATA {
        return None;
    }
    running.iter().find_map(|(id, up)| {
        let known = up.agent().leaders().leadership(trimaran_registry::GroupId(group.0));
        let right = known.is_some_and(|known| {
            known.serving && known.leader.is_some_and(|known| u32::try_from(known.0) == Ok(leader))
        });
        (!right).then(|| format!("group {group} is led by b{leader}, and b{id} believes {known:?}"))
    })
}

impl World {
    /// A partition that is not where it should be: still on its way (unless to a broker that is gone), or kept by other
    /// brokers.
    fn misplaced(&self, running: &[(u32, &Running)]) -> Option<String> {
        let (_, first) = running.first()?;
        let topics = first.agent().catalog().topics();
        let mut partitions = topics.flat_map(|topic| topic.partitions.iter());
        partitions.find_map(|partition| {
            let group = GroupId(partition.group.0);
            if partition.reassignment.is_some() && self.needs_gone(partition.wanted()) {
                return None;
            }
            if partition.reassignment.is_some() {
                return Some(format!("group {group} is being moved to {:?}", partition.wanted()));
            }
            let astray = running.iter().find(|(id, up)| {
                let should = partition
                    .replicas
                    .iter()
                    .any(|broker| u32::try_from(broker.0) == Ok(*id));
                should != up.hosted().any(|hosted| hosted == group)
            });
            astray.map(|(id, _)| {
                format!(
                    "group {group} belongs to {:?}, and b{id} doesn't agree",
                    partition.replicas
                )
            })
        })
    }
}
