//! `trimaran cluster status`: the brokers' descriptions of the cluster, their source, and what can't be known.

use crate::cli::{Exit, Failure, Reach, print};
use crate::error::QUORUM_ADVICE;
use crate::{
    Account, BrokerInfo, Client, ClientError, ClusterInfo, ELECTION_WAIT, PartitionInfo, RequestError, Unanswered,
};
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;
use tokio::time::Instant;

/// Between two surveys.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Asks all brokers, and prints what they say.
pub(super) async fn run(reach: Reach) -> Result<Exit, Failure> {
    let status = survey(&reach.client()).await?;
    print(&status.to_string())?;
    if status.controller().is_none() {
        return Err(Failure {
            exit: Exit::NoQuorum,
            text: format!("no broker that answers is in contact with a majority: {QUORUM_ADVICE}"),
        });
    }
    if leaderless(&status.cluster) > 0 {
        return Err(Failure::failed(
            "partitions are without a leader: a majority of their replicas' brokers must run",
        ));
    }
    Ok(Exit::Done)
}

/// Asks until a broker knows a controller, as long as that may still come.
async fn survey(client: &Client) -> Result<Status, ClientError> {
    let deadline = client.deadline();
    let election = deadline.min(Instant::now() + ELECTION_WAIT);
    loop {
        match Status::of(client.survey().await) {
            Ok(status) if status.controller().is_some() || Instant::now() >= election => return Ok(status),
            Err(attempts) if Instant::now() >= deadline => return Err(ClientError::Unreachable { attempts }),
            Ok(_) | Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

/// The best description of a cluster, and its source.
#[derive(Debug)]
struct Status {
    /// Whose description this is.
    source: String,
    cluster: ClusterInfo,
    /// Other addresses that answered and know no controller.
    uninformed: Vec<String>,
    /// Addresses of brokers of other clusters, with their cluster's id.
    foreign: Vec<(String, String)>,
    /// Addresses that did not answer.
    silent: Vec<Unanswered>,
}

impl Status {
    /// Takes the word of the broker that knows most; of those that know a controller, if there are any.
    ///
    /// # Errors
    /// None answers.
    fn of(accounts: Vec<Account>) -> Result<Status, Vec<Unanswered>> {
        let mut answered = Vec::new();
        let mut silent = Vec::new();
        for Account { address, answer } in accounts {
            match answer {
                Ok(cluster) => answered.push((address, cluster)),
                Err(error) => silent.push(Unanswered { address, error }),
            }
        }
        let rank = |cluster: &ClusterInfo| (cluster.controller.is_some(), cluster.knowledge());
        let best = answered.iter().map(|(_, cluster)| rank(cluster)).max();
        let place = answered.iter().position(|(_, cluster)| Some(rank(cluster)) == best);
        let Some(place) = place else { return Err(silent) };
        let (source, cluster) = answered.remove(place);
        let mut uninformed = Vec::new();
        let mut foreign = Vec::new();
        for (address, other) in answered {
            if let (Some(id), true) = (&other.id, other.id != cluster.id) {
                foreign.push((address, id.clone()));
            } else if other.controller.is_none() {
                uninformed.push(address);
            }
        }
        Ok(Status {
            source,
            cluster,
            uninformed,
            foreign,
            silent,
        })
    }

    fn controller(&self) -> Option<i32> {
        self.cluster.controller
    }

    fn broker(&self, broker: &BrokerInfo, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |wanted: &dyn Fn(&PartitionInfo) -> bool| self.cluster.partitions().filter(|(_, p)| wanted(p)).count();
        let led = of(&|partition| partition.leader == Some(broker.id));
        let held = of(&|partition| partition.replicas.contains(&broker.id));
        write!(
            f,
            "  broker-{}  {}  leads {led} of {held} replicas",
            broker.id, broker.address
        )?;
        if let Some(rack) = &broker.rack {
            write!(f, "  rack {rack}")?;
        }
        if self.controller() == Some(broker.id) {
            f.write_str("  controller")?;
        }
        if self.silent.iter().any(|silent| silent.address == broker.address) {
            f.write_str("  does not answer")?;
        }
        f.write_str("\n")
    }

    /// Brokers that have replicas and are not among those that clients can be sent to: nobody tells their addresses.
    fn absent(&self) -> BTreeSet<i32> {
        let holders = self.cluster.partitions().flat_map(|(_, partition)| &partition.replicas);
        let absent = holders.copied().filter(|id| self.cluster.broker(*id).is_none());
        absent.collect()
    }

    fn partition(
        &self,
        (topic, partition): (&str, &PartitionInfo),
        absent: &BTreeSet<i32>,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        let index = partition.index;
        let of_replicas = |wanted: &dyn Fn(i32) -> bool| -> Vec<i32> {
            partition.replicas.iter().copied().filter(|id| wanted(*id)).collect()
        };
        if partition.leader.is_none() {
            let gone = of_replicas(&|id| absent.contains(&id));
            match gone.is_empty() {
                true => writeln!(f, "  {topic}/{index} has no leader"),
                false => writeln!(f, "  {topic}/{index} has no leader: {} out of contact", names(gone)),
            }
        } else {
            let missing = of_replicas(&|id| !partition.in_sync.contains(&id));
            match missing.is_empty() {
                true => Ok(()),
                false => writeln!(f, "  {topic}/{index} is out of sync on {}", names(missing)),
            }
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cluster = &self.cluster;
        let id = cluster.id.as_deref().unwrap_or("(not founded yet)");
        let has_quorum = self.controller().is_some();
        let tense = if has_quorum { "describes it" } else { "knew it last" };
        writeln!(f, "cluster {id}, as {} {tense}", self.source)?;
        for broker in &cluster.brokers {
            self.broker(broker, f)?;
        }
        let absent = self.absent();
        for id in &absent {
            let held = cluster.partitions().filter(|(_, p)| p.replicas.contains(id)).count();
            writeln!(
                f,
                "  broker-{id}  out of contact, address not known  has {held} replicas"
            )?;
        }
        if has_quorum || !cluster.topics.is_empty() {
            writeln!(
                f,
                "{} topic(s), {} partition(s): {} without a leader, {} with replicas out of sync",
                cluster.topics.len(),
                cluster.partitions().count(),
                leaderless(cluster),
                cluster
                    .partitions()
                    .filter(|(_, p)| p.in_sync.len() < p.replicas.len())
                    .count(),
            )?;
        }
        for partition in cluster.partitions() {
            self.partition(partition, &absent, f)?;
        }
        if !has_quorum && cluster.topics.is_empty() {
            writeln!(
                f,
                "No controller is known: which brokers, topics and partitions there are can't be known."
            )?;
        } else if !has_quorum {
            writeln!(
                f,
                "No controller is known: all of this may be out of date, and there may be more."
            )?;
        }
        for address in &self.uninformed {
            match has_quorum {
                true => writeln!(
                    f,
                    "{address} knows no controller: it is cut off from the others, or not ready yet"
                )?,
                false => writeln!(f, "{address} answers, and knows no controller either")?,
            }
        }
        for (address, id) in &self.foreign {
            writeln!(f, "{address} belongs to another cluster, {id}")?;
        }
        for Unanswered { address, error } in &self.silent {
            match error {
                RequestError::TimedOut => {
                    writeln!(f, "{address} accepts connections and does not answer: it is not ready")?
                }
                error => writeln!(f, "{address} does not answer: {error}")?,
            }
        }
        Ok(())
    }
}

fn names(ids: Vec<i32>) -> String {
    let names: Vec<String> = ids.iter().map(|id| format!("broker-{id}")).collect();
    names.join(", ")
}

fn leaderless(cluster: &ClusterInfo) -> usize {
    let without = cluster.partitions().filter(|(_, partition)| partition.leader.is_none());
    without.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(id: i32) -> BrokerInfo {
        BrokerInfo {
            id,
            address: format!("h:{id}"),
            rack: None,
        }
    }

    fn cluster(controller: Option<i32>, brokers: &[i32], partitions: Vec<PartitionInfo>) -> ClusterInfo {
        let topics = if partitions.is_empty() {
            vec![]
        } else {
            vec![("t".to_owned(), partitions)]
        };
        ClusterInfo {
            id: Some("c".to_owned()),
            controller,
            brokers: brokers.iter().copied().map(broker).collect(),
            topics: topics.into_iter().collect(),
            ..ClusterInfo::default()
        }
    }

    fn partition(leader: Option<i32>, in_sync: &[i32]) -> Vec<PartitionInfo> {
        vec![PartitionInfo {
            index: 0,
            leader,
            epoch: 1,
            replicas: vec![1, 2, 3],
            in_sync: in_sync.to_vec(),
        }]
    }

    fn account(at: i32, answer: Result<ClusterInfo, RequestError>) -> Account {
        Account {
            address: format!("h:{at}"),
            answer,
        }
    }

    fn refused() -> RequestError {
        RequestError::Connect(std::io::ErrorKind::ConnectionRefused.into())
    }

    #[test]
    fn what_is_known_and_from_whom_is_shown() {
        let known = cluster(Some(2), &[1, 2], partition(Some(2), &[1, 2]));
        let text = Status::of(vec![
            account(1, Ok(cluster(None, &[], vec![]))),
            account(2, Ok(known)),
            account(3, Err(refused())),
            account(4, Err(RequestError::TimedOut)),
            account(
                5,
                Ok(ClusterInfo {
                    id: Some("d".to_owned()),
                    ..cluster(Some(1), &[], vec![])
                }),
            ),
        ])
        .unwrap()
        .to_string();
        let expected = "\
cluster c, as h:2 describes it
  broker-1  h:1  leads 0 of 1 replicas
  broker-2  h:2  leads 1 of 1 replicas  controller
  broker-3  out of contact, address not known  has 1 replicas
1 topic(s), 1 partition(s): 0 without a leader, 1 with replicas out of sync
  t/0 is out of sync on broker-3
h:1 knows no controller: it is cut off from the others, or not ready yet
h:5 belongs to another cluster, d
h:3 does not answer: connection refused
h:4 accepts connections and does not answer: it is not ready
";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_can_not_be_known_is_said() {
        let nothing = || cluster(None, &[], vec![]);
        let text = Status::of(vec![account(1, Ok(nothing()))]).unwrap().to_string();
        assert!(text.contains("can't be known") && !text.contains("topic(s)"), "{text}");
        let stale = cluster(None, &[1], partition(None, &[1]));
        let text = Status::of(vec![account(1, Ok(nothing())), account(2, Ok(stale))])
            .unwrap()
            .to_string();
        assert!(text.starts_with("cluster c, as h:2 knew it last\n"), "{text}");
        assert!(
            text.contains("t/0 has no leader: broker-2, broker-3 out of contact"),
            "{text}"
        );
        assert!(text.contains("may be out of date"), "{text}");
        assert!(text.contains("h:1 answers, and knows no controller either\n"), "{text}");
        assert_eq!(Status::of(vec![account(1, Err(refused()))]).unwrap_err().len(), 1);
    }
}
