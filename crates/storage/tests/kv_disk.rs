//! The store of `examples/kv_disk`, as real processes: what it acknowledged survives kill -9 of its leader, again
//! and again, and members that come and go.
//!
//! This program is the members, too: it starts itself.

#[path = "../examples/kv_disk/main.rs"]
mod kv_disk;

use kv_disk::net::{Answer, Request, ask, ask_leader};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use trimaran_raft::NodeId;

const KILLS: u64 = 50;
/// Far beyond what an election takes on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<(), kv_disk::Failure> {
    if std::env::args().nth(1).as_deref() == Some("member") {
        // A test that was killed leaves no members behind: their standard input ends with it.
        thread::spawn(|| {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            std::process::exit(1);
        });
        return kv_disk::main();
    }
    nothing_acknowledged_is_lost_when_leaders_are_killed();
    println!("test nothing_acknowledged_is_lost_when_leaders_are_killed ... ok");
    members_come_and_go_while_it_is_written();
    println!("test members_come_and_go_while_it_is_written ... ok");
    Ok(())
}

/// The members' processes. Those that are left are killed when the test ends, however it does.
struct Cluster {
    book: tempfile::TempDir,
    members: BTreeMap<u64, Child>,
}

impl Cluster {
    fn new() -> Cluster {
        let mut cluster = Cluster {
            book: tempfile::tempdir().expect("a folder"),
            members: BTreeMap::new(),
        };
        (1..=3).for_each(|id| cluster.start(id));
        cluster
    }

    fn book(&self) -> &Path {
        self.book.path()
    }

    fn start(&mut self, id: u64) {
        let program = std::env::current_exe().expect("this program");
        let mut command = Command::new(program);
        command.args(["member", &id.to_string()]).arg(self.book());
        let member = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("a process");
        self.members.insert(id, member);
    }

    /// kill -9: nothing is flushed, nobody is told.
    fn kill(&mut self, id: u64) {
        let mut member = self.members.remove(&id).expect("it runs");
        member.kill().expect("a signal");
        member.wait().expect("it ends");
    }

    fn status(&self, id: u64) -> Option<Status> {
        match ask(self.book(), NodeId(id), &Request::Look).ok()? {
            Answer::Status {
                leads,
                applied,
                log_begins,
                voters,
            } => Some(Status {
                leads,
                applied,
                log_begins,
                voters: voters.iter().map(|voter| voter.0).collect(),
            }),
            other => panic!("{other:?} to a question for the status"),
        }
    }

    /// A member that serves as the leader.
    fn leader(&self) -> u64 {
        wait_until("a leader", || {
            let leads = |id: &&u64| self.status(**id).is_some_and(|status| status.leads);
            self.members.keys().find(leads).copied()
        })
    }

    /// Waits until all members have applied what the leader has.
    fn wait_caught_up(&self) {
        let leader = self.leader();
        let upto = self.status(leader).map_or(u64::MAX, |status| status.applied);
        for id in self.members.keys() {
            wait_until("a member that has caught up", || {
                self.status(*id).filter(|status| status.applied >= upto)
            });
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in self.members.values_mut() {
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

struct Status {
    leads: bool,
    applied: u64,
    log_begins: u64,
    voters: Vec<u64>,
}

#[track_caller]
fn wait_until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(began.elapsed() < PATIENCE, "there is no {what} after {PATIENCE:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A writer that never stops: keys count up from one, and each is read again once it is acknowledged.
struct Writer {
    acknowledged: AtomicU64,
    stop: AtomicBool,
    has_ended: AtomicBool,
}

impl Writer {
    fn new() -> Writer {
        Writer {
            acknowledged: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
        }
    }

    fn run(&self, book: &Path) {
        /// Also if it panics.
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _end = End(&self.has_ended);
        let mut key = 0;
        while !self.stop.load(Ordering::Relaxed) {
            key += 1;
            let set = Request::Set(name(key), key.to_string());
            assert_eq!(ask_leader(book, &set).expect("a folder"), Answer::Done);
            self.acknowledged.store(key, Ordering::Relaxed);
            // Linearizable: a leader that was elected since knows it.
            check_key(book, key);
        }
    }

    fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits for so many more acknowledgements.
    #[track_caller]
    fn wait_for(&self, more: u64) {
        let before = self.acknowledged();
        wait_until("write that goes on", || {
            assert!(
                !self.has_ended.load(Ordering::Relaxed),
                "the writer has failed; its message is above"
            );
            (self.acknowledged() >= before + more).then_some(())
        });
    }
}

fn name(key: u64) -> String {
    format!("key {key}")
}

#[track_caller]
fn check_key(book: &Path, key: u64) {
    let value = ask_leader(book, &Request::Get(name(key))).expect("a folder");
    assert_eq!(
        value,
        Answer::Value(Some(key.to_string())),
        "key {key} was acknowledged"
    );
}

/// Runs `test` while the store is written, and returns the last key that was acknowledged.
fn while_written(cluster: &mut Cluster, test: impl FnOnce(&mut Cluster, &Writer)) -> u64 {
    let (writer, book) = (Arc::new(Writer::new()), cluster.book().to_owned());
    // Not a scoped thread: if the test fails, it may wait for a leader that there will never be.
    let running = thread::spawn({
        let writer = Arc::clone(&writer);
        move || writer.run(&book)
    });
    test(cluster, &writer);
    writer.stop.store(true, Ordering::Relaxed);
    running.join().expect("what was acknowledged was read again");
    writer.acknowledged()
}

fn nothing_acknowledged_is_lost_when_leaders_are_killed() {
    let mut cluster = Cluster::new();
    let began = Instant::now();
    let written = while_written(&mut cluster, |cluster, writer| {
        writer.wait_for(1);
        for _ in 0..KILLS {
            let leader = cluster.leader();
            cluster.kill(leader);
            // The other two go on without it, and it catches up once it is back.
            writer.wait_for(4);
            cluster.start(leader);
            cluster.wait_caught_up();
        }
    });
    let took = began.elapsed();
    (1..=written).for_each(|key| check_key(cluster.book(), key));
    // And what the disks hold, when all of them start again.
    let begins: Vec<u64> = (1..=3)
        .filter_map(|id| cluster.status(id))
        .map(|status| status.log_begins)
        .collect();
    (1..=3).for_each(|id| cluster.kill(id));
    (1..=3).for_each(|id| cluster.start(id));
    (1..=written).for_each(|key| check_key(cluster.book(), key));
    println!(
        "{KILLS} leaders killed in {took:?}, {written} writes acknowledged and read again; logs begin at {begins:?}"
    );
    assert!(
        begins.iter().any(|first| *first > 1),
        "no member has ever taken a snapshot"
    );
}

fn members_come_and_go_while_it_is_written() {
    let mut cluster = Cluster::new();
    let change = |cluster: &Cluster, request| {
        assert_eq!(ask_leader(cluster.book(), &request).expect("a folder"), Answer::Done);
    };
    let written = while_written(&mut cluster, |cluster, writer| {
        // Long enough for the leader to have nothing but a snapshot of the beginning.
        writer.wait_for(250);
        cluster.start(4);
        change(cluster, Request::Add(NodeId(4)));
        let new = cluster.status(4).expect("it runs");
        assert!(new.log_begins > 1 && new.applied >= 250, "it came by a snapshot");
        writer.wait_for(10);
        let leader = cluster.leader();
        change(cluster, Request::Remove(NodeId(leader)));
        cluster.kill(leader);
        writer.wait_for(10);
        // Three are left, of which one more may go.
        let leader = cluster.leader();
        assert_eq!(cluster.status(leader).expect("it runs").voters.len(), 3);
        cluster.kill(leader);
        writer.wait_for(10);
        cluster.start(leader);
        cluster.wait_caught_up();
    });
    (1..=written).for_each(|key| check_key(cluster.book(), key));
    println!("a member added and one removed, {written} writes acknowledged and read again");
}
