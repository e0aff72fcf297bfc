//! Members on virtual time, a network in a queue, and disks that crash.

use super::driver::Driver;
use super::*;
use crate::fs::faulty::{Fault, FaultyFs, Operation};
use crate::journal::{Journal, JournalBatch, JournalOptions};
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::mpsc::TryRecvError;
use trimaran_raft::{Body, Configuration, Entry, GroupId, LogView, Payload, Role, Snapshot, Term};

/// The commands that were applied, as text.
#[derive(Clone, Debug, Default, PartialEq)]
struct Words(Vec<String>);

impl StateMachine for Words {
    type Answer = usize;

    fn apply(&mut self, command: &[u8]) -> usize {
        self.0.push(String::from_utf8_lossy(command).into_owned());
        self.0.len()
    }

    fn snapshot(&self) -> Vec<u8> {
        self.0.join(" ").into_bytes()
    }

    fn restore(snapshot: &[u8]) -> Result<Words, Box<dyn Error + Send + Sync>> {
        let text = std::str::from_utf8(snapshot)?;
        Ok(Words(text.split_whitespace().map(str::to_owned).collect()))
    }
}

const SNAPSHOT_EVERY: u64 = 20;

fn options(id: u64) -> MemberOptions {
    MemberOptions {
        snapshot_every: SNAPSHOT_EVERY,
        ..MemberOptions::new("/member", Config::standalone(NodeId(id), [1, 2, 3].map(NodeId)))
    }
}

/// The members that run, their disks, and the messages between them.
struct Cluster {
    members: BTreeMap<u64, Driver<Words>>,
    disks: BTreeMap<u64, Arc<FaultyFs>>,
    network: VecDeque<(u64, u64, Message)>,
    now: Instant,
}

impl Cluster {
    fn new(ids: impl IntoIterator<Item = u64>) -> Cluster {
        let mut cluster = Cluster {
            members: BTreeMap::new(),
            disks: BTreeMap::new(),
            network: VecDeque::new(),
            now: Instant::ZERO,
        };
        ids.into_iter().for_each(|id| cluster.start(id));
        cluster
    }

    fn start(&mut self, id: u64) {
        let disk = self.disks.entry(id).or_insert_with(|| Arc::new(FaultyFs::new(id)));
        let member = Driver::recover(Arc::clone(disk) as Arc<dyn Fs>, options(id)).expect("it recovers");
        self.members.insert(id, member);
    }

    /// The member ends, and its disk loses what was not synced.
    fn crash(&mut self, id: u64) {
        drop(self.members.remove(&id).expect("it runs"));
        self.disks[&id].crash();
    }

    fn tell(&mut self, id: u64, told: Told<Words>) {
        let member = self.members.get_mut(&id).expect("it runs");
        member.begin(self.now).expect("a step");
        member.handle(told).expect("a step");
        let mut messages: Vec<_> = member.messages().collect();
        member.finish().expect("a write");
        messages.extend(member.messages());
        let messages = messages.into_iter().map(|(to, message)| (id, to.0, message));
        self.network.extend(messages);
    }

    /// Delivers a message, or lets time pass until something is due.
    fn step(&mut self) {
        if let Some((from, to, message)) = self.network.pop_front() {
            if self.members.contains_key(&to) {
                self.tell(to, Told::Message(NodeId(from), Box::new(message)));
            }
            return;
        }
        // A leader without others has nothing to wait for.
        let due = self.members.values().filter_map(Driver::deadline).min();
        self.now = due.unwrap_or(self.now).max(self.now);
        for id in self.members.keys().copied().collect::<Vec<u64>>() {
            let (reply, _) = channel();
            self.tell(id, Told::Status(reply));
        }
    }

    #[track_caller]
    fn until<T>(&mut self, what: &str, mut condition: impl FnMut(&mut Cluster) -> Option<T>) -> T {
        for _ in 0..100_000 {
            if let Some(value) = condition(self) {
                return value;
            }
            self.step();
        }
        panic!("there is never {what}");
    }

    fn ask<T>(&mut self, id: u64, told: impl FnOnce(Reply<T>) -> Told<Words>) -> Receiver<Result<T, Refused>> {
        let (reply, answer) = channel();
        self.tell(id, told(reply));
        answer
    }

    #[track_caller]
    fn answer<T>(&mut self, id: u64, told: impl FnOnce(Reply<T>) -> Told<Words>) -> Result<T, Refused> {
        let answer = self.ask(id, told);
        self.until("an answer", |_| match answer.try_recv() {
            Ok(answer) => Some(answer),
            Err(TryRecvError::Disconnected) => Some(Err(Refused::Unknown)),
            Err(TryRecvError::Empty) => None,
        })
    }

    fn status(&mut self, id: u64) -> MemberStatus {
        self.answer(id, Told::Status).expect("a status")
    }

    #[track_caller]
    fn leader(&mut self) -> u64 {
        self.until("a leader", |cluster| {
            let ids: Vec<u64> = cluster.members.keys().copied().collect();
            ids.into_iter().find(|id| cluster.status(*id).raft.is_serving)
        })
    }

    #[track_caller]
    fn write(&mut self, words: impl IntoIterator<Item = String>) {
        for word in words {
            let leader = self.leader();
            let answer = self.answer(leader, |reply| Told::Propose(word.into(), reply));
            assert!(answer.is_ok(), "{answer:?}");
        }
    }

    /// What a member that leads says is there.
    #[track_caller]
    fn read(&mut self) -> Vec<String> {
        let leader = self.leader();
        let (sender, found) = channel();
        let read: Read<Words> =
            Box::new(move |state| sender.send(state.map(|words| words.0.clone())).expect("a reader"));
        self.tell(leader, Told::Read(read));
        self.until("an answer", |_| found.try_recv().ok()).expect("it leads")
    }

    /// Asks until a change of the members is complete.
    #[track_caller]
    fn change(&mut self, node: u64, add: bool) {
        self.until("a complete change", |cluster| {
            let leader = cluster.leader();
            let node = NodeId(node);
            match cluster.answer(leader, |reply| Told::Change { node, add, reply }) {
                Ok(()) => Some(()),
                Err(Refused::Again | Refused::NotLeader(_)) => {
                    cluster.step();
                    None
                }
                Err(refused) => panic!("{refused:?}"),
            }
        });
    }
}

fn words(numbers: std::ops::Range<u64>) -> Vec<String> {
    numbers.map(|number| format!("w{number}")).collect()
}

#[test]
fn what_was_answered_survives_crashes_of_every_leader() {
    let mut cluster = Cluster::new(1..=3);
    let mut written = 0;
    for round in 0..12 {
        let more = words(written..written + 7);
        cluster.write(more);
        written += 7;
        assert_eq!(cluster.read(), words(0..written), "round {round}");
        let leader = cluster.leader();
        cluster.crash(leader);
        assert_eq!(cluster.read(), words(0..written), "round {round}, by a successor");
        cluster.start(leader);
    }
    // And everything that the disks hold.
    (1..=3).for_each(|id| cluster.crash(id));
    (1..=3).for_each(|id| cluster.start(id));
    assert_eq!(cluster.read(), words(0..written));
    let firsts: Vec<u64> = (1..=3).map(|id| cluster.status(id).first_index.0).collect();
    assert!(firsts.iter().all(|first| *first > 1), "snapshots: {firsts:?}");
}

#[test]
fn logs_and_journals_stay_short() {
    let mut cluster = Cluster::new(1..=3);
    cluster.write(words(0..200));
    let leader = cluster.leader();
    let status = cluster.status(leader);
    let held = status.raft.last_index.0 - status.first_index.0;
    assert!(held <= SNAPSHOT_EVERY + SNAPSHOT_EVERY / 4 + 2, "{held} entries");
}

#[test]
fn a_member_that_was_away_is_sent_a_snapshot_and_one_that_was_not_is_sent_entries() {
    let mut cluster = Cluster::new(1..=3);
    cluster.write(words(0..1));
    let follower = (1..=3).find(|id| *id != cluster.leader()).expect("a follower");
    cluster.crash(follower);
    cluster.write(words(1..100));
    cluster.start(follower);
    assert_eq!(cluster.members[&follower].log.first_index(), LogIndex(1));
    let leader = cluster.leader();
    cluster.until("a follower that has caught up", |cluster| {
        let commit = cluster.status(leader).raft.commit;
        cluster.step();
        (cluster.members[&follower].applied >= commit).then_some(())
    });
    assert!(
        cluster.members[&follower].log.first_index() > LogIndex(50),
        "by a snapshot"
    );
    // It has it on disk.
    cluster.crash(follower);
    cluster.start(follower);
    assert!(cluster.members[&follower].applied > LogIndex(50));
    assert_eq!(cluster.read(), words(0..100));
}

#[test]
fn members_are_added_and_removed() {
    let mut cluster = Cluster::new(1..=4);
    cluster.write(words(0..60));
    cluster.change(4, true);
    let leader = cluster.leader();
    let voters = |cluster: &mut Cluster, id| cluster.status(id).raft.configuration.voters;
    assert_eq!(voters(&mut cluster, leader), [1, 2, 3, 4].map(NodeId));
    cluster.change(leader, false);
    let successor = cluster.until("a successor", |cluster| {
        cluster.step();
        Some(cluster.leader()).filter(|successor| *successor != leader)
    });
    assert!(!voters(&mut cluster, successor).contains(&NodeId(leader)));
    cluster.crash(leader);
    cluster.write(words(60..90));
    // Three are left, of which one may fail.
    let leader = cluster.leader();
    cluster.crash(leader);
    cluster.write(words(90..100));
    assert_eq!(cluster.read(), words(0..100));
}

#[test]
fn the_only_voter_stays() {
    let options = MemberOptions::new("/member", Config::standalone(NodeId(1), [NodeId(1)]));
    let member = Driver::recover(Arc::new(FaultyFs::new(1)), options).unwrap();
    let mut cluster = Cluster::new([]);
    cluster.members.insert(1, member);
    cluster.write(words(0..3));
    let refused = cluster.answer(1, |reply| Told::Change {
        node: NodeId(1),
        add: false,
        reply,
    });
    assert_eq!(refused, Err(Refused::LastVoter));
    assert_eq!(cluster.read(), words(0..3));
}

#[test]
fn callers_are_told_who_leads_and_when_leadership_was_lost() {
    let mut cluster = Cluster::new(1..=3);
    cluster.write(words(0..1));
    let leader = cluster.leader();
    let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    let refused = cluster.answer(others[0], |reply| Told::Propose("x".into(), reply));
    assert_eq!(refused, Err(Refused::NotLeader(Some(NodeId(leader)))));
    // The others are gone: nothing is decided, and the leader finds out.
    others.iter().for_each(|id| cluster.crash(*id));
    let refused = cluster.answer(leader, |reply| Told::Propose("lost".into(), reply));
    assert_eq!(refused, Err(Refused::Unknown));
    assert_ne!(cluster.status(leader).raft.role, Role::Leader);
    others.iter().for_each(|id| cluster.start(*id));
    let read = cluster.read();
    assert!(read == words(0..1) || read == ["w0", "lost"], "{read:?}");
}

/// Whatever a leader of another version sends, or a forger.
#[test]
fn a_snapshot_that_can_not_be_read_is_not_taken_over() {
    let mut cluster = Cluster::new(1..=3);
    cluster.write(words(0..1));
    let leader = cluster.leader();
    let follower = (1..=3).find(|id| *id != leader).expect("a follower");
    let term = cluster.status(leader).raft.hard_state.term;
    let before = cluster.members[&follower].applied;
    let message = |data: &'static [u8]| Message {
        term,
        body: Body::Snapshot {
            snapshot: Box::new(Snapshot {
                index: LogIndex(1000),
                term,
                configuration: Configuration::of_voters([1, 2, 3].map(NodeId)),
                data: Bytes::from_static(data),
            }),
            commit: LogIndex(1000),
            replicated_index: LogIndex(1000),
        },
    };
    let bad = message(b"\xff");
    cluster.tell(follower, Told::Message(NodeId(leader), Box::new(bad)));
    assert_eq!(cluster.members[&follower].applied, before);
    let good = message(b"w0 w1");
    cluster.tell(follower, Told::Message(NodeId(leader), Box::new(good)));
    assert_eq!(cluster.members[&follower].applied, LogIndex(1000));
}

/// The journal that a member finds, and where its log begins and ends once it has recovered with a snapshot of entry 10
/// in term 2.
#[track_caller]
fn check_recovery(terms: &[u64], released: u64, expected: (u64, u64)) {
    let (fs, dir) = (Arc::new(FaultyFs::new(1)), Path::new("/member"));
    fs.create_dir_all(dir).unwrap();
    let journal_options = JournalOptions {
        file_bytes: 4 << 20,
        max_files: 4,
    };
    let (mut journal, _) = Journal::open(fs.clone(), &dir.join("journal"), journal_options).unwrap();
    let entry = |(index, term): (u64, &u64)| Entry {
        index: LogIndex(index),
        term: Term(*term),
        payload: Payload::Blank,
    };
    let entries: Vec<Entry> = (1..).zip(terms).map(entry).collect();
    let mut batch = JournalBatch::default();
    batch.entries(GroupId(1), &entries);
    journal.write(&batch).unwrap();
    journal.release(GroupId(1), LogIndex(released)).unwrap();
    // What was released becomes durable with the next write.
    let mut batch = JournalBatch::default();
    batch.hard_state(GroupId(1), Default::default());
    journal.write(&batch).unwrap();
    drop(journal);
    if released > 0 {
        let refused = Driver::<Words>::recover(fs.clone(), options(1)).err();
        assert!(matches!(refused, Some(MemberError::OldSnapshot { .. })), "{refused:?}");
    }
    let snapshot = Snapshot {
        index: LogIndex(10),
        term: Term(2),
        configuration: Configuration::of_voters([1, 2, 3].map(NodeId)),
        data: Bytes::from_static(b"red green"),
    };
    snapshot_file::write(&*fs, dir, &snapshot).unwrap();
    // What recovery has written is found again.
    for _ in 0..2 {
        let member = Driver::<Words>::recover(fs.clone(), options(1)).unwrap();
        let ends = (member.log.first_index().0, member.log.last_index().0);
        assert_eq!((ends, member.applied), (expected, LogIndex(10)), "{terms:?}");
    }
}

#[test]
fn a_crash_between_snapshot_and_journal_is_finished_by_recovery() {
    let covered = [1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2];
    check_recovery(&covered, 10, (11, 12));
    check_recovery(&covered, 0, (11, 12));
    check_recovery(&covered, 4, (11, 12));
    // It came from a leader that has other entries, or more.
    check_recovery(&[1; 12], 0, (11, 10));
    check_recovery(&[1; 5], 0, (11, 10));
    check_recovery(&[], 0, (11, 10));
}

/// The same by threads and handles.
#[test]
fn a_member_alone_answers_until_its_disk_fails() {
    let disk = Arc::new(FaultyFs::new(1));
    let options = MemberOptions::new("/member", Config::standalone(NodeId(1), [NodeId(1)]));
    let (member, handle) = Member::<Words>::open_on(disk.clone(), options.clone()).unwrap();
    let running = std::thread::spawn(move || member.run(|_, _| panic!("there is nobody else")));
    let answer = loop {
        match handle.propose("red") {
            Err(Refused::NotLeader(None)) => {} // it stands for election first
            answer => break answer,
        }
    };
    assert_eq!(answer, Ok(1));
    assert_eq!(handle.read(|words| words.0.join("+")), Ok("red".to_owned()));
    assert_eq!(handle.propose(vec![0; MAX_COMMAND_BYTES + 1]), Err(Refused::TooLarge));
    let second = Member::<Words>::open_on(disk.clone(), options.clone()).err();
    assert!(
        matches!(
            second,
            Some(MemberError::Journal(crate::journal::JournalError::Locked { .. }))
        ),
        "{second:?}"
    );
    disk.fail(Fault {
        operation: Operation::Sync,
        path_contains: String::new(),
        after: 0,
        times: 1,
        kind: std::io::ErrorKind::Other,
    });
    assert_eq!(handle.propose("green"), Err(Refused::Unknown));
    let error = running.join().expect("no panic").expect_err("its disk failed");
    assert!(matches!(error, MemberError::Journal(_)), "{error}");
    assert_eq!(handle.propose("blue"), Err(Refused::Stopped));
    assert_eq!(handle.status().err(), Some(Refused::Stopped));
    // Opened again, it has what was answered.
    disk.crash();
    let (member, handle) = Member::<Words>::open_on(disk, options).unwrap();
    let running = std::thread::spawn(move || member.run(|_, _| ()));
    let words = loop {
        if let Ok(words) = handle.read(|words| words.0.clone()) {
            break words;
        }
    };
    assert_eq!(words[0], "red");
    drop(handle);
    running.join().expect("no panic").expect("it ends with its last handle");
}
