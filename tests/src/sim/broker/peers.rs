//! Other brokers: their frames, and the ways to them.

use super::event::Effect;
use super::{METADATA, Running, broker_id, of_node};
use crate::sim::envelope;
use crate::sim::queue::Micros;
use bytes::Bytes;
use std::collections::BTreeMap;
use trimaran_multiraft::Input as ShardInput;
use trimaran_multiraft::envelope::{Messages, decode};
use trimaran_node::Input;
use trimaran_raft::NodeId;
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
            self.tell_node(now, Input::Newcomer(NodeId(u64::from(from))), effects)?;
        }
        match frame {
            Frame::Heartbeat(heartbeat) => {
                let input = Input::Heartbeat(NodeId(u64::from(from)), envelope::heartbeat_in(heartbeat));
                self.tell_node(now, input, effects)?;
            }
            Frame::Groups(messages) => {
                let mut by_shard: BTreeMap<usize, Vec<_>> = BTreeMap::new();
                let messages = decode(messages).map_err(|error| format!("messages from b{from}: {error}"))?;
                for (group, message) in messages {
                    by_shard.entry(self.seat_of(group)).or_default().push((group, message));
                }
                for (shard, messages) in by_shard {
                    let input = ShardInput::Messages(NodeId(u64::from(from)), messages);
                    self.tell_shard(now, shard, input, effects);
                }
            }
            Frame::Control(message) => {
                let input = Input::Agent(NodeId(u64::from(from)), message);
                self.tell_node(now, input, effects)?;
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
        let Some(through) = self.routes.get(&to).copied() else {
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
            .partition(|(group, _)| *group == METADATA && self.routes.contains_key(&to));
        if !rerouted.is_empty() {
            self.send(to, envelope::groups_out(&rerouted), effects);
        }
        if !direct.is_empty() {
            let to = u32::try_from(to.0).unwrap_or(0);
            effects.push(Effect::Send(to, envelope::groups_out(&direct)));
        }
    }
}
