//! Measures throughput, latency, memory and the time to the first acknowledged record.
//!
//! Each case gets a fresh cluster in a folder and on ports of its own, so that no case inherits another's files; they are
//! deleted afterwards. The load comes from a program of the `tests` crate, on the same machine: where cores are few, it
//! takes its part of them.

use crate::cluster::{Local, Plan, Started, delete, new_cluster_id};
use crate::workspace::{Workspace, output_of, run as run_command};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

mod cores;

/// Bytes of values that one case sends, at most: three replicas of it and their journals stay below a gigabyte.
const MAX_BYTES: u64 = 224 << 20;

/// The same for the measurement of latency, in which little is sent.
const MAX_LATENCY_BYTES: u64 = 20 << 20;

/// About the size of a batch where throughput is measured: what Java's producer sends by default.
const BATCH_BYTES: u64 = 16 << 10;

/// Smaller journals than by default: what a case leaves is deleted, and three brokers share one disk.
const JOURNAL_FILE_BYTES: u64 = 16 << 20;

/// See [`JOURNAL_FILE_BYTES`].
const JOURNAL_FILES: u64 = 4;

/// Measures a fresh local cluster, and deletes it; or what is named.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    other: Option<Other>,
    /// How many brokers.
    #[arg(long, default_value_t = 3)]
    brokers: u16,
    /// The first of the ports; see `cluster up`.
    #[arg(long, default_value_t = 19092)]
    base_port: u16,
    /// How long each measurement takes, at most; it also ends when it has sent its bytes.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

/// What else can be measured.
#[derive(clap::Subcommand)]
enum Other {
    Core(cores::Arguments),
}

/// One case.
struct Case {
    acks: &'static str,
    record_bytes: u64,
}

const CASES: [Case; 4] = [
    Case {
        acks: "all",
        record_bytes: 100,
    },
    Case {
        acks: "all",
        record_bytes: 1024,
    },
    Case {
        acks: "1",
        record_bytes: 100,
    },
    Case {
        acks: "1",
        record_bytes: 1024,
    },
];

/// What a case showed.
struct Shown {
    first_ack: Duration,
    throughput: Value,
    latency: Value,
    /// Kilobytes of each broker: now, and at most.
    resident: Vec<(u64, u64)>,
}

/// Runs the command.
pub(crate) fn run(mut arguments: Arguments) -> Result<()> {
    if let Some(Other::Core(core)) = arguments.other.take() {
        return cores::run(core);
    }
    let workspace = Workspace::find()?;
    let folder = workspace.target.join("bench");
    if let Ok(Some(plan)) = Plan::read(&folder) {
        // Left by a run that was interrupted.
        Local::new(&folder, plan, PathBuf::new()).end()?;
    }
    let binary = workspace.build_broker()?;
    run_command(&mut workspace.cargo(["build", "--release", "--package", "trimaran-tests", "--bin", "load"]))?;
    let load = workspace.release("load");
    println!("{}", machine());
    println!("{}", header());
    let mut all = Vec::new();
    for case in &CASES {
        delete(&folder)?;
        let bench = Bench::prepare(&folder, &binary, &load, &arguments)?;
        let shown = bench.measure(case, arguments.seconds);
        drop(bench);
        let shown =
            shown.with_context(|| format!("acks={}, {} B: see {}", case.acks, case.record_bytes, folder.display()))?;
        println!("{}", row(case, &shown));
        all.push(to_json(case, &shown));
    }
    delete(&folder)?;
    let file = workspace.target.join("bench.json");
    fs::write(&file, serde_json::to_string_pretty(&all)?).with_context(|| format!("can't write {}", file.display()))?;
    println!("{}", explanation(&arguments, &file));
    Ok(())
}

/// A cluster to be measured; its processes end when this is dropped.
struct Bench<'a> {
    local: Local,
    load: &'a Path,
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.local.end() {
            eprintln!("a broker can't be ended: {error:#}");
        }
    }
}

impl<'a> Bench<'a> {
    fn prepare(folder: &Path, binary: &Path, load: &'a Path, arguments: &Arguments) -> Result<Bench<'a>> {
        let mut plan = Plan::new(new_cluster_id()?, arguments.brokers, arguments.base_port)?;
        plan.limits.insert("journal_file_bytes".to_owned(), JOURNAL_FILE_BYTES);
        plan.limits.insert("journal_files".to_owned(), JOURNAL_FILES);
        plan.check_ports(plan.ids())?;
        plan.write(folder)?;
        Ok(Bench {
            local: Local::new(folder, plan, binary.to_owned()),
            load,
        })
    }

    fn measure(&self, case: &Case, seconds: u64) -> Result<Shown> {
        let first_ack = self.start()?;
        let batch_records = (BATCH_BYTES / case.record_bytes).max(1);
        let throughput = self.load(
            case,
            "throughput",
            &[
                ("--batch-records", batch_records),
                ("--connections", 6),
                ("--in-flight", 5),
                ("--seconds", seconds),
                ("--max-bytes", MAX_BYTES),
            ],
        )?;
        let resident = self.resident()?;
        let latency = self.load(
            case,
            "latency",
            &[
                ("--batch-records", 1),
                ("--connections", 3),
                ("--in-flight", 1),
                ("--seconds", seconds),
                ("--max-bytes", MAX_LATENCY_BYTES),
            ],
        )?;
        Ok(Shown {
            first_ack,
            throughput,
            latency,
            resident,
        })
    }

    /// Starts the brokers; how long it took from the first process to the first acknowledged record.
    fn start(&self) -> Result<Duration> {
        let mut began: Option<Instant> = None;
        for broker in self.local.plan.ids() {
            let Started { at, .. } = self.local.start(broker)?;
            began.get_or_insert(at);
        }
        self.run_load(&["first".to_owned()])?;
        let took = began.context("a cluster has brokers")?.elapsed();
        self.local.wait_ready(self.local.plan.ids())?;
        Ok(took)
    }

    fn load(&self, case: &Case, topic: &str, numbers: &[(&str, u64)]) -> Result<Value> {
        let replicas = self.local.plan.brokers.min(3).to_string();
        let mut arguments: Vec<String> = ["run", "--topic", topic, "--acks", case.acks, "--replicas", &replicas]
            .map(str::to_owned)
            .to_vec();
        for (name, value) in numbers.iter().chain(&[("--record-bytes", case.record_bytes)]) {
            arguments.extend([(*name).to_owned(), value.to_string()]);
        }
        let report = self.run_load(&arguments)?;
        if report["errors"] != 0 {
            bail!(
                "{} requests failed, the last with Kafka's error code {}",
                report["errors"],
                report["last_error"]
            );
        }
        Ok(report)
    }

    fn run_load(&self, arguments: &[String]) -> Result<Value> {
        let mut command = Command::new(self.load);
        command
            .args(["--bootstrap", &self.local.plan.bootstrap()])
            .args(arguments);
        let line = output_of(&mut command, b"")?;
        serde_json::from_str(&line).with_context(|| format!("the load generator printed no JSON: {line:?}"))
    }

    /// Resident memory of each broker.
    fn resident(&self) -> Result<Vec<(u64, u64)>> {
        let mut all = Vec::new();
        for broker in self.local.plan.ids() {
            let pid = self
                .local
                .pid(broker)?
                .with_context(|| format!("broker {broker} has ended"))?;
            // Only Linux tells in this way; elsewhere, zeros say that it isn't known.
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            all.push((kilobytes(&status, "VmRSS:"), kilobytes(&status, "VmHWM:")));
        }
        Ok(all)
    }
}

/// A line of proc(5)'s status, such as `VmRSS:     1234 kB`.
fn kilobytes(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// What it ran on.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{} {}, {cores} core(s), shared by the brokers and the load",
        std::env::consts::OS,
        kernel.trim()
    )
}

fn header() -> String {
    let columns = format!(
        "{:<5} {:>7}  {:>10} {:>7} {:>8} {:>8} {:>8}  {:>8} {:>8} {:>8}  {:>8} {:>8}  {:>9}",
        "acks",
        "record",
        "records/s",
        "MB/s",
        "p50",
        "p99",
        "p99.9",
        "p50",
        "p99",
        "p99.9",
        "RSS",
        "RSS max",
        "first ack"
    );
    let groups = format!(
        "{:<15}{:<46}  {:<26}  {:<17}",
        "", "throughput, latency under load", "one record at a time", "memory"
    );
    format!("{}\n{columns}", groups.trim_end())
}

fn row(case: &Case, shown: &Shown) -> String {
    let largest = |which: fn(&(u64, u64)) -> u64| shown.resident.iter().map(which).max().unwrap_or(0);
    format!(
        "{:<5} {:>5} B  {:>10} {:>7.1} {} {} {}  {} {} {}  {:>5} MB {:>5} MB  {:>6} ms",
        case.acks,
        case.record_bytes,
        shown.throughput["records_per_second"].as_f64().unwrap_or(0.0) as u64,
        shown.throughput["megabytes_per_second"].as_f64().unwrap_or(0.0),
        milliseconds(&shown.throughput["p50_us"]),
        milliseconds(&shown.throughput["p99_us"]),
        milliseconds(&shown.throughput["p999_us"]),
        milliseconds(&shown.latency["p50_us"]),
        milliseconds(&shown.latency["p99_us"]),
        milliseconds(&shown.latency["p999_us"]),
        largest(|(now, _)| *now) / 1024,
        largest(|(_, most)| *most) / 1024,
        shown.first_ack.as_millis(),
    )
}

fn milliseconds(microseconds: &Value) -> String {
    format!("{:>5.2} ms", microseconds.as_f64().unwrap_or(0.0) / 1000.0)
}

fn to_json(case: &Case, shown: &Shown) -> Value {
    serde_json::json!({
        "acks": case.acks,
        "record_bytes": case.record_bytes,
        "first_ack_ms": shown.first_ack.as_millis(),
        "throughput": shown.throughput,
        "latency": shown.latency,
        "resident_kb": shown.resident.iter().map(|(now, _)| now).collect::<Vec<_>>(),
        "resident_max_kb": shown.resident.iter().map(|(_, most)| most).collect::<Vec<_>>(),
    })
}

fn explanation(arguments: &Arguments, file: &Path) -> String {
    format!(
        "\n{} brokers, topics of 6 partitions. Throughput: 6 connections with 5 requests of {} KiB on their way each. One \
         record at a time: 3 connections with one request of one record each. Memory: the largest broker after the load, and \
         at its highest. First ack: from the start of the first process of a fresh cluster, topic creation included. All \
         numbers: {}",
        arguments.brokers,
        BATCH_BYTES / 1024,
        file.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_linux_writes_it() {
        let status = "Name:\ttrimaran\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\n";
        assert_eq!(
            (kilobytes(status, "VmRSS:"), kilobytes(status, "VmHWM:")),
            (10_240, 20_480)
        );
        assert_eq!(kilobytes("", "VmRSS:"), 0);
    }

    #[test]
    fn columns_stand_below_their_names() {
        let numbers = serde_json::json!({
            "records_per_second": 123456.0, "megabytes_per_second": 12.3, "p50_us": 1500, "p99_us": 2500, "p999_us": 35000,
        });
        let shown = Shown {
            first_ack: Duration::from_millis(900),
            throughput: numbers.clone(),
            latency: numbers,
            resident: vec![(10_240, 20_480), (1024, 2048)],
        };
        let row = row(&CASES[0], &shown);
        let columns = header().lines().last().unwrap().to_owned();
        assert_eq!(row.chars().count(), columns.chars().count(), "\n{columns}\n{row}");
        assert!(
            row.contains(" 10 MB") && row.contains(" 20 MB") && row.contains("35.00 ms"),
            "{row}"
        );
    }
}
