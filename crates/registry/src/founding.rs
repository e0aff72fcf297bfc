//! Whether a broker that holds nothing of the metadata group may found it, or has lost what it held.
//!
//! An empty folder means one of two things: the cluster is new, or this broker's disk is. In a new cluster every member
//! of the metadata group begins with an empty log and an unused vote. A member whose disk was lost may have voted and
//! acknowledged; beginning again, it could vote twice in a term, and deny what was committed with its help. Nothing on
//! the empty disk tells the two apart, so the others are asked.
//!
//! The rule: **found only when every other metadata replica has answered, after this folder was made, that it holds
//! nothing, or that it has itself founded the cluster together with this very folder.** One that holds something else
//! is proof that this broker has lost what it held: it joins, and is refilled. A silent one is waited for.
//!
//! Why that is safe. Say that an earlier self of this broker has promised something to a member: a vote, or to keep an
//! entry. That member had opened the group before, so it had founded (or joined), and had noted with which folders. The
//! folder that this broker has now was made later, so it isn't among them, and the answer is that the member holds
//! something. If that member has lost its disk since, the promise was lost with it. A majority of answers would not do:
//! an election that is under way counts on members that are not yet part of any majority.
//!
//! A broker whose folder says that it was part of the group, and whose journal holds nothing of it, needs no answers:
//! it has lost what it held ([`crate::folder`]). It tells those who ask that the cluster is not new.
//!
//! Why a founder's note must be durable before its group opens: if it were lost in a crash, then the others, who may
//! not have founded yet, would be told that they have lost something, and the cluster would never begin.
//!
//! A broker that is not among the replicas never votes: it joins at once, whatever the others hold.
//!
//! Sans-I/O: [`crate::Agent`] drives it, on a broker, in `trimaran node` and in the simulation.

use crate::{BrokerId, FolderId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// As what a replica is opened whose broker's disk holds nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// As a first member of a new group: its log is empty because the group's is, and its vote is unused.
    Founding,
    /// As one that has lost what it had promised, or was never a first member: it neither votes nor stands before a
    /// leader has brought it up to what it may have promised.
    Joining,
}

/// The facts that a broker knows at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundingConfig {
    /// This broker.
    pub broker: BrokerId,
    /// Its folder.
    pub folder: FolderId,
    /// The voting replicas of the metadata group: the cluster's founders.
    pub replicas: Vec<BrokerId>,
    /// The folder holds something of the metadata group: a hard state or an entry.
    pub holds: bool,
    /// The folders that [`Decision::Found`] named at an earlier start with this folder.
    pub founded_with: Option<Vec<(BrokerId, FolderId)>>,
    /// The folder, under its name or an earlier one, has been part of the metadata group. If it holds nothing of the
    /// group all the same, that was lost.
    pub is_member: bool,
}

/// How to open the metadata group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// With what the folder holds.
    Resume,
    /// As a founder ([`Standing::Founding`]). Before that, note these folders of the others durably, for
    /// [`FoundingConfig::founded_with`].
    Found(Vec<(BrokerId, FolderId)>),
    /// As one that has lost what it held ([`Standing::Joining`]).
    Join,
}

/// The answer of a metadata replica to one whose folder is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Found {
    /// It holds nothing either.
    Nothing,
    /// It has founded the metadata group, together with the asker's folder.
    TogetherWithYou,
    /// It holds something of the metadata group, and the asker's folder had no part in its beginning.
    Something,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Founding {
    config: FoundingConfig,
    answers: BTreeMap<BrokerId, (FolderId, Found)>,
    decision: Option<Decision>,
}

impl Founding {
    /// A broker that starts. [`Founding::decision`] may be there at once.
    pub fn new(config: FoundingConfig) -> Founding {
        let mut founding = Founding {
            decision: None,
            answers: BTreeMap::new(),
            config,
        };
        founding.decision = match (founding.config.holds, &founding.config.founded_with) {
            (true, _) => Some(Decision::Resume),
            (false, _) if founding.config.is_member => Some(Decision::Join),
            // Nothing was promised since it was noted, or the folder would hold it.
            (false, Some(with)) => Some(Decision::Found(with.clone())),
            (false, None) if !founding.is_founder() => Some(Decision::Join),
            (false, None) => founding.conclude(),
        };
        founding
    }

    /// The decision; never changes once it is there.
    pub fn decision(&self) -> Option<&Decision> {
        self.decision.as_ref()
    }

    /// The brokers that are to be asked, again and again until they answer. None once it is decided.
    pub fn silent(&self) -> Vec<BrokerId> {
        if self.decision.is_some() {
            return Vec::new();
        }
        let silent = |other: &BrokerId| !self.answers.contains_key(other);
        self.others().filter(silent).collect()
    }

    /// Another replica, whose folder holds nothing, asks what is held here. `filled`: this broker has been given
    /// something of the metadata log since it joined.
    pub fn asked(&self, asker: BrokerId, folder: FolderId, filled: bool) -> Found {
        match &self.decision {
            None => Found::Nothing,
            Some(Decision::Join) if self.config.is_member => self.with_me(asker, folder),
            Some(Decision::Join) if !filled => Found::Nothing,
            Some(Decision::Join) => Found::Something,
            Some(Decision::Resume | Decision::Found(_)) => self.with_me(asker, folder),
        }
    }

    /// A replica has answered. `asker` is the folder that it answered; an answer to an earlier folder of this broker
    /// says nothing.
    pub fn answered(&mut self, from: BrokerId, asker: FolderId, folder: FolderId, found: Found) {
        if self.decision.is_some() || asker != self.config.folder || !self.others().any(|other| other == from) {
            return;
        }
        self.answers.insert(from, (folder, found));
        self.decision = self.conclude();
    }

    fn is_founder(&self) -> bool {
        self.config.replicas.contains(&self.config.broker)
    }

    fn with_me(&self, asker: BrokerId, folder: FolderId) -> Found {
        let noted = match &self.decision {
            Some(Decision::Found(with)) => Some(with),
            _ => self.config.founded_with.as_ref(),
        };
        match noted.is_some_and(|with| with.contains(&(asker, folder))) {
            true => Found::TogetherWithYou,
            false => Found::Something,
        }
    }

    fn others(&self) -> impl Iterator<Item = BrokerId> + '_ {
        let own = self.config.broker;
        self.config.replicas.iter().copied().filter(move |id| *id != own)
    }

    fn conclude(&self) -> Option<Decision> {
        if self.answers.values().any(|(_, found)| *found == Found::Something) {
            return Some(Decision::Join);
        }
        let with = |other: BrokerId| self.answers.get(&other).map(|(folder, _)| (other, *folder));
        self.others().map(with).collect::<Option<Vec<_>>>().map(Decision::Found)
    }
}

#[cfg(test)]
mod tests;
