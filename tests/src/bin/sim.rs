//! Runs the simulation: one seed exactly, or many to search for one that fails.

use clap::Parser;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use trimaran_tests::sim::faults::{Kind, Kinds};
use trimaran_tests::sim::focus::Focus;
use trimaran_tests::sim::{self, Length, Options, Report};

/// Runs the simulated cluster.
#[derive(Parser)]
#[command(name = "sim")]
struct Arguments {
    /// The first seed; without it, seeds count from one.
    #[arg(long)]
    seed: Option<u64>,
    /// How many seeds to run.
    #[arg(long)]
    runs: Option<u64>,
    /// For how many minutes to run seeds: until these or the runs are over, whichever is first.
    #[arg(long)]
    minutes: Option<f64>,
    /// Short runs: other ones than those of the same seeds at full length.
    #[arg(long)]
    short: bool,
    /// All runs are about this: breadth, elections or members. Without it, each seed decides.
    #[arg(long)]
    focus: Option<Focus>,
    /// Only faults of these kinds, separated by commas.
    #[arg(long, value_delimiter = ',')]
    faults: Vec<Kind>,
    /// Write every event to standard error.
    #[arg(long)]
    print: bool,
    /// Go on after a seed that fails.
    #[arg(long)]
    keep_going: bool,
}

/// Seeds run at a time. Each takes one thread, and what is simulated knows of no other.
const THREADS: usize = 2;

/// How often it is said how far a search is.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

impl Arguments {
    fn options(&self, seed: u64) -> Options {
        Options {
            print: self.print,
            length: if self.short { Length::Short } else { Length::Full },
            focus: self.focus,
            faults: if self.faults.is_empty() {
                Kinds::ALL
            } else {
                self.faults.iter().copied().collect()
            },
            ..Options::new(seed)
        }
    }

    fn is_search(&self) -> bool {
        self.minutes.is_some() || self.runs.is_some_and(|runs| runs > 1)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !arguments.is_search() {
        return run_one(&arguments.options(arguments.seed.unwrap_or(1)));
    }
    // Which seed panics is told with its failure; two threads' panics would only mix.
    std::panic::set_hook(Box::new(|_| {}));
    let search = Search::new(arguments);
    search.run();
    search.conclude()
}

fn run_one(options: &Options) -> ExitCode {
    match sim::run(options) {
        Ok(report) => {
            println!("seed {}: {report}", options.seed);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// Many seeds, and what came of them.
struct Search {
    arguments: Arguments,
    began: Instant,
    next: AtomicU64,
    end: u64,
    stop: AtomicBool,
    totals: Mutex<Totals>,
}

/// Of all seeds so far.
#[derive(Default)]
struct Totals {
    seeds: u64,
    virtual_us: u64,
    events: u64,
    faults: BTreeMap<Kind, u64>,
    elections: u64,
    /// The longest time that a cluster needed to become whole again, and with which seed.
    slowest: (u64, u64),
    records: usize,
    /// Runs that ended without some broker.
    bereft: u64,
    failed: Vec<u64>,
}

impl Totals {
    fn add(&mut self, seed: u64, report: &Report) {
        self.seeds += 1;
        self.virtual_us += report.virtual_time_us;
        self.events += report.events;
        for (kind, times) in &report.faults {
            *self.faults.entry(*kind).or_insert(0) += times;
        }
        self.elections += report.elections;
        self.slowest = self.slowest.max((report.whole_after_us, seed));
        self.records += report.tally.sent;
        self.bereft += u64::from(report.missed > 0);
    }

    fn line(&self, took: Duration) -> String {
        let rate = self.seeds as f64 / took.as_secs_f64().max(0.001);
        let hours = self.virtual_us as f64 / 3_600e6;
        let faults: u64 = self.faults.values().sum();
        let (longest_us, seed) = self.slowest;
        format!(
            "{} seeds ({} without a minority in the end), {rate:.1}/s, {hours:.2} virtual hours, {} events, {faults} faults, {} \
             elections, {} records checked; whole again within {} ms (seed {seed})",
            self.seeds,
            self.bereft,
            self.events,
            self.elections,
            self.records,
            longest_us / 1_000
        )
    }
}

impl Search {
    fn new(arguments: Arguments) -> Search {
        let first = arguments.seed.unwrap_or(1);
        Search {
            began: Instant::now(),
            next: AtomicU64::new(first),
            end: arguments.runs.map_or(u64::MAX, |runs| first.saturating_add(runs)),
            stop: AtomicBool::new(false),
            totals: Mutex::default(),
            arguments,
        }
    }

    fn run(&self) {
        thread::scope(|scope| {
            let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| self.work())).collect();
            let mut told = Instant::now();
            while workers.iter().any(|worker| !worker.is_finished()) {
                thread::sleep(Duration::from_millis(50));
                if told.elapsed() >= PROGRESS_EVERY {
                    told = Instant::now();
                    println!("{}", self.totals().line(self.began.elapsed()));
                }
            }
        });
    }

    fn work(&self) {
        while !self.stop.load(Ordering::Relaxed) && !self.is_late() {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.end {
                break;
            }
            match sim::run(&self.arguments.options(seed)) {
                Ok(report) => self.totals().add(seed, &report),
                Err(failure) => {
                    let mut totals = self.totals();
                    totals.seeds += 1;
                    totals.failed.push(seed);
                    println!("{failure}");
                    self.stop.store(!self.arguments.keep_going, Ordering::Relaxed);
                }
            }
        }
    }

    fn is_late(&self) -> bool {
        let minutes = self.arguments.minutes.unwrap_or(f64::MAX);
        self.began.elapsed().as_secs_f64() > 60.0 * minutes
    }

    fn totals(&self) -> std::sync::MutexGuard<'_, Totals> {
        self.totals.lock().expect("nobody panics while holding it")
    }

    fn conclude(&self) -> ExitCode {
        let totals = self.totals();
        println!("{}", totals.line(self.began.elapsed()));
        let kinds: Vec<String> = totals
            .faults
            .iter()
            .map(|(kind, times)| format!("{kind} {times}"))
            .collect();
        println!("faults: {}", kinds.join(", "));
        if totals.failed.is_empty() {
            return ExitCode::SUCCESS;
        }
        println!("failed: {:?}", totals.failed);
        ExitCode::FAILURE
    }
}
