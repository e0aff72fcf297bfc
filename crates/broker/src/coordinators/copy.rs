//! Copies of a coordinator's state within its log, so that what lies before them can be deleted.
//!
//! Nothing compacts a log yet, and every commit is a record. So once a log is several times as long as the state that it
//! leads to, its leader writes that state again, record by record as compaction would have kept it, and behind it a
//! mark that says where the copy began. A replica that has replayed the mark gives up what lies before.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use trimaran_coordinator::Record;
use trimaran_wire::batch::Offset;

/// The version of a mark's key. Kafka numbers its kinds of records from zero up, and its tools skip those that they
/// don't know.
const KEY_VERSION: i16 = 0x5452;

/// The version of a mark's value.
const VALUE_VERSION: i16 = 0;

/// A log shorter than this is read in no time: a second of the slowest disks.
const LEAST_BYTES: u64 = 16 << 20;

/// A log may be so many times as long as the state: copying it costs a quarter of what is written, at most.
const TIMES_STATE: u64 = 4;

/// The mark behind a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// The offset of the copy's first record. All that lies before is in the copy.
    pub(super) start: Offset,
    /// The bytes of the copy.
    pub(super) bytes: u64,
}

impl Mark {
    pub(super) fn record(self) -> Record {
        let mut value = BytesMut::with_capacity(18);
        value.put_i16(VALUE_VERSION);
        value.put_i64(self.start.0);
        value.put_u64(self.bytes);
        Record {
            key: Bytes::copy_from_slice(&KEY_VERSION.to_be_bytes()),
            value: Some(value.freeze()),
        }
    }

    /// The mark that a record is, if it is one of a version that is known.
    pub(super) fn of(key: &[u8], value: Option<&[u8]>) -> Option<Mark> {
        let mut value = value.filter(|value| key == KEY_VERSION.to_be_bytes() && value.len() == 18)?;
        if value.get_i16() != VALUE_VERSION {
            return None;
        }
        let start = Offset(value.get_i64());
        let bytes = value.get_u64();
        (start >= Offset::ZERO).then_some(Mark { start, bytes })
    }
}

/// The length of a log since its last copy.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Growth {
    since_copy: u64,
    copy: u64,
}

impl Growth {
    /// Records were replayed or written.
    pub(super) fn add(&mut self, bytes: usize) {
        self.since_copy += bytes as u64;
    }

    /// A copy is complete.
    pub(super) fn copied(&mut self, mark: Mark) {
        *self = Growth {
            since_copy: 0,
            copy: mark.bytes,
        };
    }

    /// Whether the state is to be written again.
    pub(super) fn is_copy_due(self) -> bool {
        self.since_copy >= LEAST_BYTES.max(TIMES_STATE.saturating_mul(self.copy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_have_golden_bytes() {
        let mark = Mark {
            start: Offset(0x0102),
            bytes: 0x0304,
        };
        let record = mark.record();
        assert_eq!(&record.key[..], [0x54, 0x52]);
        let value = [0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 3, 4];
        assert_eq!(record.value.as_deref(), Some(&value[..]));
        assert_eq!(Mark::of(&record.key, Some(&value)), Some(mark));
    }

    #[test]
    fn other_records_are_no_marks() {
        let value = [0; 18];
        assert_eq!(Mark::of(&[0x54, 0x52], None), None);
        assert_eq!(Mark::of(&[0x54, 0x52], Some(&value[..17])), None);
        assert_eq!(Mark::of(&[0, 2], Some(&value)), None);
        let mut later = value;
        later[1] = 1;
        assert_eq!(Mark::of(&[0x54, 0x52], Some(&later)), None);
        let mut negative = value;
        negative[2] = 0x80;
        assert_eq!(Mark::of(&[0x54, 0x52], Some(&negative)), None);
    }

    #[test]
    fn a_copy_is_due_when_the_log_is_long_and_far_longer_than_the_state() {
        let mut growth = Growth::default();
        growth.add(LEAST_BYTES as usize - 1);
        assert!(!growth.is_copy_due());
        growth.add(1);
        assert!(growth.is_copy_due());
        growth.copied(Mark {
            start: Offset(1),
            bytes: 10 << 20,
        });
        growth.add((40 << 20) - 1);
        assert!(!growth.is_copy_due());
        growth.add(1);
        assert!(growth.is_copy_due());
    }
}
