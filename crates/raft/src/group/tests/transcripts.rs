//! Stories of clusters: `testdata/*.txt`. A file is a list of paragraphs, each some commands, a line `----`, and what
//! the members then say. `UPDATE_TRANSCRIPTS=1` rewrites what they say.
//!
//! Commands (a member is named by its number):
//!
//! - `cluster 3 external|own [append=9] [spare=2] [lease=10]`: new members; bytes in an append at most, nodes that are no
//!   members yet, and how far clocks may drift apart where leases are used (in milliseconds).
//! - `slow 1 2`: from now on these members' writes wait for `persist`.
//! - `memory 1 term=5 terms=1,1,4 commit=2`: the member restarts with this on its disk.
//! - `campaign 1`, `propose 1 a b`, `transfer 1 2`, `transfer 1 any`, `forget 2`.
//! - `dead 1 at 2 3`, `suspected ..`, `alive ..`, `restored ..`: evidence about 1, told to 2 and 3.
//! - `deliver`: everything that is on its way now. `deliver 1->2`: only that. `run`: until nothing is on its way.
//! - `drop`, `drop 1->2`: it is lost. `repeat 1->2`: it will arrive twice.
//! - `hold 1->2`: it stays on its way until `release`.
//! - `persist 1`: its oldest write is durable. `crash 1`, `restart 1`.
//! - `advance 50ms`: time passes, in steps from deadline to deadline; messages stay where they are.
//! - `change 1 1 2 4 learners 5`: member 1 is asked to make 1, 2 and 4 the voters, 5 a learner.
//! - `snapshot 1 3 5`: member 1 is given a snapshot of position 5, for member 3. `wipe 3`: it restarts without its disk.
//! - `report 1 3 started|sent|failed`: how the snapshot that member 1 has for member 3 is getting on.
//! - `read 1 7 8`: member 1 is asked from where on the reads 7 and 8 see everything.
//! - `compact 1 5`: member 1 deletes its entries up to 5.
//! - `status`: how everyone sees it. `progress 1`: how leader 1 sees the others.

use super::replica::{Replica, tuning};
use crate::*;
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};
use bytes::Bytes;
use core::fmt::Write;
use core::time::Duration;
use std::path::Path;
use std::{env, fs};

#[derive(Default)]
struct Story {
    nodes: Vec<Replica>,
    now: Instant,
    /// Whose writes wait for a command.
    slow: Vec<u64>,
    on_the_way: Vec<(NodeId, NodeId, Message)>,
    /// Kept back on its way.
    held: Vec<(NodeId, NodeId, Message)>,
    /// Counts the disks that were wiped.
    wiped: u64,
    said: String,
}

impl Story {
    /// Obeys one command; what the members say is added to `said`.
    fn obey(&mut self, command: &str) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let (verb, rest) = words.split_first().expect("a command");
        match (*verb, rest) {
            ("cluster", [count, kind, limits @ ..]) => self.begin(count, kind, limits),
            ("slow", nodes) => self.slow = nodes.iter().map(|node| number(node)).collect(),
            ("memory", [node, facts @ ..]) => self.remember(number(node), facts),
            ("campaign", [node]) => self.tell(number(node), Input::Campaign),
            ("forget", [node]) => self.tell(number(node), Input::ForgetLeader),
            ("transfer", [node, "any"]) => self.tell(number(node), Input::Transfer(None)),
            ("transfer", [node, to]) => self.tell(number(node), Input::Transfer(Some(NodeId(number(to))))),
            ("propose", [node, payloads @ ..]) => {
                let payloads = payloads.iter().map(|text| Bytes::from(text.to_string())).collect();
                self.tell(number(node), Input::Propose(payloads));
            }
            ("dead", [of, "at", at @ ..]) => self.evidence(of, at, Some(Liveness::Dead)),
            ("suspected", [of, "at", at @ ..]) => self.evidence(of, at, Some(Liveness::Suspected)),
            ("alive", [of, "at", at @ ..]) => self.evidence(of, at, Some(Liveness::Alive)),
            ("restored", [of, "at", at @ ..]) => self.evidence(of, at, None),
            ("deliver", way) => self.deliver(way),
            ("hold", way) => {
                let taken = self.take(way);
                self.held.extend(taken);
            }
            ("release", []) => self.on_the_way.append(&mut self.held),
            ("drop", way) => drop(self.take(way)),
            ("repeat", way) => {
                let taken = self.take(way);
                self.on_the_way.extend(taken.iter().chain(&taken).cloned());
            }
            ("run", []) => {
                while !self.on_the_way.is_empty() {
                    self.deliver(&[]);
                }
            }
            ("change", [node, members @ ..]) => {
                let mut lists = members.split(|word| *word == "learners");
                let mut list = || {
                    let words = lists.next().unwrap_or_default();
                    words.iter().map(|word| NodeId(number(word))).collect()
                };
                let change = Configuration {
                    voters: list(),
                    learners: list(),
                    outgoing: Vec::new(),
                };
                self.tell(number(node), Input::Change(change));
            }
            ("snapshot", [node, to, index]) => self.snapshot(number(node), number(to), number(index)),
            ("report", [node, to, status]) => {
                let status = match *status {
                    "started" => SnapshotStatus::Started,
                    "sent" => SnapshotStatus::Sent,
                    "failed" => SnapshotStatus::Failed,
                    _ => panic!("unknown status of a snapshot: {status}"),
                };
                self.tell(number(node), Input::ReportSnapshot(NodeId(number(to)), status));
            }
            ("progress", [node]) => self.progress(number(node)),
            ("wipe", [node]) => self.wipe(number(node)),
            ("read", [node, reads @ ..]) => {
                for read in reads {
                    self.tell(number(node), Input::Read(ReadId(number(read))));
                }
            }
            ("persist", [node]) => self.persist(number(node)),
            ("crash", [node]) => self.node(number(node)).crash(),
            ("restart", [node]) => {
                let now = self.now;
                self.node(number(node)).restart(now, LogIndex::ZERO);
            }
            ("advance", [time]) => self.advance(time),
            ("compact", [node, upto]) => self.node(number(node)).log.compact(LogIndex(number(upto))),
            ("status", []) => self.status(),
            _ => panic!("unknown command: {command}"),
        }
    }

    fn begin(&mut self, count: &str, kind: &str, limits: &[&str]) {
        let voters: Vec<NodeId> = (1..=number(count)).map(NodeId).collect();
        let heartbeats = match kind {
            "own" => Heartbeats::Own(Duration::from_millis(30)),
            "external" => Heartbeats::External,
            _ => panic!("unknown heartbeats: {kind}"),
        };
        let mut tuning = tuning(heartbeats);
        let mut spare = 0;
        for limit in limits {
            match limit.split_once('=').expect("name=number") {
                ("append", bytes) => tuning.max_append_bytes = number(bytes),
                ("spare", count) => spare = number(count),
                ("lease", drift) => tuning.lease = Some(Duration::from_millis(number(drift))),
                _ => panic!("unknown limit: {limit}"),
            }
        }
        let nodes: Vec<NodeId> = (1..=number(count) + spare).map(NodeId).collect();
        let node = |id: &NodeId| {
            let config = Config {
                id: *id,
                configuration: Configuration::of_voters(voters.clone()),
                tuning: tuning.clone(),
            };
            Replica::new(config, Instant::ZERO)
        };
        *self = Story {
            nodes: nodes.iter().map(node).collect(),
            ..Story::default()
        };
    }

    fn remember(&mut self, node: u64, facts: &[&str]) {
        let now = self.now;
        let replica = self.node(node);
        replica.crash();
        let mut committed = LogIndex::ZERO;
        for fact in facts {
            match fact.split_once('=').expect("name=value") {
                ("term", term) => {
                    replica.disk.hard_state = HardState {
                        term: Term(number(term)),
                        vote: None,
                        ..HardState::default()
                    }
                }
                ("commit", index) => committed = LogIndex(number(index)),
                ("terms", terms) => {
                    let entry = |(at, term)| Entry {
                        index: LogIndex(at),
                        term: Term(number(term)),
                        payload: Payload::Data(Bytes::from(format!("{at} of term {term}"))),
                    };
                    let entries = (1..).zip(terms.split(',')).map(entry).collect();
                    let all = Persist {
                        token: Token(0),
                        hard_state: None,
                        reset: None,
                        truncate_from: None,
                        entries,
                    };
                    replica.disk.log = MemoryLog::new();
                    replica.disk.log.apply(&all);
                }
                _ => panic!("unknown fact: {fact}"),
            }
        }
        replica.log = replica.disk.log.clone();
        replica.restart(now, committed);
    }

    fn node(&mut self, node: u64) -> &mut Replica {
        self.nodes
            .iter_mut()
            .find(|replica| replica.id() == NodeId(node))
            .expect("a member")
    }

    fn tell(&mut self, node: u64, input: Input) {
        let now = self.now;
        let is_slow = self.slow.contains(&node);
        let replica = self.node(node);
        if replica.group.is_none() {
            return;
        }
        let output = replica.step(now, input);
        let token = if is_slow { None } else { replica.sync_one() };
        let applied = output.committed.inspect(|commit| replica.applied = *commit);
        self.narrate(node, &output);
        self.on_the_way.extend(
            output
                .messages
                .into_iter()
                .map(|(to, message)| (NodeId(node), to, message)),
        );
        if let Some(token) = token {
            self.tell(node, Input::Persisted(token));
        }
        if let Some(applied) = applied {
            self.tell(node, Input::Applied(applied));
        }
    }

    fn snapshot(&mut self, node: u64, to: u64, index: u64) {
        let (to, index) = (NodeId(to), LogIndex(index));
        let replica = self.node(node);
        let TermAt::Known(term) = replica.log.term_at(index) else {
            panic!("{node} does not hold {index}");
        };
        let configuration = replica.log.configuration_at(index);
        let configuration = configuration.unwrap_or(&replica.config.configuration).clone();
        let snapshot = Box::new(Snapshot {
            index,
            term,
            configuration,
            data: Bytes::new(),
        });
        self.tell(node, Input::Snapshot { to, snapshot });
    }

    fn wipe(&mut self, node: u64) {
        self.wiped += 1;
        let (now, life) = (self.now, Life(self.wiped));
        let replica = self.node(node);
        replica.crash();
        replica.wipe(life);
        replica.restart(now, LogIndex::ZERO);
    }

    fn persist(&mut self, node: u64) {
        let token = self.node(node).sync_one();
        match token {
            Some(token) => self.tell(node, Input::Persisted(token)),
            None => self.say(format!("{node}: has nothing to write")),
        }
    }

    fn evidence(&mut self, of: &str, at: &[&str], liveness: Option<Liveness>) {
        let of = NodeId(number(of));
        for node in at {
            let input = liveness.map_or(Input::Restored(of), |liveness| Input::Liveness(of, liveness));
            self.tell(number(node), input);
        }
    }

    /// What is on its way there, or everything.
    fn take(&mut self, way: &[&str]) -> Vec<(NodeId, NodeId, Message)> {
        let Some(way) = way.first() else {
            return core::mem::take(&mut self.on_the_way);
        };
        let (from, to) = way.split_once("->").expect("from->to");
        let is_there = |end: NodeId, name: &str| name == "*" || end == NodeId(number(name));
        let all = core::mem::take(&mut self.on_the_way);
        let (taken, left) = all
            .into_iter()
            .partition(|(a, b, _)| is_there(*a, from) && is_there(*b, to));
        self.on_the_way = left;
        taken
    }

    fn deliver(&mut self, way: &[&str]) {
        for (from, to, message) in self.take(way) {
            self.tell(to.0, Input::Message(from, message));
        }
    }

    fn advance(&mut self, time: &str) {
        let millis = number(time.strip_suffix("ms").expect("milliseconds"));
        let end = self.now + Duration::from_millis(millis);
        loop {
            let due = |node: &Replica| Some((node.group.as_ref()?.deadline()?, node.id()));
            let Some((at, node)) = self.nodes.iter().filter_map(due).min().filter(|(at, _)| *at <= end) else {
                break;
            };
            self.now = self.now.max(at);
            self.say(format!("at {}:", millis_of(self.now)));
            self.tell(node.0, Input::Tick);
        }
        self.now = end;
    }
}

/// What is said.
impl Story {
    fn say(&mut self, line: String) {
        self.said += &line;
        self.said.push('\n');
    }

    fn narrate(&mut self, node: u64, output: &Output) {
        if let Some(persist) = &output.persist {
            self.say(format!("{node}: writes {}", write_text(persist)));
        }
        match &output.proposed {
            Some(Ok(Proposed { term, first, last })) => {
                self.say(format!("{node}: proposed {first}..={last} in term {term}"))
            }
            Some(Err(error)) => self.say(format!("{node}: refuses the proposal: {error:?}")),
            None => {}
        }
        match &output.changed {
            Some(Ok(index)) => self.say(format!("{node}: begins the change at {index}")),
            Some(Err(error)) => self.say(format!("{node}: refuses the change: {error:?}")),
            None => {}
        }
        for (read, answer) in &output.reads {
            match answer {
                Ok(index) => self.say(format!("{node}: read {read} sees everything at {index}")),
                Err(error) => self.say(format!("{node}: refuses read {read}: {error:?}")),
            }
        }
        for event in &output.events {
            self.say(format!("{node}: {}", event_text(event)));
        }
        if let Some(commit) = output.committed {
            self.say(format!("{node}: commits {commit}"));
        }
        for (to, message) in &output.messages {
            self.say(format!("{node} -> {to}: {}", message_text(message)));
        }
    }

    fn progress(&mut self, node: u64) {
        let status = self.node(node).group.as_ref().expect("it is up").status();
        for (of, progress) in status.progress {
            let Progress {
                state,
                match_index,
                next_index,
                commit,
                ..
            } = progress;
            let under_way = if progress.snapshot_under_way {
                ", snapshot under way"
            } else {
                ""
            };
            self.say(format!(
                "{of}: {state:?}, match {match_index}, next {next_index}, commit {commit}{under_way}"
            ));
        }
    }

    fn status(&mut self) {
        let mut lines = Vec::new();
        for replica in &self.nodes {
            let (id, last) = (replica.id(), replica.log.last_index());
            let Some(group) = &replica.group else {
                lines.push(format!("{id}: down, {last} entries"));
                continue;
            };
            let leader = group.leader().map_or("nobody".to_string(), |leader| leader.to_string());
            let mut line = format!("{id}: {:?} of term {}, led by {leader}", group.role(), group.term());
            let _ = write!(
                line,
                ", log {}..={last} durable to {}",
                replica.log.first_index(),
                group.durable()
            );
            let _ = write!(
                line,
                ", commit {}, replicated {}",
                group.commit(),
                group.replicated_index()
            );
            let _ = match group.deadline() {
                Some(at) => write!(line, ", due at {}", millis_of(at)),
                None => write!(line, ", idle"),
            };
            if group.is_serving() {
                line += ", serving";
            }
            if group.is_lost() {
                line += ", lost";
            }
            if group.configuration_index() > LogIndex::ZERO {
                line += &format!("; {}", configuration_text(group.configuration()));
            }
            lines.push(line);
        }
        let count = self.on_the_way.len();
        lines.push(format!("{count} messages on their way"));
        lines.into_iter().for_each(|line| self.say(line));
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("not a number: {text}"))
}

fn millis_of(at: Instant) -> String {
    format!("{}.{:03}ms", at.0 / 1000, at.0 % 1000)
}

fn write_text(persist: &Persist) -> String {
    let mut parts = vec![format!("#{}:", persist.token)];
    if let Some(HardState {
        term,
        vote,
        barred,
        life,
    }) = persist.hard_state
    {
        let vote = vote.map_or("nobody".to_string(), |vote| vote.to_string());
        parts.push(format!("term {term}, vote for {vote};"));
        if barred > LogIndex::ZERO {
            parts.push(format!("barred to {}, life {life};", place_text(barred)));
        }
    }
    if let Some(reset) = &persist.reset {
        parts.push(format!("reset to {};", snapshot_text(reset)));
    }
    if let Some(from) = persist.truncate_from {
        parts.push(format!("truncate from {from};"));
    }
    if !persist.entries.is_empty() {
        parts.push(format!("entries {}", entries_text(&persist.entries)));
    }
    parts.join(" ").trim_end_matches(';').to_string()
}

fn entries_text(entries: &[Entry]) -> String {
    let text = |entry: &Entry| match &entry.payload {
        Payload::Blank => format!("{}/{} blank", entry.term, entry.index),
        Payload::Data(bytes) => format!("{}/{} '{}'", entry.term, entry.index, String::from_utf8_lossy(bytes)),
        Payload::Configuration(configuration) => {
            format!("{}/{} {}", entry.term, entry.index, configuration_text(configuration))
        }
    };
    let texts: Vec<String> = entries.iter().map(text).collect();
    format!("[{}]", texts.join(", "))
}

fn configuration_text(configuration: &Configuration) -> String {
    let list = |nodes: &[NodeId]| nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let mut text = format!("voters {}", list(&configuration.voters));
    if configuration.is_joint() {
        text += &format!(" instead of {}", list(&configuration.outgoing));
    }
    if !configuration.learners.is_empty() {
        text += &format!(", learners {}", list(&configuration.learners));
    }
    text
}

fn snapshot_text(snapshot: &Snapshot) -> String {
    let Snapshot {
        index,
        term,
        configuration,
        ..
    } = snapshot;
    format!("{term}/{index}, {}", configuration_text(configuration))
}

fn place_text(index: LogIndex) -> String {
    if index == LogIndex::MAX {
        "the end".to_string()
    } else {
        index.to_string()
    }
}

fn round_text(round: u64) -> String {
    if round == 0 {
        String::new()
    } else {
        format!(", round {round}")
    }
}

fn event_text(event: &Event) -> String {
    match event {
        Event::LeaderChanged { term, leader, role } => {
            let leader = leader.map_or("nobody".to_string(), |leader| leader.to_string());
            format!("is {role:?} of term {term}, led by {leader}")
        }
        Event::ConfigurationChanged { index, committed } => {
            let how = if *committed { "committed" } else { "in force" };
            format!("configuration of {index} is {how}")
        }
        Event::TransferFailed { target, error } => {
            let target = target.map_or("anybody".to_string(), |target| target.to_string());
            format!("does not hand over to {target}: {error:?}")
        }
        other => format!("{other:?}"),
    }
}

fn message_text(message: &Message) -> String {
    let term = message.term;
    match &message.body {
        Body::PreVote { last_index, last_term } => {
            format!("PreVote for term {term}, log ends {last_term}/{last_index}")
        }
        Body::PreVoteReply { granted: true, .. } => format!("PreVoteReply granted for term {term}"),
        Body::PreVoteReply { longer_log: true, .. } => {
            format!("PreVoteReply refused in term {term}: own log is longer")
        }
        Body::PreVoteReply { .. } => format!("PreVoteReply refused in term {term}"),
        Body::Vote {
            last_index,
            last_term,
            transfer,
        } => {
            let how = if *transfer { ", by transfer" } else { "" };
            format!("Vote in term {term}, log ends {last_term}/{last_index}{how}")
        }
        Body::VoteReply { granted } => format!(
            "VoteReply {} in term {term}",
            if *granted { "granted" } else { "refused" }
        ),
        Body::Append {
            prev_index,
            prev_term,
            commit,
            replicated_index,
            entries,
        } => {
            let entries = entries_text(entries);
            format!(
                "Append in term {term} after {prev_term}/{prev_index}: {entries} commit {commit} replicated {replicated_index}"
            )
        }
        Body::AppendAccepted {
            match_index,
            commit,
            life,
        } => {
            let life = if *life == Life::default() {
                String::new()
            } else {
                format!(", life {life}")
            };
            format!("AppendAccepted in term {term}, match {match_index}, commit {commit}{life}")
        }
        Body::AppendRejected {
            prev_index,
            hint_index,
            hint_term,
        } => {
            format!("AppendRejected in term {term} after {prev_index}, try {hint_term}/{hint_index}")
        }
        Body::Heartbeat { commit, round } => format!("Heartbeat in term {term}, commit {commit}{}", round_text(*round)),
        Body::HeartbeatReply { commit, round } => {
            format!("HeartbeatReply in term {term}, commit {commit}{}", round_text(*round))
        }
        Body::Snapshot {
            snapshot,
            commit,
            replicated_index,
        } => {
            format!(
                "Snapshot in term {term}: {} commit {commit} replicated {replicated_index}",
                snapshot_text(snapshot)
            )
        }
        Body::Lost { life } => format!("Lost in term {term}, life {life}"),
        Body::Rejoin { since, life } => format!("Rejoin in term {term}, since {since}, life {life}"),
        Body::Seek => format!("Seek in term {term}"),
        Body::TimeoutNow => format!("TimeoutNow in term {term}"),
    }
}

/// Plays a whole file, and returns it as it should be.
fn play(text: &str) -> String {
    let mut story = Story::default();
    let mut paragraphs = Vec::new();
    for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
        let (commands, _) = paragraph.split_once("----").unwrap_or((paragraph, ""));
        let commands = commands.trim();
        let is_command = |line: &&str| !line.starts_with('#');
        if commands.lines().all(|line| !is_command(&line)) {
            paragraphs.push(commands.to_string());
            continue;
        }
        for command in commands.lines().filter(is_command) {
            story.obey(command);
        }
        let said = core::mem::take(&mut story.said);
        let said = if said.is_empty() { "silence\n".to_string() } else { said };
        paragraphs.push(format!("{commands}\n----\n{}", said.trim_end()));
    }
    paragraphs.join("\n\n") + "\n"
}

#[test]
fn the_stories_go_as_told() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut files: Vec<_> = fs::read_dir(&folder)
        .expect("testdata")
        .map(|file| file.expect("a file").path())
        .collect();
    files.sort();
    assert!(files.len() > 10, "the stories are there");
    let mut changed = Vec::new();
    for file in files {
        let told = fs::read_to_string(&file).expect("a text");
        let played = play(&told);
        if told != played {
            let name = file.file_name().map(|name| name.to_string_lossy().to_string());
            let differs = told.lines().zip(played.lines()).find(|(told, played)| told != played);
            changed.push((
                name,
                differs.map(|(told, played)| format!("\ntold:   {told}\nplayed: {played}\n")),
            ));
            if env::var("UPDATE_TRANSCRIPTS").is_ok() {
                fs::write(&file, played).expect("written");
            }
        }
    }
    let is_update = env::var("UPDATE_TRANSCRIPTS").is_ok();
    assert!(
        is_update || changed.is_empty(),
        "went differently (UPDATE_TRANSCRIPTS=1 rewrites): {changed:#?}"
    );
}
