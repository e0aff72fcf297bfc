//! Messages under way: between brokers, and between clients and brokers.

use super::{Event, World};
use crate::checker::Violation;
use crate::sim::broker;
use crate::sim::clients::{Answer, Moves, Request};
use crate::sim::network::Place;
use crate::sim::queue::Micros;
use crate::sim::trace::{Happening, fingerprint};
use crate::sim::{Deceit, envelope};
use bytes::Bytes;
use trimaran_multiraft::envelope::{Messages, decode, encode};
use trimaran_raft::{Body, Life, LogIndex};
use trimaran_registry::agent::AdminReply;
use trimaran_registry::starts::Announcement;
use trimaran_wire::peer::{Frame, Handshake};

impl World {
    pub(super) fn send(&mut self, from: u32, to: u32, mut frame: Frame) -> Result<(), Violation> {
        if let Frame::Groups(bytes) = &mut frame {
            let mut messages = decode(bytes.clone()).expect("what a broker encodes can be decoded");
            // Those that are cut off go on asking.
            if self.is_watched() && !self.is_gone(from) {
                self.idle_envelopes += 1;
            }
            self.observer.sent(from, &messages)?;
            self.spring_ambush(from, &messages);
            if self.deceit == Some(Deceit::BoughtVotes) {
                buy_votes(&mut messages);
            }
            if self.deceit == Some(Deceit::InflatedMatches) {
                inflate_matches(&mut messages);
            }
            *bytes = encode(&messages).concat().into();
        }
        if let Frame::Relayed(relayed) = &frame
            && u32::try_from(relayed.from.0) == Ok(from)
            && let Ok(Frame::Groups(messages)) = Frame::decode(relayed.frame.clone())
            && let Ok(messages) = decode(messages)
        {
            self.observer.sent(from, &messages)?;
        }
        self.send_bytes(from, to, envelope::encode(&frame));
        Ok(())
    }

    pub(super) fn send_bytes(&mut self, from: u32, to: u32, bytes: Bytes) {
        let (way_out, way_in) = (Place::Broker(from), Place::Broker(to));
        let delays = self.network.deliveries(way_out, way_in, self.queue.now());
        if delays.is_empty() {
            let what = envelope::name(&bytes);
            self.trace.push(
                self.queue.now(),
                Happening::Lost {
                    from: way_out,
                    to: way_in,
                    what,
                },
            );
            return;
        }
        let announced = self.machine(from).announced;
        let life = self.machine(to).life;
        for delay in delays {
            let event = Event::Frame {
                from,
                to,
                life,
                announced,
                bytes: bytes.clone(),
            };
            self.queue.after(delay, event);
        }
    }

    pub(super) fn frame_arrives(
        &mut self,
        (from, announced): (u32, &Announcement),
        (to, life): (u32, u64),
        bytes: Bytes,
    ) -> Result<(), Violation> {
        // A cut closes connections: what was under way is lost too.
        if !self.network.is_open(Place::Broker(from), Place::Broker(to)) {
            return Ok(());
        }
        let what = envelope::name(&bytes);
        self.trace.push(
            self.queue.now(),
            Happening::Arrived {
                from: Place::Broker(from),
                to: Place::Broker(to),
                what,
                fingerprint: fingerprint(&bytes),
            },
        );
        match Handshake::decode(&bytes) {
            Ok(Handshake::Inquiry(inquiry)) => self.answer_inquiry(to, life, &inquiry),
            Ok(Handshake::Account(account)) => self.hear_account(from, (to, life), &account),
            _ => {
                let admitted = self.admits(to, life, (from, announced));
                let taken = match &Frame::decode(bytes.clone()) {
                    Ok(Frame::Relayed(relayed)) if relayed.to.0 == i32::try_from(to).unwrap_or(0) => {
                        admitted && self.admits_relayed(to, life, relayed)
                    }
                    _ => admitted,
                };
                if !taken {
                    return Ok(());
                }
                self.at_broker(to, life, broker::Event::Frame { from, bytes })
            }
        }
    }

    pub(super) fn plan_wake(&mut self, client: usize, at: Micros) {
        let at = at.max(self.now() + 1);
        if self.wakes[client] != Some(at) {
            self.wakes[client] = Some(at);
            let client = u32::try_from(client).unwrap_or(0);
            self.queue.at(at, Event::Wake { client, at });
        }
    }

    pub(super) fn at_client(&mut self, client: u32, answer: Option<(u64, Answer)>) -> Result<(), Violation> {
        let now = self.now();
        let at = usize::try_from(client).unwrap_or(0);
        let mut moves = Moves::default();
        match answer {
            Some((number, answer)) => {
                self.trace_answer(client, number, &answer);
                self.clients[at].answer(now, number, answer, &mut moves);
            }
            None => self.clients[at].wake(now, &mut moves),
        }
        self.wakes[at] = None;
        if let Some(wake) = moves.wake_at {
            self.plan_wake(at, wake);
        }
        for operation in moves.operations {
            self.history.push(operation);
        }
        for (to, number, request) in moves.requests {
            let arrival = self.network.connection(Place::Client(client), Place::Broker(to), now);
            if let Some(arrival) = arrival {
                let event = Event::Request {
                    client,
                    to,
                    life: self.machine(to).life,
                    number,
                    request,
                };
                self.queue.at(arrival, event);
            }
        }
        moves.violation.map_or(Ok(()), Err)
    }

    fn trace_answer(&mut self, client: u32, number: u64, answer: &Answer) {
        let words = match answer {
            Answer::Metadata(news) => format!("metadata {news:?}"),
            Answer::Produced(result) => format!("produced {result:?}"),
            Answer::Fetched(Ok(fetched)) => format!(
                "fetched {} B below {} in epoch {}",
                fetched.records.len(),
                fetched.high_watermark,
                fetched.epoch
            ),
            Answer::Fetched(Err(error)) => format!("fetched {error:?}"),
            Answer::Admin(Ok(AdminReply::ProducerId(id))) => format!("producer id {id}"),
            Answer::Admin(Ok(_)) => "admin ok".to_owned(),
            Answer::Admin(Err(error)) => format!("admin {error:?}"),
            Answer::Closed => "closed".to_owned(),
        };
        self.note(format!("c{client} request {number}: {words}"));
    }

    pub(super) fn request_arrives(
        &mut self,
        client: u32,
        (to, life): (u32, u64),
        number: u64,
        request: Request,
    ) -> Result<(), Violation> {
        let machine = self.machine(to);
        // A connection ends with the process that it was made to.
        if machine.running.is_none() || machine.life != life {
            self.answer(to, client, number, Answer::Closed);
            return Ok(());
        }
        let event = broker::Event::Request {
            client,
            number,
            request,
        };
        self.at_broker(to, life, event)
    }

    pub(super) fn answer(&mut self, broker: u32, client: u32, number: u64, answer: Answer) {
        let now = self.now();
        let arrival = self
            .network
            .connection(Place::Broker(broker), Place::Client(client), now);
        if let Some(arrival) = arrival {
            self.queue.at(arrival, Event::Answer { client, number, answer });
        }
    }
}

/// Every refused vote becomes a granted one.
fn buy_votes(messages: &mut Messages) {
    for (_, message) in messages {
        match &mut message.body {
            Body::VoteReply { granted } | Body::PreVoteReply { granted, .. } => *granted = true,
            _ => {}
        }
    }
}

/// Every follower claims to hold more than it does.
fn inflate_matches(messages: &mut Messages) {
    for (_, message) in messages {
        if let Body::AppendRejected { prev_index, .. } = &message.body {
            message.body = Body::AppendAccepted {
                match_index: *prev_index,
                commit: LogIndex(0),
                life: Life(0),
            };
        }
    }
}
