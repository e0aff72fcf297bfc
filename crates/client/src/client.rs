//! A client of one cluster: any broker to begin with, leaders followed from there, everything retried until a deadline.

use crate::Connection;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicsRequest;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_partition_reassignments_response::OngoingTopicReassignment;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, CreateTopicsRequest, DescribeConfigsRequest, ListOffsetsRequest,
    ListPartitionReassignmentsRequest, MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::{Request, StrBytes};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;
use tokio::time::Instant;

/// Between two attempts: an election takes about as long.
const RETRY_EVERY: Duration = Duration::from_millis(100);

/// One attempt waits no longer for one broker, so that a dead one does not use up the whole deadline.
const ATTEMPT: Duration = Duration::from_secs(5);

/// Why the client gives up.
#[derive(Debug)]
pub enum ClientError {
    /// No broker could be reached, or none answered, until the deadline.
    Unreachable {
        /// Whom it tried.
        brokers: String,
        /// The last thing that went wrong.
        last: String,
    },
    /// The cluster answered, but not as wished until the deadline.
    TimedOut {
        /// What was to be done.
        what: String,
        /// The last answer.
        last: String,
    },
    /// The cluster refuses.
    Refused {
        /// What was to be done.
        what: String,
        /// Kafka's error code.
        code: i16,
        /// The reason in words.
        reason: String,
    },
    /// A broker answered with something that can't be understood.
    Protocol(String),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Unreachable { brokers, last } => write!(
                f,
                "can't reach the cluster at {brokers}: {last}; is a broker running there? (another address: --bootstrap HOST:PORT)"
            ),
            ClientError::TimedOut { what, last } => {
                write!(
                    f,
                    "{what} was not possible in time: {last}; try again, or wait longer with --timeout-ms"
                )
            }
            ClientError::Refused { what, reason, .. } => write!(f, "{what} is refused: {reason}"),
            ClientError::Protocol(what) => write!(f, "a broker's answer can't be understood: {what}"),
        }
    }
}

impl std::error::Error for ClientError {}

/// Why one attempt failed.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// Another broker, or this one a moment later, may do better.
    Again(String),
    /// It will not get better.
    Never(ClientError),
}

/// A broker, as Metadata names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerInfo {
    /// Its id.
    pub id: i32,
    /// `host:port` for clients.
    pub address: String,
    /// Its rack.
    pub rack: Option<String>,
}

/// A partition, as Metadata names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    /// Its number.
    pub index: i32,
    /// Its leader's id; none during an election.
    pub leader: Option<i32>,
    /// Its leader epoch.
    pub epoch: i32,
    /// Its replicas.
    pub replicas: Vec<i32>,
    /// Those in sync.
    pub in_sync: Vec<i32>,
}

/// What Metadata says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterInfo {
    /// The cluster's id.
    pub id: Option<String>,
    /// The controller's id.
    pub controller: i32,
    /// All brokers.
    pub brokers: Vec<BrokerInfo>,
    /// The topics that were asked for.
    pub topics: BTreeMap<String, Vec<PartitionInfo>>,
    /// Topics that were asked for and have errors: the code.
    pub errors: BTreeMap<String, i16>,
}

/// A partition on its way to other brokers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReassignmentInfo {
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// Brokers that have a replica, or will.
    pub replicas: Vec<i32>,
    /// Of these, those that don't count yet.
    pub adding: Vec<i32>,
    /// Of these, those that are to give theirs up.
    pub removing: Vec<i32>,
}

impl ClusterInfo {
    /// The leader of a partition.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<&BrokerInfo> {
        let partitions = self.topics.get(topic)?;
        let leader = partitions.iter().find(|known| known.index == partition)?.leader?;
        self.brokers.iter().find(|broker| broker.id == leader)
    }
}

/// Where to begin, and how long to go on.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Any brokers of the cluster, `host:port`.
    pub bootstrap: Vec<String>,
    /// How long one operation is retried.
    pub timeout: Duration,
}

/// A client of one cluster.
pub struct Client {
    options: ClientOptions,
    connections: HashMap<String, Connection>,
    /// What Metadata said last.
    cluster: ClusterInfo,
}

impl Client {
    /// A client that has not connected yet.
    pub fn new(options: ClientOptions) -> Client {
        Client {
            options,
            connections: HashMap::new(),
            cluster: ClusterInfo::default(),
        }
    }

    /// What Metadata said last.
    pub fn cluster(&self) -> &ClusterInfo {
        &self.cluster
    }

    /// When an operation that begins now gives up.
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.options.timeout
    }

    /// Brokers and topics (all, or these). Asks whichever broker answers.
    ///
    /// # Errors
    /// [`ClientError`]; topics that do not exist are no error, but listed in [`ClusterInfo::errors`].
    pub async fn metadata(&mut self, topics: Option<&[&str]>, create: bool) -> Result<&ClusterInfo, ClientError> {
        let names = topics.map(|topics| {
            let topic = |name: &&str| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
            topics.iter().map(topic).collect()
        });
        let request = MetadataRequest::default()
            .with_topics(names)
            .with_allow_auto_topic_creation(create);
        let response = self
            .ask_any("asking for metadata", 8, &request, |response: MetadataResponse| {
                Ok(response)
            })
            .await?;
        self.cluster = cluster_info(response);
        Ok(&self.cluster)
    }

    /// The partitions of a topic, once each has a leader. With `create` set, a topic that is not there is created if the
    /// cluster allows it.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if there is no such topic.
    pub async fn topic(&mut self, topic: &str, create: bool) -> Result<Vec<PartitionInfo>, ClientError> {
        let deadline = self.deadline();
        loop {
            let cluster = self.metadata(Some(&[topic]), create).await?;
            let partitions = cluster.topics.get(topic).filter(|all| !all.is_empty());
            if let Some(partitions) = partitions
                && partitions.iter().all(|partition| partition.leader.is_some())
            {
                return Ok(partitions.clone());
            }
            let code = cluster.errors.get(topic).copied().unwrap_or(0);
            let error = ResponseError::try_from_code(code);
            let hopeless = match error {
                Some(ResponseError::UnknownTopicOrPartition) => !create,
                Some(error) => !error.is_retriable(),
                None => false,
            };
            if hopeless && error == Some(ResponseError::UnknownTopicOrPartition) {
                return Err(ClientError::Refused {
                    what: format!("using topic `{topic}`"),
                    code,
                    reason: "there is no such topic; `trimaran topic list` shows those there are".to_owned(),
                });
            }
            if hopeless {
                return Err(refused(&format!("using topic `{topic}`"), code, None));
            }
            if Instant::now() >= deadline {
                let last = error.map_or("partitions are without a leader".to_owned(), |error| error.to_string());
                let what = format!("finding the leaders of topic `{topic}`");
                return Err(ClientError::TimedOut { what, last });
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }

    /// Creates a topic; -1 for the cluster's defaults.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the cluster's reason.
    pub async fn create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        replication: i16,
        config: &[(String, String)],
    ) -> Result<(), ClientError> {
        let setting = |(key, value): &(String, String)| {
            CreatableTopicConfig::default()
                .with_name(StrBytes::from_string(key.clone()))
                .with_value(Some(StrBytes::from_string(value.clone())))
        };
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(replication)
            .with_configs(config.iter().map(setting).collect());
        let request = CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(self.timeout_ms());
        let what = format!("creating topic `{name}`");
        self.ask_any(&what, 5, &request, |response| match response.topics.first() {
            Some(result) => check(&what, result.error_code, result.error_message.as_ref()),
            None => Err(incomplete()),
        })
        .await
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the cluster's reason.
    pub async fn delete_topic(&mut self, name: &str) -> Result<(), ClientError> {
        let request = DeleteTopicsRequest::default()
            .with_topic_names(vec![topic_name(name)])
            .with_timeout_ms(self.timeout_ms());
        let what = format!("deleting topic `{name}`");
        self.ask_any(&what, 4, &request, |response| match response.responses.first() {
            // To a deletion, "unknown" is final, not a reason to try again.
            Some(result) if result.error_code == ResponseError::UnknownTopicOrPartition.code() => {
                Err(Attempt::Never(refused(&what, result.error_code, None)))
            }
            Some(result) => check(&what, result.error_code, result.error_message.as_ref()),
            None => Err(incomplete()),
        })
        .await
    }

    /// Keeps partitions of a topic on these brokers from now on, the preferred leader first; none: where they were before
    /// the reassignment that is under way. Done when the cluster has taken it up; see [`Client::reassignments`].
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the cluster's reason, for the first partition that it refuses.
    pub async fn reassign(&mut self, topic: &str, wanted: &[(i32, Option<Vec<i32>>)]) -> Result<(), ClientError> {
        let partitions = wanted.iter().map(|(partition, replicas)| {
            let replicas = replicas.as_ref();
            ReassignablePartition::default()
                .with_partition_index(*partition)
                .with_replicas(replicas.map(|ids| ids.iter().map(|id| BrokerId(*id)).collect()))
        });
        let of_topic = ReassignableTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(partitions.collect());
        let request = AlterPartitionReassignmentsRequest::default()
            .with_timeout_ms(self.timeout_ms())
            .with_topics(vec![of_topic]);
        let what = format!("reassigning topic `{topic}`");
        self.ask_any(&what, 0, &request, |response| {
            check(&what, response.error_code, response.error_message.as_ref())?;
            let results = response.responses.iter().flat_map(|topic| &topic.partitions);
            for result in results {
                let of_partition = format!("reassigning {topic}/{}", result.partition_index);
                match check(&of_partition, result.error_code, result.error_message.as_ref()) {
                    // No other broker knows better.
                    Err(_) if result.error_code == ResponseError::UnknownTopicOrPartition.code() => {
                        return Err(Attempt::Never(refused(&of_partition, result.error_code, None)));
                    }
                    outcome => outcome?,
                }
            }
            Ok(())
        })
        .await
    }

    /// The partitions that are on their way to other brokers.
    ///
    /// # Errors
    /// [`ClientError`], when no broker answers in time.
    pub async fn reassignments(&mut self) -> Result<Vec<ReassignmentInfo>, ClientError> {
        let request = ListPartitionReassignmentsRequest::default()
            .with_timeout_ms(self.timeout_ms())
            .with_topics(None);
        let what = "listing reassignments";
        self.ask_any(what, 0, &request, |response| {
            check(what, response.error_code, response.error_message.as_ref())?;
            Ok(response.topics.iter().flat_map(reassignment_infos).collect())
        })
        .await
    }

    /// A topic's configuration: name, value, and whether the topic itself sets it.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the cluster's reason.
    pub async fn topic_config(&mut self, name: &str) -> Result<Vec<(String, String, bool)>, ClientError> {
        /// Kafka's ConfigResource.Type.TOPIC.
        const TOPIC: i8 = 2;
        /// Kafka's ConfigSource.DYNAMIC_TOPIC_CONFIG.
        const FROM_TOPIC: i8 = 1;
        let resource = DescribeConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(StrBytes::from_string(name.to_owned()))
            .with_configuration_keys(None);
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        let what = format!("describing topic `{name}`");
        self.ask_any(&what, 2, &request, |mut response| {
            let result = response.results.pop().ok_or_else(incomplete)?;
            check(&what, result.error_code, result.error_message.as_ref())?;
            let configs = result.configs.into_iter().map(|config| {
                let value = config.value.map_or_else(String::new, |value| value.to_string());
                (config.name.to_string(), value, config.config_source == FROM_TOPIC)
            });
            Ok(configs.collect())
        })
        .await
    }

    /// An offset of a partition: of a timestamp in milliseconds, or -1 for the end, -2 for the beginning.
    ///
    /// # Errors
    /// [`ClientError`]; the leader is followed until the deadline.
    pub async fn offset(&mut self, topic: &str, partition: i32, timestamp: i64) -> Result<i64, ClientError> {
        let wanted = ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_timestamp(timestamp);
        let of_topic = ListOffsetsTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![wanted]);
        let request = ListOffsetsRequest::default()
            .with_replica_id((-1).into())
            .with_topics(vec![of_topic]);
        let what = format!("looking up an offset of {topic}/{partition}");
        self.ask_leader(&what, topic, partition, 5, &request, |response| {
            let topic = response.topics.first().ok_or_else(incomplete)?;
            let result = topic.partitions.first().ok_or_else(incomplete)?;
            check(&what, result.error_code, None)?;
            Ok(result.offset)
        })
        .await
    }

    /// Sends a request to whichever broker answers it well, until the deadline.
    pub(crate) async fn ask_any<R: Request, T>(
        &mut self,
        what: &str,
        version: i16,
        request: &R,
        mut judge: impl FnMut(R::Response) -> Result<T, Attempt>,
    ) -> Result<T, ClientError> {
        let deadline = self.deadline();
        let mut answered = false;
        loop {
            let mut last = "no address to try".to_owned();
            for address in self.addresses() {
                let attempt = match self.ask_at(&address, version, request).await {
                    Ok(response) => {
                        answered = true;
                        judge(response)
                    }
                    Err(error) => Err(Attempt::Again(error)),
                };
                match attempt {
                    Ok(result) => return Ok(result),
                    Err(Attempt::Never(error)) => return Err(error),
                    Err(Attempt::Again(error)) => last = error,
                }
            }
            if Instant::now() >= deadline {
                return Err(self.gave_up(what, answered, last));
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }

    /// Sends a request to a partition's leader, following it until the deadline.
    pub(crate) async fn ask_leader<R: Request, T>(
        &mut self,
        what: &str,
        topic: &str,
        partition: i32,
        version: i16,
        request: &R,
        mut judge: impl FnMut(R::Response) -> Result<T, Attempt>,
    ) -> Result<T, ClientError> {
        let deadline = self.deadline();
        let mut answered = false;
        loop {
            let last = match self.leader_address(topic, partition).await? {
                Some(address) => match self.ask_at(&address, version, request).await {
                    Ok(response) => {
                        answered = true;
                        match judge(response) {
                            Ok(result) => return Ok(result),
                            Err(Attempt::Never(error)) => return Err(error),
                            Err(Attempt::Again(error)) => error,
                        }
                    }
                    Err(error) => error,
                },
                None => "the partition has no leader".to_owned(),
            };
            self.cluster.topics.remove(topic);
            if Instant::now() >= deadline {
                return Err(self.gave_up(what, answered, last));
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }

    /// Sends a request that gets no answer to a partition's leader; tries until it is sent.
    pub(crate) async fn tell_leader<R: Request>(
        &mut self,
        topic: &str,
        partition: i32,
        version: i16,
        request: &R,
    ) -> Result<(), ClientError> {
        let deadline = self.deadline();
        loop {
            let last = match self.leader_address(topic, partition).await? {
                Some(address) => match self.tell_at(&address, version, request).await {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                },
                None => "the partition has no leader".to_owned(),
            };
            self.cluster.topics.remove(topic);
            if Instant::now() >= deadline {
                return Err(self.gave_up("sending", false, last));
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }

    async fn leader_address(&mut self, topic: &str, partition: i32) -> Result<Option<String>, ClientError> {
        if self.cluster.leader(topic, partition).is_none() {
            self.metadata(Some(&[topic]), false).await?;
        }
        Ok(self
            .cluster
            .leader(topic, partition)
            .map(|leader| leader.address.clone()))
    }

    /// One attempt at one broker. A connection that failed is forgotten.
    async fn ask_at<R: Request>(&mut self, address: &str, version: i16, request: &R) -> Result<R::Response, String> {
        let mut connection = match self.connections.remove(address) {
            Some(connection) => connection,
            None => Connection::open(address, ATTEMPT.min(self.options.timeout)).await?,
        };
        let patience = ATTEMPT.min(self.options.timeout);
        let response = connection.call(version, request, patience).await?;
        self.connections.insert(address.to_owned(), connection);
        Ok(response)
    }

    async fn tell_at<R: Request>(&mut self, address: &str, version: i16, request: &R) -> Result<(), String> {
        let mut connection = match self.connections.remove(address) {
            Some(connection) => connection,
            None => Connection::open(address, ATTEMPT.min(self.options.timeout)).await?,
        };
        connection.send(version, request).await?;
        self.connections.insert(address.to_owned(), connection);
        Ok(())
    }

    /// Known brokers first, then those to begin with.
    fn addresses(&self) -> Vec<String> {
        let mut all: Vec<String> = self
            .cluster
            .brokers
            .iter()
            .map(|broker| broker.address.clone())
            .collect();
        for address in &self.options.bootstrap {
            if !all.contains(address) {
                all.push(address.clone());
            }
        }
        all
    }

    fn gave_up(&self, what: &str, answered: bool, last: String) -> ClientError {
        if answered {
            let what = what.to_owned();
            ClientError::TimedOut { what, last }
        } else {
            let brokers = self.addresses().join(", ");
            ClientError::Unreachable { brokers, last }
        }
    }

    fn timeout_ms(&self) -> i32 {
        i32::try_from(self.options.timeout.as_millis()).unwrap_or(i32::MAX)
    }
}

/// A topic's name in Kafka's messages.
pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// An error code of a response: none, one that passes, or one that stays.
pub(crate) fn check(what: &str, code: i16, message: Option<&StrBytes>) -> Result<(), Attempt> {
    match ResponseError::try_from_code(code) {
        None => Ok(()),
        Some(error) if error.is_retriable() => Err(Attempt::Again(error.to_string())),
        Some(_) => Err(Attempt::Never(refused(what, code, message))),
    }
}

pub(crate) fn refused(what: &str, code: i16, message: Option<&StrBytes>) -> ClientError {
    let words = ResponseError::try_from_code(code).map_or_else(|| format!("error {code}"), |error| error.to_string());
    ClientError::Refused {
        what: what.to_owned(),
        code,
        reason: message.map_or(words, |message| message.to_string()),
    }
}

pub(crate) fn incomplete() -> Attempt {
    Attempt::Never(ClientError::Protocol("it says nothing of what was asked".to_owned()))
}

fn reassignment_infos(topic: &OngoingTopicReassignment) -> Vec<ReassignmentInfo> {
    let ids = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect();
    let partitions = topic.partitions.iter().map(|partition| ReassignmentInfo {
        topic: topic.name.to_string(),
        partition: partition.partition_index,
        replicas: ids(&partition.replicas),
        adding: ids(&partition.adding_replicas),
        removing: ids(&partition.removing_replicas),
    });
    partitions.collect()
}

fn cluster_info(response: MetadataResponse) -> ClusterInfo {
    let brokers = response.brokers.iter().map(|broker| BrokerInfo {
        id: broker.node_id.0,
        address: host_and_port(&broker.host, broker.port),
        rack: broker.rack.as_ref().map(|rack| rack.to_string()),
    });
    let mut info = ClusterInfo {
        id: response.cluster_id.as_ref().map(|id| id.to_string()),
        controller: response.controller_id.0,
        brokers: brokers.collect(),
        ..ClusterInfo::default()
    };
    for topic in response.topics {
        let name = topic.name.map_or_else(String::new, |name| name.0.to_string());
        if topic.error_code != 0 {
            info.errors.insert(name, topic.error_code);
            continue;
        }
        let ids = |ids: &[kafka_protocol::messages::BrokerId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
        let partitions = topic.partitions.iter().map(|partition| PartitionInfo {
            index: partition.partition_index,
            leader: (partition.leader_id.0 >= 0).then_some(partition.leader_id.0),
            epoch: partition.leader_epoch,
            replicas: ids(&partition.replica_nodes),
            in_sync: ids(&partition.isr_nodes),
        });
        let mut partitions: Vec<PartitionInfo> = partitions.collect();
        partitions.sort_by_key(|partition| partition.index);
        info.topics.insert(name, partitions);
    }
    info
}

/// An IPv6 address needs brackets before its port.
fn host_and_port(host: &str, port: i32) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}
