//! Leader rebalance: leaderships return to the replicas that are preferred for them (Kafka's
//! `auto.leader.rebalance.enable`).
//!
//! Placement spreads leaderships evenly by the order of each group's voters. Every failover and every broker that
//! stops moves some away, and nothing in Raft brings them back: after a restart of one broker after the other, the
//! last one to restart leads nothing, and perhaps one leads everything. So a leader that is not the group's first live
//! voter hands over to that one, the preferred leader, by the ordinary transfer, once it has been in sync and alive
//! without interruption for [`ShardConfig::leader_rebalance_after`](crate::ShardConfig::leader_rebalance_after). Only
//! the first live voter is considered: to move to the second best while the best one is catching up would move twice.
//!
//! Three rules keep it from doing harm:
//!
//! - Few at a time ([`GROUPS_A_TICK`]): a transfer refuses appends for a moment, and thousands of elections are a load.
//! - A node that doesn't take over isn't asked again soon, for this group ([`RETRY_PAUSE`]) or any other (the stated
//!   time again): it may be draining, and then refuses them all. However it ended, a group is not handed over again
//!   within [`RETRY_PAUSE`], so that leaderships that nobody can hold don't go to and fro.
//! - The leader that a failover on request replaced ([`crate::Input::Failover`]) is not preferred for [`COOLDOWN`].
//!
//! Nothing here looks at groups that are not visited anyway. The events that make a voter fit (it gets in sync, it is
//! alive again) visit the group, which is then queued for its time; a group whose preferred voters are away waits for
//! nothing.

use crate::timers::Armed;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use trimaran_raft::{GroupId, Instant, NodeId};

/// How many groups of a shard are handed over in a tick, and how far ticks are apart: 320 a second, each of which
/// refuses appends for some exchanges. A thousand leaderships are back in three seconds.
const GROUPS_A_TICK: usize = 32;
/// See [`GROUPS_A_TICK`].
pub(crate) const TICK: Duration = Duration::from_millis(100);
/// After an attempt, a group is not handed over again for so long.
const RETRY_PAUSE: Duration = Duration::from_secs(60);
/// The leader that a failover on request replaced is not given the group back for so long: the caller had a reason, and
/// sees that the request had an effect.
const COOLDOWN: Duration = Duration::from_secs(30);

/// The groups of a shard that are to be handed over to their preferred leaders.
#[derive(Debug, Default)]
pub(crate) struct LeaderRebalance {
    /// The groups by the time of their turn. A group is here once at most: at its replica's `queued_at`.
    queue: BTreeSet<(Instant, GroupId)>,
    /// The next groups' turn does not come before this.
    next_tick: Instant,
    armed: Armed,
    /// Nodes that did not take over, and until when they are not asked.
    failed: BTreeMap<NodeId, Instant>,
}

impl LeaderRebalance {
    /// The timer has expired.
    pub(crate) fn called(&mut self, now: Instant) {
        self.armed.is_called(now);
    }

    /// Takes out the groups whose turn it is in this tick; none before the tick.
    pub(crate) fn take(&mut self, now: Instant) -> Vec<GroupId> {
        let is_due = self.queue.first().is_some_and(|(at, _)| *at <= now);
        if now < self.next_tick || !is_due {
            return Vec::new();
        }
        self.next_tick = now + TICK;
        let due = self.queue.iter().take_while(|(at, _)| *at <= now);
        let due: Vec<_> = due.take(GROUPS_A_TICK).copied().collect();
        due.iter().for_each(|turn| {
            self.queue.remove(turn);
        });
        due.into_iter().map(|(_, group)| group).collect()
    }

    /// When to set the timer, if it is not set for that time or before.
    pub(crate) fn arm(&mut self) -> Option<Instant> {
        let (at, _) = self.queue.first()?;
        let at = self.next_tick.max(*at);
        self.armed.needs(at).then_some(at)
    }

    /// The time before which a node is not asked.
    pub(crate) fn not_before(&self, node: NodeId) -> Instant {
        self.failed.get(&node).copied().unwrap_or_default()
    }
}

/// A replica's own part in it.
#[derive(Debug, Default)]
pub(crate) struct RebalanceState {
    /// Its place in the shard's queue.
    queued_at: Option<Instant>,
    /// The node that was asked to take over, until that has ended.
    asked: Option<NodeId>,
    /// The time before which the group is not handed over again.
    not_before: Instant,
    /// The leader that a failover on request replaced, and until when it is not preferred.
    replaced: Option<(NodeId, Instant)>,
}

impl RebalanceState {
    pub(crate) fn is_queued(&self) -> bool {
        self.queued_at.is_some()
    }

    /// The time before which this node does not get the group.
    pub(crate) fn not_before(&self, node: NodeId) -> Instant {
        let replaced = self.replaced.filter(|(replaced, _)| *replaced == node);
        let cooldown = replaced.map_or(Instant::default(), |(_, until)| until);
        self.not_before.max(cooldown)
    }

    pub(crate) fn enqueue(&mut self, group: GroupId, at: Instant, shard: &mut LeaderRebalance) {
        self.queued_at = Some(at);
        shard.queue.insert((at, group));
    }

    pub(crate) fn dequeue(&mut self, group: GroupId, shard: &mut LeaderRebalance) {
        if let Some(at) = self.queued_at.take() {
            shard.queue.remove(&(at, group));
        }
    }

    /// Its turn has come: the shard has taken it out of the queue.
    pub(crate) fn taken(&mut self) {
        self.queued_at = None;
    }

    /// This node is asked to take over.
    pub(crate) fn ask(&mut self, node: NodeId, now: Instant) {
        self.asked = Some(node);
        self.not_before = now + RETRY_PAUSE;
    }

    /// A transfer has failed: the node is not asked again until then.
    pub(crate) fn failed(&mut self, until: Instant, shard: &mut LeaderRebalance) {
        if let Some(node) = self.asked.take() {
            shard.failed.insert(node, until);
        }
    }

    /// A leader is known: a handover that was asked for is done, or over.
    pub(crate) fn end(&mut self) {
        self.asked = None;
    }

    /// A failover on request replaces this leader.
    pub(crate) fn note_failover(&mut self, leader: NodeId, now: Instant) {
        self.replaced = Some((leader, now + COOLDOWN));
    }
}
