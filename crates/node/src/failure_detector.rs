//! The brokers that are alive: heartbeats and what follows from them, and whether the failover budget is safe here.
//! Nothing of it waits for the catalog.

use crate::METADATA;
use crate::input::{Health, Now};
use crate::output::{Broadcast, Notice, Output};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use trimaran_multiraft::{Headroom, Heartbeat, Input, IntervalPlan, LivenessEvent, LivenessMonitor, Safety};
use trimaran_raft::{Instant, Liveness, NodeId};

/// The liveness monitor with its surroundings.
#[derive(Debug)]
pub struct FailureDetector {
    monitor: LivenessMonitor,
    headroom: Headroom,
    is_safe: bool,
    stalled: bool,
    peers: BTreeMap<NodeId, Liveness>,
    events: Vec<LivenessEvent>,
    /// As last told by [`Output::Routes`].
    routes: BTreeMap<NodeId, NodeId>,
}

/// A change that the agent is told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Restored(NodeId),
    Down(NodeId),
}

impl FailureDetector {
    pub(crate) fn new(
        plan: IntervalPlan,
        own: NodeId,
        incarnation: u64,
        peers: &[NodeId],
        now: Instant,
    ) -> FailureDetector {
        FailureDetector {
            monitor: LivenessMonitor::new(plan.liveness(own, incarnation), peers, now),
            headroom: Headroom::new(plan),
            is_safe: true,
            stalled: false,
            // Nobody has been heard from yet; the monitor says when one is.
            peers: peers.iter().map(|peer| (*peer, Liveness::Suspected)).collect(),
            events: Vec::new(),
            routes: BTreeMap::new(),
        }
    }

    /// The monitor.
    #[must_use]
    pub fn monitor(&self) -> &LivenessMonitor {
        &self.monitor
    }

    /// The monitor, for a test that breaks it.
    #[cfg(feature = "sabotage")]
    pub fn monitor_mut(&mut self) -> &mut LivenessMonitor {
        &mut self.monitor
    }

    /// How many brokers are believed to be alive, this one included.
    #[must_use]
    pub fn alive(&self) -> usize {
        let alive = self.peers.values().filter(|liveness| **liveness == Liveness::Alive);
        1 + alive.count()
    }

    /// Whether this broker's disk, its scheduler or a thread that hangs makes the failover budget unsafe.
    #[must_use]
    pub fn is_unsafe(&self) -> bool {
        // While heartbeats are withheld nothing is safe here, whatever was measured.
        !self.is_safe || self.stalled
    }

    /// Watches one more broker, if it is not watched yet.
    pub(crate) fn add(&mut self, now: Instant, node: NodeId) {
        self.monitor.add_peer(now, node);
        self.peers.entry(node).or_insert(Liveness::Suspected);
    }

    /// The host's thread woke so much later than it was to.
    pub fn woke_late(&mut self, now: Instant, late: Duration) {
        self.headroom.lateness(now, late);
    }

    pub(crate) fn heard(&mut self, now: Now, from: NodeId, heartbeat: Heartbeat, out: &mut Vec<Output>) -> Vec<Change> {
        self.monitor.received(now.at, from, heartbeat, &mut self.events);
        self.handle_events(out)
    }

    pub(crate) fn refused(&mut self, now: Now, peer: NodeId, out: &mut Vec<Output>) -> Vec<Change> {
        self.monitor.refused(now.at, peer, &mut self.events);
        self.handle_events(out)
    }

    pub(crate) fn tick(&mut self, now: Now, health: Health, out: &mut Vec<Output>) -> Vec<Change> {
        self.stalled = health.stalled;
        self.monitor.set_stalled(health.stalled);
        self.monitor.tick(now.at, &mut self.events);
        let changes = self.handle_events(out);
        if let Some(took) = health.write {
            self.headroom.fsync(now.at, took);
        }
        let safety = self.headroom.safety(now.at);
        if (safety == Safety::Safe) != self.is_safe {
            self.is_safe = safety == Safety::Safe;
            out.push(Output::Notice(Notice::Budget(safety)));
        }
        changes
    }

    fn handle_events(&mut self, out: &mut Vec<Output>) -> Vec<Change> {
        // A way around is told before the silence that it is for, and taken back after that has ended.
        let routes = self.monitor.routes();
        let known = std::mem::replace(&mut self.routes, routes.clone());
        let both: BTreeSet<NodeId> = known.keys().chain(routes.keys()).copied().collect();
        if !both.iter().eq(known.keys()) {
            out.push(rerouted(both.iter()));
        }
        let mut changes = Vec::new();
        for event in std::mem::take(&mut self.events) {
            changes.extend(self.handle(event, out));
        }
        if !both.iter().eq(routes.keys()) {
            out.push(rerouted(routes.keys()));
        }
        if routes != known {
            for (&to, &through) in routes.iter().filter(|(to, _)| !known.contains_key(to)) {
                out.push(Output::Notice(Notice::Rerouted { to, through }));
            }
            out.push(Output::Routes(routes));
        }
        changes
    }

    fn handle(&mut self, event: LivenessEvent, out: &mut Vec<Output>) -> Option<Change> {
        match event {
            LivenessEvent::Send(to, heartbeat) => {
                out.push(Output::Heartbeat(to, heartbeat));
                None
            }
            LivenessEvent::Changed(node, liveness) => {
                self.note(node, liveness, out);
                out.push(Output::AllShards(Broadcast::Liveness(node, liveness)));
                (liveness != Liveness::Alive).then_some(Change::Down(node))
            }
            LivenessEvent::Restored(node) => {
                self.note(node, Liveness::Alive, out);
                out.push(Output::AllShards(Broadcast::Restored(node)));
                Some(Change::Restored(node))
            }
        }
    }

    fn note(&mut self, node: NodeId, liveness: Liveness, out: &mut Vec<Output>) {
        if self.peers.insert(node, liveness) != Some(liveness) {
            out.push(Output::Notice(Notice::Liveness(node, liveness)));
        }
    }
}

/// Tells the metadata group which brokers its messages reach by another way.
fn rerouted<'a>(nodes: impl Iterator<Item = &'a NodeId>) -> Output {
    Output::Shard(METADATA, Input::Rerouted(METADATA, nodes.copied().collect()))
}
