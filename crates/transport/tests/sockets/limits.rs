//! What is over a limit costs its own connection, and nothing else.

use crate::support::{Client, Server, count, in_time, until};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use trimaran_transport::Limits;

/// Short, where a test waits for it to pass; a time-out that comes late fails nothing.
const SOON: Duration = Duration::from_millis(30);

#[tokio::test]
async fn lengths_that_are_not_acceptable_close_the_connection() {
    let server = Server::start(Limits {
        max_frame_bytes: 20,
        ..Limits::default()
    })
    .await;
    let mut neighbour = server.client().await;
    let bad = [21, -1, i32::MIN, i32::MAX, i32::from_be_bytes(*b"GET ")];
    for (done, length) in bad.into_iter().enumerate() {
        let mut client = server.client().await;
        client.send("echo first").await;
        client.0.write_i32(length).await.unwrap();
        assert_eq!(client.receive().await, "echo first", "what came before is answered");
        assert!(client.is_closed().await, "length {length}");
        assert_eq!(count(&server.statistics.closed.oversized), done as u64 + 1);
    }
    neighbour.send("20 bytes are allowed").await;
    assert_eq!(neighbour.receive().await, "20 bytes are allowed");
}

#[tokio::test]
async fn the_pipeline_is_never_longer_than_its_limit() {
    let server = Server::start(Limits {
        pipeline: 3,
        ..Limits::default()
    })
    .await;
    let mut client = server.client().await;
    let names: Vec<String> = (0..20).map(|i| i.to_string()).collect();
    for name in &names {
        client.send(&format!("wait {name}")).await;
    }
    for (done, name) in names.iter().enumerate() {
        let expected = names.len().min(done + 3);
        until("as many as may be are worked on", || {
            server.service.started() == expected
        })
        .await;
        server.service.finish(name);
        assert_eq!(client.receive().await, *name);
    }
    assert_eq!(server.service.most_running.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn bytes_in_flight_pause_the_reading() {
    let server = Server::start(Limits {
        in_flight_bytes: 2500,
        ..Limits::default()
    })
    .await;
    let mut client = server.client().await;
    let names: Vec<String> = ["a", "b", "c", "d"].map(|name| name.repeat(1000)).to_vec();
    for name in &names {
        client.send(&format!("wait {name}")).await;
    }
    for (done, name) in names.iter().enumerate() {
        let expected = names.len().min(done + 2);
        until("two thousand bytes are in flight", || {
            server.service.started() == expected
        })
        .await;
        server.service.finish(name);
        assert_eq!(client.receive().await, *name);
    }
    assert_eq!(server.service.most_running.load(Ordering::SeqCst), 2);
    client.send(&"x".repeat(10_000)).await;
    assert_eq!(
        client.receive().await.len(),
        10_000,
        "alone, any request is let through"
    );
}

#[tokio::test]
async fn large_frames_share_what_all_connections_may_hold() {
    let limits = Limits {
        max_frame_bytes: 100_000,
        in_flight_bytes_total: 100_000,
        read_timeout: Duration::from_secs(600),
        ..Limits::default()
    };
    let server = Server::start(limits).await;
    let mut first = server.client().await;
    first.send(&format!("wait {}", "1".repeat(70_000))).await;
    until("the first is worked on", || server.service.started() == 1).await;
    let mut second = server.client().await;
    let mut small = server.client().await;
    second.send(&format!("echo {}", "2".repeat(70_000))).await;
    small.send("echo small").await;
    assert_eq!(small.receive().await, "echo small", "small frames pass");
    assert_eq!(server.service.started(), 2, "the second large one waits");
    server.service.finish(&"1".repeat(70_000));
    assert_eq!(first.receive().await.len(), 70_000);
    assert_eq!(second.receive().await.len(), 70_005);
}

#[tokio::test]
async fn a_frame_that_finds_no_room_in_time_closes_its_connection() {
    let limits = Limits {
        max_frame_bytes: 100_000,
        in_flight_bytes_total: 100_000,
        read_timeout: SOON,
        ..Limits::default()
    };
    let server = Server::start(limits).await;
    let mut first = server.client().await;
    first.send(&format!("wait {}", "1".repeat(70_000))).await;
    until("the first is worked on", || server.service.started() == 1).await;
    let mut second = server.client().await;
    second.0.write_i32(70_000).await.unwrap();
    assert!(second.is_closed().await);
    assert_eq!(count(&server.statistics.closed.stalled), 1);
}

#[tokio::test]
async fn a_frame_that_does_not_go_on_closes_its_connection() {
    let server = Server::start(Limits {
        read_timeout: SOON,
        ..Limits::default()
    })
    .await;
    for (done, begun) in [&b"\0\0"[..], b"\0\0\0\x05", b"\0\0\0\x05hell"].into_iter().enumerate() {
        let mut client = server.client().await;
        client.0.write_all(begun).await.unwrap();
        assert!(client.is_closed().await);
        assert_eq!(count(&server.statistics.closed.stalled), done as u64 + 1);
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_cleanly() {
    let server = Server::start(Limits {
        idle_timeout: SOON,
        ..Limits::default()
    })
    .await;
    let mut client = server.client().await;
    client.send("echo").await;
    assert_eq!(client.receive().await, "echo");
    let mut rest = Vec::new();
    let read = in_time("the end of the connection", client.0.read_to_end(&mut rest)).await;
    assert_eq!(read.unwrap(), 0, "an end, not a reset");
    assert_eq!(count(&server.statistics.closed.idle), 1);
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_closed_and_its_requests_end() {
    let server = Server::start(Limits {
        write_timeout: SOON,
        ..Limits::default()
    })
    .await;
    let mut client = server.client().await;
    // More than the kernel's buffers take.
    client.send("large 50000000").await;
    client.send("wait for ever").await;
    until("the slow reader is given up", || {
        count(&server.statistics.closed.slow_reader) == 1
    })
    .await;
    until("its connection is closed", || count(&server.statistics.open) == 0).await;
    assert_eq!(server.service.running(), 0);
    assert_eq!(count(&server.statistics.in_flight), 0);
}

#[tokio::test]
async fn one_connection_too_many_is_turned_away() {
    for limits in [
        Limits {
            max_connections: 2,
            ..Limits::default()
        },
        Limits {
            max_connections_per_ip: 2,
            ..Limits::default()
        },
    ] {
        let server = Server::start(limits).await;
        let mut first = server.client().await;
        let mut second = server.client().await;
        for client in [&mut first, &mut second] {
            client.send("echo").await;
            assert_eq!(client.receive().await, "echo");
        }
        assert!(server.client().await.is_closed().await);
        assert_eq!(count(&server.statistics.turned_away), 1);
        drop(first);
        until("the first has left", || count(&server.statistics.open) == 1).await;
        let mut third = server.client().await;
        third.send("echo").await;
        assert_eq!(third.receive().await, "echo");
        second.send("echo").await;
        assert_eq!(second.receive().await, "echo");
    }
}

#[tokio::test]
async fn another_address_has_its_own_limit() {
    let server = Server::start(Limits {
        max_connections_per_ip: 1,
        ..Limits::default()
    })
    .await;
    let mut first = server.client().await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = Client(socket.connect(server.address).await.unwrap());
    for client in [&mut first, &mut other] {
        client.send("echo").await;
        assert_eq!(client.receive().await, "echo");
    }
    assert!(server.client().await.is_closed().await);
}

#[tokio::test]
async fn a_client_that_vanishes_takes_its_requests_with_it() {
    let server = Server::start(Limits {
        drain_timeout: SOON,
        ..Limits::default()
    })
    .await;
    let mut client = server.client().await;
    client.send("wait for ever").await;
    until("it is worked on", || server.service.running() == 1).await;
    let stream: TcpStream = client.0;
    drop(stream);
    until("it has ended", || server.service.running() == 0).await;
    until("it is told", || server.service.closed.load(Ordering::SeqCst) == 1).await;
    assert_eq!(server.service.opened.load(Ordering::SeqCst), 1);
    assert_eq!(count(&server.statistics.in_flight), 0);
}
