//! The encoding of group messages between brokers.
//!
//! An envelope holds messages of any number of groups for one broker: the messages without their payloads, in
//! postcard's encoding, then the payloads back to back. Payloads are neither copied nor looked at: [`encode`] lists
//! them as they are, to be written vectored, and [`decode`] slices them out of the envelope. The peer protocol's frame,
//! with its version, is `trimaran_wire`'s.

#[cfg(test)]
mod tests;

use bytes::Bytes;
use core::fmt;
use serde::{Deserialize, Serialize};
use trimaran_raft::{Body, Configuration, Entry, GroupId, LogIndex, Message, NodeId, Payload, Snapshot};

/// The messages of one envelope.
pub type Messages = Vec<(GroupId, Message)>;

/// Messages, entries, members and snapshots that one envelope may name, all together. On the wire each takes as little
/// as one to three bytes, in memory up to two hundred: without this limit, an envelope of the greatest length would
/// become sixty times as much. With it, what an envelope becomes (beside its payloads, which are slices of it) stays
/// below that greatest length itself, and leaves room for a message of every group of the largest broker.
pub const MAX_PARTS: usize = 1 << 20;

/// Messages after which [`split`] begins another envelope, so that whatever entries and members they name, each stays
/// within [`MAX_PARTS`]: a leader's limits on appends bound the entries of each.
const FULL_AFTER_MESSAGES: usize = 1 << 16;

/// Payload bytes after which an envelope is full. It is the unit of what can be dropped, and of what a heartbeat has to
/// wait for; one message alone may be larger.
const FULL_AFTER_BYTES: usize = 1 << 20;

/// The members of each kind that a configuration may name: as many as there may be brokers, and some more.
const MAX_MEMBERS: usize = 4096;

/// The fewest bytes of a message, an entry and a member: no memory is reserved for more than the bytes left can hold.
const MIN_MESSAGE_LEN: usize = 3;
const MIN_ENTRY_LEN: usize = 2;
const MIN_MEMBER_LEN: usize = 1;

/// The kinds of messages. Change a number, or what follows it, only together with the peer protocol's version.
mod kind {
    pub(super) const PRE_VOTE: u8 = 0;
    pub(super) const PRE_VOTE_REPLY: u8 = 1;
    pub(super) const VOTE: u8 = 2;
    pub(super) const VOTE_REPLY: u8 = 3;
    pub(super) const APPEND: u8 = 4;
    pub(super) const APPEND_ACCEPTED: u8 = 5;
    pub(super) const APPEND_REJECTED: u8 = 6;
    pub(super) const HEARTBEAT: u8 = 7;
    pub(super) const HEARTBEAT_REPLY: u8 = 8;
    pub(super) const TIMEOUT_NOW: u8 = 9;
    pub(super) const SNAPSHOT: u8 = 10;
    pub(super) const LOST: u8 = 11;
    pub(super) const REJOIN: u8 = 12;
    pub(super) const SEEK: u8 = 13;
}

/// The kinds of payloads.
mod payload {
    pub(super) const BLANK: u8 = 0;
    pub(super) const DATA: u8 = 1;
    pub(super) const CONFIGURATION: u8 = 2;
}

/// The reason that bytes are no envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvelopeError {
    /// The messages do not follow the format.
    Format(postcard::Error),
    /// No message, or no payload, is of this kind.
    Kind(u8),
    /// Payloads are promised that are not there.
    Payload,
    /// Bytes are left over.
    Trailing(usize),
    /// More than [`MAX_PARTS`].
    TooMany,
}

impl fmt::Display for EnvelopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EnvelopeError::Format(error) => write!(f, "the peer's messages do not follow the format: {error}"),
            EnvelopeError::Kind(kind) => write!(f, "the peer's message is of unknown kind {kind}"),
            EnvelopeError::Payload => f.write_str("the peer's messages promise payloads that are not there"),
            EnvelopeError::Trailing(bytes) => write!(f, "{bytes} bytes follow the peer's messages"),
            EnvelopeError::TooMany => write!(
                f,
                "the peer's envelope names more than {MAX_PARTS} messages, entries and members, which no broker of \
                 this release sends: see which release it runs"
            ),
        }
    }
}

impl std::error::Error for EnvelopeError {}

/// Divides messages for one broker among as many envelopes as it takes, none of them too full.
pub fn split(messages: Messages) -> Vec<Messages> {
    let (mut envelopes, mut bytes) = (Vec::<Messages>::new(), 0);
    for message in messages {
        let payload = payload_bytes(&message.1);
        let is_full =
            |last: &Messages| last.len() == FULL_AFTER_MESSAGES || (bytes > 0 && bytes + payload > FULL_AFTER_BYTES);
        if envelopes.last().is_none_or(is_full) {
            envelopes.push(Messages::new());
            bytes = 0;
        }
        bytes += payload;
        envelopes.last_mut().expect("there is one").push(message);
    }
    envelopes
}

fn payload_bytes(message: &Message) -> usize {
    match &message.body {
        Body::Append { entries, .. } => entries.iter().map(|entry| entry.payload.len()).sum(),
        Body::Snapshot { snapshot, .. } => snapshot.data.len(),
        _ => 0,
    }
}

/// Gives payloads memory that is theirs alone. As a slice, the small entry of a quiet partition would keep everything
/// that was received together with it, for as long as it is in memory.
pub fn detach(messages: &mut Messages) {
    for bytes in all_payloads(messages) {
        *bytes = Bytes::copy_from_slice(bytes);
    }
}

/// The bytes that stand behind the messages, in their order.
fn all_payloads(messages: &mut Messages) -> impl Iterator<Item = &mut Bytes> {
    messages.iter_mut().flat_map(|(_, message)| payloads(&mut message.body))
}

fn payloads(body: &mut Body) -> impl Iterator<Item = &mut Bytes> {
    let (entries, snapshot): (&mut [Entry], _) = match body {
        Body::Append { entries, .. } => (entries, None),
        Body::Snapshot { snapshot, .. } => (&mut [], Some(&mut snapshot.data)),
        _ => (&mut [], None),
    };
    let data = entries.iter_mut().filter_map(|entry| match &mut entry.payload {
        Payload::Data(bytes) => Some(bytes),
        Payload::Blank | Payload::Configuration(_) => None,
    });
    data.chain(snapshot)
}

/// The messages as chunks to be written back to back: first everything but the payloads, then these as they are.
///
/// # Panics
/// If a payload has 4 GiB or more: what is proposed is limited far below.
pub fn encode(messages: &[(GroupId, Message)]) -> Vec<Bytes> {
    let mut writer = Writer::default();
    writer.put(&messages.len());
    for (group, message) in messages {
        writer.put(&(group, message.term));
        writer.body(&message.body);
    }
    let mut chunks = vec![Bytes::from(writer.head)];
    chunks.append(&mut writer.payloads);
    chunks
}

#[derive(Default)]
struct Writer {
    head: Vec<u8>,
    payloads: Vec<Bytes>,
}

impl Writer {
    fn put(&mut self, value: &impl Serialize) {
        let head = core::mem::take(&mut self.head);
        self.head = postcard::to_extend(value, head).expect("writing to memory does not fail");
    }

    fn body(&mut self, body: &Body) {
        match body {
            Body::PreVote { last_index, last_term } => self.put(&(kind::PRE_VOTE, last_index, last_term)),
            Body::PreVoteReply { granted, longer_log } => self.put(&(kind::PRE_VOTE_REPLY, granted, longer_log)),
            Body::Vote {
                last_index,
                last_term,
                transfer,
            } => self.put(&(kind::VOTE, last_index, last_term, transfer)),
            Body::VoteReply { granted } => self.put(&(kind::VOTE_REPLY, granted)),
            Body::Append {
                prev_index,
                prev_term,
                commit,
                replicated_index,
                entries,
            } => {
                self.put(&(
                    kind::APPEND,
                    prev_index,
                    prev_term,
                    commit,
                    replicated_index,
                    entries.len(),
                ));
                entries.iter().for_each(|entry| self.entry(entry));
            }
            Body::AppendAccepted {
                match_index,
                commit,
                life,
            } => self.put(&(kind::APPEND_ACCEPTED, match_index, commit, life)),
            Body::AppendRejected {
                prev_index,
                hint_index,
                hint_term,
            } => self.put(&(kind::APPEND_REJECTED, prev_index, hint_index, hint_term)),
            Body::Heartbeat { commit, round } => self.put(&(kind::HEARTBEAT, commit, round)),
            Body::HeartbeatReply { commit, round } => self.put(&(kind::HEARTBEAT_REPLY, commit, round)),
            Body::TimeoutNow => self.put(&kind::TIMEOUT_NOW),
            Body::Snapshot {
                snapshot,
                commit,
                replicated_index,
            } => {
                self.put(&(kind::SNAPSHOT, snapshot.index, snapshot.term, &snapshot.configuration));
                let length = self.payload(&snapshot.data);
                self.put(&(length, commit, replicated_index));
            }
            Body::Lost { life } => self.put(&(kind::LOST, life)),
            Body::Rejoin { since, life } => self.put(&(kind::REJOIN, since, life)),
            Body::Seek => self.put(&kind::SEEK),
        }
    }

    /// An entry of an append. They are contiguous from its `prev_index` on, so they carry no index.
    fn entry(&mut self, entry: &Entry) {
        match &entry.payload {
            Payload::Blank => self.put(&(entry.term, payload::BLANK)),
            Payload::Data(bytes) => {
                let length = self.payload(bytes);
                self.put(&(entry.term, payload::DATA, length));
            }
            Payload::Configuration(configuration) => {
                self.put(&(entry.term, payload::CONFIGURATION, configuration));
            }
        }
    }

    /// Takes a payload, and returns its length.
    fn payload(&mut self, bytes: &Bytes) -> u32 {
        if !bytes.is_empty() {
            self.payloads.push(bytes.clone());
        }
        u32::try_from(bytes.len()).expect("a payload is shorter than 4 GiB")
    }
}

/// Reads exactly one envelope. Payloads are slices of it, so they keep it in memory as long as they live; see
/// [`detach`].
///
/// # Errors
/// The bytes do not follow the format, or name more than an envelope may.
pub fn decode(bytes: Bytes) -> Result<Messages, EnvelopeError> {
    let mut reader = Reader {
        rest: &bytes,
        parts: MAX_PARTS,
        lengths: Vec::new(),
    };
    let count = reader.count(MIN_MESSAGE_LEN)?;
    let mut messages = Messages::with_capacity(count);
    for _ in 0..count {
        let (group, term) = reader.take()?;
        let body = reader.body()?;
        messages.push((group, Message { term, body }));
    }
    let mut rest = bytes.slice(bytes.len() - reader.rest.len()..);
    for (place, length) in all_payloads(&mut messages).zip(reader.lengths) {
        let length = usize::try_from(length).map_err(|_| EnvelopeError::Payload)?;
        if length > rest.len() {
            return Err(EnvelopeError::Payload);
        }
        *place = rest.split_to(length);
    }
    if rest.is_empty() {
        Ok(messages)
    } else {
        Err(EnvelopeError::Trailing(rest.len()))
    }
}

/// Reads messages one after the other, and reserves memory for none that the bytes can't hold or that may not be there.
struct Reader<'a> {
    rest: &'a [u8],
    /// The rest of [`MAX_PARTS`].
    parts: usize,
    /// The lengths of the payloads, one for each place that [`all_payloads`] returns.
    lengths: Vec<u32>,
}

impl<'a> Reader<'a> {
    fn take<T: Deserialize<'a>>(&mut self) -> Result<T, EnvelopeError> {
        let (value, rest) = postcard::take_from_bytes(self.rest).map_err(EnvelopeError::Format)?;
        self.rest = rest;
        Ok(value)
    }

    /// The number of parts that follow, each of so many bytes at least.
    fn count(&mut self, min_len: usize) -> Result<usize, EnvelopeError> {
        let count = self.take()?;
        if count > self.rest.len() / min_len {
            return Err(EnvelopeError::Format(postcard::Error::DeserializeUnexpectedEnd));
        }
        self.spend(count)?;
        Ok(count)
    }

    fn spend(&mut self, parts: usize) -> Result<(), EnvelopeError> {
        self.parts = self.parts.checked_sub(parts).ok_or(EnvelopeError::TooMany)?;
        Ok(())
    }

    fn body(&mut self) -> Result<Body, EnvelopeError> {
        Ok(match self.take()? {
            kind::PRE_VOTE => {
                let (last_index, last_term) = self.take()?;
                Body::PreVote { last_index, last_term }
            }
            kind::PRE_VOTE_REPLY => {
                let (granted, longer_log) = self.take()?;
                Body::PreVoteReply { granted, longer_log }
            }
            kind::VOTE => {
                let (last_index, last_term, transfer) = self.take()?;
                Body::Vote {
                    last_index,
                    last_term,
                    transfer,
                }
            }
            kind::VOTE_REPLY => Body::VoteReply { granted: self.take()? },
            kind::APPEND => {
                let (prev_index, prev_term, commit, replicated_index) = self.take()?;
                Body::Append {
                    prev_index,
                    prev_term,
                    commit,
                    replicated_index,
                    entries: self.entries(prev_index)?,
                }
            }
            kind::APPEND_ACCEPTED => {
                let (match_index, commit, life) = self.take()?;
                Body::AppendAccepted {
                    match_index,
                    commit,
                    life,
                }
            }
            kind::APPEND_REJECTED => {
                let (prev_index, hint_index, hint_term) = self.take()?;
                Body::AppendRejected {
                    prev_index,
                    hint_index,
                    hint_term,
                }
            }
            kind::HEARTBEAT => {
                let (commit, round) = self.take()?;
                Body::Heartbeat { commit, round }
            }
            kind::HEARTBEAT_REPLY => {
                let (commit, round) = self.take()?;
                Body::HeartbeatReply { commit, round }
            }
            kind::TIMEOUT_NOW => Body::TimeoutNow,
            kind::SNAPSHOT => {
                let snapshot = Box::new(self.snapshot()?);
                let (commit, replicated_index) = self.take()?;
                Body::Snapshot {
                    snapshot,
                    commit,
                    replicated_index,
                }
            }
            kind::LOST => Body::Lost { life: self.take()? },
            kind::REJOIN => {
                let (since, life) = self.take()?;
                Body::Rejoin { since, life }
            }
            kind::SEEK => Body::Seek,
            unknown => return Err(EnvelopeError::Kind(unknown)),
        })
    }

    fn entries(&mut self, prev_index: LogIndex) -> Result<Vec<Entry>, EnvelopeError> {
        let count = self.count(MIN_ENTRY_LEN)?;
        let mut entries = Vec::with_capacity(count);
        for place in 1..=count as u64 {
            let (term, kind) = self.take()?;
            let payload = match kind {
                payload::BLANK => Payload::Blank,
                payload::DATA => Payload::Data(self.payload()?),
                payload::CONFIGURATION => Payload::Configuration(Box::new(self.configuration()?)),
                unknown => return Err(EnvelopeError::Kind(unknown)),
            };
            // A forged `prev_index` may be the last there is.
            let index = LogIndex(prev_index.0.saturating_add(place));
            entries.push(Entry { index, term, payload });
        }
        Ok(entries)
    }

    /// Notes a payload's length. The bytes are filled in when all messages are read: only then is it known where they
    /// begin.
    fn payload(&mut self) -> Result<Bytes, EnvelopeError> {
        let length = self.take()?;
        self.lengths.push(length);
        Ok(Bytes::new())
    }

    fn snapshot(&mut self) -> Result<Snapshot, EnvelopeError> {
        let (index, term) = self.take()?;
        Ok(Snapshot {
            index,
            term,
            configuration: self.configuration()?,
            data: self.payload()?,
        })
    }

    fn configuration(&mut self) -> Result<Configuration, EnvelopeError> {
        Ok(Configuration {
            voters: self.members()?,
            outgoing: self.members()?,
            learners: self.members()?,
        })
    }

    fn members(&mut self) -> Result<Vec<NodeId>, EnvelopeError> {
        let count = self.count(MIN_MEMBER_LEN)?;
        if count > MAX_MEMBERS {
            return Err(EnvelopeError::TooMany);
        }
        let mut members = Vec::with_capacity(count);
        for _ in 0..count {
            members.push(self.take()?);
        }
        Ok(members)
    }
}
