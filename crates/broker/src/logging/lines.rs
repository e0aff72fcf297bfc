//! Log lines on their way to standard error.
//!
//! Standard error may be a pipe that nobody reads, or a file on a disk that stalls: then a write of it blocks for as long as
//! that lasts. So only one thread writes, and everyone else puts lines into a bounded buffer: logging never waits. Lines for
//! which there is no room are dropped and counted, and a line says so once the others flow again.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Bytes of lines that may wait: some thousand lines, more than a healthy reader is ever behind.
const ROOM_BYTES: usize = 1 << 20;

/// What warnings and errors may take beyond that: a flood of debug lines must not crowd out the lines that say what is wrong.
const RESERVE_BYTES: usize = 64 << 10;

/// The buffer between those who log and the thread that writes.
#[derive(Debug, Default)]
pub(super) struct Lines {
    state: Mutex<State>,
    /// There is something to write.
    filled: Condvar,
    /// A write is done.
    written: Condvar,
    /// Lines dropped since the start.
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// The thread has taken lines and not written them yet.
    is_writing: bool,
    closed: bool,
}

impl Lines {
    /// Appends a line, or drops and counts it. Never blocks for longer than it takes to copy one.
    pub(super) fn push(&self, line: &[u8], urgent: bool) {
        let mut state = self.lock();
        let room = if urgent { ROOM_BYTES + RESERVE_BYTES } else { ROOM_BYTES };
        if state.waiting.len() + line.len() > room {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.waiting.extend_from_slice(line);
        drop(state);
        self.filled.notify_one();
    }

    /// Lines dropped since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until everything is written, at most for so long. False if it is not.
    pub(super) fn flush(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut state = self.lock();
        while !state.waiting.is_empty() || state.is_writing {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let woken = self.written.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Writes what comes in until the buffer is closed and empty. After a write before which lines were dropped, `flows_again`
    /// is told how many since it was told last.
    pub(super) fn write_to(&self, mut out: impl Write, flows_again: impl Fn(u64)) {
        let mut lines = Vec::new();
        let mut told = 0;
        while self.take(&mut lines) {
            // Standard error is closed: there is nobody left to tell.
            let _ = out.write_all(&lines).and_then(|()| out.flush());
            lines.clear();
            self.lock().is_writing = false;
            self.written.notify_all();
            let dropped = self.dropped();
            if dropped > told {
                flows_again(dropped - told);
                told = dropped;
            }
        }
    }

    /// Moves what waits to `into`, which is empty, after waiting for it.
    fn take(&self, into: &mut Vec<u8>) -> bool {
        let mut state = self.lock();
        while state.waiting.is_empty() {
            if state.closed {
                return false;
            }
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(&mut state.waiting, into);
        state.is_writing = true;
        true
    }

    #[cfg(test)]
    fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A way into the buffer for the subscriber that formats lines.
#[derive(Clone, Debug)]
pub(super) struct Sender(pub(super) Arc<Lines>);

/// Takes one line, which is written whole.
pub(super) struct LineWriter<'a> {
    lines: &'a Lines,
    urgent: bool,
}

impl<'a> MakeWriter<'a> for Sender {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter {
            lines: &self.0,
            urgent: false,
        }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> LineWriter<'a> {
        LineWriter {
            lines: &self.0,
            urgent: *metadata.level() <= Level::WARN,
        }
    }
}

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.lines.push(line, self.urgent);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Every write waits until it is let through.
    struct Stalled {
        gate: mpsc::Receiver<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.gate.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            self.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stalled_reader_costs_lines_and_no_time() {
        let lines = Arc::new(Lines::default());
        let (open, gate) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let writer = std::thread::spawn({
            let (lines, written) = (Arc::clone(&lines), Arc::clone(&written));
            move || {
                let out = Stalled { gate, written };
                lines.write_to(out, |dropped| tell.send(dropped).unwrap());
            }
        });
        let line = [b'x'; 1024];
        // Twice the room, beside the room that the writer may have taken.
        let pushed = 4 * (ROOM_BYTES / line.len());
        (0..pushed).for_each(|_| lines.push(&line, false));
        let dropped = lines.dropped();
        assert!(dropped as usize >= pushed / 2, "{dropped} of {pushed}");
        // What is important still fits.
        lines.push(b"important\n", true);
        assert_eq!(lines.dropped(), dropped);
        assert!(!lines.flush(Duration::from_millis(10)), "nobody reads");
        assert!(told.try_recv().is_err(), "nothing flows yet");
        (0..8).for_each(|_| open.send(()).unwrap());
        assert_eq!(told.recv().unwrap(), dropped);
        assert!(lines.flush(Duration::from_secs(10)));
        assert!(written.lock().unwrap().ends_with(b"important\n"));
        lines.close();
        writer.join().unwrap();
    }

    #[test]
    fn the_reserve_has_an_end() {
        let lines = Lines::default();
        let line = [b'x'; 1024];
        (0..(ROOM_BYTES + RESERVE_BYTES) / line.len()).for_each(|_| lines.push(&line, true));
        assert_eq!(lines.dropped(), 0);
        lines.push(&line, true);
        assert_eq!(lines.dropped(), 1);
    }

    #[test]
    fn a_closed_standard_error_is_no_reason_to_stop() {
        let lines = Arc::new(Lines::default());
        let (open, gate) = mpsc::channel::<()>();
        drop(open);
        let written = Arc::default();
        let writer = std::thread::spawn({
            let lines = Arc::clone(&lines);
            move || lines.write_to(Stalled { gate, written }, |_| ())
        });
        lines.push(b"one\n", false);
        assert!(lines.flush(Duration::from_secs(10)));
        lines.close();
        writer.join().unwrap();
    }
}
