//! Members that come, go, and lose their disks; logs that are cut short from the front, and snapshots.

use super::*;

/// What the operator wants at the moment, and what it has done to disks.
#[derive(Default)]
pub(super) struct Wishes {
    pub(super) voters: Vec<NodeId>,
    /// Nobody else is a member any more, and is closed.
    pub(super) is_settled: bool,
    /// Counts reads.
    pub(super) reads: u64,
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
            let Some(group) = group.filter(|group| group.is_serving() && group.is_configuration_committed()) else {
                continue;
            };
            if let Some(next) = next_configuration(group, &self.wishes.voters) {
                self.tell(node, Input::Change(next));
            }
        }
        self.after(Duration::from_millis(15), Happening::Reconcile);
    }

    fn someone_is_lost(&self) -> bool {
        self.nodes.iter().any(|node| {
            let Disk { hard_state, log } = &node.disk;
            hard_state.barred > log.last_index()
        })
    }

    /// Takes a member's disk away, where Raft can bear it: nobody else has lost anything, nothing is being changed, and
    /// those who remain are a majority.
    pub(super) fn wipe(&mut self, node: usize) {
        let up: Option<Vec<&Group>> = self.nodes.iter().map(|node| node.group.as_ref()).collect();
        let Some(up) = up else { return };
        let configuration = up[node].configuration();
        let agree = up
            .iter()
            .all(|group| group.is_configuration_committed() && group.configuration() == configuration);
        // Without its disk, one that was founded alone would know nobody.
        let founded_alone = self.nodes[node].config.configuration.voters.len() == 1;
        let is_bearable = !founded_alone && configuration.voters.len() > 2 && !configuration.is_joint() && agree;
        if !is_bearable || self.someone_is_lost() {
            return;
        }
        if configuration.voters != self.wishes.voters {
            self.wishes.voters = configuration.voters.clone();
        }
        self.wishes.wiped += 1;
        self.crash(node);
        self.nodes[node].wipe(Life(self.wishes.wiped));
        let delay = self.chance.millis(0, 100);
        self.after(delay, Happening::Restart { node });
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

    /// A follower needs what is deleted here.
    pub(super) fn take_snapshot(&mut self, node: usize, to: NodeId) {
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
        let (delay, life) = (self.chance.millis(0, 10), self.lives[node]);
        self.after(
            delay,
            Happening::Snapshot {
                node,
                life,
                to,
                snapshot,
            },
        );
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
