//! The laws that one member alone can break.

use super::{Law, Member, Reaction, Violation};
use trimaran_raft::{Body, Entry, Event, Instant, LogIndex, LogView, Message, NodeId, Term, TermAt};

impl Member {
    pub(super) fn judge(
        &mut self,
        now: Instant,
        commit_before: LogIndex,
        reaction: &Reaction,
    ) -> Result<(), Violation> {
        let (id, commit) = (self.group.id(), self.group.commit());
        if commit < commit_before {
            return Law::CommitRises.broken(format!("{id}: from {commit_before} to {commit}"));
        }
        if self.group.deadline().is_some_and(|due| due <= now) {
            return Law::WhatIsDueIsDone
                .broken(format!("{id} is due at {:?}, and it is {now:?}", self.group.deadline()));
        }
        for (to, message) in &reaction.sent {
            self.judge_promise(*to, message)?;
        }
        if reaction
            .events
            .iter()
            .any(|event| matches!(event, Event::Serving { .. }))
        {
            self.judge_serving(commit_before)?;
        }
        Ok(())
    }

    fn judge_promise(&mut self, to: NodeId, message: &Message) -> Result<(), Violation> {
        let id = self.group.id();
        match &message.body {
            Body::Vote { .. } => self.judge_vote(message.term, id),
            Body::VoteReply { granted: true } => self.judge_vote(message.term, to),
            Body::AppendAccepted { match_index, .. } => {
                let is_durable = self.disk.hard_state.term >= message.term;
                let on_disk = self.disk.log.term_at(*match_index);
                // What a snapshot has replaced was committed.
                let is_replaced = self.log.term_at(*match_index) == TermAt::Compacted;
                let is_same = is_replaced || on_disk == self.log.term_at(*match_index);
                if is_durable && is_same && on_disk != TermAt::Missing {
                    return Ok(());
                }
                Law::PromisesAreDurable.broken(format!("{id} acknowledges {match_index} too early"))
            }
            _ => Ok(()),
        }
    }

    /// Its vote for `candidate` in `term` leaves now.
    fn judge_vote(&mut self, term: Term, candidate: NodeId) -> Result<(), Violation> {
        let id = self.group.id();
        let known = self.promised.iter().find(|(known, _)| *known == term);
        if let Some((_, other)) = known.filter(|(_, other)| *other != candidate) {
            return Law::OneVoteATerm.broken(format!("{id} votes for {other} and {candidate} in term {term}"));
        }
        if known.is_none() {
            self.promised.push((term, candidate));
            self.promised.sort();
        }
        if (self.disk.hard_state.term, self.disk.hard_state.vote) != (term, Some(candidate)) {
            return Law::PromisesAreDurable.broken(format!("{id} could forget its vote in term {term}"));
        }
        Ok(())
    }

    fn judge_serving(&self, applied: LogIndex) -> Result<(), Violation> {
        let (id, commit) = (self.group.id(), self.group.commit());
        let own = |entry: &&Entry| entry.term == self.group.term();
        let first = self.entries().iter().find(own).map(|entry| entry.index);
        // A snapshot stands for what comes before the log.
        let applied = applied.max(self.log.first_index().prev());
        match first {
            Some(first) if first <= commit && first.prev() <= applied => Ok(()),
            _ => Law::ServesWhenItMay.broken(format!("{id} serves; its first entry is {first:?}, commit {commit}")),
        }
    }
}
