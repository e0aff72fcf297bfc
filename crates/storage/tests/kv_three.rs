//! The store of `examples/kv_three.rs`, as three processes: what was answered survives a kill -9 of the leader and of all.
//!
//! This program is the members, too: it starts itself.

#[path = "../examples/kv_three.rs"]
mod kv_three;

use kv_three::{Answer, Frame, ask, ask_one};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

fn main() -> Result<(), kv_three::Failure> {
    if std::env::args().len() > 1
        && std::env::args()
            .nth(1)
            .is_some_and(|first| first.parse::<u64>().is_ok())
    {
        // A test that was killed leaves no members behind: their standard input ends with it.
        thread::spawn(|| {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            std::process::exit(1);
        });
        return kv_three::main();
    }
    the_example_is_as_small_as_it_says();
    println!("test the_example_is_as_small_as_it_says ... ok");
    what_was_answered_survives_kills();
    println!("test what_was_answered_survives_kills ... ok");
    Ok(())
}

fn the_example_is_as_small_as_it_says() {
    let text = include_str!("../examples/kv_three.rs");
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
    let lines = text.lines().filter(is_code).count();
    assert!(lines <= 150, "{lines} lines of code");
}

/// Three processes. Those that are left are killed when the test ends, however it does.
struct Cluster {
    folder: tempfile::TempDir,
    addresses: Vec<SocketAddr>,
    members: Vec<Option<Child>>,
}

impl Cluster {
    fn new() -> Cluster {
        let mut cluster = Cluster {
            folder: tempfile::tempdir().expect("a folder"),
            addresses: addresses(),
            members: vec![None, None, None],
        };
        (0..3).for_each(|member| cluster.start(member));
        cluster
    }

    fn start(&mut self, member: usize) {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.arg((member + 1).to_string()).arg(self.dir(member));
        command.args(self.addresses.iter().map(SocketAddr::to_string));
        let child = command.stdin(Stdio::piped()).spawn().expect("a process");
        self.members[member] = Some(child);
    }

    fn dir(&self, member: usize) -> std::path::PathBuf {
        Path::join(self.folder.path(), format!("member-{member}"))
    }

    /// kill -9.
    fn kill(&mut self, member: usize) {
        let mut child = self.members[member].take().expect("it runs");
        child.kill().expect("a signal");
        child.wait().expect("it ends");
    }

    fn set(&self, key: u64) {
        let frame = Frame::Set(format!("key {key}"), key.to_string());
        assert_eq!(ask(&self.addresses, &frame), Answer::Done);
    }

    #[track_caller]
    fn check(&self, keys: std::ops::Range<u64>) {
        for key in keys {
            let found = ask(&self.addresses, &Frame::Get(format!("key {key}")));
            assert_eq!(found, Answer::Value(Some(key.to_string())), "key {key} was answered");
        }
    }

    /// The member that answers when it alone is asked.
    fn leader(&self) -> usize {
        loop {
            for (member, address) in self.addresses.iter().enumerate() {
                if self.members[member].is_some()
                    && matches!(ask_one(*address, &Frame::Get(String::new())), Ok(Answer::Value(_)))
                {
                    return member;
                }
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in self.members.iter_mut().flatten() {
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

/// Loopback addresses that are this process's alone: all of them are known before any member starts, so the system can't
/// choose their ports.
fn addresses() -> Vec<SocketAddr> {
    let [.., high, low] = std::process::id().to_be_bytes();
    (1..=3)
        .map(|member| SocketAddr::from(([127, high.max(1), low, member], 20_000)))
        .collect()
}

fn what_was_answered_survives_kills() {
    let mut cluster = Cluster::new();
    let mut written = 0;
    for _ in 0..5 {
        (written..written + 20).for_each(|key| cluster.set(key));
        written += 20;
        let leader = cluster.leader();
        cluster.kill(leader);
        cluster.check(0..written);
        cluster.start(leader);
    }
    (0..3).for_each(|member| cluster.kill(member));
    (0..3).for_each(|member| cluster.start(member));
    cluster.check(0..written);
}
