//! The log against a plain list of entries, under a random workload with crashes.

use super::*;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % limit
    }
}

/// What the log must hold, and what a journal beside it would.
struct Model {
    /// From index 1 on, deleted ones included.
    entries: Vec<Entry>,
    committed: u64,
    /// What the journal knows to be flushed; it holds everything after it.
    mark: u64,
    term: u64,
    now: i64,
}

impl Model {
    fn next_offset(&self) -> i64 {
        self.entries
            .iter()
            .rev()
            .find_map(|entry| records_of(entry).map(|(_, next)| next))
            .unwrap_or(0)
    }

    fn grow(&mut self, random: &mut Random) -> Entry {
        let index = self.entries.len() as u64 + 1;
        let new_term = index == 1 || random.below(12) == 0;
        self.term += if new_term { 1 + random.below(2) } else { 0 };
        self.now += random.below(20) as i64;
        let entry = if new_term {
            blank(index, self.term)
        } else {
            let timestamp = self.now - random.below(50) as i64;
            data(
                index,
                self.term,
                self.next_offset(),
                1 + random.below(4) as usize,
                timestamp,
            )
        };
        self.entries.push(entry.clone());
        entry
    }

    fn recovered(&self, random: &mut Random) -> RecoveredGroup {
        // The journal may hold some of what it knows to be flushed.
        let from = self.mark.saturating_sub(random.below(5));
        mark(self.mark, &self.entries[from as usize..])
    }
}

/// Base and next offset; none for a blank entry.
fn records_of(entry: &Entry) -> Option<(i64, i64)> {
    let header = BatchHeader::parse(payload(entry)).ok()?;
    Some((header.base_offset.0, header.next_offset().0))
}

fn timestamp_of(entry: &Entry) -> i64 {
    BatchHeader::parse(payload(entry)).unwrap().max_timestamp
}

/// Asks the log everything and compares.
fn check(log: &ReplicaLog, model: &Model, random: &mut Random) {
    let (first, last) = (log.first_index().0, log.last_index().0);
    assert_eq!(last, model.entries.len() as u64);
    assert!(log.flushed_index().0 <= model.committed);
    let held = &model.entries[first as usize - 1..];
    assert!(load(log, first, last).unwrap() == held);
    if first <= last {
        let from = first + random.below(last - first + 1);
        let upto = from + random.below(last - from + 1);
        assert!(load(log, from, upto).unwrap() == model.entries[from as usize - 1..upto as usize]);
    }
    for index in first..=last {
        assert_eq!(
            log.term_at(LogIndex(index)),
            TermAt::Known(model.entries[index as usize - 1].term)
        );
    }
    let before = (first as usize)
        .checked_sub(2)
        .map_or(Term::ZERO, |at| model.entries[at].term);
    assert_eq!(log.term_at(LogIndex(first - 1)), TermAt::Known(before));
    check_terms(log, model, first, last);
    check_reads(log, model, held, random);
    check_timestamps(log, model, held, random);
}

fn check_terms(log: &ReplicaLog, model: &Model, first: u64, last: u64) {
    for term in 0..=model.term + 1 {
        let at_most = |entry: &&Entry| entry.term.0 <= term && entry.index.0 >= first;
        let expected = model
            .entries
            .iter()
            .rfind(at_most)
            .map_or(first - 1, |entry| entry.index.0);
        assert_eq!(log.last_index_with_term_at_most(Term(term), LogIndex(last)).0, expected);
        let held = model.entries.iter().filter(|entry| entry.index.0 + 1 >= first);
        let epoch = held.filter(|entry| entry.term.0 <= term).map(|entry| entry.term).max();
        let ends = epoch.map(|epoch| {
            let next = model.entries.iter().position(|entry| entry.term > epoch);
            let offsets = model.entries[..next.unwrap_or(model.entries.len())]
                .iter()
                .rev()
                .find_map(records_of);
            (leader_epoch(epoch), Offset(offsets.map_or(0, |(_, next)| next)))
        });
        assert_eq!(log.epoch_end(leader_epoch(Term(term))), ends, "epoch {term}");
    }
}

fn check_reads(log: &ReplicaLog, model: &Model, held: &[Entry], random: &mut Random) {
    let committed = &model.entries[..model.committed as usize];
    let end = committed.iter().rev().find_map(records_of).map_or(0, |(_, next)| next);
    let upto = log.high_watermark(LogIndex(model.committed));
    assert_eq!(upto, HighWatermark(Offset(end)));
    assert_eq!(log.next_offset().0, model.next_offset());
    let start = log.start_offset().0;
    assert_eq!(held.iter().find_map(records_of).map_or(start, |(base, _)| base), start);
    let from = start + random.below((end - start) as u64 + 1) as i64;
    let max_bytes = random.below(600) as usize;
    let mut expected: Vec<u8> = Vec::new();
    for entry in committed
        .iter()
        .filter(|entry| records_of(entry).is_some_and(|(_, next)| next > from))
    {
        if !expected.is_empty() && expected.len() + payload(entry).len() > max_bytes {
            break;
        }
        expected.extend_from_slice(payload(entry));
    }
    let found = bytes_of(log.read(Offset(from), upto, max_bytes).unwrap());
    assert!(
        found == expected,
        "from {from} to {end}, {max_bytes} bytes: {} and {}",
        found.len(),
        expected.len()
    );
    let metas = log.batches(log.first_index()).unwrap();
    let bases: Vec<(i64, i64)> = metas
        .iter()
        .map(|meta| (meta.base_offset.0, meta.last_offset.0 + 1))
        .collect();
    assert_eq!(bases, held.iter().filter_map(records_of).collect::<Vec<_>>());
}

fn check_timestamps(log: &ReplicaLog, model: &Model, held: &[Entry], random: &mut Random) {
    let upto = log.high_watermark(LogIndex(model.committed));
    let committed: Vec<&Entry> = held
        .iter()
        .filter(|entry| entry.index.0 <= model.committed && records_of(entry).is_some())
        .collect();
    let wanted = model.now - random.below(200) as i64;
    let expected = committed
        .iter()
        .find(|entry| timestamp_of(entry) >= wanted)
        .map(|entry| entry.index);
    let found = log.batch_by_timestamp(wanted, upto).unwrap();
    assert_eq!(found.map(|(meta, _)| meta.index), expected);
    let latest = committed.iter().map(|entry| timestamp_of(entry)).max();
    let expected = committed
        .iter()
        .find(|entry| Some(timestamp_of(entry)) == latest)
        .map(|entry| entry.index);
    assert_eq!(log.max_timestamp(upto).unwrap().map(|(meta, _)| meta.index), expected);
}

fn run(seed: u64, steps: usize) {
    let mut random = Random(seed);
    let fs = FaultyFs::new(seed);
    let limits = LogOptions {
        tail_bytes: [0, 700, u64::MAX][random.below(3) as usize],
        ..options()
    };
    let open = |model: &Model, random: &mut Random| {
        let recovered = model.recovered(random);
        open_with(&fs, limits.clone(), recovered).unwrap_or_else(|error| panic!("seed {seed}: {error}"))
    };
    let mut model = Model {
        entries: Vec::new(),
        committed: 0,
        mark: 0,
        term: 0,
        now: 1000,
    };
    let mut log = open(&model, &mut random);
    for _ in 0..steps {
        match random.below(20) {
            0..8 => {
                let new: Vec<Entry> = (0..1 + random.below(4)).map(|_| model.grow(&mut random)).collect();
                log.append(&new).unwrap();
            }
            8..11 => model.committed += random.below(model.entries.len() as u64 - model.committed + 1),
            11..13 => {
                let from = model.committed + random.below(model.entries.len() as u64 - model.committed + 1) + 1;
                model.entries.truncate(from as usize - 1);
                model.term += 1;
                log.truncate_from(LogIndex(from));
            }
            13..17 => {
                if let Some(job) = log.flush(LogIndex(model.committed)) {
                    let crashes = random.below(4) == 0;
                    if crashes {
                        fs.crash_at(fs.operations() + 1 + random.below(8));
                    }
                    match job.run() {
                        Ok(flushed) => {
                            let upto = flushed.upto.0;
                            log.flushed(flushed);
                            // The journal may hear of it late.
                            model.mark = upto - random.below(upto - model.mark + 1);
                        }
                        Err(_) => assert!(fs.is_down()),
                    }
                    if crashes {
                        if random.below(2) == 0 {
                            fs.crash()
                        } else {
                            fs.kill()
                        }
                        log = open(&model, &mut random);
                    }
                }
            }
            17 => {
                let retention = Retention {
                    bytes: Some(random.below(2000)),
                    ms: Some(random.below(400)),
                };
                let floor = LogIndex(random.below(model.mark + 1));
                log.retain(model.now, &retention, floor, no_producers).unwrap();
            }
            _ => {
                if random.below(2) == 0 {
                    fs.crash()
                } else {
                    fs.kill()
                }
                log = open(&model, &mut random);
            }
        }
        check(&log, &model, &mut random);
    }
}

#[test]
fn it_behaves_like_a_list_of_entries() {
    for seed in 0..40 {
        run(seed, 120);
    }
}
