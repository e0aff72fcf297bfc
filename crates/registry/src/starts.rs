//! Which start of a broker is the latest, and whether a data folder is the one that its broker had last.
//!
//! A member of a Raft group must remember what it promised. A broker that is started with a former data folder, or with an
//! older copy of its own, remembers less than it promised, and nothing in that folder says so. Its incarnation does: each
//! start has a larger one than all before it, and the folder holds the one of the last start that was made with it. So
//! **a folder whose last start is behind a start of that broker that anybody has seen is lost**, whatever it holds: it gets
//! another name, and its broker is refilled like one with an empty disk ([`crate::founding`], [`crate::Standing`]).
//!
//! Two mechanisms apply the rule:
//!
//! - [`Inquiry`]: a broker that starts asks the others what they have seen of it, before it opens its journal. Their answers
//!   also give it an incarnation that is larger than all before it, whatever its clock says, and tell it whether another
//!   process runs under its id.
//! - [`Starts::judge`]: a broker announces its start, and the one before it in the same folder, whenever it connects. Its
//!   peers note the start durably before they take a message of it, and take none if the folder is behind.
//!
//! The first is quick and heals by itself, but may miss a peer that can't be reached. The second misses nobody: a promise of
//! a later start that a peer has heard of was heard after that peer had noted the start. What neither can detect is a folder
//! whose later starts were seen only by brokers that are down, and a copy that was taken since the last start.
//!
//! Sans-I/O: a broker drives it over its peer connections, the simulation over simulated ones.

use crate::sabotage::{Breakage, Sabotage};
use crate::{BrokerId, FolderId, Incarnation, Instant};
use core::fmt;
use core::time::Duration;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How long a starting broker waits for the answers of a majority. Brokers that lost power together come up within seconds of
/// each other; one that waits longer has nobody to elect a controller with, but may serve partitions whose replicas are here.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// How long it waits for the others once a majority has answered: one round trip, and time for a peer that is busy. A peer
/// whose machine is gone must not delay every restart by much.
pub const GRACE: Duration = Duration::from_millis(500);

/// How long another process may be seen alive under the same id before this one gives up. An old process that was just
/// killed is believed in for one suspicion timeout at most.
const OCCUPIED_FOR: Duration = Duration::from_secs(5);

/// Between two questions to a broker that has not answered.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// One start of a broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Start {
    /// The folder that it was made with.
    pub folder: FolderId,
    /// Larger than that of any start of the broker before.
    pub incarnation: Incarnation,
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "start {} with data folder {}", self.incarnation, self.folder)
    }
}

/// A start as its broker announces it to its peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Announcement {
    /// The start.
    pub start: Start,
    /// The incarnation of the start before it with the same folder. Zero: the folder held nothing.
    pub previous: Incarnation,
}

/// What a start that is accepted means to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is the one that was seen last.
    Again,
    /// A later start; note it durably before taking anything from it.
    Later,
    /// The same, and with another folder: the broker has lost what it promised before.
    OtherFolder(Start),
}

/// Why a start is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A later start of the broker was seen.
    Superseded(Start),
    /// The folder is older than this start, which was seen: what was promised since is not in it.
    RolledBack(Start),
    /// Another process with another folder is alive under the broker's id.
    AnotherRuns(Start),
}

/// The latest start of each broker that was seen here. To be kept durably.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Starts {
    latest: BTreeMap<BrokerId, Start>,
    breakage: Breakage,
}

impl Starts {
    /// What was kept.
    pub fn recovered(latest: impl IntoIterator<Item = (BrokerId, Start)>) -> Starts {
        Starts {
            latest: latest.into_iter().collect(),
            breakage: Breakage::default(),
        }
    }

    /// From now on it is broken in that way: for tests of tests.
    #[cfg(feature = "sabotage")]
    pub fn sabotage(&mut self, how: Sabotage) {
        self.breakage = Breakage::of(how);
    }

    /// The latest start that was seen of a broker.
    pub fn latest(&self, broker: BrokerId) -> Option<Start> {
        self.latest.get(&broker).copied()
    }

    /// All of them, by broker.
    pub fn iter(&self) -> impl Iterator<Item = (BrokerId, Start)> + '_ {
        self.latest.iter().map(|(broker, start)| (*broker, *start))
    }

    /// Notes a start, by whatever way it became known. True if it is later than what was known, and so must be kept.
    pub fn note(&mut self, broker: BrokerId, start: Start) -> bool {
        let later = self
            .latest(broker)
            .is_none_or(|known| start.incarnation > known.incarnation);
        if later {
            self.latest.insert(broker, start);
        }
        later
    }

    /// Whether anything may be taken from a process that announces this start. `alive`: a start of the same broker that is
    /// connected to this broker now, and was heard from within the suspicion timeout.
    ///
    /// # Errors
    /// [`Refusal`]: nothing may be taken from it.
    pub fn judge(&self, broker: BrokerId, announced: &Announcement, alive: Option<Start>) -> Result<Accepted, Refusal> {
        let Some(seen) = self.latest(broker) else {
            return Ok(Accepted::Later);
        };
        if seen == announced.start {
            return Ok(Accepted::Again);
        }
        if announced.start.incarnation <= seen.incarnation {
            return Err(Refusal::Superseded(seen));
        }
        if let Some(alive) = alive.filter(|alive| alive.folder != announced.start.folder) {
            return Err(Refusal::AnotherRuns(alive));
        }
        if is_behind(announced.previous, seen) && !self.breakage.is(Sabotage::TrustOldFolders) {
            return Err(Refusal::RolledBack(seen));
        }
        if seen.folder == announced.start.folder {
            Ok(Accepted::Later)
        } else {
            Ok(Accepted::OtherFolder(seen))
        }
    }
}

/// Whether a folder with this last start lacks what was promised in that one. A folder without a start holds nothing, and
/// is known to.
fn is_behind(last: Incarnation, seen: Start) -> bool {
    last > Incarnation(0) && last < seen.incarnation
}

/// What a broker knows when it starts.
#[derive(Clone, Debug)]
pub struct InquiryConfig {
    /// This broker.
    pub broker: BrokerId,
    /// The cluster's other brokers.
    pub others: Vec<BrokerId>,
    /// The last start that was made with the folder. Its incarnation is zero if the folder holds nothing that was promised.
    pub last: Start,
    /// The highest incarnation that the folder names for this broker, whatever else it holds.
    pub known: Incarnation,
    /// How long it waits for a majority: [`PATIENCE`].
    pub patience: Duration,
    /// How long it waits for the others after that: [`GRACE`].
    pub grace: Duration,
    /// The wall clock, in milliseconds: incarnations follow it where nothing speaks against it, so that a new folder has a
    /// larger one than its predecessor even if nobody can be asked.
    pub wall_clock_ms: u64,
}

/// A broker's answer to one that starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The latest start of the asker that it has seen.
    pub seen: Option<Start>,
    /// The start of the asker's id that it is in contact with now.
    pub alive: Option<Start>,
}

/// What an [`Inquiry`] has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Start with this incarnation.
    Begin {
        /// Larger than all that are known.
        incarnation: Incarnation,
        /// The folder is behind this start, which that broker has seen: it is lost.
        lost: Option<(BrokerId, Start)>,
    },
    /// Another process runs under this id, as that broker says: don't start.
    Occupied(BrokerId, Start),
}

/// What a starting broker asks the others. See the module.
#[derive(Clone, Debug)]
pub struct Inquiry {
    config: InquiryConfig,
    began: Instant,
    accounts: BTreeMap<BrokerId, Account>,
    asked_at: BTreeMap<BrokerId, Instant>,
    /// Since when a majority has answered.
    enough_since: Option<Instant>,
    breakage: Breakage,
}

impl Inquiry {
    /// A broker that starts now.
    pub fn new(config: InquiryConfig, now: Instant) -> Inquiry {
        let mut inquiry = Inquiry {
            config,
            began: now,
            accounts: BTreeMap::new(),
            asked_at: BTreeMap::new(),
            enough_since: None,
            breakage: Breakage::default(),
        };
        inquiry.count(now);
        inquiry
    }

    /// From now on it is broken in that way: for tests of tests.
    #[cfg(feature = "sabotage")]
    pub fn sabotage(&mut self, how: Sabotage) {
        self.breakage = Breakage::of(how);
    }

    /// Brokers to be asked now. Each is asked again until it has answered that nobody runs under this broker's id.
    pub fn ask(&mut self, now: Instant) -> Vec<BrokerId> {
        let mut due = self.waits_for();
        due.retain(|other| self.asked_at.get(other).is_none_or(|at| now >= *at + ASK_EVERY));
        self.asked_at.extend(due.iter().map(|other| (*other, now)));
        due
    }

    /// Brokers whose answers are missing, or say that another process runs.
    pub fn waits_for(&self) -> Vec<BrokerId> {
        let done = |other: &BrokerId| self.accounts.get(other).is_some_and(|account| account.alive.is_none());
        self.config
            .others
            .iter()
            .copied()
            .filter(|other| !done(other))
            .collect()
    }

    /// A broker has answered; this broker's own id stands for a process that listens at this broker's own address.
    pub fn answered(&mut self, now: Instant, from: BrokerId, account: Account) {
        if from == self.config.broker || self.config.others.contains(&from) {
            self.accounts.insert(from, account);
            self.count(now);
        }
    }

    fn count(&mut self, now: Instant) {
        let others = self.config.others.len();
        let answers = self.accounts.keys().filter(|id| **id != self.config.broker).count();
        // With this broker itself, more than half of all.
        if 2 * (answers + 1) > others + 1 {
            self.enough_since.get_or_insert(now);
        }
    }

    /// When [`Inquiry::outcome`] and [`Inquiry::ask`] are to be looked at again, if nothing happens before.
    pub fn deadline(&self, now: Instant) -> Instant {
        now + ASK_EVERY
    }

    /// What has come of it, if it is over.
    pub fn outcome(&self, now: Instant) -> Option<Outcome> {
        let waited = now.since(self.began);
        if let Some((by, start)) = self.occupied() {
            return (waited >= OCCUPIED_FOR).then_some(Outcome::Occupied(by, start));
        }
        let over = match self.enough_since {
            Some(since) => self.waits_for().is_empty() || now.since(since) >= self.config.grace,
            None => waited >= self.config.patience,
        };
        over.then(|| self.begin())
    }

    fn occupied(&self) -> Option<(BrokerId, Start)> {
        self.accounts
            .iter()
            .find_map(|(by, account)| Some((*by, account.alive?)))
    }

    fn begin(&self) -> Outcome {
        let InquiryConfig { last, known, .. } = self.config;
        let accounts = self.accounts.iter();
        let seen = accounts.filter_map(|(by, account)| Some((*by, account.seen?)));
        let highest = seen.max_by_key(|(_, start)| start.incarnation);
        let seen_incarnation = highest.map_or(Incarnation(0), |(_, start)| start.incarnation);
        let before = seen_incarnation.max(known).max(last.incarnation);
        let wall = self.config.wall_clock_ms;
        let incarnation = if self.breakage.is(Sabotage::IncarnationFromClock) {
            Incarnation(wall.max(last.incarnation.0.saturating_add(1)))
        } else {
            Incarnation(wall.max(before.0.saturating_add(1)))
        };
        let own = Start {
            incarnation: known,
            ..last
        };
        let behind = |(_, start): &(BrokerId, Start)| is_behind(last.incarnation, *start);
        let lost = highest.into_iter().chain([(self.config.broker, own)]).find(behind);
        Outcome::Begin {
            incarnation,
            lost: lost.filter(|_| !self.breakage.is(Sabotage::TrustOldFolders)),
        }
    }
}

#[cfg(test)]
mod tests;
