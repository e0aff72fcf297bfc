//! What is printed while it runs, and what is left behind for a bug report.

use super::Options;
use super::faults::Kind;
use super::nemesis::last_words;
use super::witness::{Seen, Witness};
use crate::checker::Violation;
use crate::checker::history::{Finding, Judgement, Tally};
use crate::process::Cluster;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Operations about a partition that are shown for a finding: the last ones.
const SHOWN_OPERATIONS: usize = 400;

/// How a run went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How long faults struck.
    pub suffered: Duration,
    /// How long everything took.
    pub took: Duration,
    /// How often what was done.
    pub faults: BTreeMap<Kind, u64>,
    /// How the records fared.
    pub tally: Tally,
    /// Topics that were created, beside those that exist all the time, and deleted again.
    pub topics: (u64, u64),
    /// Partitions read in the end, and from how many replicas in all.
    pub partitions: usize,
    /// The terms of all partitions that exist all the time together.
    pub terms: i64,
    /// The longest time without an acknowledgement of a partition, and of which.
    pub largest_gap: Option<(Duration, String)>,
    /// From the end of all faults until everything worked again.
    pub converged_in: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: u64 = self.faults.values().sum();
        writeln!(
            f,
            "{} s of faults ({faults}: {}), {} s in all",
            self.suffered.as_secs(),
            show(&self.faults),
            self.took.as_secs()
        )?;
        writeln!(
            f,
            "records: {} sent, {} acknowledged ({} of them by the leader only), {} refused, {} stored, {} read",
            self.tally.sent,
            self.tally.acknowledged,
            self.tally.by_leader_only,
            self.tally.refused,
            self.tally.stored,
            self.tally.read
        )?;
        let (gap, of) = self.largest_gap.clone().unwrap_or_default();
        write!(
            f,
            "{} terms, {} topics created and {} deleted, {} partitions read from all their replicas in the end; whole again \
             after {} ms; at most {} ms without an acknowledgement ({of})",
            self.terms,
            self.topics.0,
            self.topics.1,
            self.partitions,
            self.converged_in.as_millis(),
            gap.as_millis()
        )
    }
}

/// A run that showed what must not be.
#[derive(Debug)]
pub struct Failure {
    /// What broke first.
    pub violations: Vec<Violation>,
    /// Where everything about it is, or why it could not be written.
    pub folder: Result<PathBuf, io::Error>,
    /// How to do the same again: the faults, though not their effects.
    pub command: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for violation in self.violations.iter().take(10) {
            writeln!(f, "VIOLATION {violation}")?;
        }
        if self.violations.len() > 10 {
            writeln!(f, "and {} more", self.violations.len() - 10)?;
        }
        match &self.folder {
            Ok(folder) => writeln!(f, "For a bug report, attach the folder {}", folder.display())?,
            Err(error) => writeln!(f, "The folder for a bug report can't be written: {error}")?,
        }
        write!(f, "The same faults again: {}", self.command)
    }
}

impl std::error::Error for Failure {}

/// Counts by kind, in words.
pub fn show(counts: &BTreeMap<Kind, u64>) -> String {
    let counts: Vec<String> = counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    counts.join(", ")
}

/// One line about how it goes.
pub fn progress(witness: &Witness, faults: &BTreeMap<Kind, u64>, terms: i64) -> String {
    let counts = witness.seen().counts;
    let (gap, of) = witness.largest_gap().unwrap_or_default();
    format!(
        "{:>4} s: {} faults ({}), records: {} sent, {} acknowledged, {} read; {terms} terms; at most {} ms without an \
         acknowledgement ({of})",
        witness.elapsed().as_secs(),
        faults.values().sum::<u64>(),
        show(faults),
        counts.sent,
        counts.acknowledged,
        counts.read,
        gap.as_millis()
    )
}

/// What is left behind of a run that failed.
pub struct Remains<'a> {
    /// What was asked for.
    pub options: &'a Options,
    /// What broke.
    pub violations: &'a [Violation],
    /// What the history shows.
    pub judgement: &'a Judgement,
}

impl Remains<'_> {
    /// Writes everything that somebody needs who looks for the cause.
    ///
    /// # Errors
    /// The folder can't be written.
    pub fn write(&self, seen: &Seen, cluster: &mut Cluster) -> io::Result<PathBuf> {
        let folder = self
            .options
            .out
            .join(format!("torture-{}-{}", self.options.seed, std::process::id()));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("summary.txt"), self.summary(seen, cluster))?;
        fs::write(folder.join("timeline.txt"), timeline(seen))?;
        for (number, finding) in self.judgement.findings.iter().enumerate() {
            let name = format!("finding-{number:02}-{}.txt", file_name(finding));
            fs::write(folder.join(name), about(seen, finding))?;
        }
        for broker in &cluster.brokers {
            fs::copy(broker.log_path(), folder.join(format!("broker-{}.log", broker.id)))?;
            fs::copy(broker.config_path(), folder.join(format!("broker-{}.toml", broker.id)))?;
        }
        Ok(folder)
    }

    fn summary(&self, seen: &Seen, cluster: &mut Cluster) -> String {
        let mut text = String::new();
        let mut line = |words: &str| {
            text.push_str(words);
            text.push('\n');
        };
        line(&format!("command: {}", self.options.command()));
        line(&format!("seed: {}", self.options.seed));
        line(&format!("binary: {}", version(&self.options.binary)));
        line(&format!("system: {}", system()));
        line(&format!("last error that a client was told: {}", seen.last_error));
        if self.options.keep_data {
            let folder = cluster.keep_folder();
            line(&format!("data folders, to be looked at here: {}", folder.display()));
        }
        for (number, slot) in seen.slots.iter().enumerate() {
            line(&format!("partition {number} of the history is {slot}"));
        }
        for (anomaly, count) in &self.judgement.counts {
            line(&format!("{count} x {anomaly}"));
        }
        for violation in self.violations {
            line(&format!("VIOLATION {violation}"));
        }
        for broker in &cluster.brokers {
            line(&format!(
                "--- the end of broker {}'s log:\n{}",
                broker.id,
                last_words(broker)
            ));
        }
        text
    }
}

fn file_name(finding: &Finding) -> String {
    let name = finding.anomaly.name();
    let end = name.find(' ').unwrap_or(name.len());
    name[..end].to_owned()
}

fn timeline(seen: &Seen) -> String {
    let mut text = String::new();
    for (at, words) in &seen.timeline {
        // A string takes everything.
        let _ = writeln!(text, "{:>8.3} {words}", at.as_secs_f64());
    }
    text
}

/// A finding, and the last operations about its partition.
fn about(seen: &Seen, finding: &Finding) -> String {
    let mut text = format!("{finding}\n");
    let Some(partition) = finding.partition else {
        return text;
    };
    let operations: Vec<_> = seen.history.about(partition).collect();
    let first = operations.len().saturating_sub(SHOWN_OPERATIONS);
    let _ = writeln!(text, "{first} operations about partition {partition}, and then these:");
    for (at, operation) in &operations[first..] {
        let millis = seen.times_ms.get(*at).copied().unwrap_or(0);
        let _ = writeln!(text, "{:>8.3} {operation}", f64::from(millis) / 1000.0);
    }
    text
}

/// What the binary says that it is.
fn version(binary: &Path) -> String {
    let said = Command::new(binary).arg("--version").output();
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    format!(
        "{} ({})",
        binary.display(),
        said.unwrap_or_else(|error| error.to_string())
    )
}

fn system() -> String {
    let kernel = fs::read_to_string("/proc/version").unwrap_or_else(|_| std::env::consts::OS.to_owned());
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!("{}, {cores} cores", kernel.trim())
}
