//! The disk: the journal thread with its one write at a time, the jobs of the I/O threads, and a loss of power.

use super::event::{Effect, Event};
use super::{Job, Running, Writing, folder};
use crate::sim::queue::Micros;
use crate::sim::rng::Rng;
use crate::sim::trace::Happening;
use std::path::Path;
use trimaran_multiraft::{Input, Loaded};
use trimaran_raft::GroupId;
use trimaran_storage::fs::Fs as _;
use trimaran_storage::journal::JournalBatch;

impl Running {
    pub(super) fn begin_write(&mut self, now: Micros, effects: &mut Vec<Effect>) {
        if self.writing.is_some() || self.unwritten.is_empty() {
            return;
        }
        let mut batch = JournalBatch::default();
        let mut parts = Vec::new();
        for (shard, sequence, part) in self.unwritten.drain(..) {
            batch.extend(part);
            parts.push((shard, sequence));
        }
        let since = now;
        self.writing = Some(Writing { batch, parts, since });
        let delay = self.disk_delay();
        effects.push(Effect::At(now + delay, Event::Journal));
    }

    fn disk_delay(&mut self) -> Micros {
        self.rng.between(self.disk.min_us, self.disk.max_us)
    }

    pub(super) fn journalled(&mut self, now: Micros, effects: &mut Vec<Effect>) -> Result<(), String> {
        let Some(writing) = self.writing.take() else {
            return Ok(());
        };
        self.journal
            .write(&writing.batch)
            .map_err(|error| format!("the journal does not take a write: {error:?}"))?;
        effects.push(Effect::Trace(Happening::Journalled {
            broker: self.settings.id,
            bytes: writing.batch.bytes(),
        }));
        for (shard, sequence) in writing.parts {
            effects.push(Effect::Synced(shard, sequence));
            if !self.early_acks {
                self.tell_shard(now, shard, Input::Persisted(sequence), effects);
            }
            self.remove_folders(now, shard, sequence, effects)?;
        }
        for group in self.journal.groups_to_flush() {
            effects.push(self.note(format!("asks group {group} to let go of the oldest journal file")));
            self.tell(now, group, Input::FlushNow(group), effects);
        }
        self.begin_write(now, effects);
        Ok(())
    }

    fn remove_folders(
        &mut self,
        now: Micros,
        shard: usize,
        durable: u64,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        let is_due = |(of, sequence, _): &(usize, u64, GroupId)| *of == shard && *sequence <= durable;
        let due: Vec<GroupId> = self
            .leavings
            .extract_if(.., |leaving| is_due(leaving))
            .map(|(_, _, group)| group)
            .collect();
        for group in due {
            // What is left of a deleted topic is found and removed at the next start. Durably: what comes in its place must
            // not be removed by a crash.
            drop(
                self.fs
                    .remove_dir_all(&folder(group))
                    .and_then(|()| self.fs.sync_dir(Path::new("/data"))),
            );
            self.closing.remove(&group);
            if let Some(opening) = self.postponed.remove(&group) {
                self.open(now, group, opening, effects)?;
            }
        }
        Ok(())
    }

    pub(super) fn begin_job(&mut self, now: Micros, job: Job, effects: &mut Vec<Effect>) {
        let number = self.number();
        self.jobs.insert(number, job);
        let delay = self.disk_delay();
        effects.push(Effect::At(now + delay, Event::Job(number)));
    }

    pub(super) fn job_done(&mut self, now: Micros, number: u64, effects: &mut Vec<Effect>) -> Result<(), String> {
        match self.jobs.remove(&number) {
            Some(Job::Flush(job)) => {
                let group = job.group();
                let flushed = job.run();
                if let Ok(flushed) = &flushed {
                    self.journal
                        .release(group, flushed.upto)
                        .map_err(|error| format!("the journal does not release: {error:?}"))?;
                }
                self.tell(now, group, Input::Flushed(group, flushed), effects);
            }
            Some(Job::Load(load)) => {
                let loaded = Loaded {
                    group: load.group,
                    entries: load.job.run(),
                    plan: load.plan,
                };
                self.tell(now, load.group, Input::Loaded(loaded), effects);
            }
            None => {}
        }
        Ok(())
    }

    /// What a disk holds after power is lost now: a write that is under way may have been done in part, or wholly
    /// without anybody having heard of it.
    pub fn lose_power(mut self, rng: &mut Rng) {
        let fate = rng.below(3);
        if fate == 1 {
            self.fs.crash_at(self.fs.operations() + rng.between(1, 3));
        }
        if fate > 0 {
            if let Some(writing) = self.writing.take() {
                // Its outcome reaches nobody.
                drop(self.journal.write(&writing.batch));
            }
            for job in std::mem::take(&mut self.jobs).into_values() {
                if let Job::Flush(job) = job {
                    drop(job.run());
                }
            }
        }
        self.fs.crash();
    }
}
