//! Recovery of a log from its folder, whatever happened to it.

use super::configurations::{self, Configurations, Expected};
use super::flush::{self, cut};
use super::index::{self, NO_TIMESTAMP, Record, Start};
use super::segment::{self, Kind, Name, Segment, SegmentReader};
use super::{LogError, corrupt, io_error, producer_snapshot};
use crate::fs::Fs;
use crate::offsets::{LogEnd, TermStarts};
use crate::snapshot::LogStart;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use trimaran_raft::{GroupId, LogIndex, Term};

/// The segments, and where each term begins in them.
pub(super) struct Found {
    pub(super) segments: Vec<Segment>,
    pub(super) terms: TermStarts,
    pub(super) configurations: Configurations,
}

/// The journal's knowledge of the log.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) group: GroupId,
    /// Everything up to here was once durable in segments.
    pub(super) flushed: LogIndex,
    /// The last entry that the journal knows of, in whichever way. Segments hold nothing beyond: only what is durable
    /// in the journal is flushed.
    pub(super) journaled: LogIndex,
    /// The last configuration entry that was durable in the folder.
    pub(super) configured: LogIndex,
    /// The log was reset to this position, and its folder may not reflect that. Then `flushed` is not below it.
    pub(super) start: Option<&'a LogStart>,
    /// Everything after `flushed` is in the journal, if there is anything. What segments hold of it need not be
    /// trusted: it may be torn, or in the page cache only.
    pub(super) rest_in_journal: bool,
}

impl<'a> Known<'a> {
    /// If all segments lie beyond what is known to have been durable, retention has deleted those before them: a flush
    /// had come back of which the journal had not noted yet how far it went. What the journal holds goes back behind
    /// the log's start, so the segments are all there is of that start: they are taken as they are found.
    fn where_segments_begin(&self, names: &Names) -> Known<'a> {
        let are_beyond = names
            .first()
            .is_some_and(|(first, _)| first.index > self.flushed.next());
        Known {
            rest_in_journal: self.rest_in_journal && !are_beyond,
            ..*self
        }
    }

    /// The last entry that is taken from segments.
    fn limit(&self) -> LogIndex {
        if self.rest_in_journal {
            self.flushed
        } else {
            LogIndex(u64::MAX - 1)
        }
    }
}

pub(super) fn recover(fs: &dyn Fs, dir: &Path, known: &Known<'_>) -> Result<Found, LogError> {
    let mut names = names(fs, dir)?;
    finish_reset(fs, dir, known, &mut names)?;
    check_journaled(fs, dir, known, &names)?;
    let expected = Expected {
        group: known.group,
        configured: known.configured,
        start: known.start,
    };
    let mut configurations = configurations::open(fs, dir, &expected)?;
    finish_deletion(fs, dir, known, &mut names)?;
    let known = &known.where_segments_begin(&names);
    remove_unfinished(fs, dir, known, &mut names)?;
    let mut segments: Vec<Segment> = Vec::with_capacity(names.len());
    let mut terms = TermStarts::default();
    for (number, (name, files)) in names.iter().enumerate() {
        let segment = Segment::empty(expected_start(known, name));
        if !files.is_whole() {
            return Err(corrupt(
                &segment.log_path(dir),
                0,
                "the segment or its index is missing",
            ));
        }
        let next = names.get(number + 1).map(|(next, _)| next);
        let reader = open(fs, dir, segment)?;
        check_follows(&reader, segments.last())?;
        let reader = match next {
            Some(next) => sealed(reader, next)?,
            None => active(fs, dir, reader, known)?,
        };
        collect_terms(&reader, &mut terms)?;
        segments.push(reader.segment);
    }
    if let (Some(start), true) = (known.start, segments.is_empty()) {
        producer_snapshot::begin(fs, dir, known.group, start)?;
        // From here on the folder says by itself where the log begins.
        let segment = flush::create(fs, dir, Start::after(known.group, &start.end))?;
        terms.push(start.end.term, start.end.index, start.end.offset);
        segments.push(segment);
    }
    let end = segments.last().map_or(LogIndex::ZERO, |last| last.end.index);
    check_configurations(fs, dir, known, &segments, &configurations)?;
    configurations.cut(end.next());
    configurations.trim(segments.first().map_or(LogIndex::ZERO, |first| first.start.index));
    Ok(Found {
        segments,
        terms,
        configurations,
    })
}

/// Removes the segments from before a reset that the folder does not reflect. Those behind it are from after it:
/// before, nothing that far ahead had been committed.
fn finish_reset(fs: &dyn Fs, dir: &Path, known: &Known<'_>, names: &mut Names) -> Result<(), LogError> {
    let Some(start) = known.start else { return Ok(()) };
    let kept = names.partition_point(|(name, _)| name.index <= start.end.index);
    for (name, _) in names.drain(..kept) {
        segment::remove(fs, dir, &name, known.group)?;
    }
    Ok(())
}

/// Segments that go further than the journal prove that it is not the one that they were written behind: it is an older
/// copy, or the replica was forgotten, or they are another folder's. What the replica has promised since is unknown.
fn check_journaled(fs: &dyn Fs, dir: &Path, known: &Known<'_>, names: &Names) -> Result<(), LogError> {
    let next = known.journaled.next();
    for (name, files) in names.iter().rev() {
        let segment = Segment::empty(expected_start(known, name));
        if name.index <= next && !files.is_whole() {
            continue;
        }
        let is_beyond = name.index > next || {
            let reader = SegmentReader::open(fs, dir, &segment)?;
            let held = upto_record(&segment, next);
            reader.lengths()?.0 >= held && reader.record(next).is_ok()
        };
        return match is_beyond {
            true => Err(corrupt(
                &segment.index_path(dir),
                0,
                "it holds entries of which the journal knows nothing",
            )),
            false => Ok(()),
        };
    }
    Ok(())
}

/// Bytes of a segment's index up to the record of an entry.
fn upto_record(segment: &Segment, index: LogIndex) -> u64 {
    let mut upto = *segment;
    upto.end.index = index;
    upto.index_bytes()
}

/// The journal says which configuration was the last one up to what it knows to be flushed. Entries beyond that are
/// looked at: there are no more than some flushes brought.
fn check_configurations(
    fs: &dyn Fs,
    dir: &Path,
    known: &Known<'_>,
    segments: &[Segment],
    configurations: &Configurations,
) -> Result<(), LogError> {
    let beyond = segments.iter().filter(|segment| segment.end.index > known.flushed);
    for segment in beyond.filter(|segment| !segment.is_empty()) {
        let reader = SegmentReader::open(fs, dir, segment)?;
        let first = segment.start.index.max(known.flushed.next());
        for record in reader.records(first, segment.end.index)? {
            if record.kind == index::Kind::Configuration && configurations.of(record.index).is_none() {
                let path = configurations::path(dir);
                let what = "the configuration of an entry is missing";
                return Err(corrupt(&path, configurations.file_bytes, what));
            }
        }
    }
    Ok(())
}

/// Which of a segment's two files are there.
#[derive(Clone, Copy, Default)]
struct Files {
    log: bool,
    index: bool,
}

impl Files {
    fn is_whole(self) -> bool {
        self.log && self.index
    }
}

type Names = Vec<(Name, Files)>;

fn names(fs: &dyn Fs, dir: &Path) -> Result<Names, LogError> {
    let paths = match fs.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        paths => paths.map_err(io_error(dir))?,
    };
    let mut names = BTreeMap::<Name, Files>::new();
    for (name, kind) in paths.iter().filter_map(|path| Name::parse(path)) {
        let files = names.entry(name).or_default();
        match kind {
            Kind::Log => files.log = true,
            Kind::Index => files.index = true,
        }
    }
    Ok(names.into_iter().collect())
}

/// An index without a log, before a whole segment, is one whose deletion a crash interrupted.
fn finish_deletion(fs: &dyn Fs, dir: &Path, known: &Known<'_>, names: &mut Names) -> Result<(), LogError> {
    while names.len() > 1 && !names[0].1.log && names[1..].iter().any(|(_, files)| files.is_whole()) {
        segment::remove(fs, dir, &names[0].0, known.group)?;
        names.remove(0);
    }
    Ok(())
}

/// Removes segments that hold nothing but what the journal holds as well, and one that a crash left half made.
fn remove_unfinished(fs: &dyn Fs, dir: &Path, known: &Known<'_>, names: &mut Names) -> Result<(), LogError> {
    let mut half_made = 0;
    while let Some((name, files)) = names.last().copied() {
        let beyond = name.index > known.limit().next();
        if !beyond {
            if half_made > 0 || name.index <= known.flushed || is_begun(fs, dir, known, &name, files)? {
                break;
            }
            half_made += 1;
        }
        segment::remove(fs, dir, &name, known.group)?;
        names.pop();
    }
    Ok(())
}

/// Whether the segment's files are there and it begins with its own record.
fn is_begun(fs: &dyn Fs, dir: &Path, known: &Known<'_>, name: &Name, files: Files) -> Result<bool, LogError> {
    if !files.is_whole() {
        return Ok(false);
    }
    SegmentReader::open(fs, dir, &Segment::empty(expected_start(known, name)))?.is_begun()
}

/// The segment's own record as it must be, but for the term.
fn expected_start(known: &Known<'_>, name: &Name) -> Start {
    Start {
        group: known.group,
        index: name.index,
        offset: name.offset,
        previous_term: Term::ZERO,
    }
}

/// Opens a segment and reads its own record.
fn open(fs: &dyn Fs, dir: &Path, segment: Segment) -> Result<SegmentReader, LogError> {
    let mut reader = SegmentReader::open(fs, dir, &segment)?;
    reader.segment = Segment::empty(reader.check_start()?);
    Ok(reader)
}

fn check_follows(reader: &SegmentReader, previous: Option<&Segment>) -> Result<(), LogError> {
    match previous {
        Some(previous) if previous.end != reader.segment.start.end() => Err(reader.corrupt_index(
            reader.segment.start.index.prev(),
            "it does not continue the segment before it",
        )),
        _ => Ok(()),
    }
}

/// A segment that another one follows: it was durable, whole, before that one was made.
fn sealed(mut reader: SegmentReader, next: &Name) -> Result<SegmentReader, LogError> {
    let last = next.index.prev();
    if last < reader.segment.start.index {
        return Err(reader.corrupt_index(last, "it is empty, and another one follows"));
    }
    reader.segment = upto(&reader, last)?;
    if reader.lengths()? != (reader.segment.index_bytes(), reader.segment.bytes) {
        return Err(reader.corrupt_index(last, "it or its batches are longer or shorter than they were"));
    }
    Ok(reader)
}

/// The segment as it is with `last` as its last entry, of which only that entry's record is read.
fn upto(reader: &SegmentReader, last: LogIndex) -> Result<Segment, LogError> {
    let mut segment = reader.segment;
    segment.push(&reader.record(last)?);
    Ok(segment)
}

/// From when on the segment's age is counted.
fn first_timestamp(reader: &SegmentReader, segment: &Segment) -> Result<i64, LogError> {
    let (first, last) = (segment.start.index, segment.end.index);
    let index = reader.partition_point(first, last, |record| record.latest_timestamp == NO_TIMESTAMP)?;
    if index > last {
        Ok(NO_TIMESTAMP)
    } else {
        Ok(reader.record(index)?.max_timestamp)
    }
}

/// The last segment: what is known to have been durable is taken; what follows only if it is whole and the journal does
/// not hold it; the rest is cut off.
fn active(fs: &dyn Fs, dir: &Path, mut reader: SegmentReader, known: &Known<'_>) -> Result<SegmentReader, LogError> {
    reader.segment = match durable(&reader, known) {
        Ok(segment) => segment,
        // Perhaps the journal still holds what is damaged; whether it does is checked when both are put together.
        Err(LogError::Corrupt { .. }) => reader.segment,
        Err(error) => return Err(error),
    };
    let was_durable = reader.segment.end.index;
    if was_durable < known.flushed {
        reader.segment = scan(&reader, known.flushed)?;
        return Ok(reader); // left as it is, in case that it is all there is
    }
    reader.segment = scan(&reader, known.limit())?;
    cut(fs, dir, &reader.segment)?;
    if reader.segment.end.index > was_durable || reader.segment.start.index > known.flushed {
        sync(fs, dir, &reader.segment)?;
    }
    Ok(reader)
}

/// The segment up to the last entry that was durable.
fn durable(reader: &SegmentReader, known: &Known<'_>) -> Result<Segment, LogError> {
    if known.flushed < reader.segment.start.index {
        return Ok(reader.segment);
    }
    let mut segment = upto(reader, known.flushed)?;
    segment.first_timestamp = first_timestamp(reader, &segment)?;
    if reader.lengths()?.1 < segment.bytes {
        return Err(reader.corrupt_index(known.flushed, "its batches are cut short"));
    }
    Ok(segment)
}

/// Goes on from where the segment is known to end, as far as records and batches are whole and follow each other.
fn scan(reader: &SegmentReader, upto: LogIndex) -> Result<Segment, LogError> {
    let mut segment = reader.segment;
    while segment.end.index < upto {
        match next(reader, &segment) {
            Ok(record) => segment.push(&record),
            Err(LogError::Corrupt { .. }) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(segment)
}

fn next(reader: &SegmentReader, segment: &Segment) -> Result<Record, LogError> {
    let index = segment.end.index.next();
    let record = reader.record(index)?;
    if !follows(&record, &segment.end) || u64::from(record.position) != segment.bytes {
        return Err(reader.corrupt_index(index, "it does not continue the entry before it"));
    }
    reader.check_batch(&record)?;
    Ok(record)
}

fn follows(record: &Record, end: &LogEnd) -> bool {
    record.base_offset == end.offset && record.next_offset >= end.offset && record.term >= end.term
}

/// What was found beyond the known end, the segment itself perhaps, may be in the page cache only.
fn sync(fs: &dyn Fs, dir: &Path, segment: &Segment) -> Result<(), LogError> {
    for path in [segment.log_path(dir), segment.index_path(dir)] {
        let file = fs.open(&path, crate::fs::Mode::Write).map_err(io_error(&path))?;
        file.sync_data().map_err(io_error(&path))?;
    }
    fs.sync_dir(dir).map_err(io_error(dir))
}

/// Finds where terms begin by bisection: there are few of them.
fn collect_terms(reader: &SegmentReader, terms: &mut TermStarts) -> Result<(), LogError> {
    let segment = &reader.segment;
    let before = segment.start.end();
    if before.index > LogIndex::ZERO {
        terms.push(before.term, before.index, before.offset);
    }
    let last = segment.end.index;
    let mut index = segment.start.index;
    while index <= last {
        let record = reader.record(index)?;
        terms.push(record.term, record.index, record.base_offset);
        index = reader.partition_point(index.next(), last, |later| later.term <= record.term)?;
    }
    Ok(())
}
