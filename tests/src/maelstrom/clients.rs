//! Clients that ask one thing after the other, each of any node.

use super::network::Network;
use super::operation::{Answer, Key, Operation, Outcome, Request, Value};
use crate::sim::rng::Rng;
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Clients at once, for each node.
const CLIENTS_PER_NODE: usize = 3;

/// The wait for an answer, and for that to a failover: longer than nodes take to give up.
const PATIENCE: Duration = Duration::from_secs(6);
const FAILOVER_PATIENCE: Duration = Duration::from_secs(12);

/// Between an answer and the next request, at most.
const PAUSE: Duration = Duration::from_millis(40);

const KEYS: [&str; 4] = ["k0", "k1", "k2", "k3"];

/// Maelstrom's error codes that leave open whether something happened: timeout and crash.
const INDEFINITE: [u64; 2] = [0, 13];

struct Client {
    /// The operation that it waits for, an index of the history, and the deadline.
    waiting: Option<(usize, Instant)>,
    next_at: Instant,
    /// The offsets to read next.
    positions: BTreeMap<Key, u64>,
    leaders: BTreeMap<Key, String>,
}

/// The part of the history that is still missing when all requests have been made.
struct WindDown {
    /// Logs that have not taken a message since.
    unsent: BTreeSet<Key>,
    /// The offset to read next of each log at each node.
    unread: BTreeMap<(String, Key), u64>,
}

pub(super) struct Clients {
    nodes: Vec<String>,
    clients: Vec<Client>,
    rng: Rng,
    began: Instant,
    history: Vec<Operation>,
    /// Messages that were sent.
    values: Value,
    /// The highest acknowledged offset of each log.
    acknowledged: BTreeMap<Key, u64>,
    wind_down: Option<WindDown>,
}

impl Clients {
    pub(super) fn new(nodes: Vec<String>, rng: Rng) -> Clients {
        let began = Instant::now();
        let client = |_| Client {
            waiting: None,
            next_at: began,
            positions: BTreeMap::new(),
            leaders: BTreeMap::new(),
        };
        Clients {
            clients: (0..nodes.len() * CLIENTS_PER_NODE).map(client).collect(),
            nodes,
            rng,
            began,
            history: Vec::new(),
            values: 0,
            acknowledged: BTreeMap::new(),
            wind_down: None,
        }
    }

    pub(super) fn into_history(self) -> Vec<Operation> {
        self.history
    }

    /// The next time at which a client has something to do, or gives up.
    pub(super) fn next_at(&self) -> Instant {
        let next = |client: &Client| client.waiting.map_or(client.next_at, |(_, until)| until);
        self.clients.iter().map(next).min().unwrap_or_else(Instant::now)
    }

    /// Every client that waits for nothing, and has waited long enough, asks for something.
    pub(super) fn make_requests(&mut self, network: &mut Network) {
        for number in 0..self.clients.len() {
            let client = &self.clients[number];
            if client.waiting.is_some() || client.next_at > Instant::now() {
                continue;
            }
            match self.next_request(number) {
                Some((node, request)) => self.ask(network, number, node, request),
                None => self.clients[number].next_at = Instant::now() + PAUSE,
            }
        }
    }

    fn ask(&mut self, network: &mut Network, number: usize, node: String, request: Request) {
        let patience = match request {
            Request::Failover { .. } => FAILOVER_PATIENCE,
            _ => PATIENCE,
        };
        let id = self.history.len();
        network.send(json!({"src": format!("c{}", number + 1), "dest": node, "body": body(id, &request)}));
        let invoked_us = self.elapsed_us();
        let last = self.wind_down.is_some();
        let outcome = Outcome::Unknown;
        let completed_us = u64::MAX;
        self.history.push(Operation {
            client: number,
            node,
            invoked_us,
            completed_us,
            request,
            outcome,
            last,
        });
        self.clients[number].waiting = Some((id, Instant::now() + patience));
    }

    fn elapsed_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn next_request(&mut self, number: usize) -> Option<(String, Request)> {
        if self.wind_down.is_some() {
            return self.last_request(number);
        }
        let node = self.rng.pick(&self.nodes)?.clone();
        let key = (*self.rng.pick(&KEYS)?).to_owned();
        let request = match self.rng.below(100) {
            0..45 => self.send(key),
            45..75 => self.poll(number),
            75..83 => self.commit(number)?,
            83..91 => Request::List {
                keys: KEYS.map(str::to_owned).to_vec(),
            },
            91..98 => Request::Leader {
                topic: key,
                partition: 0,
            },
            _ => {
                let failed = self.clients[number].leaders.get(&key)?.clone();
                Request::Failover {
                    topic: key,
                    partition: 0,
                    failed,
                }
            }
        };
        Some((node, request))
    }

    fn send(&mut self, key: Key) -> Request {
        self.values += 1;
        Request::Send {
            key,
            value: self.values,
        }
    }

    /// Goes on where it has read to; now and then from anywhere before that.
    fn poll(&mut self, number: usize) -> Request {
        let again = self.rng.below(8) == 0;
        let mut offsets = BTreeMap::new();
        for key in KEYS {
            let position = self.clients[number].positions.get(key).copied().unwrap_or(0);
            let from = if again { self.rng.below(position + 1) } else { position };
            offsets.insert(key.to_owned(), from);
        }
        Request::Poll { offsets }
    }

    /// Commits everything that the client has read.
    fn commit(&mut self, number: usize) -> Option<Request> {
        let read = self.clients[number]
            .positions
            .iter()
            .filter(|(_, position)| **position > 0);
        let offsets: BTreeMap<Key, u64> = read.map(|(key, position)| (key.clone(), position - 1)).collect();
        (!offsets.is_empty()).then_some(Request::Commit { offsets })
    }

    /// A message has come. If nobody waits for it any more, it says nothing.
    pub(super) fn answered(&mut self, message: &Json) {
        let name = message["dest"].as_str().unwrap_or_default();
        let number = name.strip_prefix('c').and_then(|number| number.parse::<usize>().ok());
        let Some(client) = number.and_then(|number| self.clients.get_mut(number.checked_sub(1)?)) else {
            return;
        };
        let Some((id, _)) = client.waiting.filter(|(id, _)| message["body"]["in_reply_to"] == *id) else {
            return;
        };
        client.waiting = None;
        let pause = u64::try_from(PAUSE.as_micros()).unwrap_or(u64::MAX);
        client.next_at = Instant::now() + Duration::from_micros(self.rng.below(pause));
        let outcome = outcome(&self.history[id].request, &message["body"]);
        self.learn(id, &outcome);
        self.history[id].outcome = outcome;
        self.history[id].completed_us = self.elapsed_us();
    }

    fn learn(&mut self, id: usize, outcome: &Outcome) {
        let operation = &self.history[id];
        let client = &mut self.clients[operation.client];
        match (&operation.request, outcome) {
            (Request::Send { key, .. }, Outcome::Done(Answer::Sent { offset })) => {
                let highest = self.acknowledged.entry(key.clone()).or_default();
                *highest = (*highest).max(*offset);
                if let (true, Some(wind_down)) = (operation.last, &mut self.wind_down) {
                    wind_down.unsent.remove(key);
                }
            }
            (Request::Poll { .. }, Outcome::Done(Answer::Polled { messages })) => {
                for (key, log) in messages {
                    let Some(next) = log.last().map(|(offset, _)| offset + 1) else {
                        continue;
                    };
                    let position = client.positions.entry(key.clone()).or_default();
                    *position = (*position).max(next);
                    if let (true, Some(wind_down)) = (operation.last, &mut self.wind_down) {
                        wind_down.unread.insert((operation.node.clone(), key.clone()), next);
                    }
                }
            }
            (
                Request::Leader { topic, .. } | Request::Failover { topic, .. },
                Outcome::Done(Answer::Leads { leader, .. }),
            ) => {
                client.leaders.insert(topic.clone(), leader.clone());
            }
            _ => {}
        }
    }

    /// Lets clients that have waited too long go on without an answer.
    pub(super) fn give_up_late(&mut self) {
        let now = Instant::now();
        for client in &mut self.clients {
            if client.waiting.is_some_and(|(_, until)| until <= now) {
                client.waiting = None;
                client.next_at = now;
            }
        }
    }

    /// From now on: one more message to every log, and then all of them read on every node.
    pub(super) fn wind_down(&mut self) {
        let unread = self
            .nodes
            .iter()
            .flat_map(|node| KEYS.map(|key| ((node.clone(), key.to_owned()), 0)));
        self.wind_down = Some(WindDown {
            unsent: KEYS.map(str::to_owned).into_iter().collect(),
            unread: unread.collect(),
        });
    }

    pub(super) fn are_done(&self) -> bool {
        let Some(wind_down) = &self.wind_down else { return false };
        wind_down.unsent.is_empty() && self.unread().next().is_none()
    }

    /// A text for the task that the nodes fail to complete.
    pub(super) fn wants(&self) -> String {
        match &self.wind_down {
            Some(wind_down) if !wind_down.unsent.is_empty() => {
                format!("take a message for each of {:?}", wind_down.unsent)
            }
            _ => format!(
                "show everything that was acknowledged: {:?}",
                self.unread().collect::<Vec<_>>()
            ),
        }
    }

    /// Nodes and logs that have not shown everything, with where to go on.
    fn unread(&self) -> impl Iterator<Item = (&String, &Key, u64)> {
        let unread = self.wind_down.iter().flat_map(|wind_down| &wind_down.unread);
        unread
            .filter(|((_, key), next)| self.acknowledged.get(key).is_some_and(|highest| **next <= *highest))
            .map(|((node, key), next)| (node, key, *next))
    }

    /// The first client sends, the others read: each for its share of the nodes.
    fn last_request(&mut self, number: usize) -> Option<(String, Request)> {
        let unsent = self.wind_down.as_ref()?.unsent.first().cloned();
        match unsent {
            Some(key) if number == 0 => {
                let node = self.rng.pick(&self.nodes)?.clone();
                Some((node, self.send(key)))
            }
            Some(_) => None,
            None => {
                let node = &self.nodes[number % self.nodes.len()];
                let first = number < self.nodes.len();
                let offsets: BTreeMap<Key, u64> = self
                    .unread()
                    .filter(|(of, ..)| first && *of == node)
                    .map(|(_, key, next)| (key.clone(), next))
                    .collect();
                (!offsets.is_empty()).then(|| (node.clone(), Request::Poll { offsets }))
            }
        }
    }
}

fn body(id: usize, request: &Request) -> Json {
    let mut body = match request {
        Request::Send { key, value } => json!({"key": key, "msg": value}),
        Request::Poll { offsets } | Request::Commit { offsets } => json!({"offsets": offsets}),
        Request::List { keys } => json!({"keys": keys}),
        Request::Leader { topic, partition } => json!({"topic": topic, "partition": partition}),
        Request::Failover {
            topic,
            partition,
            failed,
        } => {
            json!({"topic": topic, "partition": partition, "failed_leader": failed})
        }
    };
    body["type"] = request.kind().into();
    body["msg_id"] = id.into();
    body
}

/// The outcome that an answer stands for: unknown, if it can't be understood.
fn outcome(request: &Request, body: &Json) -> Outcome {
    if body["type"] == "error" {
        return match body["code"].as_u64() {
            Some(code) if !INDEFINITE.contains(&code) => Outcome::Refused(code),
            _ => Outcome::Unknown,
        };
    }
    match answer(request, body) {
        Some(answer) if body["type"] == format!("{}_ok", request.kind()) => Outcome::Done(answer),
        _ => Outcome::Unknown,
    }
}

fn answer(request: &Request, body: &Json) -> Option<Answer> {
    let leads = |leader: &str, term: &str| {
        Some(Answer::Leads {
            leader: body[leader].as_str()?.to_owned(),
            term: body[term].as_u64()?,
        })
    };
    match request {
        Request::Send { .. } => Some(Answer::Sent {
            offset: body["offset"].as_u64()?,
        }),
        Request::Poll { .. } => Some(Answer::Polled {
            messages: serde_json::from_value(body["msgs"].clone()).ok()?,
        }),
        Request::Commit { .. } => Some(Answer::Committed),
        Request::List { .. } => Some(Answer::Listed {
            offsets: serde_json::from_value(body["offsets"].clone()).ok()?,
        }),
        Request::Leader { .. } => leads("leader", "term"),
        Request::Failover { .. } => leads("new_leader", "new_term"),
    }
}
