//! A replica that takes no part: its log can't be opened for now, contradicts its core, or was found damaged a moment
//! ago.
//!
//! Such a replica neither votes nor leads, since it doesn't hold what it once promised to hold; the others elect
//! without it. Its node lives, though, and says so by heartbeats for all of its groups at once, so a member that takes
//! this replica for the leader would do so for ever. Hence the one thing that it says, to each that may take it for the
//! leader: that it isn't. So does a node that has no replica of the group at all.

#[cfg(test)]
mod tests;

use crate::mailbox::{GroupStatus, Outbox};
use crate::opening::Damaged;
use trimaran_raft::{Body, Configuration, GroupId, Input as CoreInput, LogIndex, Message, NodeId, Payload, Role, Term};
use trimaran_storage::offsets::HighWatermark;
use trimaran_wire::batch::Offset;

impl Damaged {
    pub(crate) fn abstention(&self, own: NodeId) -> Abstention {
        Abstention {
            own,
            group: self.group,
            term: self.recovered.hard_state.term,
        }
    }

    /// The nodes that may follow it, as far as is known: the founders, and the members of later configurations.
    pub(crate) fn members(&self) -> impl Iterator<Item = NodeId> {
        let start = self.recovered.start.iter().map(|start| &start.configuration);
        let entries = self.recovered.entries.iter().filter_map(|entry| match &entry.payload {
            Payload::Configuration(configuration) => Some(&**configuration),
            Payload::Blank | Payload::Data(_) => None,
        });
        let later = start.chain(entries).flat_map(Configuration::members);
        self.voters.iter().copied().chain(later)
    }

    /// The journal needs the file that holds its entries: they move on to the current one.
    pub(crate) fn flush_now(&self, out: &mut Outbox) {
        out.journal.rewrite(self.group, &self.recovered.entries);
    }

    /// As if its log were empty: what is in it can't be told.
    pub(crate) fn status(&self) -> GroupStatus {
        GroupStatus {
            group: self.group,
            voters: self.voters.clone(),
            outgoing: Vec::new(),
            learners: Vec::new(),
            repairing: false,
            failed: true,
            role: Role::Follower,
            term: self.recovered.hard_state.term,
            leader: None,
            serving: false,
            commit: LogIndex::ZERO,
            last_index: LogIndex::ZERO,
            high_watermark: HighWatermark(Offset::ZERO),
            start_offset: Offset::ZERO,
            next_offset: Offset::ZERO,
            in_sync: Vec::new(),
            progress: Vec::new(),
            size_bytes: 0,
        }
    }
}

/// The behaviour of a member that takes no part: it answers nodes that may take it for the leader, members or not as
/// far as it knows, and no others.
pub(crate) struct Abstention {
    pub(crate) own: NodeId,
    pub(crate) group: GroupId,
    /// No lower than any term that it has led, as far as it remembers.
    pub(crate) term: Term,
}

impl Abstention {
    /// Tells all these members.
    pub(crate) fn announce(&self, members: impl IntoIterator<Item = NodeId>, out: &mut Outbox) {
        let mut told: Vec<NodeId> = Vec::new();
        for member in members {
            if member != self.own && !told.contains(&member) {
                told.push(member);
                out.send(member, self.group, denial(self.term));
            }
        }
    }

    /// Answers where another member may take this one for the leader.
    pub(crate) fn answer(&self, input: &CoreInput, out: &mut Outbox) {
        match input {
            // It may have missed what was said.
            CoreInput::Restored(node) => out.send(*node, self.group, denial(self.term)),
            // What it believes may be of a later term than this member remembers.
            CoreInput::Message(from, message) if takes_for_leader(&message.body) => {
                out.send(*from, self.group, denial(self.term.max(message.term)));
            }
            _ => {}
        }
    }
}

/// The answer of a node that has no replica of the group: it was closed, or is not open yet. Heartbeats vouch for the
/// node, so a member that takes it for the leader would do so for ever. Not a denial, which makes the receiver stand at
/// once: the group may be about to be deleted.
pub(crate) fn absent(message: &Message) -> Option<Message> {
    takes_for_leader(&message.body).then_some(Message {
        term: message.term,
        body: Body::Seek,
    })
}

/// Whether the sender of this may take its receiver for the leader. It answers to a leader: what was sent by this
/// member when it led may have arrived late. Or it has refused a candidate because it believes in this member, and
/// asks.
fn takes_for_leader(body: &Body) -> bool {
    matches!(
        body,
        Body::AppendAccepted { .. } | Body::AppendRejected { .. } | Body::HeartbeatReply { .. }
    )
}

/// "I don't lead any more": a request for a pre-vote for the next term. From the believed leader it proves just that;
/// and it names an empty log, so that it promises nothing and nobody who holds an entry grants it.
fn denial(term: Term) -> Message {
    Message {
        term: term.next(),
        body: Body::PreVote {
            last_index: LogIndex::ZERO,
            last_term: Term::ZERO,
        },
    }
}
