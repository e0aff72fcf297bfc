//! The life cycle of this broker's replicas: opened when the catalog gives them, closed when it takes them away, opened
//! again as lost when they turn out to be damaged.

use crate::config::{ReplicaOptions, RetryPauses};
use crate::opening::{How, OpenJob, Opened, Outcome, Plan, nodes};
use crate::output::{Fatal, Notice, Output};
use crate::sabotage::{Breakage, Sabotage};
use crate::{METADATA, ids};
use std::collections::BTreeMap;
use std::time::Duration;
use trimaran_multiraft::{GroupOptions, GroupStatus, InSync, Input, LeaderChange, Lost, Members};
use trimaran_raft::{GroupId, Instant, NodeId};
use trimaran_registry::agent::OpenReplica;
use trimaran_registry::{Standing, TopicConfig};
use trimaran_storage::journal::RecoveredGroup;
use trimaran_storage::log::Retention;

/// The replicas here, and how far each is. The replicas themselves live in the shards.
#[derive(Debug)]
pub struct Replicas {
    own: NodeId,
    options: ReplicaOptions,
    /// The state that the journal held of groups that have not been opened yet.
    recovered: BTreeMap<GroupId, RecoveredGroup>,
    known: BTreeMap<GroupId, Replica>,
    /// Closed, and not deleted yet; with what is to be opened in the place of the old one.
    closed: BTreeMap<GroupId, Option<Plan>>,
    counts: Counts,
    pub(crate) breakage: Breakage,
}

/// How many replicas, and how many groups led here, are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Replicas.
    pub replicas: usize,
    /// Replicas that are being filled.
    pub repairing: usize,
    /// Groups that are led here.
    pub leaderships: usize,
    /// Groups that are led here, and have replicas out of sync.
    pub under_replicated: usize,
    /// Learners of groups that are led here, without lasting ones.
    pub learners: usize,
}

#[derive(Debug)]
struct Replica {
    plan: Plan,
    state: State,
    leads: bool,
    under_replicated: bool,
    learners: usize,
    /// Since when no leader is known.
    leaderless_since: Option<Instant>,
    /// It is being filled.
    repairing: bool,
    /// Its shard was asked how far it is.
    asked: bool,
}

#[derive(Debug)]
enum State {
    Opening {
        how: How,
        /// The pause after which this was tried again; none at the first attempt.
        pause: Option<Duration>,
        /// To be closed as soon as it is open.
        closing: bool,
    },
    /// Its shard has it.
    Open,
    /// It takes no part, until it is tried again.
    Failed { how: How, pause: Duration, at: Instant },
}

impl Replica {
    fn is_opening(&self) -> bool {
        matches!(self.state, State::Opening { .. })
    }

    fn is_closing(&self) -> bool {
        matches!(self.state, State::Opening { closing: true, .. })
    }

    /// How many replicas there are to be.
    fn replicas(&self) -> usize {
        match self.plan.wanted.0.len() {
            0 => self.plan.founders.len(),
            wanted => wanted,
        }
    }

    fn set_under_replicated(&mut self, counts: &mut Counts, now: bool) {
        count(
            &mut counts.under_replicated,
            std::mem::replace(&mut self.under_replicated, now),
            now,
        );
    }

    fn set_learners(&mut self, counts: &mut Counts, now: usize) {
        counts.learners = counts.learners + now - std::mem::replace(&mut self.learners, now);
    }

    fn set_repairing(&mut self, counts: &mut Counts, now: bool) {
        count(&mut counts.repairing, std::mem::replace(&mut self.repairing, now), now);
    }

    fn set_leads(&mut self, counts: &mut Counts, now: bool) {
        count(&mut counts.leaderships, std::mem::replace(&mut self.leads, now), now);
        if !now {
            self.set_under_replicated(counts, false);
            self.set_learners(counts, 0);
        }
    }
}

fn count(counter: &mut usize, before: bool, now: bool) {
    *counter = *counter + usize::from(now) - usize::from(before);
}

impl Replicas {
    pub(crate) fn new(own: NodeId, options: ReplicaOptions, recovered: BTreeMap<GroupId, RecoveredGroup>) -> Replicas {
        Replicas {
            own,
            options,
            recovered,
            known: BTreeMap::new(),
            closed: BTreeMap::new(),
            counts: Counts::default(),
            breakage: Breakage::default(),
        }
    }

    /// The groups that have a replica here, or are about to.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> + '_ {
        let kept = self.known.iter().filter(|(_, replica)| !replica.is_closing());
        kept.map(|(group, _)| *group)
    }

    /// Whether a group has a replica here, or is about to.
    #[must_use]
    pub fn has(&self, group: GroupId) -> bool {
        self.known.get(&group).is_some_and(|replica| !replica.is_closing())
    }

    /// Whether some replica here takes no part, because it could not be opened.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.known.values().any(|replica| {
            matches!(
                replica.state,
                State::Failed { .. } | State::Opening { pause: Some(_), .. }
            )
        })
    }

    /// How many there are in which state.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            replicas: self.known.len(),
            ..self.counts
        }
    }

    /// Whether nothing is being opened for the first time, and the metadata group is among what is open.
    pub(crate) fn all_open(&self) -> bool {
        let is_awaited = |replica: &Replica| matches!(replica.state, State::Opening { pause: None, .. });
        let is_open = !self.known.values().any(is_awaited) && !self.closed.values().any(Option::is_some);
        is_open && self.known.contains_key(&METADATA)
    }

    /// The metadata group: its voters are configured, and it is never closed.
    pub(crate) fn open_metadata(&mut self, voters: &[NodeId], standing: Standing, out: &mut Vec<Output>) {
        let plan = Plan {
            founders: voters.to_vec(),
            wanted: (voters.to_vec(), 0),
            options: GroupOptions {
                min_insync_replicas: 1,
                retention: Retention::default(),
                deliver: true,
            },
            log_options: self.options.of_log(&TopicConfig::default()),
            learners: None,
        };
        self.start(METADATA, plan, standing, out);
    }

    pub(crate) fn open(&mut self, replica: OpenReplica, out: &mut Vec<Output>) {
        let group = ids::group(replica.group);
        let plan = Plan {
            founders: nodes(&replica.founders),
            wanted: (nodes(&replica.replicas), 0),
            options: self.options.of_group(&replica.topic, &replica.config),
            log_options: self.options.of_log(&replica.config),
            learners: None,
        };
        let standing = replica.standing;
        out.push(Output::Notice(Notice::Opening(replica)));
        // What is closing must be gone before it comes back: then its disk holds nothing.
        if self.breakage.is(Sabotage::KeepDeleted) && self.closed.contains_key(&group) {
            self.recovered.insert(group, RecoveredGroup::default());
            self.start(group, plan, standing, out);
        } else if let Some(next) = self.closed.get_mut(&group) {
            *next = Some(plan);
        } else if self.known.get(&group).is_some_and(Replica::is_closing) {
            self.closed.insert(group, Some(plan));
        } else {
            self.start(group, plan, standing, out);
        }
    }

    fn start(&mut self, group: GroupId, plan: Plan, standing: Standing, out: &mut Vec<Output>) {
        if self.known.contains_key(&group) {
            return;
        }
        let how = match self.recovered.remove(&group) {
            Some(recovered) => How::Found(Box::new(recovered)),
            None => How::Nothing(standing),
        };
        let replica = Replica {
            plan,
            state: State::Open,
            leads: false,
            under_replicated: false,
            learners: 0,
            leaderless_since: None,
            repairing: false,
            asked: false,
        };
        self.known.insert(group, replica);
        self.begin(group, how, None, out);
    }

    fn begin(&mut self, group: GroupId, how: How, pause: Option<Duration>, out: &mut Vec<Output>) {
        let Some(replica) = self.known.get_mut(&group) else {
            return;
        };
        let plan = replica.plan.clone();
        replica.state = State::Opening {
            how: how.clone(),
            pause,
            closing: false,
        };
        let mut members = plan.founders.iter().chain(&plan.wanted.0);
        out.push(Output::Open(Box::new(OpenJob {
            group,
            has_others: members.any(|node| *node != self.own),
            plan,
            how,
            breakage: self.breakage,
        })));
    }

    /// A job of [`Output::Open`] is done: its shard is given the replica, and told what it has missed.
    pub(crate) fn opened(&mut self, now: Instant, opened: Opened, out: &mut Vec<Output>) {
        let group = opened.group;
        let Some(replica) = self.known.get_mut(&group).filter(|replica| replica.is_opening()) else {
            return;
        };
        let State::Opening { how, pause, closing } = std::mem::replace(&mut replica.state, State::Open) else {
            return;
        };
        if opened.has_spare_quarantine {
            out.push(Output::DeleteQuarantine(group));
        }
        let is_lost = matches!(opened.outcome, Outcome::Lost | Outcome::Quarantined(_));
        let notice = match opened.outcome {
            Outcome::Sound if self.breakage.is(Sabotage::OpenTwice) && pause.is_none() => {
                let pause = self.options.retry.first;
                let at = now + pause;
                replica.state = State::Failed { how, pause, at };
                None
            }
            Outcome::Sound => Some(Notice::Opened(group)),
            Outcome::Lost => None,
            Outcome::Quarantined(error) => Some(Notice::Damaged(group, error)),
            // Without the catalog a broker knows nothing at all; a partition goes on with its other replicas.
            Outcome::Failed(error) if group == METADATA => return out.push(Output::Fatal(Fatal::Metadata(error))),
            Outcome::Failed(error) => {
                let RetryPauses { first, longest } = self.options.retry;
                let again = pause.map_or(first, |pause| pause.saturating_mul(2).min(longest));
                let at = now + again;
                replica.state = State::Failed { how, pause: again, at };
                pause.is_none().then_some(Notice::CannotOpen(group, error))
            }
        };
        if matches!(replica.state, State::Open) {
            replica.set_repairing(&mut self.counts, is_lost);
        }
        out.extend(notice.map(Output::Notice));
        out.extend(is_lost.then_some(Output::Notice(Notice::Lost(group))));
        out.push(Output::Shard(group, opened.input));
        if closing {
            return self.shut(group, out);
        }
        if self.breakage.is(Sabotage::ForgetWishes) {
            return;
        }
        // What was said while it was being opened did not reach it.
        let (wanted, version) = replica.plan.wanted.clone();
        out.push(Output::Shard(group, Input::Replicas(group, wanted, version)));
        if let Some(learners) = replica.plan.learners.clone() {
            out.push(Output::Shard(group, Input::Learners(group, learners)));
        }
    }

    /// It has turned out to be damaged, or can't be written, and its group does without it: its log is quarantined, and
    /// it is filled by the others.
    pub(crate) fn reopen(&mut self, lost: Lost, out: &mut Vec<Output>) {
        let Lost { group, error } = lost;
        if let Some(replica) = self.known.get_mut(&group).filter(|replica| !replica.is_opening()) {
            replica.set_repairing(&mut self.counts, true);
            out.push(Output::Notice(match error.is_damage() {
                true => Notice::Damaged(group, error),
                false => Notice::Unwritable(group, error),
            }));
            self.begin(group, How::Damaged, None, out);
        }
    }

    /// Names the brokers that should have a replica from now on.
    pub(crate) fn want(&mut self, group: GroupId, replicas: Vec<NodeId>, version: u64, out: &mut Vec<Output>) {
        if let Some(Some(next)) = self.closed.get_mut(&group) {
            next.wanted = (replicas, version);
        } else if let Some(replica) = self.known.get_mut(&group) {
            replica.plan.wanted = (replicas.clone(), version);
            out.push(Output::Shard(group, Input::Replicas(group, replicas, version)));
        }
    }

    /// The brokers that hold the metadata group's log without a vote, from now on.
    pub(crate) fn want_learners(&mut self, learners: Vec<NodeId>, out: &mut Vec<Output>) {
        if let Some(replica) = self.known.get_mut(&METADATA) {
            replica.plan.learners = Some(learners.clone());
            out.push(Output::Shard(METADATA, Input::Learners(METADATA, learners)));
        }
    }

    pub(crate) fn configure(&mut self, group: GroupId, config: &TopicConfig, out: &mut Vec<Output>) {
        let next = self.closed.get_mut(&group).and_then(Option::as_mut);
        let plan = next.or_else(|| self.known.get_mut(&group).map(|replica| &mut replica.plan));
        if let Some(plan) = plan {
            let deliver = plan.options.deliver;
            plan.options = GroupOptions {
                deliver,
                ..self.options.of_group("", config)
            };
            plan.log_options = self.options.of_log(config);
            let input = Input::Configure(group, plan.options.clone(), plan.log_options.clone());
            out.push(Output::Shard(group, input));
        }
    }

    pub(crate) fn close(&mut self, group: GroupId, out: &mut Vec<Output>) {
        match self.known.get_mut(&group).map(|replica| &mut replica.state) {
            // It is closed already; what was to take its place is wanted no more.
            None => {
                if let Some(next) = self.closed.get_mut(&group) {
                    *next = None;
                }
            }
            Some(State::Opening { closing, .. }) => {
                *closing = true;
                self.closed.remove(&group);
            }
            Some(State::Open | State::Failed { .. }) => self.shut(group, out),
        }
    }

    fn shut(&mut self, group: GroupId, out: &mut Vec<Output>) {
        let Some(mut replica) = self.known.remove(&group) else {
            return;
        };
        replica.set_leads(&mut self.counts, false);
        replica.set_repairing(&mut self.counts, false);
        self.closed.entry(group).or_default();
        out.push(Output::Notice(Notice::Closed(group)));
        out.push(Output::Shard(group, Input::Close(group)));
    }

    /// Nothing of a closed replica is left: its successor can come.
    pub(crate) fn deleted(&mut self, group: GroupId, out: &mut Vec<Output>) {
        if let Some(Some(plan)) = self.closed.remove(&group) {
            self.start(group, plan, Standing::Joining, out);
        }
    }

    /// Counts leaderships, and how long a group was without a leader that is then led here.
    pub(crate) fn led(&mut self, now: Instant, change: LeaderChange, out: &mut Vec<Output>) {
        let LeaderChange {
            group,
            term,
            leader,
            serving: leads,
            ..
        } = change;
        let Some(replica) = self.known.get_mut(&group) else {
            return;
        };
        if leader.is_none() {
            replica.leaderless_since.get_or_insert(now);
        } else if leads {
            if let Some(since) = replica.leaderless_since.take() {
                out.push(Output::Notice(Notice::FailedOver(group, now.since(since))));
            }
        } else if leader != Some(self.own) {
            replica.leaderless_since = None;
        }
        if leads != replica.leads {
            out.push(Output::Notice(Notice::Leadership { group, term, leads }));
        }
        replica.set_leads(&mut self.counts, leads);
    }

    pub(crate) fn in_sync(&mut self, report: &InSync) {
        if let Some(replica) = self.known.get_mut(&report.group) {
            let under_replicated = report.replicas.len() < replica.replicas();
            replica.set_under_replicated(&mut self.counts, under_replicated);
        }
    }

    pub(crate) fn members(&mut self, report: &Members) {
        if let Some(replica) = self.known.get_mut(&report.group).filter(|replica| replica.leads) {
            // Those that never vote are not on their way to anything.
            let lasting = replica.plan.learners.as_deref().unwrap_or_default();
            let filled = report.learners.iter().filter(|node| !lasting.contains(node)).count();
            replica.set_learners(&mut self.counts, filled);
        }
    }

    /// Tries again what could not be opened, and asks how far replicas are that are being filled.
    pub(crate) fn look(&mut self, now: Instant, out: &mut Vec<Output>) {
        let is_due = |(group, replica): (&GroupId, &Replica)| match &replica.state {
            State::Failed { how, pause, at } if *at <= now => Some((*group, how.clone(), *pause)),
            _ => None,
        };
        let due: Vec<_> = self.known.iter().filter_map(is_due).collect();
        for (group, how, pause) in due {
            self.begin(group, how, Some(pause), out);
        }
        let unasked = |replica: &Replica| replica.repairing && !replica.asked;
        for (group, replica) in self.known.iter_mut().filter(|(_, replica)| unasked(replica)) {
            replica.asked = true;
            out.push(Output::AskStatus(*group));
        }
    }

    /// Notes what became of a replica that is being filled.
    pub(crate) fn status(&mut self, group: GroupId, status: Option<&GroupStatus>, out: &mut Vec<Output>) {
        let Some(replica) = self.known.get_mut(&group) else {
            return;
        };
        replica.asked = false;
        let is_whole = status.is_some_and(|status| !status.repairing && !status.failed);
        if replica.repairing && is_whole && matches!(replica.state, State::Open) {
            replica.set_repairing(&mut self.counts, false);
            out.push(Output::Notice(Notice::Whole(group)));
            out.push(Output::DeleteQuarantine(group));
        }
    }
}

#[cfg(test)]
mod tests;
