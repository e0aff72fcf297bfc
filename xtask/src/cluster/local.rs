//! The brokers of one plan as processes of this machine.

use super::plan::{Home, PID_FILE, Plan, Purpose};
use super::process::{Recorded, State};
use super::{Cli, LOG_LINES, last_lines};
use crate::http;
use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long brokers may take to be ready: recovery of a journal, and an election.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a broker that was told to stop may take: its own deadline is ten seconds.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the system may take to end or to pause a process.
const SIGNAL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one question to an administration port may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// Between two questions.
const ASK_AGAIN: Duration = Duration::from_millis(25);

/// A cluster in a folder.
pub(crate) struct Local {
    pub(crate) folder: PathBuf,
    pub(crate) plan: Plan,
    binary: PathBuf,
}

/// A broker that was started.
pub(crate) struct Started {
    pub(crate) pid: i32,
    /// When its process was started.
    pub(crate) at: Instant,
}

impl Local {
    /// The cluster of a plan in a folder, run by a binary.
    pub(crate) fn new(folder: &Path, plan: Plan, binary: PathBuf) -> Local {
        Local {
            folder: folder.to_owned(),
            plan,
            binary,
        }
    }

    /// The command line tools, pointed at this cluster.
    pub(crate) fn cli(&self) -> Cli {
        Cli::new(&self.binary, self.plan.bootstrap())
    }

    /// Where a broker keeps things.
    ///
    /// # Errors
    /// There is no such broker.
    pub(crate) fn home(&self, broker: u16) -> Result<Home> {
        if !self.plan.ids().any(|id| id == broker) {
            bail!(
                "there is no broker {broker}; they are numbered 1 to {}",
                self.plan.brokers
            );
        }
        Ok(Home::of(&self.folder, broker))
    }

    /// Starts a broker, and records its process. Doesn't wait for anything.
    pub(crate) fn start(&self, broker: u16) -> Result<Started> {
        let home = self.home(broker)?;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&home.log)
            .with_context(|| format!("can't write {}", home.log.display()))?;
        let at = Instant::now();
        let mut command = Command::new(&self.binary);
        command
            .arg("broker")
            .arg("--config")
            .arg(&home.config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Its own group: Ctrl-C in this terminal is not meant for it.
            .process_group(0);
        // The environment outranks the file: what was set for another broker must not reach this one.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TRIMARAN_") {
                command.env_remove(name);
            }
        }
        let child = command
            .spawn()
            .with_context(|| format!("can't start {}", self.binary.display()))?;
        let recorded = Recorded::of(child.id())?;
        recorded.write(&home.pid)?;
        Ok(Started { pid: recorded.pid, at })
    }

    /// A broker's process, if one was recorded.
    fn recorded(&self, broker: u16) -> Result<Option<Recorded>> {
        Recorded::read(&self.home(broker)?.pid)
    }

    /// A broker's process number, if it runs.
    pub(crate) fn pid(&self, broker: u16) -> Result<Option<i32>> {
        let recorded = self.recorded(broker)?;
        Ok(match recorded {
            Some(recorded) if recorded.state()? != State::Gone => Some(recorded.pid),
            _ => None,
        })
    }

    /// What a broker's process does.
    pub(crate) fn state(&self, broker: u16) -> Result<State> {
        self.recorded(broker)?
            .map_or(Ok(State::Gone), |recorded| recorded.state())
    }

    /// The brokers whose process is in a state.
    pub(crate) fn in_state(&self, state: State) -> Result<Vec<u16>> {
        let states: Result<Vec<(u16, State)>> = self.plan.ids().map(|id| Ok((id, self.state(id)?))).collect();
        Ok(states?
            .into_iter()
            .filter(|(_, is)| *is == state)
            .map(|(id, _)| id)
            .collect())
    }

    /// Whether a broker says that it is ready.
    pub(crate) fn is_ready(&self, broker: u16) -> bool {
        let admin = self.plan.address(broker, Purpose::Admin);
        http::status(admin, "/health/ready", ASK_TIMEOUT).is_ok_and(|status| status == 200)
    }

    /// Asks brokers until they are ready.
    ///
    /// # Errors
    /// One ends instead, or takes too long; with the end of its log.
    pub(crate) fn wait_ready(&self, brokers: impl Iterator<Item = u16>) -> Result<()> {
        let deadline = Instant::now() + READY_TIMEOUT;
        for broker in brokers {
            while !self.is_ready(broker) {
                if self.state(broker)? == State::Gone {
                    bail!(
                        "broker {broker} has ended instead of becoming ready. {}",
                        self.end_of_log(broker)?
                    );
                }
                if Instant::now() >= deadline {
                    bail!(
                        "broker {broker} is not ready after {READY_TIMEOUT:?}. {}",
                        self.end_of_log(broker)?
                    );
                }
                std::thread::sleep(ASK_AGAIN);
            }
        }
        Ok(())
    }

    fn end_of_log(&self, broker: u16) -> Result<String> {
        let log = self.home(broker)?.log;
        Ok(format!(
            "The end of {}:\n{}",
            log.display(),
            last_lines(&log, LOG_LINES / 2)?.trim_end()
        ))
    }

    /// Stops all brokers, all at a time.
    pub(crate) fn down(&self) -> Result<()> {
        let mut stopping = Vec::new();
        for broker in self.plan.ids() {
            if self.ask_to_stop(broker)? {
                stopping.push(broker);
            }
        }
        if stopping.is_empty() {
            println!("No broker runs.");
        }
        for broker in stopping {
            self.wait_stopped(broker)?;
        }
        Ok(())
    }

    /// Stops a broker, if it runs.
    pub(crate) fn stop(&self, broker: u16) -> Result<()> {
        if self.ask_to_stop(broker)? {
            self.wait_stopped(broker)?;
        }
        Ok(())
    }

    /// Says whether there was a process to ask.
    fn ask_to_stop(&self, broker: u16) -> Result<bool> {
        let Some(recorded) = self.recorded(broker)? else {
            return Ok(false);
        };
        let asked = recorded.signal(Signal::TERM)?;
        // A paused process hears nothing.
        recorded.signal(Signal::CONT)?;
        Ok(asked)
    }

    fn wait_stopped(&self, broker: u16) -> Result<()> {
        let Some(recorded) = self.recorded(broker)? else {
            return Ok(());
        };
        if recorded.wait_gone(STOP_TIMEOUT)? {
            println!("broker {broker}: stopped");
            return Ok(());
        }
        println!("broker {broker}: has not stopped within {STOP_TIMEOUT:?}, and is killed");
        self.kill(broker)
    }

    /// Kills a broker, without a word.
    pub(crate) fn kill(&self, broker: u16) -> Result<()> {
        let recorded = self.running(broker)?;
        recorded.signal(Signal::KILL)?;
        if !recorded.wait_gone(SIGNAL_TIMEOUT)? {
            bail!(
                "process {} of broker {broker} does not end although it was killed",
                recorded.pid
            );
        }
        println!(
            "broker {broker}: process {} killed; `cargo xtask cluster restart {broker}` starts it again",
            recorded.pid
        );
        Ok(())
    }

    /// Ends all brokers at once, without a word: their data is of no use any more.
    pub(crate) fn end(&self) -> Result<()> {
        for broker in self.plan.ids() {
            if let Some(recorded) = self.recorded(broker)?
                && recorded.signal(Signal::KILL)?
            {
                recorded.wait_gone(SIGNAL_TIMEOUT)?;
            }
        }
        Ok(())
    }

    /// Pauses a broker.
    pub(crate) fn pause(&self, broker: u16) -> Result<()> {
        let recorded = self.running(broker)?;
        recorded.signal(Signal::STOP)?;
        if !recorded.wait(State::Paused, SIGNAL_TIMEOUT)? {
            bail!("process {} of broker {broker} does not pause", recorded.pid);
        }
        println!(
            "broker {broker}: process {} paused; `cargo xtask cluster resume {broker}` lets it go on",
            recorded.pid
        );
        Ok(())
    }

    /// Lets a paused broker go on.
    pub(crate) fn resume(&self, broker: u16) -> Result<()> {
        let recorded = self.running(broker)?;
        recorded.signal(Signal::CONT)?;
        println!("broker {broker}: process {} goes on", recorded.pid);
        Ok(())
    }

    fn running(&self, broker: u16) -> Result<Recorded> {
        match self.recorded(broker)? {
            Some(recorded) if recorded.state()? != State::Gone => Ok(recorded),
            _ => bail!("broker {broker} does not run; `cargo xtask cluster restart {broker}` starts it"),
        }
    }
}

/// Whether a folder holds a broker's data.
pub(crate) fn holds_data(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else {
        return false;
    };
    entries.flatten().any(|entry| entry.path().join("data").exists())
}

/// Deletes a cluster's folder, if there is one.
///
/// # Errors
/// A process that is recorded in it still runs (its plan could not be read, so that it was not stopped).
pub(crate) fn delete(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if !entry.path().is_dir() {
            continue;
        }
        let recorded = Recorded::read(&entry.path().join(PID_FILE))?;
        if let Some(recorded) = recorded.filter(|recorded| !matches!(recorded.state(), Ok(State::Gone))) {
            bail!(
                "process {} of {} still runs; stop it first",
                recorded.pid,
                entry.path().display()
            );
        }
    }
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("can't delete {}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_deleted_unless_a_process_of_it_runs() {
        let folder = std::env::temp_dir().join(format!("xtask-delete-{}", std::process::id()));
        let plan = Plan::new("local-1".to_owned(), 1, 9092).unwrap();
        plan.write(&folder).unwrap();
        let home = Home::of(&folder, 1);
        assert!(!holds_data(&folder));
        fs::create_dir(&home.data).unwrap();
        assert!(holds_data(&folder));
        // This test itself stands for a broker that runs.
        Recorded::of(std::process::id()).unwrap().write(&home.pid).unwrap();
        assert!(delete(&folder).unwrap_err().to_string().contains("still runs"));
        fs::write(&home.pid, format!("{}\nnot when it started\n", std::process::id())).unwrap();
        delete(&folder).unwrap();
        assert!(!folder.exists());
        delete(&folder).unwrap();
    }
}
