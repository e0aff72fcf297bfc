//! Record batches as the simulated clients make and read them, by the `kafka-protocol` crate: independent of the code
//! that stores them.

use crate::checker::history::RecordId;
use bytes::{Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::records::{
    Compression, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, Record, RecordBatchDecoder, RecordBatchEncoder,
    RecordEncodeOptions, TimestampType,
};

/// Who sends a batch idempotently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    /// From InitProducerId.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// The sequence number of the batch's first record.
    pub first_sequence: i32,
}

/// A record that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// Where it is.
    pub offset: i64,
    /// The leader epoch of its batch.
    pub epoch: i32,
    /// Which one it is.
    pub record: RecordId,
}

/// One uncompressed batch of these records, each padded to about `padding` bytes.
pub fn encode(records: &[RecordId], producer: Option<Producer>, timestamp_ms: i64, padding: usize) -> BytesMut {
    let values: Vec<Record> = (0i32..)
        .zip(records)
        .map(|(at, id)| record(at, *id, producer, timestamp_ms, padding))
        .collect();
    let mut buffer = BytesMut::new();
    let options = RecordEncodeOptions {
        version: 2,
        compression: Compression::None,
    };
    RecordBatchEncoder::encode(&mut buffer, values.iter(), &options).expect("a batch of our own encodes");
    buffer
}

fn record(at: i32, id: RecordId, producer: Option<Producer>, timestamp: i64, padding: usize) -> Record {
    let mut value = id.to_string();
    if value.len() < padding {
        value.push(' ');
        value.push_str(&"x".repeat(padding - value.len()));
    }
    Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: producer.map_or(NO_PRODUCER_ID, |producer| producer.id),
        producer_epoch: producer.map_or(NO_PRODUCER_EPOCH, |producer| producer.epoch),
        timestamp_type: TimestampType::Creation,
        offset: i64::from(at),
        // The encoder begins a new batch where sequences do not go up, also where there are none.
        sequence: producer
            .map_or(NO_SEQUENCE, |producer| producer.first_sequence)
            .wrapping_add(at),
        timestamp,
        key: None,
        value: Some(Bytes::from(value)),
        headers: IndexMap::new(),
    }
}

/// The records of batches back to back. An error says what is wrong with them.
pub fn decode(bytes: &Bytes) -> Result<Vec<Read>, String> {
    let sets = RecordBatchDecoder::decode_all(&mut bytes.clone()).map_err(|error| error.to_string())?;
    sets.into_iter()
        .flat_map(|set| set.records)
        .map(|record| {
            let value = record.value.unwrap_or_default();
            let text = std::str::from_utf8(&value).map_err(|error| error.to_string())?;
            Ok(Read {
                offset: record.offset,
                epoch: record.partition_leader_epoch,
                record: text.parse().map_err(|error| format!("{error}"))?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back() {
        let records = [RecordId { producer: 1, number: 5 }, RecordId { producer: 1, number: 6 }];
        let producer = Producer {
            id: 77,
            epoch: 0,
            first_sequence: 5,
        };
        let batch = encode(&records, Some(producer), 1_000, 40).freeze();
        let read = decode(&batch).unwrap();
        assert_eq!(read.iter().map(|read| read.record).collect::<Vec<_>>(), records);
        assert_eq!(read.iter().map(|read| read.offset).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn records_without_a_producer_are_one_batch() {
        let records = [RecordId { producer: 1, number: 5 }, RecordId { producer: 1, number: 6 }];
        let batch = encode(&records, None, 1_000, 0);
        let length = i32::from_be_bytes([batch[8], batch[9], batch[10], batch[11]]);
        assert_eq!(usize::try_from(length).unwrap() + 12, batch.len());
    }

    #[test]
    fn what_is_no_batch_is_an_error() {
        assert!(decode(&Bytes::from_static(&[0; 70])).is_err());
    }
}
