//! Random lives on one seed: brokers crash, pause, are cut off and come back while producers write; then everything
//! heals, and what was promised must hold. And nonsense from a peer, which must do no harm.

use crate::harness::{Cluster, G, Settings, batch_of, from, nodes, produced, unreadable};
use bytes::Bytes;
use std::collections::BTreeMap;
use trimaran_multiraft::{Acks, Appended, Completion, Input, ReadRequest, Ticket};
use trimaran_raft::{Body, Entry, LogIndex, Message, NodeId, Payload, Term};
use trimaran_storage::log::{LogError, Retention};
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
        let count = cluster.nodes.len() as u64;
        let to = cluster.leader(G).unwrap_or(1 + chance.below(count));
        let batch = produced(self.id, 0, self.sequence, &[&self.text(self.sequence)]);
        let ticket = cluster.append(to, G, Acks::All, batch);
        self.waits_for = Some((ticket, cluster.now.0 / 1_000));
    }
}

fn disturb(cluster: &mut Cluster, chance: &mut Chance) {
    let count = cluster.nodes.len() as u64;
    let id = 1 + chance.below(count);
    let is_up = cluster.nodes[&id].running.is_some();
    match chance.below(11) {
        0 | 1 if is_up => cluster.crash(id),
        0..=2 if !is_up => cluster.start(id),
        2 => cluster.isolate(id),
        3 => cluster.cut(id, id % count + 1),
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
    for id in cluster.nodes.keys().copied().collect::<Vec<_>>() {
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
    until_progress(&mut cluster, &mut producers, chance, seed);
    cluster.run(1_000);
    cluster.until("logs that failed are tried again", |cluster| {
        (1..=3).all(|id| cluster.status(id, G).is_some_and(|status| !status.failed))
    });
    judge(&mut cluster, &producers, seed)
}

/// What may be lost or moved without that the group has to wait for it: one replica at a time.
#[derive(Default)]
struct Repairs {
    /// The replicas as they were last wanted.
    replicas: Vec<u64>,
    /// Something was lost or moved since all was well.
    pending: bool,
    done: u32,
}

impl Repairs {
    fn turn(&mut self, cluster: &mut Cluster, chance: &mut Chance) {
        if self.pending && is_whole(cluster, &self.replicas) {
            self.pending = false;
            self.done += 1;
        }
        let victim = self.replicas[chance.below(3) as usize];
        match chance.below(12) {
            0 if !self.pending => {
                cluster.wipe(victim);
                cluster.start(victim);
                self.pending = true;
            }
            1 if !self.pending && cluster.nodes[&victim].running.is_some() => {
                cluster.tell(victim, damaged());
                self.pending = true;
            }
            2 => {
                let out = 1 + chance.below(4);
                self.replicas = (1..=4).filter(|id| *id != out).collect();
                let places = chance.below(3) as usize;
                self.replicas.rotate_left(places);
                cluster.assign(G, &self.replicas);
                self.pending = true;
            }
            3 => (1..=4).for_each(|id| cluster.tell(id, Input::Retain { now_ms: 0 })),
            _ => {}
        }
    }
}

/// What a shard is told of a segment that does not hold what it should.
fn damaged() -> Input {
    let error = LogError::Corrupt {
        path: "/group-1/0.log".into(),
        position: 0,
        what: "so says the test",
    };
    Input::Unreadable(G, error)
}

/// These are the voters, all of them up and sound, and none is being filled.
fn is_whole(cluster: &mut Cluster, replicas: &[u64]) -> bool {
    let Some(leader) = cluster.leader(G) else { return false };
    let leader = cluster.status(leader, G).expect("here");
    let is_settled = leader.voters == nodes(replicas) && leader.learners.is_empty() && leader.outgoing.is_empty();
    is_settled
        && replicas.iter().all(|&id| {
            let status = cluster.status(id, G);
            status.is_some_and(|status| {
                !status.repairing && !status.failed && status.voters == leader.voters && status.commit >= leader.commit
            })
        })
}

/// As [`live`], while replicas are wiped, found damaged and moved, and logs shortened; returns how often they were
/// whole again, and how often a log started over.
fn live_with_repairs(seed: u64) -> [u32; 2] {
    let chance = &mut Chance(seed);
    let settings = Settings {
        flush_bytes: 600,
        tail_bytes: 500,
        segment_bytes: 3_000,
        spares: vec![4],
        retention: Retention {
            bytes: (seed % 2 == 1).then_some(4_000),
            ms: None,
        },
        ..Settings::default()
    };
    let mut cluster = Cluster::new(settings);
    let mut repairs = Repairs {
        replicas: vec![1, 2, 3],
        ..Repairs::default()
    };
    let mut producers: Vec<_> = (1..=3).map(Producer::new).collect();
    for _ in 0..250 {
        for producer in &mut producers {
            producer.turn(&mut cluster, chance);
        }
        if chance.below(6) == 0 {
            disturb(&mut cluster, chance);
        }
        if chance.below(8) == 0 {
            (1..=4).for_each(|id| cluster.tell(id, Input::FlushNow(G)));
        }
        repairs.turn(&mut cluster, chance);
        cluster.run(1 + chance.below(30));
    }
    heal_all(&mut cluster);
    until_progress(&mut cluster, &mut producers, chance, seed);
    cluster.assign(G, &[1, 2, 3]);
    // One that is removed leads on until the others can do without it.
    cluster.until("all is well", |cluster| {
        is_whole(cluster, &[1, 2, 3]) && cluster.leader(G) != Some(4)
    });
    cluster.until("logs that failed are tried again", |cluster| {
        (1..=3).all(|id| cluster.status(id, G).is_some_and(|status| !status.failed))
    });
    judge(&mut cluster, &producers, seed);
    [repairs.done, cluster.resets as u32]
}

#[test]
fn promises_hold_while_replicas_are_lost_and_moved() {
    // `CHANCE_SEEDS=10000 cargo test lost_and_moved` looks further.
    let seeds = std::env::var("CHANCE_SEEDS").map_or(40, |seeds| seeds.parse().expect("a number"));
    let lives: Vec<_> = (0..seeds).map(live_with_repairs).collect();
    let sum = |of: usize| lives.iter().map(|life| life[of]).sum::<u32>();
    assert!(sum(0) > 50 && sum(1) > 10, "{} {}", sum(0), sum(1));
}

fn until_progress(cluster: &mut Cluster, producers: &mut [Producer], chance: &mut Chance, seed: u64) {
    for producer in producers {
        let already = producer.acknowledged.len();
        for _ in 0..1_000 {
            producer.turn(cluster, chance);
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
    // What retention has deleted anywhere is not looked at.
    let starts = (1..=3).map(|id| cluster.status(id, G).expect("here").start_offset.0);
    let start = starts.collect::<Vec<_>>().into_iter().max().expect("three of them");
    let log = cluster.values(leader, from(start));
    let offsets = log.iter().map(|(offset, _)| *offset);
    assert!(
        offsets.eq(start..start + log.len() as i64),
        "seed {seed}: offsets are contiguous"
    );
    for producer in producers {
        let kept = (0..)
            .zip(&producer.acknowledged)
            .filter(|(_, offset)| **offset >= start);
        for (sequence, offset) in kept {
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
            ..from(start)
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
        replicated_index: LogIndex(0),
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
    let [(node, refused)] = &cluster.refused[..] else {
        panic!("an operator is told once: {:?}", cluster.refused)
    };
    assert_eq!(
        (*node, refused.group, refused.leader),
        (follower, G, Some(NodeId(leader)))
    );
    assert!(
        matches!(refused.error, LogError::Malformed { .. }),
        "{:?}",
        refused.error
    );
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
                replicated_index: LogIndex(small(chance)),
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
