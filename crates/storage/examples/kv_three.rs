//! A durable, replicated key-value store of three processes over TCP, as small as it can be: whatever was answered survives
//! any one of them, and a crash of all. `examples/kv_disk` can also change its members.
//!
//! ```sh
//! alias kv='cargo run -q -p trimaran-storage --example kv_three --'
//! A="127.0.0.1:7001 127.0.0.1:7002 127.0.0.1:7003"
//! kv 1 /tmp/kv1 $A & kv 2 /tmp/kv2 $A & kv 3 /tmp/kv3 $A &
//! kv set colour red $A; kv get colour $A
//! ```
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};
use std::{thread, time::Duration};
use trimaran_raft::{Config, Message, NodeId};
use trimaran_storage::member::{Handle, Member, MemberOptions, StateMachine};

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The longest frame: a snapshot goes in one piece.
const MAX_FRAME: u64 = 64 << 20;

#[derive(Default)]
struct Store(BTreeMap<String, String>);

impl StateMachine for Store {
    type Answer = ();
    fn apply(&mut self, command: &[u8]) {
        if let Ok((key, value)) = postcard::from_bytes(command) {
            self.0.insert(key, value);
        }
    }
    fn snapshot(&self) -> Vec<u8> {
        postcard::to_allocvec(&self.0).expect("strings can be encoded")
    }
    fn restore(snapshot: &[u8]) -> Result<Store, Failure> {
        Ok(Store(postcard::from_bytes(snapshot)?))
    }
}

/// What goes over a connection, behind its length. Clients get an answer.
#[derive(Serialize, Deserialize)]
pub(crate) enum Frame {
    Raft(NodeId, Message),
    Set(String, String),
    Get(String),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Done,
    Value(Option<String>),
    /// This member does not lead, or can't tell: try all of them again. A value may be set yet.
    Elsewhere(String),
}

fn send(to: &mut TcpStream, frame: &impl Serialize) -> io::Result<()> {
    let bytes = postcard::to_allocvec(frame).map_err(io::Error::other)?;
    to.write_all(&[&(bytes.len() as u64).to_be_bytes()[..], &bytes].concat())
}

fn receive<T: DeserializeOwned>(from: &mut TcpStream) -> io::Result<T> {
    let (mut length, mut bytes) = ([0; 8], Vec::new());
    from.read_exact(&mut length)?;
    let length = u64::from_be_bytes(length);
    if length > MAX_FRAME {
        return Err(io::Error::other("a frame is too long"));
    }
    from.take(length).read_to_end(&mut bytes)?;
    postcard::from_bytes(&bytes).map_err(io::Error::other)
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let connection = TcpStream::connect_timeout(&address, Duration::from_millis(500))?;
    connection.set_nodelay(true)?;
    connection.set_write_timeout(Some(Duration::from_secs(2)))?;
    connection.set_read_timeout(Some(Duration::from_secs(2)))?;
    Ok(connection)
}

/// One connection of another member, or of a client.
fn serve(mut connection: TcpStream, store: &Handle<Store>) -> Result<(), Failure> {
    connection.set_nodelay(true)?;
    loop {
        let answer = match receive(&mut connection)? {
            Frame::Raft(from, message) => {
                store.receive(from, message)?;
                continue;
            }
            Frame::Set(key, value) => store
                .propose(postcard::to_allocvec(&(key, value))?)
                .map(|()| Answer::Done),
            Frame::Get(key) => store.read(move |store| Answer::Value(store.0.get(&key).cloned())),
        };
        send(
            &mut connection,
            &answer.unwrap_or_else(|refused| Answer::Elsewhere(refused.to_string())),
        )?;
    }
}

/// Sends to another member, as long as it can be reached. Messages may be lost.
fn forward(own: NodeId, address: SocketAddr, messages: &Receiver<Message>) {
    let mut connection = None;
    for message in messages {
        let open = connection.take().map_or_else(|| connect(address), Ok);
        let frame = Frame::Raft(own, message);
        connection = open.and_then(|mut open| send(&mut open, &frame).map(|()| open)).ok();
    }
}

fn run_member(id: u64, folder: &str, addresses: &[SocketAddr]) -> Result<(), Failure> {
    let ids = (1..=addresses.len() as u64).map(NodeId);
    let own = addresses
        .get(id.wrapping_sub(1) as usize)
        .ok_or("no address has this number")?;
    let (member, store) = Member::open(MemberOptions::new(folder, Config::standalone(NodeId(id), ids)))?;
    let listener = TcpListener::bind(own)?;
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let store = store.clone();
            thread::spawn(move || serve(connection, &store));
        }
    });
    let queues = addresses.iter().map(|address| {
        let ((queue, messages), address) = (sync_channel(1024), *address);
        thread::spawn(move || forward(NodeId(id), address, &messages));
        queue
    });
    let queues: Vec<_> = queues.collect();
    Ok(member.run(|to, message| drop(queues[to.0 as usize - 1].try_send(message)))?)
}

/// Asks one member.
pub(crate) fn ask_one(address: SocketAddr, frame: &Frame) -> io::Result<Answer> {
    let mut member = connect(address)?;
    send(&mut member, frame)?;
    receive(&mut member)
}

/// Asks all members in turn until the leader has answered.
pub(crate) fn ask(addresses: &[SocketAddr], frame: &Frame) -> Answer {
    loop {
        for address in addresses {
            match ask_one(*address, frame) {
                Ok(Answer::Elsewhere(_)) | Err(_) => thread::sleep(Duration::from_millis(10)),
                Ok(answer) => return answer,
            }
        }
    }
}

pub(crate) fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let addresses = |from: &[&str]| {
        from.iter()
            .map(|address| address.parse())
            .collect::<Result<Vec<SocketAddr>, _>>()
    };
    match arguments[..] {
        ["set", key, value, ref rest @ ..] => {
            println!("{:?}", ask(&addresses(rest)?, &Frame::Set(key.into(), value.into())))
        }
        ["get", key, ref rest @ ..] => println!("{:?}", ask(&addresses(rest)?, &Frame::Get(key.into()))),
        [id, folder, ref rest @ ..] => return run_member(id.parse()?, folder, &addresses(rest)?),
        _ => return Err("ID FOLDER ADDRESS... | set KEY VALUE ADDRESS... | get KEY ADDRESS...".into()),
    }
    Ok(())
}
