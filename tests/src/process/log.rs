//! A broker's log that comes through a pipe, whose reader can stall.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What the pipe holds: the least that the system grants, so that a stalled reader is soon felt.
const PIPE_BYTES: usize = 4096;

/// Reads a broker's log from a pipe into its file. Ends when the broker does.
#[derive(Debug)]
pub(super) struct LogPipe {
    gate: Arc<Gate>,
}

#[derive(Debug, Default)]
struct Gate {
    stalled: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.stalled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, stalled: bool) {
        *self.lock() = stalled;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut stalled = self.lock();
        while *stalled {
            stalled = self.changed.wait(stalled).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl LogPipe {
    /// A pipe whose end for writing is the broker's, and a thread that reads the other end into a file.
    pub(super) fn into_file(log: File) -> io::Result<(LogPipe, PipeWriter)> {
        let (reader, writer) = io::pipe()?;
        rustix::pipe::fcntl_setpipe_size(&reader, PIPE_BYTES)?;
        let gate = Arc::new(Gate::default());
        let pipe = LogPipe {
            gate: Arc::clone(&gate),
        };
        std::thread::spawn(move || pump(reader, log, &gate));
        Ok((pipe, writer))
    }

    /// The reader stands still, or goes on.
    pub(super) fn set_stalled(&self, stalled: bool) {
        self.gate.set(stalled);
    }
}

impl Drop for LogPipe {
    fn drop(&mut self) {
        // What the broker said last is still written, and the thread ends.
        self.gate.set(false);
    }
}

fn pump(mut from: PipeReader, mut to: File, gate: &Gate) {
    let mut bytes = [0; PIPE_BYTES];
    loop {
        gate.pass();
        match from.read(&mut bytes) {
            Ok(0) | Err(_) => return,
            // A log that can't be written any more is drained all the same: the broker must not notice.
            Ok(read) => drop(to.write_all(&bytes[..read])),
        }
    }
}
