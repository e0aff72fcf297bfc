//! One a broker: keeps its catalog and its view of leaders up to date, takes its administrative requests to the
//! controller, and is the controller where the metadata group is led.
//!
//! Sans-I/O: it is told, and answers with effects. Time comes with every input.

mod beginning;
mod controller;
mod message;
mod news;
mod replicas;
mod requests;
mod topics;

use crate::catalog::{Broker, Catalog, Command, DecodeError, NewTopic, Topic, TopicRef, Wish};
use crate::founders::Founders;
use crate::founding::{Decision, Founding, FoundingConfig, Standing};
use crate::placement::scramble;
use crate::{
    BrokerId, CatalogError, CommandIndex, FolderId, GroupId, Instant, LeaderView, METADATA_GROUP, PartitionIndex, Term,
    TopicConfig, TopicId,
};
use controller::Controller;
use core::time::Duration;
use message::Message;
use news::News;
use replicas::Replicas;
use requests::{Purpose, Requests};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use topics::{ProducerIds, Waiting};

/// Names who waits for an answer; chosen by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// The facts that an agent must know from the start.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Its own broker, as it wants to be registered.
    pub broker: Broker,
    /// Names its data folder; the same at every start with that folder, and with no other.
    pub folder: FolderId,
    /// The folders that [`Decision::Found`] named, as this folder has noted them.
    pub founded_with: Option<Vec<(BrokerId, FolderId)>>,
    /// See [`FoundingConfig::is_member`].
    pub is_member: bool,
    /// The founders that this folder has noted; none if it has never opened the metadata group.
    pub noted_founders: Option<Founders>,
    /// The cluster's id as configured here. The first controller founds the cluster with it.
    pub cluster_id: String,
    /// The voting replicas of the metadata group, as configured here: the founders of the cluster, and whom to ask
    /// before any controller is known. A broker that is none of them joins the cluster.
    pub metadata_replicas: Vec<BrokerId>,
    /// Random bits: topic ids are made from them. Two brokers, or two starts of one, should not have the same.
    pub seed: u64,
    /// Partitions of a topic that is created without saying how many.
    pub default_partitions: i32,
    /// Replicas of a topic that is created without saying how many. None: on all brokers, but at most three.
    pub default_replication_factor: Option<i32>,
    /// How long an unanswered request waits before it is sent again.
    pub retry_after: Duration,
    /// Between two messages that tell a peer which version of the leadership news it should have.
    pub digest_every: Duration,
    /// Groups that this broker's disk holds something of, as found at its start; the metadata group among them, unless
    /// it holds nothing of that. Replicas of other groups are opened only once this start of the broker is registered:
    /// the catalog is replayed from where it is known to be committed, and a topic that it says was created may have
    /// been deleted since, and forgotten here. A member that has forgotten its votes must not vote again.
    pub known_groups: BTreeSet<GroupId>,
}

/// A request of a client or of the administration port. Answered by [`Effect::Reply`] under the same ticket, once the
/// result is applied to this broker's own catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminRequest {
    /// Create a topic.
    CreateTopic {
        /// The topic as it should be. -1 partitions or replicas in its layout mean the defaults.
        topic: NewTopic,
        /// Check it only, against this broker's catalog.
        validate_only: bool,
    },
    /// The topic of that name, created with the defaults if it doesn't exist. Any number of these for one topic is one
    /// request to the controller.
    EnsureTopic {
        /// Its name.
        name: String,
    },
    /// Delete a topic.
    DeleteTopic(TopicRef),
    /// Give a topic more partitions.
    AddPartitions {
        /// The topic's name.
        topic: String,
        /// The number that it should have in all.
        total: i32,
        /// Replicas of the new ones, if the asker chooses them.
        assignments: Option<Vec<Vec<BrokerId>>>,
        /// Check it only, against this broker's catalog.
        validate_only: bool,
    },
    /// Replace a topic's own settings.
    ConfigureTopic {
        /// The topic.
        topic: TopicRef,
        /// All settings of the topic itself.
        config: BTreeMap<String, String>,
        /// Check it only, against this broker's catalog.
        validate_only: bool,
    },
    /// Keep a partition on other brokers.
    Reassign {
        /// The topic.
        topic: TopicRef,
        /// The partition.
        partition: PartitionIndex,
        /// All of its replicas, the preferred leader first. None: where it was before the reassignment that is under
        /// way.
        replicas: Option<Vec<BrokerId>>,
    },
    /// A producer id that nobody else has or will have.
    ProducerId,
}

/// A good answer to an [`AdminRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminReply {
    /// The topic as it is now (as it was, if it was deleted).
    Topic(Arc<Topic>),
    /// It was only to be checked, and would be done.
    Valid,
    /// The producer id.
    ProducerId(i64),
}

/// Why an [`AdminRequest`] failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminError {
    /// The catalog refuses it. Nothing was done.
    Refused(CatalogError),
    /// No answer before the deadline. It may or may not be done yet.
    TimedOut,
    /// This broker has too many requests under way. Nothing was done.
    Overloaded,
}

/// An input of an agent.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// A committed command of the metadata group, in order. Must come before a `Led` that was decided after it.
    Applied {
        /// Its index in the group's log.
        index: CommandIndex,
        /// As given to [`Effect::Propose`].
        command: &'a [u8],
    },
    /// A replica on this broker (of any group, the metadata group included) sees another term or leader.
    Led {
        /// The group.
        group: GroupId,
        /// The replica's term.
        term: Term,
        /// Its leader as far as known there.
        leader: Option<BrokerId>,
        /// This broker leads, and may serve clients.
        serving: bool,
    },
    /// This broker leads a group, and these replicas are in sync, itself included.
    InSync {
        /// The group.
        group: GroupId,
        /// The term it leads in.
        term: Term,
        /// The replicas.
        replicas: &'a [BrokerId],
    },
    /// This broker leads a group whose configuration is committed and needs no change any more.
    Members {
        /// The group.
        group: GroupId,
        /// Of the last [`Effect::Replicas`] that the leader had been told when it found that there is nothing to
        /// change.
        since: CommandIndex,
        /// The voting members.
        voters: &'a [BrokerId],
        /// The others.
        learners: &'a [BrokerId],
    },
    /// A message from another broker's agent.
    Peer {
        /// That broker, authenticated by the transport.
        from: BrokerId,
        /// As given to [`Effect::Send`].
        message: &'a [u8],
    },
    /// Someone asks this broker.
    Request {
        /// Goes into the answer.
        ticket: Ticket,
        /// How long the asker waits; at most a minute counts.
        timeout: Duration,
        /// The request.
        request: AdminRequest,
    },
    /// Another broker is in contact again after a restart or an interruption.
    Restored(BrokerId),
    /// Another broker is believed to be down: it gets no new replicas while others can have them.
    Down(BrokerId),
    /// [`Agent::deadline`] has passed.
    Tick,
}

/// An effect that an agent wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Propose this payload to the metadata group, which is led here. If it is refused, nothing needs to be said.
    Propose(Vec<u8>),
    /// Send this to another broker's agent. May be lost.
    Send(BrokerId, Vec<u8>),
    /// Open the metadata group. Comes once: with the first input, or when the other replicas have answered. Before
    /// that, note durably who founded the cluster, for [`AgentConfig::noted_founders`].
    OpenMetadata(Decision),
    /// This broker has a replica of this group: open or create it. (If its log and hard state are empty, it is a
    /// founder, and this broker is the first of the founders, the group is new and may campaign at once.)
    Open(OpenReplica),
    /// From now on the group's leader, should this broker lead it, is to make these the group's voting members, one
    /// step at a time, and no others. It answers with [`Input::Members`] when there is nothing left to do: also if
    /// there was nothing to do, and again whenever it begins to lead.
    Replicas {
        /// The group.
        group: GroupId,
        /// The preferred leader first. Empty: leave the group's members as they are (but bring back one that is lost).
        replicas: Arc<[BrokerId]>,
        /// Goes into the answer.
        since: CommandIndex,
    },
    /// All registered brokers that did not found the cluster. From now on they are to be reached at these addresses,
    /// and to be lasting learners of the metadata group.
    Newcomers(Vec<Arc<Broker>>),
    /// The group's configuration changed.
    Configure {
        /// The group.
        group: GroupId,
        /// The settings in force now.
        config: TopicConfig,
    },
    /// The group is gone for good, or this broker is no member of it any more: its replica and its data can go.
    Close(GroupId),
    /// The answer to a request.
    Reply(Ticket, Result<AdminReply, AdminError>),
    /// A peer's message can't be read, or says what it may not: the two builds don't match. It is ignored.
    Rejected {
        /// The peer.
        from: BrokerId,
        /// Why.
        error: DecodeError,
    },
    /// A committed command can't be read: this broker's catalog would differ from the others'. Stop this broker.
    Unreadable {
        /// Its index.
        index: CommandIndex,
        /// Why.
        error: DecodeError,
    },
}

/// A replica that this broker holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenReplica {
    /// Its group.
    pub group: GroupId,
    /// The group's first members: its configuration before its first entry.
    pub founders: Arc<[BrokerId]>,
    /// As in [`Effect::Replicas`]. Empty if that is not known yet: then the group's members stay as they are.
    pub replicas: Arc<[BrokerId]>,
    /// How to open it if the disk holds nothing of it.
    pub standing: Standing,
    /// The topic's name.
    pub topic: Arc<str>,
    /// The topic's id.
    pub topic_id: TopicId,
    /// The partition's number.
    pub partition: PartitionIndex,
    /// The configuration in force.
    pub config: TopicConfig,
}

/// Whether this broker is in the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registration {
    /// Not yet, or only an earlier start of it.
    Pending,
    /// As it is now.
    Registered,
    /// A later start of the same id is: this process must stop.
    Superseded,
    /// The cluster has another id than the one configured: this process must stop.
    WrongCluster,
    /// The folder has noted other founders than the ones configured: this process must stop, and has opened nothing.
    OtherFounders {
        /// The founders that the folder has noted.
        noted: Founders,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Agent {
    config: AgentConfig,
    catalog: Catalog,
    leaders: LeaderView,
    /// Requests of this broker that the controller has not answered.
    requests: Requests,
    /// Clients that wait for a topic of that name to exist.
    waiting: Waiting,
    producer_ids: ProducerIds,
    /// The groups that this broker leads, and the brokers that have been told.
    news: News,
    /// While the metadata group is led here.
    controlling: Option<Controller>,
    /// Brokers that are believed to be down.
    down: BTreeSet<BrokerId>,
    replicas: Replicas,
    founding: Founding,
    /// The metadata group was ordered to be opened.
    begun: bool,
    /// When to ask the other metadata replicas next what they hold.
    ask_at: Instant,
    /// When open requests were last looked at.
    looked_at: Instant,
    /// How many topic ids were made.
    topic_ids: u64,
}

impl Agent {
    /// An agent that knows nothing yet. It begins to register its broker with the first input, for which it does not
    /// want to wait: its first deadline has passed.
    pub fn new(config: AgentConfig, now: Instant) -> Agent {
        let mut requests = Requests::new(config.broker.id, config.broker.incarnation);
        // The limit on open requests can't be reached by the first one.
        let wish = Wish::RegisterBroker {
            broker: config.broker.clone(),
            folder: config.folder,
        };
        let _ = requests.open(wish, Purpose::Internal, None);
        let founding = Founding::new(FoundingConfig {
            broker: config.broker.id,
            folder: config.folder,
            replicas: config.metadata_replicas.clone(),
            holds: config.known_groups.contains(&METADATA_GROUP),
            founded_with: config.founded_with.clone(),
            is_member: config.is_member,
        });
        Agent {
            news: News::new(config.broker.id, config.broker.incarnation, now + config.digest_every),
            config,
            catalog: Catalog::default(),
            leaders: LeaderView::default(),
            requests,
            waiting: Waiting::default(),
            producer_ids: ProducerIds::default(),
            controlling: None,
            down: BTreeSet::new(),
            replicas: Replicas::default(),
            founding,
            begun: false,
            ask_at: now,
            looked_at: now,
            topic_ids: 0,
        }
    }

    /// From now on this agent's catalog is broken in that way: for tests of tests.
    #[cfg(feature = "sabotage")]
    pub fn sabotage(&mut self, how: crate::Sabotage) {
        self.catalog.breakage = crate::sabotage::Breakage::of(how);
    }

    /// Tell it one thing; effects are appended in the order in which they should be done.
    pub fn step(&mut self, now: Instant, input: Input<'_>, effects: &mut Vec<Effect>) {
        match input {
            Input::Applied { index, command } => self.applied(now, index, command, effects),
            Input::Led {
                group,
                term,
                leader,
                serving,
            } => self.led(now, group, term, leader, serving),
            Input::InSync { group, term, replicas } => self.in_sync(now, group, term, replicas),
            Input::Members {
                group,
                since,
                voters,
                learners,
            } => self.members(group, since, voters, learners),
            Input::Peer { from, message } => self.peer(now, from, message, effects),
            Input::Request {
                ticket,
                timeout,
                request,
            } => self.request(now, ticket, timeout, request, effects),
            Input::Restored(broker) => self.restored(broker, effects),
            Input::Down(broker) => {
                self.down.insert(broker);
            }
            Input::Tick => {}
        }
        self.begin(effects);
        self.look_at_the_clock(now, effects);
    }

    /// When to send [`Input::Tick`] next.
    pub fn deadline(&self) -> Instant {
        let look = self.looked_at + self.granularity();
        let mut deadline = self.news.deadline();
        if self.is_waiting() {
            deadline = deadline.min(look);
        }
        if !self.begun {
            deadline = deadline.min(self.ask_at);
        }
        deadline
    }

    /// Cheap to clone and publish; see [`Catalog::applied`].
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Cheap to clone and publish; see [`LeaderView::version`].
    pub fn leaders(&self) -> &LeaderView {
        &self.leaders
    }

    /// The leader of the metadata group as far as known.
    pub fn controller(&self) -> Option<BrokerId> {
        self.leaders.leader(METADATA_GROUP)
    }

    /// Whether this broker is in the catalog as it is now.
    pub fn registration(&self) -> Registration {
        if let Some(noted) = self.other_founders() {
            return Registration::OtherFounders { noted: noted.clone() };
        }
        if self.catalog.cluster_id().is_some_and(|id| id != self.config.cluster_id) {
            return Registration::WrongCluster;
        }
        let own = self.config.broker.incarnation;
        match self.catalog.broker(self.id()) {
            Some(known) if known.incarnation > own => Registration::Superseded,
            Some(known) if known.incarnation == own => Registration::Registered,
            _ => Registration::Pending,
        }
    }

    fn id(&self) -> BrokerId {
        self.config.broker.id
    }

    /// The founders that the folder has noted, if the configuration names others.
    fn other_founders(&self) -> Option<&Founders> {
        let configured = Founders::new(self.config.metadata_replicas.iter().copied());
        let noted = self.config.noted_founders.as_ref()?;
        let ignored = self
            .catalog
            .breakage
            .is(crate::sabotage::Sabotage::BelieveConfiguration);
        (*noted != configured && !ignored).then_some(noted)
    }

    /// Tells the host of the registered brokers that did not found the cluster. Not before everything that was
    /// committed before this start is applied: fewer would be members of the metadata group meanwhile.
    fn name_newcomers(&self, effects: &mut Vec<Effect>) {
        let founders = &self.config.metadata_replicas;
        let newcomers = self.catalog.brokers().filter(|broker| !founders.contains(&broker.id));
        let newcomers: Vec<_> = newcomers.cloned().collect();
        if !newcomers.is_empty() {
            effects.push(Effect::Newcomers(newcomers));
        }
    }

    /// Retries and deadlines are looked at four times in the time after which a request is repeated: a timer for each
    /// would be exact to no purpose.
    fn granularity(&self) -> Duration {
        self.config.retry_after / 4
    }

    fn is_waiting(&self) -> bool {
        !self.requests.is_empty()
            || !self.waiting.is_empty()
            || self.producer_ids.is_waiting()
            || self.has_arrivals()
            || self
                .controlling
                .as_ref()
                .is_some_and(|controller| controller.is_waiting())
    }

    fn look_at_the_clock(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if now >= self.looked_at + self.granularity() {
            self.looked_at = now;
            self.expire(now, effects);
        }
        self.ask_others(now, effects);
        self.resend(now, effects);
        self.spread(now, effects);
    }

    fn expire(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        for ticket in self.requests.expire(now) {
            effects.push(Effect::Reply(ticket, Err(AdminError::TimedOut)));
        }
        for (ticket, error) in self.waiting.expire(now) {
            effects.push(Effect::Reply(ticket, Err(error)));
        }
        self.requests.abandon_topics(|name| self.waiting.contains(name));
        self.ask_for_topics(now);
        self.report_arrivals();
        for ticket in self.producer_ids.expire(now) {
            effects.push(Effect::Reply(ticket, Err(AdminError::TimedOut)));
        }
        if let Some(controller) = &mut self.controlling {
            controller.expire(now, self.config.retry_after);
        }
    }

    fn applied(&mut self, now: Instant, index: CommandIndex, bytes: &[u8], effects: &mut Vec<Effect>) {
        let command = match Command::decode(bytes) {
            Ok(command) => command,
            Err(error) => return effects.push(Effect::Unreadable { index, error }),
        };
        let outcome = self.catalog.apply(index, &command);
        if let Some(controller) = &mut self.controlling {
            controller.applied(command.request, &outcome);
        }
        self.follow(now, &outcome, effects);
        self.answer(now, &command, outcome, effects);
    }

    fn peer(&mut self, now: Instant, from: BrokerId, bytes: &[u8], effects: &mut Vec<Effect>) {
        let message = match Message::decode(bytes) {
            Ok(message) => message,
            Err(error) => return effects.push(Effect::Rejected { from, error }),
        };
        match message {
            Message::Forward { request, settled, wish } if request.broker == from && may_ask(from, &wish) => {
                self.forwarded(now, (request, settled), &wish, effects);
            }
            Message::Forward { .. } => effects.push(Effect::Rejected {
                from,
                error: DecodeError::Malformed,
            }),
            Message::Refused { request, error } => self.refused(now, request, error, effects),
            Message::Elsewhere { request, controller } => self.redirected(request, controller, effects),
            Message::News {
                incarnation,
                after,
                upto,
                words,
            } => {
                self.told(now, from, incarnation, (after, upto), &words, effects);
            }
            Message::Want { incarnation, after } => self.news.answer(from, incarnation, after, effects),
            Message::Applied { index } => self.heard(from, index, effects),
            Message::Ask { folder } => self.asked(from, folder, effects),
            Message::Answer { asker, folder, found } => self.answered(from, asker, folder, found, effects),
        }
    }

    fn restored(&mut self, broker: BrokerId, effects: &mut Vec<Effect>) {
        self.down.remove(&broker);
        self.news.digest_to(broker, effects);
        self.announce(Some(broker), effects);
        self.ask_if_silent(broker, effects);
    }

    /// Everyone who may have to be told something.
    fn others(&self) -> BTreeSet<BrokerId> {
        let mut others: BTreeSet<BrokerId> = self.catalog.brokers().map(|broker| broker.id).collect();
        others.extend(&self.config.metadata_replicas);
        others.remove(&self.id());
        others
    }

    /// 128 bits that nobody else has: mixed from random bits, the broker, its start and a counter.
    fn new_topic_id(&mut self) -> TopicId {
        self.topic_ids += 1;
        let broker = &self.config.broker;
        let start = scramble(self.config.seed ^ scramble(broker.incarnation.0));
        let high = scramble(start ^ scramble(u64::from(broker.id.0.unsigned_abs())) ^ self.topic_ids);
        let low = scramble(high ^ scramble(start));
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&high.to_be_bytes());
        bytes[8..].copy_from_slice(&low.to_be_bytes());
        // Version 4, variant 1 (RFC 9562): also keeps clear of the two ids that Kafka reserves.
        bytes[6] = 0x40 | (bytes[6] & 0x0f);
        bytes[8] = 0x80 | (bytes[8] & 0x3f);
        TopicId(bytes)
    }
}

/// A broker registers itself, and nobody else.
fn may_ask(from: BrokerId, wish: &Wish) -> bool {
    !matches!(wish, Wish::RegisterBroker { broker, .. } if broker.id != from)
}

#[cfg(test)]
mod tests;
