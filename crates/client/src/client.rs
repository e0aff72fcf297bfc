//! A client of one cluster: any broker to begin with, leaders followed from there, everything retried until a deadline.

use crate::cluster::reassignments;
use crate::requests::{self, topic_name};
use crate::{ClientError, ClusterInfo, Connection, PartitionInfo, ReassignmentInfo, RequestError, Unanswered};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, DescribeConfigsRequest, ListPartitionReassignmentsRequest,
};
use kafka_protocol::protocol::{Request, StrBytes};
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Between two attempts: an election takes about as long.
const RETRY_EVERY: Duration = Duration::from_millis(100);

/// One attempt waits no longer for one broker, so that a dead one does not use up the whole deadline.
const ATTEMPT: Duration = Duration::from_secs(5);

/// How long a controller may be missing while a majority is there: an election takes a fraction of it.
pub const ELECTION_WAIT: Duration = Duration::from_secs(3);

/// Addresses that a survey asks, at most: brokers name further brokers, and a wrong answer must not have us ask the world.
const MAX_SURVEYED: usize = 1000;

/// The version of Metadata that this client speaks.
const METADATA_VERSION: i16 = 8;

/// Why one attempt failed.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// Another broker, or this one a moment later, may do better.
    Again(String),
    /// It will not get better.
    Never(ClientError),
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
    /// If that was said by brokers that know no controller: their addresses.
    uninformed: Vec<String>,
    /// The latest deadline of any operation.
    until: Option<Instant>,
}

/// What one broker says of the cluster.
#[derive(Debug)]
pub struct Account {
    /// The broker's address.
    pub address: String,
    /// Its Metadata, or why there is none.
    pub answer: Result<ClusterInfo, RequestError>,
}

impl Client {
    /// A client that has not connected yet.
    pub fn new(options: ClientOptions) -> Client {
        Client {
            options,
            connections: HashMap::new(),
            cluster: ClusterInfo::default(),
            uninformed: Vec::new(),
            until: None,
        }
    }

    /// What Metadata said last.
    pub fn cluster(&self) -> &ClusterInfo {
        &self.cluster
    }

    /// When an operation that begins now gives up.
    pub fn deadline(&self) -> Instant {
        let deadline = Instant::now() + self.options.timeout;
        self.until.map_or(deadline, |until| deadline.min(until))
    }

    /// Lets all operations from now on end within one timeout together, not within one each.
    pub fn share_deadline(&mut self) {
        self.until = Some(self.deadline());
    }

    /// Brokers and topics (all, or these), as a broker describes them that knows a controller. If none of those that answer
    /// does, as the one describes them that knows most; [`ClusterInfo::controller`] says so.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`]; topics that do not exist are no error, but listed in [`ClusterInfo::errors`].
    pub async fn metadata(&mut self, topics: Option<&[&str]>, create: bool) -> Result<&ClusterInfo, ClientError> {
        let request = requests::metadata(topics, create);
        let deadline = self.deadline();
        loop {
            let mut uninformed = Vec::new();
            let mut best: Option<ClusterInfo> = None;
            let mut attempts = Vec::new();
            for address in self.addresses() {
                match self.ask_at(&address, METADATA_VERSION, &request, deadline).await {
                    Ok(response) => {
                        let info = ClusterInfo::from(response);
                        if info.controller.is_some() {
                            self.uninformed.clear();
                            self.cluster = info;
                            return Ok(&self.cluster);
                        }
                        uninformed.push(address);
                        if best.as_ref().is_none_or(|best| info.knowledge() > best.knowledge()) {
                            best = Some(info);
                        }
                    }
                    Err(error) => attempts.push(Unanswered { address, error }),
                }
            }
            if let Some(best) = best {
                self.uninformed = uninformed;
                self.cluster = best;
                return Ok(&self.cluster);
            }
            if Instant::now() >= deadline {
                return Err(ClientError::Unreachable { attempts });
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }

    /// The same of all topics, and only from a broker that knows a controller: waits for one until the deadline.
    ///
    /// # Errors
    /// [`ClientError::NoQuorum`] and [`ClientError::Unreachable`].
    pub async fn current_metadata(&mut self) -> Result<&ClusterInfo, ClientError> {
        let deadline = self.deadline();
        while self.metadata(None, false).await?.controller.is_none() {
            if Instant::now() >= deadline {
                return Err(self.no_quorum("what the cluster holds"));
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
        Ok(&self.cluster)
    }

    /// The same of all topics, or of these; after [`ELECTION_WAIT`] also from brokers that know no controller.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`].
    pub async fn settled_metadata(&mut self, topics: Option<&[&str]>) -> Result<&ClusterInfo, ClientError> {
        let deadline = self.deadline().min(Instant::now() + ELECTION_WAIT);
        while self.metadata(topics, false).await?.controller.is_none() && Instant::now() < deadline {
            tokio::time::sleep(RETRY_EVERY).await;
        }
        Ok(&self.cluster)
    }

    /// That something can't be known, because those that answered last know no controller.
    pub(crate) fn no_quorum(&self, what: impl Into<String>) -> ClientError {
        ClientError::NoQuorum {
            what: what.into(),
            asked: self.uninformed.clone(),
        }
    }

    /// What each broker says of the whole cluster: those to begin with, and those that they name. All are asked side by
    /// side, once.
    pub async fn survey(&self) -> Vec<Account> {
        let mut known: BTreeSet<String> = BTreeSet::new();
        let mut accounts = Vec::new();
        let mut running = JoinSet::new();
        let mut to_ask = self.options.bootstrap.clone();
        let wait = ATTEMPT.min(self.deadline().saturating_duration_since(Instant::now()));
        loop {
            for address in to_ask.drain(..) {
                if known.len() < MAX_SURVEYED && known.insert(address.clone()) {
                    running.spawn(async move {
                        let answer = describe(&address, wait).await;
                        Account { address, answer }
                    });
                }
            }
            match running.join_next().await {
                Some(Ok(account)) => {
                    let brokers = account.answer.iter().flat_map(|cluster| &cluster.brokers);
                    to_ask.extend(brokers.map(|broker| broker.address.clone()));
                    accounts.push(account);
                }
                // A task of ours neither panics nor is cancelled.
                Some(Err(_)) => {}
                None => break,
            }
        }
        accounts.sort_by(|one, other| one.address.cmp(&other.address));
        accounts
    }

    /// The partitions of a topic, once each has a leader. With `create` set, a topic that is not there is created if the
    /// cluster allows it.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if there is no such topic; [`ClientError::NoQuorum`] if nobody can say whether there is, or who
    /// leads it.
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
            let unknown = error == Some(ResponseError::UnknownTopicOrPartition);
            // Without a controller, a broker does not know what has been created since.
            let informed = cluster.controller.is_some();
            if unknown && !create && informed {
                return Err(ClientError::Refused {
                    what: format!("using topic `{topic}`"),
                    code,
                    reason: "there is no such topic; `trimaran topic list` shows those there are".to_owned(),
                });
            }
            if !unknown && error.is_some_and(|error| !error.is_retriable()) {
                return Err(refused(&format!("using topic `{topic}`"), code, None));
            }
            if Instant::now() >= deadline {
                if unknown && !informed {
                    return Err(self.no_quorum(format!("whether there is a topic `{topic}`")));
                }
                if !informed {
                    return Err(self.no_quorum(format!("who leads topic `{topic}`")));
                }
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
    /// [`ClientError::Refused`] with the cluster's reason; [`ClientError::NoQuorum`] if there is no controller to ask.
    pub async fn create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        replication: i16,
        config: &[(String, String)],
    ) -> Result<(), ClientError> {
        let config = config.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let request = requests::create_topic(name, partitions, replication, config, self.timeout_ms());
        let what = format!("creating topic `{name}`");
        let created = self
            .ask_any(&what, 5, &request, |response| match response.topics.first() {
                Some(result) => check(&what, result.error_code, result.error_message.as_ref()),
                None => Err(incomplete()),
            })
            .await;
        self.outcome(&what, created).await
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// As [`Client::create_topic`].
    pub async fn delete_topic(&mut self, name: &str) -> Result<(), ClientError> {
        let request = requests::delete_topic(name, self.timeout_ms());
        let what = format!("deleting topic `{name}`");
        let deleted = self
            .ask_any(&what, 4, &request, |response| match response.responses.first() {
                // To a deletion, "unknown" is final, not a reason to try again.
                Some(result) if result.error_code == ResponseError::UnknownTopicOrPartition.code() => {
                    Err(Attempt::Never(refused(&what, result.error_code, None)))
                }
                Some(result) => check(&what, result.error_code, result.error_message.as_ref()),
                None => Err(incomplete()),
            })
            .await;
        self.outcome(&what, deleted).await
    }

    /// Keeps partitions of a topic on these brokers from now on, the preferred leader first; none: where they were before
    /// the reassignment that is under way. Done when the cluster has taken it up; see [`Client::reassignments`].
    ///
    /// # Errors
    /// As [`Client::create_topic`]; the reason is that for the first partition that the cluster refuses.
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
        let taken_up = self
            .ask_any(&what, 0, &request, |response| {
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
            .await;
        self.outcome(&what, taken_up).await
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
            Ok(response.topics.iter().flat_map(reassignments).collect())
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
        let request = requests::list_offsets(topic, partition, timestamp);
        let what = format!("looking up an offset of {topic}/{partition}");
        self.ask_leader(&what, topic, partition, 5, &request, |response| {
            judge(&what, requests::listed_offset(&response), None)
        })
        .await
    }

    /// Sends a request to the brokers in turn until one answers it well, or the deadline has come.
    pub(crate) async fn ask_any<R: Request, T>(
        &mut self,
        what: &str,
        version: i16,
        request: &R,
        mut judge: impl FnMut(R::Response) -> Result<T, Attempt>,
    ) -> Result<T, ClientError> {
        let deadline = self.deadline();
        let mut answer = None;
        loop {
            let mut attempts = Vec::new();
            for address in self.addresses() {
                match self.ask_at(&address, version, request, deadline).await.map(&mut judge) {
                    Ok(Ok(result)) => return Ok(result),
                    Ok(Err(Attempt::Never(error))) => return Err(error),
                    Ok(Err(Attempt::Again(reason))) => answer = Some(reason),
                    Err(error) => attempts.push(Unanswered { address, error }),
                }
            }
            if Instant::now() >= deadline {
                return Err(gave_up(what, answer, attempts));
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
        loop {
            let last = match self.leader_address(topic, partition).await? {
                Some(address) => match self.ask_at(&address, version, request, deadline).await.map(&mut judge) {
                    Ok(Ok(result)) => return Ok(result),
                    Ok(Err(Attempt::Never(error))) => return Err(error),
                    Ok(Err(Attempt::Again(reason))) => reason,
                    Err(error) => format!("its leader, {address}: {error}"),
                },
                None => NO_LEADER.to_owned(),
            };
            self.cluster.topics.remove(topic);
            if Instant::now() >= deadline {
                return Err(self.gave_up_on_leader(what, topic, partition, last));
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }

    /// Sends a request that gets no answer to a partition's leader; tries until it is sent.
    pub(crate) async fn tell_leader<R: Request>(
        &mut self,
        what: &str,
        topic: &str,
        partition: i32,
        version: i16,
        request: &R,
    ) -> Result<(), ClientError> {
        let deadline = self.deadline();
        loop {
            let last = match self.leader_address(topic, partition).await? {
                Some(address) => match self.tell_at(&address, version, request, deadline).await {
                    Ok(()) => return Ok(()),
                    Err(error) => format!("its leader, {address}: {error}"),
                },
                None => NO_LEADER.to_owned(),
            };
            self.cluster.topics.remove(topic);
            if Instant::now() >= deadline {
                return Err(self.gave_up_on_leader(what, topic, partition, last));
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }

    /// Brokers that know no controller may name a leader that is long gone.
    fn gave_up_on_leader(&self, what: &str, topic: &str, partition: i32, last: String) -> ClientError {
        match self.cluster.controller {
            Some(_) => ClientError::TimedOut {
                what: what.to_owned(),
                last,
            },
            None => self.no_quorum(format!("who leads {topic}/{partition}")),
        }
    }

    async fn leader_address(&mut self, topic: &str, partition: i32) -> Result<Option<String>, ClientError> {
        if self.cluster.leader(topic, partition).is_none() {
            self.metadata(Some(&[topic]), false).await?;
        }
        let leader = self.cluster.leader(topic, partition);
        Ok(leader.map(|leader| leader.address.clone()))
    }

    /// One attempt at one broker. A connection that failed is forgotten.
    async fn ask_at<R: Request>(
        &mut self,
        address: &str,
        version: i16,
        request: &R,
        deadline: Instant,
    ) -> Result<R::Response, RequestError> {
        let wait = attempt(deadline);
        let mut connection = self.take_connection(address, wait).await?;
        let response = connection.call(version, request, wait).await?;
        self.connections.insert(address.to_owned(), connection);
        Ok(response)
    }

    async fn tell_at<R: Request>(
        &mut self,
        address: &str,
        version: i16,
        request: &R,
        deadline: Instant,
    ) -> Result<(), RequestError> {
        let wait = attempt(deadline);
        let mut connection = self.take_connection(address, wait).await?;
        connection.send(version, request, wait).await?;
        self.connections.insert(address.to_owned(), connection);
        Ok(())
    }

    async fn take_connection(&mut self, address: &str, wait: Duration) -> Result<Connection, RequestError> {
        match self.connections.remove(address) {
            Some(connection) => Ok(connection),
            None => Connection::open(address, wait).await,
        }
    }

    /// Known brokers first, then those to begin with.
    fn addresses(&self) -> Vec<String> {
        let known = self.cluster.brokers.iter().map(|broker| &broker.address);
        let mut all: Vec<String> = Vec::new();
        for address in known.chain(&self.options.bootstrap) {
            if !all.contains(address) {
                all.push(address.clone());
            }
        }
        all
    }

    /// How long a broker may take over a request to the controller: less than an attempt, so that its answer is heard.
    fn timeout_ms(&self) -> i32 {
        let wait = attempt(self.deadline()) * 4 / 5;
        i32::try_from(wait.as_millis()).unwrap_or(i32::MAX)
    }

    /// Why a request to the controller was not answered in time: perhaps because there is none.
    async fn outcome<T>(&mut self, what: &str, result: Result<T, ClientError>) -> Result<T, ClientError> {
        if let Err(ClientError::TimedOut { .. } | ClientError::Unreachable { .. }) = &result
            && self
                .metadata(Some(&[]), false)
                .await
                .is_ok_and(|cluster| cluster.controller.is_none())
        {
            return Err(self.no_quorum(format!("the outcome of {what}")));
        }
        result
    }
}

const NO_LEADER: &str = "the partition has no leader";

/// How long one attempt waits. A deadline that has come leaves time for one more answer: the first attempt is always made.
fn attempt(deadline: Instant) -> Duration {
    const LEAST: Duration = Duration::from_millis(50);
    deadline.saturating_duration_since(Instant::now()).clamp(LEAST, ATTEMPT)
}

/// A broker's Metadata of everything, over a connection for this alone.
async fn describe(address: &str, wait: Duration) -> Result<ClusterInfo, RequestError> {
    let mut connection = Connection::open(address, wait).await?;
    let request = requests::metadata(None, false);
    connection
        .call(METADATA_VERSION, &request, wait)
        .await
        .map(ClusterInfo::from)
}

/// Why an operation ends at its deadline: what was answered last, or that nobody answers.
fn gave_up(what: &str, answer: Option<String>, attempts: Vec<Unanswered>) -> ClientError {
    match answer {
        Some(last) => ClientError::TimedOut {
            what: what.to_owned(),
            last,
        },
        None => ClientError::Unreachable { attempts },
    }
}

/// A response's value, or an error that passes, or one that stays.
pub(crate) fn judge<T>(what: &str, result: Result<T, RequestError>, message: Option<&StrBytes>) -> Result<T, Attempt> {
    match result {
        Ok(value) => Ok(value),
        Err(RequestError::Code(code)) => match check(what, code, message) {
            Err(attempt) => Err(attempt),
            Ok(()) => Err(incomplete()),
        },
        Err(error) => Err(Attempt::Never(ClientError::Protocol(error.to_string()))),
    }
}

/// An error code of a response: none, one that passes, or one that stays.
pub(crate) fn check(what: &str, code: i16, message: Option<&StrBytes>) -> Result<(), Attempt> {
    match ResponseError::try_from_code(code) {
        None => Ok(()),
        Some(error) if error.is_retriable() => Err(Attempt::Again(error.to_string())),
        Some(_) => Err(Attempt::Never(refused(what, code, message))),
    }
}

fn refused(what: &str, code: i16, message: Option<&StrBytes>) -> ClientError {
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
