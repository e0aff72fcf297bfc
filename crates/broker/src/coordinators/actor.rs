//! The task of one coordinator: reads the replica's committed log, and leads when this broker does.

use super::copy::{Growth, Mark};
use super::log::{self, ReplayError};
use super::mailboxes::Call;
use crate::clock::wall_clock_ms;
use crate::config::GroupSettings;
use crate::engine::{Acks, AppendError, Appended, Engine, Pending, ReadError, ReadRequest};
use crate::ids;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use trimaran_coordinator::{
    Config, Coordinator, Error, Offset, Output, Record, Reply, Ticket, Time, WriteError, WriteId,
};
use trimaran_multiraft::Input;
use trimaran_raft::{GroupId, Role};
use trimaran_registry::Term;
use trimaran_wire::batch;

/// Bytes of the log that are read at a time: a few reads a second fill a disk's bandwidth, and one is soon replayed.
const READ_BYTES: usize = 1 << 20;

/// The pause before a replica that should lead is asked again, if it can't answer and nothing says when it can: its
/// shard is overloaded, or its log has failed.
const PAUSE: Duration = Duration::from_millis(100);

/// The same where nobody waits for the answer: the replica follows, or is being opened.
const IDLE_PAUSE: Duration = Duration::from_secs(1);

/// The pause before a log that can't be replayed is tried again: only another version or a repair helps.
const LONG_PAUSE: Duration = Duration::from_secs(10);

/// Bytes of one batch of a copy of the state.
const COPY_BYTES: usize = 1 << 20;

/// Requests that are taken in a row before their writes are appended: they are then on the disk together.
const BURST: usize = 64;

/// Whether this broker leads a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leading {
    No,
    /// It leads, and serves, in this term.
    Since(Term),
}

/// An append on its way.
struct Append {
    id: WriteId,
    records: i64,
    outcome: Pending<Result<Appended, AppendError>>,
}

pub(super) struct Actor {
    engine: Engine,
    group: GroupId,
    leading: watch::Receiver<Leading>,
    calls: mpsc::Receiver<Call>,
    coordinator: Coordinator,
    config: Config,
    /// The offset from which the log is to be read on.
    next: batch::Offset,
    waiting: HashMap<Ticket, oneshot::Sender<Result<Reply, Error>>>,
    last_ticket: u64,
    output: Output,
    /// In the order of the log.
    appends: VecDeque<Append>,
    growth: Growth,
    /// The monotonic clock's zero.
    origin: Instant,
}

/// The mailbox is closed: the replica is gone, or the broker stops.
struct Closed;

impl Actor {
    pub(super) fn new(
        engine: Engine,
        group: GroupId,
        leading: watch::Receiver<Leading>,
        calls: mpsc::Receiver<Call>,
    ) -> Actor {
        let config = config(&engine.settings().groups);
        Actor {
            coordinator: Coordinator::new(config.clone()),
            config,
            engine,
            group,
            leading,
            calls,
            next: batch::Offset::ZERO,
            waiting: HashMap::new(),
            last_ticket: 0,
            output: Output::default(),
            appends: VecDeque::new(),
            growth: Growth::default(),
            origin: Instant::now(),
        }
    }

    /// Runs until the mailbox is closed.
    pub(super) async fn run(mut self) {
        while let Ok(term) = self.follow().await {
            tracing::info!(
                group = %self.group, %term, groups = self.coordinator.group_count(), offsets = self.coordinator.offset_count(),
                "coordinates consumer groups"
            );
            let ended = self.lead(term).await;
            self.resign();
            if ended.is_err() {
                break;
            }
        }
    }

    // --- Following ---

    /// Replays what is committed, until this broker leads and nothing is left to replay. Returns the term.
    async fn follow(&mut self) -> Result<Term, Closed> {
        loop {
            let leading = *self.leading.borrow_and_update();
            let patience = match leading {
                Leading::No => None,
                Leading::Since(term) if self.is_level(term).await => return Ok(term),
                // Something may have kept the replica from answering that no commit and no election will tell about.
                Leading::Since(_) => Some(PAUSE),
            };
            self.read_on(patience).await?;
        }
    }

    /// Whether this replica leads in that term, and everything in its log is committed and replayed.
    async fn is_level(&self, term: Term) -> bool {
        let Some(status) = self.engine.status(self.group).await else {
            return false;
        };
        // What an earlier leadership of this task has appended is in the log by now, committed or not.
        status.role == Role::Leader
            && status.serving
            && ids::registry_term(status.term) == term
            && status.high_watermark.0 == self.next
            && status.next_offset == self.next
    }

    /// Waits for something to replay, and replays it; comes back early if this broker begins or ends to lead, or for lack
    /// of patience.
    async fn read_on(&mut self, patience: Option<Duration>) -> Result<(), Closed> {
        let deadline = patience.map(|patience| Instant::now() + patience);
        let request = ReadRequest {
            group: self.group,
            from: self.next,
            max_bytes: READ_BYTES,
            current_epoch: None,
            follower_ok: true,
            wait: true,
        };
        let mut reading = self.engine.read(request);
        let read = loop {
            tokio::select! {
                read = &mut reading => break read,
                changed = self.leading.changed() => return changed.map_err(|_| Closed),
                call = self.calls.recv() => self.refuse(call.ok_or(Closed)?),
                () = sleep_until(deadline) => return Ok(()),
            }
        };
        match read {
            Ok(read) if read.chunks.is_empty() => self.pause(PAUSE).await,
            Ok(read) => {
                let (coordinator, growth) = (&mut self.coordinator, &mut self.growth);
                match log::replay(&self.engine, self.group, read, coordinator, growth).await {
                    Ok(replayed) => {
                        self.next = self.next.max(replayed.next);
                        self.give_up_before(replayed.mark);
                        Ok(())
                    }
                    Err(error) => self.fail_to_replay(&error).await,
                }
            }
            Err(ReadError::OutOfRange { start, .. }) if start > self.next => {
                // The leader has written the whole state behind this place, before it gave up what was before.
                self.coordinator = Coordinator::new(self.config.clone());
                self.growth = Growth::default();
                self.next = start;
                Ok(())
            }
            Err(
                ReadError::UnknownGroup
                | ReadError::NotLeader { .. }
                | ReadError::NotServing
                | ReadError::FencedEpoch
                | ReadError::UnknownEpoch
                | ReadError::OutOfRange { .. }
                | ReadError::Cancelled
                | ReadError::Storage,
            ) => self.pause(patience.unwrap_or(IDLE_PAUSE)).await,
        }
    }

    async fn fail_to_replay(&mut self, error: &ReplayError) -> Result<(), Closed> {
        tracing::error!(
            group = %self.group, %error,
            "this partition of __consumer_offsets can't be replayed, so its consumer groups have no coordinator here; was it \
             written by a later version?"
        );
        self.pause(LONG_PAUSE).await
    }

    /// Refuses requests for a while, or until this broker begins or ends to lead.
    async fn pause(&mut self, pause: Duration) -> Result<(), Closed> {
        let until = Instant::now() + pause;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return Ok(()),
                changed = self.leading.changed() => return changed.map_err(|_| Closed),
                call = self.calls.recv() => self.refuse(call.ok_or(Closed)?),
            }
        }
    }

    fn refuse(&self, call: Call) {
        let error = match *self.leading.borrow() {
            Leading::No => Error::NotCoordinator,
            Leading::Since(_) => Error::CoordinatorLoadInProgress,
        };
        // A client that is gone doesn't want the answer.
        let _ = call.answer.send(Err(error));
    }

    // --- Leading ---

    /// Takes requests, until the leadership of that term ends.
    async fn lead(&mut self, term: Term) -> Result<(), Closed> {
        self.coordinator.lead(self.time(), &mut self.output);
        while self.coordinator.is_leading() {
            self.hand_out();
            // Before the state is copied, everything that is under way must be in it, and nothing new begins.
            let is_copy_due = self.growth.is_copy_due();
            if is_copy_due && self.appends.is_empty() {
                match self.copy_state().await {
                    Ok(()) => continue,
                    Err(error) => {
                        tracing::info!(group = %self.group, %error, "the state of consumer groups could not be written again");
                        break;
                    }
                }
            }
            let due = self.coordinator.deadline().filter(|_| !is_copy_due);
            let due = due.map(|ms| self.origin + Duration::from_millis(ms));
            tokio::select! {
                outcome = front(&mut self.appends) => self.written(outcome),
                call = self.calls.recv(), if !is_copy_due => self.take(call.ok_or(Closed)?),
                () = sleep_until(due) => {
                    let time = self.time();
                    self.coordinator.tick(time, &mut self.output);
                }
                changed = self.leading.changed() => {
                    changed.map_err(|_| Closed)?;
                    if *self.leading.borrow_and_update() != Leading::Since(term) {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes a request, and those behind it that have come with it.
    fn take(&mut self, call: Call) {
        let mut next = Some(call);
        let mut left = BURST;
        while let Some(Call { request, answer }) = next {
            self.last_ticket += 1;
            let (ticket, time) = (Ticket(self.last_ticket), self.time());
            self.waiting.insert(ticket, answer);
            self.coordinator.handle(time, ticket, request, &mut self.output);
            left -= 1;
            next = if left > 0 { self.calls.try_recv().ok() } else { None };
        }
    }

    fn written(&mut self, outcome: Result<Appended, AppendError>) {
        let Some(Append { id, records, .. }) = self.appends.pop_front() else {
            return;
        };
        let outcome = match outcome {
            // Anything else in between would be another leader's, whose records are not in this state.
            Ok(appended) if appended.base_offset == self.next => {
                self.next = batch::Offset(self.next.0 + records);
                Ok(Offset(appended.base_offset.0))
            }
            Ok(_) => Err(WriteError::Unknown),
            Err(error) => {
                tracing::info!(group = %self.group, %error, "records of consumer groups could not be written");
                Err(write_error(&error))
            }
        };
        let time = self.time();
        self.coordinator.written(time, id, outcome, &mut self.output);
    }

    /// Sends the replies, and hands the writes to the log.
    fn hand_out(&mut self) {
        for (ticket, reply) in self.output.replies.drain(..) {
            if let Some(answer) = self.waiting.remove(&ticket) {
                // A client that is gone doesn't want the answer.
                let _ = answer.send(Ok(reply));
            }
        }
        for write in self.output.writes.drain(..) {
            let batch = log::batch(&write.records);
            self.growth.add(batch.len());
            self.appends.push_back(Append {
                id: write.id,
                records: i64::try_from(write.records.len()).unwrap_or(i64::MAX),
                outcome: self.engine.append(self.group, batch, Acks::All),
            });
        }
    }

    /// Writes the whole state again, and the mark behind it. Nothing may be under way.
    async fn copy_state(&mut self) -> Result<(), AppendError> {
        let start = self.next;
        let mut bytes = 0;
        let mut after = None;
        loop {
            let portion = self.coordinator.state_records(after.as_ref(), COPY_BYTES);
            for records in in_batches(&portion.records) {
                bytes += self.append_copy(records).await?;
            }
            after = portion.next;
            if after.is_none() {
                break;
            }
        }
        let mark = Mark { start, bytes };
        self.append_copy(&[mark.record()]).await?;
        self.growth.copied(mark);
        tracing::info!(group = %self.group, offset = start.0, bytes, "has written the state of its consumer groups again");
        self.give_up_before(Some(mark));
        Ok(())
    }

    /// Appends a part of the copy, and waits until it is committed. Returns its bytes.
    async fn append_copy(&mut self, records: &[Record]) -> Result<u64, AppendError> {
        let batch = log::batch(records);
        let bytes = batch.len() as u64;
        let appended = self.engine.append(self.group, batch, Acks::All).await?;
        // See `written`.
        if appended.base_offset != self.next {
            return Err(AppendError::Lost);
        }
        self.next = batch::Offset(self.next.0 + i64::try_from(records.len()).unwrap_or(i64::MAX));
        Ok(bytes)
    }

    /// This replica no longer needs what lies before a copy.
    fn give_up_before(&self, mark: Option<Mark>) {
        if let Some(mark) = mark {
            self.engine
                .mailbox(self.group)
                .tell(Input::Trim(self.group, mark.start));
        }
    }

    /// The leadership is over. What is under way may yet be committed; then it is replayed.
    fn resign(&mut self) {
        self.coordinator.resign(&mut self.output);
        self.output.writes.clear();
        self.hand_out();
        self.appends.clear();
        self.next = batch::Offset(self.coordinator.applied().0).max(self.next);
        for (_, answer) in self.waiting.drain() {
            let _ = answer.send(Err(Error::NotCoordinator));
        }
    }

    fn time(&self) -> Time {
        Time {
            monotonic_ms: u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX),
            unix_ms: wall_clock_ms(),
        }
    }
}

fn write_error(error: &AppendError) -> WriteError {
    match error {
        AppendError::Lost | AppendError::NotEnoughReplicasAfterAppend { .. } => WriteError::Unknown,
        AppendError::UnknownGroup
        | AppendError::NotLeader { .. }
        | AppendError::NotServing
        | AppendError::Busy
        | AppendError::NotEnoughReplicas { .. }
        | AppendError::BadBatch(_)
        | AppendError::OutOfOrderSequence { .. }
        | AppendError::TooManyProducers
        | AppendError::Fenced
        | AppendError::Storage => WriteError::NotLeader,
    }
}

/// The outcome of the first append; never, if there is none.
async fn front(appends: &mut VecDeque<Append>) -> Result<Appended, AppendError> {
    match appends.front_mut() {
        Some(append) => (&mut append.outcome).await,
        None => std::future::pending().await,
    }
}

/// The records in parts that a batch can hold.
fn in_batches(records: &[Record]) -> impl Iterator<Item = &[Record]> {
    let mut rest = records;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |record: &&Record| {
            bytes += record.len();
            bytes <= COPY_BYTES
        };
        // One is taken, however large: it was written before.
        let count = rest.iter().take_while(fits).count().max(1);
        let (part, others) = rest.split_at_checked(count)?;
        rest = others;
        Some(part)
    })
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

fn config(settings: &GroupSettings) -> Config {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let ms_i32 = |duration: Duration| i32::try_from(duration.as_millis()).unwrap_or(i32::MAX);
    Config {
        group_max_size: settings.max_size as usize,
        group_min_session_timeout_ms: ms_i32(settings.min_session_timeout),
        group_max_session_timeout_ms: ms_i32(settings.max_session_timeout),
        group_initial_rebalance_delay_ms: ms(settings.initial_rebalance_delay),
        offset_metadata_max_bytes: settings.offset_metadata_bytes as usize,
        offsets_retention_ms: ms(settings.offsets_retention),
        ..Config::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_copy_is_cut_into_batches() {
        let record = |length: usize| Record {
            key: Bytes::from(vec![0; length]),
            value: None,
        };
        let records = [400 << 10, 600 << 10, 500 << 10, 3 << 20, 1].map(record);
        let parts: Vec<usize> = in_batches(&records).map(<[Record]>::len).collect();
        assert_eq!(parts, [2, 1, 1, 1]);
        assert_eq!(in_batches(&[]).count(), 0);
    }
}
