//! The receiver's side of replication: taking entries over, and saying what is held.

use super::{ABSURD, Group, Position, Sabotage, Step};
use crate::{Body, Entry, Event, LogIndex, NodeId, Payload, Role, SafetyViolation, Term, TermAt};
use alloc::vec::Vec;
use core::mem;

/// What a follower knows of the current term's leader and its log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Following {
    /// This member's log agrees with the leader's up to here. Within a term it never falls: a leader only appends.
    verified: LogIndex,
    /// The highest commit index that the leader has named in this term; it may lie beyond what is held here.
    leader_commit: LogIndex,
    /// The last agreement that was reported in this term.
    reported: LogIndex,
    /// The leader waits for a report.
    report_owed: bool,
    /// When the leader was last heard.
    pub(super) heard: crate::Instant,
}

impl Following {
    /// Another term has another leader with another log.
    pub(super) fn begin_term(&mut self) {
        *self = Following {
            heard: self.heard,
            ..Following::default()
        };
    }
}

/// An Append, unpacked. See [`Body::Append`].
pub(super) struct Append {
    pub(super) prev: Position,
    pub(super) commit: LogIndex,
    pub(super) replicated_index: LogIndex,
    pub(super) entries: Vec<Entry>,
}

impl Append {
    /// Where the leader's log reaches as far as this message tells.
    fn end(&self) -> LogIndex {
        self.entries.last().map_or(self.prev.index, |entry| entry.index)
    }

    /// Whether an honest leader of that term could have sent it: entries without gaps, terms that don't fall.
    fn is_sound(&self, term: Term) -> bool {
        let mut last = self.prev;
        if last.index.0 >= ABSURD {
            return false;
        }
        for entry in &self.entries {
            if entry.index != last.index.next() || entry.term < last.term {
                return false;
            }
            if let Payload::Configuration(configuration) = &entry.payload
                && configuration.check().is_err()
            {
                return false;
            }
            last = Position {
                term: entry.term,
                index: entry.index,
            };
        }
        last.term <= term
    }
}

/// Where a follower's log and an append part.
enum Meeting {
    /// All of the append's entries are held.
    Contained,
    /// The append goes on from the end of the log: its entries from this one on are new.
    Extends(LogIndex),
    /// This entry of the log is not the leader's, nor what follows it.
    Conflicts(LogIndex),
    /// It contradicts what is committed here, where the log holds an entry of this term: no honest leader sends that.
    Impossible { sent: Position, held: Term },
}

impl Group {
    /// AppendEntries (Raft paper, section 5.3).
    pub(super) fn on_append(&mut self, step: &mut Step, from: NodeId, term: Term, append: Append) {
        if !append.is_sound(term) {
            return;
        }
        if term < self.hard.term {
            if self.is_broken(Sabotage::HideTerm) {
                return;
            }
            return self.reject(step, from, append.prev);
        }
        if !self.accept_leader(step, from, term) || self.says_lost(step, from) {
            return;
        }
        if self.is_broken(Sabotage::CommitUnverified) {
            self.following.leader_commit = append.commit;
            self.following.verified = append.commit.min(self.last.index);
            self.raise_follower_commit();
        }
        let invents = self.is_broken(Sabotage::InventTerms) && append.prev.term == Term::ZERO;
        match self.term_at(step, append.prev.index) {
            _ if invents => {}
            TermAt::Known(held) if held == append.prev.term => {}
            // What is committed here is in every later leader's log.
            TermAt::Known(held) if append.prev.index <= self.commit => {
                return report_difference(step, from, term, append.prev, held);
            }
            TermAt::Compacted if append.prev.index <= self.commit => {}
            TermAt::Known(_) | TermAt::Compacted | TermAt::Missing => return self.reject(step, from, append.prev),
        }
        self.take_over(step, from, term, append);
    }

    /// Whether `from` is to be believed that it leads this term; if so, it is followed from now on.
    pub(super) fn accept_leader(&mut self, step: &mut Step, from: NodeId, term: Term) -> bool {
        if term > self.hard.term {
            self.enter_term(term);
        }
        // Being heard is no refutation: what a hanging leader sends may not end the candidacy against it before the
        // others have voted. What is lost comes again.
        if self.role == Role::PreCandidate && self.distrusts(from) {
            return false;
        }
        // None in the first term: this is a broken or forged message.
        if term == Term::ZERO {
            return false;
        }
        // At most one a term (Raft paper, figure 3: Election Safety).
        if let Some(first) = self.leader.filter(|leader| *leader != from) {
            let violation = SafetyViolation::SecondLeader { first };
            step.event(Event::SafetyViolated {
                leader: from,
                term,
                violation,
            });
            return false;
        }
        self.heed_leader(step, from);
        true
    }

    /// Appends what is new, and truncates what conflicts, and only that: a late append with fewer entries than the log
    /// has is no reason to delete ("if an existing entry conflicts with a new one", Raft paper, figure 2).
    fn take_over(&mut self, step: &mut Step, from: NodeId, term: Term, mut append: Append) {
        let end = append.end().max(self.commit);
        let new_from = match self.meeting(step, &append.entries) {
            Meeting::Impossible { sent, held } => return report_difference(step, from, term, sent, held),
            Meeting::Contained if end < self.last.index && self.is_broken(Sabotage::TruncateWithoutConflict) => {
                self.last = Position {
                    index: end,
                    ..self.last
                };
                self.write.truncate(end.next(), step.log.last_index());
                self.take_configurations_back(end.next());
                None
            }
            Meeting::Contained => None,
            Meeting::Extends(from) => Some(from),
            Meeting::Conflicts(from) => {
                self.truncate(step, from);
                Some(from)
            }
        };
        if let Some(from) = new_from {
            let held = append.entries.partition_point(|entry| entry.index < from);
            append.entries.drain(..held);
            self.append(mem::take(&mut append.entries));
        }
        self.agree_upto(end, append.commit, append.replicated_index);
    }

    /// The log agrees with the leader's up to here.
    pub(super) fn agree_upto(&mut self, end: LogIndex, commit: LogIndex, replicated_index: LogIndex) {
        self.following.verified = self.following.verified.max(end).max(self.commit);
        self.following.leader_commit = self.following.leader_commit.max(commit);
        self.raise_follower_commit();
        self.replicated_index = self.replicated_index.max(replicated_index.min(self.commit));
        self.following.report_owed = true;
    }

    /// Says to the leader where this member stands.
    pub(super) fn owe_a_report(&mut self) {
        self.agree_upto(self.commit, LogIndex::ZERO, LogIndex::ZERO);
    }

    fn meeting(&self, step: &Step, entries: &[Entry]) -> Meeting {
        for entry in entries {
            if entry.index > self.last.index {
                return Meeting::Extends(entry.index);
            }
            match self.term_at(step, entry.index) {
                TermAt::Known(term) if term == entry.term => {}
                // Only committed entries are ever deleted.
                TermAt::Compacted => {}
                // The place before the first entry is committed, too.
                TermAt::Known(held) if entry.index <= self.commit || entry.index < step.log.first_index() => {
                    let (term, index) = (entry.term, entry.index);
                    let sent = Position { term, index };
                    return Meeting::Impossible { sent, held };
                }
                TermAt::Known(_) | TermAt::Missing => return Meeting::Conflicts(entry.index),
            }
        }
        Meeting::Contained
    }

    fn truncate(&mut self, step: &mut Step, from: LogIndex) {
        assert!(from > self.commit, "a committed entry is never deleted");
        self.write.truncate(from, step.log.last_index());
        self.take_configurations_back(from);
        step.event(Event::Truncated { from });
    }

    /// Nothing follows what was truncated, for now.
    pub(super) fn cut_off(&mut self, step: &mut Step, from: LogIndex) {
        let TermAt::Known(term) = self.term_at(step, from.prev()) else {
            return;
        };
        self.truncate(step, from);
        self.last = Position {
            term,
            index: from.prev(),
        };
    }

    /// Adds entries to this step's write.
    pub(super) fn append(&mut self, entries: Vec<Entry>) {
        let Some(last) = entries.last() else { return };
        self.last = Position {
            term: last.term,
            index: last.index,
        };
        self.note_configurations(&entries);
        if self.write.entries.is_empty() {
            self.write.entries = entries;
        } else {
            self.write.entries.extend(entries);
        }
    }

    /// Says where the logs may agree, so that one round suffices even if they differ in many entries: nothing of a
    /// later term than `prev`'s can be the leader's there, and what is committed surely is.
    pub(super) fn reject(&mut self, step: &mut Step, from: NodeId, prev: Position) {
        let upto = prev.index.prev().min(self.last.index);
        let agreed = self
            .last_index_with_term_at_most(step, prev.term, upto)
            .max(self.commit);
        let hint_term = match self.term_at(step, agreed) {
            TermAt::Known(term) => term,
            TermAt::Compacted | TermAt::Missing => prev.term,
        };
        let rejected = Body::AppendRejected {
            prev_index: prev.index,
            hint_index: agreed,
            hint_term,
        };
        step.send(from, self.hard.term, rejected);
    }

    pub(super) fn on_heartbeat(&mut self, step: &mut Step, from: NodeId, term: Term, commit: LogIndex, round: u64) {
        let is_current = term >= self.hard.term;
        if is_current && (!self.accept_leader(step, from, term) || self.says_lost(step, from)) {
            return;
        }
        if is_current {
            self.following.leader_commit = self.following.leader_commit.max(commit);
            self.raise_follower_commit();
        }
        step.send(
            from,
            self.hard.term,
            Body::HeartbeatReply {
                commit: self.commit,
                round,
            },
        );
    }

    /// What the leader has committed is committed here as far as it is the same log, and on this disk. (The last
    /// is stricter than the paper; so no entry can be written behind the journal before its term is in it.)
    fn raise_follower_commit(&mut self) {
        let Following {
            verified,
            leader_commit,
            ..
        } = self.following;
        let durable = match self.write.replaces() {
            true => self.commit,
            false => self.durability.index(),
        };
        self.raise_commit(leader_commit.min(verified).min(durable));
    }

    /// Reports agreement as far as it is durable. A report that the disk holds up is sent in parts, as it proceeds.
    pub(super) fn settle_following(&mut self, step: &mut Step) {
        if self.role != Role::Follower {
            return;
        }
        let Some(leader) = self.leader else { return };
        self.raise_follower_commit();
        let at_once = self.is_broken(Sabotage::AcknowledgeAtOnce);
        // What this step appends can't be reported yet; what its disk has just answered for can.
        let may = self.write.is_empty() || self.disk_has_advanced() && !self.write.replaces();
        let is_durable = at_once || may && self.hard_state_is_durable();
        if !self.following.report_owed || !is_durable {
            return;
        }
        let durable = if at_once {
            self.last.index
        } else {
            self.durability.index()
        };
        let match_index = self.following.verified.min(durable);
        let is_all = match_index == self.following.verified;
        if is_all || match_index > self.following.reported {
            self.following.reported = match_index;
            self.following.report_owed = !is_all;
            let accepted = Body::AppendAccepted {
                match_index,
                commit: self.commit,
                life: self.hard.life,
            };
            step.send(leader, self.hard.term, accepted);
        }
    }
}

/// The leader's log has another entry than the committed one that is held here.
pub(super) fn report_difference(step: &mut Step, leader: NodeId, term: Term, sent: Position, held: Term) {
    let violation = SafetyViolation::CommittedEntryDiffers {
        index: sent.index,
        committed: held,
        sent: sent.term,
    };
    step.event(Event::SafetyViolated {
        leader,
        term,
        violation,
    });
}
