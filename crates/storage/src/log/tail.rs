//! The entries that are in memory: all that are not in segments yet, and some that are.

use crate::offsets::LogEnd;
use std::collections::VecDeque;
use std::mem::size_of;
use trimaran_raft::{Entry, LogIndex};
use trimaran_wire::batch::Offset;

/// An entry, and where the log ends with it.
#[derive(Clone, Debug)]
pub(super) struct TailEntry {
    pub(super) entry: Entry,
    /// The offset of its first record; of the next one if it has none.
    pub(super) base: Offset,
    /// The offset after its last record.
    pub(super) next: Offset,
}

impl TailEntry {
    pub(super) fn end(&self) -> LogEnd {
        LogEnd {
            index: self.entry.index,
            term: self.entry.term,
            offset: self.next,
        }
    }

    /// Its share of the memory limit, in bytes.
    fn weight(&self) -> u64 {
        (self.entry.payload.len() + size_of::<TailEntry>()) as u64
    }

    fn payload_bytes(&self) -> u64 {
        self.entry.payload.len() as u64
    }
}

/// Contiguous entries up to the log's end.
#[derive(Debug, Default)]
pub(super) struct Tail {
    entries: VecDeque<TailEntry>,
    /// Payload bytes that are not in segments.
    unflushed_bytes: u64,
    /// Weight of the entries that are also in segments.
    flushed_weight: u64,
    /// Weight of the others.
    unflushed_weight: u64,
}

impl Tail {
    pub(super) fn unflushed_bytes(&self) -> u64 {
        self.unflushed_bytes
    }

    /// What the entries take that are not in segments, and those that are.
    pub(super) fn weights(&self) -> (u64, u64) {
        (self.unflushed_weight, self.flushed_weight)
    }

    pub(super) fn end(&self) -> Option<LogEnd> {
        self.entries.back().map(TailEntry::end)
    }

    pub(super) fn first_index(&self) -> Option<LogIndex> {
        self.entries.front().map(|first| first.entry.index)
    }

    pub(super) fn push(&mut self, entry: TailEntry) {
        self.unflushed_bytes += entry.payload_bytes();
        self.unflushed_weight += entry.weight();
        self.entries.push_back(entry);
    }

    pub(super) fn get(&self, index: LogIndex) -> Option<&TailEntry> {
        self.entries.get(self.place(index)?)
    }

    fn place(&self, index: LogIndex) -> Option<usize> {
        usize::try_from(index.0.checked_sub(self.first_index()?.0)?).ok()
    }

    /// The entries from `first` on, as far as they are here.
    pub(super) fn since(&self, first: LogIndex) -> impl Iterator<Item = &TailEntry> {
        let skipped = self.first_index().map_or(0, |held| first.0.saturating_sub(held.0));
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX).min(self.entries.len());
        self.entries.range(skipped..)
    }

    /// The entries from the one that holds `offset` on; none if that one is not here.
    pub(super) fn holding(&self, offset: Offset) -> Option<impl Iterator<Item = &TailEntry>> {
        if self.entries.front()?.base > offset {
            return None;
        }
        let first = self.entries.partition_point(|entry| entry.next <= offset);
        (first < self.entries.len()).then(|| self.entries.range(first..))
    }

    /// Deletes the entries from `from` on; they must not be in segments.
    pub(super) fn truncate(&mut self, from: LogIndex) {
        while let Some(last) = self.entries.back().filter(|last| last.entry.index >= from) {
            self.unflushed_bytes -= last.payload_bytes();
            self.unflushed_weight -= last.weight();
            self.entries.pop_back();
        }
    }

    /// The entries in `from..=upto` are in segments now.
    pub(super) fn flushed(&mut self, from: LogIndex, upto: LogIndex) {
        let newly: Vec<(u64, u64)> = self
            .since(from)
            .take_while(|entry| entry.entry.index <= upto)
            .map(|entry| (entry.payload_bytes(), entry.weight()))
            .collect();
        for (payload, weight) in newly {
            self.unflushed_bytes -= payload;
            self.unflushed_weight -= weight;
            self.flushed_weight += weight;
        }
    }

    /// Drops the oldest flushed entries that are over the limit, or below `first`.
    pub(super) fn evict(&mut self, first: LogIndex, flushed: LogIndex, limit: u64) {
        while let Some(oldest) = self.entries.front() {
            let index = oldest.entry.index;
            if index > flushed || (index >= first && self.flushed_weight <= limit) {
                break;
            }
            self.flushed_weight -= oldest.weight();
            self.entries.pop_front();
        }
        // An idle replica's tail must not go on taking what a burst took.
        if self.entries.len() * 4 < self.entries.capacity() {
            self.entries.shrink_to_fit();
        }
    }
}
