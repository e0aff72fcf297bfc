//! The command line: `trimaran broker`, `topic`, `produce`, `consume`, `cluster`, `node`.
//!
//! Exit codes, for scripts: see [`Exit`]. What a command has to say goes to standard output, what went wrong to standard
//! error, with what to do about it.

mod broker;
mod cluster;
mod consume;
mod produce;
#[cfg(test)]
mod tests;
mod topic;

use crate::client::{Client, ClientError, ClientOptions};
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

/// How a command ended.
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
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Unreachable => 3,
        })
    }
}

/// Why a command failed: how to exit, and what to say.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    text: String,
}

impl Failure {
    fn failed(text: impl Into<String>) -> Failure {
        Failure {
            exit: Exit::Failed,
            text: text.into(),
        }
    }

    /// It goes on, but not within the time that was given.
    fn late(text: impl Into<String>) -> Failure {
        Failure {
            exit: Exit::Unreachable,
            text: text.into(),
        }
    }

    fn usage(text: impl Into<String>) -> Failure {
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

const EXAMPLES: &str = "\
Try it:
  trimaran broker &                                   one broker, data in ./trimaran-data
  trimaran topic create greetings --partitions 3
  echo hello | trimaran produce greetings
  trimaran consume greetings --from-beginning --max-messages 1
  trimaran cluster status

Exit codes: 0 done; 1 failed; 2 wrong usage or configuration; 3 the cluster could not be reached in time.
Any Apache Kafka client works as well: its bootstrap server is a broker's client listener.";

/// A replicated log that Apache Kafka clients use unmodified; every partition is a Raft group.
#[derive(Debug, Parser)]
#[command(name = "trimaran", version, after_help = EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a broker until it is told to stop.
    Broker(broker::Arguments),
    /// Creates, lists, describes, moves and deletes topics.
    Topic {
        #[command(subcommand)]
        command: topic::Command,
    },
    /// Sends lines of standard input as records.
    Produce(produce::Arguments),
    /// Writes records to standard output, a line each.
    Consume(consume::Arguments),
    /// Asks about the cluster as a whole.
    Cluster {
        #[command(subcommand)]
        command: cluster::Command,
    },
    /// Runs the same core over JSON lines on standard input and output, as a node of Jepsen's Maelstrom.
    #[command(after_help = "\
Try it:
  echo '{\"src\":\"c0\",\"dest\":\"n1\",\"body\":{\"type\":\"init\",\"msg_id\":1,\"node_id\":\"n1\",\"node_ids\":[\"n1\"]}}' | trimaran node")]
    Node,
}

/// How to reach the cluster.
#[derive(Clone, Debug, Args)]
struct Reach {
    /// Any brokers of the cluster [env: TRIMARAN_BOOTSTRAP]
    #[arg(long, short, value_name = "HOST:PORT,...", value_delimiter = ',', default_values_t = bootstrap())]
    bootstrap: Vec<String>,
    /// How long to try, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 15_000, value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    timeout_ms: u64,
}

/// The brokers that the environment names, or a single broker's default address.
fn bootstrap() -> Vec<String> {
    let named = variable("TRIMARAN_BOOTSTRAP").and_then(|value| value.into_string().ok());
    let named = named.unwrap_or_else(|| "127.0.0.1:9092".to_owned());
    named.split(',').map(|address| address.trim().to_owned()).collect()
}

/// A variable of the environment. An empty one counts as unset: container definitions often leave one out that way.
fn variable(name: &str) -> Option<OsString> {
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

/// Runs the command that these arguments give, the first of which is the program's name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors, and go to standard output. If that is closed, there is nobody to tell.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done }.into();
        }
    };
    match dispatch(arguments.command) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            crate::logging::say_last(&failure.text);
            failure.exit.into()
        }
    }
}

fn dispatch(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Broker(arguments) => broker::run(&arguments),
        Command::Topic { command } => block_on(topic::run(command)),
        Command::Produce(arguments) => block_on(produce::run(arguments)),
        Command::Consume(arguments) => block_on(consume::run(arguments)),
        Command::Cluster { command } => block_on(cluster::run(command)),
        Command::Node => match crate::node::run(std::io::stdin(), std::io::stdout()) {
            Ok(()) => Ok(Exit::Done),
            Err(error) => Err(error.into()),
        },
    }
}

/// A command of the client side: one thread is enough.
fn block_on(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("the system refuses: {error}")))?;
    let result = runtime.block_on(command);
    // A thread that still reads standard input must not keep the program.
    runtime.shutdown_background();
    result
}

/// Writes to standard output; that whoever reads has had enough is no failure.
fn print(text: &str) -> Result<(), Failure> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}
