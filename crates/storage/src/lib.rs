//! Remembers: one journal per broker, one log per replica.
//!
//! # A tour
//!
//! * [`journal`]: the write-ahead journal that all groups of a broker share. One write and one sync make the hard states and
//!   entries of all of them durable. Its files are recycled once nothing in them is needed.
//! * [`log`]: one replica's log. The tail is in memory, committed entries go to segments of record batches behind the
//!   journal; look-up by index, by offset and by timestamp; retention by whole segments.
//! * [`scale`]: index and term on one side, offset and leader epoch on the other, and every conversion between them.
//! * [`start`]: where a log begins, which is what a snapshot of it is.
//! * [`producers`]: what idempotent producers sent last, also where retention has deleted it.
//! * [`fs`]: the file system as both need it; the real one, and a faulty one for tests.
//!
//! What this crate deliberately does not know: which entries are committed (it is told), who leads, threads (its jobs
//! run wherever the caller runs them), clocks (it is given the time), and the meaning of records beyond their
//! batch's header.
//!
//! # Driving it
//!
//! ```
//! use std::{path::Path, sync::Arc};
//! use trimaran_raft::{Entry, GroupId, LogIndex, Payload, Term};
//! use trimaran_storage::fs::faulty::FaultyFs;
//! use trimaran_storage::journal::{Journal, JournalBatch, JournalOptions};
//! use trimaran_storage::log::{LogOptions, ReplicaLog};
//! use trimaran_wire::batch::{self, LeaderEpoch, Offset};
//!
//! let (fs, group) = (Arc::new(FaultyFs::new(1)), GroupId(7));
//! let options = JournalOptions { file_bytes: 1 << 20, max_files: 4 };
//! let (mut journal, mut found) = Journal::open(fs.clone(), Path::new("/journal"), options)?;
//! let recovered = found.remove(&group).unwrap_or_default();
//! let options = LogOptions { segment_bytes: 1 << 30, segment_ms: u64::MAX, tail_bytes: 1 << 20 };
//! let mut log = ReplicaLog::open(fs, Path::new("/logs/7"), group, options, recovered)?;
//! journal.release(group, log.flushed_index())?;
//!
//! // The core wants an entry to be persisted: into the log at once, and into the journal with what others want.
//! let mut records = batch::build(0, &[(None, Some(b"hello"))]);
//! batch::stamp(&mut records, log.next_offset(), LeaderEpoch(1));
//! let entries = [Entry { index: LogIndex(1), term: Term(1), payload: Payload::Data(records.freeze()) }];
//! log.append(&entries)?;
//! let mut batch = JournalBatch::default();
//! batch.entries(group, &entries);
//! journal.write(&batch)?;
//!
//! // It is committed: consumers may read it, and it may go to a segment, after which the journal lets go of it.
//! let upto = log.high_watermark(LogIndex(1));
//! assert_eq!(log.read(Offset(0), upto, 1 << 20)?.len(), 1);
//! let flushed = log.flush(LogIndex(1)).expect("one entry").run()?;
//! journal.release(group, flushed.upto)?;
//! log.flushed(flushed);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod fs;
pub mod journal;
pub mod log;
pub mod producers;
mod sabotage;
pub mod scale;
pub mod start;

#[cfg(feature = "sabotage")]
pub use sabotage::Sabotage;

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct Readme;
