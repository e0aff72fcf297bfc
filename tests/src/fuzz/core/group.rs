//! One group and its log in memory.

use super::super::peers;
use super::super::pieces::{Pieces, put_piece};
use super::messages::{KINDS, Known, message};
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;
use trimaran_raft::{
    Config, Configuration, Event, Group, Heartbeats, Input, Instant, Liveness, LogIndex, LogView, MemoryLog, Message,
    NodeId, Output, Persist, ReadId, Recovered, Role, Snapshot, Term, TermAt, Token, Tuning,
};

/// Messages that one step may cause: a window of appends for each of the six members that configurations name, and some.
const MAX_MESSAGES: usize = 200;

/// What a group may keep for each byte of its script (as text: several times as much as in memory).
const KEPT_PER_BYTE: usize = 400;

pub(in super::super) fn target(data: &[u8]) {
    let mut pieces = Pieces::new(data);
    let mut member = Member::new(pieces.u8());
    while !pieces.is_empty() {
        member.act(&mut pieces);
    }
    let kept = format!("{:?}", member.group).len();
    assert!(kept < 8192 + KEPT_PER_BYTE * data.len(), "it keeps {kept} bytes");
}

/// Member 1 of voters 1, 2 and 3.
struct Member {
    group: Group,
    log: MemoryLog,
    now: Instant,
    /// Not durable yet.
    writes: VecDeque<Token>,
    /// Entries that it may hold: those it was sent, and its own.
    entries: usize,
}

impl Member {
    fn new(how: u8) -> Member {
        let heartbeats = match how % 2 {
            0 => Heartbeats::External,
            _ => Heartbeats::Own(Duration::from_millis(30)),
        };
        let tuning = Tuning {
            heartbeats,
            lease: (how % 4 == 3).then_some(Duration::from_millis(20)),
            max_uncommitted_bytes: 4096,
            ..Tuning::default()
        };
        let configuration = Configuration::of_voters([1, 2, 3].map(NodeId));
        let id = NodeId(1);
        let config = Config {
            id,
            configuration,
            tuning,
        };
        let log = MemoryLog::new();
        Member {
            group: Group::new(config, Recovered::default(), Instant::ZERO, &log),
            log,
            now: Instant::ZERO,
            writes: VecDeque::new(),
            entries: 0,
        }
    }

    /// One step of the script.
    fn act(&mut self, pieces: &mut Pieces<'_>) {
        match pieces.u8() {
            0..=15 => self.receive_frame(pieces),
            16..=19 => self.wait(),
            20..=23 => self.sync(),
            24 | 25 => self.propose(pieces.u8()),
            26 => self.tell(Input::Campaign),
            27 => self.tell(Input::ForgetLeader),
            28 => self.tell(Input::Read(ReadId(u64::from(pieces.u8())))),
            29 => self.tell(Input::Transfer(Some(node(pieces)))),
            30 => self.judge_liveness(pieces),
            31 => self.tell(Input::Restored(node(pieces))),
            32 => self.log.compact(self.group.commit().min(self.group.durable())),
            33 => {
                let voters = (0..pieces.u8() % 4).map(|_| node(pieces));
                self.tell(Input::Change(Configuration::of_voters(voters)));
            }
            _ => {
                let from = node(pieces);
                let known = Known::of(&self.group, &self.log);
                let message = message(pieces, known, |pieces| Bytes::copy_from_slice(pieces.piece()));
                self.receive(from, message);
            }
        }
    }

    fn receive_frame(&mut self, pieces: &mut Pieces<'_>) {
        let from = node(pieces);
        for (_, message) in peers::messages(pieces.piece()) {
            self.receive(from, message);
        }
    }

    fn receive(&mut self, from: NodeId, message: Message) {
        if let trimaran_raft::Body::Append { entries, .. } = &message.body {
            self.entries += entries.len();
        }
        self.tell(Input::Message(from, message));
    }

    fn wait(&mut self) {
        self.now = self.group.deadline().unwrap_or(self.now + Duration::from_millis(10));
        self.tell(Input::Tick);
    }

    fn sync(&mut self) {
        if let Some(token) = self.writes.pop_front() {
            self.tell(Input::Persisted(token));
        }
    }

    fn propose(&mut self, bytes: u8) {
        self.entries += 1;
        self.tell(Input::Propose(vec![vec![b'p'; usize::from(bytes)].into()]));
    }

    fn judge_liveness(&mut self, pieces: &mut Pieces<'_>) {
        let liveness = [Liveness::Alive, Liveness::Suspected, Liveness::Dead];
        let liveness = liveness[usize::from(pieces.u8() % 3)];
        self.tell(Input::Liveness(node(pieces), liveness));
    }

    /// One input, and what its driver has to do at once.
    fn tell(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        let (term, commit) = (self.group.term(), self.group.commit());
        while let Some(input) = inputs.pop_front() {
            let mut output = Output::default();
            self.group.step(self.now, input, &self.log, &mut output);
            if let Some(persist) = output.persist.take() {
                self.write(&persist);
            }
            let sent = output.messages.len() + output.appends.len();
            assert!(sent <= MAX_MESSAGES, "one input causes {sent} messages");
            for plan in &output.appends {
                let entries = self.log.entries(plan.first, plan.last);
                let count = (plan.last.0 + 1).saturating_sub(plan.first.0);
                assert_eq!(entries.len() as u64, count, "what is to be sent is there");
            }
            inputs.extend(output.committed.map(Input::Applied));
            inputs.extend(output.events.into_iter().filter_map(|event| self.heed(event)));
        }
        self.judge(term, commit);
    }

    fn write(&mut self, persist: &Persist) {
        self.entries += persist.entries.len();
        self.log.apply(persist);
        self.writes.push_back(persist.token);
    }

    fn heed(&self, event: Event) -> Option<Input> {
        let Event::NeedsSnapshot(to) = event else { return None };
        let index = self.log.first_index().prev();
        let TermAt::Known(term) = self.log.term_at(index) else {
            unreachable!("a log knows where it begins");
        };
        let configuration = self.log.configuration_at(index).cloned();
        let snapshot = Box::new(Snapshot {
            index,
            term,
            configuration: configuration.unwrap_or(Configuration::of_voters([1, 2, 3].map(NodeId))),
            data: Bytes::new(),
        });
        Some(Input::Snapshot { to, snapshot })
    }

    fn judge(&self, term: Term, commit: LogIndex) {
        let group = &self.group;
        assert!(group.term() >= term && group.commit() >= commit, "nothing falls");
        assert!(group.commit() <= self.log.last_index() && group.replicated_index() <= group.commit());
        assert!(group.configuration().check().is_ok(), "{:?}", group.configuration());
        let held = self.log.entries(self.log.first_index(), self.log.last_index()).len();
        assert!(held <= self.entries, "{held} entries, and {} came", self.entries);
        let is_overdue = group.deadline().is_some_and(|due| due <= self.now);
        assert!(!is_overdue, "what is due is done");
        assert!(group.role() != Role::Leader || group.leader() == Some(group.id()));
    }
}

fn node(pieces: &mut Pieces<'_>) -> NodeId {
    NodeId(u64::from(pieces.u8() % 6))
}

/// A frame from a member.
fn frame(from: u8, frame: &[u8]) -> Vec<u8> {
    let mut script = vec![0, from];
    put_piece(&mut script, frame);
    script
}

/// Every message to a follower; elections, won and lost; a leader with its followers' answers.
pub(in super::super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = peers::seeds()
        .iter()
        .map(|bytes| [vec![0], frame(2, bytes)].concat())
        .collect();
    // Made up: from member 2, of a term near its own (the byte 2), of each kind.
    let kinds = (0..KINDS).map(|kind| vec![0, 40, 2, 1, kind, 2, 2, 2, 2, 2, 2, 2, 2]);
    seeds.extend(kinds);
    for how in 0..4 {
        seeds.push(elected(how));
        let led = [24, 5, 20, 40, 2, 2, 5, 2, 2, 2, 2, 11, 32, 40, 3, 2, 6, 2, 2, 0, 2, 2];
        seeds.push([elected(how), led.to_vec(), vec![28, 1, 29, 2, 16, 16, 33, 2, 1, 2]].concat());
    }
    seeds
}

/// It stands at its deadline, or when told to; members 2 grants whatever it asks for.
fn elected(how: u8) -> Vec<u8> {
    let pre_vote = [40, 2, 1, 1, 1, 0];
    let vote = [40, 2, 2, 3, 1];
    [vec![how, 26], pre_vote.to_vec(), vec![20], vote.to_vec(), vec![20]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without that the targets would try followers only.
    #[test]
    fn seeds_elect_leaders() {
        let mut member = Member::new(0);
        let script = elected(0);
        let mut pieces = Pieces::new(&script[1..]);
        while !pieces.is_empty() {
            member.act(&mut pieces);
        }
        assert_eq!(member.group.role(), Role::Leader);
    }
}
