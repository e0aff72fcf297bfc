//! A shard: the groups that one thread drives, from mailbox to outbox.

use crate::appends::{AppendError, PendingAppend};
use crate::damaged::{Damaged, absent};
use crate::desk::{Desk, Timer};
use crate::leaving::Leaving;
use crate::mailbox::{Completion, Input, Outbox, Ticket, TransferOutcome};
use crate::numbers::NumberMap;
use crate::opening::Open;
use crate::reads::{OffsetQuery, ReadError, ReadRequest};
use crate::replica::Replica;
use crate::sabotage::Sabotage;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use trimaran_raft::{Group, GroupId, Input as CoreInput, Instant, Liveness, Message, NodeId, TransferError, Tuning};
use trimaran_storage::log::ReplicaLog;
use trimaran_wire::batch::LeaderEpoch;

/// What all groups of a shard have in common.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// This broker.
    pub node: NodeId,
    /// The cores' intervals and limits.
    pub tuning: Tuning,
    /// A follower that has not been caught up for longer is out of sync.
    pub replica_lag: Duration,
    /// Unflushed bytes of a group beyond which its committed entries are written to segments.
    pub flush_bytes: u64,
    /// Age of the oldest unflushed committed record beyond which it is written to a segment all the same.
    pub flush_age: Duration,
    /// Idempotent producers that all groups of this shard may remember together, before each is cut down to the 4,096
    /// that sent something last. Some 500 bytes each.
    pub max_producers: usize,
    /// How long a replica whose log can't be read or written serves nobody before it tries again (a full disk may have
    /// been made room on). Each further failure to write doubles it, up to twelve times as much.
    pub failure_pause: Duration,
    /// A leader gives its group back to the first live voter in the order of preference once that one has been alive
    /// and in sync for so long; none: leaderships stay where elections put them.
    pub give_back_after: Option<Duration>,
    /// Bytes a second that this shard reads from segments for followers that are far behind, at most; none: as fast as
    /// they take it. Only they wait for it: what is in memory is sent at once.
    pub catch_up_bytes_per_second: Option<u64>,
    /// Bytes that the tails of all logs may take together. What is in segments already is given up beyond it, the
    /// idlest log's first, flushes begin earlier, and appends are refused as [`AppendError::Busy`]; none: no limit.
    pub tails_bytes: Option<u64>,
}

impl ShardConfig {
    /// With everything else at its default: half a million producers, ten seconds of replica lag, flushes at 1 MiB or
    /// after a minute (earlier if the journal asks for it: [`Input::FlushNow`]), leaderships given back after five
    /// seconds.
    pub fn new(node: NodeId, tuning: Tuning) -> ShardConfig {
        ShardConfig {
            node,
            tuning,
            replica_lag: Duration::from_secs(10),
            flush_bytes: 1 << 20,
            flush_age: Duration::from_secs(60),
            max_producers: 500_000,
            failure_pause: Duration::from_secs(5),
            give_back_after: Some(Duration::from_secs(5)),
            catch_up_bytes_per_second: None,
            tails_bytes: None,
        }
    }
}

/// All the groups that one thread drives. Sans-I/O but for what the logs read.
pub struct Shard {
    desk: Desk,
    replicas: NumberMap<GroupId, Box<Replica>>,
    /// Replicas that take no part: usually none. Never here and in `replicas` as well.
    damaged: BTreeMap<GroupId, Damaged>,
    /// Closed replicas whose last flush is still out: it writes to their folders.
    closing: BTreeSet<GroupId>,
    /// Which groups have a node as a member.
    by_node: BTreeMap<NodeId, BTreeSet<GroupId>>,
    /// What is known of the brokers that are not simply alive.
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
    leaving: Option<Leaving>,
    openings: u64,
    visited: u64,
}

impl Shard {
    /// A shard without groups.
    pub fn new(config: ShardConfig, now: Instant) -> Shard {
        let desk = Desk::new(config, now);
        Shard {
            desk,
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
            leaving: None,
            openings: 0,
            visited: 0,
        }
    }

    /// Drains `inputs`, steps every group that has input or whose timer is due, and says what follows. Time never goes
    /// back: an earlier `now` counts as the latest one seen.
    pub fn step(&mut self, now: Instant, inputs: &mut Vec<Input>, out: &mut Outbox) {
        self.desk.now = self.desk.now.max(now);
        for input in inputs.drain(..) {
            self.take(input, out);
        }
        self.take_timers(out);
        self.settle(out);
        self.begin_parked_loads(out);
        self.give_back(out);
        self.go_on_leaving(out);
        self.shed_tails();
        if !out.journal.is_empty() {
            self.desk.sequence += 1;
        }
        out.sequence = self.desk.sequence;
    }

    /// When to step next if nothing else happens.
    pub fn deadline(&self) -> Option<Instant> {
        self.desk.timers.deadline()
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
        self.desk.tails.bytes()
    }

    /// Groups on this shard, without those that take no part.
    pub fn groups(&self) -> usize {
        self.replicas.len()
    }

    #[cfg(feature = "sabotage")]
    pub(crate) fn breakage(&mut self) -> &mut crate::sabotage::Breakage {
        &mut self.desk.breakage
    }

    fn take(&mut self, input: Input, out: &mut Outbox) {
        match input {
            Input::Open(open) => self.open(*open, out),
            Input::Damaged(damaged) => self.note_damage(*damaged, out),
            Input::Close(group) => self.close(group, out),
            Input::Replicas(group, wanted, version) => {
                self.visit(group, out, |replica, _, _| replica.want(wanted, version));
            }
            Input::Learners(group, learners) => {
                self.visit(group, out, |replica, _, _| replica.want_learners(learners));
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
                self.visit(group, out, |replica, desk, _| replica.flushed(result, desk));
            }
            Input::Unreadable(group, error) => {
                self.visit(group, out, |replica, _, _| replica.note_failure(error));
            }
            Input::Loaded(loaded) => {
                self.visit(loaded.group, out, |replica, desk, out| {
                    replica.loaded(loaded, desk, out)
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
            Input::TransferAll(ticket) => self.begin_leaving(ticket),
            Input::Failover { group, failed } => {
                self.visit(group, out, |replica, desk, out| replica.fail_over(failed, desk, out));
            }
            Input::FlushNow(group) => self.flush_now(group, out),
            Input::Retain { now_ms } => self.retain(now_ms, out),
        }
    }

    /// Does something with a group, which is visited again when all inputs are taken. False if it is not here.
    fn visit(
        &mut self,
        group: GroupId,
        out: &mut Outbox,
        act: impl FnOnce(&mut Replica, &mut Desk, &mut Outbox),
    ) -> bool {
        let Some(replica) = self.replicas.get_mut(&group) else {
            return false;
        };
        if !core::mem::replace(&mut replica.ready, true) {
            self.ready.push(group);
        }
        act(replica, &mut self.desk, out);
        true
    }

    /// Whether the group can be opened: it is not here, or waits to be opened as lost. Then what it knew of its term
    /// and vote is newer than what the caller knows.
    fn make_room(&mut self, open: &mut Open, out: &mut Outbox) -> bool {
        let group = open.group();
        let Some(old) = self.replicas.get_mut(&group) else {
            return true;
        };
        if !open.is_lost || !old.awaits_reopening() {
            return false;
        }
        open.succeed(old.hard_state, old.delivered);
        old.refuse_pending(&AppendError::Storage, out);
        old.leave_line(&mut self.desk);
        old.count_producers(0, &mut self.desk);
        old.leave_tails(&mut self.desk);
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
        self.visit(group, out, |replica, desk, out| {
            for (node, liveness) in evidence {
                replica.step(CoreInput::Liveness(node, liveness), desk, out);
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
        let own = self.desk.config.node;
        if self.closing.contains(&group) || !open.is_possible() || !self.make_room(&mut open, out) {
            return;
        }
        self.damaged.remove(&group);
        // A new group's preferred leader need not wait for anybody else to stand. One that is leaving won't.
        let preferred = open.founders.first() == Some(&own) && !self.desk.is_leaving;
        self.openings += 1;
        if open.is_lost {
            open.forget_the_past(out);
        }
        let replica = Replica::open(open, self.openings, &self.desk);
        self.replicas.insert(group, Box::new(replica));
        self.follow_members(group, out);
        self.visit(group, out, |replica, desk, out| {
            if preferred && replica.is_new() {
                replica.step(CoreInput::Campaign, desk, out);
            }
        });
    }

    fn note_damage(&mut self, damaged: Damaged, out: &mut Outbox) {
        let (group, own) = (damaged.group, self.desk.config.node);
        if !self.replicas.contains_key(&group) {
            damaged.silence(own).begin(damaged.members(), out);
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
        replica.close(&mut self.desk, out);
        if replica.is_flushing {
            self.closing.insert(group);
        } else {
            out.closed.push(group);
        }
        replica.leave_line(&mut self.desk);
        replica.count_producers(0, &mut self.desk);
        replica.leave_tails(&mut self.desk);
    }

    fn append(&mut self, group: GroupId, append: PendingAppend, out: &mut Outbox) {
        let ticket = append.ticket;
        let known = self.visit(group, out, |replica, desk, _| {
            if replica.pending.capacity() == 0 {
                replica.pending = desk.spare_pending.pop().unwrap_or_default();
            }
            replica.pending.push(append);
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
                damaged.silence(self.desk.config.node).hear(&input, out);
                continue;
            }
            let Some(replica) = self.replicas.get_mut(&group) else {
                self.answer_for_absent(from, group, &message, out);
                continue;
            };
            if !core::mem::replace(&mut replica.ready, true) {
                self.ready.push(group);
            }
            replica.receive(from, message, &mut self.desk, out);
        }
    }

    fn answer_for_absent(&self, from: NodeId, group: GroupId, message: &Message, out: &mut Outbox) {
        if let Some(answer) = absent(message).filter(|_| !self.desk.breakage.is(Sabotage::IgnoreUnknownGroups)) {
            out.send(from, group, answer);
        }
    }

    /// Returns each group's newest token: it stands for those before it.
    fn persisted(&mut self, sequence: u64, out: &mut Outbox) {
        let mut returned = core::mem::take(&mut self.returned);
        while let Some(issued) = self.desk.issued.front().filter(|issued| issued.sequence <= sequence) {
            let same_opening = |replica: &&mut Box<Replica>| replica.opening == issued.opening;
            if let Some(replica) = self.replicas.get_mut(&issued.group).filter(same_opening) {
                let before = replica.returned.replace(issued.token);
                if before.is_none() {
                    returned.push(issued.group);
                } else if self.desk.breakage.is(Sabotage::LoseNewerToken) {
                    replica.returned = before;
                }
            }
            self.desk.issued.pop_front();
        }
        for group in returned.drain(..) {
            self.visit(group, out, |replica, desk, out| {
                if let Some(token) = replica.returned.take() {
                    replica.persisted(token, desk, out);
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
        self.visit(group, out, |replica, desk, out| {
            for input in inputs {
                replica.step(input, desk, out);
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
            damaged.silence(self.desk.config.node).hear(&input, out);
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
                self.visit(group, out, |replica, desk, out| replica.step(input.clone(), desk, out));
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
                replica.read(ticket, request, &mut self.desk, out);
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
        if let Some(group) = self.desk.waiting_reads.remove(&ticket)
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
            Some(replica) => replica.look_up(query, current_epoch, &mut self.desk, out),
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
        if !self.visit(group, out, |replica, desk, out| replica.transfer(ticket, to, desk, out)) {
            let kept = vec![(group, TransferError::NotLeader)];
            let outcome = TransferOutcome { handed_over: 0, kept };
            out.completions.push((ticket, Completion::Transferred(outcome)));
        }
    }

    fn flush_now(&mut self, group: GroupId, out: &mut Outbox) {
        if let Some(damaged) = self.damaged.get(&group) {
            return damaged.flush_now(out);
        }
        self.visit(group, out, |replica, desk, out| replica.flush_now(desk, out));
    }

    fn retain(&mut self, now_ms: i64, out: &mut Outbox) {
        for group in self.groups_in_order() {
            if let Some(replica) = self.replicas.get_mut(&group) {
                replica.trim_producers(&mut self.desk, out);
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
        self.desk.timers.advance(self.desk.now, &mut due);
        for timer in due.drain(..) {
            let now = self.desk.now;
            let group = match timer {
                Timer::Group(group) => group,
                // For its time `go_on_leaving` looks at the clock.
                Timer::Leaving => continue,
                Timer::GiveBack => {
                    self.desk.give_back.called(now);
                    continue;
                }
                Timer::Throttle => {
                    self.desk.throttle.called(now);
                    continue;
                }
            };
            if let Some(replica) = self.replicas.get_mut(&group)
                && replica.armed.is_called(now)
            {
                self.visit(group, out, |_, _, _| {});
            }
        }
        self.due = due;
    }

    fn settle(&mut self, out: &mut Outbox) {
        while !self.ready.is_empty() {
            let mut ready = core::mem::take(&mut self.ready);
            let mut moved = core::mem::take(&mut self.moved);
            for group in ready.drain(..) {
                if let Some(replica) = self.replicas.get_mut(&group) {
                    replica.ready = false;
                    replica.settle(&mut self.desk, out);
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
        while let Some(parked) = self.desk.throttle.next(self.desk.now) {
            self.visit(parked.group, out, |replica, desk, out| {
                if replica.begin_parked_load(parked.plan, out) {
                    desk.throttle.take(parked.bytes);
                }
            });
        }
        self.settle(out);
        if let Some(at) = self.desk.throttle.arm() {
            self.desk.timers.insert(at, Timer::Throttle);
        }
    }

    /// Gives up the idlest tails while memory is short.
    fn shed_tails(&mut self) {
        while let Some(group) = self.desk.tails.to_shed() {
            let replica = self.replicas.get_mut(&group);
            let replica = replica.expect("a group that is gone has taken its tail along");
            replica.shed_tail(&mut self.desk);
        }
    }

    /// Gives leaderships back to whom they are preferred to be, a few at a time.
    fn give_back(&mut self, out: &mut Outbox) {
        let turns = self.desk.give_back.take(self.desk.now);
        for &group in &turns {
            self.visit(group, out, |replica, desk, out| replica.give_back(desk, out));
        }
        if !turns.is_empty() {
            self.settle(out);
        }
        if let Some(at) = self.desk.give_back.arm() {
            self.desk.timers.insert(at, Timer::GiveBack);
        }
    }

    /// The first pass begins when all inputs are taken.
    fn begin_leaving(&mut self, ticket: Ticket) {
        match &mut self.leaving {
            Some(leaving) => leaving.join(ticket),
            None => self.leaving = Some(Leaving::new(ticket)),
        }
        self.desk.is_leaving = true;
    }

    /// The next pass over the leaderships that are left, once the last one has ended.
    fn go_on_leaving(&mut self, out: &mut Outbox) {
        let Some(mut leaving) = self.leaving.take() else { return };
        leaving.note(self.desk.handed_over.drain(..));
        if leaving.pass_is_due(self.desk.now) {
            let led = self.groups_in_order();
            let led: Vec<_> = led.into_iter().filter(|group| self.replicas[group].leads()).collect();
            leaving.begin_pass(self.desk.now, self.desk.config.tuning.election_timeout, &led, out);
            // Groups are visited while `self.leaving` is taken: nothing they do looks at it.
            for group in leaving.asked().collect::<Vec<_>>() {
                self.visit(group, out, |replica, desk, out| {
                    replica.handover.leaving = true;
                    replica.begin_transfer(None, desk, out);
                });
            }
            self.settle(out);
            leaving.note(self.desk.handed_over.drain(..));
        }
        if let Some(deadline) = leaving.arm(self.desk.now) {
            self.desk.timers.insert(deadline, Timer::Leaving);
        }
        self.leaving = Some(leaving);
    }
}
