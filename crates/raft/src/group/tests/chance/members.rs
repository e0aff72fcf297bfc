//! Members that come, go, and lose their disks; logs that are cut short from the front, and snapshots.

use super::*;

/// What the operator wants at the moment, and what it has done to disks.
#[derive(Default)]
pub(super) struct Wishes {
    pub(super) voters: Vec<NodeId>,
    /// Nobody else is a member any more, and is closed.
    pub(super) is_settled: bool,
    /// Changes are taken back now and then.
    pub(super) wavers: bool,
    /// Clients write nothing before.
    pub(super) quiet_until: Instant,
    /// Counts reads.
    pub(super) reads: u64,
    /// How snapshots are getting on is reported.
    pub(super) reports: bool,
    /// Counts snapshots.
    pub(super) snapshots: u64,
    /// Counts the disks that were wiped.
    pub(super) wiped: u64,
}

impl World {
    pub(super) fn ids(&self) -> Vec<NodeId> {
        self.nodes.iter().map(Replica::id).collect()
    }

    /// Some nodes, in some order; at least one.
    fn some_nodes(&mut self) -> Vec<NodeId> {
        let mut nodes = self.ids();
        let count = 1 + self.chance.below(nodes.len().min(5) as u64) as usize;
        while nodes.len() > count {
            let out = self.chance.below(nodes.len() as u64) as usize;
            nodes.remove(out);
        }
        let turn = self.chance.below(nodes.len() as u64) as usize;
        nodes.rotate_left(turn);
        nodes
    }

    /// Wants other voters, or asks for something rash.
    pub(super) fn churn(&mut self) {
        if self.someone_is_lost() {
            return;
        }
        let nodes = self.some_nodes();
        if self.chance.percent(60) {
            self.wishes.voters = nodes;
        } else if let Some(leader) = self.leader() {
            let learners = self.some_nodes();
            let (voters, learners) = match self.chance.below(3) {
                0 => (Vec::new(), nodes),
                1 => (nodes, Vec::new()),
                _ => {
                    let learners = learners.into_iter().filter(|node| !nodes.contains(node)).collect();
                    (nodes, learners)
                }
            };
            let change = Configuration {
                voters,
                learners,
                outgoing: Vec::new(),
            };
            self.tell(leader, Input::Change(change));
        }
    }

    /// What whoever manages members does, again and again: a lost voter becomes a learner; who is missing learns; when all
    /// who are wanted have caught up, they are the voters, and nobody else is a member.
    pub(super) fn reconcile(&mut self) {
        for node in 0..self.nodes.len() {
            let group = self.nodes[node].group.as_ref();
            let Some(group) = group.filter(|group| group.is_serving()) else {
                continue;
            };
            let next = match group.is_configuration_committed() {
                true => next_configuration(group, &self.wishes.voters),
                false => self.configuration_before(node),
            };
            if let Some(next) = next {
                self.tell(node, Input::Change(next));
            }
        }
        self.after(Duration::from_millis(15), Happening::Reconcile);
    }

    /// The voters from before the change that is under way, if it is taken back now.
    fn configuration_before(&mut self, node: usize) -> Option<Configuration> {
        let replica = &self.nodes[node];
        let joint = replica
            .log
            .configurations()
            .iter()
            .rev()
            .find(|(_, known)| known.is_joint());
        let before = Configuration::of_voters(joint?.1.outgoing.iter().copied());
        (self.wishes.wavers && self.chance.percent(20)).then_some(before)
    }

    fn someone_is_lost(&self) -> bool {
        self.nodes.iter().any(is_lost)
    }

    /// Takes a disk away, where Raft can bear it: of one on whom nothing depends, or of a voter while nothing is being
    /// changed and those who have lost nothing remain a majority.
    pub(super) fn wipe(&mut self, node: usize) {
        let id = self.nodes[node].id();
        let settled = self.settled();
        let is_changing = settled.is_joint() || self.unsettled().next().is_some();
        // Nor is it about to be one of two voters: then nothing could be decided without it.
        let is_wanted = self.wishes.voters.len() < 3 && self.wishes.voters.contains(&id);
        let is_needless = !settled.is_voter(id) && !is_wanted && !self.unsettled().any(|next| next.is_voter(id));
        let lost = self
            .nodes
            .iter()
            .filter(|node| is_lost(node) && settled.is_voter(node.id()));
        let others = lost.filter(|lost| lost.id() != id).count();
        let is_bearable = !is_changing && others < (settled.voters.len() - 1) / 2;
        // Without its disk, one that was founded alone would know nobody.
        let founded_alone = self.nodes[node].config.configuration.voters.len() == 1;
        if founded_alone || self.is_down(node) || !(is_needless || is_bearable) {
            return;
        }
        if !is_needless {
            self.wishes.voters = settled.voters;
        }
        self.wishes.wiped += 1;
        self.crash(node);
        self.nodes[node].wipe(Life(self.wishes.wiped));
        self.repeat_last_words(node);
        let most = [2, 100][self.chance.below(2) as usize];
        let delay = self.chance.millis(0, most);
        self.after(delay, Happening::Restart { node });
    }

    /// What a node said last arrives once more, later, when it may be back without its memory.
    fn repeat_last_words(&mut self, node: usize) {
        let said = self.happenings.values().filter_map(|happening| match happening {
            Happening::Arrives { from, to, message } if *from == node => Some((*to, message.clone())),
            _ => None,
        });
        for (to, message) in said.collect::<Vec<_>>() {
            let delay = self.chance.millis(20, 115);
            let from = node;
            self.after(delay, Happening::Arrives { from, to, message });
        }
    }

    /// The last configuration that is committed.
    pub(super) fn settled(&self) -> Configuration {
        let settled = self.seen.committed.iter().rev().find_map(|entry| match &entry.payload {
            Payload::Configuration(configuration) => Some((**configuration).clone()),
            Payload::Blank | Payload::Data(_) => None,
        });
        settled.unwrap_or_else(|| self.nodes[0].config.configuration.clone())
    }

    /// Configurations that some log holds, and that are not committed; also those of steps that are not settled yet.
    pub(super) fn unsettled(&self) -> impl Iterator<Item = &Configuration> {
        let committed = self.seen.committed.len() as u64;
        let logs = self.nodes.iter().flat_map(|node| [&node.log, &node.disk.log]);
        let held = logs.flat_map(MemoryLog::configurations);
        let held = held.map(|(index, known)| (*index, known));
        let groups = self.nodes.iter().filter_map(|node| node.group.as_ref());
        let in_force = groups.map(|group| (group.configuration_index(), group.configuration()));
        let all = held.chain(in_force);
        all.filter(move |(index, _)| index.0 > committed).map(|(_, next)| next)
    }

    /// Deletes the beginning of a log, as retention does: only what is applied, and on disk.
    pub(super) fn compact(&mut self, node: usize) {
        let replica = &self.nodes[node];
        let Some(group) = &replica.group else { return };
        let most = replica.applied.min(group.durable()).min(replica.disk.log.last_index());
        let first = replica.log.first_index();
        if replica.disk.log.first_index() != first || most < first {
            return;
        }
        let upto = LogIndex(first.0 + self.chance.below(most.0 - first.0 + 1));
        self.nodes[node].log.compact(upto);
        self.nodes[node].disk.log.compact(upto);
        if let Some(life) = self.life_of(node) {
            life.compactions.push((life.told.len(), upto));
        }
    }

    /// A follower needs what is deleted here. In most worlds, of four snapshots one is sent without a report, two with
    /// reports, and one fails.
    pub(super) fn take_snapshot(&mut self, node: usize, to: NodeId) {
        self.wishes.snapshots += 1;
        let report = match self.wishes.snapshots % 4 {
            _ if !self.wishes.reports => None,
            0 => None,
            1 | 2 => Some(SnapshotStatus::Sent),
            _ => Some(SnapshotStatus::Failed),
        };
        let replica = &self.nodes[node];
        let start = replica.log.first_index().prev();
        let end = replica.applied.max(start);
        let index = LogIndex(start.0 + self.chance.below(end.0 - start.0 + 1));
        let replica = &self.nodes[node];
        let TermAt::Known(term) = replica.log.term_at(index) else {
            return;
        };
        let configuration = replica.log.configuration_at(index);
        let snapshot = Snapshot {
            index,
            term,
            configuration: configuration.unwrap_or(&replica.config.configuration).clone(),
            data: Bytes::copy_from_slice(&index.0.to_be_bytes()),
        };
        let snapshot = Box::new(snapshot);
        if report.is_some() {
            self.report_snapshot(node, to, SnapshotStatus::Started);
        }
        let (delay, life) = (self.chance.millis(0, 10), self.lives[node]);
        self.after(
            delay,
            Happening::Snapshot {
                node,
                life,
                to,
                snapshot,
                report,
            },
        );
    }

    pub(super) fn report_snapshot(&mut self, node: usize, to: NodeId, status: SnapshotStatus) {
        self.act(node, Deed::Step(Input::ReportSnapshot(to, status)));
    }

    /// Members are new to this one: what is known of them is told.
    pub(super) fn introduce_members(&mut self, node: usize) {
        for of in 0..self.nodes.len() {
            if of != node && self.is_down(of) {
                self.notice(node, of, Duration::ZERO, Some(Liveness::Dead));
            } else if of != node && (self.cut[node][of] || self.cut[of][node]) {
                self.notice(node, of, Duration::ZERO, Some(Liveness::Suspected));
            }
        }
    }
}

pub(super) fn is_lost(node: &Replica) -> bool {
    let Disk { hard_state, log } = &node.disk;
    hard_state.barred > log.last_index()
}

fn next_configuration(group: &Group, wanted: &[NodeId]) -> Option<Configuration> {
    let current = group.configuration();
    let progress = |node: NodeId| group.progress(node);
    let is_lost = |node: &&NodeId| progress(**node).is_some_and(|progress| progress.is_lost);
    let is_caught_up = |node: &NodeId| {
        *node == group.id()
            || current.voters.contains(node)
            || progress(*node).is_some_and(|progress| progress.is_caught_up)
    };
    let mut next = current.clone();
    if let Some(lost) = current.voters.iter().find(is_lost).filter(|_| current.voters.len() > 1) {
        next.voters.retain(|node| node != lost);
        next.learners.push(*lost);
    } else if let Some(missing) = wanted.iter().find(|node| !current.is_member(**node)) {
        next.learners.push(*missing);
    } else if wanted.iter().all(is_caught_up) {
        next = Configuration::of_voters(wanted.iter().copied());
    }
    (next != *current).then_some(next)
}
