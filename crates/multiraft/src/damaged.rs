//! A replica that takes no part: its log can't be opened for now, contradicts its core, or was found damaged a moment
//! ago.
//!
//! It neither votes nor leads, since it doesn't hold what it once promised to hold; the others elect without it. Its
//! node lives, though, and says so by heartbeats for all of its groups at once, so whoever takes this replica for the
//! leader would do so for ever. Hence the one thing that it says, to whoever may take it for the leader: that it isn't.

#[cfg(test)]
mod tests;

use crate::mailbox::{GroupStatus, Outbox};
use trimaran_raft::{Body, GroupId, Input as CoreInput, LogIndex, Message, NodeId, Role, Term};
use trimaran_storage::journal::RecoveredGroup;
use trimaran_storage::scale::HighWatermark;
use trimaran_wire::batch::Offset;

/// A replica whose log can't be opened for now. What the journal has of it is kept there: its vote is not forgotten.
pub struct Damaged {
    /// The group.
    pub group: GroupId,
    /// All voters, the preferred leader first.
    pub voters: Vec<NodeId>,
    /// What the journal had of it.
    pub recovered: RecoveredGroup,
}

impl Damaged {
    pub(crate) fn silence(&self, own: NodeId) -> Silence<'_> {
        Silence {
            own,
            group: self.group,
            voters: &self.voters,
            term: self.recovered.hard_state.term,
        }
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
            size_bytes: 0,
        }
    }
}

/// How a member behaves that takes no part.
pub(crate) struct Silence<'a> {
    pub(crate) own: NodeId,
    pub(crate) group: GroupId,
    pub(crate) voters: &'a [NodeId],
    /// No lower than any term that it has led.
    pub(crate) term: Term,
}

impl Silence<'_> {
    /// Tells everybody.
    pub(crate) fn begin(&self, out: &mut Outbox) {
        self.deny(|_| true, out);
    }

    /// Breaks the silence where somebody may take this member for the leader.
    pub(crate) fn hear(&self, input: &CoreInput, out: &mut Outbox) {
        match input {
            // It may have missed what was said.
            CoreInput::Restored(node) => self.deny(|voter| voter == *node, out),
            CoreInput::Message(from, message) => self.hear_message(*from, &message.body, out),
            _ => {}
        }
    }

    fn hear_message(&self, from: NodeId, body: &Body, out: &mut Outbox) {
        match body {
            // It answers to a leader: what this member sent when it led may arrive late. Or it has refused a candidate
            // because it believes in this member, and asks.
            Body::AppendAccepted { .. } | Body::AppendRejected { .. } | Body::HeartbeatReply { .. } => {
                self.deny(|voter| voter == from, out);
            }
            _ => {}
        }
    }

    fn deny(&self, to: impl Fn(NodeId) -> bool, out: &mut Outbox) {
        for &voter in self.voters.iter().filter(|&&voter| voter != self.own && to(voter)) {
            out.send(voter, self.group, denial(self.term));
        }
    }
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
