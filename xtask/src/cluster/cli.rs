//! The `trimaran` command line tools, pointed at one cluster.

use crate::workspace::{output_of, show};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs `trimaran`'s client commands.
pub(crate) struct Cli {
    binary: PathBuf,
    bootstrap: String,
}

impl Cli {
    pub(crate) fn new(binary: &Path, bootstrap: String) -> Cli {
        Cli {
            binary: binary.to_owned(),
            bootstrap,
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).args(["--bootstrap", &self.bootstrap]);
        command
    }

    /// A command as one would type it.
    pub(crate) fn shown(&self, arguments: &[&str]) -> String {
        show(&self.command(arguments))
    }

    /// Creates a topic, if it isn't there.
    pub(crate) fn create_topic(&self, topic: &str, partitions: u16, replicas: u16) -> Result<()> {
        let (partitions, replicas) = (partitions.to_string(), replicas.to_string());
        let create = [
            "topic",
            "create",
            topic,
            "--if-not-exists",
            "--partitions",
            &partitions,
            "--replication",
            &replicas,
        ];
        output_of(&mut self.command(&create), b"").map(drop)
    }

    /// Sends one record, and waits until it is acknowledged by a majority's disks.
    pub(crate) fn produce(&self, topic: &str, record: &str) -> Result<()> {
        output_of(&mut self.command(&["produce", topic]), format!("{record}\n").as_bytes()).map(drop)
    }

    /// All records of a topic, one a line.
    pub(crate) fn consume(&self, topic: &str) -> Result<String> {
        output_of(
            &mut self.command(&["consume", topic, "--from-beginning", "--until-end"]),
            b"",
        )
    }

    /// Shows brokers, controller, and who leads how much. Says whether every partition has a leader.
    pub(crate) fn show_status(&self) -> Result<bool> {
        self.succeeds(&["cluster", "status"])
    }

    /// Shows who leads each partition of a topic. Says whether there is such a topic.
    pub(crate) fn show_topic(&self, topic: &str) -> Result<bool> {
        self.succeeds(&["topic", "describe", topic])
    }

    /// Runs a command whose output the user sees.
    fn succeeds(&self, arguments: &[&str]) -> Result<bool> {
        let mut command = self.command(arguments);
        let status = command
            .status()
            .with_context(|| format!("can't run `{}`", show(&command)))?;
        Ok(status.success())
    }
}
