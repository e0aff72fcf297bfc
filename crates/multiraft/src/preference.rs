//! Giving leaderships back to the replicas that are preferred for them (Kafka's `auto.leader.rebalance.enable`).
//!
//! Placement spreads leaderships evenly by the order of each group's voters. Every failover and every broker that
//! leaves moves some away, and nothing in Raft brings them back: after a restart of one broker after the other, the
//! last one to restart leads nothing, and perhaps one leads everything. So a leader that is not the group's first live
//! voter hands over to that one, by the ordinary transfer, once it has been in sync and alive without interruption for
//! [`ShardConfig::give_back_after`](crate::ShardConfig::give_back_after). Only the first live voter is considered: to
//! move to the second best while the best one is catching up would move twice.
//!
//! Three rules keep it from doing harm:
//!
//! - Few at a time ([`GROUPS_A_TICK`]): a transfer refuses appends for a moment, and thousands of elections are a load.
//! - Whoever doesn't take over isn't asked again soon, for this group ([`RETRY_PAUSE`]) or any other (the stated time
//!   again): it may be leaving, and then refuses them all. And whatever became of it: what was given back once is not
//!   given back again within [`RETRY_PAUSE`], so that leaderships that nobody can hold don't go to and fro.
//! - Whom a failover on request has relieved ([`crate::Input::Failover`]) gets nothing back for [`RESPITE`].
//!
//! Nothing here looks at groups that are not visited anyway. What makes a voter fit (it falls in sync, it is alive
//! again) visits the group, which then waits in line for its time; a group whose preferred voters are away waits for
//! nothing.

use crate::desk::Desk;
use crate::mailbox::Outbox;
use crate::replica::Replica;
use crate::timers::Armed;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use trimaran_raft::{GroupId, Input as CoreInput, Instant, NodeId};

/// How many groups of a shard are given back in a tick, and how far ticks are apart: 320 a second, each of which
/// refuses appends for some exchanges. A thousand leaderships are back in three seconds.
const GROUPS_A_TICK: usize = 32;
/// See [`GROUPS_A_TICK`].
const TICK: Duration = Duration::from_millis(100);
/// After an attempt, a group is not given back again for so long.
const RETRY_PAUSE: Duration = Duration::from_secs(60);
/// Whom a failover on request has relieved is not given the group back for so long: the caller had a reason, and
/// sees that it was heeded.
const RESPITE: Duration = Duration::from_secs(30);

/// Who waits in line, for all groups of a shard.
#[derive(Debug, Default)]
pub(crate) struct GiveBack {
    /// By when it is their turn. A group is here once at most: at its replica's `queued`.
    line: BTreeSet<(Instant, GroupId)>,
    /// Not before this.
    next_tick: Instant,
    armed: Armed,
    /// Who did not take over what it was given, and until when it is spared.
    refused: BTreeMap<NodeId, Instant>,
}

impl GiveBack {
    /// The wheel calls.
    pub(crate) fn called(&mut self, now: Instant) {
        self.armed.is_called(now);
    }

    /// Who is next, if it is time for one: this tick's are taken out by [`GiveBack::take`].
    fn is_due(&self, now: Instant) -> bool {
        now >= self.next_tick && self.line.first().is_some_and(|(at, _)| *at <= now)
    }

    /// Takes out whose turn it is in this tick; none before the tick.
    pub(crate) fn take(&mut self, now: Instant) -> Vec<GroupId> {
        if !self.is_due(now) {
            return Vec::new();
        }
        self.next_tick = now + TICK;
        let due = self.line.iter().take_while(|(at, _)| *at <= now);
        let due: Vec<_> = due.take(GROUPS_A_TICK).copied().collect();
        due.iter().for_each(|turn| {
            self.line.remove(turn);
        });
        due.into_iter().map(|(_, group)| group).collect()
    }

    /// When the wheel must be told to call, if it won't anyway.
    pub(crate) fn arm(&mut self) -> Option<Instant> {
        let (at, _) = self.line.first()?;
        let at = self.next_tick.max(*at);
        self.armed.needs(at).then_some(at)
    }

    fn refused_until(&self, node: NodeId) -> Instant {
        self.refused.get(&node).copied().unwrap_or_default()
    }
}

/// What a replica remembers of it.
#[derive(Debug, Default)]
pub(crate) struct Preference {
    /// Its place in the line.
    queued: Option<Instant>,
    /// Who was asked to take over, until that has ended.
    asked: Option<NodeId>,
    /// When it may be given back again at the earliest.
    not_before: Instant,
    /// Whom a failover on request has relieved, and until when that is heeded.
    relieved: Option<(NodeId, Instant)>,
}

impl Replica {
    /// To whom to give back, and from when on; none as long as nobody is fit.
    fn heir(&self, desk: &Desk) -> Option<(NodeId, Instant)> {
        let after = desk.config.give_back_after?;
        let preferred = self.group.voters().first();
        if preferred == Some(&desk.config.node) || !self.leads() || self.is_failed() || desk.is_leaving {
            return None;
        }
        let before_own = self.group.voters().iter();
        let mut before_own = before_own.take_while(|voter| **voter != desk.config.node);
        let heir = *before_own.find(|voter| self.group.progress(**voter).is_some_and(|voter| is_alive(&voter)))?;
        let fit_at = self.in_sync.fit_since(heir)? + after;
        let relieved = self.preference.relieved.filter(|(node, _)| *node == heir);
        let respite = relieved.map_or(Instant::default(), |(_, until)| until);
        let spared = desk.give_back.refused_until(heir);
        Some((heir, fit_at.max(self.preference.not_before).max(respite).max(spared)))
    }

    /// Stands in line if there is somebody to give back to. Whoever does so already is looked at when it is its turn;
    /// who leads no more leaves the line.
    pub(crate) fn mind_preference(&mut self, desk: &mut Desk) {
        let queued = self.preference.queued;
        if queued.is_none()
            && let Some((_, at)) = self.heir(desk)
        {
            self.stand_in_line(at, desk);
        } else if queued.is_some() && !self.leads() {
            self.leave_line(desk);
        }
    }

    fn stand_in_line(&mut self, at: Instant, desk: &mut Desk) {
        self.preference.queued = Some(at);
        desk.give_back.line.insert((at, self.id));
    }

    pub(crate) fn leave_line(&mut self, desk: &mut Desk) {
        if let Some(at) = self.preference.queued.take() {
            desk.give_back.line.remove(&(at, self.id));
        }
    }

    /// Its turn: gives back, or stands in line again if it is too early, after all.
    pub(crate) fn give_back(&mut self, desk: &mut Desk, out: &mut Outbox) {
        self.preference.queued = None;
        let Some((heir, at)) = self.heir(desk) else { return };
        if at > desk.now {
            self.stand_in_line(at, desk);
        } else if !self.handover.is_idle() || !self.holds_what_is_committed(heir) {
            self.stand_in_line(desk.now + TICK, desk);
        } else {
            self.preference.asked = Some(heir);
            self.preference.not_before = desk.now + RETRY_PAUSE;
            self.step(CoreInput::Transfer(Some(heir)), desk, out);
        }
    }

    /// Under load no follower ever holds the whole log: the transfer waits until the heir does, refusing appends. One
    /// that holds what is committed is there in an exchange.
    fn holds_what_is_committed(&self, node: NodeId) -> bool {
        let progress = self.group.progress(node);
        progress.is_some_and(|progress| progress.match_index >= self.group.commit())
    }

    /// A transfer has failed.
    pub(crate) fn note_refusal(&mut self, desk: &mut Desk) {
        if let (Some(heir), Some(after)) = (self.preference.asked.take(), desk.config.give_back_after) {
            desk.give_back.refused.insert(heir, desk.now + after);
        }
    }

    /// Somebody leads: what was asked for is done, or over.
    pub(crate) fn end_giving_back(&mut self) {
        self.preference.asked = None;
    }

    /// A failover on request relieves a leader. All replicas are told, so its followers know; one that has taken
    /// over already must know as well.
    pub(crate) fn note_relief(&mut self, failed: Option<NodeId>, desk: &Desk) {
        if let Some(failed) = failed.or(self.group.leader()) {
            self.preference.relieved = Some((failed, desk.now + RESPITE));
        }
    }
}

fn is_alive(voter: &trimaran_raft::Progress) -> bool {
    voter.liveness == trimaran_raft::Liveness::Alive
}
