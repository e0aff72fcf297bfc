//! A client of one cluster: any broker to begin with, leaders followed from there, everything retried until a deadline.

use crate::{ClientError, ClusterInfo, Connection, PartitionInfo, RequestError, Unanswered, requests};
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use trimaran_wire::kafka_protocol::ResponseError;
use trimaran_wire::kafka_protocol::protocol::StrBytes;
use trimaran_wire::request::Call;

/// Between two attempts: an election takes about as long.
const RETRY_EVERY: Duration = Duration::from_millis(100);

/// One attempt waits no longer for one broker, so that a dead one does not use up the whole deadline.
const ATTEMPT: Duration = Duration::from_secs(5);

/// The time for which a controller may be missing while a majority is there: an election takes a fraction of it.
pub const ELECTION_WAIT: Duration = Duration::from_secs(3);

/// Addresses that a survey asks, at most: brokers name further brokers, and a wrong answer must not have us ask the
/// world.
const MAX_SURVEYED: usize = 1000;

/// The version of Metadata that this client speaks.
const METADATA_VERSION: i16 = 8;

/// The failure of one attempt.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// Another broker, or this one a moment later, may do better.
    Again(String),
    /// Another attempt would fail as well.
    Never(ClientError),
}

/// The configuration of a client.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Any brokers of the cluster, `host:port`.
    pub bootstrap: Vec<String>,
    /// The time for which one operation is retried.
    pub timeout: Duration,
}

/// A client of one cluster.
pub struct Client {
    options: ClientOptions,
    connections: HashMap<String, Connection>,
    /// The last Metadata.
    cluster: ClusterInfo,
    /// The addresses of the brokers that gave it, if they know no controller.
    uninformed: Vec<String>,
    /// The latest deadline of any operation.
    until: Option<Instant>,
}

/// One broker's description of the cluster.
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

    /// The last Metadata.
    pub fn cluster(&self) -> &ClusterInfo {
        &self.cluster
    }

    /// The time at which an operation that begins now gives up.
    pub fn deadline(&self) -> Instant {
        let deadline = Instant::now() + self.options.timeout;
        self.until.map_or(deadline, |until| deadline.min(until))
    }

    /// Lets all operations from now on end within one timeout together, not within one each.
    pub fn share_deadline(&mut self) {
        self.until = Some(self.deadline());
    }

    /// Brokers and topics (all, or these), as a broker describes them that knows a controller. If none of those that
    /// answer does, as the one describes them that knows most; [`ClusterInfo::controller`] says so.
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

    /// The error for what can't be known because the brokers that answered last know no controller.
    pub(crate) fn no_quorum(&self, what: impl Into<String>) -> ClientError {
        ClientError::NoQuorum {
            what: what.into(),
            asked: self.uninformed.clone(),
        }
    }

    /// Asks every broker for its description of the whole cluster: those to begin with, and those that they name. All
    /// are asked side by side, once.
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

    /// The partitions of a topic, once each has a leader. With `create` set, a topic that is not there is created if
    /// the cluster allows it.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if there is no such topic; [`ClientError::NoQuorum`] if nobody can say whether there
    /// is, or who leads it.
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
    pub(crate) async fn ask_any<C: Call, T>(
        &mut self,
        what: &str,
        version: i16,
        request: &C,
        mut judge: impl FnMut(C::Response) -> Result<T, Attempt>,
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
    pub(crate) async fn ask_leader<C: Call, T>(
        &mut self,
        what: &str,
        topic: &str,
        partition: i32,
        version: i16,
        request: &C,
        mut judge: impl FnMut(C::Response) -> Result<T, Attempt>,
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
    pub(crate) async fn tell_leader<C: Call>(
        &mut self,
        what: &str,
        topic: &str,
        partition: i32,
        version: i16,
        request: &C,
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
    async fn ask_at<C: Call>(
        &mut self,
        address: &str,
        version: i16,
        request: &C,
        deadline: Instant,
    ) -> Result<C::Response, RequestError> {
        let wait = attempt(deadline);
        let mut connection = self.take_connection(address, wait).await?;
        let response = connection.call(version, request, wait).await?;
        self.connections.insert(address.to_owned(), connection);
        Ok(response)
    }

    async fn tell_at<C: Call>(
        &mut self,
        address: &str,
        version: i16,
        request: &C,
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
}

const NO_LEADER: &str = "the partition has no leader";

/// The wait of one attempt. A deadline that has come leaves time for one more answer: the first attempt is always made.
pub(crate) fn attempt(deadline: Instant) -> Duration {
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

/// The error of an operation that ends at its deadline: the last answer, or that nobody answers.
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
