//! What follows from committed metadata: the registry's agent and what it wants done, the replicas, and the views that
//! requests are answered from. As slow as the catalog is large; nothing here keeps time for other brokers.

use crate::config::Config;
use crate::input::{Now, Report};
use crate::opening::{Opened, nodes};
use crate::output::{AdminAnswer, Broadcast, Fatal, Notice, Output};
use crate::replicas::Replicas;
use crate::sabotage::{Breakage, Sabotage};
use crate::view::ClusterView;
use crate::{METADATA, ids};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use trimaran_multiraft::{GroupStatus, InSync, Input, LeaderChange, Members};
use trimaran_raft::{GroupId, Instant, LogIndex, NodeId};
use trimaran_registry::agent::{self, AdminError, AdminReply, AdminRequest, Effect, Registration, Ticket};
use trimaran_registry::catalog::{Layout, NewTopic};
use trimaran_registry::founding::Decision;
use trimaran_registry::{Agent, BrokerId, CatalogError, CommandIndex, Founders, Incarnation, Standing};
use trimaran_wire::batch;
use trimaran_wire::peer::{self, Frame};

/// Between two looks at how far replicas are that are being filled.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Between two notices that say for whom a start waits.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// The part of a node that applies committed commands.
#[derive(Debug)]
pub struct Control {
    own: NodeId,
    voters: Vec<NodeId>,
    agent: Agent,
    replicas: Replicas,
    topic_defaults: BTreeMap<String, String>,
    /// Requests that are answered with the topic of that name, no matter which request creates it.
    ensured: BTreeMap<Ticket, String>,
    /// Answers that leave after the next view.
    replies: Vec<(Ticket, AdminAnswer)>,
    /// Brokers that the failure detector has not been told of.
    newcomers: Vec<NodeId>,
    retain_every: Duration,
    retain_at: Instant,
    look_at: Instant,
    /// When to say next for whom the founding waits.
    say_at: Instant,
    /// It is noted that this folder has been part of the metadata group.
    is_member: bool,
    is_leaving: bool,
    has_failed: bool,
    /// All replicas that the catalog had when this broker came back have been opened.
    opened_all: bool,
    published: Versions,
    /// Starts of other brokers that the catalog has told of.
    starts: BTreeMap<BrokerId, Incarnation>,
    breakage: Breakage,
}

/// The versions of what was last published.
#[derive(Debug, Default, PartialEq)]
struct Versions {
    catalog: CommandIndex,
    leaders: u64,
    controller: Option<BrokerId>,
    unreachable: BTreeSet<BrokerId>,
    refusing: BTreeSet<BrokerId>,
    ready: bool,
}

impl Control {
    pub(crate) fn new(config: Config, now: Instant) -> Control {
        let Config {
            agent: mut agent_config,
            recovered,
            replicas,
            topic_defaults,
            retain_every,
            ..
        } = config;
        agent_config.known_groups = recovered.keys().copied().map(ids::catalog_group).collect();
        let own = ids::node(agent_config.broker.id);
        Control {
            own,
            voters: nodes(&agent_config.metadata_replicas),
            is_member: agent_config.is_member,
            agent: Agent::new(agent_config, ids::registry_instant(now)),
            replicas: Replicas::new(own, replicas, recovered),
            topic_defaults,
            ensured: BTreeMap::new(),
            replies: Vec::new(),
            newcomers: Vec::new(),
            retain_every,
            retain_at: now + retain_every,
            look_at: now + LOOK_EVERY,
            say_at: now + SAY_EVERY,
            is_leaving: false,
            has_failed: false,
            opened_all: false,
            published: Versions::default(),
            starts: BTreeMap::new(),
            breakage: Breakage::default(),
        }
    }

    /// The registry's agent.
    #[must_use]
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// The agent, for a test that breaks it.
    #[cfg(feature = "sabotage")]
    pub fn agent_mut(&mut self) -> &mut Agent {
        &mut self.agent
    }

    /// The replicas here.
    #[must_use]
    pub fn replicas(&self) -> &Replicas {
        &self.replicas
    }

    #[cfg(feature = "sabotage")]
    pub(crate) fn sabotage(&mut self, how: Sabotage) {
        self.breakage = Breakage::of(how);
        self.replicas.breakage = self.breakage;
    }

    pub(crate) fn deadline(&self) -> Instant {
        let agent = Instant(self.agent.deadline().0);
        agent.min(self.retain_at).min(self.look_at)
    }

    pub(crate) fn tick(&mut self, now: Now, out: &mut Vec<Output>) {
        if now.at >= Instant(self.agent.deadline().0) {
            self.step_agent(now, agent::Input::Tick, out);
        }
        if now.at >= self.look_at {
            self.look_at = now.at + LOOK_EVERY;
            self.replicas.look(now.at, out);
            self.say_who_is_silent(now.at, out);
        }
        if now.at >= self.retain_at {
            self.retain_at = now.at + self.retain_every;
            out.push(Output::AllShards(Broadcast::Retain(now.wall_ms)));
        }
    }

    pub(crate) fn report(&mut self, now: Now, report: Report, out: &mut Vec<Output>) {
        match report {
            Report::Committed(group, index, payload) => self.committed(now, group, index, &payload, out),
            Report::Leader(change) => self.led(now, change, out),
            Report::InSync(report) => self.in_sync(now, &report, out),
            Report::Members(report) => self.members(now, report, out),
            Report::Lost(lost) => self.replicas.reopen(lost, out),
            Report::QuorumLost(lost) => out.push(Output::Notice(Notice::QuorumLost(lost))),
            Report::Contradiction(found) => {
                let partition = self.partition_name(found.group);
                out.push(Output::Notice(Notice::Contradiction(found, partition)));
            }
            Report::Refused(refused) => out.push(Output::Notice(Notice::Refused(refused))),
            Report::ProducersForgotten(group, count) => {
                out.push(Output::Notice(Notice::ProducersForgotten(group, count)));
            }
        }
    }

    /// A payload of the metadata group is a record batch with one command a record.
    fn committed(&mut self, now: Now, group: GroupId, index: LogIndex, payload: &Bytes, out: &mut Vec<Output>) {
        debug_assert_eq!(group, METADATA);
        let index = CommandIndex(index.0);
        let commands = match batch::values(payload) {
            Ok(commands) => commands,
            Err(error) => return out.push(Output::Fatal(Fatal::BadEntry(index, error))),
        };
        if !std::mem::replace(&mut self.is_member, true) {
            out.push(Output::NoteMembership);
        }
        for command in commands.iter().flatten() {
            self.step_agent(now, agent::Input::Applied { index, command }, out);
        }
    }

    fn led(&mut self, now: Now, change: LeaderChange, out: &mut Vec<Output>) {
        self.replicas.led(now.at, change, out);
        let input = agent::Input::Led {
            group: ids::catalog_group(change.group),
            term: ids::registry_term(change.term),
            leader: change.leader.map(ids::broker),
            serving: change.serving,
        };
        self.step_agent(now, input, out);
    }

    fn in_sync(&mut self, now: Now, report: &InSync, out: &mut Vec<Output>) {
        self.replicas.in_sync(report);
        let input = agent::Input::InSync {
            group: ids::catalog_group(report.group),
            term: ids::registry_term(report.term),
            replicas: &brokers(&report.replicas),
        };
        self.step_agent(now, input, out);
    }

    fn members(&mut self, now: Now, report: Members, out: &mut Vec<Output>) {
        self.replicas.members(&report);
        let Some(version) = report.fulfils else {
            return out.push(Output::Notice(Notice::Members(report)));
        };
        let input = agent::Input::Members {
            group: ids::catalog_group(report.group),
            since: CommandIndex(version),
            voters: &brokers(&report.voters),
            learners: &brokers(&report.learners),
        };
        self.step_agent(now, input, out);
    }

    pub(crate) fn opened(&mut self, now: Now, opened: Opened, out: &mut Vec<Output>) {
        self.replicas.opened(now.at, opened, out);
    }

    pub(crate) fn deleted(&mut self, group: GroupId, out: &mut Vec<Output>) {
        self.replicas.deleted(group, out);
    }

    pub(crate) fn status(&mut self, group: GroupId, status: Option<&GroupStatus>, out: &mut Vec<Output>) {
        self.replicas.status(group, status, out);
    }

    pub(crate) fn take_newcomers(&mut self) -> Vec<NodeId> {
        std::mem::take(&mut self.newcomers)
    }

    pub(crate) fn leave(&mut self) {
        self.is_leaving = true;
    }

    pub(crate) fn request(
        &mut self,
        now: Now,
        ticket: Ticket,
        timeout: Duration,
        request: AdminRequest,
        out: &mut Vec<Output>,
    ) {
        let request = self.with_topic_defaults(ticket, request);
        let input = agent::Input::Request {
            ticket,
            timeout,
            request,
        };
        self.step_agent(now, input, out);
    }

    /// The configured defaults become settings of every topic that is created: facts in the metadata log, on which
    /// brokers can't differ later.
    fn with_topic_defaults(&mut self, ticket: Ticket, request: AdminRequest) -> AdminRequest {
        let defaults = &self.topic_defaults;
        match request {
            AdminRequest::CreateTopic {
                mut topic,
                validate_only,
            } => {
                for (key, value) in defaults {
                    topic.config.entry(key.clone()).or_insert_with(|| value.clone());
                }
                AdminRequest::CreateTopic { topic, validate_only }
            }
            AdminRequest::EnsureTopic { name }
                if !defaults.is_empty() && self.agent.catalog().topic(&name).is_none() =>
            {
                let topic = NewTopic {
                    name: name.clone(),
                    layout: Layout::Spread {
                        partitions: -1,
                        replication_factor: -1,
                    },
                    config: defaults.clone(),
                };
                self.ensured.insert(ticket, name);
                let validate_only = false;
                AdminRequest::CreateTopic { topic, validate_only }
            }
            other => other,
        }
    }

    fn answered(&mut self, ticket: Ticket, answer: AdminAnswer) -> AdminAnswer {
        match (answer, self.ensured.remove(&ticket)) {
            (Err(AdminError::Refused(CatalogError::TopicExists)), Some(name)) => {
                let topic = self.agent.catalog().topic(&name);
                topic.map_or(Err(AdminError::TimedOut), |topic| {
                    Ok(AdminReply::Topic(Arc::clone(topic)))
                })
            }
            (answer, _) => answer,
        }
    }

    pub(crate) fn fail_over(&self, group: GroupId, failed: Option<NodeId>, out: &mut Vec<Output>) {
        let replicas: Vec<NodeId> = if group == METADATA {
            self.voters.clone()
        } else {
            let partition = self.agent.catalog().partition_of(ids::catalog_group(group));
            let found = partition.and_then(|(topic, at)| topic.partitions.get(usize::try_from(at.0).ok()?));
            found.map_or_else(Vec::new, |found| nodes(&found.assigned()))
        };
        for replica in replicas {
            out.push(if replica == self.own {
                Output::Shard(group, Input::Failover { group, failed })
            } else {
                let request = peer::FailOver {
                    group: peer::GroupId(group.0),
                    failed: failed.map(|node| peer::BrokerId(ids::broker(node).0)),
                };
                Output::Send(replica, Frame::FailOver(request))
            });
        }
    }

    pub(crate) fn step_agent(&mut self, now: Now, input: agent::Input<'_>, out: &mut Vec<Output>) {
        let mut effects = Vec::new();
        self.agent.step(ids::registry_instant(now.at), input, &mut effects);
        for effect in effects {
            self.run_effect(now, effect, out);
        }
    }

    fn run_effect(&mut self, now: Now, effect: Effect, out: &mut Vec<Output>) {
        match effect {
            // The metadata group's payloads are record batches, like all others'.
            Effect::Propose(command) => {
                out.push(Output::Propose(batch::build(now.wall_ms, &[(None, Some(&command))])));
            }
            Effect::Send(to, message) => {
                out.push(Output::Send(ids::node(to), Frame::Control(Bytes::from(message))));
            }
            Effect::OpenMetadata(decision) => self.open_metadata(decision, out),
            Effect::Open(replica) => self.replicas.open(replica, out),
            Effect::Replicas { group, replicas, since } => {
                self.replicas.want(ids::group(group), nodes(&replicas), since.0, out);
            }
            Effect::Newcomers(brokers) => {
                let learners: Vec<NodeId> = brokers.iter().map(|broker| ids::node(broker.id)).collect();
                let others = learners.iter().copied().filter(|node| *node != self.own);
                self.newcomers.extend(others);
                out.push(Output::Newcomers(brokers));
                self.replicas.want_learners(learners, out);
            }
            Effect::Configure { group, config } => self.replicas.configure(ids::group(group), &config, out),
            Effect::Close(group) => self.replicas.close(ids::group(group), out),
            Effect::Reply(ticket, answer) => self.replies.push((ticket, answer)),
            Effect::Rejected { from, error } => out.push(Output::Notice(Notice::Rejected(from, error))),
            Effect::Unreadable { index, error } => out.push(Output::Fatal(Fatal::Unreadable(index, error))),
        }
    }

    fn open_metadata(&mut self, decision: Decision, out: &mut Vec<Output>) {
        let (standing, with) = match &decision {
            Decision::Resume => (Standing::Founding, None),
            Decision::Found(with) => (Standing::Founding, Some(with.clone())),
            Decision::Join => (Standing::Joining, None),
        };
        out.push(Output::NoteFounders(self.configured_founders(), with));
        out.push(Output::Notice(Notice::Founding(decision)));
        self.replicas.open_metadata(&self.voters, standing, out);
    }

    fn configured_founders(&self) -> Founders {
        Founders::new(self.voters.iter().copied().map(ids::broker))
    }

    fn say_who_is_silent(&mut self, now: Instant, out: &mut Vec<Output>) {
        if now < self.say_at {
            return;
        }
        self.say_at = now + SAY_EVERY;
        let silent = self.agent.founding_waits_for();
        if !silent.is_empty() {
            out.push(Output::Notice(Notice::FoundingWaitsFor(silent)));
        }
    }

    /// Publishes what has changed, then answers: a caller that has its answer finds it in the view.
    pub(crate) fn publish(
        &mut self,
        unreachable: BTreeSet<BrokerId>,
        refusing: BTreeSet<BrokerId>,
        out: &mut Vec<Output>,
    ) {
        self.check_registration(out);
        if self.breakage.is(Sabotage::AnswerFirst) {
            self.answer(out);
        }
        let controller = self.agent.controller();
        let is_former = || self.agent.catalog().broker(ids::broker(self.own)).is_some();
        let registered = self.agent.registration() == Registration::Registered
            || self.breakage.is(Sabotage::TrustFormerRegistration) && is_former();
        // Once, at start: a topic that is created later makes nobody wait but its own clients.
        let all_open = self.breakage.is(Sabotage::ReadyAtOnce) || self.replicas.all_open();
        self.opened_all = self.opened_all || registered && all_open;
        let versions = Versions {
            catalog: self.agent.catalog().applied(),
            leaders: self.agent.leaders().version(),
            controller,
            unreachable,
            refusing,
            ready: self.opened_all && registered && controller.is_some() && !self.is_leaving,
        };
        if versions != self.published {
            self.publish_view(versions, out);
        }
        self.answer(out);
    }

    fn answer(&mut self, out: &mut Vec<Output>) {
        for (ticket, answer) in std::mem::take(&mut self.replies) {
            let answer = self.answered(ticket, answer);
            out.push(Output::Reply(ticket, answer));
        }
    }

    fn publish_view(&mut self, versions: Versions, out: &mut Vec<Output>) {
        if versions.ready && !self.published.ready {
            out.push(Output::Notice(Notice::Ready(self.replicas.counts().replicas)));
        }
        if versions.catalog != self.published.catalog {
            self.note_starts(out);
        }
        out.push(Output::Publish(Box::new(ClusterView {
            catalog: self.agent.catalog().clone(),
            leaders: self.agent.leaders().clone(),
            controller: versions.controller,
            unreachable: versions.unreachable.clone(),
            refusing: versions.refusing.clone(),
            ready: versions.ready,
        })));
        self.published = versions;
    }

    /// Others ask this broker what it has seen of them, also when this one starts: so what the catalog says is noted.
    fn note_starts(&mut self, out: &mut Vec<Output>) {
        let catalog = self.agent.catalog();
        let own = ids::broker(self.own);
        for broker in catalog.brokers().filter(|broker| broker.id != own) {
            let known = self.starts.insert(broker.id, broker.incarnation);
            if known < Some(broker.incarnation)
                && let Some(start) = catalog.start(broker.id)
            {
                out.push(Output::NoteStart(broker.id, start));
            }
        }
    }

    fn check_registration(&mut self, out: &mut Vec<Output>) {
        let fatal = match self.agent.registration() {
            Registration::Pending | Registration::Registered => return,
            Registration::OtherFounders { noted } => Fatal::OtherFounders {
                configured: self.configured_founders(),
                noted,
            },
            Registration::Superseded => match self.agent.catalog().start(ids::broker(self.own)) {
                Some(start) => Fatal::Superseded(start),
                None => return,
            },
            Registration::WrongCluster => Fatal::OtherCluster,
        };
        if !std::mem::replace(&mut self.has_failed, true) {
            out.push(Output::Fatal(fatal));
        }
    }

    /// The name that an operator knows a group by.
    fn partition_name(&self, group: GroupId) -> String {
        match self.agent.catalog().partition_of(ids::catalog_group(group)) {
            Some((topic, partition)) => format!("{}-{}", topic.name, partition.0),
            None if group == METADATA => "the cluster's metadata".to_owned(),
            None => format!("group {group}"),
        }
    }
}

fn brokers(nodes: &[NodeId]) -> Vec<BrokerId> {
    nodes.iter().copied().map(ids::broker).collect()
}
