//! `trimaran cluster drain`.

use super::Drain;
use crate::cli::{Exit, Failure, print};
use crate::{Client, ClientError, ClusterInfo, ReassignmentInfo};
use std::collections::BTreeMap;
use std::time::Duration;

/// Plans where every replica goes, and asks for it.
pub(super) async fn run(drain: Drain) -> Result<Exit, Failure> {
    let mut client = drain.reach.client();
    client.share_deadline();
    // What brokers without a controller knew last is no basis for moving anything.
    client.current_metadata().await?;
    let moving = client.reassignments().await?;
    let cluster = client.current_metadata().await?;
    let plan = drained(cluster, &moving, drain.broker).map_err(Failure::failed)?;
    let partitions: usize = plan.values().map(Vec::len).sum();
    for (topic, wanted) in &plan {
        client.reassign(topic, wanted).await?;
    }
    print(&format!("{partitions} partition(s) leave broker-{}\n", drain.broker))?;
    while drain.wait && is_left(&mut client, drain.broker).await? {
        if tokio::time::Instant::now() >= client.deadline() {
            return Err(Failure::late(
                "not everything has arrived yet; it goes on, and `trimaran topic describe TOPIC` shows it",
            ));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(Exit::Done)
}

/// Reports whether a broker still has a replica of anything, or is given one.
async fn is_left(client: &mut Client, broker: i32) -> Result<bool, ClientError> {
    let cluster = client.current_metadata().await?;
    let left = cluster
        .partitions()
        .any(|(_, partition)| partition.replicas.contains(&broker));
    Ok(left)
}

/// New replicas by topic, for `reassign`.
type Wanted = BTreeMap<String, Vec<(i32, Option<Vec<i32>>)>>;

/// Every replica of that broker goes to the one that has the fewest, of those in a rack where the partition has none if
/// there are such.
fn drained(cluster: &ClusterInfo, moving: &[ReassignmentInfo], broker: i32) -> Result<Wanted, String> {
    let mut load: BTreeMap<i32, usize> = cluster.brokers.iter().map(|broker| (broker.id, 0)).collect();
    for replica in cluster.partitions().flat_map(|(_, partition)| &partition.replicas) {
        load.entry(*replica).and_modify(|replicas| *replicas += 1);
    }
    let is_moving = |topic: &str, partition: i32| {
        moving
            .iter()
            .any(|info| info.topic == topic && info.partition == partition)
    };
    let mut plan = Wanted::new();
    for (topic, partition) in cluster.partitions() {
        let Some(place) = partition.replicas.iter().position(|replica| *replica == broker) else {
            continue;
        };
        if is_moving(topic, partition.index) {
            continue;
        }
        let to = successor(cluster, &load, &partition.replicas, broker).ok_or_else(|| {
            format!(
                "{topic}/{} has no broker left to go to: each that is up has a replica of it",
                partition.index
            )
        })?;
        load.entry(to).and_modify(|replicas| *replicas += 1);
        let mut replicas = partition.replicas.clone();
        replicas[place] = to;
        plan.entry(topic.to_owned())
            .or_default()
            .push((partition.index, Some(replicas)));
    }
    Ok(plan)
}

fn successor(cluster: &ClusterInfo, load: &BTreeMap<i32, usize>, replicas: &[i32], leaves: i32) -> Option<i32> {
    let rack = |id: i32| {
        let found = cluster.brokers.iter().find(|broker| broker.id == id);
        found.and_then(|broker| broker.rack.as_deref())
    };
    let beside = |id: i32| {
        let others = replicas.iter().filter(|other| **other != leaves);
        rack(id).is_some() && others.into_iter().any(|other| rack(*other) == rack(id))
    };
    let candidates = load.keys().copied().filter(|id| !replicas.contains(id));
    candidates.min_by_key(|id| (beside(*id), load.get(id).copied(), *id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BrokerInfo, PartitionInfo};

    fn cluster(racks: &[Option<&str>], topics: &[(&str, &[&[i32]])]) -> ClusterInfo {
        let broker = |(id, rack): (i32, &Option<&str>)| BrokerInfo {
            id,
            address: String::new(),
            rack: rack.map(str::to_owned),
        };
        let partition = |(index, replicas): (i32, &&[i32])| PartitionInfo {
            index,
            leader: None,
            epoch: 0,
            replicas: replicas.to_vec(),
            in_sync: Vec::new(),
        };
        let topic = |(name, all): &(&str, &[&[i32]])| ((*name).to_owned(), (0..).zip(*all).map(partition).collect());
        ClusterInfo {
            brokers: (1..).zip(racks).map(broker).collect(),
            topics: topics.iter().map(topic).collect(),
            ..ClusterInfo::default()
        }
    }

    fn plan(cluster: &ClusterInfo, moving: &[ReassignmentInfo], broker: i32) -> Vec<(String, i32, Vec<i32>)> {
        let plan = drained(cluster, moving, broker).unwrap();
        let flat = plan.into_iter().flat_map(|(topic, wanted)| {
            wanted
                .into_iter()
                .map(move |(partition, replicas)| (topic.clone(), partition, replicas.unwrap()))
        });
        flat.collect()
    }

    #[test]
    fn a_drained_broker_keeps_nothing_and_the_others_share_it() {
        let cluster = cluster(
            &[None; 5],
            &[("a", &[&[1, 2, 3], &[2, 3, 1]]), ("b", &[&[1, 4], &[4, 2]])],
        );
        let to = |topic: &str, partition, replicas: &[i32]| (topic.to_owned(), partition, replicas.to_vec());
        assert_eq!(
            plan(&cluster, &[], 1),
            [to("a", 0, &[5, 2, 3]), to("a", 1, &[2, 3, 5]), to("b", 0, &[3, 4])]
        );
        let moving = ReassignmentInfo {
            topic: "a".into(),
            partition: 0,
            replicas: vec![],
            adding: vec![],
            removing: vec![],
        };
        assert_eq!(plan(&cluster, &[moving], 1).len(), 2, "what is under way is left alone");
        assert_eq!(plan(&cluster, &[], 5), []);
    }

    #[test]
    fn racks_count_more_than_load() {
        let racks = [Some("a"), Some("b"), Some("b"), Some("c")];
        let cluster = cluster(&racks, &[("t", &[&[1, 2], &[4]]), ("u", &[&[4]])]);
        assert_eq!(
            plan(&cluster, &[], 1)[0].2,
            [4, 2],
            "broker 3 has less, but is beside broker 2"
        );
    }

    #[test]
    fn a_partition_that_can_go_nowhere_is_named() {
        let cluster = cluster(&[None; 3], &[("t", &[&[1, 2, 3]])]);
        let error = drained(&cluster, &[], 2).unwrap_err();
        assert!(error.contains("t/0"), "{error}");
    }
}
