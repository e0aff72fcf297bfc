//! Real brokers under load that are killed, paused, stopped and cut off from each other, and a judge of what their clients saw.
//!
//! ```no_run
//! use std::time::Duration;
//! use trimaran_tests::process::binary;
//! use trimaran_tests::torture::{Options, run};
//!
//! let options = Options::new(7, Duration::from_secs(20), binary().to_path_buf());
//! let report = run(&options).unwrap_or_else(|failure| panic!("{failure}"));
//! println!("{report}");
//! ```
//!
//! The seed decides which faults strike and when; what comes of them is the machine's business, so that a seed shows the
//! same faults again, not the same run. A run has four stages: faults strike while producers, consumers and an
//! administrator work; all faults end, and producers get the rest of their acknowledgements; every partition must be led,
//! in sync and writable, and consumers read to the end; then every partition is read from each of its replicas, and
//! [`crate::checker::history`] judges what was seen, as it does in the simulation.

pub mod administrator;
pub mod consumer;
pub mod ending;
pub mod faults;
pub mod nemesis;
pub mod network;
pub mod producer;
pub mod report;
pub mod witness;

use crate::checker::history::{Delivery, History, Judgement, Log};
use crate::checker::{Law, Violation};
use crate::process::{BrokerProcess, Cluster, ClusterOptions, KafkaClient};
use crate::sim::rng::Rng;
use administrator::Administrator;
use consumer::Consumer;
use ending::patiently;
use faults::Kind;
use nemesis::Nemesis;
use network::Network;
use producer::{Assignment, Producer};
use report::{Failure, Remains, Report};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use witness::{Addresses, Slot, Stage, Witness, rack};

/// How often the adversary looks what is due.
const TICK: Duration = Duration::from_millis(10);

/// Between two lines about how it goes.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// From one batch of a producer to the next: enough to have some in flight whenever a fault strikes, and little enough
/// that the history of some minutes fits into memory. Longer runs go slower, see [`pace`].
const PACE: Duration = Duration::from_millis(8);

/// Runs up to this long keep their [`PACE`].
const FULL_PACE: Duration = Duration::from_secs(600);

/// How long is waited for anything once something is broken: what can be read is worth reading, but it may never come.
const HOPELESS: Duration = Duration::from_secs(15);

/// How long is then waited for each partition.
const UNLIKELY: Duration = Duration::from_secs(3);

/// Lines that every broker is configured with: small files, so that journals are used again and segments begun within
/// minutes, and consumers that may choose their replica.
const SETTINGS: [&str; 6] = [
    "cluster.replica_selector = \"rack-aware\"",
    "cluster.auto_create_topics = false",
    "broker.stop_deadline_ms = 5000",
    "limits.journal_file_bytes = 1048576",
    "limits.journal_files = 4",
    "limits.flush_bytes = 65536",
];

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Decides the faults.
    pub seed: u64,
    /// How long faults strike.
    pub lasts: Duration,
    /// How many brokers: one at least.
    pub brokers: u32,
    /// Which faults.
    pub kinds: BTreeSet<Kind>,
    /// The program under test.
    pub binary: PathBuf,
    /// Where to leave what is needed for a bug report.
    pub out: PathBuf,
    /// How long anything may take after the last fault.
    pub patience: Duration,
    /// After a failure, leave the brokers' data where it is.
    pub keep_data: bool,
    /// Print how it goes.
    pub print: bool,
}

impl Options {
    /// Three brokers and all faults.
    pub fn new(seed: u64, lasts: Duration, binary: PathBuf) -> Options {
        Options {
            seed,
            lasts,
            brokers: 3,
            kinds: Kind::ALL.into_iter().collect(),
            binary,
            out: std::env::temp_dir(),
            patience: Duration::from_secs(180),
            keep_data: true,
            print: false,
        }
    }

    /// The command that does the same.
    pub fn command(&self) -> String {
        let kinds: Vec<&str> = self.kinds.iter().map(|kind| kind.name()).collect();
        format!(
            "cargo xtask torture --minutes {} --brokers {} --seed {} --faults {}",
            self.lasts.as_secs_f64() / 60.0,
            self.brokers,
            self.seed,
            kinds.join(",")
        )
    }

    fn replicas(&self) -> u32 {
        self.brokers.min(3)
    }
}

/// A topic that exists all the time.
struct Topic {
    name: &'static str,
    partitions: i32,
    configs: &'static [(&'static str, &'static str)],
    /// The producers of each of its partitions.
    producers: &'static [Delivery],
    is_trimmed: bool,
}

const TOPICS: [Topic; 3] = [
    Topic {
        name: "safe",
        partitions: 3,
        configs: &[("min.insync.replicas", "2"), ("segment.ms", "10000")],
        producers: &[Delivery::ExactlyOnce, Delivery::AtMostOnce],
        is_trimmed: false,
    },
    Topic {
        name: "fast",
        partitions: 2,
        configs: &[("min.insync.replicas", "1")],
        producers: &[Delivery::LeaderOnly, Delivery::ExactlyOnce],
        is_trimmed: false,
    },
    Topic {
        name: "short",
        partitions: 1,
        configs: &[
            ("min.insync.replicas", "2"),
            ("segment.ms", "5000"),
            ("retention.bytes", "1048576"),
        ],
        producers: &[Delivery::ExactlyOnce],
        is_trimmed: true,
    },
];

/// Runs a cluster through its faults to the judgement.
///
/// # Errors
/// A law was broken. Everything about it is in a folder.
///
/// # Panics
/// If this machine has no place, ports or processes for it.
pub fn run(options: &Options) -> Result<Report, Box<Failure>> {
    Run::start(options).go()
}

/// Threads of clients, with what they do in words. Each says whether it has done what it was to do.
type Clients = Vec<(String, JoinHandle<bool>)>;

struct Run<'a> {
    options: &'a Options,
    rng: Rng,
    witness: Arc<Witness>,
    nemesis: Nemesis,
    /// Partitions that exist all the time, with the highest term that anybody told of.
    terms: BTreeMap<(String, i32), i32>,
    producers: Clients,
    consumers: Clients,
    told_at: Instant,
}

impl<'a> Run<'a> {
    fn start(options: &'a Options) -> Run<'a> {
        let mut rng = Rng::new(options.seed);
        let mut network = Network::default();
        let cluster = start_cluster(options, &mut network);
        let brokers = cluster.brokers.iter().map(Addresses::from).collect();
        let witness = Arc::new(Witness::new(brokers));
        let steady = TOPICS
            .iter()
            .flat_map(|topic| (0..topic.partitions).map(|partition| (topic.name.to_owned(), partition)))
            .collect::<Vec<_>>();
        let nemesis = Nemesis::new(
            cluster,
            network,
            options.kinds.clone(),
            steady.clone(),
            rng.fork(),
            Arc::clone(&witness),
        );
        Run {
            options,
            rng,
            witness,
            nemesis,
            terms: steady.into_iter().map(|partition| (partition, 0)).collect(),
            producers: Vec::new(),
            consumers: Vec::new(),
            told_at: Instant::now(),
        }
    }

    fn go(mut self) -> Result<Report, Box<Failure>> {
        self.start_clients();
        let suffered = self.suffer();
        let (converged_in, logs) = self.end();
        self.judge(suffered, converged_in, logs)
    }

    fn start_clients(&mut self) {
        let client = KafkaClient::new(self.witness.clients());
        let replicas = i16::try_from(self.options.replicas()).unwrap_or(3);
        for topic in &TOPICS {
            client
                .create_topic(topic.name, topic.partitions, replicas, topic.configs)
                .expect("a cluster without faults creates a topic");
            for partition in 0..topic.partitions {
                self.start_clients_of(topic, partition);
            }
        }
        let administrator = Administrator::new(replicas, self.rng.fork(), Arc::clone(&self.witness));
        let work = std::thread::spawn(move || {
            administrator.run();
            true
        });
        self.producers.push(("the administrator".to_owned(), work));
    }

    fn start_clients_of(&mut self, topic: &Topic, partition: i32) {
        let replicas = usize::try_from(self.options.replicas()).unwrap_or(1);
        let slot = Slot::new(topic.name, None, partition, replicas, topic.is_trimmed);
        let number = self.witness.add_slot(slot.clone());
        for delivery in topic.producers {
            let assignment = Assignment {
                slot: number,
                topic: topic.name.to_owned(),
                id: None,
                partition,
                delivery: *delivery,
                pace: pace(self.options.lasts),
                batches: None,
            };
            let producer = Producer::new(assignment, self.rng.fork(), Arc::clone(&self.witness));
            self.producers.push((
                format!("the {delivery:?} producer of {slot}"),
                std::thread::spawn(move || producer.run()),
            ));
        }
        for _ in 0..2 {
            self.start_consumer(number, &slot);
        }
    }

    fn start_consumer(&mut self, number: usize, slot: &Slot) {
        let consumer = Consumer::new(number, slot.clone(), self.rng.fork(), Arc::clone(&self.witness));
        self.consumers.push((
            format!("a consumer of {slot}"),
            std::thread::spawn(move || consumer.run()),
        ));
    }

    /// Lets faults strike. Ends early once something is broken: what follows would only hide it.
    fn suffer(&mut self) -> Duration {
        let began = Instant::now();
        while began.elapsed() < self.options.lasts && self.is_unbroken() {
            self.nemesis.turn();
            self.tell();
            std::thread::sleep(TICK);
        }
        began.elapsed()
    }

    fn is_unbroken(&self) -> bool {
        self.witness.seen().violations.is_empty()
    }

    fn tell(&mut self) {
        if self.options.print && self.told_at.elapsed() >= TELL_EVERY {
            self.told_at = Instant::now();
            let terms = self.count_terms();
            println!("{}", report::progress(&self.witness, self.nemesis.counts(), terms));
        }
    }

    /// The terms of all partitions that exist all the time together. Who has no leader keeps the last one.
    fn count_terms(&mut self) -> i64 {
        let client = KafkaClient::new(self.witness.clients());
        for ((topic, partition), term) in &mut self.terms {
            let told = client.leader(topic, *partition).map_or(0, |leader| leader.epoch);
            *term = told.max(*term);
        }
        self.terms.values().map(|term| i64::from(*term)).sum()
    }

    /// Everything heals, and is read. How long it took until all worked again, and the logs if they could be read.
    fn end(&mut self) -> (Duration, Vec<Option<Log>>) {
        let healed_at = Instant::now();
        let patience = if self.is_unbroken() {
            self.options.patience
        } else {
            self.options.patience.min(HOPELESS)
        };
        let until = healed_at + patience;
        self.nemesis.heal();
        let whole = self.converge(until);
        let took = healed_at.elapsed();
        let until = until + took;
        let whole = whole.and_then(|()| self.do_without_some(until));
        let outcome = whole
            .and_then(|()| self.drain(until))
            .and_then(|()| self.read_all(until));
        let logs = match outcome {
            Ok(logs) => logs.into_iter().map(Some).collect(),
            Err((what, reason)) => {
                let detail = format!("{what} within {patience:?} of the last fault: {reason}");
                self.witness.accuse(Law::Converges, detail);
                // What the logs hold may show why.
                self.witness.enter(Stage::Stopped);
                self.read_what_can_be_read()
            }
        };
        self.witness.enter(Stage::Stopped);
        for (who, thread) in self.producers.drain(..).chain(self.consumers.drain(..)) {
            if thread.join().is_err() {
                self.witness.accuse(Law::Converges, format!("{who} panicked"));
            }
        }
        (took, logs)
    }

    fn converge(&mut self, until: Instant) -> Result<(), (&'static str, String)> {
        self.wait_healed(until)
            .map_err(|reason| ("brokers are not ready", reason))?;
        self.witness.note("all brokers are ready");
        self.witness.enter(Stage::Ending);
        self.wait_for(until, |run| &run.producers)
            .map_err(|reason| ("producers don't end", reason))?;
        self.witness.note("all producers have ended");
        let present = self.present();
        let slots: Vec<Slot> = present.iter().map(|(_, slot)| slot.clone()).collect();
        patiently(until, || {
            self.nemesis.look_after(Instant::now());
            ending::is_whole(&self.witness, &slots)
        })
        .map_err(|reason| ("partitions are not whole", reason))?;
        self.witness.note("all partitions are led and in sync");
        ending::write_everywhere(&self.witness, &present, &mut self.rng, until)
            .map_err(|reason| ("partitions are not writable", reason))?;
        self.witness.note("all partitions take records");
        Ok(())
    }

    /// The others lead and take records while a minority is away, and it is taken in again.
    fn do_without_some(&mut self, until: Instant) -> Result<(), (&'static str, String)> {
        // A minority of every partition's replicas, wherever they are.
        let minority = usize::try_from((self.options.replicas() - 1) / 2).unwrap_or(0);
        if !self.options.kinds.contains(&Kind::Away) || minority == 0 {
            return Ok(());
        }
        let present = self.present();
        let slots: Vec<Slot> = present.iter().map(|(_, slot)| slot.clone()).collect();
        let away = self.nemesis.take_away(minority);
        patiently(until, || ending::is_led_without(&self.witness, &away, &slots))
            .map_err(|reason| ("partitions are not led without a minority", reason))?;
        self.witness.note("all partitions are led without a minority");
        ending::write_everywhere(&self.witness, &present, &mut self.rng, until)
            .map_err(|reason| ("partitions are not writable without a minority", reason))?;
        self.witness.note("all partitions take records without a minority");
        self.nemesis.bring_back();
        self.wait_healed(until)
            .map_err(|reason| ("brokers that were away are not ready", reason))?;
        patiently(until, || {
            self.nemesis.look_after(Instant::now());
            ending::is_whole(&self.witness, &slots)
        })
        .map_err(|reason| ("partitions are not whole after a minority was away", reason))?;
        ending::write_everywhere(&self.witness, &present, &mut self.rng, until)
            .map_err(|reason| ("partitions are not writable after a minority was away", reason))?;
        self.witness.note("a minority was away, and all is whole again");
        Ok(())
    }

    fn wait_healed(&mut self, until: Instant) -> Result<(), String> {
        let nemesis = &mut self.nemesis;
        patiently(until, || {
            nemesis.look_after(Instant::now());
            if !nemesis.is_healed() {
                return Err("a broker has not ended".to_owned());
            }
            let waiting = nemesis.cluster().brokers.iter().find(|broker| !broker.is_ready());
            match waiting {
                None => Ok(()),
                Some(broker) => Err(format!("broker {}", broker.id)),
            }
        })
    }

    fn wait_for(&mut self, until: Instant, of: impl for<'r> Fn(&'r Run<'a>) -> &'r Clients) -> Result<(), String> {
        patiently(until, || {
            self.nemesis.look_after(Instant::now());
            let waiting = of(self).iter().find(|(_, thread)| !thread.is_finished());
            match waiting {
                None => Ok(()),
                Some((who, _)) => Err(format!("{who}; the last error was {}", self.witness.seen().last_error)),
            }
        })
    }

    /// Partitions of topics that have not been deleted.
    fn present(&self) -> Vec<(usize, Slot)> {
        let seen = self.witness.seen();
        let slots = seen.slots.iter().enumerate();
        slots
            .filter(|(_, slot)| slot.ended.is_none())
            .map(|(number, slot)| (number, slot.clone()))
            .collect()
    }

    fn drain(&mut self, until: Instant) -> Result<(), (&'static str, String)> {
        self.witness.enter(Stage::Draining);
        // The administrator's last topic had its reader, but has got a record since.
        for (number, slot) in self.present().iter().filter(|(_, slot)| slot.id.is_some()) {
            self.start_consumer(*number, slot);
        }
        self.wait_for(until, |run| &run.consumers)
            .map_err(|reason| ("consumers don't reach the end", reason))?;
        self.witness.note("all consumers have read to the end");
        Ok(())
    }

    fn read_all(&self, until: Instant) -> Result<Vec<Log>, (&'static str, String)> {
        let slots = self.witness.seen().slots.clone();
        let logs = slots.iter().enumerate().map(|(number, slot)| {
            let log = self.read(number, slot, until);
            log.map_err(|reason| ("partitions can't be read", reason))
        });
        let logs = logs.collect::<Result<Vec<Log>, _>>()?;
        self.witness.note("all partitions are read");
        Ok(logs)
    }

    fn read_what_can_be_read(&self) -> Vec<Option<Log>> {
        let slots = self.witness.seen().slots.clone();
        let slots = slots.iter().enumerate();
        slots
            .map(|(number, slot)| self.read(number, slot, Instant::now() + UNLIKELY).ok())
            .collect()
    }

    /// What a partition holds or held in the end. Replicas that differ are a violation.
    fn read(&self, number: usize, slot: &Slot, until: Instant) -> Result<Log, String> {
        if let Some(log) = &slot.ended {
            return Ok(log.clone());
        }
        let (log, finding) = ending::settled(&self.witness, number, slot, until)?;
        if let Some(finding) = finding {
            let violation = Violation::from(finding);
            self.witness.accuse(violation.law, violation.detail);
        }
        Ok(log)
    }

    fn judge(
        mut self,
        suffered: Duration,
        converged_in: Duration,
        logs: Vec<Option<Log>>,
    ) -> Result<Report, Box<Failure>> {
        let terms = self.count_terms();
        self.stop_brokers();
        let largest_gap = self.witness.largest_gap();
        let took = self.witness.elapsed();
        let mut seen = self.witness.seen();
        let judgement = judge(&seen.history, logs);
        let mut violations = std::mem::take(&mut seen.violations);
        violations.extend(judgement.findings.iter().cloned().map(Violation::from));
        if !violations.is_empty() {
            let remains = Remains {
                options: self.options,
                violations: &violations,
                judgement: &judgement,
            };
            let folder = remains.write(&seen, self.nemesis.cluster());
            return Err(Box::new(Failure {
                folder,
                command: self.options.command(),
                violations,
            }));
        }
        Ok(Report {
            suffered,
            took,
            faults: self.nemesis.counts().clone(),
            tally: judgement.tally,
            topics: (seen.counts.created, seen.counts.deleted),
            partitions: seen.slots.len(),
            terms,
            largest_gap,
            converged_in,
        })
    }

    /// All brokers leave well, and none of them has ever panicked.
    fn stop_brokers(&mut self) {
        let brokers = &mut self.nemesis.cluster().brokers;
        brokers.iter().for_each(BrokerProcess::terminate);
        let until = Instant::now() + self.options.patience;
        let ended = brokers.iter_mut().map(|broker| {
            patiently(until, || broker.ended().ok_or_else(|| "still runs".to_owned()))
                .and_then(|status| status.success().then_some(()).ok_or_else(|| status.to_string()))
                .map_err(|how| format!("broker {}, told to stop in the end: {how}", broker.id))
        });
        let mut complaints: Vec<String> = ended.filter_map(Result::err).collect();
        complaints.extend(brokers.iter().filter_map(|broker| {
            let log = broker.log();
            let panicked = log.lines().find(|line| line.contains("panicked at"))?;
            Some(format!("broker {}: {panicked}", broker.id))
        }));
        for complaint in complaints {
            self.witness.accuse(Law::Converges, complaint);
        }
    }
}

/// Judges what can be judged: where there is no log, everything would seem to be lost.
fn judge(history: &History, logs: Vec<Option<Log>>) -> Judgement {
    if logs.iter().all(Option::is_some) {
        let logs: Vec<Log> = logs.into_iter().flatten().collect();
        return history.judge(&logs);
    }
    let known = history.within(|partition| logs.get(partition).is_some_and(Option::is_some));
    let logs: Vec<Log> = logs.into_iter().map(Option::unwrap_or_default).collect();
    known.judge(&logs)
}

/// Brokers that reach each other through the network's ways, each in a rack of its own.
fn start_cluster(options: &Options, network: &mut Network) -> Cluster {
    let cluster_options = ClusterOptions {
        brokers: options.brokers,
        settings: SETTINGS.iter().map(|line| (*line).to_owned()).collect(),
        racks: (1..=options.brokers).map(rack).collect(),
        binary: Some(options.binary.clone()),
        piped_logs: options.kinds.contains(&Kind::LogStall),
    };
    let mut cluster = Cluster::prepare_routed(&cluster_options, |from, to| network.add(from.id, to.id, to.peer));
    cluster.brokers.iter_mut().for_each(BrokerProcess::start);
    cluster.wait_ready();
    cluster
}

/// What is seen is kept in memory, so that a run of hours has to go slower than one of minutes.
fn pace(lasts: Duration) -> Duration {
    let slower = lasts.as_secs().div_ceil(FULL_PACE.as_secs()).max(1);
    PACE * u32::try_from(slower).unwrap_or(u32::MAX)
}
