//! Work in portions: offsets expire, and go with their topics.
//!
//! A portion looks at so many offsets and writes what it deletes; the next one follows when that is written. So neither
//! holds up requests, however many offsets there are.

use crate::group::Group;
use crate::leading::{Leading, Surroundings};
use crate::record::{OffsetValue, group_tombstone, offset_tombstone};
use crate::request::GroupState;
use crate::sabotage::Sabotage;
use crate::state::StoredGroup;
use crate::timers::{Due, Timers};
use crate::writer::Effect;
use crate::{Error, Record, Reply, Ticket, limits};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// The work that is to be done.
#[derive(Debug, Default)]
pub(crate) struct Background {
    /// The present work, and the group after which its next portion begins.
    present: Option<(Work, Option<Arc<str>>)>,
    /// When offsets are next looked at.
    next_expiry_ms: u64,
    topics: VecDeque<(Ticket, String)>,
    /// The deadline that is set; none while a portion is being written.
    timer: Option<u64>,
}

#[derive(Clone, Debug)]
enum Work {
    /// Offsets expire.
    Expiry,
    /// A topic's offsets are deleted.
    Topic(Ticket, String),
}

impl Background {
    pub(crate) fn begin(&mut self, timers: &mut Timers, around: &Surroundings<'_>) {
        self.plan_expiry(around);
        self.set(self.next_expiry_ms, timers);
    }

    /// Plans to delete a topic's offsets in all groups.
    pub(crate) fn delete_topic(
        &mut self,
        ticket: Ticket,
        topic: String,
        timers: &mut Timers,
        around: &Surroundings<'_>,
    ) -> Result<(), Error> {
        if self.topics.len() >= limits::DELETED_TOPICS {
            return Err(Error::CoordinatorLoadInProgress);
        }
        self.topics.push_back((ticket, topic));
        if self.timer.is_some() {
            self.set(around.time.monotonic_ms, timers);
        }
        Ok(())
    }

    /// Goes on after a portion.
    pub(crate) fn go_on(&mut self, timers: &mut Timers, around: &Surroundings<'_>) {
        let is_more = self.present.is_some() || !self.topics.is_empty();
        let at_ms = if is_more {
            around.time.monotonic_ms
        } else {
            self.next_expiry_ms
        };
        self.set(at_ms, timers);
    }

    /// The replies that wait, when the leadership ends.
    pub(crate) fn into_replies(self) -> impl Iterator<Item = (Ticket, Reply)> {
        let present = self.present.and_then(|(work, _)| match work {
            Work::Topic(ticket, _) => Some(ticket),
            Work::Expiry => None,
        });
        let tickets = present
            .into_iter()
            .chain(self.topics.into_iter().map(|(ticket, _)| ticket));
        tickets.map(|ticket| (ticket, Reply::DeleteTopic(Err(Error::NotCoordinator))))
    }

    fn plan_expiry(&mut self, around: &Surroundings<'_>) {
        // At least a moment, so that the time goes on.
        let interval_ms = around.config.offsets_retention_check_interval_ms.max(1);
        self.next_expiry_ms = around.time.monotonic_ms.saturating_add(interval_ms);
    }

    fn set(&mut self, at_ms: u64, timers: &mut Timers) {
        if let Some(before_ms) = self.timer.replace(at_ms) {
            timers.cancel(before_ms, Due::Background);
        }
        timers.set(at_ms, Due::Background);
    }

    /// The work of the next portion.
    fn next(&mut self, around: &Surroundings<'_>) -> Option<(Work, Option<Arc<str>>)> {
        if let Some(present) = self.present.take() {
            return Some(present);
        }
        if let Some((ticket, topic)) = self.topics.pop_front() {
            return Some((Work::Topic(ticket, topic), None));
        }
        (around.time.monotonic_ms >= self.next_expiry_ms).then(|| {
            self.plan_expiry(around);
            (Work::Expiry, None)
        })
    }
}

/// What is to be deleted of a group.
struct Deletion {
    id: Arc<str>,
    records: Vec<Record>,
    is_whole_group: bool,
}

impl Leading {
    /// Does a portion. Its deadline has come, and is no longer set.
    pub(crate) fn work_in_background(&mut self, around: &mut Surroundings<'_>) {
        self.background.timer = None;
        let Some((work, after)) = self.background.next(around) else {
            self.background.go_on(&mut self.timers, around);
            return;
        };
        let mut looked_at = 0;
        let mut deletions = Vec::new();
        let mut last = after.clone();
        let mut is_complete = true;
        for (id, stored) in around.state.groups_after(after.as_deref()) {
            if looked_at >= limits::OFFSETS_PER_PORTION {
                is_complete = false;
                break;
            }
            looked_at += stored.offset_count() + 1;
            let live = self.groups.get(id);
            let deletion = match &work {
                Work::Expiry => expire(id, stored, live, around),
                Work::Topic(_, topic) => forget_topic(id, topic, stored, live),
            };
            deletions.extend(deletion);
            last = Some(id.clone());
        }
        let mut records = Vec::new();
        for deletion in deletions {
            if deletion.is_whole_group {
                self.delete_with(deletion.id, deletion.records, around);
            } else {
                records.extend(deletion.records);
            }
        }
        let write = self.writer.submit_parts(records, Effect::Background, around.out);
        if !is_complete {
            self.background.present = Some((work, last));
        } else if let Work::Topic(ticket, _) = work {
            self.writer
                .reply_after(write, ticket, Reply::DeleteTopic(Ok(())), around.out);
        }
        if write.is_none() {
            self.background.go_on(&mut self.timers, around);
        }
    }
}

/// The offsets of a group that are over their time (KIP-211): those of a group that never had members by their own age;
/// those of an empty group by the time for which it has been empty, and not before they are of that age themselves, since
/// an administrator may have set them; and those of topics to which a group of consumers doesn't subscribe any more. With
/// the last one an empty group goes itself.
fn expire(id: &Arc<str>, stored: &StoredGroup, live: Option<&Group>, around: &Surroundings<'_>) -> Option<Deletion> {
    let now_ms = around.time.unix_ms;
    let retention_ms = i64::try_from(around.config.offsets_retention_ms).unwrap_or(i64::MAX);
    let is_empty = live.is_none_or(|group| group.state() == GroupState::Empty);
    let mut subscribed: Option<BTreeSet<String>> = None;
    if !is_empty && !around.breakage.is(Sabotage::ExpireOccupied) {
        let stable = live.filter(|group| group.state() == GroupState::Stable);
        subscribed = Some(stable?.subscribed_topics()?);
    }
    let since_ms = live
        .filter(|group| is_empty && group.is_stored())
        .map(Group::state_time_ms);
    let is_over = |topic: &str, partition: i32, value: &OffsetValue| {
        if subscribed.as_ref().is_some_and(|topics| topics.contains(topic))
            || live.is_some_and(|group| group.is_committing(topic, partition))
        {
            return false;
        }
        match value.expire_time_ms {
            Some(expire_time_ms) => now_ms >= expire_time_ms,
            None => {
                let base_ms = value.commit_time_ms.max(since_ms.unwrap_or(i64::MIN));
                now_ms.saturating_sub(base_ms) >= retention_ms
            }
        }
    };
    let offsets = stored.offsets();
    let over = offsets.filter(|(topic, partition, value)| is_over(topic, *partition, value));
    let mut records: Vec<Record> = over
        .map(|(topic, partition, _)| offset_tombstone(id, topic, partition))
        .collect();
    let is_last = records.len() == stored.offset_count();
    let is_idle = live.is_some_and(|group| group.is_stored() && group.is_idle());
    let is_whole_group = is_empty && is_last && is_idle;
    if is_whole_group {
        records.push(group_tombstone(id));
    }
    (!records.is_empty()).then(|| Deletion {
        id: id.clone(),
        records,
        is_whole_group,
    })
}

fn forget_topic(id: &Arc<str>, topic: &str, stored: &StoredGroup, live: Option<&Group>) -> Option<Deletion> {
    let partitions = stored.partitions(topic);
    let committing = live.into_iter().flat_map(Group::committing);
    let committing = committing
        .filter(|(known, _)| ***known == *topic)
        .map(|(_, partition)| partition);
    let all: BTreeSet<i32> = partitions.chain(committing).collect();
    (!all.is_empty()).then(|| Deletion {
        id: id.clone(),
        records: all
            .into_iter()
            .map(|partition| offset_tombstone(id, topic, partition))
            .collect(),
        is_whole_group: false,
    })
}
