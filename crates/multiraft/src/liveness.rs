//! One heartbeat a pair of brokers, and graded evidence from it.
//!
//! Whether a broker lives is asked once a broker, not once a partition. Evidence is graded: a refused reconnect says
//! more than silence. It is never proof: a suspected leader's followers ask each other for pre-votes, and a majority
//! must share the suspicion.
//!
//! A peer counts as alive only if both ways work: it is heard, and what it hears of us (its echo) goes on. With only
//! one way checked, a leader whose outgoing link is cut would be followed by nobody and suspected by nobody.
//!
//! A peer that is silent here may be well, and only the link between the two be cut. So a heartbeat says whom its
//! sender is in contact with, and a silent peer that another one hears is reached through that one
//! ([`LivenessMonitor::route`]). Groups whose messages don't take that way take it for suspected all the same: a leader
//! has to reach its followers itself.

#[cfg(test)]
mod tests;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use trimaran_raft::{Instant, Liveness, NodeId};

/// After an own pause: one interval for a peer's next heartbeat, and one for its way here through queues that filled
/// up meanwhile.
const GRACE_INTERVALS: u32 = 2;

/// A heartbeat between two brokers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Counts the starts of the sender's process: a change means that it restarted.
    pub incarnation: u64,
    /// Counts the sender's heartbeats to this receiver, from one.
    pub sequence: u64,
    /// The highest sequence the sender has had from the receiver, of the receiver's incarnation `echo_incarnation`:
    /// proof that the way there works too.
    pub echo_sequence: u64,
    /// See `echo_sequence`. Zero if the sender has heard nothing yet.
    pub echo_incarnation: u64,
    /// The peers that the sender is in contact with, in both directions, in ascending order.
    pub hears: Vec<NodeId>,
}

/// The watching broker, and how closely it watches. Derived from `failover_budget_ms` by
/// [`crate::IntervalPlan::liveness`].
#[derive(Clone, Debug)]
pub struct LivenessConfig {
    /// This broker.
    pub node: NodeId,
    /// Counts this process's starts; larger than that of any start before.
    pub incarnation: u64,
    /// Between heartbeats to a peer.
    pub interval: Duration,
    /// Silence (in either direction) that makes a peer suspected.
    pub timeout: Duration,
}

/// A decision of the monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LivenessEvent {
    /// Send this to the peer, now.
    Send(NodeId, Heartbeat),
    /// Tell all shards: [`crate::Input::Liveness`]. Also says so when a peer is first heard.
    Changed(NodeId, Liveness),
    /// Tell all shards: [`crate::Input::Restored`].
    Restored(NodeId),
}

/// Another broker as far as it is known.
#[derive(Clone, Debug)]
struct Peer {
    liveness: Liveness,
    /// Of its process; none before its first heartbeat.
    incarnation: Option<u64>,
    /// Its highest sequence, and when that was heard.
    heard_sequence: u64,
    heard_at: Instant,
    /// Our last sequence to it.
    sent_sequence: u64,
    /// The highest of ours that it has echoed, and when that last rose.
    echo_sequence: u64,
    echo_at: Instant,
    /// Only an echo above this shows that it is back: what was on its way when its process ended is no sign of life.
    dead_from: u64,
    /// Its silence has been forgiven once because of an own pause.
    forgiven: bool,
    /// The brokers that it was in contact with, by its last heartbeat.
    hears: Vec<NodeId>,
    /// When it was last found [`Liveness::Dead`].
    refused_at: Instant,
}

impl Peer {
    /// Believed alive until it has had its time to say so.
    fn new(now: Instant) -> Peer {
        Peer {
            liveness: Liveness::Alive,
            incarnation: None,
            heard_sequence: 0,
            heard_at: now,
            sent_sequence: 0,
            echo_sequence: 0,
            echo_at: now,
            dead_from: 0,
            forgiven: false,
            hears: Vec::new(),
            refused_at: now,
        }
    }

    /// The peer is alive, and has said so itself.
    fn is_heard(&self) -> bool {
        self.liveness == Liveness::Alive && self.incarnation.is_some()
    }

    /// Neither direction has been silent for longer than the timeout.
    fn silent_at(&self, timeout: Duration) -> Instant {
        self.heard_at.min(self.echo_at) + timeout
    }

    /// Another process of the same broker: nothing of the old one's counts.
    fn begin_incarnation(&mut self, now: Instant, incarnation: u64) {
        self.incarnation = Some(incarnation);
        self.heard_sequence = 0;
        self.echo_at = now;
        self.dead_from = 0;
    }

    /// Notes an echo of our heartbeats; true if it is news.
    fn note_echo(&mut self, now: Instant, sequence: u64) -> bool {
        let news = sequence > self.echo_sequence && sequence <= self.sent_sequence;
        if news {
            self.echo_sequence = sequence;
            self.echo_at = now;
        }
        news
    }

    fn heartbeat(&mut self, incarnation: u64, hears: Vec<NodeId>) -> Heartbeat {
        self.sent_sequence += 1;
        Heartbeat {
            incarnation,
            sequence: self.sent_sequence,
            echo_sequence: self.heard_sequence,
            echo_incarnation: self.incarnation.unwrap_or(0),
            hears,
        }
    }
}

/// Watches the other brokers. Sans-I/O, without chance; one a broker.
#[derive(Clone, Debug)]
pub struct LivenessMonitor {
    config: LivenessConfig,
    /// Ordered, so that events come in the same order every time.
    peers: BTreeMap<NodeId, Peer>,
    next_beat: Instant,
    stalled: bool,
    /// For [`crate::Sabotage::BelieveOwnEyes`].
    #[cfg(feature = "sabotage")]
    pub(crate) believes_own_eyes: bool,
}

impl LivenessMonitor {
    /// All peers are believed alive for one timeout. Heartbeats begin with the first [`LivenessMonitor::tick`].
    pub fn new(config: LivenessConfig, peers: &[NodeId], now: Instant) -> LivenessMonitor {
        let peers = peers.iter().filter(|&&peer| peer != config.node);
        let peers = peers.map(|&peer| (peer, Peer::new(now))).collect();
        LivenessMonitor {
            config,
            peers,
            next_beat: now,
            stalled: false,
            #[cfg(feature = "sabotage")]
            believes_own_eyes: false,
        }
    }

    /// Watches one more broker; without effect if it is watched already.
    pub fn add_peer(&mut self, now: Instant, peer: NodeId) {
        if peer != self.config.node && !self.peers.contains_key(&peer) {
            self.peers.insert(peer, Peer::new(now));
            self.next_beat = now;
        }
    }

    /// Watches one broker less.
    pub fn remove_peer(&mut self, peer: NodeId) {
        self.peers.remove(&peer);
    }

    /// A heartbeat came in. Those of strangers, of earlier incarnations and of the past are ignored.
    pub fn received(&mut self, now: Instant, from: NodeId, heartbeat: Heartbeat, events: &mut Vec<LivenessEvent>) {
        self.forgive_own_pause(now);
        let own = self.config.incarnation;
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let restarted = peer.incarnation.is_some_and(|known| heartbeat.incarnation > known);
        let first = peer.incarnation.is_none();
        if peer.incarnation.is_some_and(|known| heartbeat.incarnation < known) {
            return;
        }
        if restarted || first {
            peer.begin_incarnation(now, heartbeat.incarnation);
        }
        if heartbeat.sequence <= peer.heard_sequence {
            return;
        }
        peer.heard_sequence = heartbeat.sequence;
        peer.heard_at = now;
        peer.forgiven = false;
        peer.hears = heartbeat.hears;
        let echoed = heartbeat.echo_incarnation == own && peer.note_echo(now, heartbeat.echo_sequence);
        // A process that is back under a new incarnation needs no echo: it can't have heard us yet.
        let proven = restarted || first || (echoed && peer.echo_sequence > peer.dead_from);
        let returned = peer.liveness != Liveness::Alive && proven;
        if returned || restarted {
            restore(from, peer, events);
            self.beat(from, events);
        } else if first {
            // No news for those who took it for granted; but now it has been heard.
            events.push(LivenessEvent::Changed(from, Liveness::Alive));
        }
    }

    /// The connection closed and an immediate reconnect was refused: nobody listens there any more.
    pub fn refused(&mut self, now: Instant, peer: NodeId, events: &mut Vec<LivenessEvent>) {
        self.forgive_own_pause(now);
        let Some(known) = self.peers.get_mut(&peer) else { return };
        known.dead_from = known.sent_sequence;
        known.refused_at = now;
        if known.liveness != Liveness::Dead {
            known.liveness = Liveness::Dead;
            events.push(LivenessEvent::Changed(peer, Liveness::Dead));
        }
    }

    /// The own disk stalls (or works again): no heartbeats while it does, so that others take over what this broker
    /// can't do. Meanwhile a missing echo says nothing about a peer.
    pub fn set_stalled(&mut self, stalled: bool) {
        self.stalled = stalled;
    }

    /// Sends heartbeats and suspects the silent. To be called at [`LivenessMonitor::deadline`]; more often does no
    /// harm.
    pub fn tick(&mut self, now: Instant, events: &mut Vec<LivenessEvent>) {
        self.forgive_own_pause(now);
        if self.stalled {
            self.peers.values_mut().for_each(|peer| peer.echo_at = now);
        }
        if now >= self.next_beat {
            self.beat_all(events);
            let on_time = self.next_beat + self.config.interval;
            self.next_beat = if on_time > now {
                on_time
            } else {
                now + self.config.interval
            };
        }
        self.suspect_silent(now, events);
        self.doubt_refusals(now, events);
    }

    /// When to call [`LivenessMonitor::tick`] next.
    pub fn deadline(&self) -> Instant {
        let alive = self.peers.values().filter(|peer| peer.liveness == Liveness::Alive);
        let silent = alive.map(|peer| peer.silent_at(self.config.timeout)).min();
        silent.map_or(self.next_beat, |silent| silent.min(self.next_beat))
    }

    /// The liveness that a peer is believed to have; strangers are dead.
    pub fn liveness(&self, peer: NodeId) -> Liveness {
        self.peers.get(&peer).map_or(Liveness::Dead, |peer| peer.liveness)
    }

    /// The peer through which a silent one is reached: the first that hears both. None if it is in contact itself, out
    /// of everybody's reach, or believed dead (until that is doubted).
    pub fn route(&self, to: NodeId) -> Option<NodeId> {
        let silent = self.peers.get(&to).filter(|peer| !peer.is_heard());
        silent
            .filter(|peer| peer.liveness != Liveness::Dead)
            .and_then(|_| self.witness(to))
    }

    /// The first peer that hears another one.
    fn witness(&self, of: NodeId) -> Option<NodeId> {
        #[cfg(feature = "sabotage")]
        if self.believes_own_eyes {
            return None;
        }
        let mut witnesses = self.peers.iter().filter(|(_, peer)| peer.is_heard());
        let found = witnesses.find(|(_, peer)| peer.hears.binary_search(&of).is_ok());
        found.map(|(&witness, _)| witness)
    }

    /// All silent peers that can be reached, each with the one that passes frames on: see [`LivenessMonitor::route`].
    pub fn routes(&self) -> BTreeMap<NodeId, NodeId> {
        let silent = self.peers.iter().filter(|(_, peer)| !peer.is_heard());
        silent.filter_map(|(&to, _)| Some((to, self.route(to)?))).collect()
    }

    /// The peers that neither this broker nor any that it hears is in contact with. None where that is a majority of
    /// all: then it may well be this broker that is out of contact, and it knows nothing of the others.
    pub fn unreachable(&self) -> BTreeSet<NodeId> {
        let silent = self.peers.iter().filter(|(_, peer)| !peer.is_heard());
        let lost: BTreeSet<NodeId> = silent
            .map(|(&id, _)| id)
            .filter(|id| self.route(*id).is_none())
            .collect();
        if lost.len() * 2 <= self.peers.len() {
            lost
        } else {
            BTreeSet::new()
        }
    }

    /// The peers whose machines refuse connections, which no other peer hears either: their processes have ended. That
    /// is known even where nobody at all is heard.
    pub fn refusing(&self) -> BTreeSet<NodeId> {
        let dead = self.peers.iter().filter(|(_, peer)| peer.liveness == Liveness::Dead);
        dead.map(|(&id, _)| id).collect()
    }

    /// The peers that this broker is in contact with.
    fn contacts(&self) -> Vec<NodeId> {
        let heard = self.peers.iter().filter(|(_, peer)| peer.is_heard());
        heard.map(|(&id, _)| id).collect()
    }

    /// A machine that refuses connections from here, and a peer that goes on hearing it: it was not the process that
    /// ended. Its groups are to be served again as far as they can be.
    fn doubt_refusals(&mut self, now: Instant, events: &mut Vec<LivenessEvent>) {
        let patience = 2 * self.config.timeout;
        let is_due = |peer: &Peer| peer.liveness == Liveness::Dead && now >= peer.refused_at + patience;
        let due = self
            .peers
            .iter()
            .filter(|(id, peer)| is_due(peer) && self.witness(**id).is_some());
        for id in due.map(|(&id, _)| id).collect::<Vec<_>>() {
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.liveness = Liveness::Suspected;
                events.push(LivenessEvent::Changed(id, Liveness::Suspected));
            }
        }
    }

    /// A tick that is late by half a timeout or more means that this process was paused or starved: the others'
    /// heartbeats may lie in its queues, and its own did not leave. Each peer then gets another moment to be heard,
    /// once, so that a broker that is always late still suspects in the end.
    fn forgive_own_pause(&mut self, now: Instant) {
        let late = now.since(self.deadline());
        if late < self.config.timeout / 2 {
            return;
        }
        let grace = self.config.interval * GRACE_INTERVALS;
        let forgiven = Instant((now + grace).0.saturating_sub(micros(self.config.timeout)));
        for peer in self.peers.values_mut().filter(|peer| !peer.forgiven) {
            peer.heard_at = peer.heard_at.max(forgiven);
            peer.echo_at = peer.echo_at.max(forgiven);
            peer.forgiven = true;
        }
    }

    fn suspect_silent(&mut self, now: Instant, events: &mut Vec<LivenessEvent>) {
        let timeout = self.config.timeout;
        for (&id, peer) in &mut self.peers {
            if peer.liveness == Liveness::Alive && now >= peer.silent_at(timeout) {
                peer.liveness = Liveness::Suspected;
                // An echo that was on its way before the silence does not end it.
                peer.dead_from = peer.echo_sequence;
                events.push(LivenessEvent::Changed(id, Liveness::Suspected));
            }
        }
    }

    fn beat_all(&mut self, events: &mut Vec<LivenessEvent>) {
        if self.stalled {
            return;
        }
        let hears = self.contacts();
        for (&id, peer) in &mut self.peers {
            let heartbeat = peer.heartbeat(self.config.incarnation, hears.clone());
            events.push(LivenessEvent::Send(id, heartbeat));
        }
    }

    /// One heartbeat out of turn: a peer that is back should know soon that it is heard.
    fn beat(&mut self, to: NodeId, events: &mut Vec<LivenessEvent>) {
        let hears = self.contacts();
        if let Some(peer) = self.peers.get_mut(&to).filter(|_| !self.stalled) {
            let heartbeat = peer.heartbeat(self.config.incarnation, hears);
            events.push(LivenessEvent::Send(to, heartbeat));
        }
    }
}

/// A peer is back after a restart or a silence: what it was sent may be lost.
fn restore(id: NodeId, peer: &mut Peer, events: &mut Vec<LivenessEvent>) {
    if peer.liveness != Liveness::Alive {
        peer.liveness = Liveness::Alive;
        events.push(LivenessEvent::Changed(id, Liveness::Alive));
    }
    events.push(LivenessEvent::Restored(id));
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(feature = "sabotage")]
impl LivenessMonitor {
    /// From now on this monitor is broken in that way, if it is one that concerns it: for tests of tests.
    pub fn sabotage(&mut self, how: crate::Sabotage) {
        self.believes_own_eyes |= how == crate::Sabotage::BelieveOwnEyes;
    }
}
