//! One broker alone.

use crate::support::{LONG, append, create, one, read_request, settings, single, sockets, stamped, values};
use std::time::Duration;
use trimaran_broker::engine::{Acks, AppendError, ReadError};
use trimaran_broker::server::{Server, StartError};
use trimaran_multiraft::OffsetQuery;
use trimaran_raft::GroupId;
use trimaran_registry::CatalogError;
use trimaran_registry::agent::{AdminError, AdminReply, AdminRequest};
use trimaran_registry::catalog::TopicRef;
use trimaran_wire::batch::Offset;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_appended_is_read_and_survives_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let server = single(data.path()).await;
    let engine = server.engine().clone();
    let group = create(&engine, "t", 1, 1).await;
    for n in 0..10 {
        let appended = append(&engine, group, &format!("v{n}")).await;
        assert_eq!(appended.base_offset, Offset(n), "offsets are 0, 1, 2, ...");
    }
    let expected: Vec<String> = (0..10).map(|n| format!("v{n}")).collect();
    assert_eq!(values(&engine, group, 0).await, expected);
    assert_eq!(values(&engine, group, 7).await, expected[7..]);
    // Killed: what was acknowledged is on the disk.
    server.kill().await;

    let server = single(data.path()).await;
    let engine = server.engine();
    assert_eq!(append(engine, group, "after").await.base_offset, Offset(10));
    let mut all = values(engine, group, 0).await;
    assert_eq!(all.pop().as_deref(), Some("after"));
    assert_eq!(all, expected);
    let outcome = server.leave().await;
    assert_eq!(outcome.handed_over, 0, "there is nobody to hand over to");
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_keep_the_order_of_their_calls() {
    let data = tempfile::tempdir().unwrap();
    let server = single(data.path()).await;
    let engine = server.engine();
    let group = create(engine, "t", 1, 1).await;
    append(engine, group, "first").await;
    // Not awaited one by one: the order is that of the calls.
    let pending: Vec<_> = (0..200)
        .map(|n| engine.append(group, one(&format!("v{n}")), Acks::All))
        .collect();
    for (n, answer) in (1..).zip(pending) {
        assert_eq!(answer.await.unwrap().base_offset, Offset(n));
    }
    server.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_stored_once_even_over_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let server = single(data.path()).await;
    let engine = server.engine();
    let group = create(engine, "t", 1, 1).await;
    append(engine, group, "x").await;
    let id = engine.producer_id(LONG).await.unwrap();
    let first = engine.append(group, stamped("a", id, 0), Acks::All).await.unwrap();
    let again = engine.append(group, stamped("a", id, 0), Acks::All).await.unwrap();
    assert_eq!((again.base_offset, again.duplicate), (first.base_offset, true));
    let gap = engine.append(group, stamped("c", id, 2), Acks::All).await;
    assert!(matches!(gap, Err(AppendError::OutOfOrderSequence { .. })), "{gap:?}");
    server.kill().await;

    let server = single(data.path()).await;
    let engine = server.engine();
    append(engine, group, "y").await;
    let again = engine.append(group, stamped("a", id, 0), Acks::All).await.unwrap();
    assert_eq!((again.base_offset, again.duplicate), (first.base_offset, true));
    let another = engine.producer_id(LONG).await.unwrap();
    assert_ne!(another, id, "no producer id is handed out twice");
    server.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_waits_for_records_and_can_be_taken_back() {
    let data = tempfile::tempdir().unwrap();
    let server = single(data.path()).await;
    let engine = server.engine();
    let group = create(engine, "t", 1, 1).await;
    append(engine, group, "a").await;
    let mut request = read_request(group, Offset(1));
    request.wait = true;
    let waiting = tokio::spawn(engine.read(request));
    // Taken back: nothing waits for it any longer, and nothing breaks.
    drop(engine.read(request));
    append(engine, group, "b").await;
    let result = tokio::time::timeout(LONG, waiting).await.unwrap().unwrap().unwrap();
    assert!(!result.chunks.is_empty());
    assert_eq!(result.high_watermark.0, Offset(2));
    server.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_an_error() {
    let data = tempfile::tempdir().unwrap();
    let server = single(data.path()).await;
    let engine = server.engine();
    let nowhere = GroupId(999);
    let append_error = engine.append(nowhere, one("x"), Acks::All).await.unwrap_err();
    assert_eq!(append_error, AppendError::UnknownGroup);
    let read_error = engine.read(read_request(nowhere, Offset(0))).await.err();
    assert_eq!(read_error, Some(ReadError::UnknownGroup));
    assert!(engine.status(nowhere).await.is_none());
    let offsets = engine.offsets(nowhere, OffsetQuery::Latest, None).await;
    assert!(matches!(offsets, Err(ReadError::UnknownGroup)));
    let group = create(engine, "t", 1, 1).await;
    append(engine, group, "x").await;
    let beyond = engine.read(read_request(group, Offset(5))).await.err();
    assert!(matches!(beyond, Some(ReadError::OutOfRange { .. })), "{beyond:?}");
    server.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_deleted_is_gone_from_the_disk_and_its_name_is_free() {
    let data = tempfile::tempdir().unwrap();
    let server = single(data.path()).await;
    let engine = server.engine();
    let group = create(engine, "t", 1, 1).await;
    append(engine, group, "x").await;
    let delete = || AdminRequest::DeleteTopic(TopicRef::Name("t".to_owned()));
    assert!(matches!(engine.admin(delete(), LONG).await, Ok(AdminReply::Topic(_))));
    let again = engine.admin(delete(), LONG).await;
    assert_eq!(again, Err(AdminError::Refused(CatalogError::UnknownTopic)));
    let anew = create(engine, "t", 1, 1).await;
    assert_ne!(anew, group, "a group is never used again");
    assert_eq!(append(engine, anew, "y").await.base_offset, Offset(0));
    server.kill().await;

    let server = single(data.path()).await;
    let engine = server.engine();
    assert_eq!(append(engine, anew, "z").await.base_offset, Offset(1));
    assert_eq!(values(engine, anew, 0).await, ["y", "z"]);
    let old = data.path().join("partitions").join(format!("group-{}", group.0));
    assert!(!old.exists(), "{} is still there", old.display());
    server.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_can_not_be_opened_costs_no_more_than_its_replica() {
    let data = tempfile::tempdir().unwrap();
    let server = single(data.path()).await;
    let damaged = create(server.engine(), "damaged", 1, 1).await;
    let whole = create(server.engine(), "whole", 1, 1).await;
    append(server.engine(), damaged, "x").await;
    append(server.engine(), whole, "x").await;
    server.kill().await;
    // Nothing was flushed yet: where its folder will be, there is a file.
    let folder = data.path().join("partitions").join(format!("group-{}", damaged.0));
    std::fs::write(&folder, "in the way").unwrap();

    let server = single(data.path()).await;
    let engine = server.engine();
    assert_eq!(append(engine, whole, "y").await.base_offset, Offset(1));
    let refused = engine.append(damaged, one("y"), Acks::All).await;
    assert_eq!(refused.unwrap_err(), AppendError::Storage);
    assert!(engine.status(damaged).await.is_some_and(|status| status.failed));
    server.kill().await;

    std::fs::remove_file(&folder).unwrap();
    let server = single(data.path()).await;
    assert_eq!(append(server.engine(), damaged, "y").await.base_offset, Offset(1));
    assert_eq!(values(server.engine(), damaged, 0).await, ["x", "y"]);
    server.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn configured_defaults_become_settings_of_new_topics() {
    let data = tempfile::tempdir().unwrap();
    let mut settings = settings(1, data.path());
    let default = ("retention.ms".to_owned(), "60000".to_owned());
    settings.cluster.topic_defaults.extend([default]);
    let server = Server::start_on(settings, sockets()).await.unwrap();
    assert!(server.ready(LONG).await);
    let engine = server.engine();
    create(engine, "made", 1, 1).await;
    let ensure = AdminRequest::EnsureTopic {
        name: "ensured".to_owned(),
    };
    assert!(engine.admin(ensure, LONG).await.is_ok());
    for topic in ["made", "ensured"] {
        let catalog = engine.catalog();
        assert_eq!(
            catalog.topic(topic).unwrap().config.retention_ms,
            Some(60_000),
            "{topic}"
        );
    }
    server.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_has_one_broker_at_a_time() {
    let data = tempfile::tempdir().unwrap();
    let server = single(data.path()).await;
    let second = Server::start_on(settings(1, data.path()), sockets()).await;
    assert!(matches!(second, Err(StartError::Folder(_))));
    server.kill().await;
    let other = Server::start_on(settings(2, data.path()), sockets()).await;
    let error = other
        .err()
        .expect("broker 2 must not take broker 1's folder")
        .to_string();
    assert!(error.contains("belongs to broker 1"), "{error}");
    single(data.path()).await.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_named() {
    let data = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = settings(1, data.path());
    settings.listeners.client = taken.local_addr().unwrap();
    let error = Server::start(settings)
        .await
        .err()
        .expect("the port is taken")
        .to_string();
    assert!(
        error.contains("client listener") && error.contains("listeners.client"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overloaded_shard_refuses_and_recovers() {
    let data = tempfile::tempdir().unwrap();
    let mut settings = settings(1, data.path());
    settings.limits.mailbox_requests = 16;
    let server = Server::start_on(settings, sockets()).await.unwrap();
    assert!(server.ready(LONG).await);
    let engine = server.engine();
    let group = create(engine, "t", 1, 1).await;
    append(engine, group, "x").await;
    let flood: Vec<_> = (0..20_000).map(|_| engine.append(group, one("x"), Acks::All)).collect();
    let mut stored = 1;
    let mut refused = 0;
    for answer in flood {
        match answer.await {
            Ok(_) => stored += 1,
            Err(AppendError::Busy) => refused += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    assert!(refused > 0, "a mailbox of 16 took 20,000 at once");
    assert_eq!(append(engine, group, "y").await.base_offset, Offset(stored));
    tokio::time::timeout(Duration::from_secs(5), server.kill())
        .await
        .unwrap();
}
