//! The brokers' processes: started, recorded, recognized. Nothing is ever signalled but a recorded process that is still
//! the one that was recorded.

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Between two looks at a process that is about to end.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A process, in a way that survives the reuse of its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recorded {
    pub(crate) pid: i32,
    /// When it started, as the system tells it: another process with the same number has another.
    started: String,
}

/// What a recorded process does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    /// Stopped by a signal.
    Paused,
    /// It has ended. Its number may have been given to another process.
    Gone,
}

impl Recorded {
    /// Describes a process that has just been started by us (so that nobody else can have its number).
    pub(crate) fn of(pid: u32) -> Result<Recorded> {
        let pid = i32::try_from(pid)?;
        let seen = look_at(pid)?.with_context(|| format!("process {pid} ended as soon as it was started"))?;
        Ok(Recorded {
            pid,
            started: seen.started,
        })
    }

    /// Reads a pid file. None if there is none.
    pub(crate) fn read(file: &Path) -> Result<Option<Recorded>> {
        match fs::read_to_string(file) {
            Ok(text) => parse_pid_file(&text)
                .with_context(|| format!("{} is no pid file of ours; delete it if no broker runs", file.display()))
                .map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("can't read {}", file.display())),
        }
    }

    /// Writes a pid file: the number on the first line, as everywhere, and the start on the second.
    pub(crate) fn write(&self, file: &Path) -> Result<()> {
        fs::write(file, format!("{}\n{}\n", self.pid, self.started))
            .with_context(|| format!("can't write {}", file.display()))
    }

    /// What it does now.
    pub(crate) fn state(&self) -> Result<State> {
        Ok(match look_at(self.pid)? {
            Some(seen) if seen.started != self.started => State::Gone,
            None => State::Gone,
            Some(seen) => match seen.letter {
                'Z' | 'X' => State::Gone,
                'T' | 't' => State::Paused,
                _ => State::Running,
            },
        })
    }

    /// Signals it, if it is still there. Says whether it was.
    pub(crate) fn signal(&self, signal: Signal) -> Result<bool> {
        if self.state()? == State::Gone {
            return Ok(false);
        }
        let pid = Pid::from_raw(self.pid).context("0 is no process")?;
        match kill_process(pid, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(error) => Err(error).with_context(|| format!("can't signal process {}", self.pid)),
        }
    }

    /// Waits until it is gone. Says whether it went in time.
    pub(crate) fn wait_gone(&self, timeout: Duration) -> Result<bool> {
        self.wait(State::Gone, timeout)
    }

    /// Waits until it is in a state. Says whether it came to be in time.
    pub(crate) fn wait(&self, state: State, timeout: Duration) -> Result<bool> {
        let deadline = Instant::now() + timeout;
        loop {
            if self.state()? == state {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

fn parse_pid_file(text: &str) -> Result<Recorded> {
    let mut lines = text.lines();
    let pid: i32 = lines
        .next()
        .and_then(|line| line.trim().parse().ok())
        .context("no number")?;
    let started = lines
        .next()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .context("no start")?;
    if pid <= 1 {
        bail!("{pid} can't be a broker");
    }
    Ok(Recorded {
        pid,
        started: started.to_owned(),
    })
}

/// What the system says of a process.
struct Seen {
    started: String,
    letter: char,
}

/// Linux tells by a file; others by `ps`.
fn look_at(pid: i32) -> Result<Option<Seen>> {
    if cfg!(target_os = "linux") {
        look_in_proc(pid)
    } else {
        ask_ps(pid)
    }
}

fn look_in_proc(pid: i32) -> Result<Option<Seen>> {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => parse_stat(&stat)
            .map(Some)
            .with_context(|| format!("/proc/{pid}/stat is not as expected")),
        // ESRCH: it ended between opening and reading.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound || error.raw_os_error() == Some(3) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("can't read /proc/{pid}/stat")),
    }
}

/// Fields 3 (state) and 22 (start, in clock ticks since boot) of proc(5)'s stat. The second field is a name in
/// parentheses that may itself hold spaces and parentheses.
fn parse_stat(stat: &str) -> Option<Seen> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let letter = fields.next()?.chars().next()?;
    let started = fields.nth(18)?.to_owned();
    Some(Seen { started, letter })
}

fn ask_ps(pid: i32) -> Result<Option<Seen>> {
    let output = Command::new("ps")
        .args(["-o", "state=,lstart=", "-p", &pid.to_string()])
        .output()
        .context("can't run `ps`")?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.trim().split_once(' ').map(|(state, started)| Seen {
        started: started.trim().to_owned(),
        letter: state.chars().next().unwrap_or('?'),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Stdio};

    /// A process that ends when the test does, even if the test fails.
    struct Sleeper(Child);

    impl Sleeper {
        fn start() -> Sleeper {
            let child = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
            Sleeper(child)
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_process_is_followed_through_its_states() {
        let mut sleeper = Sleeper::start();
        let recorded = Recorded::of(sleeper.0.id()).unwrap();
        assert_eq!(recorded.state().unwrap(), State::Running);
        assert!(recorded.signal(Signal::STOP).unwrap());
        assert!(recorded.wait(State::Paused, Duration::from_secs(10)).unwrap());
        assert!(recorded.signal(Signal::CONT).unwrap());
        assert!(recorded.wait(State::Running, Duration::from_secs(10)).unwrap());
        assert!(recorded.signal(Signal::KILL).unwrap());
        assert!(
            recorded.wait_gone(Duration::from_secs(10)).unwrap(),
            "a zombie is gone, too"
        );
        sleeper.0.wait().unwrap();
        assert_eq!(recorded.state().unwrap(), State::Gone);
        assert!(!recorded.signal(Signal::KILL).unwrap());
    }

    #[test]
    fn another_process_with_the_same_number_is_left_alone() {
        let sleeper = Sleeper::start();
        let mut recorded = Recorded::of(sleeper.0.id()).unwrap();
        recorded.started.push('1');
        assert_eq!(recorded.state().unwrap(), State::Gone);
        assert!(!recorded.signal(Signal::KILL).unwrap());
        recorded.started.pop();
        assert_eq!(recorded.state().unwrap(), State::Running);
    }

    #[test]
    fn names_with_parentheses_do_not_confuse() {
        let rest: Vec<String> = (4..=30).map(|field| field.to_string()).collect();
        let seen = parse_stat(&format!("77 (odd) name (x)) T {}", rest.join(" "))).unwrap();
        assert_eq!((seen.letter, seen.started.as_str()), ('T', "22"));
        assert!(parse_stat("77 (short) S 1 2 3").is_none());
    }

    #[test]
    fn a_pid_file_is_read_as_written_and_nothing_else_passes() {
        let file = std::env::temp_dir().join(format!("xtask-pid-{}", std::process::id()));
        let recorded = Recorded {
            pid: 77,
            started: "1234".to_owned(),
        };
        recorded.write(&file).unwrap();
        assert_eq!(Recorded::read(&file).unwrap(), Some(recorded));
        fs::remove_file(&file).unwrap();
        assert_eq!(Recorded::read(&file).unwrap(), None);
        for text in ["", "77", "77\n\n", "x\n1234", "0\n1234", "1\n1234", "-5\n1234"] {
            assert!(parse_pid_file(text).is_err(), "{text:?}");
        }
    }
}
