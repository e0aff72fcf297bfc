//! How a replica is opened: with what the disk has of it, or as one that has lost what it promised.

use crate::sabotage::{Breakage, Sabotage};
use crate::{METADATA, ids};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use trimaran_multiraft::{Damaged, GroupOptions, Input, Open};
use trimaran_raft::{GroupId, HardState, Life, LogIndex, LogView, NodeId};
use trimaran_registry::{BrokerId, Standing};
use trimaran_storage::fs::Fs;
use trimaran_storage::journal::RecoveredGroup;
use trimaran_storage::log::{LogError, LogOptions, ReplicaLog};

/// Everything that it takes to open a replica, and to open it again.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The group's first members, the preferred leader first.
    pub(crate) founders: Vec<NodeId>,
    /// The brokers that should have a replica (none if that is not known yet), and the number of that wish.
    pub(crate) wanted: (Vec<NodeId>, u64),
    /// The options that may differ from group to group.
    pub(crate) options: GroupOptions,
    /// Sizes and limits of its log.
    pub(crate) log_options: LogOptions,
    /// The members that hold its log and never vote, if anybody has said so.
    pub(crate) learners: Option<Vec<NodeId>>,
}

/// As what a replica is opened.
#[derive(Clone, Debug)]
pub(crate) enum How {
    /// With what the journal, and perhaps the folder, have of it.
    Found(Box<RecoveredGroup>),
    /// The disk has nothing of it.
    Nothing(Standing),
    /// It turned out to be damaged while it ran.
    Damaged,
}

/// A replica to be opened, where blocking is allowed.
#[derive(Clone, Debug)]
pub struct OpenJob {
    pub(crate) group: GroupId,
    pub(crate) plan: Plan,
    pub(crate) how: How,
    /// Whether other brokers have replicas, which could fill this one.
    pub(crate) has_others: bool,
    pub(crate) breakage: Breakage,
}

/// The outcome of an [`OpenJob`].
pub struct Opened {
    /// The group.
    pub group: GroupId,
    /// What became of the replica.
    pub outcome: Outcome,
    /// A flush up to here may have been done before a crash, and not been heard of: release it from the journal, which
    /// keeps its files for ever otherwise.
    pub flushed: Option<LogIndex>,
    /// What was quarantined of it is not needed any more: what it may have promised before it was lost, it holds again.
    pub has_spare_quarantine: bool,
    /// For its shard.
    pub(crate) input: Input,
}

/// What became of a replica.
#[derive(Debug)]
pub enum Outcome {
    /// It is open.
    Sound,
    /// It is open, holds nothing of what it may have promised, and is filled by the others.
    Lost,
    /// The same, since what it held is damaged.
    Quarantined(LogError),
    /// It takes no part.
    Failed(LogError),
}

/// The folder of one replica, within the folder of all: the group's number, since topics' names can be used again.
#[must_use]
pub fn folder(partitions: &Path, group: GroupId) -> PathBuf {
    partitions.join(format!("group-{}", group.0))
}

/// A replica and what is known of it, before its shard has it.
struct Found {
    open: Open,
    outcome: Outcome,
    flushed: Option<LogIndex>,
    has_spare_quarantine: bool,
}

impl OpenJob {
    /// The group.
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// Opens the replica's log in its [folder] among `partitions`. `next_life` numbers what is lost, given what the
    /// journal still knows ([`trimaran_multiraft::Lives`]). Blocks.
    pub fn run(self, fs: &Arc<dyn Fs>, partitions: &Path, next_life: impl FnOnce(Life) -> Life) -> Opened {
        let group = self.group;
        let disk = (fs, &*folder(partitions, group));
        let found = match &self.how {
            How::Nothing(Standing::Founding) => self.open_or_quarantine(disk, &RecoveredGroup::default(), next_life),
            How::Found(recovered) => self.open_or_quarantine(disk, recovered, next_life),
            How::Nothing(Standing::Joining) | How::Damaged if self.breakage.is(Sabotage::OpenLostAsWhole) => {
                self.open_or_quarantine(disk, &RecoveredGroup::default(), next_life)
            }
            How::Nothing(Standing::Joining) => self.open_lost_unless_alone(disk, next_life),
            How::Damaged => self.open_lost(disk, HardState::default(), Outcome::Lost, next_life),
        };
        match found {
            Ok(found) => {
                let open = found.open.wanting(self.plan.wanted.0);
                // Of the metadata group's members, only some are meant to vote.
                let open = match group {
                    METADATA => open.keeping_learners(),
                    _ => open,
                };
                Opened {
                    group,
                    outcome: found.outcome,
                    flushed: found.flushed,
                    has_spare_quarantine: found.has_spare_quarantine,
                    input: Input::Open(Box::new(open)),
                }
            }
            // It takes no part, and must say so: this broker's heartbeats vouch for all of its replicas.
            Err(error) => {
                let damaged = Damaged {
                    group,
                    voters: self.plan.founders,
                    recovered: match self.how {
                        How::Found(recovered) => *recovered,
                        How::Nothing(_) | How::Damaged => RecoveredGroup::default(),
                    },
                };
                Opened {
                    group,
                    outcome: Outcome::Failed(error),
                    flushed: None,
                    has_spare_quarantine: false,
                    input: Input::Damaged(Box::new(damaged)),
                }
            }
        }
    }

    /// A damaged log is quarantined, and its replica filled by the others, if there are any.
    fn open_or_quarantine(
        &self,
        disk: (&Arc<dyn Fs>, &Path),
        recovered: &RecoveredGroup,
        next_life: impl FnOnce(Life) -> Life,
    ) -> Result<Found, LogError> {
        match self.open_found(disk, recovered.clone()) {
            Err(error) if error.is_damage() && self.has_others => {
                self.open_lost(disk, recovered.hard_state, Outcome::Quarantined(error), next_life)
            }
            found => found,
        }
    }

    /// A replica that the journal does not know is filled again by the others. Where there is nobody else, what lies in
    /// the folder is all there is of the partition: it stays where it is, and is not used.
    fn open_lost_unless_alone(
        &self,
        disk: (&Arc<dyn Fs>, &Path),
        next_life: impl FnOnce(Life) -> Life,
    ) -> Result<Found, LogError> {
        if !self.has_others {
            self.open_found(disk, RecoveredGroup::default())?;
        }
        self.open_lost(disk, HardState::default(), Outcome::Lost, next_life)
    }

    fn open_found(&self, (fs, dir): (&Arc<dyn Fs>, &Path), recovered: RecoveredGroup) -> Result<Found, LogError> {
        let Plan {
            founders,
            options,
            log_options,
            ..
        } = self.plan.clone();
        let hard_state = recovered.hard_state;
        let log = ReplicaLog::open(Arc::clone(fs), dir, self.group, log_options, recovered)?;
        let whole = hard_state.barred <= log.last_index();
        Ok(Found {
            flushed: Some(log.flushed_index()),
            has_spare_quarantine: whole && log.has_quarantine(),
            outcome: if whole { Outcome::Sound } else { Outcome::Lost },
            open: Open::new(founders, log, hard_state, options)?,
        })
    }

    fn open_lost(
        &self,
        (fs, dir): (&Arc<dyn Fs>, &Path),
        known: HardState,
        outcome: Outcome,
        next_life: impl FnOnce(Life) -> Life,
    ) -> Result<Found, LogError> {
        let Plan {
            founders,
            options,
            log_options,
            ..
        } = self.plan.clone();
        let log = ReplicaLog::open_lost(Arc::clone(fs), dir, self.group, log_options)?;
        Ok(Found {
            open: Open::lost(founders, log, known, next_life(known.life), options),
            outcome,
            flushed: None,
            has_spare_quarantine: false,
        })
    }
}

/// Brokers as members of Raft groups.
pub(crate) fn nodes(brokers: &[BrokerId]) -> Vec<NodeId> {
    brokers.iter().copied().map(ids::node).collect()
}
