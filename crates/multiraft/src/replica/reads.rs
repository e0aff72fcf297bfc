//! A consumer's way in: reads up to the high watermark, long polls, and the questions about offsets.

use super::Replica;
use crate::mailbox::{Completion, Outbox, Ticket};
use crate::requests::{OffsetAnswer, OffsetLookup, OffsetQuery, ReadError, ReadRequest, ReadResult};
use crate::step_context::StepContext;
use trimaran_storage::log::{BatchMeta, Chunk, LogError};
use trimaran_storage::offsets::leader_epoch;
use trimaran_wire::batch::{LeaderEpoch, Offset};

impl Replica {
    /// Answers a read, or makes it wait.
    pub(crate) fn read(&mut self, ticket: Ticket, request: ReadRequest, context: &mut StepContext, out: &mut Outbox) {
        // Within a step more may be committed already: a leader that serves shows all of it.
        self.apply(context, out);
        let waits = request.wait && self.may_read(&request).is_ok() && self.applied.high_watermark.0 <= request.from;
        // Over the limit, a long poll is answered like a short one.
        if waits && context.can_wait() {
            context.waiting_reads.insert(ticket, request.group);
            self.reads.waiting.push((ticket, request));
        } else {
            let result = self.read_now(&request);
            out.completions.push((ticket, Completion::Read(result)));
        }
    }

    /// Wakes the reads that the high watermark has passed; all of them if leadership changed.
    pub(crate) fn wake_reads(&mut self, leadership_changed: bool, context: &mut StepContext, out: &mut Outbox) {
        if self.reads.is_empty() {
            return;
        }
        let mut waiting = core::mem::take(&mut self.reads.waiting);
        let high_watermark = self.applied.high_watermark.0;
        waiting.retain(|(ticket, request)| {
            let wake = leadership_changed || self.is_failed() || high_watermark > request.from;
            if wake {
                context.waiting_reads.remove(ticket);
                out.completions
                    .push((*ticket, Completion::Read(self.read_now(request))));
            }
            !wake
        });
        self.reads.waiting = waiting;
    }

    /// Tells requests that wait in vain.
    pub(crate) fn cancel_read(&mut self, ticket: Ticket, out: &mut Outbox) {
        if self.reads.cancel(ticket) {
            out.completions
                .push((ticket, Completion::Read(Err(ReadError::Cancelled))));
        }
    }

    fn read_now(&mut self, request: &ReadRequest) -> Result<ReadResult, ReadError> {
        self.may_read(request)?;
        let chunks = if request.from < self.applied.high_watermark.0 {
            let read = self
                .log
                .read(request.from, self.applied.high_watermark, request.max_bytes);
            read.map_err(|error| self.read_error(error))?
        } else {
            Vec::new()
        };
        let in_sync = if self.leads() {
            self.in_sync.replicas()
        } else {
            Vec::new()
        };
        Ok(ReadResult {
            epoch: leader_epoch(self.group.term()),
            high_watermark: self.applied.high_watermark,
            start_offset: self.log.start_offset(),
            chunks,
            in_sync,
        })
    }

    fn may_read(&self, request: &ReadRequest) -> Result<(), ReadError> {
        self.check_epoch(request.current_epoch)?;
        if self.leads() || !request.follower_ok {
            self.check_serving()?;
        } else if self.is_failed() {
            return Err(ReadError::Storage);
        }
        self.check_range(request.from)
    }

    /// Fences clients with older metadata, and asks those with newer to wait (KIP-320).
    fn check_epoch(&self, believed: Option<LeaderEpoch>) -> Result<(), ReadError> {
        let current = leader_epoch(self.group.term());
        match believed {
            Some(believed) if believed < current => Err(ReadError::FencedEpoch),
            Some(believed) if believed > current => Err(ReadError::UnknownEpoch),
            _ => Ok(()),
        }
    }

    fn check_serving(&self) -> Result<(), ReadError> {
        if !self.leads() {
            Err(ReadError::NotLeader {
                leader: self.group.leader(),
            })
        } else if self.is_failed() {
            Err(ReadError::Storage)
        } else if !self.group.is_serving() {
            Err(ReadError::NotServing)
        } else {
            Ok(())
        }
    }

    /// A position between the high watermark and the log's end is not wrong, only early. On a follower any position
    /// above may be right: the leader knows more.
    fn check_range(&self, from: Offset) -> Result<(), ReadError> {
        let start = self.log.start_offset();
        let above = self.leads() && from > self.log.next_offset();
        if from < start || above {
            return Err(ReadError::OutOfRange {
                start,
                high_watermark: self.applied.high_watermark.0,
            });
        }
        Ok(())
    }

    /// A log that can't be read is given up; one that was trimmed meanwhile is not at fault.
    fn read_error(&mut self, error: LogError) -> ReadError {
        match error {
            LogError::OutOfRange { start, end } => ReadError::OutOfRange {
                start,
                high_watermark: end,
            },
            error => {
                self.health.note(error);
                ReadError::Storage
            }
        }
    }

    /// Answers a question about offsets; only a leader that serves does.
    pub(crate) fn look_up(
        &mut self,
        query: OffsetQuery,
        current_epoch: Option<LeaderEpoch>,
        context: &mut StepContext,
        out: &mut Outbox,
    ) -> Result<OffsetLookup, ReadError> {
        self.apply(context, out);
        self.check_epoch(current_epoch)?;
        self.check_serving()?;
        let upto = self.applied.high_watermark;
        let answer = match query {
            OffsetQuery::Earliest => OffsetAnswer::At(self.log.start_offset()),
            OffsetQuery::Latest => OffsetAnswer::At(upto.0),
            OffsetQuery::MaxTimestamp => self.in_batch(self.log.max_timestamp(upto))?,
            OffsetQuery::Timestamp(ms) => self.in_batch(self.log.batch_by_timestamp(ms, upto))?,
            OffsetQuery::EpochEnd { epoch } => match self.log.epoch_end(epoch) {
                // Everything of earlier terms is committed where a leader serves; of its own term, only so much.
                Some((epoch, end)) => OffsetAnswer::EpochEnd(epoch, end.min(upto.0)),
                None => OffsetAnswer::None,
            },
        };
        Ok(OffsetLookup {
            epoch: leader_epoch(self.group.term()),
            answer,
        })
    }

    fn in_batch(&mut self, found: Result<Option<(BatchMeta, Chunk)>, LogError>) -> Result<OffsetAnswer, ReadError> {
        let found = found.map_err(|error| self.read_error(error))?;
        Ok(found.map_or(OffsetAnswer::None, |(meta, chunk)| OffsetAnswer::InBatch(meta, chunk)))
    }
}
