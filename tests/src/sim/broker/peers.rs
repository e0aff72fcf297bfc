//! Other brokers: their frames, and what the liveness monitor makes of them.

use super::event::Effect;
use super::{METADATA, Running, broker_id, of_node};
use crate::sim::envelope;
use crate::sim::queue::Micros;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use trimaran_multiraft::envelope::{Messages, decode};
use trimaran_multiraft::{Input, LivenessEvent};
use trimaran_raft::{Liveness, NodeId};
use trimaran_registry::agent;
use trimaran_registry::starts::Announcement;
use trimaran_wire::peer::{BrokerId, Frame, Relayed};

impl Running {
    pub(super) fn frame(
        &mut self,
        now: Micros,
        from: u32,
        bytes: Bytes,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        let frame = Frame::decode(bytes).map_err(|error| format!("a frame from b{from}: {error}"))?;
        if from > self.settings.founders {
            // A newcomer has said where it is reached.
            let clock = self.clock(now);
            self.monitor.add_peer(clock, NodeId(u64::from(from)));
        }
        match frame {
            Frame::Heartbeat(heartbeat) => {
                let mut events = Vec::new();
                let clock = self.clock(now);
                let heartbeat = envelope::heartbeat_in(heartbeat);
                self.monitor
                    .received(clock, NodeId(u64::from(from)), heartbeat, &mut events);
                self.liveness(now, events, effects)?;
            }
            Frame::Groups(messages) => {
                let mut by_shard: BTreeMap<usize, Vec<_>> = BTreeMap::new();
                let messages = decode(messages).map_err(|error| format!("messages from b{from}: {error}"))?;
                for (group, message) in messages {
                    by_shard.entry(self.seat_of(group)).or_default().push((group, message));
                }
                for (shard, messages) in by_shard {
                    let input = Input::Messages(NodeId(u64::from(from)), messages);
                    self.tell_shard(now, shard, input, effects);
                }
            }
            Frame::Control(message) => {
                let from = broker_id(from);
                self.tell_agent(
                    now,
                    agent::Input::Peer {
                        from,
                        message: &message,
                    },
                    effects,
                )?;
            }
            Frame::Relayed(relayed) => {
                let own = NodeId(u64::from(self.settings.id));
                let [origin, to] = [relayed.from, relayed.to].map(|broker| u32::try_from(broker.0).unwrap_or(0));
                if NodeId(u64::from(to)) == own {
                    self.frame(now, origin, relayed.frame, effects)?;
                } else if origin == from {
                    effects.push(Effect::Send(to, Frame::Relayed(relayed)));
                }
            }
            Frame::FailOver(_) => {}
        }
        Ok(())
    }

    /// Sends a frame, through a third broker if the way is silent.
    pub(super) fn send(&self, to: NodeId, frame: Frame, effects: &mut Vec<Effect>) {
        let number = |node: NodeId| u32::try_from(node.0).unwrap_or(0);
        let Some(through) = self.monitor.route(to) else {
            return effects.push(Effect::Send(number(to), frame));
        };
        let Announcement { start, previous } = self.announced;
        let relayed = Relayed {
            from: BrokerId(broker_id(self.settings.id).0),
            to: BrokerId(of_node(to).0),
            start: envelope::start_out(start),
            previous: previous.0,
            frame: envelope::encode(&frame),
        };
        effects.push(Effect::Send(number(through), Frame::Relayed(relayed)));
    }

    /// Sends what groups have to say; only the metadata group's messages take the way through a third broker.
    pub(super) fn send_groups(&self, to: NodeId, messages: Messages, effects: &mut Vec<Effect>) {
        let (rerouted, direct): (Vec<_>, Vec<_>) = messages
            .into_iter()
            .partition(|(group, _)| *group == METADATA && self.monitor.route(to).is_some());
        if !rerouted.is_empty() {
            self.send(to, envelope::groups_out(&rerouted), effects);
        }
        if !direct.is_empty() {
            let to = u32::try_from(to.0).unwrap_or(0);
            effects.push(Effect::Send(to, envelope::groups_out(&direct)));
        }
    }

    /// Tells the metadata group which brokers its messages reach through others.
    fn reroute(&mut self, now: Micros, nodes: BTreeSet<NodeId>, effects: &mut Vec<Effect>) {
        if self.rerouted != nodes {
            let input = Input::Rerouted(METADATA, nodes.iter().copied().collect());
            self.rerouted = nodes;
            self.tell(now, METADATA, input, effects);
        }
    }

    pub(super) fn liveness(
        &mut self,
        now: Micros,
        events: Vec<LivenessEvent>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        // A way around is told before the silence that it is for, and taken back after that has ended.
        let routes: BTreeSet<NodeId> = self.monitor.routes().into_keys().collect();
        self.reroute(now, &routes | &self.rerouted, effects);
        for event in events {
            match event {
                LivenessEvent::Send(to, heartbeat) => {
                    let to = u32::try_from(to.0).unwrap_or(0);
                    effects.push(Effect::Send(to, envelope::heartbeat_out(heartbeat)));
                }
                LivenessEvent::Changed(node, liveness) => {
                    effects.push(self.note(format!("finds b{node} {liveness:?}")));
                    for shard in 0..self.seats.len() {
                        self.tell_shard(now, shard, Input::Liveness(node, liveness), effects);
                    }
                    if liveness != Liveness::Alive {
                        self.tell_agent(now, agent::Input::Down(of_node(node)), effects)?;
                    }
                }
                LivenessEvent::Restored(node) => {
                    effects.push(self.note(format!("is in contact with b{node} again")));
                    for shard in 0..self.seats.len() {
                        self.tell_shard(now, shard, Input::Restored(node), effects);
                    }
                    self.tell_agent(now, agent::Input::Restored(of_node(node)), effects)?;
                }
            }
        }
        self.reroute(now, routes, effects);
        Ok(())
    }
}
