//! A shard: the groups that one thread drives, from mailbox to outbox.

use crate::abstention::absent;
use crate::appends::PendingAppend;
use crate::config::ShardConfig;
use crate::drain::Drain;
use crate::mailbox::{Completion, Input, Outbox, Ticket, TransferOutcome};
use crate::numbers::NumberMap;
use crate::opening::{Damaged, Open};
use crate::replica::Replica;
use crate::requests::{AppendError, OffsetQuery, ReadError, ReadRequest};
use crate::sabotage::Sabotage;
use crate::step_context::{StepContext, Timer};
use std::collections::{BTreeMap, BTreeSet};
use trimaran_raft::{Group, GroupId, Input as CoreInput, Instant, Liveness, Message, NodeId, TransferError};
use trimaran_storage::log::ReplicaLog;
use trimaran_wire::batch::LeaderEpoch;

/// All the groups that one thread drives. Sans-I/O but for what the logs read.
pub struct Shard {
    context: StepContext,
    replicas: NumberMap<GroupId, Box<Replica>>,
    /// Replicas that take no part: usually none. Never here and in `replicas` as well.
    damaged: BTreeMap<GroupId, Damaged>,
    /// Closed replicas whose last flush is still out: it writes to their folders.
    closing: BTreeSet<GroupId>,
    /// Which groups have a node as a member.
    by_node: BTreeMap<NodeId, BTreeSet<GroupId>>,
    /// The brokers that are not simply alive.
    liveness: BTreeMap<NodeId, Liveness>,
    /// Nodes that a group's messages reach by another way than the link that their liveness is about.
    rerouted: BTreeMap<GroupId, BTreeSet<NodeId>>,
    /// Groups to be visited at the end of the step.
    ready: Vec<GroupId>,
    /// Groups whose members have changed; reused.
    moved: Vec<GroupId>,
    /// Groups whose tokens came back; reused.
    returned: Vec<GroupId>,
    due: Vec<Timer>,
    drain: Option<Drain>,
    openings: u64,
    visited: u64,
}

impl Shard {
    /// A shard without groups.
    pub fn new(config: ShardConfig, now: Instant) -> Shard {
        let context = StepContext::new(config, now);
        Shard {
            context,
            replicas: NumberMap::default(),
            damaged: BTreeMap::new(),
            closing: BTreeSet::new(),
            by_node: BTreeMap::new(),
            liveness: BTreeMap::new(),
            rerouted: BTreeMap::new(),
            ready: Vec::new(),
            moved: Vec::new(),
            returned: Vec::new(),
            due: Vec::new(),
            drain: None,
            openings: 0,
            visited: 0,
        }
    }

    /// Drains `inputs`, steps every group that has input or whose timer is due, and says what follows. Time never goes
    /// back: an earlier `now` counts as the latest one seen.
    pub fn step(&mut self, now: Instant, inputs: &mut Vec<Input>, out: &mut Outbox) {
        self.context.now = self.context.now.max(now);
        for input in inputs.drain(..) {
            self.take(input, out);
        }
        self.take_timers(out);
        self.finish_step(out);
        self.begin_parked_loads(out);
        self.rebalance(out);
        self.continue_drain(out);
        self.shed_tails();
        if !out.journal.is_empty() {
            self.context.sequence += 1;
        }
        out.sequence = self.context.sequence;
    }

    /// When to step next if nothing else happens.
    pub fn deadline(&self) -> Option<Instant> {
        self.context.timers.deadline()
    }

    /// Groups visited by all steps so far, for the metrics: idle ones are not.
    pub fn visited(&self) -> u64 {
        self.visited
    }

    /// A group's member and its log, to look at; none if the group is not on this shard. The simulation's checkers see
    /// by it what no message shows.
    pub fn replica(&self, group: GroupId) -> Option<(&Group, &ReplicaLog)> {
        let replica = self.replicas.get(&group)?;
        Some((&replica.group, &replica.log))
    }

    /// Bytes that the tails of all logs take.
    pub fn tails_bytes(&self) -> u64 {
        self.context.tails.bytes()
    }

    /// Groups on this shard, without those that take no part.
    pub fn groups(&self) -> usize {
        self.replicas.len()
    }

    fn take(&mut self, input: Input, out: &mut Outbox) {
        match input {
            Input::Open(open) => self.open(*open, out),
            Input::Damaged(damaged) => self.note_damage(*damaged, out),
            Input::Close(group) => self.close(group, out),
            Input::Replicas(group, wanted, version) => {
                self.visit(group, out, |replica, _, _| replica.set_replicas(wanted, version));
            }
            Input::Learners(group, learners) => {
                self.visit(group, out, |replica, _, _| replica.membership.set_learners(learners));
            }
            Input::Configure(group, options, log) => {
                self.visit(group, out, |replica, _, _| replica.configure(options, log));
            }
            Input::Append {
                group,
                batch,
                acks,
                ticket,
            } => {
                self.append(group, PendingAppend { batch, acks, ticket }, out);
            }
            Input::Messages(from, messages) => self.receive(from, messages, out),
            Input::Persisted(sequence) => self.persisted(sequence, out),
            Input::Flushed(group, _) if self.closing.remove(&group) => out.closed.push(group),
            Input::Flushed(group, result) => {
                self.visit(group, out, |replica, context, _| replica.flushed(result, context));
            }
            Input::Unreadable(group, error) => {
                self.visit(group, out, |replica, _, _| replica.health.note(error));
            }
            Input::Loaded(loaded) => {
                self.visit(loaded.group, out, |replica, context, out| {
                    replica.loaded(loaded, context, out)
                });
            }
            Input::Liveness(node, liveness) => self.note_liveness(node, liveness, out),
            Input::Restored(node) => self.note_restored(node, out),
            Input::Rerouted(group, nodes) => self.note_routes(group, nodes.into_iter().collect(), out),
            Input::Read(ticket, request) => self.read(ticket, request, out),
            Input::CancelRead(ticket) => self.cancel_read(ticket, out),
            Input::Offsets {
                ticket,
                group,
                query,
                current_epoch,
            } => {
                self.look_up(ticket, group, query, current_epoch, out);
            }
            Input::Status(ticket, group) => {
                let status = self.replicas.get(&group).map(|replica| replica.status());
                let status = status.or_else(|| self.damaged.get(&group).map(Damaged::status));
                out.completions.push((ticket, Completion::Status(status)));
            }
            Input::Transfer(ticket, group, to) => self.transfer(ticket, group, to, out),
            Input::TransferAll(ticket) => self.begin_drain(ticket),
            Input::Failover { group, failed } => {
                self.visit(group, out, |replica, context, out| {
                    replica.fail_over(failed, context, out)
                });
            }
            Input::FlushNow(group) => self.flush_now(group, out),
            Input::Trim(group, before) => {
                self.visit(group, out, |replica, _, _| {
                    replica.trim_before = replica.trim_before.max(before)
                });
            }
            Input::Retain { now_ms } => self.retain(now_ms, out),
        }
    }

    /// Does something with a group, which is visited again when all inputs are taken. False if it is not here.
    fn visit(
        &mut self,
        group: GroupId,
        out: &mut Outbox,
        act: impl FnOnce(&mut Replica, &mut StepContext, &mut Outbox),
    ) -> bool {
        let Some(replica) = self.replicas.get_mut(&group) else {
            return false;
        };
        if !core::mem::replace(&mut replica.schedule.is_ready, true) {
            self.ready.push(group);
        }
        act(replica, &mut self.context, out);
        true
    }

    /// Whether the group can be opened: it is not here, or waits to be opened as lost. Then what it knew of its term
    /// and vote is newer than what the caller knows.
    fn make_room(&mut self, open: &mut Open, out: &mut Outbox) -> bool {
        let group = open.group();
        let Some(old) = self.replicas.get_mut(&group) else {
            return true;
        };
        if !open.is_lost || !old.health.awaits_reopening() {
            return false;
        }
        open.succeed(old.hard_state, old.applied.delivered);
        old.refuse_pending(&AppendError::Storage, out);
        old.leave_rebalance_queue(&mut self.context);
        old.count_producers(0, &mut self.context);
        old.leave_tails(&mut self.context);
        self.forget_members(group);
        self.replicas.remove(&group);
        true
    }

    /// Has a group told what comes of the nodes that belong to it, and what is known of those that are new to it.
    fn follow_members(&mut self, group: GroupId, out: &mut Outbox) {
        let Some(replica) = self.replicas.get_mut(&group) else {
            return;
        };
        let leader = replica.group.leader();
        let new = replica.membership.follow(replica.group.configuration(), leader);
        let mut evidence = Vec::new();
        for node in new {
            self.by_node.entry(node).or_default().insert(group);
            let known = self.liveness.get(&node).filter(|_| !self.is_rerouted(group, node));
            evidence.extend(known.map(|&liveness| (node, liveness)));
        }
        self.visit(group, out, |replica, context, out| {
            for (node, liveness) in evidence {
                replica.step(CoreInput::Liveness(node, liveness), context, out);
            }
        });
    }

    /// A group is not told any more of nodes that don't belong to it.
    fn forget_members(&mut self, group: GroupId) {
        let replica = self.replicas.get_mut(&group);
        for node in replica.map(|replica| replica.membership.forget()).unwrap_or_default() {
            if let Some(groups) = self.by_node.get_mut(&node) {
                groups.remove(&group);
            }
        }
    }

    fn open(&mut self, mut open: Open, out: &mut Outbox) {
        let group = open.group();
        let own = self.context.config.node;
        if self.closing.contains(&group) || !open.is_possible() || !self.make_room(&mut open, out) {
            return;
        }
        self.damaged.remove(&group);
        // A new group's preferred leader need not wait for another member to stand. One that drains won't.
        let preferred = open.founders.first() == Some(&own) && !self.context.is_draining;
        self.openings += 1;
        if open.is_lost {
            out.forget_past(open.group(), &open.founders, open.hard_state);
        }
        let replica = Replica::open(open, self.openings, &self.context);
        self.replicas.insert(group, Box::new(replica));
        self.follow_members(group, out);
        self.visit(group, out, |replica, context, out| {
            if preferred && replica.is_new() {
                replica.step(CoreInput::Campaign, context, out);
            }
        });
    }

    fn note_damage(&mut self, damaged: Damaged, out: &mut Outbox) {
        let (group, own) = (damaged.group, self.context.config.node);
        if !self.replicas.contains_key(&group) {
            damaged.abstention(own).announce(damaged.members(), out);
            self.damaged.insert(group, damaged);
        }
    }

    fn close(&mut self, group: GroupId, out: &mut Outbox) {
        if self.damaged.remove(&group).is_some() {
            out.journal.forget(group);
            out.closed.push(group);
        }
        self.forget_members(group);
        let Some(mut replica) = self.replicas.remove(&group) else {
            return;
        };
        replica.close(&mut self.context, out);
        if replica.flush.is_running {
            self.closing.insert(group);
        } else {
            out.closed.push(group);
        }
        replica.leave_rebalance_queue(&mut self.context);
        replica.count_producers(0, &mut self.context);
        replica.leave_tails(&mut self.context);
    }

    fn append(&mut self, group: GroupId, append: PendingAppend, out: &mut Outbox) {
        let ticket = append.ticket;
        let known = self.visit(group, out, |replica, context, _| {
            if replica.appends.pending.capacity() == 0 {
                replica.appends.pending = context.spare_pending.pop().unwrap_or_default();
            }
            replica.appends.pending.push(append);
        });
        if !known {
            let error = match self.damaged.contains_key(&group) {
                true => AppendError::Storage,
                false => AppendError::UnknownGroup,
            };
            out.completions.push((ticket, Completion::Appended(Err(error))));
        }
    }

    fn receive(&mut self, from: NodeId, messages: Vec<(GroupId, Message)>, out: &mut Outbox) {
        for (group, message) in messages {
            if let Some(damaged) = self.damaged.get(&group) {
                let input = CoreInput::Message(from, message);
                damaged.abstention(self.context.config.node).answer(&input, out);
                continue;
            }
            let Some(replica) = self.replicas.get_mut(&group) else {
                self.answer_for_absent(from, group, &message, out);
                continue;
            };
            if !core::mem::replace(&mut replica.schedule.is_ready, true) {
                self.ready.push(group);
            }
            replica.receive(from, message, &mut self.context, out);
        }
    }

    fn answer_for_absent(&self, from: NodeId, group: GroupId, message: &Message, out: &mut Outbox) {
        if let Some(answer) = absent(message).filter(|_| !self.context.breakage.is(Sabotage::IgnoreUnknownGroups)) {
            out.send(from, group, answer);
        }
    }

    /// Returns each group's newest token: it stands for those before it.
    fn persisted(&mut self, sequence: u64, out: &mut Outbox) {
        let mut returned = core::mem::take(&mut self.returned);
        while let Some(issued) = self.context.issued.front().filter(|issued| issued.sequence <= sequence) {
            let same_opening = |replica: &&mut Box<Replica>| replica.opening == issued.opening;
            if let Some(replica) = self.replicas.get_mut(&issued.group).filter(same_opening) {
                let before = replica.schedule.returned.replace(issued.token);
                if before.is_none() {
                    returned.push(issued.group);
                } else if self.context.breakage.is(Sabotage::LoseNewerToken) {
                    replica.schedule.returned = before;
                }
            }
            self.context.issued.pop_front();
        }
        for group in returned.drain(..) {
            self.visit(group, out, |replica, context, out| {
                if let Some(token) = replica.schedule.returned.take() {
                    replica.persisted(token, context, out);
                }
            });
        }
        self.returned = returned;
    }

    fn note_liveness(&mut self, node: NodeId, liveness: Liveness, out: &mut Outbox) {
        if liveness == Liveness::Alive {
            self.liveness.remove(&node);
        } else {
            self.liveness.insert(node, liveness);
        }
        self.tell_groups_of(node, CoreInput::Liveness(node, liveness), out);
    }

    /// A group's messages reach these nodes by another way, and no others: its members there count as alive for it.
    fn note_routes(&mut self, group: GroupId, nodes: BTreeSet<NodeId>, out: &mut Outbox) {
        let before = self.rerouted.remove(&group).unwrap_or_default();
        let mut inputs = Vec::new();
        for &node in nodes.symmetric_difference(&before) {
            let Some(&liveness) = self.liveness.get(&node) else {
                continue;
            };
            inputs.push(match nodes.contains(&node) {
                // What it was sent on the link may be lost.
                true => CoreInput::Restored(node),
                false => CoreInput::Liveness(node, liveness),
            });
        }
        if !nodes.is_empty() {
            self.rerouted.insert(group, nodes);
        }
        self.visit(group, out, |replica, context, out| {
            for input in inputs {
                replica.step(input, context, out);
            }
        });
    }

    fn is_rerouted(&self, group: GroupId, node: NodeId) -> bool {
        self.rerouted.get(&group).is_some_and(|nodes| nodes.contains(&node))
    }

    fn note_restored(&mut self, node: NodeId, out: &mut Outbox) {
        self.liveness.remove(&node);
        let input = CoreInput::Restored(node);
        for damaged in self.damaged.values() {
            damaged.abstention(self.context.config.node).answer(&input, out);
        }
        self.tell_groups_of(node, input, out);
        for group in self.by_node.get(&node).into_iter().flatten() {
            if let Some(replica) = self.replicas.get_mut(group) {
                replica.in_sync.note_restart(node);
            }
        }
    }

    /// Only groups that have the node as a member are told.
    fn tell_groups_of(&mut self, node: NodeId, input: CoreInput, out: &mut Outbox) {
        let groups = self.by_node.get_mut(&node).map(core::mem::take).unwrap_or_default();
        let is_silence = matches!(input, CoreInput::Liveness(_, Liveness::Suspected | Liveness::Dead));
        for &group in &groups {
            if !(is_silence && self.is_rerouted(group, node)) {
                self.visit(group, out, |replica, context, out| {
                    replica.step(input.clone(), context, out)
                });
            }
        }
        if !groups.is_empty() {
            self.by_node.insert(node, groups);
        }
    }

    /// Not a visit: most reads change nothing.
    fn read(&mut self, ticket: Ticket, request: ReadRequest, out: &mut Outbox) {
        match self.replicas.get_mut(&request.group) {
            Some(replica) => {
                replica.read(ticket, request, &mut self.context, out);
                if replica.is_failed() {
                    self.visit(request.group, out, |_, _, _| {});
                }
            }
            None => {
                let error = self.absence(request.group);
                out.completions.push((ticket, Completion::Read(Err(error))));
            }
        }
    }

    fn cancel_read(&mut self, ticket: Ticket, out: &mut Outbox) {
        if let Some(group) = self.context.waiting_reads.remove(&ticket)
            && let Some(replica) = self.replicas.get_mut(&group)
        {
            replica.cancel_read(ticket, out);
        }
    }

    fn look_up(
        &mut self,
        ticket: Ticket,
        group: GroupId,
        query: OffsetQuery,
        current_epoch: Option<LeaderEpoch>,
        out: &mut Outbox,
    ) {
        let answer = match self.replicas.get_mut(&group) {
            Some(replica) => replica.look_up(query, current_epoch, &mut self.context, out),
            None => Err(self.absence(group)),
        };
        out.completions.push((ticket, Completion::Offsets(answer)));
        self.visit_if_failing(group, out);
    }

    /// Why a reader gets nothing from a group that is not among the replicas.
    fn absence(&self, group: GroupId) -> ReadError {
        match self.damaged.contains_key(&group) {
            true => ReadError::Storage,
            false => ReadError::UnknownGroup,
        }
    }

    fn visit_if_failing(&mut self, group: GroupId, out: &mut Outbox) {
        if self.replicas.get(&group).is_some_and(|replica| replica.is_failed()) {
            self.visit(group, out, |_, _, _| {});
        }
    }

    fn transfer(&mut self, ticket: Ticket, group: GroupId, to: Option<NodeId>, out: &mut Outbox) {
        if !self.visit(group, out, |replica, context, out| {
            replica.transfer(ticket, to, context, out)
        }) {
            let kept = vec![(group, TransferError::NotLeader)];
            let outcome = TransferOutcome { handed_over: 0, kept };
            out.completions.push((ticket, Completion::Transferred(outcome)));
        }
    }

    fn flush_now(&mut self, group: GroupId, out: &mut Outbox) {
        if let Some(damaged) = self.damaged.get(&group) {
            return damaged.flush_now(out);
        }
        self.visit(group, out, |replica, context, out| replica.flush_now(context, out));
    }

    fn retain(&mut self, now_ms: i64, out: &mut Outbox) {
        for group in self.groups_in_order() {
            if let Some(replica) = self.replicas.get_mut(&group) {
                replica.trim_producers(&mut self.context, out);
                replica.retain(now_ms);
            }
            self.visit_if_failing(group, out);
        }
    }

    fn groups_in_order(&self) -> Vec<GroupId> {
        let mut groups: Vec<_> = self.replicas.keys().copied().collect();
        groups.sort_unstable();
        groups
    }

    fn take_timers(&mut self, out: &mut Outbox) {
        let mut due = core::mem::take(&mut self.due);
        self.context.timers.advance(self.context.now, &mut due);
        for timer in due.drain(..) {
            let now = self.context.now;
            let group = match timer {
                Timer::Group(group) => group,
                // For its time `continue_drain` looks at the clock.
                Timer::Drain => continue,
                Timer::LeaderRebalance => {
                    self.context.leader_rebalance.called(now);
                    continue;
                }
                Timer::Throttle => {
                    self.context.throttle.called(now);
                    continue;
                }
            };
            if let Some(replica) = self.replicas.get_mut(&group)
                && replica.schedule.armed.is_called(now)
            {
                self.visit(group, out, |_, _, _| {});
            }
        }
        self.due = due;
    }

    fn finish_step(&mut self, out: &mut Outbox) {
        while !self.ready.is_empty() {
            let mut ready = core::mem::take(&mut self.ready);
            let mut moved = core::mem::take(&mut self.moved);
            for group in ready.drain(..) {
                if let Some(replica) = self.replicas.get_mut(&group) {
                    replica.schedule.is_ready = false;
                    replica.finish_step(&mut self.context, out);
                    self.visited += 1;
                    if replica.membership.has_moved() {
                        moved.push(group);
                    }
                }
            }
            self.ready = ready;
            for group in moved.drain(..) {
                self.follow_members(group, out);
            }
            self.moved = moved;
        }
    }

    /// Reads for followers whose turn it is now. Those that are not waited for any more take nothing from the others.
    fn begin_parked_loads(&mut self, out: &mut Outbox) {
        while let Some(parked) = self.context.throttle.next(self.context.now) {
            self.visit(parked.group, out, |replica, context, out| {
                if replica.begin_parked_load(parked.plan, out) {
                    context.throttle.take(parked.bytes);
                }
            });
        }
        self.finish_step(out);
        if let Some(at) = self.context.throttle.arm() {
            self.context.timers.insert(at, Timer::Throttle);
        }
    }

    /// Gives up the idlest tails while memory is short.
    fn shed_tails(&mut self) {
        while let Some(group) = self.context.tails.to_shed() {
            let replica = self.replicas.get_mut(&group);
            let replica = replica.expect("a group that is gone has taken its tail along");
            replica.shed_tail(&mut self.context);
        }
    }

    /// Hands leaderships over to their preferred leaders, a few at a time.
    fn rebalance(&mut self, out: &mut Outbox) {
        let turns = self.context.leader_rebalance.take(self.context.now);
        for &group in &turns {
            self.visit(group, out, |replica, context, out| replica.rebalance(context, out));
        }
        if !turns.is_empty() {
            self.finish_step(out);
        }
        if let Some(at) = self.context.leader_rebalance.arm() {
            self.context.timers.insert(at, Timer::LeaderRebalance);
        }
    }

    /// The first pass begins when all inputs are taken.
    fn begin_drain(&mut self, ticket: Ticket) {
        match &mut self.drain {
            Some(drain) => drain.join(ticket),
            None => self.drain = Some(Drain::new(ticket)),
        }
        self.context.is_draining = true;
    }

    /// The next pass over the leaderships that are left, once the last one has ended.
    fn continue_drain(&mut self, out: &mut Outbox) {
        let Some(mut drain) = self.drain.take() else { return };
        drain.note(self.context.handed_over.drain(..));
        if drain.pass_is_due(self.context.now) {
            let led = self.groups_in_order();
            let led: Vec<_> = led.into_iter().filter(|group| self.replicas[group].leads()).collect();
            drain.begin_pass(self.context.now, self.context.config.tuning.election_timeout, &led, out);
            // Groups are visited while `self.drain` is taken: nothing they do looks at it.
            for group in drain.asked().collect::<Vec<_>>() {
                self.visit(group, out, |replica, context, out| {
                    replica.handover.drain = true;
                    replica.begin_transfer(None, context, out);
                });
            }
            self.finish_step(out);
            drain.note(self.context.handed_over.drain(..));
        }
        if let Some(deadline) = drain.arm(self.context.now) {
            self.context.timers.insert(deadline, Timer::Drain);
        }
        self.drain = Some(drain);
    }
}

#[cfg(feature = "sabotage")]
impl Shard {
    /// From now on this shard is broken in that way: for tests of tests.
    pub fn sabotage(&mut self, how: Sabotage) {
        self.context.breakage.shard = Some(how);
    }

    /// Groups that are opened from now on have broken cores.
    pub fn sabotage_cores(&mut self, how: trimaran_raft::Sabotage) {
        self.context.breakage.cores = Some(how);
    }
}
