//! The members of a group (Raft paper, section 6; dissertation, chapter 4).

use crate::NodeId;
use alloc::vec::Vec;
use core::fmt;

/// Bytes that one member counts for in limits.
const MEMBER_BYTES: usize = 8;

/// The members of a group. In force as soon as it is in a member's log, committed or not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Configuration {
    /// The members that vote, and of whose disks a majority is counted; the preferred leader first.
    pub voters: Vec<NodeId>,
    /// While voters are exchanged: those before. Every decision then needs a majority of both (joint consensus). Empty
    /// otherwise.
    pub outgoing: Vec<NodeId>,
    /// They get the log, but neither vote nor count. (One that is outgoing as well does until the change is complete.)
    pub learners: Vec<NodeId>,
}

/// The reason that no group can have such members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// Somebody has to vote.
    NoVoters,
    /// This one is named twice.
    Twice(NodeId),
    /// A wanted configuration can't be joint: the group goes through that by itself.
    Joint,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::NoVoters => f.write_str("a group needs a voter"),
            Malformed::Twice(node) => write!(f, "member {node} is named twice"),
            Malformed::Joint => f.write_str("a wanted configuration names no outgoing voters"),
        }
    }
}

impl core::error::Error for Malformed {}

impl Configuration {
    /// These voters, the preferred leader first, and nobody else.
    pub fn of_voters(voters: impl IntoIterator<Item = NodeId>) -> Configuration {
        Configuration {
            voters: voters.into_iter().collect(),
            ..Configuration::default()
        }
    }

    /// Whether voters are being exchanged.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether decisions depend on this node: a voter, or an outgoing one.
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.outgoing.contains(&node)
    }

    /// Whether it gets the log: a voter, an outgoing one, or a learner.
    pub fn is_member(&self, node: NodeId) -> bool {
        self.is_voter(node) || self.learners.contains(&node)
    }

    /// All members, each once: the voters in their order, then the outgoing ones that are none of them, then the
    /// learners.
    pub fn members(&self) -> impl Iterator<Item = NodeId> + '_ {
        let outgoing = self.outgoing.iter().filter(|node| !self.voters.contains(node));
        let learners = self.learners.iter().filter(|node| !self.outgoing.contains(node));
        self.voters.iter().chain(outgoing).chain(learners).copied()
    }

    /// Whether a group can have such members. An outgoing voter may be a voter or a learner as well.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check(&self) -> Result<(), Malformed> {
        if self.voters.is_empty() {
            return Err(Malformed::NoVoters);
        }
        no_one_twice(&self.outgoing)?;
        let voters_and_learners: Vec<NodeId> = self.voters.iter().chain(&self.learners).copied().collect();
        no_one_twice(&voters_and_learners)
    }

    /// Bytes that count against limits.
    pub(crate) fn len(&self) -> usize {
        (self.voters.len() + self.outgoing.len() + self.learners.len()) * MEMBER_BYTES
    }
}

fn no_one_twice(nodes: &[NodeId]) -> Result<(), Malformed> {
    let twice = nodes.iter().enumerate().find(|(at, node)| nodes[..*at].contains(node));
    twice.map_or(Ok(()), |(_, node)| Err(Malformed::Twice(*node)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(ids: &[u64]) -> Vec<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    #[test]
    fn what_no_group_can_have_is_named() {
        let check = |voters: &[u64], outgoing: &[u64], learners: &[u64], expected| {
            let (voters, outgoing, learners) = (nodes(voters), nodes(outgoing), nodes(learners));
            let configuration = Configuration {
                voters,
                outgoing,
                learners,
            };
            assert_eq!(configuration.check(), expected, "{configuration:?}");
        };
        check(&[1, 2, 3], &[], &[4], Ok(()));
        check(&[1, 2, 4], &[1, 2, 3], &[5], Ok(()));
        check(&[], &[1], &[2], Err(Malformed::NoVoters));
        check(&[1, 2, 1], &[], &[], Err(Malformed::Twice(NodeId(1))));
        check(&[1], &[2, 2], &[], Err(Malformed::Twice(NodeId(2))));
        check(&[1, 2], &[], &[2], Err(Malformed::Twice(NodeId(2))));
        check(&[1, 2], &[1, 3], &[3], Ok(()));
    }

    #[test]
    fn members_are_named_once() {
        let configuration = Configuration {
            voters: nodes(&[2, 1]),
            outgoing: nodes(&[1, 3]),
            learners: nodes(&[3, 4]),
        };
        assert_eq!(configuration.members().collect::<Vec<_>>(), nodes(&[2, 1, 3, 4]));
    }
}
