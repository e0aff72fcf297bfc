//! Who is alive: the liveness monitor with its surroundings, and whether the failover budget is safe here.

use super::ControlParts;
use crate::peers;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use trimaran_multiraft::{Headroom, Heartbeat, Input, IntervalPlan, LivenessEvent, LivenessMonitor, Safety};
use trimaran_raft::{Instant, Liveness, NodeId};
use trimaran_registry::BrokerId;
use trimaran_wire::peer as wire;

/// What the agent is to be told.
pub(super) enum News {
    Restored(NodeId),
    Down(NodeId),
}

pub(super) struct Watch {
    monitor: LivenessMonitor,
    headroom: Headroom,
    plan: IntervalPlan,
    safe: bool,
    /// Heartbeats are withheld.
    withheld: bool,
    peers: BTreeMap<NodeId, Liveness>,
    events: Vec<LivenessEvent>,
    news: VecDeque<News>,
}

impl Watch {
    pub(super) fn new(parts: &ControlParts, now: Instant) -> Watch {
        let own = crate::ids::node(parts.broker.id);
        let peers: Vec<NodeId> = parts.voters.iter().copied().filter(|voter| *voter != own).collect();
        let liveness = parts.plan.liveness(own, parts.broker.incarnation.0);
        parts.metrics.brokers_alive.set(1);
        Watch {
            monitor: LivenessMonitor::new(liveness, &peers, now),
            headroom: Headroom::new(parts.plan),
            plan: parts.plan,
            safe: true,
            withheld: false,
            // Nobody has been heard from yet; the monitor says when one is.
            peers: peers.into_iter().map(|peer| (peer, Liveness::Suspected)).collect(),
            events: Vec::new(),
            news: VecDeque::new(),
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.monitor.deadline()
    }

    /// The thread woke by its timer, due at `deadline`.
    pub(super) fn woke(&mut self, now: Instant, deadline: Instant) {
        self.headroom.lateness(now, now.since(deadline));
    }

    pub(super) fn received(&mut self, now: Instant, from: NodeId, heartbeat: Heartbeat) {
        self.monitor.received(now, from, heartbeat, &mut self.events);
    }

    pub(super) fn refused(&mut self, now: Instant, peer: NodeId) {
        self.monitor.refused(now, peer, &mut self.events);
    }

    pub(super) fn tick(&mut self, parts: &ControlParts, now: Instant) {
        self.withheld = parts.workers.withhold_heartbeats();
        self.monitor.set_stalled(self.withheld);
        self.monitor.tick(now, &mut self.events);
        let events = std::mem::take(&mut self.events);
        for event in &events {
            self.handle(parts, *event);
        }
        self.events = events;
        self.events.clear();
        // A write that has not come back has taken so long already.
        let written = parts.journal.take_worst_write();
        let took = written.unwrap_or_default().max(parts.journal.stalled_for());
        if !took.is_zero() {
            self.headroom.fsync(now, took);
        }
        self.judge(parts, now);
    }

    /// The brokers that are out of contact; none where that is a majority (see [`crate::engine::ClusterView`]).
    pub(super) fn unreachable(&self) -> BTreeSet<BrokerId> {
        let silent = self.peers.iter().filter(|(_, liveness)| **liveness != Liveness::Alive);
        let silent: BTreeSet<BrokerId> = silent.map(|(node, _)| crate::ids::broker(*node)).collect();
        let all = self.peers.len() + 1;
        if silent.len() * 2 < all {
            silent
        } else {
            BTreeSet::new()
        }
    }

    pub(super) fn news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    fn handle(&mut self, parts: &ControlParts, event: LivenessEvent) {
        match event {
            LivenessEvent::Send(to, heartbeat) => {
                let heartbeat = wire::Heartbeat {
                    incarnation: heartbeat.incarnation,
                    sequence: heartbeat.sequence,
                    echo_sequence: heartbeat.echo_sequence,
                    echo_incarnation: heartbeat.echo_incarnation,
                };
                peers::send_urgent(&parts.links, to, &wire::Frame::Heartbeat(heartbeat));
            }
            LivenessEvent::Changed(node, liveness) => {
                self.note(parts, node, liveness);
                parts.mailboxes.tell_all(|| Input::Liveness(node, liveness));
                if liveness != Liveness::Alive {
                    self.news.push_back(News::Down(node));
                }
            }
            LivenessEvent::Restored(node) => {
                self.note(parts, node, Liveness::Alive);
                parts.mailboxes.tell_all(|| Input::Restored(node));
                self.news.push_back(News::Restored(node));
            }
        }
    }

    fn note(&mut self, parts: &ControlParts, node: NodeId, liveness: Liveness) {
        if self.peers.insert(node, liveness) != Some(liveness) {
            tracing::info!(broker = %node, ?liveness, "a broker's liveness changed");
        }
        let alive = self
            .peers
            .values()
            .filter(|liveness| **liveness == Liveness::Alive)
            .count();
        parts.metrics.brokers_alive.set(1 + alive as i64);
    }

    /// Says so when the own disk or scheduler makes the budget unsafe, and when it is safe again.
    fn judge(&mut self, parts: &ControlParts, now: Instant) {
        let safety = self.headroom.safety(now);
        let safe = safety == Safety::Safe;
        // While heartbeats are withheld nothing is safe here, whatever was measured; the log says which thread stalls.
        parts.metrics.budget_unsafe.set(i64::from(!safe || self.withheld));
        if safe == self.safe {
            return;
        }
        self.safe = safe;
        let budget = self.plan.budget;
        match safety {
            Safety::Safe => tracing::info!(?budget, "disk and scheduler fit the failover budget again"),
            Safety::Slow { expected } => tracing::warn!(
                ?budget,
                ?expected,
                "the disk is too slow for the failover budget: a failover would take longer; raise `cluster.failover_budget_ms`"
            ),
            Safety::Jittery { delay } => tracing::warn!(
                ?budget,
                ?delay,
                "this machine is too busy for the failover budget: others may take this broker for dead; raise \
                 `cluster.failover_budget_ms`"
            ),
        }
    }
}
