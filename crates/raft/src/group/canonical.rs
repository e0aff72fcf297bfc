//! A canonical form of a group, for explorations of what groups can do: two that differ only in the names of moments
//! and of writes become equal.

use super::Group;
use crate::Instant;

/// Gives moments other names, the distances between them kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Renaming {
    from: Instant,
    to: Instant,
}

impl Renaming {
    /// The new name. A moment before the clock's origin is taken to be at it.
    pub(crate) fn of(self, moment: Instant) -> Instant {
        Instant(moment.0.saturating_add(self.to.0).saturating_sub(self.from.0))
    }

    pub(crate) fn rename(self, moment: &mut Instant) {
        *moment = self.of(*moment);
    }

    pub(crate) fn rename_some(self, moment: &mut Option<Instant>) {
        *moment = moment.map(|moment| self.of(moment));
    }
}

impl Group {
    /// Gives moments and tokens other names: the latest time it was told is called `now`, all other moments keep their
    /// distance from it, and the last write that is known to be durable becomes token zero. Told the same in the new
    /// names, it says the same: only distances and order count.
    ///
    /// So groups become equal that differ only in when they live, and how many writes it took. What lies further back
    /// than `now` is from the clock's origin is taken to be at the origin: choose `now` beyond twice every interval of
    /// the tuning, and what is long ago looks the same however long ago it is.
    pub fn rename(&mut self, now: Instant) {
        let renaming = Renaming {
            from: self.now,
            to: now,
        };
        self.now = now;
        self.durability.rename();
        self.election.rename(renaming);
        renaming.rename_some(&mut self.leader_discovery.at);
        renaming.rename(&mut self.following.heard);
        self.leading.rename(renaming);
        for peer in &mut self.peers {
            renaming.rename_some(&mut peer.resend_at);
            renaming.rename(&mut peer.heard);
        }
    }
}
