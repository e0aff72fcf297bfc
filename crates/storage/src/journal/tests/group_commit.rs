//! One journal that many threads write to.

use super::*;
use crate::fs::{DirLock, RealFs};
use std::sync::{Barrier, Condvar, Mutex};
use std::thread;

const OPTIONS: JournalOptions = JournalOptions {
    file_bytes: 1 << 20,
    max_files: 4,
};

fn shared(fs: impl Fs, dir: &Path) -> GroupCommit {
    GroupCommit::new(Journal::open(Arc::new(fs), dir, OPTIONS).unwrap().0)
}

/// A disk whose syncs of files wait at a gate while it is closed.
#[derive(Clone)]
struct GatedFs {
    fs: FaultyFs,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    is_closed: bool,
    waiting: usize,
    syncs: usize,
}

impl Gate {
    fn close(&self) {
        self.state.lock().unwrap().is_closed = true;
    }

    fn open(&self) {
        self.state.lock().unwrap().is_closed = false;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.waiting += 1;
        self.changed.notify_all();
        while state.is_closed {
            state = self.changed.wait(state).unwrap();
        }
        state.waiting -= 1;
        state.syncs += 1;
    }

    fn wait_for_somebody(&self) {
        let mut state = self.state.lock().unwrap();
        while state.waiting == 0 {
            state = self.changed.wait(state).unwrap();
        }
    }

    fn syncs(&self) -> usize {
        self.state.lock().unwrap().syncs
    }
}

impl Fs for GatedFs {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        let (file, gate) = (self.fs.open(path, mode)?, Arc::clone(&self.gate));
        Ok(Arc::new(GatedFile { file, gate }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.fs.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.fs.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.fs.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.fs.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.fs.remove_dir_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.fs.sync_dir(dir)
    }

    fn lock_dir(&self, dir: &Path) -> io::Result<DirLock> {
        self.fs.lock_dir(dir)
    }
}

struct GatedFile {
    file: Arc<dyn File>,
    gate: Arc<Gate>,
}

impl File for GatedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_all_at(&self, slices: &[io::IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.file.write_all_at(slices, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.gate.pass();
        self.file.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn forget_cached(&self, offset: u64, len: u64) {
        self.file.forget_cached(offset, len);
    }

    fn note_misread(&self, position: u64, what: &'static str) {
        self.file.note_misread(position, what);
    }

    fn modified_ms(&self) -> io::Result<i64> {
        self.file.modified_ms()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

fn gated() -> (GatedFs, GroupCommit) {
    let fs = GatedFs {
        fs: FaultyFs::new(1),
        gate: Arc::default(),
    };
    let journal = shared(fs.clone(), Path::new(DIR));
    journal.write(append(100, &[entry(1, 1, b"begins a file")])).unwrap();
    (fs, journal)
}

/// Waits until so many batches are waiting behind the one that is being written.
fn wait_for(journal: &GroupCommit, waiting: usize) {
    while journal.counts().waiting < waiting {
        thread::yield_now();
    }
}

#[test]
fn what_gathers_during_a_sync_takes_one_more() {
    let (fs, journal) = gated();
    let before = (fs.gate.syncs(), journal.counts());
    fs.gate.close();
    thread::scope(|scope| {
        let write = |group| {
            let journal = &journal;
            move || journal.write(append(group, &[entry(1, 1, b"x")])).unwrap()
        };
        scope.spawn(write(1));
        fs.gate.wait_for_somebody();
        (2..=31).for_each(|group| drop(scope.spawn(write(group))));
        wait_for(&journal, 30);
        fs.gate.open();
    });
    let counts = journal.counts();
    assert_eq!(fs.gate.syncs() - before.0, 2, "31 threads");
    assert_eq!(counts.writes - before.1.writes, 2);
    assert_eq!((counts.batches - before.1.batches, counts.waiting), (31, 0));
    drop(journal);
    fs.fs.crash();
    let (_, found) = Journal::open(Arc::new(fs.fs), Path::new(DIR), OPTIONS).unwrap();
    assert_eq!(found.len(), 32, "all are durable");
}

#[test]
fn tickets_are_written_together_when_the_last_one_is_waited_for() {
    let (fs, journal) = gated();
    let before = fs.gate.syncs();
    let submit = |index| journal.submit(append(1, &[entry(index, 1, b"x")]));
    let tickets: Vec<Ticket> = (1..=100).map(submit).collect();
    assert!(tickets.iter().all(|ticket| ticket.outcome().is_none()));
    assert_eq!(fs.gate.syncs(), before, "nobody waits");
    journal.write(JournalBatch::default()).unwrap();
    assert_eq!(fs.gate.syncs(), before + 1, "an empty batch waits for those before it");
    assert!(tickets.iter().all(|ticket| matches!(ticket.outcome(), Some(Ok(())))));
    for ticket in tickets {
        ticket.wait().unwrap();
    }
    assert_eq!(fs.gate.syncs(), before + 1);
}

#[test]
fn what_is_submitted_beyond_the_limit_is_written_first() {
    let (fs, journal) = gated();
    let before = journal.counts();
    let large = entry(1, 1, &vec![7; 10 << 20]);
    let tickets: Vec<Ticket> = (1..=8)
        .map(|group| journal.submit(append(group, std::slice::from_ref(&large))))
        .collect();
    let counts = journal.counts();
    // Six of them are 60 MiB, and the seventh made its caller write. No two fit into one write.
    assert_eq!((counts.waiting, counts.writes - before.writes), (6, 2));
    for ticket in tickets {
        ticket.wait().unwrap();
    }
    assert_eq!(journal.counts().writes - before.writes, 8);
    drop((journal, fs));
}

#[test]
fn a_refused_batch_is_its_owners_problem_only() {
    let (fs, journal) = gated();
    let good = journal.submit(append(1, &[entry(1, 1, b"a")]));
    let gap = journal.submit(append(1, &[entry(5, 1, b"b")]));
    let next = journal.submit(append(1, &[entry(2, 1, b"c")]));
    next.wait().unwrap();
    good.wait().unwrap();
    let refusal = gap.wait().unwrap_err();
    assert!(
        matches!(
            &*refusal,
            JournalError::Refused {
                group: GroupId(1),
                what: Refusal::Gap { .. }
            }
        ),
        "{refusal}"
    );
    journal
        .with(|journal| journal.release(GroupId(1), LogIndex(1)))
        .unwrap();
    let error = journal.with(|journal| journal.release(GroupId(1), LogIndex(9)));
    assert!(matches!(&*error.unwrap_err(), JournalError::Refused { .. }));
    drop(journal);
    let (_, found) = Journal::open(Arc::new(fs.fs), Path::new(DIR), OPTIONS).unwrap();
    assert_eq!(found[&GroupId(1)].entries, [entry(1, 1, b"a"), entry(2, 1, b"c")]);
}

#[test]
fn everybody_hears_of_a_failed_sync() {
    let (fs, journal) = gated();
    fs.gate.close();
    fs.fs.fail(Fault {
        operation: Operation::Sync,
        path_contains: ".journal".into(),
        after: 0,
        times: 1,
        kind: io::ErrorKind::StorageFull,
    });
    let outcomes: Vec<Outcome> = thread::scope(|scope| {
        let write = |group| {
            let journal = &journal;
            move || journal.write(append(group, &[entry(1, 1, b"x")]))
        };
        let first = scope.spawn(write(1));
        fs.gate.wait_for_somebody();
        let others: Vec<_> = (2..=20).map(|group| scope.spawn(write(group))).collect();
        wait_for(&journal, 19);
        fs.gate.open();
        let all = std::iter::once(first).chain(others);
        all.map(|writer| writer.join().unwrap()).collect()
    });
    let later = journal.write(append(21, &[entry(1, 1, b"x")]));
    for outcome in outcomes.into_iter().chain([later]) {
        let error = outcome.unwrap_err();
        assert!(
            matches!(&*error, JournalError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull),
            "{error}"
        );
    }
    assert_eq!(journal.counts().batches, 1, "only the one from before");
    // Opened again once nobody holds it any more, and not before.
    let open = || Journal::open(Arc::new(fs.fs.clone()), Path::new(DIR), OPTIONS);
    assert!(matches!(open(), Err(JournalError::Locked { .. })));
    drop(journal);
    open().unwrap();
}

#[test]
fn a_panic_of_one_thread_leaves_nobody_waiting() {
    let (_fs, journal) = gated();
    let waiting = journal.submit(append(1, &[entry(1, 1, b"x")]));
    thread::scope(|scope| {
        let user = scope.spawn(|| journal.with(|_| -> Result<(), JournalError> { panic!("in the midst of it") }));
        assert!(user.join().is_err());
    });
    assert!(matches!(&*waiting.wait().unwrap_err(), JournalError::Poisoned));
    let error = journal.with(|journal| Ok(journal.live_files())).unwrap_err();
    assert!(matches!(&*error, JournalError::Poisoned));
}

/// In each round, every thread writes an entry of its own group, until the disk fails or the power does. What was
/// acknowledged is there.
#[test]
fn nothing_acknowledged_is_lost_whatever_the_disk_does() {
    const THREADS: u64 = 8;
    const ROUNDS: u64 = 25;
    let mut acknowledged_in_all = 0;
    for seed in 0..60 {
        let fs = FaultyFs::new(seed);
        let journal = shared(fs.clone(), Path::new(DIR));
        match seed % 3 {
            // A round takes two operations at least.
            0 => fs.crash_at(fs.operations() + 15 + seed / 2),
            kind => fs.fail(Fault {
                operation: if kind == 1 { Operation::Sync } else { Operation::Write },
                path_contains: ".journal".into(),
                after: 5 + seed / 4,
                times: 1,
                kind: io::ErrorKind::Other,
            }),
        }
        let round = Barrier::new(THREADS as usize);
        let write = |group, index| journal.write(append(group, &[entry(index, 1, &[group as u8; 700])]));
        let acknowledged: Vec<u64> = thread::scope(|scope| {
            let writer = |group| {
                let (write, round) = (&write, &round);
                scope.spawn(move || {
                    let mut is_well = true;
                    let write = |index| {
                        round.wait();
                        is_well = is_well && write(group, index).is_ok();
                        is_well
                    };
                    (1..=ROUNDS).map(write).filter(|written| *written).count() as u64
                })
            };
            let writers: Vec<_> = (1..=THREADS).map(writer).collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        assert!(write(99, 1).is_err(), "seed {seed}: nothing has failed");
        acknowledged_in_all += acknowledged.iter().sum::<u64>();
        drop(journal);
        fs.crash();
        fs.heal();
        let (_, found) = Journal::open(Arc::new(fs), Path::new(DIR), OPTIONS).unwrap();
        for (group, last) in (1..).zip(acknowledged) {
            let entries = found.get(&GroupId(group)).map_or(&[][..], |group| &group.entries);
            let expected: Vec<Entry> = (1..=last).map(|index| entry(index, 1, &[group as u8; 700])).collect();
            assert!(
                entries.starts_with(&expected),
                "seed {seed}, group {group}: {last} were acknowledged"
            );
        }
    }
    assert!(acknowledged_in_all > 60 * THREADS, "{acknowledged_in_all}");
}

/// On a real disk, syncs take long enough for batches to gather by themselves.
#[test]
fn threads_share_the_syncs_of_a_real_disk() {
    const THREADS: u64 = 16;
    const EACH: u64 = 40;
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("journal");
    let journal = shared(RealFs::default(), &dir);
    thread::scope(|scope| {
        for group in 1..=THREADS {
            let journal = &journal;
            scope.spawn(move || {
                for index in 1..=EACH {
                    journal.write(append(group, &[entry(index, 1, b"x")])).unwrap();
                    journal
                        .with(|journal| journal.release(GroupId(group), LogIndex(index - 1)))
                        .unwrap();
                }
            });
        }
    });
    let counts = journal.counts();
    assert_eq!(counts.batches, THREADS * EACH);
    assert!(counts.writes <= counts.batches, "{counts:?}");
    drop(journal);
    let (_, found) = Journal::open(Arc::new(RealFs::default()), &dir, OPTIONS).unwrap();
    for group in found.values() {
        assert_eq!(group.entries.last().map(|last| last.index), Some(LogIndex(EACH)));
    }
    assert_eq!(found.len() as u64, THREADS);
}
