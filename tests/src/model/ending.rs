//! How faults end: everybody is back, or one member is not.
//!
//! **What is demanded** in any case: the group elects a leader that serves, and what is proposed is committed by all that are
//! left. **When:** one member is missed only if the others can decide. Of every configuration that may be in force
//! somewhere (the last one that is known to be committed, each one that a log holds beyond that, each one that is on its
//! way), both the voters and the outgoing ones have a majority among those that are left and have lost nothing. A member
//! that has lost its disk may not vote until a leader has filled it again, so fewer could decide nothing.

use super::member::{Member, Stimulus};
use super::world::Happening;
use std::fmt;
use trimaran_raft::{Body, Configuration, Entry, LogIndex, MemoryLog, NodeId, Payload};

/// What becomes of one member when all other faults end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// All return.
    AllReturn,
    /// It is down for good, and the others know it.
    Down(NodeId),
    /// It is cut off for good: the others suspect it.
    CutOff(NodeId),
    /// It loses its disk in this moment, and returns.
    Wiped(NodeId),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::AllReturn => f.write_str("all return"),
            Ending::Down(node) => write!(f, "{node} is down for good"),
            Ending::CutOff(node) => write!(f, "{node} is cut off for good"),
            Ending::Wiped(node) => write!(f, "{node} is wiped"),
        }
    }
}

impl Ending {
    /// One of those in which a member is missed, if the others can decide without it: every other time the leader, since
    /// what is believed about leaders matters most then.
    pub(super) fn chosen(number: usize, members: &[Member], in_flight: &[Happening]) -> Option<Ending> {
        let leaders = (0..members.len()).filter(|at| members[*at].leads());
        let leader = leaders.max_by_key(|at| members[*at].group.term());
        let missed = leader
            .filter(|_| number.is_multiple_of(2))
            .unwrap_or(number / 2 % members.len());
        let is_possible = can_do_without(missed, members, in_flight);
        let node = members[missed].group.id();
        let endings = [Ending::Down(node), Ending::CutOff(node), Ending::Wiped(node)];
        is_possible.then(|| endings[number / 2 / members.len() % endings.len()])
    }

    /// Who doesn't return.
    pub(super) fn gone(self) -> Option<NodeId> {
        match self {
            Ending::AllReturn | Ending::Wiped(_) => None,
            Ending::Down(node) | Ending::CutOff(node) => Some(node),
        }
    }
}

/// See the module's comment.
fn can_do_without(missed: usize, members: &[Member], in_flight: &[Happening]) -> bool {
    let missed = members[missed].group.id();
    let is_sound = |voter: &&NodeId| {
        let voter = members.iter().find(|member| member.group.id() == **voter);
        voter.is_some_and(|member| member.group.id() != missed && !member.is_lost())
    };
    let decides = |voters: &[NodeId]| voters.iter().filter(is_sound).count() * 2 > voters.len();
    let relevant = relevant(members, in_flight);
    relevant
        .iter()
        .all(|known| decides(&known.voters) && (!known.is_joint() || decides(&known.outgoing)))
}

fn relevant<'a>(members: &'a [Member], in_flight: &'a [Happening]) -> Vec<&'a Configuration> {
    let ahead = members.iter().max_by_key(|member| member.group.commit());
    let committed = ahead.map_or(LogIndex::ZERO, |member| member.group.commit());
    let settled = ahead.map(|member| member.configuration_at(committed));
    let logs = members.iter().flat_map(|member| [&member.log, &member.disk.log]);
    let held = logs.flat_map(MemoryLog::configurations);
    let later = held
        .filter(move |(index, _)| *index > committed)
        .map(|(_, known)| known);
    let sent = in_flight.iter().flat_map(|happening| match &happening.what {
        Stimulus::Receive(_, message) => match &message.body {
            Body::Append { entries, .. } => entries.as_slice(),
            _ => &[],
        },
        _ => &[],
    });
    let sent = sent.filter(|entry| entry.index > committed).filter_map(configuration);
    settled.into_iter().chain(later).chain(sent).collect()
}

fn configuration(entry: &Entry) -> Option<&Configuration> {
    match &entry.payload {
        Payload::Configuration(configuration) => Some(configuration),
        Payload::Blank | Payload::Data(_) => None,
    }
}
