//! What a leader tells a follower of where its log is to begin.

use trimaran_raft::LogIndex;
use trimaran_storage::producers::ProducedBatch;
use trimaran_storage::snapshot::{MAX_SENT_BATCHES, decode_position, encode_position};
use trimaran_wire::batch::Offset;

/// The first byte is the position's index.
pub(super) fn target(data: &[u8]) {
    let (&index, bytes) = data.split_first().unwrap_or((&0, &[]));
    let index = LogIndex(u64::from(index));
    let Ok((offset, batches)) = decode_position(bytes, index) else {
        return;
    };
    assert!(offset >= Offset(0));
    assert!(batches.len() <= MAX_SENT_BATCHES && batches.len() <= bytes.len());
    assert!(batches.iter().all(|batch| batch.index <= index), "they lie before it");
    assert!(batches.is_sorted_by_key(|batch| batch.index), "in log order");
    let again = encode_position(offset, &batches);
    assert!(again.len() <= bytes.len(), "no encoding is shorter than ours");
    assert_eq!(decode_position(&again, index), Ok((offset, batches)));
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let batch = |index: i64| ProducedBatch {
        producer: 70 + index % 2,
        epoch: 2,
        first_sequence: 10 * index as i32,
        last_sequence: 10 * index as i32 + 9,
        index: LogIndex(index as u64),
        base_offset: Offset(10 * index),
    };
    let batches: Vec<_> = (1..=9).map(batch).collect();
    [0, 1, 9]
        .map(|count| [&[9][..], &encode_position(Offset(300), &batches[..count])].concat())
        .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_a_position() {
        for seed in seeds() {
            assert!(decode_position(&seed[1..], LogIndex(u64::from(seed[0]))).is_ok());
        }
    }
}
