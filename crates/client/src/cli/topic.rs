//! `trimaran topic`.

use super::{Exit, Failure, Reach};
use crate::{Client, ClientError, PartitionInfo, ReassignmentInfo};
use clap::{Args, Subcommand};
use std::fmt::Write as _;
use std::time::Duration;
use trimaran_wire::kafka_protocol::ResponseError;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Creates a topic.
    #[command(after_help = "\
Try it:
  trimaran topic create orders --partitions 6 --replication 3
  trimaran topic create audit --config retention.ms=-1 --config min.insync.replicas=2")]
    Create(Create),
    /// Lists the topics' names, one a line.
    List(List),
    /// Shows a topic's partitions and what is configured for it.
    #[command(after_help = "Try it:\n  trimaran topic describe orders")]
    Describe(Describe),
    /// Moves partitions to other brokers, or shows which are on their way.
    #[command(after_help = "\
Try it:
  trimaran topic reassign orders --partition 0 --replicas 4,2,3 --wait
  trimaran topic reassign orders --partition 0 --cancel
  trimaran topic reassign orders                  what is under way")]
    Reassign(Reassign),
    /// Deletes a topic and its records.
    #[command(after_help = "Try it:\n  trimaran topic delete orders")]
    Delete(Delete),
}

#[derive(Debug, Args)]
pub struct Create {
    /// Letters, digits, `.`, `_` and `-`
    name: String,
    /// How many partitions; the cluster's default if not given
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// How many replicas of each; the cluster's default if not given
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
    replication: Option<i16>,
    /// A setting of the topic, such as retention.ms=3600000; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    config: Vec<(String, String)>,
    /// A topic of that name is no error
    #[arg(long)]
    if_not_exists: bool,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Args)]
pub struct Describe {
    /// The topic
    name: String,
    /// Every setting, not only those of the topic itself
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Args)]
pub struct Reassign {
    /// The topic
    name: String,
    /// The partition; all of the topic's if not given
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// The brokers that keep it from now on, the preferred leader first
    #[arg(long, short, value_name = "BROKER,...", value_delimiter = ',', value_parser = clap::value_parser!(i32).range(0..))]
    replicas: Vec<i32>,
    /// Take the reassignment back that is under way
    #[arg(long, conflicts_with = "replicas")]
    cancel: bool,
    /// Wait until it has arrived
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Args)]
pub struct Delete {
    /// The topic
    name: String,
    /// No topic of that name is no error
    #[arg(long)]
    if_exists: bool,
    #[command(flatten)]
    reach: Reach,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a setting is KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(super) async fn run(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Create(create) => run_create(create).await,
        Command::List(list) => run_list(list).await,
        Command::Describe(describe) => run_describe(describe).await,
        Command::Reassign(reassign) => run_reassign(reassign).await,
        Command::Delete(delete) => run_delete(delete).await,
    }
}

async fn run_create(create: Create) -> Result<Exit, Failure> {
    let mut client = create.reach.client();
    let partitions = create.partitions.unwrap_or(-1);
    let replication = create.replication.unwrap_or(-1);
    let created = client
        .create_topic(&create.name, partitions, replication, &create.config)
        .await;
    match created {
        Ok(()) => {}
        Err(error) if create.if_not_exists && is(&error, ResponseError::TopicAlreadyExists) => return Ok(Exit::Done),
        Err(error) => return Err(error.into()),
    }
    // Created is more useful once it can be used.
    let made = client.topic(&create.name, false).await?;
    let replicas = made.first().map_or(0, |partition| partition.replicas.len());
    super::print(&format!(
        "created {} ({} partition(s), {replicas} replica(s) each)\n",
        create.name,
        made.len()
    ))?;
    Ok(Exit::Done)
}

async fn run_list(list: List) -> Result<Exit, Failure> {
    let mut client = list.reach.client();
    let cluster = client.settled_metadata(None).await?;
    let names: Vec<&str> = cluster.topics.keys().map(String::as_str).collect();
    super::print(&lines(&names))?;
    match client.cluster().controller {
        Some(_) => Ok(Exit::Done),
        None => Err(client.no_quorum("whether there are other topics").into()),
    }
}

async fn run_describe(describe: Describe) -> Result<Exit, Failure> {
    let mut client = describe.reach.client();
    let name = describe.name.as_str();
    let cluster = client.settled_metadata(Some(&[name])).await?;
    let is_current = cluster.controller.is_some();
    let Some(partitions) = cluster.topics.get(name).cloned() else {
        if !is_current {
            return Err(client.no_quorum(format!("whether there is a topic `{name}`")).into());
        }
        return Err(Failure::failed(format!(
            "there is no topic `{name}`; `trimaran topic list` shows those there are"
        )));
    };
    let settings = client.topic_config(name).await?;
    let mut text = table(name, &partitions);
    for (key, value, own) in settings {
        if own || describe.all {
            let origin = if own { "" } else { " (default)" };
            // Writing to a string does not fail.
            let _ = writeln!(text, "{key}={value}{origin}");
        }
    }
    super::print(&text)?;
    match is_current {
        true => Ok(Exit::Done),
        false => Err(client
            .no_quorum(format!("what has changed of topic `{name}` since"))
            .into()),
    }
}

fn table(name: &str, partitions: &[PartitionInfo]) -> String {
    let mut text = format!("{name}: {} partition(s)\n", partitions.len());
    for partition in partitions {
        let leader = partition
            .leader
            .map_or_else(|| "none".to_owned(), |leader| format!("broker-{leader}"));
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "  {name}/{}  leader {leader}  term {}  replicas {}  in sync {}",
            partition.index,
            partition.epoch,
            ids(&partition.replicas),
            ids(&partition.in_sync),
        );
    }
    text
}

fn ids(ids: &[i32]) -> String {
    if ids.is_empty() {
        return "-".to_owned();
    }
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn lines(names: &[&str]) -> String {
    names.iter().map(|name| format!("{name}\n")).collect()
}

async fn run_reassign(reassign: Reassign) -> Result<Exit, Failure> {
    let mut client = reassign.reach.client();
    client.share_deadline();
    let name = reassign.name.as_str();
    let known = client.topic(name, false).await?;
    if !reassign.replicas.is_empty() || reassign.cancel {
        let replicas = (!reassign.cancel).then(|| reassign.replicas.clone());
        let moving = under_way(&mut client, name).await?;
        let chosen = |partition: i32| match reassign.partition {
            Some(named) => partition == named,
            // Only what is under way can be taken back.
            None => !reassign.cancel || moving.iter().any(|info| info.partition == partition),
        };
        let wanted: Vec<(i32, Option<Vec<i32>>)> = known
            .iter()
            .filter(|partition| chosen(partition.index))
            .map(|partition| (partition.index, replicas.clone()))
            .collect();
        if wanted.is_empty() {
            let what = if reassign.partition.is_some() {
                "partition"
            } else {
                "reassignment"
            };
            return Err(Failure::failed(format!("topic `{name}` has no such {what}")));
        }
        client.reassign(name, &wanted).await?;
    }
    let mut moving = under_way(&mut client, name).await?;
    let deadline = client.deadline();
    while reassign.wait && !moving.is_empty() && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(100)).await;
        moving = under_way(&mut client, name).await?;
    }
    let lines: String = moving.iter().map(moving_line).collect();
    super::print(&lines)?;
    match reassign.wait && !moving.is_empty() {
        true => Err(Failure::late(format!(
            "{} partition(s) of `{name}` have not arrived yet; they go on, and `trimaran topic reassign {name}` shows them",
            moving.len()
        ))),
        false if moving.is_empty() => super::print(&format!("{name}: nothing is under way\n")).map(|()| Exit::Done),
        false => Ok(Exit::Done),
    }
}

async fn under_way(client: &mut Client, topic: &str) -> Result<Vec<ReassignmentInfo>, ClientError> {
    let mut all = client.reassignments().await?;
    all.retain(|info| info.topic == topic);
    Ok(all)
}

fn moving_line(info: &ReassignmentInfo) -> String {
    format!(
        "  {}/{}  replicas {}  to be added {}  to be removed {}\n",
        info.topic,
        info.partition,
        ids(&info.replicas),
        ids(&info.adding),
        ids(&info.removing)
    )
}

async fn run_delete(delete: Delete) -> Result<Exit, Failure> {
    let mut client = delete.reach.client();
    match client.delete_topic(&delete.name).await {
        Ok(()) => {}
        Err(error) if is(&error, ResponseError::UnknownTopicOrPartition) => {
            if !delete.if_exists {
                return Err(Failure::failed(format!("there is no topic `{}`", delete.name)));
            }
            return Ok(Exit::Done);
        }
        Err(error) => return Err(error.into()),
    }
    // Deleted is more useful once any broker says so.
    let deadline = client.deadline();
    while client
        .metadata(Some(&[&delete.name]), false)
        .await?
        .topics
        .contains_key(&delete.name)
    {
        if tokio::time::Instant::now() >= deadline {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    super::print(&format!("deleted {}\n", delete.name))?;
    Ok(Exit::Done)
}

fn is(error: &ClientError, expected: ResponseError) -> bool {
    matches!(error, ClientError::Refused { code, .. } if *code == expected.code())
}
