//! Trimaran's own Kafka client against real brokers.

use crate::support::{LONG, Trio, single};
use std::time::Duration;
use trimaran_broker::Server;
use trimaran_client::{Client, ClientError, ClientOptions, Producer};

fn client(servers: &[&Server], timeout: Duration) -> Client {
    Client::new(ClientOptions {
        bootstrap: servers
            .iter()
            .map(|server| server.addresses().client.to_string())
            .collect(),
        timeout,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_come_and_go() {
    let data = tempfile::tempdir().unwrap();
    let server = single(data.path()).await;
    let mut client = client(&[&server], LONG);
    let settings = [("retention.ms".to_owned(), "60000".to_owned())];
    client.create_topic("t", 3, 1, &settings).await.unwrap();
    assert_eq!(client.topic("t", false).await.unwrap().len(), 3);
    let config = client.topic_config("t").await.unwrap();
    let retention = config.iter().find(|(key, _, _)| key == "retention.ms");
    assert_eq!(
        retention.map(|(_, value, own)| (value.as_str(), *own)),
        Some(("60000", true))
    );
    assert!(config.len() > 10, "every key is described, not only those that are set");
    let again = client.create_topic("t", 3, 1, &[]).await;
    assert!(matches!(again, Err(ClientError::Refused { code: 36, .. })), "{again:?}");
    client.delete_topic("t").await.unwrap();
    let gone = client.delete_topic("t").await;
    assert!(matches!(gone, Err(ClientError::Refused { code: 3, .. })), "{gone:?}");
    server.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_found_at_both_ends_and_by_time() {
    let data = tempfile::tempdir().unwrap();
    let server = single(data.path()).await;
    let mut client = client(&[&server], LONG);
    client.create_topic("t", 1, 1, &[]).await.unwrap();
    let mut producer = Producer::open(&mut client, "t", -1).await.unwrap();
    for n in 0..5 {
        let value = format!("v{n}");
        let offset = producer
            .send(&mut client, 0, &[(None, Some(value.as_bytes()))])
            .await
            .unwrap();
        assert_eq!(offset, Some(n));
    }
    assert_eq!(client.offset("t", 0, -2).await.unwrap(), 0);
    assert_eq!(client.offset("t", 0, -1).await.unwrap(), 5);
    assert_eq!(
        client.offset("t", 0, 0).await.unwrap(),
        0,
        "the first record at or after 1970"
    );
    assert_eq!(client.offset("t", 0, i64::MAX).await.unwrap(), -1, "none so late");
    server.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_follows_the_leader_and_stores_everything_once() {
    let mut trio = Trio::start().await;
    let servers: Vec<&Server> = trio.servers.iter().flatten().collect();
    let mut client = client(&servers, LONG);
    client.create_topic("t", 1, 3, &[]).await.unwrap();
    let leader = client.topic("t", false).await.unwrap()[0].leader.unwrap();
    let mut producer = Producer::open(&mut client, "t", -1).await.unwrap();
    for n in 0..60 {
        if n == 20 {
            trio.take(leader).kill().await;
        }
        if n == 40 {
            trio.restart(leader).await;
        }
        let value = format!("v{n}");
        let offset = producer
            .send(&mut client, 0, &[(None, Some(value.as_bytes()))])
            .await
            .unwrap();
        assert_eq!(offset, Some(n), "no record lost, none stored twice");
    }
    assert_eq!(client.offset("t", 0, -1).await.unwrap(), 60);
    for server in trio.servers.into_iter().flatten() {
        server.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_said_with_the_address() {
    let bootstrap = vec!["127.0.0.1:1".to_owned()];
    let timeout = Duration::from_millis(300);
    let mut client = Client::new(ClientOptions { bootstrap, timeout });
    let error = client.metadata(None, false).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }));
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_speak_kafka_is_no_cluster() {
    let data = tempfile::tempdir().unwrap();
    let server = single(data.path()).await;
    for wrong in [server.addresses().peer, server.addresses().admin] {
        let mut client = Client::new(ClientOptions {
            bootstrap: vec![wrong.to_string()],
            timeout: Duration::from_millis(300),
        });
        let error = client.metadata(None, false).await.unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    }
    server.kill().await;
}
