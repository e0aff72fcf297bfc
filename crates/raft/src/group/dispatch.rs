//! What other members say, handed on to where it is understood.

use super::following::Append;
use super::replication::Accepted;
use super::snapshot::Marks;
use super::{ABSURD, Group, Position, Sabotage, Step};
use crate::{Body, Message, NodeId, Term};

impl Group {
    pub(super) fn on_message(&mut self, step: &mut Step, from: NodeId, message: Message) {
        let Message { term, body } = message;
        if term.0 >= ABSURD || from == self.id {
            return;
        }
        match body {
            Body::PreVote { last_index, last_term } => {
                let theirs = Position {
                    term: last_term,
                    index: last_index,
                };
                self.on_pre_vote(step, from, term, theirs);
            }
            Body::Vote {
                last_index,
                last_term,
                transfer,
            } => {
                let theirs = Position {
                    term: last_term,
                    index: last_index,
                };
                self.on_vote(step, from, term, theirs, transfer);
            }
            Body::Append {
                prev_index,
                prev_term,
                commit,
                replicated_index,
                entries,
            } => {
                let append = Append {
                    prev: Position {
                        term: prev_term,
                        index: prev_index,
                    },
                    commit,
                    replicated_index,
                    entries,
                };
                self.on_append(step, from, term, append);
            }
            Body::Heartbeat { commit, round } => self.on_heartbeat(step, from, term, commit, round),
            Body::Snapshot {
                snapshot,
                commit,
                replicated_index,
            } => self.on_snapshot(
                step,
                from,
                term,
                *snapshot,
                Marks {
                    commit,
                    replicated_index,
                },
            ),
            Body::Rejoin { since, life } => self.on_rejoin(step, from, term, since, life),
            Body::Seek => self.on_seek(step, from, term),
            Body::TimeoutNow => self.on_timeout_now(step, from, term),
            // Also from those whom it doesn't know (any more).
            Body::HeartbeatReply { round, .. } if self.is_questioned(term, round) => self.disclaim(step, from, term),
            answer => self.on_answer(step, from, term, answer),
        }
    }

    /// Answers count only from those whom this member knows: it has asked nobody else.
    fn on_answer(&mut self, step: &mut Step, from: NodeId, term: Term, answer: Body) {
        let Some(peer) = self.peer_at(from) else { return };
        match answer {
            // Pre-votes are about terms that nobody has entered.
            Body::PreVoteReply { granted: true, .. } => self.on_pre_vote_granted(step, peer, term),
            Body::PreVoteReply {
                granted: false,
                longer_log,
            } => self.on_pre_vote_refused(step, peer, term, longer_log),
            Body::AppendAccepted {
                match_index,
                commit,
                life,
            } => {
                let accepted = Accepted {
                    match_index,
                    commit,
                    life,
                };
                if self.is_answer_in_this_term(step, term) || self.is_broken(Sabotage::CountOldAnswers) {
                    self.on_append_accepted(step, peer, accepted);
                }
            }
            _ if !self.is_answer_in_this_term(step, term) => {}
            Body::VoteReply { granted } => self.on_vote_reply(step, peer, granted),
            Body::AppendRejected {
                prev_index,
                hint_index,
                hint_term,
            } => {
                let hint = Position {
                    term: hint_term,
                    index: hint_index,
                };
                self.on_append_rejected(step, peer, prev_index, hint);
            }
            Body::HeartbeatReply { commit, round } => self.on_heartbeat_reply(step, peer, commit, round),
            Body::Lost { life } => self.on_lost(step, peer, life),
            Body::PreVote { .. }
            | Body::Vote { .. }
            | Body::Append { .. }
            | Body::Heartbeat { .. }
            | Body::Snapshot { .. }
            | Body::Rejoin { .. }
            | Body::Seek
            | Body::TimeoutNow => {}
        }
    }

    /// "If RPC request or response contains term T > currentTerm: set currentTerm = T, convert to follower" (Raft
    /// paper, figure 2). An answer of an earlier term is about a leadership or a candidacy that has ended.
    fn is_answer_in_this_term(&mut self, step: &mut Step, term: Term) -> bool {
        if term > self.hard.term {
            self.enter_term(term);
            self.become_leaderless(step);
        }
        term == self.hard.term
    }
}
