//! The journal as a write-ahead log for a store of one's own: a map that survives a crash at any moment.
//!
//! `cargo run -p trimaran-storage --example wal -- FOLDER colour=red shape=round` sets two keys and shows all there
//! are; run it again with other keys, or none.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use trimaran_raft::{Entry, GroupId, LogIndex, Payload, Term};
use trimaran_storage::fs::RealFs;
use trimaran_storage::journal::{Journal, JournalBatch, JournalOptions};

/// A journal serves any number of logs. This store has one.
const LOG: GroupId = GroupId(1);

/// Entries that are in the journal only, before all is written to the file.
const ENTRIES_BEFORE_DUMP: u64 = 4;

struct Store {
    dir: PathBuf,
    map: BTreeMap<String, String>,
    journal: Journal,
    /// The last entry that is in the map.
    last: LogIndex,
    /// The last entry that is in the file.
    dumped: LogIndex,
}

impl Store {
    /// What the file holds, and on top of it what the journal holds.
    fn open(dir: &Path) -> Result<Store, Box<dyn Error>> {
        fs::create_dir_all(dir)?;
        let (mut map, dumped) = read(&dir.join("dump"))?;
        let options = JournalOptions {
            file_bytes: 1 << 20,
            max_files: 4,
        };
        let (mut journal, mut found) = Journal::open(Arc::new(RealFs::default()), &dir.join("journal"), options)?;
        let found = found.remove(&LOG).unwrap_or_default();
        let mut last = dumped;
        for entry in found.entries.iter().filter(|entry| entry.index > dumped) {
            if let Payload::Data(bytes) = &entry.payload {
                apply(&mut map, &String::from_utf8_lossy(bytes));
            }
            last = entry.index;
        }
        journal.release(LOG, dumped)?; // a crash may have come between the two
        let dir = dir.to_owned();
        Ok(Store {
            dir,
            map,
            journal,
            last,
            dumped,
        })
    }

    /// On return all of them are on disk: one write, one sync, however many they are.
    fn set(&mut self, pairs: &[String]) -> Result<(), Box<dyn Error>> {
        let mut batch = JournalBatch::default();
        for pair in pairs {
            self.last = self.last.next();
            let payload = Payload::Data(pair.clone().into());
            let (index, term) = (self.last, Term(1));
            batch.entries(LOG, &[Entry { index, term, payload }]);
        }
        self.journal.write(&batch)?;
        pairs.iter().for_each(|pair| apply(&mut self.map, pair));
        if self.last.0 - self.dumped.0 >= ENTRIES_BEFORE_DUMP {
            self.dump()?;
        }
        Ok(())
    }

    /// Once the file holds everything, and durably, the journal need not.
    fn dump(&mut self) -> Result<(), Box<dyn Error>> {
        let (new, file) = (self.dir.join("dump.new"), self.dir.join("dump"));
        let mut out = File::create(&new)?;
        writeln!(out, "{}", self.last)?;
        self.map
            .iter()
            .try_for_each(|(key, value)| writeln!(out, "{key}={value}"))?;
        out.sync_all()?;
        fs::rename(&new, &file)?;
        File::open(&self.dir)?.sync_all()?;
        self.journal.release(LOG, self.last)?;
        self.dumped = self.last;
        Ok(())
    }
}

fn read(file: &Path) -> Result<(BTreeMap<String, String>, LogIndex), Box<dyn Error>> {
    let mut map = BTreeMap::new();
    if !file.exists() {
        return Ok((map, LogIndex::ZERO));
    }
    let text = fs::read_to_string(file)?;
    let mut lines = text.lines();
    let last = LogIndex(lines.next().ok_or("the dump is empty")?.parse()?);
    lines.for_each(|pair| apply(&mut map, pair));
    Ok((map, last))
}

fn apply(map: &mut BTreeMap<String, String>, pair: &str) {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    map.insert(key.to_owned(), value.to_owned());
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().ok_or("which folder?")?;
    let mut store = Store::open(Path::new(&dir))?;
    store.set(&arguments.collect::<Vec<_>>())?;
    for (key, value) in &store.map {
        println!("{key} = {value}");
    }
    println!("{} entries so far, {} of them in the dump", store.last, store.dumped);
    Ok(())
}
