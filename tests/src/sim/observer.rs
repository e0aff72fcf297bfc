//! Looks into the replicas and at their messages, and tells the checkers what it saw.

use super::broker::Running;
use super::trace::fingerprint;
use crate::checker::disks::{Disks, Look};
use crate::checker::raft::{RaftChecker, Seen};
use crate::checker::{Law, Violation};
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, BTreeSet};
use trimaran_multiraft::LeaderChange;
use trimaran_raft::{Body, Configuration, GroupId, LogIndex, LogView, Message, NodeId, Payload, Role, TermAt};
use trimaran_storage::log::{Chunk, Entries, ReplicaLog};
use trimaran_wire::batch::Offset;

/// Feeds the Raft checker.
#[derive(Debug, Default)]
pub struct Observer {
    checker: RaftChecker,
    /// The commit index of each running replica when it was last looked at.
    commits: BTreeMap<(u32, GroupId), u64>,
    /// Replicas that were reopened while their broker ran, and have not been seen with their new logs.
    begun_anew: BTreeSet<(u32, GroupId)>,
    /// What is on whose disk.
    disks: Disks,
    /// Replicas that are being opened: what their logs hold at first is on disk.
    opening: BTreeSet<(u32, GroupId)>,
    /// The voters of each replica's configuration when it was last looked at, those on their way out apart.
    voters: BTreeMap<(u32, GroupId), Vec<Vec<u32>>>,
    /// Whose disk may not return what was written to it.
    excused: Option<u32>,
}

impl Observer {
    /// An observer that does without what this broker's disk doesn't return.
    pub fn excusing(excused: Option<u32>) -> Observer {
        Observer {
            excused,
            ..Observer::default()
        }
    }

    /// A broker's process starts over: what it knew to be committed it may have to learn again.
    pub fn forget(&mut self, broker: u32) {
        self.commits.retain(|(of, _), _| *of != broker);
        self.voters.retain(|(of, _), _| *of != broker);
        self.opening.retain(|(of, _)| *of != broker);
        self.disks.stopped(broker);
        self.begun_anew.retain(|(of, _)| *of != broker);
    }

    /// A replica is opened: whatever was there before counts no more.
    pub fn opened(&mut self, broker: u32, group: GroupId) {
        self.begun_anew.insert((broker, group));
        self.opening.insert((broker, group));
    }

    /// A broker's disk has synced what one of its shards wrote, up to that batch.
    pub fn synced(&mut self, broker: u32, shard: usize, sequence: u64) {
        self.disks.synced(broker, shard, sequence);
    }

    /// A frame between brokers.
    pub fn sent(&mut self, from: u32, messages: &[(GroupId, Message)]) -> Result<(), Violation> {
        for (group, message) in messages {
            let is_known = !self.opening.contains(&(from, *group));
            if let (Body::AppendAccepted { match_index, .. }, true) = (&message.body, is_known) {
                self.disks.acknowledged(from, group.0, match_index.0)?;
            }
            let Body::Append { prev_term, entries, .. } = &message.body else {
                continue;
            };
            self.checker
                .leads(group.0, message.term.0, i32::try_from(from).unwrap_or(-1))?;
            let mut previous_term = prev_term.0;
            for entry in entries {
                let seen = Seen {
                    index: entry.index.0,
                    term: entry.term.0,
                    previous_term,
                    payload: match &entry.payload {
                        Payload::Blank => 0,
                        Payload::Data(bytes) => fingerprint(bytes),
                        Payload::Configuration(members) => members_fingerprint(members),
                    },
                };
                self.checker.entry(group.0, seen)?;
                previous_term = entry.term.0;
            }
        }
        Ok(())
    }

    /// A replica reports a leader.
    pub fn leader(&mut self, broker: u32, running: &Running, change: LeaderChange) -> Result<(), Violation> {
        if let Some(leader) = change.leader {
            let leader = i32::try_from(leader.0).unwrap_or(-1);
            self.checker.leads(change.group.0, change.term.0, leader)?;
        }
        if !change.serving {
            return Ok(());
        }
        let Some((_, log)) = running.shard_of(change.group).replica(change.group) else {
            return Ok(());
        };
        let first = log.first_index().0;
        let terms = (first..=log.last_index().0).map(|index| match log.term_at(LogIndex(index)) {
            TermAt::Known(term) => term.0,
            TermAt::Compacted | TermAt::Missing => 0,
        });
        let broker = i32::try_from(broker).unwrap_or(-1);
        self.checker
            .leader_log(change.group.0, broker, change.term.0, first, &mut terms.into_iter())
    }

    /// A shard took a step: what its replicas hold as committed now.
    pub fn stepped(&mut self, broker: u32, running: &Running, shard: usize) -> Result<(), Violation> {
        let groups: Vec<GroupId> = running.hosted_by(shard).collect();
        for group in groups {
            let Some((member, log)) = running.shard_of(group).replica(group) else {
                continue;
            };
            let place = (broker, shard, group.0);
            if self.opening.remove(&(broker, group)) {
                self.disks.opened(place, log, self.excused == Some(broker));
            }
            self.disks.written(place, running.batch_of(shard), log);
            let now = voters(member.configuration());
            if let [.., (_, before), (_, after)] = log.configurations() {
                RaftChecker::succession(group.0, &voters(before), &voters(after))?;
            }
            let voters_before = self.voters.insert((broker, group), now.clone()).unwrap_or_default();
            let commit = member.commit().0;
            let seen = self.commits.entry((broker, group)).or_insert(0);
            // What was told to be opened is there some steps later.
            if commit < *seen && self.begun_anew.remove(&(broker, group)) {
                *seen = 0;
            }
            let before = *seen;
            *seen = commit;
            RaftChecker::commit_index(group.0, i32::try_from(broker).unwrap_or(-1), before, commit)?;
            if commit > before && member.role() == Role::Leader {
                let entry = (commit, log.term(commit));
                self.disks.committed(group.0, entry, &now, &voters_before)?;
            }
            if commit > before {
                self.committed(broker, group, log, (before + 1).max(log.first_index().0), commit)?;
            }
        }
        Ok(())
    }

    fn committed(
        &mut self,
        broker: u32,
        group: GroupId,
        log: &ReplicaLog,
        first: u64,
        last: u64,
    ) -> Result<(), Violation> {
        let entries = match entries(log, first, last) {
            Err(_) if self.excused == Some(broker) => return Ok(()),
            entries => entries?,
        };
        for (index, term, payload) in entries {
            let previous_term = match log.term_at(LogIndex(index - 1)) {
                TermAt::Known(term) => term.0,
                TermAt::Compacted | TermAt::Missing => continue,
            };
            let seen = Seen {
                index,
                term,
                previous_term,
                payload,
            };
            self.checker
                .committed(group.0, i32::try_from(broker).unwrap_or(-1), seen)?;
        }
        Ok(())
    }
}

impl Look for ReplicaLog {
    fn start(&self) -> u64 {
        self.first_index().0 - 1
    }

    fn last(&self) -> u64 {
        self.last_index().0
    }

    fn term(&self, index: u64) -> u64 {
        match self.term_at(LogIndex(index)) {
            TermAt::Known(term) => term.0,
            TermAt::Compacted | TermAt::Missing => 0,
        }
    }
}

/// The sets of voters that must agree.
fn voters(configuration: &Configuration) -> Vec<Vec<u32>> {
    let sets = [&configuration.voters, &configuration.outgoing];
    let brokers = |set: &Vec<NodeId>| set.iter().filter_map(|node| u32::try_from(node.0).ok()).collect();
    sets.into_iter().filter(|set| !set.is_empty()).map(brokers).collect()
}

/// So often something is read again if the disk returns flipped bits or an error: more often than it does in a row.
const READS: u32 = 10;

/// What is on a disk, whatever its first reads return.
fn insist<T, E>(read: impl Fn() -> Result<T, E>) -> Result<T, E> {
    let mut outcome = read();
    for _ in 1..READS {
        if outcome.is_ok() {
            break;
        }
        outcome = read();
    }
    outcome
}

/// Index, term and payload's fingerprint of these entries, from memory or disk.
fn entries(log: &ReplicaLog, first: u64, last: u64) -> Result<Vec<(u64, u64, u64)>, Violation> {
    let read = || match log.entries(LogIndex(first), LogIndex(last))? {
        Entries::Ready(entries) => Ok(entries),
        Entries::Load(job) => job.run(),
    };
    let entries = insist(read).map_err(|error| {
        let detail = format!("committed entries {first} to {last} of a log can't be read: {error:?}");
        Violation::new(Law::CommittedStays, detail)
    })?;
    Ok(entries
        .into_iter()
        .map(|entry| {
            let payload = match &entry.payload {
                Payload::Blank => 0,
                Payload::Configuration(members) => members_fingerprint(members),
                Payload::Data(bytes) => fingerprint(bytes),
            };
            (entry.index.0, entry.term.0, payload)
        })
        .collect())
}

/// A replica's whole committed content as its readers would get it, with its first offset: record batches back to back.
pub fn content(running: &Running, group: GroupId) -> Result<(i64, Bytes), String> {
    let (member, log) = running
        .shard_of(group)
        .replica(group)
        .ok_or_else(|| format!("group {group} is not there"))?;
    let upto = log.high_watermark(member.commit());
    let start = log.start_offset();
    let mut from = start;
    let mut content = BytesMut::new();
    while from < upto.0 {
        let chunks = log
            .read(from, upto, usize::MAX)
            .map_err(|error| format!("group {group} from {from:?}: {error:?}"))?;
        let before = content.len();
        for chunk in chunks {
            match chunk {
                Chunk::Memory(bytes) => content.extend_from_slice(&bytes),
                Chunk::File(slice) => {
                    content.extend_from_slice(&slice.read().map_err(|error| format!("{error:?}"))?);
                }
            }
        }
        let read = Bytes::copy_from_slice(&content[before..]);
        let last = super::records::decode(&read)?.last().map(|record| record.offset);
        from = Offset(last.ok_or_else(|| format!("group {group} has nothing at {from:?}, below {upto:?}"))? + 1);
    }
    Ok((start.0, content.freeze()))
}

/// The same for a configuration on its way and in a log.
fn members_fingerprint(configuration: &Configuration) -> u64 {
    fingerprint(format!("{configuration:?}").as_bytes())
}
