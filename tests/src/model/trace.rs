//! A way through the states, told to a reader.

use super::member::{Member, Stimulus};
use super::world::{Action, Worlds};
use std::fmt;
use trimaran_raft::{Body, Configuration, Entry, Event, Message, NodeId, Payload, Persist, Role, Snapshot};

/// What happened on the way, and how the members were then.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// How many things happened.
    pub actions: usize,
    lines: Vec<String>,
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines.join("\n"))
    }
}

/// The way that these actions go.
pub(super) fn of(worlds: &Worlds, start: &[u32], actions: &[Action]) -> Trace {
    let (mut members, _) = worlds.unpack(start);
    let mut lines: Vec<String> = members.iter().map(|member| format!("    {}", status(member))).collect();
    for (at, action) in (1..).zip(actions) {
        let happening = worlds.happening(*action);
        let member = &mut members[happening.at];
        let id = member.group.id();
        let again = if action.again { ", and will once more" } else { "" };
        lines.push(format!("{at:3} {}{again}", stimulus_text(id, &happening.what)));
        match worlds.after(member, &happening) {
            Ok((next, reaction)) => {
                lines.extend(
                    reaction
                        .persist
                        .iter()
                        .map(|persist| format!("      {id} writes {}", write_text(persist))),
                );
                let events = reaction.events.iter().filter_map(event_text);
                lines.extend(events.map(|event| format!("      {id} {event}")));
                let reads = reaction.reads.iter();
                lines.extend(reads.map(|(read, index)| format!("      {id} answers read {read} from {index} on")));
                for (to, message) in &reaction.sent {
                    lines.push(format!("      {id} -> {to}: {}", message_text(message)));
                }
                lines.push(format!("      {}", status(&next)));
                *member = next;
            }
            Err(violation) => lines.push(format!("      {violation}")),
        }
    }
    let actions = actions.len();
    Trace { actions, lines }
}

fn stimulus_text(id: NodeId, what: &Stimulus) -> String {
    match what {
        Stimulus::Receive(from, message) => format!("{from} -> {id} arrives: {}", message_text(message)),
        Stimulus::Timeout => format!("{id}: its deadline comes"),
        Stimulus::Sync => format!("{id}: its oldest write is durable"),
        Stimulus::Crash { written, remembers } => {
            let memory = if *remembers { ", knowing what is committed" } else { "" };
            format!("{id} crashes after {written} of its writes under way, and starts again{memory}")
        }
        Stimulus::Propose(number) => format!("{id}: a client proposes '{}'", char::from(b'a' + number)),
        Stimulus::Evidence(node, liveness) => format!("{id} is told that {node} is {liveness:?}"),
        Stimulus::Restored(node) => format!("{id} is told that {node} is back"),
        Stimulus::Change(target) => format!("{id} is told to change the members to {}", members_text(target)),
        Stimulus::Read(read) => format!("{id} is asked for read {read}"),
        Stimulus::Delete => format!("{id} deletes what it knows to be committed"),
        Stimulus::Lose => format!("{id} loses its disk, and starts again"),
        Stimulus::Transfer(to) => format!("{id} is told to hand over to {to}"),
    }
}

fn status(member: &Member) -> String {
    let group = &member.group;
    let (id, role, term, commit) = (group.id(), group.role(), group.term(), group.commit());
    let leader = match group.leader() {
        Some(leader) if role == Role::Follower => format!(" behind {leader}"),
        _ => String::new(),
    };
    let entries: Vec<String> = member.entries().iter().map(entry_text).collect();
    let durable = group.durable();
    format!(
        "{id}: {role:?}{leader}, term {term}, log [{}] durable {durable} commit {commit}",
        entries.join(" ")
    )
}

fn entry_text(entry: &Entry) -> String {
    let content = match &entry.payload {
        Payload::Data(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Payload::Configuration(configuration) => members_text(configuration),
        Payload::Blank => String::new(),
    };
    format!("{}/{}{content}", entry.term, entry.index)
}

fn members_text(configuration: &Configuration) -> String {
    let names = |nodes: &[NodeId]| nodes.iter().map(NodeId::to_string).collect::<Vec<_>>().join(",");
    let mut text = format!("{{{}", names(&configuration.voters));
    for (mark, nodes) in [
        (" from ", &configuration.outgoing),
        (" learning ", &configuration.learners),
    ] {
        if !nodes.is_empty() {
            text += &format!("{mark}{}", names(nodes));
        }
    }
    text + "}"
}

fn entries_text(entries: &[Entry]) -> String {
    entries.iter().map(entry_text).collect::<Vec<_>>().join(" ")
}

fn snapshot_text(snapshot: &Snapshot) -> String {
    let members = members_text(&snapshot.configuration);
    format!("a snapshot of {}/{}, members {members}", snapshot.term, snapshot.index)
}

fn write_text(persist: &Persist) -> String {
    let mut parts = Vec::new();
    if let Some(hard_state) = persist.hard_state {
        let vote = hard_state.vote.map_or("nobody".into(), |vote| vote.to_string());
        parts.push(format!("term {}, vote for {vote}", hard_state.term));
    }
    parts.extend(persist.reset.iter().map(|snapshot| snapshot_text(snapshot)));
    parts.extend(persist.truncate_from.map(|from| format!("nothing from {from} on")));
    if !persist.entries.is_empty() {
        parts.push(format!("[{}]", entries_text(&persist.entries)));
    }
    parts.join(", ")
}

fn event_text(event: &Event) -> Option<String> {
    match event {
        // The status says so.
        Event::LeaderChanged { .. } | Event::Truncated { .. } => None,
        other => Some(format!("says {other:?}")),
    }
}

fn message_text(Message { term, body }: &Message) -> String {
    match body {
        Body::PreVote { last_index, last_term } => {
            format!("PreVote for term {term}, log ends {last_term}/{last_index}")
        }
        Body::PreVoteReply { granted: true, .. } => format!("PreVote granted for term {term}"),
        Body::PreVoteReply { longer_log, .. } => {
            let why = if *longer_log { " by a longer log" } else { "" };
            format!("PreVote refused in term {term}{why}")
        }
        Body::Vote {
            last_index, last_term, ..
        } => format!("Vote in term {term}, log ends {last_term}/{last_index}"),
        Body::VoteReply { granted } => {
            let answer = if *granted { "granted" } else { "refused" };
            format!("Vote {answer} in term {term}")
        }
        Body::Append {
            prev_index,
            prev_term,
            commit,
            entries,
            ..
        } => {
            let entries = entries_text(entries);
            format!("Append in term {term} after {prev_term}/{prev_index}: [{entries}] commit {commit}")
        }
        Body::AppendAccepted {
            match_index, commit, ..
        } => {
            format!("Append accepted in term {term} to {match_index}, commit {commit}")
        }
        Body::AppendRejected {
            prev_index,
            hint_index,
            hint_term,
        } => format!("Append rejected in term {term} at {prev_index}, try {hint_term}/{hint_index}"),
        Body::Snapshot { snapshot, commit, .. } => {
            format!("{} in term {term}, commit {commit}", snapshot_text(snapshot))
        }
        other => format!("{other:?} in term {term}"),
    }
}
