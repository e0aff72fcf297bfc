//! Members and clients talk over TCP: frames behind their length, in postcard's encoding.

use super::{Failure, Store, answer};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;
use trimaran_raft::{Message, NodeId};
use trimaran_storage::member::Handle;

/// The largest frame: the core sends appends of 1 MiB at most, and a snapshot goes in one piece.
const MAX_FRAME: u32 = 64 << 20;
/// Messages that wait for a connection. Beyond it, they are lost.
const MAX_QUEUED: usize = 1024;

/// A message on a connection, each behind its length.
#[derive(Serialize, Deserialize)]
enum Frame {
    Raft(NodeId, Box<Message>),
    /// Answered on the same connection.
    Ask(Request),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Set(String, String),
    Get(String),
    /// Both are to be asked until the answer is `Done`.
    Add(NodeId),
    Remove(NodeId),
    Look,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Done,
    Value(Option<String>),
    NotLeader(Option<NodeId>),
    /// Not now; a `Set` may have been done, or may be done yet.
    Again(String),
    Status {
        leads: bool,
        applied: u64,
        log_begins: u64,
        voters: Vec<NodeId>,
    },
}

/// Listens where the system says, tells the others where, and serves what connects.
pub(crate) fn listen(id: NodeId, book: &Path, store: Handle<Store>) -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let beside = book.join(format!("address-{id}.new"));
    fs::write(&beside, listener.local_addr()?.to_string())?;
    fs::rename(&beside, book.join(format!("address-{id}")))?;
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let store = store.clone();
            thread::spawn(move || serve(connection, &store));
        }
    });
    Ok(())
}

/// One connection of a peer or a client.
fn serve(mut connection: TcpStream, store: &Handle<Store>) -> io::Result<()> {
    connection.set_nodelay(true)?;
    loop {
        match receive(&mut connection)? {
            Frame::Raft(from, message) => store.receive(from, *message).map_err(io::Error::other)?,
            Frame::Ask(request) => send(&mut connection, &answer(store, request))?,
        }
    }
}

/// The way to other members: a queue and a thread for each.
pub(crate) struct Peers {
    own: NodeId,
    book: PathBuf,
    queues: BTreeMap<NodeId, SyncSender<Message>>,
}

impl Peers {
    pub(crate) fn new(own: NodeId, book: &Path) -> Peers {
        Peers {
            own,
            book: book.to_owned(),
            queues: BTreeMap::new(),
        }
    }

    /// Messages may be lost: a full queue or a broken connection loses them.
    pub(crate) fn send(&mut self, to: NodeId, message: Message) {
        let (own, book) = (self.own, &self.book);
        let queue = self.queues.entry(to).or_insert_with(|| {
            let ((queue, messages), book) = (sync_channel(MAX_QUEUED), book.clone());
            thread::spawn(move || forward(own, to, &book, &messages));
            queue
        });
        let _ = queue.try_send(message);
    }
}

/// Connects when there is something to send.
fn forward(own: NodeId, to: NodeId, book: &Path, messages: &Receiver<Message>) {
    let mut connection = None;
    for message in messages {
        let frame = Frame::Raft(own, Box::new(message));
        let open = connection.take().map_or_else(|| connect(book, to), Ok);
        connection = open.and_then(|mut open| send(&mut open, &frame).map(|()| open)).ok();
    }
}

fn connect(book: &Path, to: NodeId) -> io::Result<TcpStream> {
    let address = fs::read_to_string(book.join(format!("address-{to}")))?;
    let address = address.parse().map_err(io::Error::other)?;
    let connection = TcpStream::connect_timeout(&address, Duration::from_millis(500))?;
    connection.set_nodelay(true)?;
    // A member that is stopped, and not gone, keeps nobody waiting for ever.
    connection.set_write_timeout(Some(Duration::from_secs(2)))?;
    Ok(connection)
}

fn send(to: &mut TcpStream, frame: &impl Serialize) -> io::Result<()> {
    let bytes = postcard::to_allocvec(frame).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    to.write_all(&[&length.to_be_bytes()[..], &bytes].concat())
}

/// Memory is taken as bytes arrive, whatever the length says.
fn receive<T: serde::de::DeserializeOwned>(from: &mut TcpStream) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > MAX_FRAME {
        return Err(io::Error::other("a frame is longer than any can be"));
    }
    let mut bytes = Vec::new();
    from.take(u64::from(length)).read_to_end(&mut bytes)?;
    postcard::from_bytes(&bytes).map_err(io::Error::other)
}

/// Asks one member.
pub(crate) fn ask(book: &Path, to: NodeId, request: &Request) -> io::Result<Answer> {
    let mut connection = connect(book, to)?;
    connection.set_read_timeout(Some(Duration::from_secs(2)))?;
    send(&mut connection, &Frame::Ask(request.clone()))?;
    receive(&mut connection)
}

/// Asks the leader, again and again until it has done it.
pub(crate) fn ask_leader(book: &Path, request: &Request) -> io::Result<Answer> {
    loop {
        for name in fs::read_dir(book)?.flatten().map(|file| file.file_name()) {
            let id = name
                .to_str()
                .and_then(|name| name.strip_prefix("address-")?.parse().ok());
            match id.map(|id| ask(book, NodeId(id), request)) {
                None | Some(Err(_) | Ok(Answer::NotLeader(_))) => {}
                Some(Ok(Answer::Again(_))) => thread::sleep(Duration::from_millis(20)),
                Some(answer) => return answer,
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
}
