//! The journal's folder after a restart, whatever is in it.

use super::disk::{self, Image};
use super::pieces::{Pieces, put_piece};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use trimaran_raft::{Entry, GroupId, HardState, LogIndex, NodeId, Payload, Term};
use trimaran_storage::fs::faulty::FaultyFs;
use trimaran_storage::journal::{Journal, JournalBatch, JournalError, JournalOptions, RecoveredGroup};

const DIR: &str = "/journal";

/// Where things are in a frame's header, as `journal/frame.rs` documents it.
mod at {
    pub(super) const BODY_LEN: usize = 8;
    pub(super) const BODY_CRC: usize = 12;
    pub(super) const HEADER_CRC: usize = 44;
    pub(super) const BODY: usize = 48;
}

type Groups = BTreeMap<GroupId, RecoveredGroup>;

fn open(fs: &FaultyFs) -> Result<(Journal, Groups), JournalError> {
    let options = JournalOptions {
        file_bytes: 1000,
        max_files: 3,
    };
    Journal::open(Arc::new(fs.clone()), Path::new(DIR), options)
}

/// The first byte says whether checksums are made right. Then files: a sequence number, and bytes.
pub(super) fn target(data: &[u8]) {
    let mut pieces = Pieces::new(data);
    let seal = pieces.u8() % 2 == 1;
    let mut image = Image::new();
    while !pieces.is_empty() && image.len() < 5 {
        let name = format!("{:020}.journal", pieces.u8());
        let mut bytes = pieces.piece().to_vec();
        if seal {
            make_checksums_right(&mut bytes);
        }
        image.push((Path::new(DIR).join(name), bytes));
    }
    let fs = disk::restore(Path::new(DIR), &image);
    match open(&fs) {
        // A file that is used again holds frames of its former life. That they bear another number than its new name is the
        // journal's doing, and an input with right checksums may say otherwise.
        Ok(_) if seal && image.len() > 1 => {}
        Ok((journal, found)) => goes_on(&fs, journal, found),
        // What is missing is missing beyond the end.
        Err(error) => clear(&error, &[]),
    }
}

/// Frame by frame, as far as their lengths lead.
fn make_checksums_right(bytes: &mut [u8]) {
    let mut rest = bytes;
    while rest.len() >= at::BODY {
        let length = u32::from_le_bytes([0, 1, 2, 3].map(|byte| rest[at::BODY_LEN + byte])) as usize;
        if let Some(body) = rest[at::BODY..].get(..length) {
            let crc = crc32c::crc32c(body);
            rest[at::BODY_CRC..at::BODY_CRC + 4].copy_from_slice(&crc.to_le_bytes());
        }
        let crc = crc32c::crc32c(&rest[..at::HEADER_CRC]);
        rest[at::HEADER_CRC..at::BODY].copy_from_slice(&crc.to_le_bytes());
        let frame = at::BODY.saturating_add(length.next_multiple_of(8));
        rest = rest.get_mut(frame..).unwrap_or_default();
    }
}

/// What was recovered is in order, is found again, and can be written behind.
fn goes_on(fs: &FaultyFs, journal: Journal, found: Groups) {
    for group in found.values() {
        let mut pairs = group.entries.windows(2);
        assert!(
            pairs.all(|pair| pair[1].index == pair[0].index.next()),
            "entries are contiguous"
        );
    }
    drop(journal);
    let (mut journal, again) = open(fs).unwrap_or_else(|error| panic!("opened once, and not again: {error}"));
    assert_eq!(again, found);
    let group = GroupId(u64::MAX - 7);
    let mut batch = JournalBatch::default();
    batch.forget(group);
    batch.entries(group, &[entry(1, 1, 3)]);
    match journal.write(&batch) {
        Ok(()) => {}
        // Numbers that no journal reaches may be used up.
        Err(error) => return clear(&error, &[]),
    }
    drop(journal);
    let (_, mut after) = open(fs).unwrap_or_else(|error| panic!("it can't read what it wrote: {error}"));
    let written = after.remove(&group).expect("it was written");
    assert_eq!(written.entries, [entry(1, 1, 3)]);
    let others = found.into_iter().filter(|(id, _)| *id != group);
    assert!(others.eq(after), "the others are as they were");
}

fn clear(error: &JournalError, before: &[(PathBuf, Vec<u8>)]) {
    match error {
        JournalError::Corrupt { path, position, .. } => disk::named(path, *position, Path::new(DIR), before),
        JournalError::Io { path, source } => panic!("{}: {source}", path.display()),
        // An input may say whose it is; nobody's it is opened as.
        JournalError::Mismatch { dir, .. } => assert_eq!((dir.as_path(), before.len()), (Path::new(DIR), 0)),
        JournalError::Poisoned | JournalError::Locked { .. } | JournalError::Refused { .. } => {
            panic!("nothing has failed: {error}")
        }
    }
}

fn entry(index: u64, term: u64, length: usize) -> Entry {
    let payload = match length {
        0 => Payload::Blank,
        _ => Payload::Data(Bytes::from(vec![index as u8; length])),
    };
    Entry {
        index: LogIndex(index),
        term: Term(term),
        payload,
    }
}

/// A journal of several files that were used more than once, and what it held after each write.
struct History {
    image: Image,
    states: Vec<Groups>,
}

fn history() -> &'static History {
    static HISTORY: OnceLock<History> = OnceLock::new();
    HISTORY.get_or_init(|| {
        let fs = FaultyFs::new(1);
        let (mut journal, _) = open(&fs).expect("nothing fails");
        let mut states = vec![Groups::new()];
        for round in 1..=12u64 {
            let mut state = states[states.len() - 1].clone();
            let mut batch = JournalBatch::default();
            for group in 1..=3 {
                if group == 1 || round % 3 == group % 3 {
                    write(&mut batch, &mut state, group, round);
                }
            }
            if round == 11 {
                batch.forget(GroupId(3));
                state.remove(&GroupId(3));
            }
            journal.write(&batch).expect("nothing fails");
            for group in [1, 2] {
                release(&mut journal, &mut state, group);
            }
            states.push(state);
        }
        let image = disk::image(&fs);
        History { image, states }
    })
}

/// A group gets a hard state and two entries; now and then its last one is replaced.
fn write(batch: &mut JournalBatch, state: &mut Groups, group: u64, round: u64) {
    let id = GroupId(group);
    let model = state.entry(id).or_default();
    model.hard_state = HardState {
        term: Term(round),
        vote: round.is_multiple_of(2).then_some(NodeId(group)),
        ..HardState::default()
    };
    batch.hard_state(id, model.hard_state);
    let last = model.entries.last().map_or(model.flushed, |last| last.index);
    let mut next = last.next();
    if round.is_multiple_of(4) && last > model.flushed {
        batch.truncate(id, last);
        model.entries.retain(|entry| entry.index < last);
        next = last;
    }
    let new = [entry(next.0, round, 0), entry(next.0 + 1, round, 40 * group as usize)];
    batch.entries(id, &new);
    model.entries.extend(new);
}

/// All but the last two entries of a group are in its segments.
fn release(journal: &mut Journal, state: &mut Groups, group: u64) {
    let Some(model) = state.get_mut(&GroupId(group)) else {
        return;
    };
    let upto = model.entries.iter().rev().nth(2).map(|entry| entry.index);
    if let Some(upto) = upto {
        model.flushed = upto;
        journal.release(GroupId(group), upto).expect("it fails never");
    }
}

/// Whether what was recovered is this state, but for entries that were released: some of them may be there, and what is
/// missing must be known to be flushed.
fn agrees(found: &Groups, state: &Groups) -> bool {
    found.keys().eq(state.keys())
        && found.iter().zip(state).all(|((_, found), (_, state))| {
            let missing = state.entries.len().saturating_sub(found.entries.len());
            let kept = &state.entries[missing..];
            let last_missing = missing.checked_sub(1).map(|last| state.entries[last].index);
            found.hard_state == state.hard_state
                && found.entries == kept
                && last_missing.is_none_or(|last| last <= found.flushed)
                && found.flushed <= state.flushed
        })
}

/// Damages, done to a valid journal.
pub(super) fn damage(data: &[u8]) {
    let history = history();
    let mut image = history.image.clone();
    disk::damage(&mut image, &mut Pieces::new(data));
    let fs = disk::restore(Path::new(DIR), &image);
    match open(&fs) {
        Ok((journal, found)) => {
            let known = history.states.iter().any(|state| agrees(&found, state));
            assert!(known, "no state that it ever had: {found:?}");
            goes_on(&fs, journal, found);
        }
        Err(error) => clear(&error, &history.image),
    }
}

fn script(seal: bool, image: &[(PathBuf, Vec<u8>)]) -> Vec<u8> {
    let mut seed = vec![u8::from(seal)];
    for (path, bytes) in image {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        seed.push(stem.parse().expect("small numbers"));
        put_piece(&mut seed, bytes);
    }
    seed
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let image = &history().image;
    let mut first = FaultyFs::new(1);
    let mut seeds = vec![script(false, image), script(true, image)];
    for rounds in 1..=2 {
        first = FaultyFs::new(rounds);
        let (mut journal, _) = open(&first).expect("nothing fails");
        let mut state = Groups::new();
        for round in 1..=rounds {
            let mut batch = JournalBatch::default();
            write(&mut batch, &mut state, 1, round);
            batch.truncate(GroupId(2), LogIndex(5));
            batch.forget(GroupId(3));
            journal.write(&batch).expect("nothing fails");
            journal.release(GroupId(1), LogIndex(1)).expect("it fails never");
        }
        seeds.push(script(true, &disk::image(&first)));
    }
    drop(first);
    seeds
}

pub(super) fn damage_seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![Vec::new()];
    for file in 0..u8::try_from(history().image.len()).expect("few files") {
        for what in 0..6 {
            seeds.push(disk::damaged(what, file, 0, 8));
            seeds.push(disk::damaged(what, file, 500, 48));
        }
    }
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_is_a_long_one() {
        let history = history();
        assert!(history.image.len() >= 3, "{}", history.image.len());
        let recycled = history
            .image
            .iter()
            .any(|(path, _)| !path.ends_with("00000000000000000001.journal"));
        assert!(recycled && history.states.len() == 13);
        let fs = disk::restore(Path::new(DIR), &history.image);
        let (_, found) = open(&fs).unwrap();
        assert!(agrees(&found, history.states.last().unwrap()), "{found:?}");
        assert!(!agrees(&found, &history.states[11]));
    }

    #[test]
    fn right_checksums_stay_as_they_are() {
        for (_, bytes) in &history().image {
            let mut sealed = bytes.clone();
            make_checksums_right(&mut sealed);
            let first = at::BODY + u32::from_le_bytes([0, 1, 2, 3].map(|byte| bytes[at::BODY_LEN + byte])) as usize;
            assert_eq!(sealed[..first], bytes[..first]);
        }
    }
}
