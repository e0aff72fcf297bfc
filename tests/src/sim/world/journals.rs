//! Journals that are taken away, and older ones that are brought back, while the rest of the disk stays as it is.

use super::machines::Machine;
use super::{Event, Phase, World};
use crate::sim::broker::JOURNAL;
use crate::sim::queue::Micros;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use trimaran_storage::fs::{Fs, Mode};

/// A copy of a journal.
pub(super) type Copy = Vec<(PathBuf, Vec<u8>)>;

impl World {
    /// The victim loses power, and its journal.
    pub(super) fn lose_journal(&mut self, downtime: Micros) {
        // Once: the one that is filled again may hold what nobody else does.
        let Some(victim) = self.victim.take() else { return };
        self.crash(victim, downtime);
        let machine = self.machine(victim);
        machine.is_damaged = true;
        let taken = machine.take_journal();
        self.note(format!("b{victim} has no journal any more: {taken:?}"));
    }

    /// The victim loses power, and somebody takes a copy of its journal, to bring it back later.
    pub(super) fn copy_journal(&mut self, downtime: Micros, later: Micros, again: Micros) {
        let Some(victim) = self.victim.take() else { return };
        self.crash(victim, downtime);
        let machine = self.machine(victim);
        machine.copied = Some(machine.journal());
        self.note(format!("somebody copies the journal of b{victim}"));
        self.queue
            .after(downtime + later, Event::BringJournalBack(victim, again));
    }

    /// The copy takes the journal's place.
    pub(super) fn bring_journal_back(&mut self, broker: u32, downtime: Micros) {
        let machine = self.machine(broker);
        let Some(copy) = machine.copied.take() else { return };
        if self.phase != Phase::Suffering {
            return;
        }
        self.crash(broker, downtime);
        let machine = self.machine(broker);
        machine.is_damaged = true;
        let brought = machine.take_journal().and_then(|()| machine.put_journal(&copy));
        self.note(format!("b{broker} has its journal of before: {brought:?}"));
    }

    /// A process refuses a journal. If somebody has put an older one in its place, its operator does as the error says.
    pub(super) fn gives_up_journal(&mut self, broker: u32, error: &str) -> bool {
        let machine = self.machine(broker);
        let refused = machine.is_damaged && ["Mismatch", "data folder"].iter().any(|word| error.contains(word));
        refused && machine.take_journal().is_ok()
    }
}

impl Machine {
    fn journal(&self) -> Copy {
        let files = self.fs.files().into_iter().map(|(path, _)| path);
        let of_journal = files.filter(|path| path.starts_with(JOURNAL));
        of_journal
            .filter_map(|path| Some((path.clone(), self.fs.contents(&path)?)))
            .collect()
    }

    fn take_journal(&self) -> io::Result<()> {
        match self.fs.remove_dir_all(Path::new(JOURNAL)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.fs.sync_dir(Path::new("/data")),
        }
    }

    fn put_journal(&self, copy: &Copy) -> io::Result<()> {
        self.fs.create_dir_all(Path::new(JOURNAL))?;
        for (path, bytes) in copy {
            let file = self.fs.open(path, Mode::Create)?;
            file.write_all_at(&[IoSlice::new(bytes)], 0)?;
            file.sync_data()?;
        }
        self.fs.sync_dir(Path::new(JOURNAL))
    }
}
