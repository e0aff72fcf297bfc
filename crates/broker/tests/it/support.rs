//! Brokers on free ports and temporary folders.

use bytes::Bytes;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use trimaran_broker::config::Voter;
use trimaran_broker::engine::{Acks, AppendError, Appended, ReadRequest};
use trimaran_broker::server::{Server, Sockets};
use trimaran_broker::{Engine, Settings, ids};
use trimaran_raft::GroupId;
use trimaran_registry::agent::{AdminReply, AdminRequest};
use trimaran_registry::catalog::{Layout, NewTopic};
use trimaran_registry::{BrokerId, PartitionIndex};
use trimaran_wire::batch::{self, Offset, ProducerStamp};

/// Far longer than anything takes; a test that waits so long has found something.
pub(crate) const LONG: Duration = Duration::from_secs(30);

pub(crate) fn sockets() -> Sockets {
    let any = || TcpListener::bind("127.0.0.1:0").unwrap();
    Sockets {
        client: any(),
        peer: any(),
        admin: any(),
    }
}

pub(crate) fn settings(id: u32, data: &Path) -> Settings {
    let mut settings = Settings::default();
    settings.broker.id = id;
    settings.broker.data = data.to_owned();
    settings.broker.shards = 2;
    // Several brokers share a busy machine: a failover must be noticed, not raced.
    settings.cluster.failover_budget_ms = 1_000;
    settings
}

/// A broker without others.
pub(crate) async fn single(data: &Path) -> Server {
    let server = Server::start_on(settings(1, data), sockets()).await.unwrap();
    assert!(server.ready(LONG).await, "a single broker is ready at once");
    server
}

/// Brokers 1, 2, 3 of one cluster; each may be stopped and started again.
pub(crate) struct Trio {
    pub(crate) servers: Vec<Option<Server>>,
    folders: Vec<TempDir>,
    voters: Vec<Voter>,
    change: fn(&mut Settings),
}

impl Trio {
    pub(crate) async fn start() -> Trio {
        Trio::start_with(|_| ()).await
    }

    pub(crate) async fn start_with(change: fn(&mut Settings)) -> Trio {
        let sockets: Vec<Sockets> = (0..3).map(|_| sockets()).collect();
        let voters = (1..).zip(&sockets).map(|(id, sockets)| Voter {
            id,
            address: sockets.peer.local_addr().unwrap().to_string(),
        });
        let mut trio = Trio {
            servers: Vec::new(),
            folders: (0..3).map(|_| tempfile::tempdir().unwrap()).collect(),
            voters: voters.collect(),
            change,
        };
        // All at once: each asks the others what they have seen of it.
        let mut starting = Vec::new();
        for (at, sockets) in sockets.into_iter().enumerate() {
            starting.push(tokio::spawn(Server::start_on(trio.settings(at), sockets)));
        }
        for server in starting {
            trio.servers.push(Some(server.await.unwrap().unwrap()));
        }
        for server in trio.servers.iter().flatten() {
            assert!(server.ready(LONG).await, "three brokers find one another");
        }
        trio
    }

    fn settings(&self, at: usize) -> Settings {
        let mut settings = settings(at as u32 + 1, self.folders[at].path());
        settings.cluster.voters.clone_from(&self.voters);
        settings.broker.rack = Some(format!("rack-{}", at + 1));
        (self.change)(&mut settings);
        settings
    }

    /// The engine of a broker that runs.
    pub(crate) fn engine(&self, id: i32) -> &Engine {
        self.servers[id as usize - 1].as_ref().expect("it runs").engine()
    }

    pub(crate) fn take(&mut self, id: i32) -> Server {
        self.servers[id as usize - 1].take().expect("it runs")
    }

    /// Starts a stopped broker again, on its folder and its peer address.
    pub(crate) async fn restart(&mut self, id: i32) {
        let at = id as usize - 1;
        let any = || TcpListener::bind("127.0.0.1:0").unwrap();
        let sockets = Sockets {
            client: any(),
            peer: TcpListener::bind(&self.voters[at].address).unwrap(),
            admin: any(),
        };
        let server = Server::start_on(self.settings(at), sockets).await.unwrap();
        self.servers[at] = Some(server);
    }

    pub(crate) fn running(&self) -> Vec<i32> {
        let running = (1..).zip(&self.servers).filter(|(_, server)| server.is_some());
        running.map(|(id, _)| id).collect()
    }
}

/// Creates a topic and returns its first partition's group.
pub(crate) async fn create(engine: &Engine, name: &str, partitions: i32, replicas: i32) -> GroupId {
    let topic = NewTopic {
        name: name.to_owned(),
        layout: Layout::Spread {
            partitions,
            replication_factor: replicas,
        },
        config: Default::default(),
    };
    let request = AdminRequest::CreateTopic {
        topic,
        validate_only: false,
    };
    match engine.admin(request, LONG).await {
        Ok(AdminReply::Topic(topic)) => ids::group(topic.partitions[0].group),
        other => panic!("{other:?}"),
    }
}

/// The group of a partition, once a broker's catalog has it.
pub(crate) async fn group(engine: &Engine, topic: &str, partition: i32) -> GroupId {
    let partition = PartitionIndex(partition);
    let view = engine
        .wait_until(LONG, |view| view.catalog.partition(topic, partition).is_some())
        .await
        .expect("the topic spreads");
    ids::group(view.catalog.partition(topic, partition).unwrap().group)
}

/// The broker that serves a group, as soon as this engine knows one other than `not`.
pub(crate) async fn leader(engine: &Engine, group: GroupId, not: Option<i32>) -> i32 {
    let group = ids::catalog_group(group);
    let leads = |view: &trimaran_broker::engine::ClusterView| {
        let now = view.leaders.leadership(group)?;
        let leader = now.leader.filter(|leader| now.serving && Some(leader.0) != not)?;
        Some(leader.0)
    };
    let view = engine.wait_until(LONG, |view| leads(view).is_some()).await;
    leads(&view.expect("a leader is found")).unwrap()
}

pub(crate) fn one(value: &str) -> bytes::BytesMut {
    batch::build(1_000, &[(None, Some(value.as_bytes()))])
}

pub(crate) fn stamped(value: &str, id: i64, first_sequence: i32) -> bytes::BytesMut {
    let mut batch = one(value);
    let stamp = ProducerStamp {
        id,
        epoch: 0,
        first_sequence,
    };
    batch::set_producer(&mut batch, stamp);
    batch
}

/// Appends with acks=all, again and again while there is no leader to take it, or its replica is only being opened.
pub(crate) async fn append(engine: &Engine, group: GroupId, value: &str) -> Appended {
    let begin = std::time::Instant::now();
    loop {
        match engine.append(group, one(value), Acks::All).await {
            Ok(appended) => return appended,
            Err(
                AppendError::NotServing
                | AppendError::Busy
                | AppendError::NotLeader { leader: None }
                | AppendError::UnknownGroup,
            ) if begin.elapsed() < LONG => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// All values from an offset on, as a consumer sees them on this broker.
pub(crate) async fn values(engine: &Engine, group: GroupId, from: i64) -> Vec<String> {
    let mut all = Vec::new();
    let mut from = Offset(from);
    loop {
        let result = engine.read(read_request(group, from)).await.unwrap();
        if result.chunks.is_empty() {
            return all;
        }
        for bytes in engine.load(group, result.chunks).await.unwrap() {
            for batch in batch::split(bytes) {
                let (header, batch) = batch.unwrap();
                for record in batch::records(&batch, 1 << 20).unwrap() {
                    let value: Option<Bytes> = record.unwrap().value;
                    all.push(String::from_utf8(value.unwrap().to_vec()).unwrap());
                }
                from = header.next_offset();
            }
        }
    }
}

pub(crate) fn read_request(group: GroupId, from: Offset) -> ReadRequest {
    ReadRequest {
        group,
        from,
        max_bytes: 1 << 20,
        current_epoch: None,
        follower_ok: true,
        wait: false,
    }
}

pub(crate) fn broker(id: i32) -> BrokerId {
    BrokerId(id)
}
