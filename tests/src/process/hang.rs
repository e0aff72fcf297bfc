//! Threads of a broker that hang, as in a system call that does not return.
//!
//! The product has no switch for that: the thread is stopped by the system, with `ptrace`, and none of the others
//! notices.

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two looks whether the process has ended: its parent can't be told as long as its threads have not been seen
/// off by those who hold them.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// One thread of a process, which stands still until this is dropped, or the process ends.
#[derive(Debug)]
pub struct HungThread {
    /// Whoever stops a thread must be the one to let it go on.
    tracer: Option<(Sender<()>, JoinHandle<()>)>,
}

impl HungThread {
    /// Stops the thread of this name.
    ///
    /// # Errors
    /// The system does not permit it ([`io::ErrorKind::PermissionDenied`], in some containers), or there is no such
    /// thread.
    pub fn stop(pid: u32, name: &str) -> io::Result<HungThread> {
        let thread = find(pid, name)?;
        let (release, released) = channel();
        let (tell, told) = channel();
        let tracer = std::thread::spawn(move || hold(thread, &tell, &released));
        let outcome = told.recv().unwrap_or(Err(Errno::ESRCH));
        let hung = HungThread {
            tracer: Some((release, tracer)),
        };
        outcome.map_err(io::Error::from).map(|()| hung)
    }
}

impl Drop for HungThread {
    fn drop(&mut self) {
        if let Some((release, tracer)) = self.tracer.take() {
            drop(release);
            // It has nothing to say.
            drop(tracer.join());
        }
    }
}

/// The threads' names are as the broker gives them, of which the system keeps 15 bytes.
fn find(pid: u32, name: &str) -> io::Result<Pid> {
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = entry?.path();
        let is_it = fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim_end() == name);
        let id = path.file_name().and_then(|id| id.to_str()?.parse().ok());
        if let (true, Some(id)) = (is_it, id) {
            return Ok(Pid::from_raw(id));
        }
    }
    Err(io::Error::new(
        io::ErrorKind::NotFound,
        format!("process {pid} has no thread `{name}`"),
    ))
}

fn hold(thread: Pid, tell: &Sender<nix::Result<()>>, released: &Receiver<()>) {
    let stopped = ptrace::seize(thread, ptrace::Options::empty())
        .and_then(|()| ptrace::interrupt(thread))
        .and_then(|()| waitpid(thread, Some(WaitPidFlag::__WALL)).map(drop));
    let is_stopped = stopped.is_ok();
    // The caller may have given up.
    let _ = tell.send(stopped);
    if is_stopped {
        // The other end is dropped: that is the signal.
        while released.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
            let looked = waitpid(thread, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG));
            if matches!(looked, Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(_)) {
                return;
            }
        }
        // The process may have ended meanwhile.
        let _ = ptrace::detach(thread, None);
    }
}
