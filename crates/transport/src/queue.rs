//! What waits to be sent to one peer: bounded, and dropping the oldest rather than growing.

use crate::frame::length_of;
use crate::statistics::{add, subtract};
use crate::{LinkLimits, LinkStatistics};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The frames that wait for one peer. Many threads put in, one link takes out.
pub(crate) struct FrameQueue {
    waiting: Mutex<Waiting>,
    /// There is something to take.
    filled: Notify,
    max_frames: usize,
    max_bytes: usize,
    max_frame_bytes: usize,
    statistics: Arc<LinkStatistics>,
}

/// Urgent frames that wait, at most. They are signs of life: of more than a few, all but the newest are out of date.
const MAX_URGENT: usize = 16;

struct Waiting {
    /// Taken before all others.
    urgent: VecDeque<Vec<Bytes>>,
    frames: VecDeque<Vec<Bytes>>,
    /// Bytes in both.
    bytes: usize,
    /// Shut: what is put in is dropped.
    open: bool,
}

impl FrameQueue {
    /// An open, empty queue.
    pub(crate) fn new(limits: &LinkLimits, statistics: Arc<LinkStatistics>) -> FrameQueue {
        FrameQueue {
            waiting: Mutex::new(Waiting {
                urgent: VecDeque::new(),
                frames: VecDeque::new(),
                bytes: 0,
                open: true,
            }),
            filled: Notify::new(),
            max_frames: limits.queue_frames.max(1),
            max_bytes: limits.queue_bytes,
            max_frame_bytes: limits.max_frame_bytes,
            statistics,
        }
    }

    /// Puts a frame in, dropping the oldest ones if there is no room; one that is longer than the queue waits alone. Says
    /// whether the frame is in.
    pub(crate) fn put(&self, chunks: Vec<Bytes>) -> bool {
        let length = length_of(&chunks);
        let mut waiting = self.lock();
        if !waiting.open || length > self.max_frame_bytes {
            self.count_dropped(1, length);
            return false;
        }
        while waiting.frames.len() >= self.max_frames || waiting.bytes + length > self.max_bytes {
            let Some(oldest) = waiting.frames.pop_front() else {
                break;
            };
            let freed = length_of(&oldest);
            waiting.bytes -= freed;
            subtract(&self.statistics.queued_bytes, freed);
            self.count_dropped(1, freed);
        }
        waiting.frames.push_back(chunks);
        waiting.bytes += length;
        add(&self.statistics.queued_bytes, length);
        drop(waiting);
        self.filled.notify_one();
        true
    }

    /// Puts a frame in before all that are not urgent. Says whether it is in.
    pub(crate) fn put_urgent(&self, chunks: Vec<Bytes>) -> bool {
        let length = length_of(&chunks);
        let mut waiting = self.lock();
        if !waiting.open || length > self.max_frame_bytes {
            self.count_dropped(1, length);
            return false;
        }
        if waiting.urgent.len() >= MAX_URGENT
            && let Some(oldest) = waiting.urgent.pop_front()
        {
            let freed = length_of(&oldest);
            waiting.bytes -= freed;
            subtract(&self.statistics.queued_bytes, freed);
            self.count_dropped(1, freed);
        }
        waiting.urgent.push_back(chunks);
        waiting.bytes += length;
        add(&self.statistics.queued_bytes, length);
        drop(waiting);
        self.filled.notify_one();
        true
    }

    /// Takes frames, the urgent and then the oldest first, until they are at least `enough` bytes or none is left.
    pub(crate) fn take(&self, enough: usize) -> Vec<Vec<Bytes>> {
        let mut waiting = self.lock();
        let mut taken = Vec::new();
        let mut bytes = 0;
        while bytes < enough {
            let urgent = waiting.urgent.pop_front();
            let Some(frame) = urgent.or_else(|| waiting.frames.pop_front()) else {
                break;
            };
            bytes += length_of(&frame);
            taken.push(frame);
        }
        waiting.bytes -= bytes;
        subtract(&self.statistics.queued_bytes, bytes);
        taken
    }

    /// Waits until something was put in since the last call; may return once too often.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Lets frames in.
    pub(crate) fn open(&self) {
        self.lock().open = true;
    }

    /// Drops everything, and from now on whatever comes: it would be old news by the time that the peer is back.
    pub(crate) fn shut(&self) {
        let mut waiting = self.lock();
        waiting.open = false;
        let (frames, bytes) = (waiting.urgent.len() + waiting.frames.len(), waiting.bytes);
        waiting.urgent.clear();
        waiting.frames.clear();
        waiting.bytes = 0;
        subtract(&self.statistics.queued_bytes, bytes);
        self.count_dropped(frames, bytes);
    }

    fn count_dropped(&self, frames: usize, bytes: usize) {
        add(&self.statistics.dropped_frames, frames);
        add(&self.statistics.dropped_bytes, bytes);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    fn queue(queue_frames: usize, queue_bytes: usize) -> FrameQueue {
        let limits = LinkLimits {
            queue_frames,
            queue_bytes,
            max_frame_bytes: 10,
            ..LinkLimits::default()
        };
        FrameQueue::new(&limits, Arc::default())
    }

    fn frame(text: &'static str) -> Vec<Bytes> {
        vec![Bytes::from_static(text.as_bytes())]
    }

    /// Dropped frames and bytes, and queued bytes.
    fn counts(queue: &FrameQueue) -> (u64, u64, u64) {
        let LinkStatistics {
            dropped_frames,
            dropped_bytes,
            queued_bytes,
            ..
        } = &*queue.statistics;
        let value = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        (value(dropped_frames), value(dropped_bytes), value(queued_bytes))
    }

    #[test]
    fn too_many_frames_drop_the_oldest() {
        let queue = queue(2, 100);
        assert!(queue.put(frame("a")) && queue.put(frame("bb")) && queue.put(frame("ccc")));
        assert_eq!(counts(&queue), (1, 1, 5));
        assert_eq!(queue.take(100), [frame("bb"), frame("ccc")]);
        assert_eq!(counts(&queue), (1, 1, 0));
    }

    #[test]
    fn too_many_bytes_drop_as_many_as_it_takes() {
        let queue = queue(100, 6);
        assert!(queue.put(frame("aa")) && queue.put(frame("bb")) && queue.put(frame("cc")));
        assert!(queue.put(frame("ddd")));
        assert_eq!(counts(&queue), (2, 4, 5));
        assert_eq!(queue.take(100), [frame("cc"), frame("ddd")]);
    }

    #[test]
    fn a_frame_longer_than_the_queue_waits_alone() {
        let queue = queue(100, 6);
        assert!(queue.put(frame("aa")) && queue.put(frame("7 bytes")));
        assert_eq!(counts(&queue), (1, 2, 7));
        assert!(queue.put(frame("b")));
        assert_eq!(counts(&queue), (2, 9, 1));
        assert_eq!(queue.take(100), [frame("b")]);
    }

    #[test]
    fn a_frame_that_no_peer_takes_drops_nothing_but_itself() {
        let queue = queue(100, 6);
        assert!(queue.put(frame("aa")));
        assert!(!queue.put(frame("eleven char")) && !queue.put_urgent(frame("eleven char")));
        assert_eq!(counts(&queue), (2, 22, 2));
        assert_eq!(queue.take(100), [frame("aa")]);
    }

    #[test]
    fn shut_it_keeps_nothing() {
        let queue = queue(100, 100);
        assert!(queue.put(frame("aa")));
        queue.shut();
        assert!(!queue.put(frame("b")));
        assert_eq!(counts(&queue), (2, 3, 0));
        assert!(queue.take(100).is_empty());
        queue.open();
        assert!(queue.put(frame("c")));
    }

    #[test]
    fn urgent_frames_overtake_the_others_and_push_out_only_each_other() {
        let queue = queue(2, 100);
        assert!(queue.put(frame("a")) && queue.put(frame("bb")));
        for _ in 0..MAX_URGENT {
            assert!(queue.put_urgent(frame("old")));
        }
        assert!(queue.put_urgent(frame("new")));
        assert_eq!(counts(&queue), (1, 3, 3 + 3 * MAX_URGENT as u64));
        let taken = queue.take(1000);
        assert_eq!(taken.len(), MAX_URGENT + 2);
        assert_eq!(taken[MAX_URGENT - 1..], [frame("new"), frame("a"), frame("bb")]);
        queue.shut();
        assert!(!queue.put_urgent(frame("late")));
        assert_eq!(counts(&queue).2, 0);
    }

    #[test]
    fn taking_stops_when_it_is_enough() {
        let queue = queue(100, 100);
        for text in ["aa", "bb", "cc"] {
            queue.put(frame(text));
        }
        assert_eq!(queue.take(3), [frame("aa"), frame("bb")]);
        assert_eq!(queue.take(3), [frame("cc")]);
        assert!(queue.take(3).is_empty());
    }
}
