//! Kafka's frames and record batches without a broker: what a producer sends, cut out of a stream that arrives in
//! pieces; stamped, checked and read. `cargo run -p trimaran-wire --example batches`

use bytes::{Bytes, BytesMut};
use std::error::Error;
use tokio_util::codec::{Decoder, Encoder};
use trimaran_wire::batch::{self, BatchHeader, LeaderEpoch, Offset};
use trimaran_wire::frame::FrameCodec;

/// Nobody may make us wait for, or hold, more than this.
const MAX_FRAME_BYTES: usize = 1 << 20;

/// Records decompress to no more than this.
const MAX_RECORD_BYTES: usize = 1 << 20;

/// Two frames, as they stand in a stream: a batch of two records, and one of a record without key.
fn sent() -> Result<BytesMut, Box<dyn Error>> {
    let now_ms = 1_700_000_000_000;
    let batches = [
        batch::build(now_ms, &[(Some(b"colour"), Some(b"red")), (Some(b"shape"), None)]),
        batch::build(now_ms + 5, &[(None, Some(b"hello"))]),
    ];
    let mut stream = BytesMut::new();
    for batch in batches {
        FrameCodec::new(MAX_FRAME_BYTES).encode(batch.freeze(), &mut stream)?;
    }
    Ok(stream)
}

/// What a log does with a batch: checks it, gives it its place, and stores the bytes as they came.
fn store(log: &mut BytesMut, next: Offset, mut batch: BytesMut) -> Result<Offset, Box<dyn Error>> {
    batch::verify_crc(&batch)?;
    batch::stamp(&mut batch, next, LeaderEpoch(7)); // neither field is under the checksum
    let header = BatchHeader::parse_only(&batch)?;
    log.extend_from_slice(&batch);
    Ok(header.next_offset())
}

/// What a consumer does with stored bytes, of which the last batch may be cut off.
fn show(log: Bytes) -> Result<(), Box<dyn Error>> {
    for part in batch::split(log) {
        let (header, bytes) = part?;
        println!(
            "{} record(s) of leader epoch {}:",
            header.record_count, header.leader_epoch
        );
        for record in batch::records(&bytes, MAX_RECORD_BYTES)? {
            let record = record?;
            let text = |bytes: &Option<Bytes>| {
                bytes
                    .as_ref()
                    .map_or("-".into(), |b| String::from_utf8_lossy(b).into_owned())
            };
            println!(
                "  {} at {}: {} = {}",
                record.offset,
                record.timestamp_ms,
                text(&record.key),
                text(&record.value)
            );
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let (mut codec, mut buffer) = (FrameCodec::new(MAX_FRAME_BYTES), BytesMut::new());
    let (mut log, mut next) = (BytesMut::new(), Offset::ZERO);
    for piece in sent()?.chunks(10) {
        buffer.extend_from_slice(piece);
        while let Some(frame) = codec.decode(&mut buffer)? {
            next = store(&mut log, next, frame)?;
        }
    }
    println!("{} bytes, the next offset is {next}", log.len());
    show(log.freeze())
}
