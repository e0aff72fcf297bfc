//! An idempotent producer: what is sent again after a lost answer is stored once.

use crate::client::{check, incomplete, judge};
use crate::{Client, ClientError, RequestError, requests};
use bytes::BytesMut;
use std::collections::HashMap;
use trimaran_wire::batch::{self, KeyValue, ProducerStamp};
use trimaran_wire::kafka_protocol::ResponseError;

/// The time that a broker may wait for other replicas: shorter than one attempt, so that its answer is heard.
const PRODUCE_TIMEOUT_MS: i32 = 4_000;

/// Produces to one topic.
pub struct Producer {
    topic: String,
    acks: i16,
    identity: Option<(i64, i16)>,
    /// The sequence number of each partition's next record.
    sequences: HashMap<i32, i32>,
}

impl Producer {
    /// A producer with `acks` as in Kafka: -1 for all, 1 for the leader, 0 for none. With all, it is idempotent.
    ///
    /// # Errors
    /// [`ClientError`]: no producer id could be had.
    pub async fn open(client: &mut Client, topic: &str, acks: i16) -> Result<Producer, ClientError> {
        let identity = if acks == -1 {
            let what = "asking for a producer id";
            let request = requests::producer_id();
            let identity = client.ask_any(what, 1, &request, |response| {
                check(what, response.error_code, None)?;
                Ok((response.producer_id.0, response.producer_epoch))
            });
            Some(identity.await?)
        } else {
            None
        };
        Ok(Producer {
            topic: topic.to_owned(),
            acks,
            identity,
            sequences: HashMap::new(),
        })
    }

    /// Sends records to a partition as one batch; returns the first one's offset (none without acknowledgement).
    ///
    /// # Errors
    /// [`ClientError`]; the leader is followed until the deadline. With acks other than all, a retry may store twice.
    ///
    /// # Panics
    /// If there are no records, or more than 2 GiB of them.
    pub async fn send(
        &mut self,
        client: &mut Client,
        partition: i32,
        records: &[KeyValue<'_>],
    ) -> Result<Option<i64>, ClientError> {
        let mut batch = batch::build(wall_clock_ms(), records);
        let sequence = self.sequences.get(&partition).copied().unwrap_or(0);
        if let Some((id, epoch)) = self.identity {
            let stamp = ProducerStamp {
                id,
                epoch,
                first_sequence: sequence,
            };
            batch::set_producer(&mut batch, stamp);
        }
        let offset = self.send_batch(client, partition, batch).await?;
        self.sequences.insert(partition, next_sequence(sequence, records.len()));
        Ok(offset)
    }

    async fn send_batch(
        &self,
        client: &mut Client,
        partition: i32,
        batch: BytesMut,
    ) -> Result<Option<i64>, ClientError> {
        let request = requests::produce(&self.topic, partition, batch.freeze(), self.acks, PRODUCE_TIMEOUT_MS);
        let what = format!("producing to {}/{partition}", self.topic);
        if self.acks == 0 {
            client.tell_leader(&what, &self.topic, partition, 8, &request).await?;
            return Ok(None);
        }
        client
            .ask_leader(&what, &self.topic, partition, 8, &request, |response| {
                let topic = response.responses.first().ok_or_else(incomplete)?;
                let result = topic.partition_responses.first().ok_or_else(incomplete)?;
                match requests::produced(&response) {
                    // An earlier attempt was stored after all, and so long ago that its offset is forgotten.
                    Err(RequestError::Code(code)) if code == ResponseError::DuplicateSequenceNumber.code() => Ok(None),
                    outcome => judge(&what, outcome.map(Some), result.error_message.as_ref()),
                }
            })
            .await
    }
}

/// Milliseconds since 1970, as Kafka's timestamps have it.
fn wall_clock_ms() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Sequence numbers wrap from 2³¹-1 to 0.
fn next_sequence(sequence: i32, records: usize) -> i32 {
    let next = (i64::from(sequence) + records as i64) % (i64::from(i32::MAX) + 1);
    i32::try_from(next).unwrap_or(0)
}

/// The partition that Kafka's own producers choose for a key, so that all tools agree: murmur2 of the key
/// (`org.apache.kafka.common.utils.Utils`).
pub fn partition_for_key(key: &[u8], partitions: usize) -> usize {
    (murmur2(key) & 0x7fff_ffff) as usize % partitions.max(1)
}

fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (at, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values are those of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn murmur2_is_kafkas() {
        let cases: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ];
        for (key, hash) in cases {
            assert_eq!(murmur2(key) as i32, hash, "{}", String::from_utf8_lossy(key));
        }
    }

    #[test]
    fn sequences_wrap() {
        assert_eq!(next_sequence(0, 3), 3);
        assert_eq!(next_sequence(i32::MAX, 1), 0);
        assert_eq!(next_sequence(i32::MAX - 1, 3), 1);
    }
}
