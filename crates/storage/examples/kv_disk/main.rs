//! A replicated key-value store of several processes over TCP, on [`trimaran_storage::member`]: with snapshots, linearizable
//! reads, and members that are added and removed. `examples/kv_three.rs` is smaller: it has three members for ever.
//!
//! ```sh
//! alias kv='cargo run -q -p trimaran-storage --example kv_disk --'
//! kv member 1 /tmp/kv & kv member 2 /tmp/kv & kv member 3 /tmp/kv &   # the first three found the group
//! kv set colour red /tmp/kv; kv get colour /tmp/kv
//! kv member 4 /tmp/kv & kv add 4 /tmp/kv; kv remove 1 /tmp/kv
//! ```
//!
//! Members listen on loopback, on ports that the system chooses, and find each other by files in the folder that all
//! are given. A member may be killed and started again at any moment. One that has lost its folder must not come back
//! under its old id.

pub(crate) mod net;

use self::net::{Answer, Peers, Request, ask_leader};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use trimaran_raft::{Config, NodeId};
use trimaran_storage::member::{Handle, Member, MemberOptions, Refused, StateMachine};

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// The group's first members. Others are added while it runs.
const FOUNDERS: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

/// Often, so that there is something to see.
const SNAPSHOT_EVERY: u64 = 200;

#[derive(Default)]
pub(crate) struct Store(BTreeMap<String, String>);

impl StateMachine for Store {
    type Answer = ();

    fn apply(&mut self, command: &[u8]) {
        // What is no command is skipped by all members alike.
        if let Ok((key, value)) = postcard::from_bytes(command) {
            self.0.insert(key, value);
        }
    }

    fn snapshot(&self) -> Vec<u8> {
        encoded(&self.0)
    }

    fn restore(snapshot: &[u8]) -> Result<Store, Failure> {
        Ok(Store(postcard::from_bytes(snapshot)?))
    }
}

fn encoded(value: &impl serde::Serialize) -> Vec<u8> {
    postcard::to_allocvec(value).expect("strings can be encoded")
}

/// What a client is told.
fn answer(store: &Handle<Store>, request: Request) -> Answer {
    let answer = match request {
        Request::Set(key, value) => store.propose(encoded(&(key, value))).map(|()| Answer::Done),
        Request::Get(key) => store.read(move |store| Answer::Value(store.0.get(&key).cloned())),
        Request::Add(node) => store.add(node).map(|()| Answer::Done),
        Request::Remove(node) => store.remove(node).map(|()| Answer::Done),
        Request::Look => store.status().map(|status| Answer::Status {
            leads: status.raft.is_serving,
            applied: status.raft.applied.0,
            log_begins: status.first_index.0,
            voters: status.raft.configuration.voters,
        }),
    };
    answer.unwrap_or_else(|refused| match refused {
        Refused::NotLeader(leader) => Answer::NotLeader(leader),
        other => Answer::Again(other.to_string()),
    })
}

/// Runs a member until it fails.
fn run_member(id: NodeId, book: &Path) -> Result<(), Failure> {
    let config = Config::standalone(id, FOUNDERS);
    let options = MemberOptions {
        snapshot_every: SNAPSHOT_EVERY,
        ..MemberOptions::new(book.join(format!("member-{id}")), config)
    };
    let (member, store) = Member::open(options)?;
    net::listen(id, book, store)?;
    let mut peers = Peers::new(id, book);
    Ok(member.run(|to, message| peers.send(to, message))?)
}

pub(crate) fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (request, book) = match arguments[..] {
        ["member", id, book] => return run_member(NodeId(id.parse()?), Path::new(book)),
        ["set", key, value, book] => (Request::Set(key.into(), value.into()), book),
        ["get", key, book] => (Request::Get(key.into()), book),
        ["add", id, book] => (Request::Add(NodeId(id.parse()?)), book),
        ["remove", id, book] => (Request::Remove(NodeId(id.parse()?)), book),
        _ => return Err("kv_disk member ID | set KEY VALUE | get KEY | add ID | remove ID, and then FOLDER".into()),
    };
    println!("{:?}", ask_leader(Path::new(book), &request)?);
    Ok(())
}
