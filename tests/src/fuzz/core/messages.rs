//! Messages made up field by field.

use super::super::pieces::Pieces;
use bytes::Bytes;
use trimaran_raft::{
    Body, Configuration, Entry, Group, Life, LogIndex, LogView, Message, NodeId, Payload, Snapshot, Term,
};

/// What the receiver knows: numbers near these are where it decides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    term: u64,
    commit: u64,
    first: u64,
    last: u64,
}

impl Known {
    pub(super) fn of(group: &Group, log: &dyn LogView) -> Known {
        Known {
            term: group.term().0,
            commit: group.commit().0,
            first: log.first_index().0,
            last: log.last_index().0,
        }
    }
}

/// How many kinds of messages there are.
pub(super) const KINDS: u8 = 14;

/// One message, of whatever kind and content the next bytes say. `data` makes the payloads of entries.
pub(super) fn message(pieces: &mut Pieces<'_>, known: Known, data: fn(&mut Pieces<'_>) -> Bytes) -> Message {
    let mut fields = Fields { pieces, known, data };
    let term = fields.term();
    let body = fields.body();
    Message { term, body }
}

struct Fields<'a, 'b> {
    pieces: &'a mut Pieces<'b>,
    known: Known,
    data: fn(&mut Pieces<'_>) -> Bytes,
}

impl Fields<'_, '_> {
    /// Two above or below at most, a small one, or an absurd one.
    fn number(&mut self, near: u64) -> u64 {
        match self.pieces.u8() {
            byte @ 0..=9 => (near + 2).saturating_sub(u64::from(byte % 5)),
            byte @ 10..=99 => u64::from(byte - 10),
            100 => u64::MAX,
            101 => u64::MAX - 1,
            102 => 1 << 62,
            103 => (1 << 62) - 1,
            104 => (1 << 62) - 2,
            105 => 1 << 32,
            byte => near + u64::from(byte - 105),
        }
    }

    fn term(&mut self) -> Term {
        Term(self.number(self.known.term))
    }

    fn index(&mut self) -> LogIndex {
        let Known {
            commit, first, last, ..
        } = self.known;
        let near = [commit, first, last][usize::from(self.pieces.u8() % 3)];
        LogIndex(self.number(near))
    }

    fn flag(&mut self) -> bool {
        self.pieces.u8() % 2 == 1
    }

    fn life(&mut self) -> Life {
        Life(self.number(1))
    }

    fn nodes(&mut self) -> Vec<NodeId> {
        let count = self.pieces.u8() % 5;
        (0..count).map(|_| NodeId(u64::from(self.pieces.u8() % 6))).collect()
    }

    fn configuration(&mut self) -> Configuration {
        let (voters, outgoing, learners) = (self.nodes(), self.nodes(), self.nodes());
        Configuration {
            voters,
            outgoing,
            learners,
        }
    }

    /// In a row from there on, as the decoder gives them, but for a gap now and then.
    fn entries(&mut self, prev: LogIndex) -> Vec<Entry> {
        let count = u64::from(self.pieces.u8() % 9);
        (1..=count)
            .map(|place| self.entry(prev.0.saturating_add(place)))
            .collect()
    }

    fn entry(&mut self, index: u64) -> Entry {
        let (term, kind) = (self.term(), self.pieces.u8());
        let payload = match kind % 8 {
            0 | 1 => Payload::Blank,
            2 => Payload::Configuration(Box::new(self.configuration())),
            _ => Payload::Data((self.data)(self.pieces)),
        };
        let gap = u64::from(kind == 255);
        let index = LogIndex(index.saturating_add(gap));
        Entry { index, term, payload }
    }

    fn body(&mut self) -> Body {
        match self.pieces.u8() % KINDS {
            0 => Body::PreVote {
                last_index: self.index(),
                last_term: self.term(),
            },
            1 => Body::PreVoteReply {
                granted: self.flag(),
                longer_log: self.flag(),
            },
            2 => Body::Vote {
                last_index: self.index(),
                last_term: self.term(),
                transfer: self.flag(),
            },
            3 => Body::VoteReply { granted: self.flag() },
            4 => self.append(),
            5 => Body::AppendAccepted {
                match_index: self.index(),
                commit: self.index(),
                life: self.life(),
            },
            6 => Body::AppendRejected {
                prev_index: self.index(),
                hint_index: self.index(),
                hint_term: self.term(),
            },
            7 => Body::Heartbeat {
                commit: self.index(),
                round: self.number(1),
            },
            8 => Body::HeartbeatReply {
                commit: self.index(),
                round: self.number(1),
            },
            9 => self.snapshot(),
            10 => Body::Lost { life: self.life() },
            11 => Body::Rejoin {
                since: self.index(),
                life: self.life(),
            },
            12 => Body::Seek,
            _ => Body::TimeoutNow,
        }
    }

    fn append(&mut self) -> Body {
        let prev_index = self.index();
        Body::Append {
            prev_index,
            prev_term: self.term(),
            commit: self.index(),
            replicated_index: self.index(),
            entries: self.entries(prev_index),
        }
    }

    fn snapshot(&mut self) -> Body {
        let snapshot = Box::new(Snapshot {
            index: self.index(),
            term: self.term(),
            configuration: self.configuration(),
            data: Bytes::copy_from_slice(self.pieces.piece()),
        });
        Body::Snapshot {
            snapshot,
            commit: self.index(),
            replicated_index: self.index(),
        }
    }
}
