//! Endings: when faults stop, not everybody comes back.
//!
//! In a quarter of the runs all do. In the others a minority, drawn from the seed, is down for good, or is cut off for
//! good from all others (and from nobody of its own side), or is wiped and comes back. In some of them one more member
//! is wiped in the same moment. In three of ten, a leader is drained and replaced shortly before that, with one voter
//! cut off.
//!
//! **What is demanded** of those that are left: one leader that serves, everything committed everywhere, the members that
//! are asked for, no election without end, and silence; all that was acknowledged is there, since the checkers go on.
//!
//! **When that is possible**, and only then is anybody spared: of every configuration that may be in force somewhere (the
//! last one that is committed, each one that a log holds beyond that, each one that is on its way), both the voters and
//! the outgoing ones have a majority among those that are left and have lost nothing. Fewer could not decide, whatever
//! they did: a member that has lost what it promised may not vote until it is filled again, and it is filled only by a
//! leader. Two voters left of three, one of them lost, are an example: they wait for the third one, and have to.
//! Whether a majority remains when a lost voter is made a learner need not be asked: of fewer voters it is a larger
//! part.

use super::*;
use alloc::collections::BTreeSet;

/// What becomes of those that don't simply come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    AllReturn,
    Down,
    CutOff,
    Wiped,
}

/// Drawn from the seed, apart from everything else, so that what comes before is the same in any case.
pub(super) struct Endings {
    pub(super) ending: Ending,
    pub(super) chance: Chance,
    /// Those that don't come back.
    pub(super) gone: BTreeSet<usize>,
    /// When the leader is drained, if it is: shortly before the end, so that its successor may be missed.
    pub(super) drained_at: Option<Duration>,
    /// It has been, and nothing else goes wrong before the end.
    pub(super) is_drained: bool,
}

impl Endings {
    pub(super) fn draw(seed: u64) -> Endings {
        let mut chance = Chance::new(seed ^ 0x00e4_d146);
        let all = [Ending::AllReturn, Ending::Down, Ending::CutOff, Ending::Wiped];
        let ending = all[chance.below(4) as usize];
        let drained_at = chance.percent(30).then(|| chance.millis(1000, 1400));
        Endings {
            ending,
            chance,
            gone: BTreeSet::new(),
            drained_at,
            is_drained: false,
        }
    }
}

impl World {
    pub(super) fn is_gone(&self, node: usize) -> bool {
        self.endings.gone.contains(&node)
    }

    /// Faults stop, and somebody is missed.
    pub(super) fn begin_ending(&mut self) {
        match self.endings.ending {
            Ending::AllReturn => {}
            Ending::Wiped => {
                let node = self.endings.chance.below(self.nodes.len() as u64) as usize;
                self.wipe_if_spared(node);
            }
            Ending::Down | Ending::CutOff => self.lose_minority(),
        }
    }

    /// The leader hands over to another one, which is to replace it by a node that was no member. One of the voters
    /// hears nothing of that, and goes on believing in a leader that is no member any more.
    pub(super) fn drain(&mut self) {
        let settled = self.settled().voters;
        let Some(leader) = self.leader().filter(|_| self.members_change && settled.len() > 2) else {
            return;
        };
        let id = self.nodes[leader].id();
        let mut others: Vec<NodeId> = settled.iter().copied().filter(|voter| *voter != id).collect();
        let spare = self.ids().into_iter().find(|node| !settled.contains(node));
        let (Some(spare), true) = (spare, settled.contains(&id)) else {
            return;
        };
        let turn = self.endings.chance.below(others.len() as u64) as usize;
        others.rotate_left(turn);
        let ignorant = self
            .nodes
            .iter()
            .position(|node| node.id() == others[0])
            .expect("a node");
        for other in (0..self.nodes.len()).filter(|other| ![leader, ignorant].contains(other)) {
            self.cut(ignorant, other);
            self.cut(other, ignorant);
        }
        self.endings.is_drained = true;
        self.wishes.voters = [&others[1..], &[others[0], spare]].concat();
        self.tell(leader, Input::Transfer(Some(others[1])));
    }

    fn lose_minority(&mut self) {
        let count = self.nodes.len();
        let any = self.endings.chance.below(count as u64) as usize;
        let first = self.leader().filter(|_| self.endings.chance.percent(50)).unwrap_or(any);
        let most = if self.endings.chance.percent(50) { 1 } else { count };
        for node in (first..count).chain(0..first) {
            let mut gone = self.endings.gone.clone();
            gone.insert(node);
            if gone.len() <= most && self.can_do_without(&gone) {
                self.endings.gone = gone;
            }
        }
        let is_down = self.endings.ending == Ending::Down;
        for node in self.endings.gone.clone() {
            if is_down && !self.is_down(node) {
                self.crash(node);
            }
            for other in 0..count {
                if self.is_gone(other) {
                    continue;
                }
                if is_down {
                    // One that has started over since may not have heard.
                    let delay = self.endings.chance.millis(30, 60);
                    self.notice(other, node, delay, Some(Liveness::Dead));
                } else {
                    self.cut(node, other);
                    self.cut(other, node);
                }
            }
        }
        if self.endings.chance.percent(30) {
            self.wipe_if_spared(self.endings.chance.0 as usize % count);
        }
        self.wishes.voters = self.wanted_in_the_end();
    }

    fn wipe_if_spared(&mut self, node: usize) {
        let mut gone = self.endings.gone.clone();
        if gone.insert(node) && self.can_do_without(&gone) {
            self.wipe(node);
        }
    }

    /// See the module's comment.
    fn can_do_without(&self, gone: &BTreeSet<usize>) -> bool {
        let is_sound = |voter: &&NodeId| {
            let at = self.nodes.iter().position(|node| node.id() == **voter);
            at.is_some_and(|at| !gone.contains(&at) && !members::is_lost(&self.nodes[at]))
        };
        let decides = |voters: &[NodeId]| voters.iter().filter(is_sound).count() * 2 > voters.len();
        self.relevant()
            .iter()
            .all(|known| decides(&known.voters) && (!known.is_joint() || decides(&known.outgoing)))
    }

    /// Every configuration that may be in force somewhere.
    fn relevant(&self) -> Vec<Configuration> {
        let on_the_way = self.happenings.values().flat_map(|happening| match happening {
            Happening::Arrives {
                message:
                    Message {
                        body: Body::Append { entries, .. },
                        ..
                    },
                ..
            } => entries.as_slice(),
            _ => &[],
        });
        let sent = on_the_way.filter_map(|entry| match &entry.payload {
            Payload::Configuration(configuration) => Some(&**configuration),
            Payload::Blank | Payload::Data(_) => None,
        });
        let settled = [self.settled(), self.nodes[0].config.configuration.clone()].into_iter();
        // Once nobody is missed, the first members are wanted again: see `converge`.
        let settled = settled.take(if self.endings.ending == Ending::Wiped { 2 } else { 1 });
        settled.chain(self.unsettled().chain(sent).cloned()).collect()
    }

    /// The voters that there are, as far as they can go on; those that are gone may be replaced. Nobody can become a
    /// voter who doesn't come back.
    fn wanted_in_the_end(&mut self) -> Vec<NodeId> {
        let settled = self.settled().voters;
        let relevant = self.relevant();
        let spare: Vec<NodeId> = (0..self.nodes.len())
            .filter(|node| !self.is_gone(*node))
            .map(|node| self.nodes[node].id())
            .filter(|id| !settled.contains(id))
            .collect();
        let mut spare = spare.into_iter().filter(|_| self.endings.chance.percent(50));
        let mut wanted = Vec::new();
        for id in settled {
            let at = self.nodes.iter().position(|node| node.id() == id).expect("a node");
            let stays = !self.endings.gone.contains(&at)
                || !members::is_lost(&self.nodes[at]) && relevant.iter().all(|known| known.voters.contains(&id));
            match spare.next().filter(|_| self.endings.gone.contains(&at)) {
                Some(other) => wanted.push(other),
                None if stays => wanted.push(id),
                None => {}
            }
        }
        wanted
    }
}
