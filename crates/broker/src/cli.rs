//! The command line: `trimaran broker` and `node`, and the client commands of `trimaran-client`.
//!
//! Exit codes, for scripts: see [`Exit`]. What a command has to say goes to standard output, what went wrong to
//! standard error, with what to do about it.

mod broker;
#[cfg(test)]
mod tests;

use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;
use trimaran_client::cli as client;
pub use trimaran_client::cli::Exit;
use trimaran_client::cli::Failure;

const EXAMPLES: &str = "\
Try it:
  trimaran broker &                                   one broker, data in ./trimaran-data
  trimaran topic create greetings --partitions 3
  echo hello | trimaran produce greetings
  trimaran consume greetings --from-beginning --max-messages 1
  trimaran cluster status

Exit codes: 0 done; 1 failed; 2 wrong usage or configuration; 3 the cluster could not be reached, or did not get there,
in time; 4 brokers answer, but none is in contact with a majority, so that what was asked for can't be known.
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
    #[command(flatten)]
    Client(client::Command),
    /// Runs the same core over JSON lines on standard input and output, as a node of Jepsen's Maelstrom.
    #[command(after_help = "\
Try it:
  echo '{\"src\":\"c0\",\"dest\":\"n1\",\"body\":{\"type\":\"init\",\"msg_id\":1,\"node_id\":\"n1\",\"node_ids\":[\"n1\"]}}' | trimaran node")]
    Node,
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
        Command::Client(command) => client::run(command),
        Command::Node => match crate::node::run(std::io::stdin(), std::io::stdout()) {
            Ok(()) => Ok(Exit::Done),
            Err(error) => Err(error.into()),
        },
    }
}
