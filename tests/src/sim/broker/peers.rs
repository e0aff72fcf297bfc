//! Other brokers: their frames, and what the liveness monitor makes of them.

use super::event::Effect;
use super::{Running, broker_id, of_node};
use crate::sim::envelope;
use crate::sim::queue::Micros;
use bytes::Bytes;
use std::collections::BTreeMap;
use trimaran_multiraft::{Input, LivenessEvent};
use trimaran_raft::{Liveness, NodeId};
use trimaran_registry::agent;
use trimaran_wire::peer::Frame;

impl Running {
    pub(super) fn frame(
        &mut self,
        now: Micros,
        from: u32,
        bytes: Bytes,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        let frame = envelope::decode(bytes).map_err(|error| format!("a frame from b{from}: {error}"))?;
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
                for (group, message) in envelope::groups_in(messages) {
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
            Frame::Hello(_)
            | Frame::Welcome(_)
            | Frame::Refused(_)
            | Frame::Inquiry(_)
            | Frame::Account(_)
            | Frame::FailOver(_) => {}
        }
        Ok(())
    }

    pub(super) fn liveness(
        &mut self,
        now: Micros,
        events: Vec<LivenessEvent>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
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
        Ok(())
    }
}
