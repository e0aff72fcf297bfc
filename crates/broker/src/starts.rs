//! The starts of all brokers that this one has seen, kept in `starts.toml` of the data folder, and which of those
//! processes is in contact now: what a broker that starts is told of itself. See [`trimaran_registry::starts`].

use crate::{folder, ids};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use trimaran_registry::starts::{Accepted, Account, Announcement, Refusal, Start, Starts};
use trimaran_registry::{BrokerId, FolderId, Incarnation};
use trimaran_wire::peer as wire;

/// The file's name.
const FILE: &str = "starts.toml";

/// The only format so far.
const FORMAT: i64 = 1;

/// Between two judgements of the same start that was announced through a third broker. Most refusals are final, and
/// each is a line in the log.
const JUDGE_EVERY: Duration = Duration::from_secs(10);

/// Shared by the threads that admit peers, and the one that follows the catalog.
#[derive(Clone, Debug)]
pub(crate) struct StartStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// A process that was heard from within this time is alive.
    fresh: Duration,
    /// Held while the disk writes.
    kept: Mutex<Kept>,
    /// Apart, so that nobody's sign of life waits for the disk.
    contacts: Mutex<Contacts>,
}

#[derive(Debug)]
struct Kept {
    folder: PathBuf,
    starts: Starts,
}

#[derive(Debug, Default)]
struct Contacts {
    /// Let in last.
    admitted: BTreeMap<BrokerId, Start>,
    /// Connected.
    present: BTreeMap<BrokerId, Present>,
    /// The latest starts, as noted durably.
    noted: BTreeMap<BrokerId, Start>,
    /// Announced through a third broker, and when it was last judged.
    relayed: BTreeMap<BrokerId, (Announcement, Instant)>,
}

/// A process that is connected.
#[derive(Clone, Copy, Debug)]
struct Present {
    start: Start,
    heard_at: Instant,
}

/// Why a peer can't be let in.
#[derive(Debug)]
pub(crate) enum NotAdmitted {
    /// Because of its start.
    Refused(Refusal),
    /// Its start can't be noted.
    Io(io::Error),
}

impl StartStore {
    /// Reads what the data folder has.
    ///
    /// # Errors
    /// [`folder::FolderError`]: the file can't be read, or is damaged.
    pub(crate) fn open(folder: &Path, fresh: Duration) -> Result<StartStore, folder::FolderError> {
        let starts = Starts::recovered(read(&folder.join(FILE))?);
        let contacts = Contacts {
            noted: starts.iter().collect(),
            ..Contacts::default()
        };
        let folder = folder.to_owned();
        let shared = Shared {
            fresh,
            kept: Mutex::new(Kept { folder, starts }),
            contacts: Mutex::new(contacts),
        };
        Ok(StartStore {
            shared: Arc::new(shared),
        })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn contacts(&self) -> MutexGuard<'_, Contacts> {
        self.shared.contacts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alive(&self, broker: BrokerId) -> Option<Start> {
        let contacts = self.contacts();
        let present = contacts.present.get(&broker)?;
        (present.heard_at.elapsed() < self.shared.fresh).then_some(present.start)
    }

    /// The latest start of a broker that was seen.
    pub(crate) fn latest(&self, broker: BrokerId) -> Option<Start> {
        self.kept().starts.latest(broker)
    }

    /// The answer to a broker that is about to start.
    pub(crate) fn account_for(&self, broker: BrokerId) -> Account {
        Account {
            seen: self.latest(broker),
            alive: self.alive(broker),
        }
    }

    /// Judges a process that connects, and notes nothing.
    ///
    /// # Errors
    /// [`Refusal`].
    pub(crate) fn judge(&self, broker: BrokerId, announced: &Announcement) -> Result<Accepted, Refusal> {
        self.kept().starts.judge(broker, announced, self.alive(broker))
    }

    /// Judges a process that connects, and notes its start durably if it may come in.
    ///
    /// # Errors
    /// [`NotAdmitted`].
    pub(crate) fn admit(&self, broker: BrokerId, announced: &Announcement) -> Result<Accepted, NotAdmitted> {
        let accepted = self.admit_relayed(broker, announced)?;
        self.contacts().admitted.insert(broker, announced.start);
        Ok(accepted)
    }

    /// As [`StartStore::admit`], for a process whose messages a third broker passes on.
    ///
    /// # Errors
    /// [`NotAdmitted`].
    pub(crate) fn admit_relayed(&self, broker: BrokerId, announced: &Announcement) -> Result<Accepted, NotAdmitted> {
        let mut kept = self.kept();
        let accepted = kept
            .starts
            .judge(broker, announced, self.alive(broker))
            .map_err(NotAdmitted::Refused)?;
        self.note_in(&mut kept, broker, announced.start)
            .map_err(NotAdmitted::Io)?;
        Ok(accepted)
    }

    /// Whether this is the latest start of the broker and is noted, so that [`StartStore::admit`] would let it in
    /// without noting anything. Waits for no disk.
    pub(crate) fn is_noted(&self, broker: BrokerId, start: Start) -> bool {
        self.contacts().noted.get(&broker) == Some(&start)
    }

    /// Whether a start that was announced through a third broker, and is not noted, should be judged now: not if it was
    /// a moment ago.
    pub(crate) fn is_due(&self, broker: BrokerId, announced: &Announcement) -> bool {
        let mut contacts = self.contacts();
        let before = contacts.relayed.get(&broker);
        let due = before.is_none_or(|(judged, at)| judged != announced || at.elapsed() >= JUDGE_EVERY);
        if due {
            contacts.relayed.insert(broker, (*announced, Instant::now()));
        }
        due
    }

    /// A broker that was admitted is connected.
    pub(crate) fn arrived(&self, broker: BrokerId) {
        let mut contacts = self.contacts();
        if let Some(start) = contacts.admitted.get(&broker).copied() {
            let heard_at = Instant::now();
            contacts.present.insert(broker, Present { start, heard_at });
        }
    }

    /// Notes a start durably that became known in another way.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn note(&self, broker: BrokerId, start: Start) -> io::Result<()> {
        self.note_in(&mut self.kept(), broker, start)
    }

    fn note_in(&self, kept: &mut Kept, broker: BrokerId, start: Start) -> io::Result<()> {
        kept.note(broker, start)?;
        if let Some(latest) = kept.starts.latest(broker) {
            self.contacts().noted.insert(broker, latest);
        }
        Ok(())
    }

    /// A connected broker has given a sign of life.
    pub(crate) fn heard(&self, broker: BrokerId) {
        if let Some(present) = self.contacts().present.get_mut(&broker) {
            present.heard_at = Instant::now();
        }
    }

    /// A broker is not connected any more.
    pub(crate) fn left(&self, broker: BrokerId) {
        self.contacts().present.remove(&broker);
    }
}

impl Kept {
    fn note(&mut self, broker: BrokerId, start: Start) -> io::Result<()> {
        let before = self.starts.clone();
        if !self.starts.note(broker, start) {
            return Ok(());
        }
        let written = write(&self.folder, &self.starts);
        if written.is_err() {
            self.starts = before;
        }
        written
    }
}

/// Says that a broker has lost what it promised with the data folder that it had `before`.
pub(crate) fn say_other_folder(broker: BrokerId, from: impl fmt::Display, start: Start, before: Start) {
    tracing::warn!(
        broker = ids::broker_name(broker), %from, folder = %start.folder, before = %before,
        "a broker comes with another data folder than before: what it promised with the former one is lost, and its \
         replicas are filled again"
    );
}

/// Says that a broker's start could not be noted.
pub(crate) fn say_not_noted(broker: BrokerId, error: &io::Error) {
    tracing::error!(
        broker = ids::broker_name(broker), %error,
        "can't note the start of a broker in starts.toml of the data folder: the broker is not let in before that works"
    );
}

/// A start in the words of the peers' protocol.
pub(crate) fn to_wire(start: Start) -> wire::Start {
    wire::Start {
        folder: wire::FolderId(start.folder.0),
        incarnation: start.incarnation.0,
    }
}

/// And back.
pub(crate) fn from_wire(start: wire::Start) -> Start {
    Start {
        folder: FolderId(start.folder.0),
        incarnation: Incarnation(start.incarnation),
    }
}

fn read(file: &Path) -> Result<Vec<(BrokerId, Start)>, folder::FolderError> {
    let Some(table) = folder::read_description(file, &[])? else {
        return Ok(Vec::new());
    };
    let number = |key: &str| table.get(key).and_then(toml::Value::as_integer);
    let starts = || {
        let seen = table.get("seen")?.as_array()?;
        seen.iter().map(|entry| parse(entry.as_str()?)).collect::<Option<_>>()
    };
    match (number("format"), starts()) {
        (Some(FORMAT), Some(starts)) => Ok(starts),
        (Some(FORMAT) | None, _) => Err(folder::mismatch(
            file,
            "can't be understood; delete it if no folder of this cluster's brokers was ever replaced by an older one, \
             or set `broker.data` to an empty folder",
        )),
        (Some(_), _) => Err(folder::mismatch(
            file,
            "was written by a later version of Trimaran; start that version",
        )),
    }
}

/// `2@0123…:5`: a broker, its folder, and the incarnation of its start.
fn parse(text: &str) -> Option<(BrokerId, Start)> {
    let (broker, start) = text.split_once('@')?;
    let (folder, incarnation) = start.split_once(':')?;
    let start = Start {
        folder: folder.parse().ok()?,
        incarnation: Incarnation(incarnation.parse().ok()?),
    };
    Some((BrokerId(broker.parse().ok()?), start))
}

/// Written beside and renamed over, so that a crash leaves the old one or the new one.
fn write(folder: &Path, starts: &Starts) -> io::Result<()> {
    let seen: Vec<String> = starts
        .iter()
        .map(|(broker, start)| format!("\"{broker}@{}:{}\"", start.folder, start.incarnation))
        .collect();
    let text = format!(
        "# The last start of each broker that this one has seen. Written by Trimaran; do not edit.\n\
         format = {FORMAT}\nseen = [{}]\n",
        seen.join(", ")
    );
    let beside = folder.join("starts.toml.new");
    let mut new = File::create(&beside)?;
    writeln!(new, "{text}checksum = \"{}\"", folder::checksum(&text))?;
    new.sync_all()?;
    fs::rename(&beside, folder.join(FILE))?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Duration = Duration::from_secs(3600);

    fn announced(folder: u8, incarnation: u64, previous: u64) -> Announcement {
        Announcement {
            start: Start {
                folder: FolderId([folder; 16]),
                incarnation: Incarnation(incarnation),
            },
            previous: Incarnation(previous),
        }
    }

    #[test]
    fn a_start_is_known_after_a_restart_before_its_broker_is_let_in() {
        let dir = tempfile::tempdir().unwrap();
        let store = StartStore::open(dir.path(), FRESH).unwrap();
        assert_eq!(store.account_for(BrokerId(2)), Account::default());
        let first = announced(7, 5, 0);
        assert_eq!(store.admit(BrokerId(2), &first).unwrap(), Accepted::Later);
        store.note(BrokerId(3), announced(8, 9, 0).start).unwrap();
        let again = StartStore::open(dir.path(), FRESH).unwrap();
        assert_eq!(again.latest(BrokerId(2)), Some(first.start));
        assert_eq!(again.latest(BrokerId(3)), Some(announced(8, 9, 0).start));
        assert_eq!(again.account_for(BrokerId(2)).alive, None, "nobody is connected");
    }

    #[test]
    fn the_file_is_golden() {
        let dir = tempfile::tempdir().unwrap();
        let store = StartStore::open(dir.path(), FRESH).unwrap();
        store.note(BrokerId(2), announced(0xab, 5, 0).start).unwrap();
        let expected = "# The last start of each broker that this one has seen. Written by Trimaran; do not edit.\n\
                        format = 1\n\
                        seen = [\"2@abababababababababababababababab:5\"]\n\
                        checksum = \"";
        let text = fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    fn whoever_is_connected_and_heard_is_alive() {
        let dir = tempfile::tempdir().unwrap();
        let store = StartStore::open(dir.path(), FRESH).unwrap();
        let first = announced(7, 5, 0);
        store.admit(BrokerId(2), &first).unwrap();
        store.arrived(BrokerId(2));
        assert_eq!(store.account_for(BrokerId(2)).alive, Some(first.start));
        let newcomer = store.admit(BrokerId(2), &announced(8, 6, 0)).unwrap_err();
        assert!(
            matches!(newcomer, NotAdmitted::Refused(Refusal::AnotherRuns(start)) if start == first.start),
            "{newcomer:?}"
        );
        store.left(BrokerId(2));
        assert_eq!(store.account_for(BrokerId(2)).alive, None);
        let successor = store.admit(BrokerId(2), &announced(8, 6, 0)).unwrap();
        assert_eq!(successor, Accepted::OtherFolder(first.start));
    }

    #[test]
    fn only_the_latest_start_is_taken_for_noted_however_it_became_known() {
        let dir = tempfile::tempdir().unwrap();
        let store = StartStore::open(dir.path(), FRESH).unwrap();
        let (first, second) = (announced(7, 5, 0), announced(7, 9, 5));
        assert!(!store.is_noted(BrokerId(2), first.start));
        assert_eq!(store.admit_relayed(BrokerId(2), &first).unwrap(), Accepted::Later);
        assert!(store.is_noted(BrokerId(2), first.start));
        // A connection is another matter: nobody has come in.
        store.arrived(BrokerId(2));
        assert_eq!(store.account_for(BrokerId(2)).alive, None);
        store.note(BrokerId(2), second.start).unwrap();
        assert!(
            !store.is_noted(BrokerId(2), first.start),
            "the catalog tells of a later one"
        );
        let again = StartStore::open(dir.path(), FRESH).unwrap();
        assert!(again.is_noted(BrokerId(2), second.start));
        assert!(!again.is_noted(BrokerId(2), announced(8, 9, 5).start), "another folder");
    }

    #[test]
    fn silence_is_no_sign_of_life() {
        let dir = tempfile::tempdir().unwrap();
        let store = StartStore::open(dir.path(), Duration::ZERO).unwrap();
        store.admit(BrokerId(2), &announced(7, 5, 0)).unwrap();
        store.arrived(BrokerId(2));
        assert_eq!(store.account_for(BrokerId(2)).alive, None);
    }

    /// Together with `crates/storage/tests/damage.rs`: every file that a data folder can hold.
    #[test]
    fn a_flipped_bit_is_named_or_means_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = StartStore::open(dir.path(), FRESH).unwrap();
        store
            .note(BrokerId(2), announced(7, 1_700_000_000_000, 0).start)
            .unwrap();
        let file = dir.path().join(FILE);
        let written = fs::read(&file).unwrap();
        let before = read(&file).unwrap();
        let mut named = 0;
        for at in 0..written.len() {
            for bit in 0..8 {
                let mut bytes = written.clone();
                bytes[at] ^= 1 << bit;
                fs::write(&file, &bytes).unwrap();
                match read(&file) {
                    Ok(found) => assert_eq!(found, before, "bit {bit} of byte {at}"),
                    Err(error) => {
                        assert!(error.to_string().contains(FILE), "{error}");
                        named += 1;
                    }
                }
            }
        }
        assert!(named > 500, "{named}");
    }
}
