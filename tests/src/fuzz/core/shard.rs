//! A shard with two groups, whose logs lie on a disk in memory: the messages go through all that stands before the core,
//! and what the core makes of them into the log and its segments.

use super::super::peers;
use super::super::pieces::{Pieces, put_piece};
use super::messages::{KINDS, Known, message};
use bytes::Bytes;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use trimaran_multiraft::{
    Acks, Completion, GroupOptions, Input, Lost, Open, Outbox, ReadRequest, Shard, ShardConfig, Ticket,
};
use trimaran_raft::{
    Body, GroupId, HardState, Heartbeats, Instant, Life, Liveness, LogView, Message, NodeId, Role, Tuning,
};
use trimaran_storage::fs::faulty::FaultyFs;
use trimaran_storage::journal::RecoveredGroup;
use trimaran_storage::log::{LogOptions, ReplicaLog, Retention};
use trimaran_storage::offsets::leader_epoch;
use trimaran_wire::batch::{self, Offset};

/// The second one delivers its entries, as state machines want them, so it begins nowhere but at its beginning.
const GROUPS: [GroupId; 2] = [GroupId(1), GroupId(2)];

/// Messages that one step may cause: see the target of one group.
const MAX_MESSAGES: usize = 400;

pub(in super::super) fn target(data: &[u8]) {
    let mut pieces = Pieces::new(data);
    let mut broker = Broker::new();
    while !pieces.is_empty() {
        broker.act(&mut pieces);
    }
    broker.ask_for_status();
}

/// Broker 1 of 1, 2 and 3.
struct Broker {
    shard: Shard,
    fs: FaultyFs,
    now: Instant,
    out: Outbox,
    /// Batches for the journal that are not durable yet.
    writes: VecDeque<u64>,
    tickets: u64,
    answers: Vec<(Ticket, Completion)>,
    /// Entries that a log may hold: those that came, and its own.
    entries: usize,
}

fn founders() -> Vec<NodeId> {
    [1, 2, 3].map(NodeId).to_vec()
}

fn dir(group: GroupId) -> PathBuf {
    format!("/group-{group}").into()
}

/// Small, so that a few batches fill a segment and leave memory.
fn log_options() -> LogOptions {
    LogOptions {
        segment_bytes: 300,
        segment_ms: u64::MAX,
        tail_bytes: 0,
    }
}

fn options(group: GroupId) -> GroupOptions {
    GroupOptions {
        min_insync_replicas: 1,
        retention: Retention::default(),
        deliver: group == GROUPS[1],
    }
}

impl Broker {
    fn new() -> Broker {
        let tuning = Tuning {
            heartbeats: Heartbeats::External,
            ..Tuning::default()
        };
        let config = ShardConfig {
            flush_bytes: 100,
            ..ShardConfig::new(NodeId(1), tuning)
        };
        let now = Instant(1_000_000);
        let mut broker = Broker {
            shard: Shard::new(config, now),
            fs: FaultyFs::new(1),
            now,
            out: Outbox::default(),
            writes: VecDeque::new(),
            tickets: 0,
            answers: Vec::new(),
            entries: 0,
        };
        for group in GROUPS {
            let fs = Arc::new(broker.fs.clone());
            let log = ReplicaLog::open(fs, &dir(group), group, log_options(), RecoveredGroup::default());
            let log = log.expect("an empty folder can be opened");
            let open = Open::new(founders(), log, HardState::default(), options(group));
            broker.tell(Input::Open(Box::new(open.expect("an empty log can be read"))));
        }
        broker
    }

    /// One step of the script.
    fn act(&mut self, pieces: &mut Pieces<'_>) {
        match pieces.u8() {
            0..=15 => self.receive_frame(pieces),
            16..=19 => self.wait(),
            20..=25 => self.sync(),
            26 | 27 => self.append(pieces),
            28 => {
                let liveness = [Liveness::Alive, Liveness::Suspected, Liveness::Dead];
                let liveness = liveness[usize::from(pieces.u8() % 3)];
                self.tell(Input::Liveness(node(pieces), liveness));
            }
            29 => self.tell(Input::Restored(node(pieces))),
            30 => self.tell(Input::FlushNow(group(pieces))),
            31 => self.read(pieces),
            32 => {
                let (group, failed) = (group(pieces), None);
                self.tell(Input::Failover { group, failed });
            }
            33 => {
                let group = group(pieces);
                let wanted = (0..pieces.u8() % 4).map(|_| node(pieces)).collect();
                self.tell(Input::Replicas(group, wanted, u64::from(pieces.u8())));
            }
            _ => {
                let (from, group) = (node(pieces), group(pieces));
                let known = self.shard.replica(group).map(|(group, log)| Known::of(group, log));
                let Some(known) = known else { return };
                let message = message(pieces, known, payload);
                self.receive(from, vec![(group, message)]);
            }
        }
    }

    fn receive_frame(&mut self, pieces: &mut Pieces<'_>) {
        let from = node(pieces);
        let messages = peers::messages(pieces.piece());
        if !messages.is_empty() {
            // Of whichever group, it is for one of these.
            let here = |(group, message): (GroupId, Message)| (GROUPS[(group.0 % 2) as usize], message);
            self.receive(from, messages.into_iter().map(here).collect());
        }
    }

    fn receive(&mut self, from: NodeId, messages: Vec<(GroupId, Message)>) {
        for (_, message) in &messages {
            if let Body::Append { entries, .. } = &message.body {
                self.entries += entries.len();
            }
        }
        self.tell(Input::Messages(from, messages));
    }

    fn wait(&mut self) {
        self.now = self
            .shard
            .deadline()
            .unwrap_or(self.now)
            .max(self.now + Duration::from_millis(1));
        self.step(Vec::new());
    }

    fn sync(&mut self) {
        if let Some(sequence) = self.writes.pop_front() {
            self.tell(Input::Persisted(sequence));
        }
    }

    fn append(&mut self, pieces: &mut Pieces<'_>) {
        let group = group(pieces);
        let value = pieces.piece();
        let ticket = self.ticket();
        let batch = batch::build(1_000, &[(None, Some(value))]);
        self.entries += 1;
        let acks = Acks::All;
        self.tell(Input::Append {
            group,
            batch,
            acks,
            ticket,
        });
    }

    fn read(&mut self, pieces: &mut Pieces<'_>) {
        let request = ReadRequest {
            group: group(pieces),
            from: Offset(i64::from(pieces.u8())),
            max_bytes: 1 << 10,
            current_epoch: None,
            follower_ok: true,
            wait: false,
        };
        let ticket = self.ticket();
        self.tell(Input::Read(ticket, request));
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    fn tell(&mut self, input: Input) {
        self.step(vec![input]);
    }

    /// A step, and what its caller does about it.
    fn step(&mut self, mut inputs: Vec<Input>) {
        loop {
            self.shard.step(self.now, &mut inputs, &mut self.out);
            self.judge();
            self.hand_on(&mut inputs);
            if inputs.is_empty() {
                break;
            }
        }
    }

    fn hand_on(&mut self, inputs: &mut Vec<Input>) {
        let out = &mut self.out;
        if !std::mem::take(&mut out.journal).is_empty() {
            self.writes.push_back(out.sequence);
        }
        for job in out.flushes.drain(..) {
            let group = job.group();
            inputs.push(Input::Flushed(group, job.run()));
        }
        inputs.extend(out.loads.drain(..).map(|load| Input::Loaded(load.run())));
        self.answers.append(&mut out.completions);
        let lost: Vec<Lost> = out.lost.drain(..).collect();
        *out = Outbox::default();
        inputs.extend(lost.into_iter().map(|lost| self.reopen(lost.group)));
    }

    fn reopen(&self, group: GroupId) -> Input {
        let fs = Arc::new(self.fs.clone());
        let log = ReplicaLog::open_lost(fs, &dir(group), group, log_options()).expect("a folder can be set aside");
        let life = Life(self.now.0);
        let open = Open::lost(founders(), log, HardState::default(), life, options(group));
        Input::Open(Box::new(open))
    }

    fn judge(&mut self) {
        let sent: usize = self.out.messages.iter().map(|(_, messages)| messages.len()).sum();
        assert!(sent <= MAX_MESSAGES, "one step causes {sent} messages");
        for group in GROUPS {
            let Some((member, log)) = self.shard.replica(group) else {
                continue;
            };
            // A leader's own: one blank entry a term, and the changes of members that it makes by itself.
            let own = 3 * usize::try_from(member.term().0).unwrap_or(usize::MAX);
            let held = (log.last_index().0 + 1 - log.first_index().0) as usize;
            let may_hold = self.entries.saturating_add(own);
            assert!(held <= may_hold, "{held} entries, and {may_hold} came");
            assert!(member.commit() <= log.last_index() && member.replicated_index() <= member.commit());
            assert!(member.role() != Role::Leader || member.leader() == Some(member.id()));
        }
    }

    /// Whatever has happened, whoever asks gets an answer.
    fn ask_for_status(&mut self) {
        for group in GROUPS {
            let ticket = self.ticket();
            self.tell(Input::Status(ticket, group));
            let is_answer = |(other, answer): &(Ticket, Completion)| {
                *other == ticket && matches!(answer, Completion::Status(Some(_)))
            };
            assert!(self.answers.iter().any(is_answer), "group {group} is gone");
        }
    }
}

/// A record batch as a leader would have stamped it, or anything else.
fn payload(pieces: &mut Pieces<'_>) -> Bytes {
    let kind = pieces.u8();
    if kind % 4 == 3 {
        return Bytes::copy_from_slice(pieces.piece());
    }
    let records: Vec<batch::KeyValue<'_>> = vec![(None, Some(b"value")); usize::from(kind % 3) + 1];
    let mut bytes = batch::build(1_000, &records);
    let (offset, term) = (
        Offset(i64::from(pieces.u8())),
        trimaran_raft::Term(u64::from(pieces.u8())),
    );
    batch::stamp(&mut bytes, offset, leader_epoch(term));
    bytes.freeze()
}

fn node(pieces: &mut Pieces<'_>) -> NodeId {
    NodeId(u64::from(pieces.u8() % 6))
}

fn group(pieces: &mut Pieces<'_>) -> GroupId {
    GROUPS[usize::from(pieces.u8() % 2)]
}

/// A frame of a peer.
fn frame(from: u8, frame: &[u8]) -> Vec<u8> {
    let mut script = vec![0, from];
    put_piece(&mut script, frame);
    script
}

/// A leader's appends of batches that continue the log, committed one by one, so that segments are written.
fn appends() -> Vec<u8> {
    let mut script = Vec::new();
    for index in 0..8_u8 {
        let entry_term = 1;
        let prev_term = if index == 0 { 10 } else { 10 + entry_term };
        // From 2, to group 1, term 1: an append behind `index` with all before it committed, and one batch.
        script.extend([40, 2, 0, 11, 4, 0, 10 + index, prev_term, 0, 10 + index, 0, 10]);
        script.extend([1, 10 + entry_term, 3, 0, index, entry_term]);
        script.push(20);
    }
    script
}

/// The broker is elected in group 1, and its followers answer.
fn elected() -> Vec<u8> {
    let pre_vote = [40, 2, 0, 1, 1, 1, 0];
    let vote = [40, 2, 0, 2, 3, 1];
    [pre_vote.as_slice(), &[20, 20], &vote, &[20]].concat()
}

pub(in super::super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = peers::seeds().iter().map(|bytes| frame(2, bytes)).collect();
    seeds.extend((0..KINDS).map(|kind| vec![40, 2, 0, 1, kind, 2, 2, 2, 2, 2, 2, 2, 2]));
    seeds.push([appends(), vec![31, 0, 0, 16, 30, 0, 16]].concat());
    let mut leading = elected();
    leading.extend([26, 0, 3, 0, b'a', b'b', b'c', 20]);
    leading.extend([
        40, 2, 0, 2, 5, 2, 0, 0, 0, 10, 20, 16, 16, 31, 0, 0, 33, 0, 3, 1, 2, 4, 1, 16,
    ]);
    seeds.push(leading);
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &[u8]) -> Broker {
        let (mut broker, mut pieces) = (Broker::new(), Pieces::new(script));
        while !pieces.is_empty() {
            broker.act(&mut pieces);
        }
        broker
    }

    /// Without these the target would try little more than what is refused at once.
    #[test]
    fn seeds_elect_a_leader_and_fill_segments() {
        let broker = run(&elected());
        let (member, _) = broker.shard.replica(GROUPS[0]).expect("it is here");
        assert_eq!(member.role(), Role::Leader);
        let broker = run(&appends());
        let (member, log) = broker.shard.replica(GROUPS[0]).expect("it is here");
        assert_eq!((log.last_index().0, member.commit().0), (8, 7));
        assert!(log.flushed_index().0 > 0);
    }
}
