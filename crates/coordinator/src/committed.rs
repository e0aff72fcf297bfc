//! Committed offsets: OffsetCommit, OffsetFetch, OffsetDelete.

use crate::leading::{Leading, Surroundings, check_id};
use crate::record::{OffsetValue, offset_record, offset_tombstone};
use crate::request::{
    GroupFetch, GroupOffsets, GroupState, OffsetCommit, OffsetDelete, OffsetFetch, PartitionCommit, PartitionOffset,
    TopicOffsets, TopicOutcome,
};
use crate::sabotage::Sabotage;
use crate::state::StoredGroup;
use crate::writer::{Effect, record_len};
use crate::{Config, Error, Generation, Offset, Record, Reply, Request, Ticket, limits};
use std::sync::Arc;

impl Leading {
    /// Writes offsets, each unless something is wrong with it; the commit is answered when they are written.
    pub(crate) fn commit(&mut self, ticket: Ticket, commit: OffsetCommit, around: &mut Surroundings<'_>) {
        let id: Arc<str> = commit.group.as_str().into();
        let is_new = !self.groups.contains_key(&id) && around.state.group(&id).is_none();
        let checked = if is_new && commit.generation > Generation::NONE {
            Err(if commit.knows_group_id_not_found {
                Error::GroupIdNotFound
            } else {
                Error::IllegalGeneration
            })
        } else if !self.has_room_for_group(&id, around) {
            Err(Error::InvalidCommitOffsetSize)
        } else {
            self.with_new_group(id.clone(), around, |group, context| {
                group.check_commit(&commit, context)
            })
        };
        if let Err(error) = checked {
            let reply = Request::OffsetCommit(commit).refuse(error);
            around.out.replies.push((ticket, reply));
            return;
        }
        let Parts {
            records,
            keys,
            outcomes,
        } = parts(&commit, around);
        let new = keys
            .iter()
            .filter(|(topic, partition)| !is_known(around.state.group(&id), topic, *partition));
        let new = new.count();
        let of_group = around.state.group(&id).map_or(0, StoredGroup::offset_count);
        let bytes: usize = records.iter().map(record_len).sum();
        let has_room = new == 0
            || of_group + new <= limits::OFFSETS_PER_GROUP
                && around.state.offset_count() + new <= limits::OFFSETS_PER_STORE;
        if bytes > limits::WRITE_BYTES || !has_room {
            let reply = Request::OffsetCommit(commit).refuse(Error::InvalidCommitOffsetSize);
            around.out.replies.push((ticket, reply));
            return;
        }
        let reply = Reply::OffsetCommit(outcomes);
        if records.is_empty() {
            around.out.replies.push((ticket, reply));
            return;
        }
        if around.breakage.is(Sabotage::ShowUnwritten) {
            for record in &records {
                let applied = around.state.apply(&record.key, record.value.as_deref());
                applied.expect("the coordinator's own records can be read");
            }
        }
        self.with_new_group(id.clone(), around, |group, context| {
            group.begin_commits(&keys);
            let effect = Effect::Offsets { group: id, keys };
            let write = context.writer.submit(records, effect, context.out);
            if context.breakage.is(Sabotage::AnswerCommitsAtOnce) {
                context.reply(ticket, reply);
            } else {
                context.writer.reply_after(Some(write), ticket, reply, context.out);
            }
        });
    }

    /// Returns what is committed, and nothing that is still being written.
    pub(crate) fn fetch(&mut self, ticket: Ticket, fetch: OffsetFetch, around: &mut Surroundings<'_>) {
        // Offsets of open transactions, for which `require_stable` asks, come with TxnOffsetCommit.
        let mut left = limits::REPLY_BYTES;
        let groups = fetch.groups.into_iter().map(|fetch| {
            let topics =
                check_fetch(&fetch).and_then(|()| offsets(around.state.group(&fetch.group), fetch.topics, &mut left));
            GroupOffsets {
                group: fetch.group,
                topics,
            }
        });
        let reply = Reply::OffsetFetch(groups.collect());
        around.out.replies.push((ticket, reply));
    }

    /// Deletes offsets of topics to which the group doesn't subscribe.
    pub(crate) fn delete_offsets(&mut self, ticket: Ticket, delete: OffsetDelete, around: &mut Surroundings<'_>) {
        let live = self.groups.get(&*delete.group);
        let stored = around.state.group(&delete.group);
        let is_gone = live.is_some_and(|group| group.state() == GroupState::Dead);
        if is_gone || live.is_none() && stored.is_none() {
            let reply = Reply::OffsetDelete(Err(Error::GroupIdNotFound));
            around.out.replies.push((ticket, reply));
            return;
        }
        let with_members = live.filter(|group| group.state() != GroupState::Empty);
        if with_members.is_some_and(|group| !group.is_of_consumers()) {
            let reply = Reply::OffsetDelete(Err(Error::NonEmptyGroup));
            around.out.replies.push((ticket, reply));
            return;
        }
        // If a subscription can't be read, the group may subscribe to anything.
        let subscribed = with_members.map(|group| group.subscribed_topics());
        let is_subscribed = |topic: &str| match &subscribed {
            None => false,
            Some(None) => true,
            Some(Some(topics)) => topics.contains(topic),
        };
        let mut records = Vec::new();
        let outcomes = delete.topics.iter().map(|(topic, partitions)| {
            let result = if is_subscribed(topic) {
                Err(Error::GroupSubscribedToTopic)
            } else {
                Ok(())
            };
            let deleted = partitions.iter().filter(|partition| {
                let is_committing = live.is_some_and(|group| group.is_committing(topic, **partition));
                result.is_ok() && (is_committing || is_known(stored, topic, **partition))
            });
            records.extend(deleted.map(|partition| offset_tombstone(&delete.group, topic, *partition)));
            TopicOutcome {
                topic: topic.clone(),
                topic_id: None,
                partitions: partitions.iter().map(|partition| (*partition, result)).collect(),
            }
        });
        let reply = Reply::OffsetDelete(Ok(outcomes.collect()));
        let write = self.writer.submit_parts(records, Effect::None, around.out);
        self.writer.reply_after(write, ticket, reply, around.out);
    }
}

/// What a commit comes to.
struct Parts {
    records: Vec<Record>,
    keys: Vec<(Arc<str>, i32)>,
    outcomes: Vec<TopicOutcome>,
}

fn parts(commit: &OffsetCommit, around: &Surroundings<'_>) -> Parts {
    let mut parts = Parts {
        records: Vec::new(),
        keys: Vec::new(),
        outcomes: Vec::with_capacity(commit.topics.len()),
    };
    let now_ms = around.time.unix_ms;
    let expire_time_ms = commit
        .retention_ms
        .map(|retention_ms| now_ms.saturating_add(retention_ms.max(0)));
    for topic in &commit.topics {
        let name: Arc<str> = topic.topic.as_str().into();
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for of in &topic.partitions {
            let result = check_offset(&topic.topic, of, around.config);
            partitions.push((of.partition, result));
            if result.is_ok() {
                let value = OffsetValue {
                    offset: of.offset,
                    leader_epoch: of.leader_epoch.filter(|epoch| *epoch >= 0),
                    metadata: of.metadata.clone(),
                    commit_time_ms: now_ms,
                    expire_time_ms,
                    topic_id: topic.topic_id,
                };
                let record = offset_record(&commit.group, &topic.topic, of.partition, &value);
                parts.records.push(record);
                parts.keys.push((name.clone(), of.partition));
            }
        }
        parts.outcomes.push(TopicOutcome {
            topic: topic.topic.clone(),
            topic_id: topic.topic_id,
            partitions,
        });
    }
    parts
}

fn check_offset(topic: &str, of: &PartitionCommit, config: &Config) -> Result<(), Error> {
    let most = config.offset_metadata_max_bytes.min(limits::MAX_METADATA_BYTES);
    if of.metadata.len() > most {
        Err(Error::OffsetMetadataTooLarge)
    } else if topic.is_empty() || topic.len() > limits::TOPIC_BYTES || of.partition < 0 || of.offset < Offset(0) {
        Err(Error::InvalidRequest)
    } else {
        Ok(())
    }
}

fn is_known(group: Option<&StoredGroup>, topic: &str, partition: i32) -> bool {
    group.is_some_and(|group| group.offset(topic, partition).is_some())
}

/// The empty id is allowed, as for commits.
fn check_fetch(fetch: &GroupFetch) -> Result<(), Error> {
    if fetch.group.is_empty() {
        Ok(())
    } else {
        check_id(&fetch.group)
    }
}

/// A group's offsets: those that are asked for, or all, as long as they fit into the reply.
fn offsets(
    group: Option<&StoredGroup>,
    asked: Option<Vec<(String, Vec<i32>)>>,
    left: &mut usize,
) -> Result<Vec<TopicOffsets>, Error> {
    let mut take = |topic: &str, partition: i32, value: Option<&OffsetValue>| {
        let found = partition_offset(partition, value);
        let bytes = PARTITION_REPLY_BYTES + topic.len() + found.metadata.len();
        *left = left.checked_sub(bytes).ok_or(Error::InvalidRequest)?;
        Ok(found)
    };
    if let Some(asked) = asked {
        let topics = asked.into_iter().map(|(topic, partitions)| {
            let partitions = partitions.into_iter();
            let each = partitions.map(|partition| {
                let value = group.and_then(|group| group.offset(&topic, partition));
                take(&topic, partition, value)
            });
            let partitions = each.collect::<Result<_, _>>()?;
            Ok(TopicOffsets { topic, partitions })
        });
        return topics.collect();
    }
    let mut topics: Vec<TopicOffsets> = Vec::new();
    for (topic, partition, value) in group.into_iter().flat_map(StoredGroup::offsets) {
        let found = take(topic, partition, Some(value))?;
        match topics.last_mut().filter(|last| *last.topic == **topic) {
            Some(last) => last.partitions.push(found),
            None => topics.push(TopicOffsets {
                topic: topic.to_string(),
                partitions: vec![found],
            }),
        }
    }
    Ok(topics)
}

/// The bytes that a partition takes in a reply, beside its texts.
const PARTITION_REPLY_BYTES: usize = 64;

fn partition_offset(partition: i32, value: Option<&OffsetValue>) -> PartitionOffset {
    PartitionOffset {
        partition,
        offset: value.map_or(Offset(-1), |value| value.offset),
        leader_epoch: value.and_then(|value| value.leader_epoch),
        metadata: value.map(|value| value.metadata.clone()).unwrap_or_default(),
        error: None,
    }
}
