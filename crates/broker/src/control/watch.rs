//! The brokers that are alive: the liveness monitor with its surroundings, and whether the failover budget is safe
//! here.

use super::{ControlParts, METADATA};
use crate::peers;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use trimaran_multiraft::{Headroom, Heartbeat, Input, IntervalPlan, LivenessEvent, LivenessMonitor, Safety};
use trimaran_raft::{Instant, Liveness, NodeId};
use trimaran_registry::BrokerId;
use trimaran_wire::peer as wire;

/// A change that the agent is to be told.
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
    /// As last given to [`crate::peers::Outbound::set_routes`].
    routes: BTreeMap<NodeId, NodeId>,
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
            routes: BTreeMap::new(),
        }
    }

    /// Watches one more broker, if it is not watched yet.
    pub(super) fn add(&mut self, now: Instant, node: NodeId) {
        self.monitor.add_peer(now, node);
        self.peers.entry(node).or_insert(Liveness::Suspected);
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
        // A way around is told before the silence that it is for, and taken back after that has ended.
        let routes = self.monitor.routes();
        let known = std::mem::take(&mut self.routes);
        self.tell_routes(parts, &known, known.keys().chain(routes.keys()));
        for event in events {
            self.handle(parts, event);
        }
        let both = known.clone().into_iter().chain(routes.clone()).collect();
        self.tell_routes(parts, &both, routes.keys());
        self.take_routes(parts, known, routes);
        // A write that has not come back has taken so long already.
        let written = parts.journal.take_worst_write();
        let took = written.unwrap_or_default().max(parts.journal.stalled_for());
        if !took.is_zero() {
            self.headroom.fsync(now, took);
        }
        self.judge(parts, now);
    }

    /// The brokers that are out of everybody's reach, as far as known here (see [`crate::engine::ClusterView`]).
    pub(super) fn unreachable(&self) -> BTreeSet<BrokerId> {
        self.monitor.unreachable().into_iter().map(crate::ids::broker).collect()
    }

    /// The brokers whose machines refuse connections.
    pub(super) fn refusing(&self) -> BTreeSet<BrokerId> {
        self.monitor.refusing().into_iter().map(crate::ids::broker).collect()
    }

    /// Tells the metadata group which brokers its messages reach by another way, if they are others than before.
    fn tell_routes<'a>(
        &self,
        parts: &ControlParts,
        before: &BTreeMap<NodeId, NodeId>,
        now: impl Iterator<Item = &'a NodeId>,
    ) {
        let now: BTreeSet<NodeId> = now.copied().collect();
        if !before.keys().eq(now.iter()) {
            let nodes = now.into_iter().collect();
            parts.mailboxes.of(METADATA).tell(Input::Rerouted(METADATA, nodes));
        }
    }

    fn take_routes(&mut self, parts: &ControlParts, known: BTreeMap<NodeId, NodeId>, routes: BTreeMap<NodeId, NodeId>) {
        if routes != known {
            for (to, through) in routes.iter().filter(|(to, _)| !known.contains_key(to)) {
                tracing::warn!(
                    broker = %to, %through,
                    "the link to a broker is cut that another one hears: what the cluster has to know goes through \
                     that one"
                );
            }
            parts.outbound.set_routes(routes.clone());
        }
        self.routes = routes;
    }

    pub(super) fn news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    fn handle(&mut self, parts: &ControlParts, event: LivenessEvent) {
        match event {
            LivenessEvent::Send(to, heartbeat) => {
                let heartbeat = peers::heartbeat_to_wire(heartbeat);
                parts.outbound.send_urgent(to, &wire::Frame::Heartbeat(heartbeat));
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
                "the disk is too slow for the failover budget: a failover would take longer; raise \
                 `cluster.failover_budget_ms`"
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
