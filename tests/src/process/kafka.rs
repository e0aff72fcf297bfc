//! A view of a cluster from all of its brokers at once, whose every wait is known: for measuring the brokers rather
//! than a client's back-off.

use super::requests::{self, Fetched, Reading};
use crate::checker::history::RecordId;
use kafka_protocol::messages::MetadataResponse;
use std::net::SocketAddr;
use std::time::Duration;
use trimaran_client::blocking::Connection;
use trimaran_client::requests::{good, metadata, producer_id};
use trimaran_client::{ClusterInfo, RequestError};
use trimaran_wire::request::Call;
use uuid::Uuid;

/// A partition's leader, as a broker told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Its id.
    pub id: i32,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its epoch.
    pub epoch: i32,
}

/// Knows all brokers of a cluster, and asks whichever answers.
#[derive(Clone, Debug)]
pub struct KafkaClient {
    brokers: Vec<SocketAddr>,
}

/// How long a request that nothing depends on may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// How long one broker may take to say who leads.
const METADATA_PATIENCE: Duration = Duration::from_millis(250);

/// The first version with topic ids for topics that are asked for by name.
const METADATA_VERSION: i16 = 12;

impl KafkaClient {
    /// A client of these brokers.
    pub fn new(brokers: Vec<SocketAddr>) -> KafkaClient {
        KafkaClient { brokers }
    }

    /// All brokers but one.
    pub(super) fn others(&self, than: SocketAddr) -> Vec<SocketAddr> {
        self.brokers.iter().copied().filter(|broker| *broker != than).collect()
    }

    /// Asks one broker about a topic.
    ///
    /// # Errors
    /// It does not answer.
    pub fn metadata(&self, broker: SocketAddr, topic: &str) -> Result<MetadataResponse, RequestError> {
        let request = metadata(Some(&[topic]), false);
        Connection::open(broker)?.call(METADATA_VERSION, &request, METADATA_PATIENCE)
    }

    /// The leader of a partition with the highest epoch that any broker tells.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<Leader> {
        self.brokers
            .iter()
            .filter_map(|broker| leader_in(self.metadata(*broker, topic).ok()?, topic, partition))
            .max_by_key(|leader| leader.epoch)
    }

    /// The same of the topic with this id: one of the same name that was deleted before may be all that some brokers
    /// know.
    pub fn leader_by_id(&self, topic: &str, id: Uuid, partition: i32) -> Option<Leader> {
        let told = self.brokers.iter().filter_map(|broker| {
            let metadata = self.metadata(*broker, topic).ok()?;
            let is_meant = metadata.topics.first().is_some_and(|found| found.topic_id == id);
            is_meant.then(|| leader_in(metadata, topic, partition)).flatten()
        });
        told.max_by_key(|leader| leader.epoch)
    }

    /// What any broker answers, in whatever order they are ready to.
    fn anywhere<C: Call>(&self, version: i16, request: &C) -> Result<C::Response, RequestError> {
        let mut last = RequestError::TimedOut;
        for broker in &self.brokers {
            let answer =
                Connection::open(*broker).and_then(|mut connection| connection.call(version, request, PATIENCE));
            match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// Nobody answers, or it is refused.
    pub fn create_topic(
        &self,
        topic: &str,
        partitions: i32,
        replicas: i16,
        configs: &[(&str, &str)],
    ) -> Result<(), RequestError> {
        let request = requests::create_topic(topic, partitions, replicas, configs);
        let answer = self.anywhere(requests::CREATE_TOPICS_VERSION, &request)?;
        answer.topics.iter().try_for_each(|topic| good(topic.error_code))
    }

    /// A producer id.
    ///
    /// # Errors
    /// Nobody answers, or it is refused.
    pub fn producer_id(&self) -> Result<i64, RequestError> {
        let answer = self.anywhere(4, &producer_id())?;
        good(answer.error_code)?;
        Ok(answer.producer_id.0)
    }

    /// The offset that this timestamp stands for (-1: the end, -2: the start), from the partition's leader.
    ///
    /// # Errors
    /// There is no leader, or it refuses.
    pub fn offset(&self, topic: &str, partition: i32, timestamp: i64) -> Result<i64, RequestError> {
        let leader = self
            .leader(topic, partition)
            .ok_or_else(|| RequestError::Malformed("nobody knows a leader".to_owned()))?;
        requests::offset(&mut Connection::open(leader.address)?, topic, partition, timestamp)
    }

    /// What one broker answers to a consumer in a rack that reads a partition from its first offset on.
    ///
    /// # Errors
    /// It does not answer, or refuses.
    pub fn fetch_in_rack(
        &self,
        broker: SocketAddr,
        topic: &str,
        partition: i32,
        rack: &str,
    ) -> Result<Fetched, RequestError> {
        Reading {
            rack,
            ..Reading::of(topic, partition)
        }
        .fetch(&mut Connection::open(broker)?, 0, 0)
    }

    /// Everything a partition holds, from its leader, from the first offset to the high watermark at the time of the
    /// last answer.
    ///
    /// # Errors
    /// There is no leader, or it refuses.
    pub fn read_all(&self, topic: &str, partition: i32) -> Result<Vec<(i64, RecordId)>, RequestError> {
        let leader = self
            .leader(topic, partition)
            .ok_or_else(|| RequestError::Malformed("nobody knows a leader".to_owned()))?;
        let mut connection = Connection::open(leader.address)?;
        let mut all: Vec<(i64, RecordId)> = Vec::new();
        loop {
            let from = all.last().map_or(0, |(offset, _)| offset + 1);
            let fetched = Reading::of(topic, partition).fetch(&mut connection, from, 0)?;
            all.extend(fetched.records.iter().map(|read| (read.offset, read.record)));
            if all.last().map_or(0, |(offset, _)| offset + 1) >= fetched.high_watermark {
                return Ok(all);
            }
        }
    }
}

fn leader_in(metadata: MetadataResponse, topic: &str, partition: i32) -> Option<Leader> {
    let cluster = ClusterInfo::from(metadata);
    let leader = cluster.leader(topic, partition)?;
    let found = cluster
        .topics
        .get(topic)?
        .iter()
        .find(|found| found.index == partition)?;
    Some(Leader {
        id: leader.id,
        address: leader.address.parse().ok()?,
        epoch: found.epoch,
    })
}
