//! `trimaran node`: the same Raft core, shard, journal, logs, registry and coordinator as in a broker, over JSON lines on
//! standard input and output, as a node in Jepsen's Maelstrom.
//!
//! It answers `init`, `partition_leader` and `partition_failover` (topic and partition are created by the first request
//! for them), and Maelstrom's `kafka` workload: `send`, `poll`, `commit_offsets`, `list_committed_offsets`. Nodes talk
//! to each other in messages of type `peer`, which carry the frames that brokers exchange over TCP; a request that
//! another node must answer is forwarded to it as it is.
//!
//! A node's disk is its memory: a node that ends must not come back. Maelstrom doesn't restart nodes of its own accord.
//!
//! `Node` is the node without I/O; `room` assembles the crates; `requests` is what clients wait for; `stdio` reads,
//! writes and keeps the time.

mod body;
mod requests;
mod room;
mod stdio;
#[cfg(test)]
mod tests;

pub use stdio::run;

use body::Forwarded;
use requests::{Answered, Asker, Outcome, Requests};
use room::{Fault, Room};
use std::time::Duration;
use trimaran_node::Now;
use trimaran_raft::{Instant, NodeId};
use trimaran_wire::json::{self, Answer, ErrorCode, Incoming, JsonError, Outgoing, Reply, Request};

/// After `init` a node says nothing of its own accord for so long, so that whatever its input holds already is read and
/// answered first. Another node's word ends it early.
const QUIET: Duration = Duration::from_secs(1);

/// Who is who. Node ids are Maelstrom's; brokers count from one in their order.
#[derive(Clone, Debug, PartialEq)]
struct Names {
    own: String,
    all: Vec<String>,
}

impl Names {
    fn new(own: String, mut all: Vec<String>) -> Result<Names, String> {
        all.sort();
        all.dedup();
        if all.len() > trimaran_registry::limits::BROKERS {
            return Err(format!("{} nodes are too many", all.len()));
        }
        if !all.contains(&own) {
            return Err(format!("node_ids must contain node_id, {own:?}"));
        }
        Ok(Names { own, all })
    }

    fn node(&self, name: &str) -> Option<NodeId> {
        let position = self.all.iter().position(|known| known == name)?;
        u64::try_from(position + 1).ok().map(NodeId)
    }

    fn name(&self, node: NodeId) -> &str {
        let position = usize::try_from(node.0).ok().and_then(|number| number.checked_sub(1));
        position
            .and_then(|position| self.all.get(position))
            .map_or("", String::as_str)
    }

    fn members(&self) -> Vec<NodeId> {
        self.all.iter().filter_map(|name| self.node(name)).collect()
    }
}

/// A node that has been told who it is.
struct Member {
    names: Names,
    /// None while it is quiet.
    room: Option<Room>,
    start_at: Instant,
    requests: Requests,
}

/// A node, without I/O: lines in, lines out.
#[derive(Default)]
struct Node {
    member: Option<Member>,
    /// Counts what it sends, from zero.
    sent: u64,
    seed: u64,
}

impl Node {
    fn new(seed: u64) -> Node {
        Node {
            seed,
            ..Node::default()
        }
    }

    /// When to call [`Node::tick`] next; never before it has been told who it is.
    fn deadline(&self) -> Option<Instant> {
        let member = self.member.as_ref()?;
        Some(match &member.room {
            None => member.start_at,
            Some(room) => room.deadline().min(member.requests.deadline()),
        })
    }

    /// Time has passed.
    fn tick(&mut self, now: Now, out: &mut Vec<String>) -> Result<(), Fault> {
        if let Some(member) = &mut self.member
            && now.at >= member.start_at
        {
            member.start(now, self.seed)?;
        }
        self.work(now, out)
    }

    /// A line that is too long to be looked at.
    fn too_long(&mut self, out: &mut Vec<String>) {
        let text = format!("a line is longer than {} bytes", json::MAX_LINE_BYTES);
        self.answer(
            "",
            None,
            Reply::Error {
                code: ErrorCode::MalformedRequest,
                text,
            },
            out,
        );
    }

    /// A line, without its end.
    fn line(&mut self, now: Now, line: &[u8], out: &mut Vec<String>) -> Result<(), Fault> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        if let Some(reply) = body::reply(line) {
            // Never answered, whatever it is: two nodes that answered each other's errors would go on for ever.
            if let Some(member) = &mut self.member {
                member.requests.replied(now, reply);
            }
            return self.work(now, out);
        }
        match json::parse_line(line) {
            Ok(incoming) => self.incoming(now, incoming, out)?,
            Err(error) => self.malformed(&error, out),
        }
        self.work(now, out)
    }

    fn malformed(&mut self, error: &JsonError, out: &mut Vec<String>) {
        self.answer(&error.src, error.msg_id, error.reply(), out);
    }

    fn incoming(&mut self, now: Now, incoming: Incoming, out: &mut Vec<String>) -> Result<(), Fault> {
        let Incoming {
            src,
            dest,
            msg_id,
            request,
        } = incoming;
        match (request, &mut self.member) {
            (Request::Init { node_id, node_ids }, _) => {
                let reply = self.init(now, node_id, node_ids);
                self.answer(&src, msg_id, reply, out);
            }
            (Request::Peer { frame }, Some(member)) if dest == member.names.own => {
                if let Some(from) = member.names.node(&src) {
                    member.start(now, self.seed)?;
                    if let Some(room) = &mut member.room {
                        room.frame(now, from, frame)?;
                    }
                }
            }
            // For another node, or before this one knows who it is: the sender sends it again, to whom it is for.
            (Request::Peer { .. }, _) => {}
            (request, Some(member)) => {
                let asker = Asker::new(src.clone(), msg_id, member.names.node(&src).is_some());
                if let Some(reply) = member.requests.take(now, asker, request) {
                    self.answer(&src, msg_id, reply, out);
                }
            }
            (_, None) => {
                let text = "this node has not been told who it is: send init first".to_owned();
                let reply = Reply::Error {
                    code: ErrorCode::TemporarilyUnavailable,
                    text,
                };
                self.answer(&src, msg_id, reply, out);
            }
        }
        Ok(())
    }

    fn init(&mut self, now: Now, own: String, all: Vec<String>) -> Reply {
        let names = match Names::new(own, all) {
            Ok(names) => names,
            Err(text) => {
                return Reply::Error {
                    code: ErrorCode::MalformedRequest,
                    text,
                };
            }
        };
        match &self.member {
            None => {
                let requests = Requests::new(names.clone());
                self.member = Some(Member {
                    names,
                    room: None,
                    start_at: now.at + QUIET,
                    requests,
                });
                Reply::InitOk
            }
            Some(member) if member.names == names => Reply::InitOk,
            Some(member) => {
                let text = format!("this node is {} already, of {:?}", member.names.own, member.names.all);
                Reply::Error {
                    code: ErrorCode::PreconditionFailed,
                    text,
                }
            }
        }
    }

    /// Whatever can go on does, and what comes of it goes out.
    fn work(&mut self, now: Now, out: &mut Vec<String>) -> Result<(), Fault> {
        let Some(Member {
            names, room, requests, ..
        }) = &mut self.member
        else {
            return Ok(());
        };
        match room {
            Some(room) => {
                room.work(now)?;
                requests.work(now, room)?;
                for (to, frame) in room.frames() {
                    let body = Answer {
                        in_reply_to: None,
                        msg_id: None,
                        reply: Reply::Peer { frame },
                    };
                    let outgoing = Outgoing {
                        src: names.own.clone(),
                        dest: names.name(to).to_owned(),
                        body,
                    };
                    out.push(json::to_line(&outgoing));
                }
            }
            None => requests.expire(now),
        }
        let forward = |it: Forwarded| body::forward(&names.own, names.name(it.to), it.number, &it.request);
        out.extend(requests.forwarded().into_iter().filter_map(forward));
        for Answered { asker, outcome } in requests.answers() {
            match outcome {
                Outcome::Own(reply) => self.answer(&asker.src, asker.msg_id, reply, out),
                Outcome::Relayed(body) => {
                    let number = self.next_number();
                    out.push(body::relay(self.own(), &asker.src, asker.msg_id, number, body));
                }
            }
        }
        Ok(())
    }

    fn next_number(&mut self) -> u64 {
        self.sent += 1;
        self.sent - 1
    }

    fn own(&self) -> &str {
        self.member.as_ref().map_or("", |member| &member.names.own)
    }

    fn answer(&mut self, to: &str, in_reply_to: Option<u64>, reply: Reply, out: &mut Vec<String>) {
        let body = Answer {
            in_reply_to,
            msg_id: Some(self.next_number()),
            reply,
        };
        out.push(json::to_line(&Outgoing {
            src: self.own().to_owned(),
            dest: to.to_owned(),
            body,
        }));
    }
}

impl Member {
    fn start(&mut self, now: Now, seed: u64) -> Result<(), Fault> {
        if self.room.is_none() {
            let own = self.names.node(&self.names.own).unwrap_or(NodeId(1));
            self.room = Some(Room::new(now, own, &self.names.members(), seed)?);
        }
        Ok(())
    }
}
