//! Replicas as they are found on disk, or not found, or found damaged.

use super::event::{Effect, Event};
use super::settings::log_options;
use super::{REOPEN_AFTER, Running, folder};
use crate::sim::queue::Micros;
use std::sync::Arc;
use trimaran_multiraft::{Damaged, GroupOptions, Input, Lost, Open};
use trimaran_raft::{GroupId, HardState, NodeId};
use trimaran_registry::Standing;
use trimaran_storage::journal::RecoveredGroup;
use trimaran_storage::log::{LogError, ReplicaLog};

/// How a replica is opened, and opened again.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    /// The group's first members, the preferred leader first.
    pub(super) founders: Vec<NodeId>,
    /// The nodes that should have a replica.
    pub(super) wanted: Vec<NodeId>,
    /// Which wish that was, if it was said since.
    pub(super) since: Option<u64>,
    /// As what, if the disk has nothing of it.
    pub(super) standing: Standing,
    /// The options that may differ from group to group.
    pub(super) options: GroupOptions,
    /// The members that hold the log and never vote, if anybody has said so.
    pub(super) learners: Option<Vec<NodeId>>,
}

impl Opening {
    /// The latest wish since: while it waited to be opened, that did not reach it, and one that is opened again does
    /// not know it.
    fn wishes(&self, group: GroupId) -> impl Iterator<Item = Input> + use<> {
        let replicas = self
            .since
            .map(|since| Input::Replicas(group, self.wanted.clone(), since));
        let learners = self.learners.clone().map(|learners| Input::Learners(group, learners));
        replicas.into_iter().chain(learners)
    }

    /// Whether there is somebody who could fill a replica again.
    fn has_others(&self, own: NodeId) -> bool {
        self.founders.iter().chain(&self.wanted).any(|node| *node != own)
    }

    /// With what was said of the group's members.
    fn complete(&self, open: Open) -> Open {
        let open = open.wanting(self.wanted.clone());
        match open.group() {
            super::METADATA => open.keeping_learners(),
            _ => open,
        }
    }
}

impl Running {
    /// Opens a replica with what the journal and the folder have of it. One that is damaged is set aside, and filled by
    /// the others; one that can't be read for now takes no part.
    pub(super) fn open(
        &mut self,
        now: Micros,
        group: GroupId,
        opening: Opening,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        if self.closing.contains(&group) {
            // What is deleted must not be what is made now.
            self.postponed.insert(group, opening);
            return Ok(());
        }
        let recovered = self.recovered.remove(&group);
        let opened = match &recovered {
            None if opening.standing == Standing::Joining => {
                effects.push(self.note(format!("has lost group {group}")));
                self.open_lost(group, &opening, HardState::default())
            }
            _ => self.open_found(group, &opening, recovered.clone().unwrap_or_default()),
        };
        let opened = match opened {
            Err(error) if error.is_damage() && opening.has_others(NodeId(u64::from(self.settings.id))) => {
                effects.push(self.note(format!("sets the log of group {group} aside: {error:?}")));
                effects.push(Effect::GivesUp(group, error));
                let known = recovered
                    .as_ref()
                    .map_or(HardState::default(), |found| found.hard_state);
                self.open_lost(group, &opening, known)
            }
            opened => opened,
        };
        let input = match opened {
            Ok(open) => Input::Open(Box::new(opening.complete(open))),
            Err(error) => {
                effects.push(self.note(format!("takes no part in group {group}: {error:?}")));
                self.silent.insert(group);
                Input::Damaged(Box::new(Damaged {
                    group,
                    voters: opening.founders.clone(),
                    recovered: recovered.unwrap_or_default(),
                }))
            }
        };
        let wishes = opening.wishes(group);
        self.openings.insert(group, opening);
        effects.push(Effect::Opened(group));
        self.tell(now, group, input, effects);
        wishes.for_each(|wish| self.tell(now, group, wish, effects));
        Ok(())
    }

    /// A replica turned out to be damaged while it ran.
    pub(super) fn reopen(&mut self, now: Micros, lost: &Lost, effects: &mut Vec<Effect>) -> Result<(), String> {
        let group = lost.group;
        effects.push(self.note(format!("has a damaged log of group {group}: {:?}", lost.error)));
        effects.push(Effect::GivesUp(group, lost.error.clone()));
        self.open_again(now, group, effects);
        Ok(())
    }

    /// Makes a replica that is lost again, as soon as its disk takes it.
    pub(super) fn open_again(&mut self, now: Micros, group: GroupId, effects: &mut Vec<Effect>) {
        let Some(opening) = self.openings.get(&group).cloned() else {
            return;
        };
        let open = match self.open_lost(group, &opening, HardState::default()) {
            Ok(open) => open,
            Err(error) => {
                effects.push(self.note(format!("can't make the lost log of group {group}: {error:?}")));
                effects.push(Effect::At(now + REOPEN_AFTER, Event::Reopen(group)));
                return;
            }
        };
        let wishes = opening.wishes(group);
        let input = Input::Open(Box::new(opening.complete(open)));
        effects.push(Effect::Opened(group));
        self.tell(now, group, input, effects);
        wishes.for_each(|wish| self.tell(now, group, wish, effects));
    }

    fn open_found(&mut self, group: GroupId, opening: &Opening, recovered: RecoveredGroup) -> Result<Open, LogError> {
        let hard_state = recovered.hard_state;
        let fs = Arc::new(self.fs.clone());
        let log = ReplicaLog::open(fs, &folder(group), group, log_options(), recovered)?;
        // A flush that was done before a crash, and not heard of. (To release names no file, and can't fail.)
        drop(self.journal.release(group, log.flushed_index()));
        Open::new(opening.founders.clone(), log, hard_state, opening.options.clone())
    }

    fn open_lost(&mut self, group: GroupId, opening: &Opening, known: HardState) -> Result<Open, LogError> {
        let fs = Arc::new(self.fs.clone());
        let log = ReplicaLog::open_lost(fs, &folder(group), group, log_options())?;
        let life = self.lives.next(known.life);
        let options = opening.options.clone();
        Ok(Open::lost(opening.founders.clone(), log, known, life, options))
    }
}
