//! How a replica comes to a shard, and what is read before it can be driven.

use crate::producers::ProducerTable;
use crate::requests::GroupOptions;
use trimaran_raft::{Configuration, GroupId, HardState, Life, LogIndex, LogView, NodeId};
use trimaran_storage::journal::RecoveredGroup;
use trimaran_storage::log::{LogError, ReplicaLog};

/// Entries whose producers are read at open: as much as a broker may read before it is ready. Producers that were
/// silent for longer may begin again, as those that expired.
const PRODUCER_WINDOW: u64 = 1 << 20;

/// Adds a group to a shard. Made outside of the shard's thread, since opening a log and reading its producers' state
/// may block.
pub struct Open {
    /// The group's first configuration.
    pub(crate) founders: Vec<NodeId>,
    /// The nodes that are to have a replica.
    pub(crate) wanted: Vec<NodeId>,
    /// Learners that it has stay until [`crate::Input::Learners`] names them.
    pub(crate) keeps_learners: bool,
    /// Whether it holds nothing of what it may have promised.
    pub(crate) is_lost: bool,
    pub(crate) log: ReplicaLog,
    pub(crate) hard_state: HardState,
    pub(crate) options: GroupOptions,
    pub(crate) producers: ProducerTable,
    /// An earlier opening, that this one succeeds, had delivered everything up to here.
    pub(crate) delivered: LogIndex,
}

impl Open {
    /// Whether there can be such a group.
    pub(crate) fn is_possible(&self) -> bool {
        Configuration::of_voters(self.founders.iter().copied()).check().is_ok()
    }

    /// A replica as it was found on disk: its log, and its hard state from the journal. `founders` are the voters of
    /// the group's first configuration, the preferred leader first: they are the same for all replicas and never
    /// change, no matter who the members are now. They are also taken for those who are to have a replica, unless
    /// [`Open::wanting`] says otherwise. Reads the log's batches, and what is remembered of those before them, to learn
    /// what its idempotent producers sent last: may block.
    ///
    /// # Errors
    /// The log can't be read.
    pub fn new(
        founders: Vec<NodeId>,
        log: ReplicaLog,
        hard_state: HardState,
        options: GroupOptions,
    ) -> Result<Open, LogError> {
        let producers = producers_of(&log)?;
        Ok(Open {
            wanted: founders.clone(),
            founders,
            keeps_learners: false,
            is_lost: false,
            log,
            hard_state,
            options,
            producers,
            delivered: LogIndex::ZERO,
        })
    }

    /// A replica that holds nothing of what it may have promised: its disk was wiped, or damaged, or it was added to a
    /// group that it may have belonged to before. It neither votes nor leads until the group's leader has made it a
    /// learner, filled it, and made it a voter again. `log` is an empty one
    /// ([`open_lost`](trimaran_storage::log::ReplicaLog::open_lost)); `known` is what the journal still has of its term
    /// and vote; `life` must be higher than in any earlier loss of this group here: a wall clock will do.
    pub fn lost(founders: Vec<NodeId>, log: ReplicaLog, known: HardState, life: Life, options: GroupOptions) -> Open {
        Open {
            wanted: founders.clone(),
            founders,
            keeps_learners: false,
            is_lost: true,
            log,
            hard_state: HardState::lost(known, life),
            options,
            producers: ProducerTable::default(),
            delivered: LogIndex::ZERO,
        }
    }

    /// Takes the place of a replica that was damaged while it ran.
    pub(crate) fn succeed(&mut self, old: HardState, delivered: LogIndex) {
        let life = self.hard_state.life.max(Life(old.life.0.saturating_add(1)));
        let newer = if old.term >= self.hard_state.term {
            old
        } else {
            self.hard_state
        };
        self.hard_state = HardState::lost(newer, life);
        self.delivered = delivered;
    }

    /// The nodes that are to have a replica, the preferred leader first; none if that is not known yet: see
    /// [`crate::Input::Replicas`].
    pub fn wanting(mut self, replicas: Vec<NodeId>) -> Open {
        self.wanted = replicas;
        self
    }

    /// The group may have lasting learners: nobody is dropped from them before [`crate::Input::Learners`] has named
    /// them.
    pub fn keeping_learners(mut self) -> Open {
        self.keeps_learners = true;
        self
    }

    /// The group.
    pub fn group(&self) -> GroupId {
        self.log.group()
    }
}

/// The last batches of idempotent producers, as far as they are read. What is remembered of before the log counts only
/// if nothing is left out behind it: a producer's later batches might be there, and its next one would be refused.
fn producers_of(log: &ReplicaLog) -> Result<ProducerTable, LogError> {
    let window = LogIndex(log.last_index().0.saturating_sub(PRODUCER_WINDOW));
    let remembered = match window <= log.first_index() {
        true => log.producer_snapshot()?,
        false => Vec::new(),
    };
    let batches = log.batches(log.first_index().max(window))?;
    Ok(ProducerTable::rebuild(&remembered, &batches, log.flushed_index()))
}

/// A replica whose log can't be opened for now. What the journal has of it is kept there: its vote is not forgotten.
pub struct Damaged {
    /// The group.
    pub group: GroupId,
    /// All voters, the preferred leader first.
    pub voters: Vec<NodeId>,
    /// The journal's part of it.
    pub recovered: RecoveredGroup,
}
