//! The last and largest check: what the logs hold once everything has ended.

use super::World;
use crate::checker::history::Log;
use crate::checker::{Law, Violation};
use crate::sim::Report;
use crate::sim::broker::Running;
use crate::sim::clients::PartitionName;
use crate::sim::observer;
use trimaran_raft::GroupId;
use trimaran_registry::PartitionIndex;

impl World {
    /// Everything has ended: the last and largest check.
    pub(super) fn judge(&mut self) -> Result<Report, Violation> {
        let mut logs: Vec<Log> = Vec::new();
        for partition in &self.partitions {
            logs.push(self.final_log(partition)?);
        }
        let tally = self.history.check(&logs)?;
        Ok(Report {
            trace_hash: self.trace.hash(),
            events: self.trace.events(),
            virtual_time_us: self.now(),
            faults: self.faults.clone(),
            deleted: logs.iter().map(|log| log.start).sum(),
            elections: self.elections.terms(),
            missed: self.endings.missed(),
            whole_after_us: self.whole_at.saturating_sub(self.healed_at),
            tally,
        })
    }

    /// The content of a partition, once it is certain that all its replicas have the same: each deletes old segments by
    /// itself, so they may begin at different offsets.
    fn final_log(&self, partition: &PartitionName) -> Result<Log, Violation> {
        let broken = |what: String| Violation::new(Law::Converges, format!("{partition}: {what}"));
        let index = PartitionIndex(partition.index);
        let mut longest: Option<Log> = None;
        let mut start = 0;
        for machine in self
            .machines
            .iter()
            .filter(|machine| !self.is_gone(machine.settings.id))
        {
            let Some(running) = machine.running.as_ref().filter(|_| !machine.has_dead_segments) else {
                continue;
            };
            let Some(placed) = running.agent().catalog().partition(&partition.topic, index) else {
                return Err(broken("is not in the catalog".to_owned()));
            };
            let group = GroupId(placed.group.0);
            if !running.hosted().any(|hosted| hosted == group) || self.is_outside(machine.settings.id, group) {
                continue;
            }
            let log = match replica_log(running, group) {
                // Damage that nobody has read is nobody's loss.
                Err(_) if self.failing_disk == Some(machine.settings.id) => continue,
                log => log.map_err(broken)?,
            };
            start = log.start.max(start);
            let known = longest.get_or_insert_with(|| log.clone());
            let common = known.records.len().min(log.records.len());
            let same = known.records[known.records.len() - common..] == log.records[log.records.len() - common..];
            if !same {
                let detail = format!("{partition}: b{}'s replica has other records", machine.settings.id);
                return Err(Violation::new(Law::LogsMatch, detail));
            }
            if log.start < known.start {
                *known = log;
            }
        }
        let mut log = longest.ok_or_else(|| broken("has no replica".to_owned()))?;
        log.records.retain(|(offset, _)| *offset >= start);
        log.start = start;
        Ok(log)
    }
}

impl World {
    /// Whether a replica does not belong to its group: where brokers are gone, it may wait for ever to be taken in.
    fn is_outside(&self, broker: u32, group: GroupId) -> bool {
        let mut members = self.machines.iter().filter_map(|machine| {
            let (member, _) = machine.running.as_ref()?.shard_of(group).replica(group)?;
            (member.is_serving() && !self.is_gone(machine.settings.id)).then_some(member)
        });
        let leader = members.next().filter(|_| !self.endings.nobody_is_gone());
        leader.is_some_and(|leader| {
            let mut members = leader.configuration().members();
            members.all(|member| member.0 != u64::from(broker))
        })
    }
}

fn replica_log(running: &Running, group: GroupId) -> Result<Log, String> {
    let (start, content) = observer::content(running, group)?;
    let records = if content.is_empty() {
        Vec::new()
    } else {
        crate::sim::records::decode(&content)?
    };
    Ok(Log {
        start,
        records: records.into_iter().map(|read| (read.offset, read.record)).collect(),
    })
}
