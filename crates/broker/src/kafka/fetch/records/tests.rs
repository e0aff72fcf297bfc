use super::*;
use crate::engine::Acks;
use crate::kafka::tests::TestBroker;
use trimaran_wire::batch;

/// Appends so many batches of different lengths; the group, and their bytes as they are stored.
async fn stored(broker: &TestBroker, topic: &str, batches: usize) -> (GroupId, Vec<u8>) {
    broker.with_topic(topic, 1, &[]).await;
    let engine = broker.server.engine();
    let partition = engine.catalog().topic(topic).unwrap().partitions[0].clone();
    let group = crate::ids::group(partition.group);
    for at in 0..batches {
        let value = vec![at as u8; 50 + 3000 * at];
        let records: Vec<_> = (0..=at).map(|_| (None, Some(&value[..]))).collect();
        let appended = engine.append(group, batch::build(0, &records), Acks::All).await;
        appended.unwrap();
    }
    let chunks = chunks(engine, group).await;
    let bytes = engine.load(group, chunks).await.unwrap().concat();
    (group, bytes)
}

async fn chunks(engine: &Engine, group: GroupId) -> Vec<Chunk> {
    let request = ReadRequest {
        group,
        from: Offset(0),
        max_bytes: 1 << 24,
        current_epoch: None,
        follower_ok: false,
        wait: false,
    };
    engine.read(request).await.unwrap().chunks
}

/// Reads everything in pieces of about `bytes`, of each of which `back` is put back once.
async fn read_all(engine: &Engine, group: GroupId, bytes: usize, back: usize) -> Vec<u8> {
    let mut records = Records::new(engine, group, chunks(engine, group).await).unwrap();
    let mut all = Vec::new();
    while records.remaining() > 0 {
        let before = records.remaining();
        let first = records.read(bytes).await.unwrap().concat();
        assert_eq!(records.remaining(), before - first.len());
        let back = back.min(first.len());
        records.put_back(back);
        all.extend(&first[..first.len() - back]);
        if back > 0 {
            let again = records.read(bytes).await.unwrap().concat();
            all.extend(again);
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_back_is_read_again_from_memory_and_from_files() {
    let broker = TestBroker::with(|settings| {
        // The first topic is read from memory, the second from segments.
        settings.limits.tail_bytes = 0;
    })
    .await;
    let engine = broker.server.engine().clone();
    let (in_memory, expected) = stored(&broker, "memory", 8).await;
    assert!(matches!(chunks(&engine, in_memory).await[0], Chunk::Memory(_)));
    let (in_files, flushed) = stored(&broker, "files", 8).await;
    loop {
        engine.mailbox(in_files).tell(Input::FlushNow(in_files));
        if matches!(chunks(&engine, in_files).await[0], Chunk::File(_)) {
            break;
        }
        tokio::task::yield_now().await;
    }
    for (group, expected) in [(in_memory, expected), (in_files, flushed)] {
        for bytes in [1, 5_000, 30_000, 1 << 24] {
            for back in [0, 1, 60, 4_000, 1 << 20] {
                let read = read_all(&engine, group, bytes, back).await;
                assert!(read == expected, "{bytes} at a time, {back} of them put back");
            }
        }
    }
    assert_eq!(engine.memory().responses.held(), 0);
    broker.server.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_of_files_takes_its_part_of_the_memory_until_it_is_sent() {
    let broker = TestBroker::with(|settings| settings.limits.tail_bytes = 0).await;
    let engine = broker.server.engine().clone();
    let (group, expected) = stored(&broker, "files", 6).await;
    loop {
        engine.mailbox(group).tell(Input::FlushNow(group));
        if matches!(chunks(&engine, group).await[0], Chunk::File(_)) {
            break;
        }
        tokio::task::yield_now().await;
    }
    let share = &engine.memory().responses;
    let mut records = Records::new(&engine, group, chunks(&engine, group).await).unwrap();
    let read = records.read(1 << 24).await.unwrap();
    assert!(share.held() >= expected.len() as u64, "{share:?}");
    drop(records);
    assert!(share.held() > 0, "the bytes are still to be sent");
    drop(read);
    assert_eq!(share.held(), 0);
    broker.server.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_waits_for_memory_holds_none() {
    let broker = TestBroker::with(|settings| settings.limits.tail_bytes = 0).await;
    let engine = broker.server.engine().clone();
    let (group, expected) = stored(&broker, "files", 6).await;
    loop {
        engine.mailbox(group).tell(Input::FlushNow(group));
        if matches!(chunks(&engine, group).await[0], Chunk::File(_)) {
            break;
        }
        tokio::task::yield_now().await;
    }
    let share = &engine.memory().responses;
    let mut records = Records::new(&engine, group, chunks(&engine, group).await).unwrap();
    let first_len = BatchHeader::length_in(&expected).unwrap();
    let second_len = BatchHeader::length_in(&expected[first_len..]).unwrap();
    let first = records.read(1).await.unwrap();
    assert_eq!(first.concat().len(), first_len);
    drop(first);
    // The second batch fits if the first one's part is free again.
    let mut others = share.try_reserve(share.free()).unwrap();
    others.shrink_to(share.bytes() - second_len.next_multiple_of(1024) as u64);
    let second = tokio::time::timeout(PATIENCE / 2, records.read(1)).await;
    let second = second.expect("it waits for itself").unwrap();
    assert_eq!(second.concat().len(), second_len);
    drop(others);
    broker.server.kill().await;
}
