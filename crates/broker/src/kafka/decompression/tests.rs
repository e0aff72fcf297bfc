use super::super::tests::words::compressed_zeros;
use super::*;
use bytes::Bytes;
use kafka_protocol::records::Compression;
use std::sync::mpsc;
use std::time::Duration;

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(20)
}

fn later() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

fn with_slots(slots: usize) -> Decompression {
    let smallest = MemoryBudget::new(crate::memory::MIN_BYTES, 1);
    Decompression::with_slots(slots, Arc::new(smallest))
}

#[tokio::test]
async fn no_more_batches_are_read_at_a_time_than_there_are_slots() {
    let decompression = with_slots(1);
    let (go_on, wait) = mpsc::channel::<()>();
    let slot = decompression.slot(later()).await.unwrap();
    let first = tokio::spawn(slot.read(Bytes::new(), 0, later(), move |_| wait.recv().is_ok()));
    let Err(failure) = decompression.slot(soon()).await else {
        panic!("the only slot is taken")
    };
    assert_eq!(failure.error, ResponseError::RequestTimedOut);
    go_on.send(()).unwrap();
    assert!(first.await.unwrap().unwrap());
    assert!(decompression.slot(later()).await.is_ok());
}

/// The window of zstd alone takes more than the share of the smallest budget.
#[tokio::test]
async fn batches_that_are_read_share_one_budget_of_memory() {
    let batch = compressed_zeros(Compression::Zstd, 3 << 20);
    let decompression = with_slots(2);
    let (go_on, wait) = mpsc::channel::<()>();
    let slot = decompression.slot(later()).await.unwrap();
    let (begun, has_begun) = mpsc::channel();
    let first = tokio::spawn(slot.read(batch.clone(), 0, later(), move |_| {
        begun.send(()).unwrap();
        wait.recv().is_ok()
    }));
    tokio::task::spawn_blocking(move || has_begun.recv().unwrap())
        .await
        .unwrap();
    let slot = decompression.slot(later()).await.unwrap();
    let second = slot.read(batch.clone(), 0, soon(), |_| ()).await;
    assert_eq!(second.unwrap_err().error, ResponseError::RequestTimedOut);
    go_on.send(()).unwrap();
    assert!(first.await.unwrap().unwrap());
    let slot = decompression.slot(later()).await.unwrap();
    slot.read(batch, 0, later(), |_| ()).await.unwrap();
}

/// A client that goes away must not make room for more than there is.
#[tokio::test]
async fn a_read_that_nobody_waits_for_keeps_what_it_was_permitted() {
    let decompression = with_slots(1);
    let (go_on, wait) = mpsc::channel::<()>();
    let (begun, has_begun) = mpsc::channel();
    let slot = decompression.slot(later()).await.unwrap();
    let first = tokio::spawn(slot.read(Bytes::new(), 0, later(), move |_| {
        begun.send(()).unwrap();
        wait.recv().is_ok()
    }));
    tokio::task::spawn_blocking(move || has_begun.recv().unwrap())
        .await
        .unwrap();
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    assert!(decompression.slot(soon()).await.is_err());
    go_on.send(()).unwrap();
    assert!(decompression.slot(later()).await.is_ok());
}

#[test]
fn only_what_takes_no_time_is_read_at_once() {
    for compression in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let small = compressed_zeros(compression, 100_000);
        assert!(validate_at_once(&small).unwrap().is_some(), "{compression:?}");
        let large = compressed_zeros(compression, 1 << 20);
        assert!(validate_at_once(&large).unwrap().is_none(), "{compression:?}");
    }
    let plain = compressed_zeros(Compression::None, 4 << 20);
    assert!(validate_at_once(&plain).unwrap().is_some(), "not compressed");
}
