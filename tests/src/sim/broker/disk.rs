//! The disk: the journal thread with its one write at a time, the jobs of the I/O threads, and a loss of power.

use super::event::{Effect, Event};
use super::folder::DATA;
use super::{Job, Running, Writing};
use crate::sim::queue::Micros;
use crate::sim::rng::Rng;
use crate::sim::trace::Happening;
use std::io;
use std::path::Path;
use std::sync::Arc;
use trimaran_multiraft::{Input as ShardInput, Loaded};
use trimaran_node::{Input, folder};
use trimaran_raft::GroupId;
use trimaran_storage::fs::Fs;
use trimaran_storage::journal::JournalBatch;
use trimaran_storage::log::delete_quarantine;

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
                self.tell_shard(now, shard, ShardInput::Persisted(sequence), effects);
            }
            self.remove_folders(now, shard, sequence, effects);
        }
        for group in self.journal.groups_to_flush() {
            effects.push(self.note(format!("asks group {group} to let go of the oldest journal file")));
            self.tell(now, group, ShardInput::FlushNow(group), effects);
        }
        self.begin_write(now, effects);
        Ok(())
    }

    fn remove_folders(&mut self, now: Micros, shard: usize, durable: u64, effects: &mut Vec<Effect>) {
        let is_due = |(of, sequence, _): &(usize, u64, GroupId)| *of == shard && *sequence <= durable;
        let due: Vec<GroupId> = self
            .leavings
            .extract_if(.., |leaving| is_due(leaving))
            .map(|(_, _, group)| group)
            .collect();
        for group in due {
            self.begin_job(now, Job::Delete(group), effects);
        }
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
                self.tell(now, group, ShardInput::Flushed(group, flushed), effects);
            }
            Some(Job::Load(load)) => {
                let loaded = Loaded {
                    group: load.group,
                    entries: load.job.run(),
                    plan: load.plan,
                };
                self.tell(now, load.group, ShardInput::Loaded(loaded), effects);
            }
            Some(Job::Open(job)) => {
                let group = job.group();
                let fs: Arc<dyn Fs> = Arc::new(self.fs.clone());
                let opened = job.run(&fs, Path::new(DATA), |known| self.lives.next(known));
                if let Some(flushed) = opened.flushed {
                    // To release names no file, and can't fail.
                    drop(self.journal.release(group, flushed));
                }
                self.tell_node(now, Input::Opened(Box::new(opened)), effects)?;
            }
            Some(Job::Delete(group)) => {
                // What is left of a deleted topic is found and removed at the next start.
                drop(self.delete(group));
                self.tell_node(now, Input::Deleted(group), effects)?;
            }
            // Tried again at the next start.
            Some(Job::DeleteQuarantine(group)) => drop(delete_quarantine(&self.fs, &folder(Path::new(DATA), group))),
            None => {}
        }
        Ok(())
    }

    /// Durably: what comes in its place must not be removed by a crash.
    fn delete(&self, group: GroupId) -> io::Result<()> {
        self.fs.remove_dir_all(&folder(Path::new(DATA), group))?;
        self.fs.sync_dir(Path::new(DATA))
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
                match job {
                    Job::Flush(job) => drop(job.run()),
                    Job::Delete(group) => drop(self.delete(group)),
                    Job::Load(_) | Job::Open(_) | Job::DeleteQuarantine(_) => {}
                }
            }
        }
        self.fs.crash();
    }
}
