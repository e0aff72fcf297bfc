//! Random lives on one seed: brokers crash, pause, are cut off and come back while producers write; then everything
//! heals, and what was promised must hold. And nonsense from a peer, which must do no harm.

use crate::harness::{Cluster, G, Settings, batch_of, from, produced, unreadable};
use bytes::Bytes;
use std::collections::BTreeMap;
use trimaran_multiraft::{Acks, Appended, Completion, Input, ReadRequest, Ticket};
use trimaran_raft::{Body, Entry, LogIndex, Message, NodeId, Payload, Term};
use trimaran_wire::batch::{self, LeaderEpoch, Offset};

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// An idempotent producer: one batch at a time, sent again until it is acknowledged.
struct Producer {
    id: i64,
    sequence: i32,
    waits_for: Option<(Ticket, u64)>,
    acknowledged: Vec<i64>,
}

impl Producer {
    fn new(id: i64) -> Producer {
        Producer {
            id,
            sequence: 0,
            waits_for: None,
            acknowledged: Vec::new(),
        }
    }

    fn text(&self, sequence: i32) -> String {
        format!("{}-{sequence}", self.id)
    }

    fn turn(&mut self, cluster: &mut Cluster, chance: &mut Chance) {
        if let Some((ticket, sent_ms)) = self.waits_for {
            let answer = cluster.answer(ticket);
            if let Some(Completion::Appended(Ok(Appended { base_offset, .. }))) = answer {
                self.acknowledged.push(base_offset.0);
                self.sequence += 1;
            } else if answer.is_none() && cluster.now.0 / 1_000 - sent_ms < 400 {
                return;
            }
            self.waits_for = None;
        }
        let to = cluster.leader(G).unwrap_or(1 + chance.below(3));
        let batch = produced(self.id, 0, self.sequence, &[&self.text(self.sequence)]);
        let ticket = cluster.append(to, G, Acks::All, batch);
        self.waits_for = Some((ticket, cluster.now.0 / 1_000));
    }
}

fn disturb(cluster: &mut Cluster, chance: &mut Chance) {
    let id = 1 + chance.below(3);
    let is_up = cluster.nodes[&id].running.is_some();
    match chance.below(11) {
        0 | 1 if is_up => cluster.crash(id),
        0..=2 if !is_up => cluster.start(id),
        2 => cluster.isolate(id),
        3 => cluster.cut(id, id % 3 + 1),
        4 | 5 => cluster.heal(),
        6 => cluster.nodes.get_mut(&id).expect("a node").paused ^= true,
        7 => cluster.nodes.get_mut(&id).expect("a node").stuck ^= true,
        8 => cluster.tell(id, Input::Failover { group: G, failed: None }),
        9 => cluster.tell(id, unreadable()),
        _ => {
            let ticket = cluster.ticket();
            cluster.tell(id, Input::Transfer(ticket, G, None));
        }
    }
}

fn heal_all(cluster: &mut Cluster) {
    cluster.heal();
    for id in 1..=3 {
        let node = cluster.nodes.get_mut(&id).expect("a node");
        node.paused = false;
        node.stuck = false;
        if node.running.is_none() {
            cluster.start(id);
        }
    }
}

/// Lives through a seed; returns what an observer saw.
fn live(seed: u64) -> Vec<(i64, String)> {
    let chance = &mut Chance(seed);
    let settings = Settings {
        flush_bytes: 600,
        tail_bytes: 500,
        segment_bytes: 3_000,
        ..Settings::default()
    };
    let mut cluster = Cluster::new(settings);
    let mut producers: Vec<_> = (1..=3).map(Producer::new).collect();
    for _ in 0..250 {
        for producer in &mut producers {
            producer.turn(&mut cluster, chance);
        }
        if chance.below(4) == 0 {
            disturb(&mut cluster, chance);
        }
        if chance.below(8) == 0 {
            (1..=3).for_each(|id| cluster.tell(id, Input::FlushNow(G)));
        }
        cluster.run(1 + chance.below(30));
    }
    heal_all(&mut cluster);
    for producer in &mut producers {
        let already = producer.acknowledged.len();
        for _ in 0..500 {
            producer.turn(&mut cluster, chance);
            cluster.run(10);
            if producer.acknowledged.len() > already + 1 {
                break;
            }
        }
        assert!(
            producer.acknowledged.len() > already + 1,
            "seed {seed}: no progress after healing"
        );
    }
    cluster.run(1_000);
    cluster.until("logs that failed are tried again", |cluster| {
        (1..=3).all(|id| cluster.status(id, G).is_some_and(|status| !status.failed))
    });
    judge(&mut cluster, &producers, seed)
}

fn judge(cluster: &mut Cluster, producers: &[Producer], seed: u64) -> Vec<(i64, String)> {
    let mut leaders = BTreeMap::new();
    for (id, change) in cluster.leaders.iter().filter(|(_, change)| change.serving) {
        assert_eq!(
            leaders.entry(change.term).or_insert(*id),
            id,
            "seed {seed}: two leaders in {}",
            change.term
        );
    }
    let leader = cluster.leader_of(G);
    let log = cluster.values(leader, from(0));
    let offsets = log.iter().map(|(offset, _)| *offset);
    assert!(offsets.eq(0..log.len() as i64), "seed {seed}: offsets are contiguous");
    for producer in producers {
        for (sequence, offset) in (0..).zip(&producer.acknowledged) {
            let text = producer.text(sequence);
            let found: Vec<_> = log
                .iter()
                .filter(|(_, other)| *other == text)
                .map(|(offset, _)| *offset)
                .collect();
            assert_eq!(
                found,
                [*offset],
                "seed {seed}: {text} is stored once, where it was acknowledged"
            );
        }
    }
    for id in 1..=3 {
        let near = ReadRequest {
            follower_ok: true,
            ..from(0)
        };
        assert_eq!(cluster.values(id, near), log, "seed {seed}: node {id} has the same log");
    }
    log
}

#[test]
fn promises_hold_whatever_happens() {
    for seed in 0..25 {
        live(seed);
    }
}

#[test]
fn the_same_seed_is_the_same_life() {
    assert_eq!(live(4_711), live(4_711));
}

/// An append from the current leader with one entry of these bytes, behind the end of the receiver's log.
fn append_of(cluster: &mut Cluster, to: u64, payload: Bytes) -> Message {
    let status = cluster.status(to, G).expect("here");
    let entry = Entry {
        index: status.last_index.next(),
        term: status.term,
        payload: Payload::Data(payload),
    };
    let body = Body::Append {
        prev_index: status.last_index,
        prev_term: status.term,
        commit: LogIndex(0),
        floor: LogIndex(0),
        entries: vec![entry],
    };
    Message {
        term: status.term,
        body,
    }
}

#[test]
fn entries_that_are_no_batches_never_get_to_the_log() {
    let mut cluster = Cluster::new(Settings::default());
    cluster.produce(batch_of(&["a"])).expect("accepted");
    cluster.run(50);
    let leader = cluster.leader_of(G);
    let follower = leader % 3 + 1;
    let before = cluster.status(follower, G).expect("here").last_index;
    let mut wrong_epoch = batch_of(&["x"]);
    batch::stamp(&mut wrong_epoch, Offset(1), LeaderEpoch(77));
    for payload in [Bytes::new(), Bytes::from_static(b"nonsense"), wrong_epoch.freeze()] {
        let message = append_of(&mut cluster, follower, payload);
        cluster.tell(follower, Input::Messages(NodeId(leader), vec![(G, message)]));
        cluster.run(1);
        assert_eq!(cluster.status(follower, G).expect("here").last_index, before);
    }
    cluster.produce(batch_of(&["b"])).expect("accepted");
}

#[test]
fn a_batch_at_the_wrong_offset_puts_only_its_receiver_out_of_the_game() {
    let mut cluster = Cluster::new(Settings::default());
    cluster.produce(batch_of(&["a"])).expect("accepted");
    cluster.run(50);
    let leader = cluster.leader_of(G);
    let follower = leader % 3 + 1;
    let epoch = i32::try_from(cluster.status(follower, G).expect("here").term.0).expect("small");
    let mut astray = batch_of(&["x"]);
    batch::stamp(&mut astray, Offset(1_000), LeaderEpoch(epoch));
    let message = append_of(&mut cluster, follower, astray.freeze());
    cluster.tell(follower, Input::Messages(NodeId(leader), vec![(G, message)]));
    cluster.run(5);
    assert!(cluster.status(follower, G).expect("here").failed);
    cluster.produce(batch_of(&["b"])).expect("two are enough");
    // What it had is on its disk as it was.
    cluster.crash(follower);
    cluster.start(follower);
    cluster.until("it is back", |cluster| {
        cluster
            .status(follower, G)
            .is_some_and(|status| status.high_watermark.0 == Offset(2))
    });
}

#[test]
fn random_messages_do_no_harm() {
    let chance = &mut Chance(1);
    let mut cluster = Cluster::new(Settings::default());
    cluster.produce(batch_of(&["a"])).expect("accepted");
    for _ in 0..3_000 {
        let small = |chance: &mut Chance| match chance.below(6) {
            0 => u64::MAX,
            1 => 0,
            _ => chance.below(5),
        };
        let index = LogIndex(small(chance));
        let term = Term(chance.below(3));
        let bodies = [
            Body::PreVote {
                last_index: index,
                last_term: term,
            },
            Body::PreVoteReply {
                granted: chance.below(2) == 0,
                longer_log: chance.below(2) == 0,
            },
            Body::AppendRejected {
                prev_index: index,
                hint_index: LogIndex(small(chance)),
                hint_term: term,
            },
            Body::Append {
                prev_index: index,
                prev_term: term,
                commit: LogIndex(small(chance)),
                floor: LogIndex(small(chance)),
                entries: Vec::new(),
            },
            Body::HeartbeatReply {
                commit: index,
                round: 0,
            },
            Body::TimeoutNow,
        ];
        let body = bodies[chance.below(bodies.len() as u64) as usize].clone();
        let message = Message {
            term: Term(small(chance)),
            body,
        };
        let (from, to) = (NodeId(chance.below(5)), 1 + chance.below(3));
        cluster.tell(
            to,
            Input::Messages(from, vec![(G, message.clone()), (trimaran_raft::GroupId(99), message)]),
        );
        cluster.run(1);
    }
    // Forged terms may have cost elections, nothing else.
    cluster.run(2_000);
    cluster.produce(batch_of(&["b"])).expect("accepted");
    let leader = cluster.leader_of(G);
    assert_eq!(cluster.values(leader, from(0)).len(), 2);
}
