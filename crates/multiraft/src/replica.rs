//! One replica of one group: its core, its log, and its parts.

mod appends;
mod handover;
mod leader_rebalance;
mod membership;
mod producers;
mod reads;
mod replication;
mod snapshots;
mod unwritable;
mod upkeep;

use crate::abstention::Abstention;
use crate::appends::{AppendWaiters, PendingAppend};
use crate::handover::Handover;
use crate::health::Health;
use crate::in_sync::{Ends, InSyncView};
use crate::leader_rebalance::RebalanceState;
use crate::loads::Loads;
use crate::mailbox::{Completion, Contradiction, GroupStatus, LeaderChange, Outbox, RefusedEntries};
use crate::membership::Membership;
use crate::opening::Open;
use crate::producers::ProducerTable;
use crate::reads::ReadWaiters;
use crate::requests::{AppendError, GroupOptions, InSync, ReadError};
use crate::sabotage::Sabotage;
use crate::step_context::{Issued, StepContext};
use crate::tails::Held;
use crate::timers::Armed;
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
    /// The hard state that was last written.
    pub(crate) hard_state: HardState,
    pub(crate) membership: Membership,
    pub(crate) producers: ProducerTable,
    /// How many of them the shard has counted.
    pub(crate) counted_producers: usize,
    pub(crate) applied: Applied,
    pub(crate) appends: Appends,
    pub(crate) reads: ReadWaiters,
    pub(crate) loads: Loads,
    pub(crate) in_sync: InSyncView,
    pub(crate) handover: Handover,
    pub(crate) leader_rebalance: RebalanceState,
    pub(crate) announced: Announced,
    pub(crate) flush: FlushState,
    /// Records before it may be deleted, whatever retention says.
    pub(crate) trim_before: Offset,
    pub(crate) health: Health,
    pub(crate) schedule: Schedule,
}

/// How far the log is applied.
#[derive(Debug)]
pub(crate) struct Applied {
    /// Everything up to here is applied: at most the commit index.
    pub(crate) index: LogIndex,
    /// Everything up to here was delivered, if perhaps by an earlier opening.
    pub(crate) delivered: LogIndex,
    /// Of `index`.
    pub(crate) high_watermark: HighWatermark,
}

/// The batches that came in, and the tickets that wait for theirs.
#[derive(Debug, Default)]
pub(crate) struct Appends {
    /// Batches to be proposed at the end of the step.
    pub(crate) pending: Vec<PendingAppend>,
    pub(crate) waiters: AppendWaiters,
}

/// The last reports of this replica.
#[derive(Debug, Default)]
pub(crate) struct Announced {
    /// The leader.
    leader: Option<LeaderChange>,
    /// The leader that contradicts this replica. Boxed: almost no replica ever has one.
    contradiction: Option<Box<Contradiction>>,
    /// Whether the in-sync view is as it was reported.
    pub(crate) in_sync: bool,
}

/// How far what is committed is written to segments.
#[derive(Debug, Default)]
pub(crate) struct FlushState {
    /// When to flush at the latest.
    pub(crate) due_at: Option<Instant>,
    /// A flush job is out.
    pub(crate) is_running: bool,
    /// The write that starts the log over, until it is durable.
    pub(crate) resetting: Option<Token>,
    /// The memory of the log's tail, as the shard knows it.
    pub(crate) tail: Held,
}

/// The shard's visits to this replica.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    /// When the shard's timers expire.
    pub(crate) armed: Armed,
    /// Whether it is in the list of those to be visited in this step.
    pub(crate) is_ready: bool,
    /// The newest token that came back during this step.
    pub(crate) returned: Option<Token>,
}

/// The core's answers to requests.
#[derive(Default)]
struct Answers {
    proposed: Option<Result<Proposed, ProposeError>>,
    changed: Option<Result<LogIndex, ChangeError>>,
}

impl Replica {
    pub(crate) fn open(open: Open, opening: u64, context: &StepContext) -> Replica {
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
            id: context.config.node,
            configuration: Configuration::of_voters(founders.iter().copied()),
            tuning: context.config.tuning.clone(),
        };
        let recovered = Recovered {
            hard_state,
            committed: log.flushed_index(),
            configurations: log.configurations().to_vec(),
            ..Recovered::default()
        };
        let mut group = Group::new(config, recovered, context.now, &log);
        context.breakage.break_core(&mut group);
        let applied = log.first_index().prev();
        Replica {
            id: log.group(),
            opening,
            group,
            options,
            membership: Membership::new(wanted, keeps_learners, &log),
            founders,
            hard_state,
            producers: producers.made_at(context.now),
            counted_producers: 0,
            applied: Applied {
                index: applied,
                delivered,
                high_watermark: log.high_watermark(applied),
            },
            log,
            appends: Appends::default(),
            reads: ReadWaiters::default(),
            loads: Loads::default(),
            in_sync: InSyncView::default(),
            handover: Handover::default(),
            trim_before: Offset::ZERO,
            leader_rebalance: RebalanceState::default(),
            announced: Announced::default(),
            flush: FlushState::default(),
            health: Health::default(),
            schedule: Schedule::default(),
        }
    }

    /// A group that has never had an entry or a term.
    pub(crate) fn is_new(&self) -> bool {
        self.group.term() == Term::ZERO && self.log.last_index() == LogIndex::ZERO && !self.is_barred()
    }

    pub(crate) fn leads(&self) -> bool {
        self.group.role() == Role::Leader && !self.health.abstains
    }

    /// Whether it has lost what it had promised, and is not filled again.
    pub(crate) fn is_barred(&self) -> bool {
        self.hard_state.barred > self.group.durable()
    }

    pub(crate) fn is_failed(&self) -> bool {
        self.health.is_failed()
    }

    /// Tells the core one of several things that have arrived. What follows is done when the replica is settled, in one
    /// go for all of them: a burst of appends costs one write and one acknowledgement, a burst of acknowledgements one
    /// look at the commit index. What can't be put off is done at once.
    pub(crate) fn tell(&mut self, input: CoreInput, context: &mut StepContext, out: &mut Outbox) {
        if self.health.abstains {
            return self.abstention(context).answer(&input, out);
        }
        let mut output = core::mem::take(&mut context.core_output);
        let told = self.group.handle(context.now, input, &self.log, &mut output);
        if told == Handled::Full {
            self.group.ready(context.now, &self.log, &mut output);
        }
        self.carry_out(&mut output, context, out);
        context.core_output = output;
    }

    /// Does what follows from all that the core was told, or what is due.
    fn decide(&mut self, context: &mut StepContext, out: &mut Outbox) {
        let is_due = self.group.deadline().is_some_and(|deadline| deadline <= context.now);
        if self.health.abstains || !self.group.has_ready() && !is_due {
            return;
        }
        let mut output = core::mem::take(&mut context.core_output);
        self.group.ready(context.now, &self.log, &mut output);
        self.carry_out(&mut output, context, out);
        context.core_output = output;
    }

    /// Tells the core one thing and does what it decided.
    pub(crate) fn step(&mut self, input: CoreInput, context: &mut StepContext, out: &mut Outbox) {
        self.step_for_answers(input, context, out);
    }

    /// The core's answer to a proposal.
    pub(crate) fn step_propose(
        &mut self,
        payloads: Vec<Bytes>,
        context: &mut StepContext,
        out: &mut Outbox,
    ) -> Result<Proposed, ProposeError> {
        let answers = self.step_for_answers(CoreInput::Propose(payloads), context, out);
        answers.proposed.unwrap_or(Err(ProposeError::NotLeader(None)))
    }

    /// The core's answer to a change of the members.
    pub(crate) fn step_change(
        &mut self,
        target: Configuration,
        context: &mut StepContext,
        out: &mut Outbox,
    ) -> Result<LogIndex, ChangeError> {
        let answers = self.step_for_answers(CoreInput::Change(target), context, out);
        answers.changed.unwrap_or(Err(ChangeError::NotLeader(None)))
    }

    fn step_for_answers(&mut self, input: CoreInput, context: &mut StepContext, out: &mut Outbox) -> Answers {
        if self.health.abstains {
            self.abstention(context).answer(&input, out);
            return Answers::default();
        }
        let mut output = core::mem::take(&mut context.core_output);
        self.group.step(context.now, input, &self.log, &mut output);
        self.carry_out(&mut output, context, out);
        let answers = Answers {
            proposed: output.proposed.take(),
            changed: output.changed.take(),
        };
        context.core_output = output;
        answers
    }

    /// A message from another member. Any message may be lost, so this is also the place to lose those that would do
    /// harm.
    pub(crate) fn receive(&mut self, from: NodeId, mut message: Message, context: &mut StepContext, out: &mut Outbox) {
        if self.drops(from, &mut message, context, out) {
            return;
        }
        // A replica that can't read its log, or drains, takes nothing over: the old leader leads on.
        if matches!(message.body, Body::TimeoutNow) && (context.is_draining || self.is_failed()) {
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
            self.abstention(context).answer(&input, out);
        }
        self.tell(input, context, out);
    }

    fn carry_out(&mut self, output: &mut Output, context: &mut StepContext, out: &mut Outbox) {
        if let Some(persist) = output.persist.take() {
            self.persist(persist, context, out);
        }
        for (to, message) in output.messages.drain(..) {
            out.send(to, self.id, message);
        }
        for plan in output.appends.drain(..) {
            self.replicate(plan, context, out);
        }
        output.committed = None;
        self.complete_appends(context, out);
        for event in output.events.drain(..) {
            self.handle_event(event, context, out);
        }
    }

    /// The log takes a write at once; the journal takes it with everything else of this step.
    fn persist(&mut self, persist: Persist, context: &mut StepContext, out: &mut Outbox) {
        let Persist {
            token,
            hard_state,
            reset,
            truncate_from,
            entries,
        } = persist;
        if let Some(snapshot) = &reset {
            self.reset_log(snapshot, token, context.now, out);
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
            self.health.abstains = true;
            out.refused.push(RefusedEntries {
                group: self.id,
                leader: self.group.leader(),
                term: self.group.term(),
                error,
            });
            return self
                .abstention(context)
                .announce(self.group.configuration().members(), out);
        }
        // A leader notes its producers' batches as it proposes them, with what it knows of them already.
        if !self.leads() && !context.breakage.is(Sabotage::ForgetProducers) {
            entries.iter().for_each(|entry| self.note_producer(entry, context.now));
        }
        #[cfg(feature = "sabotage")]
        let hard_state = match context.breakage.is(Sabotage::HardStateLater) {
            true => context.breakage.postpone(self.id, hard_state),
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
        context.issued.push_back(Issued {
            sequence: context.next_sequence(),
            group: self.id,
            opening: self.opening,
            token,
        });
    }

    pub(crate) fn abstention(&self, context: &StepContext) -> Abstention {
        Abstention {
            own: context.config.node,
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

    fn handle_event(&mut self, event: Event, context: &mut StepContext, out: &mut Outbox) {
        match event {
            Event::LeaderChanged { role, .. } => self.change_leader(role, context, out),
            Event::TransferFailed { error, .. } => {
                self.note_rebalance_failure(context);
                self.end_handover(Err(error), context, out);
            }
            Event::Campaigned { .. } => out.elections += 1,
            // Both are seen in the core's state when the step ends; what was truncated went with its write.
            Event::Serving { .. } | Event::Truncated { .. } => {}
            Event::NeedsSnapshot(to) => self.send_position(to, context, out),
            Event::ConfigurationChanged { index, .. } => self.note_configuration(index, context),
            Event::MemberLost(_) => self.membership.reconsider(),
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
        if self.announced.contradiction.as_deref() != Some(&contradiction) {
            self.announced.contradiction = Some(Box::new(contradiction));
            out.contradictions.push(contradiction);
        }
    }

    /// A new term, another leader or another role: what was promised under the old one is over.
    fn change_leader(&mut self, role: Role, context: &mut StepContext, out: &mut Outbox) {
        if !context.breakage.is(Sabotage::KeepWaiters) {
            self.appends.waiters.fail_all(&AppendError::Lost, out);
        }
        self.loads.clear();
        self.leader_rebalance.end();
        if let Some(leader) = self.group.leader() {
            self.membership.note_leader(leader);
        }
        if role == Role::Leader {
            self.in_sync.begin(context.config.node, self.group.voters());
            self.membership.reconsider();
            self.end_handover(Err(TransferError::TimedOut), context, out);
        } else {
            self.in_sync.end();
            if self.group.leader().is_some() {
                self.end_handover(Ok(()), context, out);
            }
        }
        self.announced.in_sync = false;
    }

    /// Everything that follows from what this step brought.
    pub(crate) fn finish_step(&mut self, context: &mut StepContext, out: &mut Outbox) {
        self.decide(context, out);
        self.apply(context, out);
        self.update_in_sync(context, out);
        self.propose(context, out);
        self.apply(context, out);
        self.check_failure(context, out);
        self.check_damage(context, out);
        self.advance_members(context, out);
        let leadership_changed = self.announce(out);
        self.wake_reads(leadership_changed, context, out);
        self.note_tail(context);
        self.flush_if_due(context, out);
        self.trim_producers(context, out);
        self.delete_quarantine();
        self.queue_leader_rebalance(context);
        self.arm(context);
    }

    /// Applies what is committed. For a partition that means: it may be read.
    pub(crate) fn apply(&mut self, context: &mut StepContext, out: &mut Outbox) {
        while self.applied.index < self.group.commit() && !self.health.abstains {
            let commit = self.group.commit();
            if self.options.deliver
                && let Err(error) = self.deliver(commit, context, out)
            {
                return self.health.note(error);
            }
            self.applied.index = commit;
            self.applied.high_watermark = self.log.high_watermark(commit);
            self.tell(CoreInput::Applied(commit), context, out);
        }
        if context.breakage.is(Sabotage::ShowDurable) && self.leads() {
            self.applied.high_watermark = self.log.high_watermark(self.group.durable());
        }
    }

    fn deliver(&mut self, commit: LogIndex, context: &StepContext, out: &mut Outbox) -> Result<(), LogError> {
        while self.applied.index < commit {
            let first = self.applied.index.next();
            let (last, _) = self.log.fit(first, commit, DELIVERY_BYTES);
            let entries = match self.log.entries(first, last)? {
                Entries::Ready(entries) => entries,
                // Only at start: afterwards what is committed is still at hand.
                Entries::Load(job) => job.run()?,
            };
            let skipped = usize::from(context.breakage.is(Sabotage::SkipAtPageEnd) && entries.len() > 1);
            for entry in entries.into_iter().skip(skipped) {
                if let Payload::Data(bytes) = entry.payload
                    && entry.index > self.applied.delivered
                {
                    out.committed.push((self.id, entry.index, bytes));
                }
            }
            self.applied.index = last;
            self.applied.delivered = self.applied.delivered.max(last);
        }
        Ok(())
    }

    fn update_in_sync(&mut self, context: &StepContext, out: &mut Outbox) {
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
            .update(context.now, context.config.replica_lag, ends, |node| {
                group.progress(node)
            });
        if changed || !self.announced.in_sync {
            self.announced.in_sync = true;
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
        if self.announced.leader == Some(change) {
            return false;
        }
        self.announced.leader = Some(change);
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
        self.group.leader().filter(|_| !self.health.abstains)
    }

    pub(crate) fn configure(&mut self, options: GroupOptions, log: LogOptions) {
        // Whether payloads are delivered is for life: what was applied before can't be delivered later.
        let deliver = self.options.deliver;
        self.options = GroupOptions { deliver, ..options };
        // `min.insync.replicas` may have risen beyond what there is.
        self.announced.in_sync = false;
        self.log.reconfigure(log);
    }

    /// The group is gone: all requests that wait are answered.
    pub(crate) fn close(&mut self, context: &mut StepContext, out: &mut Outbox) {
        self.refuse_pending(&AppendError::UnknownGroup, out);
        self.appends.waiters.fail_all(&AppendError::UnknownGroup, out);
        self.reads.fail_all(&ReadError::UnknownGroup, context, out);
        self.end_handover(Err(TransferError::NotLeader), context, out);
        if self.leads() {
            self.notify_followers(context, out);
        }
        out.journal.forget(self.id);
    }

    /// A leader's replica is closed: those that follow it don't wait to find out.
    fn notify_followers(&self, context: &StepContext, out: &mut Outbox) {
        let others = self.group.configuration().members();
        for member in others.filter(|member| *member != context.config.node) {
            let (term, body) = (self.group.term(), Body::Seek);
            out.send(member, self.id, Message { term, body });
        }
    }

    /// Tells requests that have not been proposed yet.
    pub(crate) fn refuse_pending(&mut self, error: &AppendError, out: &mut Outbox) {
        for append in self.appends.pending.drain(..) {
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
            role: if self.health.abstains {
                Role::Follower
            } else {
                self.group.role()
            },
            term: self.group.term(),
            leader: self.believed_leader(),
            serving: self.group.is_serving() && !self.is_failed(),
            commit: self.group.commit(),
            last_index: self.log.last_index(),
            high_watermark: self.applied.high_watermark,
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

    /// Sets a timer for when there is something to do, unless one expires sooner anyway.
    fn arm(&mut self, context: &mut StepContext) {
        let core = if self.health.abstains {
            None
        } else {
            self.group.deadline()
        };
        let in_sync = self.in_sync.deadline(context.config.replica_lag);
        let health = self.health.deadline(context.now);
        let members = self.membership.deadline();
        let next = [core, in_sync, self.flush.due_at, health, members];
        let next = next.into_iter().flatten().min();
        if let Some(next) = next
            && self.schedule.armed.needs(next)
        {
            context.timers.insert(next, crate::step_context::Timer::Group(self.id));
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
