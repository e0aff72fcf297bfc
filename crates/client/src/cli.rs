//! The client commands of the command line: `topic`, `produce`, `consume` and `cluster`.
//!
//! A program adds [`Command`] to its own subcommands and hands what was parsed to [`run`]. What a command has to say
//! goes to standard output; why it failed is returned as a [`Failure`], for the program to print.

mod address;
mod cluster;
mod consume;
mod produce;
#[cfg(test)]
mod tests;
mod topic;

use crate::{Client, ClientError, ClientOptions};
use clap::{Args, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

/// The exit status of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: it failed, for a reason that standard error gives.
    Failed,
    /// 2: the command line or the configuration makes no sense.
    Usage,
    /// 3: the cluster could not be reached, or did not get there in time. Trying again may help.
    Unreachable,
    /// 4: brokers answer, but none is in contact with a majority: what was printed, if anything, is what one of them
    /// knew last, and what was asked for can't be known or done.
    NoQuorum,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Unreachable => 3,
            Exit::NoQuorum => 4,
        })
    }
}

/// The failure of a command: its exit status, and the text to print.
#[derive(Debug)]
pub struct Failure {
    /// The exit status.
    pub exit: Exit,
    /// The reason, with what to do about it.
    pub text: String,
}

impl Failure {
    /// The command failed ([`Exit::Failed`]).
    pub fn failed(text: impl Into<String>) -> Failure {
        Failure {
            exit: Exit::Failed,
            text: text.into(),
        }
    }

    /// The operation goes on, but is not done within the time that was given ([`Exit::Unreachable`]).
    pub fn late(text: impl Into<String>) -> Failure {
        Failure {
            exit: Exit::Unreachable,
            text: text.into(),
        }
    }

    /// The command line makes no sense ([`Exit::Usage`]).
    pub fn usage(text: impl Into<String>) -> Failure {
        Failure {
            exit: Exit::Usage,
            text: text.into(),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        Failure {
            exit: match &error {
                ClientError::Unreachable { .. } | ClientError::TimedOut { .. } => Exit::Unreachable,
                ClientError::NoQuorum { .. } => Exit::NoQuorum,
                ClientError::Refused { .. } | ClientError::Protocol(_) => Exit::Failed,
            },
            text: error.to_string(),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::failed(format!("standard input or output failed: {error}"))
    }
}

/// A client command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Creates, lists, describes, moves and deletes topics.
    Topic {
        /// The subcommand.
        #[command(subcommand)]
        command: topic::Command,
    },
    /// Sends lines of standard input as records.
    Produce(produce::Arguments),
    /// Writes records to standard output, a line each.
    Consume(consume::Arguments),
    /// Asks about the cluster as a whole.
    Cluster {
        /// The subcommand.
        #[command(subcommand)]
        command: cluster::Command,
    },
}

/// How to reach the cluster.
#[derive(Clone, Debug, Args)]
pub struct Reach {
    /// Any brokers of the cluster [env: TRIMARAN_BOOTSTRAP]
    #[arg(long, short, value_name = "HOST:PORT,...", value_delimiter = ',')]
    #[arg(value_parser = address::parse, default_values_t = bootstrap())]
    bootstrap: Vec<String>,
    /// How long to try, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 15_000, value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    timeout_ms: u64,
}

/// The brokers that the environment names, or a single broker's default address.
fn bootstrap() -> Vec<String> {
    let named = variable("TRIMARAN_BOOTSTRAP").and_then(|value| value.into_string().ok());
    let named = named.unwrap_or_else(|| "127.0.0.1:9092".to_owned());
    let addresses = named.split(',').map(str::trim).filter(|address| !address.is_empty());
    addresses.map(str::to_owned).collect()
}

/// A variable of the environment. An empty one counts as unset: container definitions often leave one out that way.
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

impl Reach {
    fn client(&self) -> Client {
        Client::new(ClientOptions {
            bootstrap: self.bootstrap.clone(),
            timeout: Duration::from_millis(self.timeout_ms),
        })
    }
}

/// Runs a client command to its end.
///
/// # Errors
/// The command failed; [`Failure::text`] says why.
pub fn run(command: Command) -> Result<Exit, Failure> {
    // One thread is enough.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("the system refuses: {error}")))?;
    let result = runtime.block_on(async {
        match command {
            Command::Topic { command } => topic::run(command).await,
            Command::Produce(arguments) => produce::run(arguments).await,
            Command::Consume(arguments) => consume::run(arguments).await,
            Command::Cluster { command } => cluster::run(command).await,
        }
    });
    // A thread that still reads standard input must not keep the program.
    runtime.shutdown_background();
    result
}

/// Writes to standard output. A reader that has gone away is no failure.
fn print(text: &str) -> Result<(), Failure> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}
