//! Journal and logs together, as a broker has them: a crash at every operation that changes the disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use trimaran_raft::{Entry, GroupId, HardState, LogIndex, LogView, Payload, Term};
use trimaran_storage::fs::faulty::FaultyFs;
use trimaran_storage::journal::{Journal, JournalBatch, JournalError, JournalOptions};
use trimaran_storage::log::{Entries, LogError, LogOptions, ReplicaLog, Retention};
use trimaran_storage::scale::leader_epoch;
use trimaran_wire::batch::{self, Offset};

const GROUPS: std::ops::RangeInclusive<u64> = 1..=3;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Every group gets this many entries in this term, in one journal batch.
    Append { term: u64, count: u64 },
    /// One group's entries from here on are replaced by one of this term.
    Replace { group: u64, from: u64, term: u64 },
    /// One group's entries up to here are committed and flushed.
    Flush { group: u64, upto: u64 },
    /// Whoever holds the oldest journal file writes its tail again.
    Rewrite,
    /// Old segments of a group go.
    Retain { group: u64 },
}

/// Group 1 flushes all it has, group 2 now and then, group 3 never.
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
            5 => steps.push(Step::Retain { group: 1 }),
            _ => {}
        }
    }
    steps.extend([Step::Rewrite, Step::Append { term: 8, count: 1 }]);
    steps
}

type Model = BTreeMap<u64, Vec<Entry>>;

fn next_offset(entries: &[Entry]) -> i64 {
    entries.iter().filter(|entry| entry.payload != Payload::Blank).count() as i64
}

/// The entry that comes next: blank where a term begins.
fn make(entries: &[Entry], term: u64) -> Entry {
    let index = LogIndex(entries.len() as u64 + 1);
    let payload = if entries.last().is_none_or(|last| last.term != Term(term)) {
        Payload::Blank
    } else {
        let value = format!(
            "{index} of {term}, with something to fill a sector: {}",
            ".".repeat(150)
        );
        let mut batch = batch::build(index.0 as i64, &[(None, Some(value.as_bytes()))]);
        batch::stamp(&mut batch, Offset(next_offset(entries)), leader_epoch(Term(term)));
        Payload::Data(batch.freeze())
    };
    Entry {
        index,
        term: Term(term),
        payload,
    }
}

/// Changes the model, and says what is to be journaled for it.
fn apply(model: &mut Model, step: Step) -> JournalBatch {
    let mut batch = JournalBatch::default();
    match step {
        Step::Append { term, count } => {
            for group in GROUPS {
                let entries = model.entry(group).or_default();
                let term = entries.last().map_or(term, |last| last.term.0.max(term));
                let before = entries.len();
                for _ in 0..count {
                    entries.push(make(entries, term));
                }
                batch.hard_state(
                    GroupId(group),
                    HardState {
                        term: Term(term),
                        vote: None,
                        ..HardState::default()
                    },
                );
                batch.entries(GroupId(group), &entries[before..]);
            }
        }
        Step::Replace { group, from, term } => {
            let entries = model.entry(group).or_default();
            entries.truncate(from as usize - 1);
            entries.push(make(entries, term));
            batch.truncate(GroupId(group), LogIndex(from));
            batch.entries(GroupId(group), &entries[from as usize - 1..]);
        }
        Step::Flush { .. } | Step::Rewrite | Step::Retain { .. } => {}
    }
    batch
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
    journal: Journal,
    logs: BTreeMap<u64, ReplicaLog>,
}

impl Store {
    fn open(fs: &FaultyFs) -> Result<Store, Failure> {
        let shared = Arc::new(fs.clone());
        let options = JournalOptions {
            file_bytes: 2500,
            max_files: 3,
        };
        let (mut journal, mut groups) = Journal::open(shared.clone(), Path::new("/data/journal"), options)?;
        let mut logs = BTreeMap::new();
        for group in GROUPS {
            let options = LogOptions {
                segment_bytes: 600,
                segment_ms: u64::MAX,
                tail_bytes: 300,
            };
            let dir = PathBuf::from(format!("/data/logs/{group}"));
            let recovered = groups.remove(&GroupId(group)).unwrap_or_default();
            let log = ReplicaLog::open(shared.clone(), &dir, GroupId(group), options, recovered)?;
            journal.release(GroupId(group), log.flushed_index())?;
            logs.insert(group, log);
        }
        Ok(Store { journal, logs })
    }

    fn run(&mut self, model: &Model, step: Step) -> Result<(), Failure> {
        match step {
            Step::Append { .. } | Step::Replace { .. } => {
                let before = model.clone();
                let mut after = model.clone();
                let batch = apply(&mut after, step);
                if let Step::Replace { group, from, .. } = step {
                    self.log(group).truncate_from(LogIndex(from));
                }
                for group in GROUPS {
                    let new = match step {
                        Step::Replace {
                            group: replaced, from, ..
                        } if replaced == group => from as usize - 1,
                        _ => before.get(&group).map_or(0, Vec::len),
                    };
                    self.log(group).append(&after[&group][new..])?;
                }
                self.journal.write(&batch)?;
            }
            Step::Flush { group, upto } => {
                if let Some(job) = self.log(group).flush(LogIndex(upto)) {
                    let flushed = job.run()?;
                    self.journal.release(flushed.group, flushed.upto)?;
                    self.log(group).flushed(flushed);
                }
            }
            Step::Rewrite => {
                let mut batch = JournalBatch::default();
                for group in self.journal.laggards() {
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
                )?;
            }
        }
        Ok(())
    }

    fn log(&mut self, group: u64) -> &mut ReplicaLog {
        self.logs.get_mut(&group).expect("every group has a log")
    }

    /// Whether every log holds exactly what the model says, but for what retention deleted.
    fn holds(&self, model: &Model) -> bool {
        { GROUPS }.all(|group| {
            let entries = model.get(&group).map_or(&[][..], Vec::as_slice);
            let log = &self.logs[&group];
            let (first, last) = (log.first_index(), log.last_index());
            if last.0 != entries.len() as u64 {
                return false;
            }
            let found = match log.entries(first, last).unwrap() {
                Entries::Ready(found) => found,
                Entries::Load(job) => job.run().unwrap(),
            };
            found == entries[first.0 as usize - 1..] && (group == 1 || first == LogIndex(1))
        })
    }
}

/// The model after each step, the one before the first included.
fn models(steps: &[Step]) -> Vec<Model> {
    let mut models = vec![Model::new()];
    for step in steps {
        let mut model = models[models.len() - 1].clone();
        apply(&mut model, *step);
        models.push(model);
    }
    models
}

/// Crashes at one operation, checks what is there, goes on to the end, and checks again after a last crash.
fn check(steps: &[Step], models: &[Model], seed: u64, at: u64) {
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
    let first_file = Path::new("/data/journal/00000000000000000001.journal");
    assert!(fs.contents(first_file).is_none(), "journal files were recycled");
    assert!(fs.operations() > 80, "{}", fs.operations());
    for seed in 0..6 {
        for at in 1..=fs.operations() {
            check(&steps, &models, seed, at);
        }
    }
}
