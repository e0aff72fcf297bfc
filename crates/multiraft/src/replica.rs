//! One replica of one group: its core, its log, and who waits for it.

use crate::appends::{AppendError, AppendWaiters, PendingAppend};
use crate::damaged::Silence;
use crate::desk::{Desk, Issued};
use crate::handover::Handover;
use crate::in_sync::{Ends, InSync, InSyncView};
use crate::mailbox::{Completion, Contradiction, GroupStatus, LeaderChange, Outbox, RefusedEntries};
use crate::membership::Membership;
use crate::opening::{GroupOptions, Open};
use crate::preference::Preference;
use crate::producers::ProducerTable;
use crate::reads::{ReadError, ReadWaiters};
use crate::replication::Loads;
use crate::sabotage::Sabotage;
use crate::tails::Held;
use crate::timers::Armed;
use crate::unwritable::Unwritable;
use crate::upkeep::{Damage, Failure};
use bytes::Bytes;
use trimaran_raft::{
    Body, ChangeError, Config, Configuration, Entry, Event, Group, GroupId, Handled, HardState, Input as CoreInput,
    Instant, LogIndex, LogView, Message, NodeId, Output, Payload, Persist, ProposeError, Proposed, Recovered, Role,
    SafetyViolation, Term, Token, TransferError,
};
use trimaran_storage::log::{Entries, LogError, LogOptions, ReplicaLog};
use trimaran_storage::offsets::{HighWatermark, leader_epoch};
use trimaran_storage::producers::ProducedBatch;
use trimaran_wire::batch::{BatchHeader, Offset};

/// Committed payloads are delivered in pieces of about so many bytes, so that a long log is not in memory at once.
const DELIVERY_BYTES: u64 = 1 << 20;

/// One replica.
pub(crate) struct Replica {
    pub(crate) id: GroupId,
    /// Tells this opening of the group from an earlier one.
    pub(crate) opening: u64,
    pub(crate) group: Group,
    pub(crate) log: ReplicaLog,
    pub(crate) options: GroupOptions,
    /// The group's first configuration.
    pub(crate) founders: Vec<NodeId>,
    /// What was last written of it.
    pub(crate) hard_state: HardState,
    pub(crate) membership: Membership,
    pub(crate) producers: ProducerTable,
    /// How many of them the shard has counted.
    pub(crate) counted_producers: usize,
    /// Everything up to here is applied: at most the commit index.
    pub(crate) applied: LogIndex,
    /// Everything up to here was delivered, if perhaps by an earlier opening.
    pub(crate) delivered: LogIndex,
    /// Of `applied`.
    pub(crate) high_watermark: HighWatermark,
    /// Batches to be proposed at the end of the step.
    pub(crate) pending: Vec<PendingAppend>,
    pub(crate) waiters: AppendWaiters,
    pub(crate) reads: ReadWaiters,
    pub(crate) loads: Loads,
    pub(crate) in_sync: InSyncView,
    pub(crate) handover: Handover,
    pub(crate) preference: Preference,
    /// The newest token that came back during this step.
    pub(crate) returned: Option<Token>,
    /// What was last reported of a leader that contradicts this replica. Boxed: almost no replica ever has one.
    contradicted: Option<Box<Contradiction>>,
    /// What was last said about its leader, and its in-sync view.
    announced: Option<LeaderChange>,
    pub(crate) in_sync_announced: bool,
    /// When to write what is committed to a segment at the latest.
    pub(crate) flush_at: Option<Instant>,
    /// What the shard knows of its tail's memory.
    pub(crate) tail: Held,
    /// A flush job is out.
    pub(crate) is_flushing: bool,
    /// The write that starts the log over, until it is durable.
    pub(crate) resetting: Option<Token>,
    /// How the log failed during this step.
    pub(crate) failing: Option<LogError>,
    /// The log failed lately.
    pub(crate) failure: Option<Failure>,
    /// Its segments can't be written.
    pub(crate) unwritable: Option<Box<Unwritable>>,
    /// The log is damaged.
    pub(crate) damage: Option<Damage>,
    /// The log is damaged, or disagrees with the core: this replica takes no part any more.
    pub(crate) broken: bool,
    /// When the shard's wheel will call.
    pub(crate) armed: Armed,
    /// Whether it is in the list of those to be visited in this step.
    pub(crate) ready: bool,
}

/// What the core answers to those who ask it for something.
#[derive(Default)]
struct Answers {
    proposed: Option<Result<Proposed, ProposeError>>,
    changed: Option<Result<LogIndex, ChangeError>>,
}

impl Replica {
    pub(crate) fn open(open: Open, opening: u64, desk: &Desk) -> Replica {
        let Open {
            founders,
            wanted,
            keeps_learners,
            is_lost: _,
            log,
            hard_state,
            options,
            producers,
            delivered,
        } = open;
        let config = Config {
            id: desk.config.node,
            configuration: Configuration::of_voters(founders.iter().copied()),
            tuning: desk.config.tuning.clone(),
        };
        let recovered = Recovered {
            hard_state,
            committed: log.flushed_index(),
            configurations: log.configurations().to_vec(),
            ..Recovered::default()
        };
        let mut group = Group::new(config, recovered, desk.now, &log);
        desk.breakage.break_core(&mut group);
        let applied = log.first_index().prev();
        Replica {
            id: log.group(),
            opening,
            group,
            options,
            membership: Membership::new(wanted, keeps_learners, &log),
            founders,
            hard_state,
            producers: producers.made_at(desk.now),
            counted_producers: 0,
            applied,
            delivered,
            high_watermark: log.high_watermark(applied),
            log,
            pending: Vec::new(),
            waiters: AppendWaiters::default(),
            reads: ReadWaiters::default(),
            loads: Loads::default(),
            in_sync: InSyncView::default(),
            handover: Handover::default(),
            preference: Preference::default(),
            returned: None,
            contradicted: None,
            announced: None,
            in_sync_announced: false,
            flush_at: None,
            tail: Held::default(),
            is_flushing: false,
            resetting: None,
            failing: None,
            failure: None,
            unwritable: None,
            damage: None,
            broken: false,
            armed: Armed::default(),
            ready: false,
        }
    }

    /// A group that has never had an entry or a term.
    pub(crate) fn is_new(&self) -> bool {
        self.group.term() == Term::ZERO && self.log.last_index() == LogIndex::ZERO && !self.is_barred()
    }

    pub(crate) fn leads(&self) -> bool {
        self.group.role() == Role::Leader && !self.broken
    }

    /// It has lost what it had promised, and is not filled again.
    pub(crate) fn is_barred(&self) -> bool {
        self.hard_state.barred > self.group.durable()
    }

    pub(crate) fn is_failed(&self) -> bool {
        self.failing.is_some() || self.broken || self.failure.is_some() || self.damage.is_some()
    }

    /// The log could not be read or written: leadership is given up at the end of the step. Damage weighs more than
    /// anything else that comes with it.
    pub(crate) fn note_failure(&mut self, error: LogError) {
        if self.failing.is_none() || error.is_damage() {
            self.failing = Some(error);
        }
    }

    /// Tells the core one of several things that have arrived. What follows is done when the replica is settled, in one
    /// go for all of them: a burst of appends costs one write and one acknowledgement, a burst of acknowledgements one
    /// look at the commit index. What can't be put off is done at once.
    pub(crate) fn tell(&mut self, input: CoreInput, desk: &mut Desk, out: &mut Outbox) {
        if self.broken {
            return self.silence(desk).hear(&input, out);
        }
        let mut output = core::mem::take(&mut desk.core_output);
        let told = self.group.handle(desk.now, input, &self.log, &mut output);
        if told == Handled::Full {
            self.group.ready(desk.now, &self.log, &mut output);
        }
        self.carry_out(&mut output, desk, out);
        desk.core_output = output;
    }

    /// Does what follows from all that the core was told, or what is due.
    fn decide(&mut self, desk: &mut Desk, out: &mut Outbox) {
        let is_due = self.group.deadline().is_some_and(|deadline| deadline <= desk.now);
        if self.broken || !self.group.has_ready() && !is_due {
            return;
        }
        let mut output = core::mem::take(&mut desk.core_output);
        self.group.ready(desk.now, &self.log, &mut output);
        self.carry_out(&mut output, desk, out);
        desk.core_output = output;
    }

    /// Tells the core one thing and does what it decided.
    pub(crate) fn step(&mut self, input: CoreInput, desk: &mut Desk, out: &mut Outbox) {
        self.step_for_answers(input, desk, out);
    }

    /// The core's answer to a proposal.
    pub(crate) fn step_propose(
        &mut self,
        payloads: Vec<Bytes>,
        desk: &mut Desk,
        out: &mut Outbox,
    ) -> Result<Proposed, ProposeError> {
        let answers = self.step_for_answers(CoreInput::Propose(payloads), desk, out);
        answers.proposed.unwrap_or(Err(ProposeError::NotLeader(None)))
    }

    /// The core's answer to a change of the members.
    pub(crate) fn step_change(
        &mut self,
        target: Configuration,
        desk: &mut Desk,
        out: &mut Outbox,
    ) -> Result<LogIndex, ChangeError> {
        let answers = self.step_for_answers(CoreInput::Change(target), desk, out);
        answers.changed.unwrap_or(Err(ChangeError::NotLeader(None)))
    }

    fn step_for_answers(&mut self, input: CoreInput, desk: &mut Desk, out: &mut Outbox) -> Answers {
        if self.broken {
            self.silence(desk).hear(&input, out);
            return Answers::default();
        }
        let mut output = core::mem::take(&mut desk.core_output);
        self.group.step(desk.now, input, &self.log, &mut output);
        self.carry_out(&mut output, desk, out);
        let answers = Answers {
            proposed: output.proposed.take(),
            changed: output.changed.take(),
        };
        desk.core_output = output;
        answers
    }

    /// A message from another member. Any message may be lost, so this is also the place to lose those that would do
    /// harm.
    pub(crate) fn receive(&mut self, from: NodeId, mut message: Message, desk: &mut Desk, out: &mut Outbox) {
        if self.is_lost_on_the_way(from, &mut message, desk, out) {
            return;
        }
        // Who can't read its log, or leaves, is no one to hand over to: the old leader leads on.
        if matches!(message.body, Body::TimeoutNow) && (desk.is_leaving || self.is_failed()) {
            return;
        }
        // Entries that are no record batches never get to the core.
        if let Body::Append { entries, .. } = &message.body
            && !are_well_formed(entries)
        {
            return;
        }
        if let Body::Snapshot { snapshot, .. } = &message.body
            && !self.can_begin_at(snapshot)
        {
            return;
        }
        let input = CoreInput::Message(from, message);
        // A member that was lost while it led is taken for the leader by those that have not heard of it.
        if self.hard_state.barred == LogIndex::MAX {
            self.silence(desk).hear(&input, out);
        }
        self.tell(input, desk, out);
    }

    fn carry_out(&mut self, output: &mut Output, desk: &mut Desk, out: &mut Outbox) {
        if let Some(persist) = output.persist.take() {
            self.persist(persist, desk, out);
        }
        for (to, message) in output.messages.drain(..) {
            out.send(to, self.id, message);
        }
        for plan in output.appends.drain(..) {
            self.replicate(plan, desk, out);
        }
        output.committed = None;
        self.complete_appends(desk, out);
        for event in output.events.drain(..) {
            self.heed(event, desk, out);
        }
    }

    /// The log takes a write at once; the journal takes it with everything else of this step.
    fn persist(&mut self, persist: Persist, desk: &mut Desk, out: &mut Outbox) {
        let Persist {
            token,
            hard_state,
            reset,
            truncate_from,
            entries,
        } = persist;
        if let Some(snapshot) = &reset {
            self.begin_anew(snapshot, token, desk.now, out);
        }
        if let Some(from) = truncate_from {
            self.log.truncate_from(from);
            self.producers.truncate(from);
        }
        if let Err(error) = self.log.append(&entries) {
            // A leader stamped its entries itself. What a follower gets may be wrong; it is not journaled, so its token
            // never returns, and nothing that depends on it can leave: this replica is out of the game.
            assert!(
                !self.leads(),
                "a leader's own entries don't continue its log: {error:?}"
            );
            self.broken = true;
            out.refused.push(RefusedEntries {
                group: self.id,
                leader: self.group.leader(),
                term: self.group.term(),
                error,
            });
            return self.silence(desk).begin(self.group.configuration().members(), out);
        }
        // A leader notes its producers' batches as it proposes them, with what it knows of them already.
        if !self.leads() && !desk.breakage.is(Sabotage::ForgetProducers) {
            entries.iter().for_each(|entry| self.note_producer(entry, desk.now));
        }
        #[cfg(feature = "sabotage")]
        let hard_state = match desk.breakage.is(Sabotage::HardStateLater) {
            true => desk.breakage.postpone(self.id, hard_state),
            false => hard_state,
        };
        if let Some(hard_state) = hard_state {
            out.journal.hard_state(self.id, hard_state);
            self.hard_state = hard_state;
        }
        if let Some(from) = truncate_from {
            out.journal.truncate(self.id, from);
        }
        if !entries.is_empty() {
            out.journal.entries(self.id, &entries);
        }
        desk.issued.push_back(Issued {
            sequence: desk.next_sequence(),
            group: self.id,
            opening: self.opening,
            token,
        });
    }

    pub(crate) fn silence(&self, desk: &Desk) -> Silence {
        Silence {
            own: desk.config.node,
            group: self.id,
            term: self.group.term(),
        }
    }

    fn note_producer(&mut self, entry: &Entry, now: Instant) {
        let Payload::Data(bytes) = &entry.payload else { return };
        let Ok(header) = BatchHeader::parse(bytes) else { return };
        if let Some(batch) = ProducedBatch::of_header(entry.index, header.base_offset, &header) {
            self.producers.note(batch, self.group.commit(), now);
        }
    }

    fn heed(&mut self, event: Event, desk: &mut Desk, out: &mut Outbox) {
        match event {
            Event::LeaderChanged { role, .. } => self.change_leader(role, desk, out),
            Event::TransferFailed { error, .. } => {
                self.note_refusal(desk);
                self.end_handover(Err(error), desk, out);
            }
            Event::Campaigned { .. } => out.elections += 1,
            // Both are seen in the core's state when the step ends; what was truncated went with its write.
            Event::Serving { .. } | Event::Truncated { .. } => {}
            Event::NeedsSnapshot(to) => self.send_position(to, desk, out),
            Event::ConfigurationChanged { index, .. } => self.note_configuration(index, desk),
            Event::MemberLost(_) => self.membership.look_again(),
            Event::SafetyViolated {
                leader,
                term,
                violation,
            } => self.report_contradiction(leader, term, violation, out),
        }
    }

    fn report_contradiction(&mut self, leader: NodeId, term: Term, violation: SafetyViolation, out: &mut Outbox) {
        let contradiction = Contradiction {
            group: self.id,
            leader,
            term,
            violation,
        };
        if self.contradicted.as_deref() != Some(&contradiction) {
            self.contradicted = Some(Box::new(contradiction));
            out.contradictions.push(contradiction);
        }
    }

    /// A new term, another leader or another role: what was promised under the old one is over.
    fn change_leader(&mut self, role: Role, desk: &mut Desk, out: &mut Outbox) {
        if !desk.breakage.is(Sabotage::KeepWaiters) {
            self.waiters.fail_all(&AppendError::Lost, out);
        }
        self.loads.clear();
        self.end_giving_back();
        if let Some(leader) = self.group.leader() {
            self.membership.note_leader(leader);
        }
        if role == Role::Leader {
            self.in_sync.begin(desk.config.node, self.group.voters());
            self.membership.look_again();
            self.end_handover(Err(TransferError::TimedOut), desk, out);
        } else {
            self.in_sync.end();
            if self.group.leader().is_some() {
                self.end_handover(Ok(()), desk, out);
            }
        }
        self.in_sync_announced = false;
    }

    /// Everything that follows from what this step brought.
    pub(crate) fn settle(&mut self, desk: &mut Desk, out: &mut Outbox) {
        self.decide(desk, out);
        self.apply(desk, out);
        self.update_in_sync(desk, out);
        self.propose(desk, out);
        self.apply(desk, out);
        self.mind_failure(desk, out);
        self.mind_damage(desk, out);
        self.mind_members(desk, out);
        let leadership_changed = self.announce(out);
        self.wake_reads(leadership_changed, desk, out);
        self.note_tail(desk);
        self.flush_if_due(desk, out);
        self.trim_producers(desk, out);
        self.clear_aside();
        self.mind_preference(desk);
        self.arm(desk);
    }

    /// Applies what is committed. For a partition that means: it may be read.
    pub(crate) fn apply(&mut self, desk: &mut Desk, out: &mut Outbox) {
        while self.applied < self.group.commit() && !self.broken {
            let commit = self.group.commit();
            if self.options.deliver
                && let Err(error) = self.deliver(commit, desk, out)
            {
                return self.note_failure(error);
            }
            self.applied = commit;
            self.high_watermark = self.log.high_watermark(commit);
            self.tell(CoreInput::Applied(commit), desk, out);
        }
        if desk.breakage.is(Sabotage::ShowDurable) && self.leads() {
            self.high_watermark = self.log.high_watermark(self.group.durable());
        }
    }

    fn deliver(&mut self, commit: LogIndex, desk: &Desk, out: &mut Outbox) -> Result<(), LogError> {
        while self.applied < commit {
            let first = self.applied.next();
            let (last, _) = self.log.fit(first, commit, DELIVERY_BYTES);
            let entries = match self.log.entries(first, last)? {
                Entries::Ready(entries) => entries,
                // Only at start: afterwards what is committed is still at hand.
                Entries::Load(job) => job.run()?,
            };
            let skipped = usize::from(desk.breakage.is(Sabotage::SkipAtPageEnd) && entries.len() > 1);
            for entry in entries.into_iter().skip(skipped) {
                if let Payload::Data(bytes) = entry.payload
                    && entry.index > self.delivered
                {
                    out.committed.push((self.id, entry.index, bytes));
                }
            }
            self.applied = last;
            self.delivered = self.delivered.max(last);
        }
        Ok(())
    }

    fn update_in_sync(&mut self, desk: &Desk, out: &mut Outbox) {
        if !self.leads() || !self.group.is_serving() {
            return;
        }
        let ends = Ends {
            commit: self.group.commit(),
            last: self.log.last_index(),
        };
        let group = &self.group;
        let changed = self
            .in_sync
            .update(desk.now, desk.config.replica_lag, ends, |node| group.progress(node));
        if changed || !self.in_sync_announced {
            self.in_sync_announced = true;
            let replicas = self.in_sync.replicas();
            out.in_sync.push(InSync {
                group: self.id,
                term: self.group.term(),
                replicas,
            });
            self.fail_unreachable_appends(out);
        }
    }

    /// Says who leads if that changed; true if so.
    fn announce(&mut self, out: &mut Outbox) -> bool {
        let change = self.leader_change();
        if self.announced == Some(change) {
            return false;
        }
        self.announced = Some(change);
        out.leaders.push(change);
        true
    }

    fn leader_change(&self) -> LeaderChange {
        LeaderChange {
            group: self.id,
            term: self.group.term(),
            leader: self.believed_leader(),
            serving: self.group.is_serving() && !self.is_failed(),
        }
    }

    /// A replica that takes no part knows of nobody.
    fn believed_leader(&self) -> Option<NodeId> {
        self.group.leader().filter(|_| !self.broken)
    }

    pub(crate) fn configure(&mut self, options: GroupOptions, log: LogOptions) {
        // Whether payloads are delivered is for life: what was applied before can't be delivered later.
        let deliver = self.options.deliver;
        self.options = GroupOptions { deliver, ..options };
        // `min.insync.replicas` may have risen beyond what there is.
        self.in_sync_announced = false;
        self.log.reconfigure(log);
    }

    /// The group is gone: everybody who waits is told.
    pub(crate) fn close(&mut self, desk: &mut Desk, out: &mut Outbox) {
        self.refuse_pending(&AppendError::UnknownGroup, out);
        self.waiters.fail_all(&AppendError::UnknownGroup, out);
        self.reads.fail_all(&ReadError::UnknownGroup, desk, out);
        self.end_handover(Err(TransferError::NotLeader), desk, out);
        if self.leads() {
            self.leave_followers(desk, out);
        }
        out.journal.forget(self.id);
    }

    /// A leader's replica is closed: those that follow it don't wait to find out.
    fn leave_followers(&self, desk: &Desk, out: &mut Outbox) {
        let others = self.group.configuration().members();
        for member in others.filter(|member| *member != desk.config.node) {
            let (term, body) = (self.group.term(), Body::Seek);
            out.send(member, self.id, Message { term, body });
        }
    }

    /// Tells requests that have not been proposed yet.
    pub(crate) fn refuse_pending(&mut self, error: &AppendError, out: &mut Outbox) {
        for append in self.pending.drain(..) {
            out.completions
                .push((append.ticket, Completion::Appended(Err(error.clone()))));
        }
    }

    pub(crate) fn status(&self) -> GroupStatus {
        GroupStatus {
            group: self.id,
            voters: self.group.voters().to_vec(),
            outgoing: self.group.configuration().outgoing.clone(),
            learners: self.group.configuration().learners.clone(),
            repairing: self.group.is_lost(),
            failed: self.is_failed(),
            role: if self.broken { Role::Follower } else { self.group.role() },
            term: self.group.term(),
            leader: self.believed_leader(),
            serving: self.group.is_serving() && !self.is_failed(),
            commit: self.group.commit(),
            last_index: self.log.last_index(),
            high_watermark: self.high_watermark,
            start_offset: self.log.start_offset(),
            next_offset: self.log.next_offset(),
            in_sync: if self.leads() {
                self.in_sync.replicas()
            } else {
                Vec::new()
            },
            progress: self.group.status().progress,
            size_bytes: self.log.size_bytes(),
        }
    }

    /// Asks the wheel for a call when there is something to do, unless it will call sooner anyway.
    fn arm(&mut self, desk: &mut Desk) {
        let core = if self.broken { None } else { self.group.deadline() };
        let in_sync = self.in_sync.deadline(desk.config.replica_lag);
        let failure = self.failure.map(|failure| failure.deadline(desk.now));
        let damage = self.damage.as_ref().and_then(Damage::deadline);
        let members = self.membership.deadline();
        let next = [core, in_sync, self.flush_at, failure, damage, members];
        let next = next.into_iter().flatten().min();
        if let Some(next) = next
            && self.armed.needs(next)
        {
            desk.timers.insert(next, crate::desk::Timer::Group(self.id));
        }
    }
}

/// Whether each entry that carries anything is one record batch, stamped with its term, with offsets that continue.
fn are_well_formed(entries: &[Entry]) -> bool {
    let mut next_offset: Option<Offset> = None;
    entries.iter().all(|entry| {
        let bytes = match &entry.payload {
            Payload::Blank => return true,
            Payload::Data(bytes) => bytes,
            Payload::Configuration(configuration) => return configuration.check().is_ok(),
        };
        let Ok(header) = BatchHeader::parse_only(bytes) else {
            return false;
        };
        let continues = next_offset.is_none_or(|expected| expected == header.base_offset);
        next_offset = Some(header.next_offset());
        continues && header.leader_epoch == leader_epoch(entry.term)
    })
}
