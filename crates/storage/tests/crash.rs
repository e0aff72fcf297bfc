//! Journal and logs together, as a broker has them: a crash at every operation that changes the disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use trimaran_raft::{Configuration, Entry, GroupId, HardState, LogIndex, LogView, NodeId, Payload, Term};
use trimaran_storage::fs::faulty::FaultyFs;
use trimaran_storage::journal::{Journal, JournalBatch, JournalError, JournalOptions, Owner, OwnerId, read_mark};
use trimaran_storage::log::{Entries, LogError, LogOptions, ReplicaLog, Retention};
use trimaran_storage::offsets::{LogEnd, leader_epoch};
use trimaran_storage::producers::{KEPT_BATCHES, ProducedBatch};
use trimaran_storage::snapshot::LogStart;
use trimaran_wire::batch::{self, BatchHeader, Offset, ProducerStamp};

const GROUPS: std::ops::RangeInclusive<u64> = 1..=4;
/// The one whose replica is reset, lost and filled again.
const REPAIRED: u64 = 4;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Every group gets this many entries in this term, in one journal batch.
    Append { term: u64, count: u64 },
    /// One group's entries from here on are replaced by one of this term.
    Replace { group: u64, from: u64, term: u64 },
    /// One group's entries up to here are committed and flushed.
    Flush { group: u64, upto: u64 },
    /// The groups that hold the oldest journal file write their tails again.
    Rewrite,
    /// Old segments of a group go.
    Retain { group: u64 },
    /// A group gets a configuration.
    Configure { group: u64, term: u64, voters: u64 },
    /// A group's log is reset to a position.
    Reset { group: u64, index: u64, term: u64 },
    /// A group's log is quarantined, and begins empty.
    Lose { group: u64 },
}

/// Group 1 flushes all it has, group 2 now and then, group 3 never; group 4 changes its members, is lost, and is reset
/// twice.
fn script() -> Vec<Step> {
    let mut steps = vec![Step::Append { term: 1, count: 1 }];
    for round in 1..=7 {
        steps.push(Step::Append {
            term: 1 + round / 3,
            count: 2,
        });
        steps.push(Step::Flush {
            group: 1,
            upto: 2 * round + 1,
        });
        match round {
            2 => steps.push(Step::Replace {
                group: 3,
                from: 3,
                term: 3,
            }),
            3 | 6 => steps.push(Step::Flush {
                group: 2,
                upto: 2 * round - 1,
            }),
            4 => steps.push(Step::Rewrite),
            5 | 7 => steps.push(Step::Retain { group: 1 }),
            _ => {}
        }
        steps.extend(repair(round));
    }
    steps.extend([Step::Rewrite, Step::Append { term: 8, count: 1 }]);
    steps
}

/// What happens to group 4 beside what happens to all.
fn repair(round: u64) -> Vec<Step> {
    let group = REPAIRED;
    let configure = |term, voters| Step::Configure { group, term, voters };
    let flush = |upto| Step::Flush { group, upto };
    match round {
        1 => vec![configure(1, 3), flush(4)],
        2 => vec![configure(1, 4), flush(6), Step::Lose { group }],
        3 => vec![configure(2, 3), flush(3), flush(3)],
        4 => vec![
            Step::Reset {
                group,
                index: 100,
                term: 2,
            },
            flush(100),
        ],
        5 => vec![
            configure(2, 2),
            flush(103),
            Step::Reset {
                group,
                index: 200,
                term: 3,
            },
            configure(3, 5),
        ],
        6 => vec![flush(202), Step::Lose { group }],
        _ => Vec::new(),
    }
}

/// A group's log, from the place on where it begins.
#[derive(Clone, Default)]
struct Model {
    start: LogEnd,
    /// What producers sent before that.
    sent: Vec<ProducedBatch>,
    entries: Vec<Entry>,
}

type Models = BTreeMap<u64, Model>;

impl Model {
    fn end(&self) -> LogEnd {
        let end = |end: LogEnd, entry| end.after(entry).expect("it continues");
        self.entries.iter().fold(self.start, end)
    }

    /// What producers sent last before an entry.
    fn sent_before(&self, first: LogIndex) -> Vec<ProducedBatch> {
        let entries = self.entries.iter().filter(|entry| entry.index < first);
        let batches = entries.filter_map(|entry| match &entry.payload {
            Payload::Data(batch) => {
                let header = BatchHeader::parse(batch).expect("made here");
                ProducedBatch::of_header(entry.index, header.base_offset, &header)
            }
            Payload::Blank | Payload::Configuration(_) => None,
        });
        last_sent(self.sent.iter().copied().chain(batches))
    }

    /// The entries from an index on.
    fn since(&self, index: u64) -> &[Entry] {
        &self.entries[(index - self.start.index.0) as usize - 1..]
    }
}

fn configuration(voters: u64) -> Configuration {
    Configuration {
        voters: (1..=voters).map(NodeId).collect(),
        ..Configuration::default()
    }
}

/// Where a reset to this index leads.
fn position(index: u64, term: u64) -> LogStart {
    LogStart {
        end: LogEnd {
            index: LogIndex(index),
            term: Term(term),
            offset: Offset(3 * index as i64),
        },
        configuration: configuration(3),
        producers: if index > 0 { told(index) } else { Vec::new() },
    }
}

/// What producers are said to have sent before a position: one of them goes on behind it.
fn told(index: u64) -> Vec<ProducedBatch> {
    let batch = |producer, index: u64| ProducedBatch {
        producer,
        epoch: 1,
        first_sequence: index as i32,
        last_sequence: index as i32,
        index: LogIndex(index),
        base_offset: Offset(2 * index as i64),
    };
    vec![batch(5, index - 20), batch(6, index - 2), batch(5, index - 1)]
}

/// The entry that comes next: blank where a term begins.
fn make(model: &Model, term: u64) -> Entry {
    let end = model.end();
    let index = end.index.next();
    let payload = if end.term != Term(term) {
        Payload::Blank
    } else {
        let value = format!(
            "{index} of {term}, with something to fill a sector: {}",
            ".".repeat(150)
        );
        let mut batch = batch::build(index.0 as i64, &[(None, Some(value.as_bytes()))]);
        batch::set_producer(&mut batch, producer(index));
        batch::stamp(&mut batch, end.offset, leader_epoch(Term(term)));
        Payload::Data(batch.freeze())
    };
    Entry {
        index,
        term: Term(term),
        payload,
    }
}

/// Producer 5 is silent from entry 4 on, 6 and 7 take turns.
fn producer(index: LogIndex) -> ProducerStamp {
    ProducerStamp {
        id: if index < LogIndex(4) { 5 } else { 6 + index.0 as i64 % 2 },
        epoch: 1,
        first_sequence: index.0 as i32,
    }
}

/// The last batches of each producer, in log order.
fn last_sent(batches: impl Iterator<Item = ProducedBatch>) -> Vec<ProducedBatch> {
    let mut producers = BTreeMap::<i64, Vec<ProducedBatch>>::new();
    batches.for_each(|batch| producers.entry(batch.producer).or_default().push(batch));
    let mut last: Vec<_> = producers
        .into_values()
        .flat_map(|batches| batches.into_iter().rev().take(KEPT_BATCHES))
        .collect();
    last.sort_unstable_by_key(|batch| batch.index);
    last
}

/// Changes the model, and says what is to be journaled for it.
fn apply(models: &mut Models, step: Step) -> JournalBatch {
    let mut batch = JournalBatch::default();
    match step {
        Step::Append { term, count } => {
            for group in GROUPS {
                let model = models.entry(group).or_default();
                let term = model.end().term.0.max(term);
                let before = model.entries.len();
                for _ in 0..count {
                    model.entries.push(make(model, term));
                }
                let hard_state = HardState {
                    term: Term(term),
                    ..HardState::default()
                };
                batch.hard_state(GroupId(group), hard_state);
                batch.entries(GroupId(group), &model.entries[before..]);
            }
        }
        Step::Replace { group, from, term } => {
            let model = models.entry(group).or_default();
            model.entries.truncate(from as usize - 1);
            model.entries.push(make(model, term));
            batch.truncate(GroupId(group), LogIndex(from));
            batch.entries(GroupId(group), model.since(from));
        }
        Step::Configure { group, term, voters } => {
            let model = models.entry(group).or_default();
            let end = model.end();
            model.entries.push(Entry {
                index: end.index.next(),
                term: end.term.max(Term(term)),
                payload: Payload::Configuration(Box::new(configuration(voters))),
            });
            batch.entries(GroupId(group), model.since(end.index.0 + 1));
        }
        Step::Reset { group, index, term } => {
            let start = position(index, term);
            let model = models.entry(group).or_default();
            (model.start, model.entries) = (start.end, Vec::new());
            model.sent.clone_from(&start.producers);
            batch.reset(GroupId(group), &start.to_snapshot());
        }
        Step::Lose { group } => {
            models.insert(group, Model::default());
            batch.reset(GroupId(group), &position(0, 0).to_snapshot());
        }
        Step::Flush { .. } | Step::Rewrite | Step::Retain { .. } => {}
    }
    batch
}

/// The entries that a step adds to a group's log.
fn added(before: &Models, after: &Models, step: Step, group: u64) -> Vec<Entry> {
    let after = &after[&group];
    let from = match step {
        Step::Replace {
            group: replaced, from, ..
        } if replaced == group => from,
        _ => before.get(&group).map_or(1, |model| model.end().index.0 + 1),
    };
    after.since(from).to_vec()
}

#[derive(Debug)]
#[allow(dead_code, reason = "shown when a test fails")]
enum Failure {
    Journal(JournalError),
    Log(LogError),
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Failure {
        Failure::Journal(error)
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Failure {
        Failure::Log(error)
    }
}

struct Store {
    fs: FaultyFs,
    journal: Journal,
    logs: BTreeMap<u64, ReplicaLog>,
}

fn folder(group: u64) -> PathBuf {
    PathBuf::from(format!("/data/logs/{group}"))
}

fn log_options() -> LogOptions {
    LogOptions {
        segment_bytes: 600,
        segment_ms: u64::MAX,
        tail_bytes: 300,
    }
}

/// The next start of the one that all these journals belong to.
fn owner(fs: &FaultyFs) -> Result<Owner, JournalError> {
    let mark = PathBuf::from("/data/journal.mark");
    let start = read_mark(fs, &mark)?.map_or(1, |(_, mark)| mark.start + 1);
    let id = OwnerId([7; 16]);
    Ok(Owner { id, start, mark })
}

impl Store {
    fn open(fs: &FaultyFs) -> Result<Store, Failure> {
        let shared = Arc::new(fs.clone());
        let options = JournalOptions {
            file_bytes: 2500,
            max_files: 3,
        };
        let (journal, mut groups) =
            Journal::open_owned(shared.clone(), Path::new("/data/journal"), options, owner(fs)?)?;
        let mut store = Store {
            fs: fs.clone(),
            journal,
            logs: BTreeMap::new(),
        };
        for group in GROUPS {
            let recovered = groups.remove(&GroupId(group)).unwrap_or_default();
            match ReplicaLog::open(shared.clone(), &folder(group), GroupId(group), log_options(), recovered) {
                Ok(log) => {
                    store.journal.release(GroupId(group), log.flushed_index())?;
                    store.logs.insert(group, log);
                }
                // It was being quarantined.
                Err(LogError::Corrupt { .. } | LogError::Gap { .. }) if group == REPAIRED => store.lose(group)?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(store)
    }

    fn lose(&mut self, group: u64) -> Result<(), Failure> {
        let fs = Arc::new(self.fs.clone());
        let log = ReplicaLog::open_lost(fs, &folder(group), GroupId(group), log_options())?;
        let mut batch = JournalBatch::default();
        batch.reset(GroupId(group), &position(0, 0).to_snapshot());
        self.journal.write(&batch)?;
        self.logs.insert(group, log);
        Ok(())
    }

    fn run(&mut self, models: &Models, step: Step) -> Result<(), Failure> {
        match step {
            Step::Append { .. } | Step::Replace { .. } | Step::Configure { .. } => {
                let mut after = models.clone();
                let batch = apply(&mut after, step);
                if let Step::Replace { group, from, .. } = step {
                    self.log(group).truncate_from(LogIndex(from));
                }
                for group in GROUPS.filter(|group| after.contains_key(group)) {
                    self.log(group).append(&added(models, &after, step, group))?;
                }
                self.journal.write(&batch)?;
            }
            Step::Reset { group, index, term } => {
                let batch = apply(&mut models.clone(), step);
                self.log(group).reset(position(index, term));
                self.journal.write(&batch)?;
            }
            Step::Lose { group } => self.lose(group)?,
            Step::Flush { group, upto } => {
                if let Some(job) = self.log(group).flush(LogIndex(upto)) {
                    let flushed = job.run()?;
                    self.journal.release(flushed.group, flushed.upto)?;
                    self.log(group).flushed(flushed);
                }
            }
            Step::Rewrite => {
                let mut batch = JournalBatch::default();
                for group in self.journal.groups_to_flush() {
                    batch.rewrite(group, &self.logs[&group.0].unflushed());
                }
                self.journal.write(&batch)?;
            }
            Step::Retain { group } => {
                let log = self.log(group);
                let floor = log.flushed_index();
                log.retain(
                    0,
                    &Retention {
                        bytes: Some(1000),
                        ms: None,
                    },
                    floor,
                    |first| models[&group].sent_before(first),
                )?;
            }
        }
        Ok(())
    }

    fn log(&mut self, group: u64) -> &mut ReplicaLog {
        self.logs.get_mut(&group).expect("every group has a log")
    }

    /// Whether every log holds exactly what the model says, but for what retention deleted. Even of that, it is known
    /// what producers sent last.
    fn holds(&self, models: &Models) -> bool {
        { GROUPS }.all(|group| {
            let model = models.get(&group).cloned().unwrap_or_default();
            let log = &self.logs[&group];
            let (first, last) = (log.first_index(), log.last_index());
            if (log.end(), log.start().index < model.start.index) != (model.end(), false) {
                return false;
            }
            let found = match log.entries(first, last).unwrap() {
                Entries::Ready(found) => found,
                Entries::Load(job) => job.run().unwrap(),
            };
            let remembered = log.producer_snapshot().unwrap().into_iter();
            let batches = log.batches(first).unwrap();
            let sent = last_sent(remembered.chain(batches.iter().filter_map(ProducedBatch::of_meta)));
            found == model.since(first.0)
                && sent == model.sent_before(last.next())
                && (group == 1 || log.start() == model.start)
                && log.configurations() == configurations(&model)
        })
    }
}

/// Those of a log that retention has not shortened.
fn configurations(model: &Model) -> Vec<(LogIndex, Configuration)> {
    let at_start = (model.start.index > LogIndex::ZERO).then(|| (model.start.index, configuration(3)));
    let later = model.entries.iter().filter_map(|entry| match &entry.payload {
        Payload::Configuration(configuration) => Some((entry.index, (**configuration).clone())),
        Payload::Blank | Payload::Data(_) => None,
    });
    at_start.into_iter().chain(later).collect()
}

/// The model after each step, the one before the first included.
fn models(steps: &[Step]) -> Vec<Models> {
    let mut models = vec![Models::new()];
    for step in steps {
        let mut model = models[models.len() - 1].clone();
        apply(&mut model, *step);
        models.push(model);
    }
    models
}

/// Crashes at one operation, checks what is there, goes on to the end, and checks again after a last crash.
fn check(steps: &[Step], models: &[Models], seed: u64, at: u64) {
    let fs = FaultyFs::new(seed * 10_000 + at);
    fs.crash_at(at);
    let done = match Store::open(&fs) {
        Err(_) => 0,
        Ok(mut store) => {
            let failed = steps
                .iter()
                .zip(models)
                .position(|(step, model)| store.run(model, *step).is_err());
            failed.unwrap_or(steps.len())
        }
    };
    // Every other time only the process dies, and what it had not synced is still to be seen.
    if seed.is_multiple_of(2) {
        fs.crash()
    } else {
        fs.kill()
    }
    let mut store = Store::open(&fs).unwrap_or_else(|error| panic!("seed {seed}, at {at}: {error:?}"));
    let in_flight = models.get(done + 1).is_some_and(|model| store.holds(model));
    assert!(
        in_flight || store.holds(&models[done]),
        "seed {seed}, at {at}, after {done} steps"
    );
    for (step, model) in steps.iter().zip(models).skip(done + usize::from(in_flight)) {
        store
            .run(model, *step)
            .unwrap_or_else(|error| panic!("seed {seed}, at {at}, {step:?}: {error:?}"));
    }
    fs.crash();
    let store = Store::open(&fs).unwrap_or_else(|error| panic!("seed {seed}, at {at}, at last: {error:?}"));
    assert!(store.holds(&models[steps.len()]), "seed {seed}, at {at}, at last");
}

#[test]
fn a_crash_at_any_operation_loses_nothing_acknowledged_and_invents_nothing() {
    let steps = script();
    let models = models(&steps);
    let fs = FaultyFs::new(0);
    let mut store = Store::open(&fs).unwrap();
    for (step, model) in steps.iter().zip(&models) {
        store.run(model, *step).unwrap();
    }
    assert!(store.holds(&models[steps.len()]));
    assert!(store.logs[&1].first_index() > LogIndex(1), "something was deleted");
    let remembered = store.logs[&1].producer_snapshot().unwrap();
    assert!(remembered.len() > KEPT_BATCHES, "{remembered:?}");
    let first_file = Path::new("/data/journal/00000000000000000001.journal");
    assert!(fs.contents(first_file).is_none(), "journal files were recycled");
    let files: Vec<_> = fs.files().into_iter().map(|(path, _)| path).collect();
    assert!(
        files.iter().any(|path| path.to_str().unwrap().ends_with(".damaged")),
        "{files:?}"
    );
    assert!(fs.operations() > 150, "{}", fs.operations());
    for seed in 0..6 {
        for at in 1..=fs.operations() {
            check(&steps, &models, seed, at);
        }
    }
}
