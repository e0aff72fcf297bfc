//! A broker in a temporary folder, and a client that speaks to it in kafka-protocol's words.

use crate::Server;
use crate::config::{Settings, Voter};
use crate::kafka::{Authorizer, Handlers};
use crate::server::Sockets;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse, RequestHeader, ResponseHeader, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use trimaran_transport::{Limits, Listener, serve};
use trimaran_wire::api::Api;

/// Long enough for anything that happens at all on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

pub(in crate::kafka) struct TestBroker {
    pub(in crate::kafka) server: Server,
    _folder: tempfile::TempDir,
}

impl TestBroker {
    pub(in crate::kafka) async fn start() -> TestBroker {
        TestBroker::with(|_| {}).await
    }

    pub(in crate::kafka) async fn with(change: impl FnOnce(&mut Settings)) -> TestBroker {
        let (mut settings, folder) = settings();
        change(&mut settings);
        let server = Server::start(settings).await.unwrap();
        let broker = TestBroker {
            server,
            _folder: folder,
        };
        broker.get_ready().await;
        broker
    }

    /// The same broker after a crash.
    pub(in crate::kafka) async fn restart(self) -> TestBroker {
        let TestBroker { server, _folder } = self;
        let settings = server.engine().settings().clone();
        server.kill().await;
        let server = Server::start(settings).await.unwrap();
        let broker = TestBroker { server, _folder };
        broker.get_ready().await;
        broker
    }

    /// A cluster of brokers, from 1 on, one in each of these racks.
    pub(in crate::kafka) async fn cluster(racks: &[&str], change: impl Fn(&mut Settings)) -> Vec<TestBroker> {
        let any_port = settings().0.listeners;
        let sockets: Vec<Sockets> = racks.iter().map(|_| Sockets::bind(&any_port).unwrap()).collect();
        let voters = (1..).zip(&sockets).map(|(id, sockets)| Voter {
            id,
            address: sockets.peer.local_addr().unwrap().to_string(),
        });
        let voters: Vec<Voter> = voters.collect();
        let mut brokers = Vec::new();
        for ((id, rack), sockets) in (1..).zip(racks).zip(sockets) {
            let (mut settings, folder) = settings();
            settings.broker.id = id;
            settings.broker.rack = Some((*rack).to_owned());
            settings.cluster.voters = voters.clone();
            change(&mut settings);
            let server = Server::start_on(settings, sockets).await.unwrap();
            brokers.push(TestBroker {
                server,
                _folder: folder,
            });
        }
        for broker in &brokers {
            broker.get_ready().await;
        }
        brokers
    }

    /// The answer to CreateTopics does not wait for ever, but a test on a loaded machine may.
    async fn await_leaders(&self, topic: &str) {
        let serve = |view: &std::sync::Arc<crate::engine::ClusterView>| {
            let leads = |group| {
                view.leaders
                    .leadership(group)
                    .is_some_and(|leadership| leadership.serving)
            };
            let topic = view.catalog.topic(topic);
            topic.is_some_and(|topic| topic.partitions.iter().all(|partition| leads(partition.group)))
        };
        let engine = self.server.engine();
        assert!(
            engine.wait_until(PATIENCE, serve).await.is_some(),
            "every partition gets a leader"
        );
    }

    async fn get_ready(&self) {
        assert!(self.server.ready(PATIENCE).await, "the broker gets ready");
    }

    pub(in crate::kafka) async fn connect(&self) -> Client {
        Client::connect(self.server.addresses().client).await
    }

    /// A client of a listener of its own, where another authorizer is asked.
    pub(in crate::kafka) async fn connect_as(&self, authorizer: impl Authorizer) -> Client {
        let handlers = Handlers::with_authorizer(self.server.engine().clone(), Arc::new(authorizer));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(
            Listener::new("guarded", listener),
            Arc::new(handlers),
            Limits::default(),
            Arc::default(),
            std::future::pending(),
        ));
        Client::connect(address).await
    }

    /// A client, and a topic with these settings and one replica, that has a leader.
    pub(in crate::kafka) async fn with_topic(&self, name: &str, partitions: i32, config: &[(&str, &str)]) -> Client {
        self.with_replicated_topic(name, partitions, 1, config).await
    }

    /// A client, and a topic with these settings that has a leader.
    pub(in crate::kafka) async fn with_replicated_topic(
        &self,
        name: &str,
        partitions: i32,
        replicas: i16,
        config: &[(&str, &str)],
    ) -> Client {
        let mut client = self.connect().await;
        let text = |text: &str| StrBytes::from_string(text.to_owned());
        let configs = config.iter().map(|(key, value)| {
            CreatableTopicConfig::default()
                .with_name(text(key))
                .with_value(Some(text(value)))
        });
        let topic = CreatableTopic::default()
            .with_name(TopicName(text(name)))
            .with_num_partitions(partitions)
            .with_replication_factor(replicas)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(20_000);
        let response: CreateTopicsResponse = client.ask(Api::CreateTopics, 7, &request).await;
        assert_eq!(response.topics[0].error_code, 0, "{response:?}");
        self.await_leaders(name).await;
        client
    }
}

/// Any free ports, and a folder of its own.
fn settings() -> (Settings, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = Settings::default();
    settings.broker.data = folder.path().join("data");
    let any_port = "127.0.0.1:0".parse().unwrap();
    settings.listeners.client = any_port;
    settings.listeners.peer = any_port;
    settings.listeners.admin = any_port;
    (settings, folder)
}

/// One connection.
pub(in crate::kafka) struct Client {
    stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    async fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Client {
            stream,
            correlation_id: 0,
        }
    }

    /// Sends a request; returns its correlation id.
    pub(in crate::kafka) async fn send(&mut self, api: Api, version: i16, request: &impl Encodable) -> i32 {
        let mut body = BytesMut::new();
        request.encode(&mut body, version).unwrap();
        self.send_body(api.spec().key, version, api.is_flexible(version), &body)
            .await
    }

    /// Sends a body of any bytes.
    pub(in crate::kafka) async fn send_body(&mut self, key: i16, version: i16, flexible: bool, body: &[u8]) -> i32 {
        self.correlation_id += 1;
        let header = RequestHeader::default()
            .with_request_api_key(key)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(StrBytes::from_static_str("test")));
        let mut frame = BytesMut::from(&[0; 4][..]);
        header.encode(&mut frame, 1 + i16::from(flexible)).unwrap();
        frame.extend_from_slice(body);
        let length = i32::try_from(frame.len() - 4).unwrap();
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&frame).await.unwrap();
        self.correlation_id
    }

    /// The next response's frame; none if the broker has closed the connection.
    pub(in crate::kafka) async fn frame(&mut self) -> Option<Bytes> {
        let read = async {
            let length = self.stream.read_i32().await.ok()?;
            let mut frame = vec![0; usize::try_from(length).unwrap()];
            self.stream.read_exact(&mut frame).await.ok()?;
            Some(Bytes::from(frame))
        };
        tokio::time::timeout(PATIENCE, read).await.expect("an answer in time")
    }

    /// The next response, which must be the answer to that request.
    pub(in crate::kafka) async fn receive<R: Decodable>(&mut self, api: Api, version: i16, correlation_id: i32) -> R {
        let mut frame = self.frame().await.expect("a response");
        let header = ResponseHeader::decode(&mut frame, api.response_header_version(version)).unwrap();
        assert_eq!(
            header.correlation_id, correlation_id,
            "responses come in the order of the requests"
        );
        let response = R::decode(&mut frame, version).unwrap();
        assert!(frame.is_empty(), "{api:?} {version}: {} bytes too many", frame.len());
        response
    }

    pub(in crate::kafka) async fn ask<R: Decodable>(&mut self, api: Api, version: i16, request: &impl Encodable) -> R {
        let correlation_id = self.send(api, version, request).await;
        self.receive(api, version, correlation_id).await
    }

    /// Says that nothing more will come, and reads until the broker has closed the connection.
    pub(in crate::kafka) async fn finish(mut self) {
        // Where the broker was faster to close, there is nothing to shut down and nothing to read.
        let _ = self.stream.shutdown().await;
        let mut answers = Vec::new();
        let closed = tokio::time::timeout(PATIENCE, self.stream.read_to_end(&mut answers)).await;
        let _ = closed.expect("the broker closes the connection");
    }

    pub(in crate::kafka) async fn assert_closed(mut self) {
        assert_eq!(self.frame().await, None, "the broker closes the connection");
    }
}
