//! A write-ahead journal that many Raft groups share, and one log per replica behind it.
//!
//! # A tour
//!
//! * [`journal`]: the write-ahead journal of all groups of a process. One write and one sync make the hard states and
//!   entries of all of them durable; [`journal::GroupCommit`] shares it between threads. Its files are recycled once
//!   nothing in them is needed.
//! * [`member`]: a whole member of one replicated state machine, with a journal for itself: a thread, snapshots, linearizable reads,
//!   members that come and go. For programs with one group, or a few.
//! * [`fs`]: the file system that they stand on; the real one, and a faulty one for tests.
//!
//! With the feature `segments`, which is on by default, also the logs of a broker's replicas, in Kafka's format:
//!
//! * `log`: one replica's log. The tail is in memory, committed entries go to segments of record batches behind the
//!   journal; look-up by index, by offset and by timestamp; retention by whole segments.
//! * `offsets`: index and term on one side, offset and leader epoch on the other, and every conversion between them.
//! * `snapshot`: where a log begins, which is what a snapshot of it is.
//! * `producers`: what idempotent producers sent last, also where retention has deleted it.
//!
//! What journal and log deliberately do not know: which entries are committed (they are told), who leads, threads (their jobs
//! run wherever the caller runs them), clocks (they are given the time), and the meaning of records beyond their
//! batch's header. [`member`] has a thread and a clock, and knows no sockets.
//!
//! The [README](https://github.com/trimaran/trimaran/tree/main/crates/storage) shows how to drive the journal, and in
//! which order it and a snapshot become durable; `log` shows how to drive both.
#![forbid(unsafe_code)]

mod codec;
pub mod fs;
pub mod journal;
#[cfg(feature = "segments")]
pub mod log;
pub mod member;
#[cfg(feature = "segments")]
pub mod offsets;
#[cfg(feature = "segments")]
pub mod producers;
mod sabotage;
#[cfg(feature = "segments")]
pub mod snapshot;

#[cfg(feature = "sabotage")]
pub use sabotage::Sabotage;

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct Readme;
