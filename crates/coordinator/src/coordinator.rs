//! One partition's coordinator.

use crate::leading::{Leading, Surroundings};
use crate::limits::RECORD_OVERHEAD_BYTES;
use crate::record::{DecodeError, GroupValue, OffsetValue, group_record, offset_record};
use crate::sabotage::{Breakage, Sabotage};
use crate::state::State;
use crate::{Config, Error, Offset, Output, Record, Replayed, Request, Ticket, Time, WriteError, WriteId};

/// The coordinator of the groups of one partition of `__consumer_offsets`, on one of its replicas.
///
/// A replica that follows is told each committed record with [`replay`](Coordinator::replay), in the order of the log. A
/// replica that leads, and has replayed all that is committed, is told so with [`lead`](Coordinator::lead), takes requests
/// with [`handle`](Coordinator::handle), and asks for writes, whose outcomes it is told with
/// [`written`](Coordinator::written): it applies them itself, and they are not replayed to it. When the leadership ends,
/// by [`resign`](Coordinator::resign) or by a write that failed, everything that is not committed is forgotten, and the
/// host replays from [`applied`](Coordinator::applied) on.
#[derive(Debug)]
pub struct Coordinator {
    config: Config,
    breakage: Breakage,
    state: State,
    applied: Offset,
    skipped: u64,
    /// The next write's id while this replica doesn't lead.
    next_write: WriteId,
    leading: Option<Leading>,
}

impl Coordinator {
    /// A coordinator of an empty log.
    pub fn new(config: Config) -> Coordinator {
        Coordinator {
            config,
            breakage: Breakage::default(),
            state: State::default(),
            applied: Offset(0),
            skipped: 0,
            next_write: WriteId(0),
            leading: None,
        }
    }

    /// Builds a bug in.
    #[cfg(feature = "sabotage")]
    pub fn break_with(&mut self, how: Sabotage) {
        self.breakage = Breakage::of(how);
    }

    /// Applies the committed record at `offset`; one that lies before [`applied`](Coordinator::applied) does nothing.
    /// Offsets may have gaps: those of control records, and of what compaction has removed.
    ///
    /// # Errors
    /// [`DecodeError`] if it is not a record of this topic: nothing is changed, and the record counts as not applied. A
    /// host must not lead with a state that lacks it.
    ///
    /// # Panics
    /// If this replica leads: a leader applies what it writes itself.
    pub fn replay(&mut self, offset: Offset, key: &[u8], value: Option<&[u8]>) -> Result<Replayed, DecodeError> {
        assert!(!self.is_leading(), "a leader applies its records itself");
        if offset < self.applied {
            return Ok(Replayed::Repeated);
        }
        let replayed = self.state.apply(key, value)?;
        self.skipped += u64::from(matches!(replayed, Replayed::Skipped(_)));
        self.applied = Offset(offset.0 + 1);
        Ok(replayed)
    }

    /// The offset from which on nothing has been applied.
    pub fn applied(&self) -> Offset {
        self.applied
    }

    /// The number of records of protocols that are not kept here.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Begins to lead. Everything that is committed must have been replayed. The timers of all sessions begin again, so
    /// that no member is expelled for the time without a leader. Does nothing if this replica leads already.
    pub fn lead(&mut self, time: Time, out: &mut Output) {
        if self.leading.is_none() {
            let next_write = self.next_write;
            let leading = Leading::new(next_write, &mut self.surroundings(time, out).1);
            self.leading = Some(leading);
        }
    }

    /// Whether this replica leads: between [`lead`](Coordinator::lead) and the end of its leadership.
    pub fn is_leading(&self) -> bool {
        self.leading.is_some()
    }

    /// Ends the leadership, if there is one: all that wait are refused with `NOT_COORDINATOR`, and what is not committed
    /// is forgotten. The host goes on with [`replay`](Coordinator::replay) from [`applied`](Coordinator::applied) on,
    /// since writes that were under way may yet be committed.
    pub fn resign(&mut self, out: &mut Output) {
        if let Some(leading) = self.leading.take() {
            self.next_write = leading.next_write();
            if !self.breakage.is(Sabotage::KeepWaiters) {
                leading.resign(out);
            }
        }
    }

    /// Takes a request. Its reply comes with `ticket` in this output or in a later one: once, and at the latest from
    /// [`resign`](Coordinator::resign). A replica that doesn't lead replies `NOT_COORDINATOR`.
    pub fn handle(&mut self, time: Time, ticket: Ticket, request: Request, out: &mut Output) {
        match self.surroundings(time, out) {
            (Some(leading), mut around) => leading.handle(ticket, request, &mut around),
            (None, _) => out.replies.push((ticket, request.refuse(Error::NotCoordinator))),
        }
    }

    /// Takes the outcome of a write: the offset of its first record, or the reason why it is not known to be
    /// committed, which ends the leadership as [`resign`](Coordinator::resign) does. Outcomes come in the order of the
    /// writes; those of an earlier leadership are ignored.
    ///
    /// # Panics
    /// If the outcome of an earlier write of this leadership is missing.
    pub fn written(&mut self, time: Time, id: WriteId, outcome: Result<Offset, WriteError>, out: &mut Output) {
        let (Some(leading), mut around) = self.surroundings(time, out) else {
            return;
        };
        match outcome {
            Ok(first) => {
                if let Some(records) = leading.written(id, &mut around) {
                    self.applied = Offset(first.0 + i64::try_from(records).expect("a write is small"));
                }
            }
            Err(WriteError::NotLeader | WriteError::Unknown) if leading.is_pending(id) => self.resign(out),
            Err(_) => {}
        }
    }

    /// Does what is due: sessions, rebalances, expiry of offsets. Called when [`deadline`](Coordinator::deadline) has
    /// come; calls before it do nothing.
    pub fn tick(&mut self, time: Time, out: &mut Output) {
        if let (Some(leading), mut around) = self.surroundings(time, out) {
            leading.tick(&mut around);
        }
    }

    /// The monotonic time at which [`tick`](Coordinator::tick) has something to do, or an earlier one; none while this
    /// replica doesn't lead.
    pub fn deadline(&self) -> Option<u64> {
        self.leading.as_ref()?.timers.first()
    }

    /// The number of groups that have members, a generation or offsets.
    pub fn group_count(&self) -> usize {
        self.state.group_count()
    }

    /// The number of committed offsets.
    pub fn offset_count(&self) -> usize {
        self.state.offset_count()
    }

    /// The committed offset of a partition.
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<&OffsetValue> {
        self.state.group(group)?.offset(topic, partition)
    }

    /// A group's generation and members as they are committed.
    pub fn group(&self, group: &str) -> Option<&GroupValue> {
        self.state.group(group)?.metadata.as_ref()
    }

    /// Whether another replica has the same committed state.
    pub fn same_state(&self, other: &Coordinator) -> bool {
        self.state == other.state
    }

    /// The records of the next groups after `after`, or of the first ones: the committed state as it is now, whole groups
    /// at a time, until `bytes` are reached. Records that were written before [`applied`](Coordinator::applied) are
    /// superseded by all portions together if nothing is applied in between.
    pub fn state_records(&self, after: Option<&GroupCursor>, bytes: usize) -> StatePortion {
        let mut portion = StatePortion::default();
        let mut size = 0;
        for (id, group) in self.state.groups_after(after.map(|cursor| &*cursor.0)) {
            if size >= bytes {
                return portion;
            }
            let metadata = group.metadata.iter().map(|value| group_record(id, value));
            let offsets = group.offsets();
            let offsets = offsets.map(|(topic, partition, value)| offset_record(id, topic, partition, value));
            for record in metadata.chain(offsets) {
                size += record.len() + RECORD_OVERHEAD_BYTES;
                portion.records.push(record);
            }
            portion.next = Some(GroupCursor(id.clone()));
        }
        portion.next = None;
        portion
    }

    /// The leadership, and what an input has to do with beside it.
    fn surroundings<'a>(&'a mut self, time: Time, out: &'a mut Output) -> (Option<&'a mut Leading>, Surroundings<'a>) {
        let around = Surroundings {
            config: &self.config,
            breakage: self.breakage,
            state: &mut self.state,
            time,
            out,
        };
        (self.leading.as_mut(), around)
    }
}

/// A place between two groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupCursor(pub(crate) std::sync::Arc<str>);

/// A part of the state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatePortion {
    /// The records.
    pub records: Vec<Record>,
    /// The place after which the next portion begins; none after the last one.
    pub next: Option<GroupCursor>,
}
