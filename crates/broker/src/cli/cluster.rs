//! `trimaran cluster`.

use super::{Exit, Failure, Reach};
use crate::client::ClusterInfo;
use clap::Subcommand;
use std::fmt::Write as _;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Shows brokers, controller, and partitions that need attention. Fails if any has no leader.
    #[command(after_help = "\
Try it:
  trimaran cluster status --bootstrap 127.0.0.1:9092,127.0.0.1:9093")]
    Status(Reach),
}

pub(super) async fn run(command: Command) -> Result<Exit, Failure> {
    let Command::Status(reach) = command;
    let mut client = reach.client();
    let cluster = client.metadata(None, false).await?;
    super::print(&describe(cluster))?;
    if leaderless(cluster) > 0 {
        return Err(Failure::failed(
            "partitions are without a leader: a majority of their replicas' brokers must run",
        ));
    }
    Ok(Exit::Done)
}

fn describe(cluster: &ClusterInfo) -> String {
    let mut text = format!("cluster {}\n", cluster.id.as_deref().unwrap_or("(not founded yet)"));
    for broker in &cluster.brokers {
        let led = partitions(cluster).filter(|(_, p)| p.leader == Some(broker.id)).count();
        let held = partitions(cluster)
            .filter(|(_, p)| p.replicas.contains(&broker.id))
            .count();
        let rack = broker
            .rack
            .as_deref()
            .map_or_else(String::new, |rack| format!("  rack {rack}"));
        let controller = if broker.id == cluster.controller {
            "  controller"
        } else {
            ""
        };
        // Writing to a string does not fail, here and below.
        let _ = writeln!(
            text,
            "  broker-{}  {}  leads {led} of {held} replicas{rack}{controller}",
            broker.id, broker.address
        );
    }
    let _ = writeln!(
        text,
        "{} topic(s), {} partition(s): {} without a leader, {} with replicas out of sync",
        cluster.topics.len(),
        partitions(cluster).count(),
        leaderless(cluster),
        partitions(cluster)
            .filter(|(_, p)| p.in_sync.len() < p.replicas.len())
            .count(),
    );
    for (topic, partition) in partitions(cluster) {
        if partition.leader.is_none() {
            let _ = writeln!(text, "  {topic}/{} has no leader", partition.index);
        } else if partition.in_sync.len() < partition.replicas.len() {
            let missing: Vec<String> = partition
                .replicas
                .iter()
                .filter(|replica| !partition.in_sync.contains(replica))
                .map(|replica| format!("broker-{replica}"))
                .collect();
            let _ = writeln!(
                text,
                "  {topic}/{} is out of sync on {}",
                partition.index,
                missing.join(", ")
            );
        }
    }
    text
}

fn partitions(cluster: &ClusterInfo) -> impl Iterator<Item = (&str, &crate::client::PartitionInfo)> {
    cluster
        .topics
        .iter()
        .flat_map(|(topic, all)| all.iter().map(move |partition| (topic.as_str(), partition)))
}

fn leaderless(cluster: &ClusterInfo) -> usize {
    partitions(cluster)
        .filter(|(_, partition)| partition.leader.is_none())
        .count()
}
