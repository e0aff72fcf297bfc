//! What a producer's batch must hold, so that every consumer can read it (Kafka's `LogValidator`).

use super::walk::walk;
use super::{BatchError, BatchHeader, NO_TIMESTAMP};
use core::ops::ControlFlow;

/// A record's place in its batch, from zero, and its timestamp in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampOf {
    /// The record's place.
    pub position: i32,
    /// Its timestamp as its producer set it.
    pub timestamp_ms: i64,
}

/// What the records of a sound batch say. Of timestamps, those of -1 (none) don't count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The first record with the smallest timestamp; none if no record has a timestamp.
    pub earliest: Option<TimestampOf>,
    /// The first record with the largest timestamp; none if no record has a timestamp.
    pub latest: Option<TimestampOf>,
}

impl Contents {
    /// What belongs into the header: the largest timestamp of a record, and -1 where there is none or all are below that.
    pub fn max_timestamp(&self) -> i64 {
        self.latest
            .map_or(NO_TIMESTAMP, |latest| latest.timestamp_ms.max(NO_TIMESTAMP))
    }
}

/// Reads all records of exactly one batch, as a consumer will: their framing, their offsets (contiguous from zero), their
/// number, and the compression around them. Nothing is kept of what is decompressed, which may be up to `limit` bytes.
/// Does not check the CRC.
///
/// # Errors
/// The first thing that is wrong; [`BatchError::TooLarge`] if more than `limit` bytes come out.
pub fn validate(batch: &[u8], limit: usize) -> Result<Contents, BatchError> {
    let header = BatchHeader::parse_only(batch)?;
    // What counts fewer records than offsets was compacted, which no producer does.
    if i64::from(header.record_count) != i64::from(header.last_offset_delta) + 1 {
        return Err(BatchError::BadCount);
    }
    let mut contents = Contents::default();
    walk(batch, &header, limit, true, |seen| {
        let position = seen.position;
        if seen.offset_delta != position {
            let what = "its offset does not follow that of the record before it";
            return Err(BatchError::InvalidRecord { position, what });
        }
        let timestamp_ms = header.base_timestamp.wrapping_add(seen.timestamp_delta);
        if timestamp_ms != NO_TIMESTAMP {
            contents.note(TimestampOf { position, timestamp_ms });
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(contents)
}

impl Contents {
    fn note(&mut self, of: TimestampOf) {
        if self
            .earliest
            .is_none_or(|earliest| of.timestamp_ms < earliest.timestamp_ms)
        {
            self.earliest = Some(of);
        }
        if self.latest.is_none_or(|latest| of.timestamp_ms > latest.timestamp_ms) {
            self.latest = Some(of);
        }
    }
}

#[cfg(test)]
mod tests;
