//! The leader's view of which replicas are in sync: a report, and the gate of `min.insync.replicas`. It takes no part
//! in the commit rule, which is Raft's.
//!
//! A replica joins the view when it holds everything that is committed, and leaves it when it is dead, or when for
//! `replica_lag` it has not reached what the log's end was when it fell behind (Kafka's `replica.lag.time.max.ms`).
//! A replica that is only suspected makes no progress, and so leaves when its time is up: a hiccup does not cost a
//! `NOT_ENOUGH_REPLICAS`.

#[cfg(test)]
mod tests;

use core::time::Duration;
use trimaran_raft::{Instant, Liveness, LogIndex, NodeId, Progress};

/// A voter, as the leader knows it.
#[derive(Clone, Copy, Debug)]
struct Member {
    node: NodeId,
    in_sync: bool,
    /// Since when it has been in sync and alive without interruption; none while it is not.
    fit_since: Option<Instant>,
    /// None while it is caught up with the log's end.
    behind: Option<Behind>,
}

/// Since when a member is behind, and what it has to reach in time.
#[derive(Clone, Copy, Debug)]
struct Behind {
    since: Instant,
    target: LogIndex,
}

/// Where the leader's own log stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) commit: LogIndex,
    pub(crate) last: LogIndex,
}

/// The view of one leadership.
#[derive(Debug, Default)]
pub(crate) struct InSyncView {
    members: Vec<Member>,
}

impl InSyncView {
    /// A new leader knows of nobody's progress but its own.
    pub(crate) fn begin(&mut self, own: NodeId, voters: &[NodeId]) {
        self.members.clear();
        let members = voters.iter().map(|&node| Member {
            node,
            in_sync: node == own,
            fit_since: None,
            behind: None,
        });
        self.members.extend(members);
    }

    /// The voters have changed: those who were there before keep their standing.
    pub(crate) fn change(&mut self, own: NodeId, voters: &[NodeId]) {
        let before = core::mem::take(&mut self.members);
        self.begin(own, voters);
        for member in &mut self.members {
            if let Some(old) = before.iter().find(|old| old.node == member.node) {
                *member = *old;
            }
        }
    }

    /// Not a leader any more.
    pub(crate) fn end(&mut self) {
        self.members.clear();
    }

    /// Takes in the followers' progress; true if the view changed. `progress` knows nothing of the leader itself, which
    /// is always in sync.
    pub(crate) fn update(
        &mut self,
        now: Instant,
        lag: Duration,
        ends: Ends,
        progress: impl Fn(NodeId) -> Option<Progress>,
    ) -> bool {
        let mut changed = false;
        for member in &mut self.members {
            if let Some(progress) = progress(member.node) {
                let in_sync = member.assess(now, lag, ends, progress);
                changed |= in_sync != member.in_sync;
                member.in_sync = in_sync;
                member.note_fitness(now, progress.liveness);
            }
        }
        changed
    }

    /// When a member's time is up, if nothing happens before.
    pub(crate) fn deadline(&self, lag: Duration) -> Option<Instant> {
        let in_sync = self.members.iter().filter(|member| member.in_sync);
        in_sync
            .filter_map(|member| member.behind)
            .map(|behind| behind.since + lag)
            .min()
    }

    /// Since when a follower has been in sync and alive without interruption; none if it is not.
    pub(crate) fn fit_since(&self, node: NodeId) -> Option<Instant> {
        self.members.iter().find(|member| member.node == node)?.fit_since
    }

    /// A broker was away, if only for a moment: it has to be fit again.
    pub(crate) fn note_restart(&mut self, node: NodeId) {
        let members = self.members.iter_mut();
        members
            .filter(|member| member.node == node)
            .for_each(|member| member.fit_since = None);
    }

    pub(crate) fn count(&self) -> usize {
        self.members.iter().filter(|member| member.in_sync).count()
    }

    pub(crate) fn replicas(&self) -> Vec<NodeId> {
        let in_sync = self.members.iter().filter(|member| member.in_sync);
        in_sync.map(|member| member.node).collect()
    }
}

impl Member {
    /// Whether it is in sync, given its progress.
    fn assess(&mut self, now: Instant, lag: Duration, ends: Ends, progress: Progress) -> bool {
        self.note_progress(now, ends, progress);
        if self.in_sync {
            let in_time = self.behind.is_none_or(|behind| now.since(behind.since) < lag);
            progress.liveness != Liveness::Dead && in_time
        } else {
            progress.liveness == Liveness::Alive && progress.match_index >= ends.commit
        }
    }

    fn note_fitness(&mut self, now: Instant, liveness: Liveness) {
        self.fit_since = match self.in_sync && liveness == Liveness::Alive {
            true => self.fit_since.or(Some(now)),
            false => None,
        };
    }

    fn note_progress(&mut self, now: Instant, ends: Ends, progress: Progress) {
        let alive = progress.liveness == Liveness::Alive;
        let reached = |behind: Behind| progress.match_index >= behind.target;
        if alive && progress.match_index >= ends.last {
            self.behind = None;
        } else if self.behind.is_none_or(|behind| alive && reached(behind)) {
            // It fell behind, or has caught up with where it fell behind, and has the same time again.
            self.behind = Some(Behind {
                since: now,
                target: ends.last,
            });
        }
    }
}
