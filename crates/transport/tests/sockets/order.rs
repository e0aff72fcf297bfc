//! Responses leave in the order of the requests, whatever the order in which they are ready.

use crate::support::{Server, count, framed, until};
use tokio::io::AsyncWriteExt;
use trimaran_transport::Limits;

#[tokio::test]
async fn responses_keep_the_order_of_requests_that_finish_backwards() {
    let server = Server::start(Limits::default()).await;
    let mut client = server.client().await;
    for name in ["a", "b", "c", "d"] {
        client.send(&format!("wait {name}")).await;
    }
    until("all four are worked on at a time", || server.service.running() == 4).await;
    for name in ["d", "c", "b"] {
        server.service.finish(name);
    }
    until("three are done", || server.service.running() == 1).await;
    assert_eq!(count(&server.statistics.frames_out), 0, "nothing overtakes the first");
    server.service.finish("a");
    for name in ["a", "b", "c", "d"] {
        assert_eq!(client.receive().await, name);
    }
}

#[tokio::test]
async fn requests_start_in_the_order_of_their_arrival() {
    let server = Server::start(Limits {
        pipeline: 1000,
        ..Limits::default()
    })
    .await;
    let mut client = server.client().await;
    let requests: Vec<String> = (0..500).map(|i| format!("echo {i}")).collect();
    let stream: Vec<u8> = requests.iter().flat_map(|request| framed(request.as_bytes())).collect();
    client.0.write_all(&stream).await.unwrap();
    for request in &requests {
        assert_eq!(client.receive().await, *request);
    }
    assert_eq!(*server.service.started.lock().unwrap(), requests);
}

#[tokio::test]
async fn a_long_poll_holds_up_what_follows_on_its_own_connection_only() {
    let server = Server::start(Limits::default()).await;
    let mut polling = server.client().await;
    polling.send("wait poll").await;
    polling.send("echo after").await;
    let mut other = server.client().await;
    other.send("echo other").await;
    assert_eq!(other.receive().await, "echo other");
    until("the second request is done", || {
        server.service.started() == 3 && server.service.running() == 1
    })
    .await;
    server.service.finish("poll");
    assert_eq!(polling.receive().await, "poll");
    assert_eq!(polling.receive().await, "echo after");
}

#[tokio::test]
async fn a_request_without_a_response_takes_no_turn() {
    let server = Server::start(Limits::default()).await;
    let mut client = server.client().await;
    for request in ["nothing", "echo 1", "nothing", "nothing", "echo 2"] {
        client.send(request).await;
    }
    assert_eq!(client.receive().await, "echo 1");
    assert_eq!(client.receive().await, "echo 2");
}

#[tokio::test]
async fn closing_comes_after_all_earlier_responses() {
    let server = Server::start(Limits::default()).await;
    let mut client = server.client().await;
    for request in ["wait first", "close", "echo never"] {
        client.send(request).await;
    }
    until("the close is decided", || {
        server.service.started() >= 2 && server.service.running() == 1
    })
    .await;
    server.service.finish("first");
    assert_eq!(client.receive().await, "first");
    assert!(client.is_closed().await);
    assert_eq!(count(&server.statistics.closed.by_service), 1);
}

#[tokio::test]
async fn long_frames_arrive_unchanged_in_both_directions() {
    let server = Server::start(Limits::default()).await;
    let mut client = server.client().await;
    let frame: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    client.send_bytes(&frame).await;
    assert!(client.receive_bytes().await == frame);
    client.send("large 5000000").await;
    assert_eq!(client.receive_bytes().await.len(), 5_000_000);
}

#[tokio::test]
async fn a_client_that_closes_its_half_gets_its_answers() {
    let server = Server::start(Limits::default()).await;
    let mut client = server.client().await;
    client.send("wait last words").await;
    client.0.shutdown().await.unwrap();
    until("the request has begun", || server.service.running() == 1).await;
    server.service.finish("last words");
    assert_eq!(client.receive().await, "last words");
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_panic_costs_its_own_connection_only() {
    let server = Server::start(Limits::default()).await;
    for (request, failed) in [("panic", 1), ("panic-at-once", 1)] {
        let mut other = server.client().await;
        let mut client = server.client().await;
        client.send("echo before").await;
        assert_eq!(client.receive().await, "echo before");
        client.send(request).await;
        assert!(client.is_closed().await);
        other.send("echo on").await;
        assert_eq!(other.receive().await, "echo on");
        assert_eq!(count(&server.statistics.closed.failed), failed);
    }
    until("all are closed", || count(&server.statistics.open) == 0).await;
    assert_eq!(count(&server.statistics.in_flight), 0);
}
