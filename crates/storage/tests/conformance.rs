//! A replica's log answers the core's questions as `trimaran_raft::LogView` documents: from memory and from segments.

use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use trimaran_raft::conformance::{TestLog, check};
use trimaran_raft::{GroupId, LogIndex, LogView, Payload, Persist, Term, TermAt};
use trimaran_storage::fs::faulty::FaultyFs;
use trimaran_storage::journal::RecoveredGroup;
use trimaran_storage::log::{LogOptions, ReplicaLog, Retention};
use trimaran_storage::offsets::{LogEnd, leader_epoch};
use trimaran_storage::snapshot::LogStart;
use trimaran_wire::batch::{self, BatchHeader, Offset};

struct Replica {
    log: ReplicaLog,
    /// The offset behind each entry that is not flushed yet, by its index.
    ends: Vec<(LogIndex, Offset)>,
}

impl Replica {
    fn new(tail_bytes: u64) -> Replica {
        let options = LogOptions {
            segment_bytes: 600,
            segment_ms: u64::MAX,
            tail_bytes,
        };
        let (fs, dir) = (Arc::new(FaultyFs::new(1)), Path::new("/partitions/7"));
        let log = ReplicaLog::open(fs, dir, GroupId(7), options, RecoveredGroup::default());
        Replica {
            log: log.expect("an empty folder"),
            ends: vec![(LogIndex::ZERO, Offset(0))],
        }
    }

    fn offset_behind(&self, index: LogIndex) -> Offset {
        let before = self.ends.iter().rev().find(|(at, _)| *at <= index);
        before.expect("offsets are known from the start on").1
    }
}

impl TestLog for Replica {
    fn apply(&mut self, write: &Persist) {
        if let Some(reset) = &write.reset {
            let end = LogEnd {
                index: reset.index,
                term: reset.term,
                offset: self.log.next_offset(),
            };
            self.ends = vec![(end.index, end.offset)];
            self.log.reset(LogStart {
                end,
                configuration: reset.configuration.clone(),
                producers: Vec::new(),
            });
        }
        if let Some(from) = write.truncate_from {
            self.log.truncate_from(from);
            self.ends.retain(|(index, _)| *index < from);
        }
        self.log.append(&write.entries).expect("they continue the log");
        for entry in &write.entries {
            let before = self.offset_behind(entry.index.prev());
            let end = next_offset(before, &entry.payload);
            self.ends.push((entry.index, end));
        }
    }

    fn compact(&mut self, upto: LogIndex) {
        let all = Retention {
            bytes: Some(0),
            ms: Some(0),
        };
        self.log
            .retain(i64::MAX, &all, upto, |_| Vec::new())
            .expect("segments are deleted");
    }

    fn committed(&mut self, upto: LogIndex) {
        if let Some(job) = self.log.flush(upto) {
            self.log.flushed(job.run().expect("segments are written"));
        }
    }

    fn payload(&mut self, write: &Persist, term: Term, bytes: usize) -> Bytes {
        let behind = match (&write.reset, write.truncate_from) {
            (Some(_), _) => self.log.next_offset(),
            (None, Some(from)) => self.offset_behind(from.prev()),
            (None, None) => self.log.next_offset(),
        };
        let base = write
            .entries
            .iter()
            .fold(behind, |end, entry| next_offset(end, &entry.payload));
        let value = vec![0; bytes];
        let mut records = batch::build(1000, &[(None, Some(value.as_slice()))]);
        batch::stamp(&mut records, base, leader_epoch(term));
        records.freeze()
    }

    fn counts_exactly(&self, index: LogIndex) -> bool {
        self.log.is_in_memory(index)
    }
}

fn next_offset(base: Offset, payload: &Payload) -> Offset {
    match payload {
        Payload::Data(records) => BatchHeader::parse(records).expect("a batch").next_offset(),
        Payload::Blank | Payload::Configuration(_) => base,
    }
}

impl LogView for Replica {
    fn first_index(&self) -> LogIndex {
        self.log.first_index()
    }

    fn last_index(&self) -> LogIndex {
        self.log.last_index()
    }

    fn term_at(&self, index: LogIndex) -> TermAt {
        self.log.term_at(index)
    }

    fn last_index_with_term_at_most(&self, term: Term, upto: LogIndex) -> LogIndex {
        self.log.last_index_with_term_at_most(term, upto)
    }

    fn fit(&self, first: LogIndex, last: LogIndex, max_bytes: u64) -> (LogIndex, u64) {
        self.log.fit(first, last, max_bytes)
    }
}

#[test]
fn a_replica_log_conforms() {
    let mut deleted = 0;
    for seed in 0..60 {
        // Without a tail, what is flushed is read from segments only.
        let mut replica = Replica::new([0, 500, 1 << 20][seed as usize % 3]);
        if let Err(divergence) = check(seed, &mut replica) {
            panic!("{divergence}");
        }
        deleted += u64::from(replica.first_index() > LogIndex(1));
    }
    assert!(deleted > 20, "logs that are shortened are among them: {deleted}");
}
