//! A listener stops: nothing new, what is in flight is finished, within a deadline.

use crate::support::{Server, count, in_time, until};
use std::time::Duration;
use tokio::net::TcpStream;
use trimaran_transport::{Drained, Limits};

#[tokio::test]
async fn what_is_in_flight_is_finished_and_answered() {
    let server = Server::start(Limits {
        drain_timeout: Duration::from_secs(600),
        ..Limits::default()
    })
    .await;
    let service = server.service.clone();
    let address = server.address;
    let mut idle = server.client().await;
    let mut busy = server.client().await;
    busy.send("wait work").await;
    until("it is worked on", || {
        service.running() == 1 && count(&server.statistics.open) == 2
    })
    .await;
    let ended = server.stop();
    assert!(idle.is_closed().await);
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
    service.finish("work");
    assert_eq!(busy.receive().await, "work");
    assert!(busy.is_closed().await);
    let drained = in_time("the end of the listener", ended).await.unwrap();
    assert_eq!(drained, Drained { finished: 2, cut: 0 });
}

#[tokio::test]
async fn what_takes_too_long_is_cut() {
    let server = Server::start(Limits {
        drain_timeout: Duration::from_millis(30),
        ..Limits::default()
    })
    .await;
    let (service, statistics) = (server.service.clone(), server.statistics.clone());
    let mut busy = server.client().await;
    busy.send("wait for ever").await;
    until("it is worked on", || service.running() == 1).await;
    let drained = in_time("the end of the listener", server.stop()).await.unwrap();
    assert_eq!(drained, Drained { finished: 0, cut: 1 });
    assert_eq!(service.running(), 0, "its future is gone");
    assert!(busy.is_closed().await);
    assert_eq!((count(&statistics.open), count(&statistics.in_flight)), (0, 0));
    assert_eq!(count(&statistics.closed.not_drained), 1);
}

#[tokio::test]
async fn requests_after_the_shutdown_are_not_started() {
    let server = Server::start(Limits::default()).await;
    let service = server.service.clone();
    let mut client = server.client().await;
    client.send("wait work").await;
    until("it is worked on", || service.running() == 1).await;
    let ended = server.stop();
    assert!(!ended.is_finished());
    // The listener is gone once the shutdown has begun; what comes now comes too late.
    until("the shutdown has begun", || {
        std::net::TcpListener::bind(client.0.peer_addr().unwrap()).is_ok()
    })
    .await;
    client.send("echo too late").await;
    service.finish("work");
    assert_eq!(client.receive().await, "work");
    assert!(client.is_closed().await);
    assert_eq!(in_time("the end of the listener", ended).await.unwrap().cut, 0);
    assert_eq!(service.started(), 1);
}
