//! The asker's side: a request is sent until its result is seen in the local catalog, it is refused, or its time is up.

use super::{AdminError, AdminReply, AdminRequest, Agent, Effect, Message, Ticket};
use crate::catalog::{Command, Layout, NewTopic, Outcome, RequestId, Wish};
use crate::{BrokerId, CatalogError, GroupId, Incarnation, Instant, METADATA_GROUP, limits};
use core::time::Duration;
use std::collections::BTreeMap;

/// Longer than any client waits; a request must not stay open for ever.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How often in a row a request follows another broker's word on who the controller is, before it waits for its next
/// turn: two brokers could point at each other.
const REDIRECTS: u8 = 2;

/// What a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Nobody waits for it; it is retried until it is done.
    Internal,
    /// This client waits.
    Client(Ticket),
    /// Clients wait for a topic of that name.
    Topic(String),
    /// Clients wait for producer ids.
    ProducerIds,
    /// Nobody waits: this group has arrived where it was reassigned to.
    Arrival(GroupId),
}

#[derive(Debug)]
struct Open {
    wish: Wish,
    purpose: Purpose,
    deadline: Option<Instant>,
    /// None: at once.
    send_at: Option<Instant>,
    attempts: usize,
    redirects: u8,
}

/// Requests that have no answer yet.
#[derive(Debug)]
pub(super) struct Requests {
    broker: BrokerId,
    incarnation: Incarnation,
    next: u64,
    open: BTreeMap<u64, Open>,
    /// Some request is to be sent at once.
    hurry: bool,
}

impl Requests {
    pub(super) fn new(broker: BrokerId, incarnation: Incarnation) -> Requests {
        Requests {
            broker,
            incarnation,
            next: 1,
            open: BTreeMap::new(),
            hurry: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Takes a request, unless too many are open. The span of open sequence numbers is limited too: the catalog
    /// remembers no more of a broker's requests than that.
    pub(super) fn open(&mut self, wish: Wish, purpose: Purpose, deadline: Option<Instant>) -> Result<(), AdminError> {
        if self.next - self.settled() >= limits::REQUESTS_PER_BROKER as u64 {
            return Err(AdminError::Overloaded);
        }
        let open = Open {
            wish,
            purpose,
            deadline,
            send_at: None,
            attempts: 0,
            redirects: 0,
        };
        self.open.insert(self.next, open);
        self.next += 1;
        self.hurry = true;
        Ok(())
    }

    /// No request before this one will be sent again.
    fn settled(&self) -> u64 {
        self.open.first_key_value().map_or(self.next, |(sequence, _)| *sequence)
    }

    fn id(&self, sequence: u64) -> RequestId {
        RequestId {
            broker: self.broker,
            incarnation: self.incarnation,
            sequence,
        }
    }

    fn is_ours(&self, request: RequestId) -> bool {
        request.broker == self.broker && request.incarnation == self.incarnation
    }

    /// The request is answered: what was it for?
    fn close(&mut self, request: RequestId) -> Option<Purpose> {
        let ours = self.is_ours(request);
        let open = if ours {
            self.open.remove(&request.sequence)
        } else {
            None
        };
        open.map(|open| open.purpose)
    }

    fn purpose(&self, request: RequestId) -> Option<&Purpose> {
        let ours = self.is_ours(request);
        self.open
            .get(&request.sequence)
            .filter(|_| ours)
            .map(|open| &open.purpose)
    }

    /// It came to nothing, through no fault of its own: it is sent again at once.
    fn repeat(&mut self, request: RequestId) {
        let ours = self.is_ours(request);
        if let Some(open) = self.open.get_mut(&request.sequence).filter(|_| ours) {
            open.send_at = None;
            self.hurry = true;
        }
    }

    /// Closes what has run out of time; returns which clients waited for that.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Ticket> {
        let mut tickets = Vec::new();
        self.open.retain(|_, open| {
            let expired = open.deadline.is_some_and(|deadline| deadline <= now);
            if let (true, Purpose::Client(ticket)) = (expired, &open.purpose) {
                tickets.push(*ticket);
            }
            !expired
        });
        tickets
    }

    /// Closes requests for topics that nobody waits for any more.
    pub(super) fn abandon_topics(&mut self, wanted: impl Fn(&str) -> bool) {
        self.open.retain(|_, open| match &open.purpose {
            Purpose::Topic(name) => wanted(name),
            Purpose::Internal | Purpose::Client(_) | Purpose::ProducerIds | Purpose::Arrival(_) => true,
        });
    }

    /// Another broker may answer now: everything is sent again at once.
    pub(super) fn hurry(&mut self) {
        self.open.values_mut().for_each(|open| open.send_at = None);
        self.hurry = !self.open.is_empty();
    }

    /// What is to be sent now, and again after `retry_after`.
    fn due(&mut self, now: Instant, retry_after: Duration) -> Vec<(u64, usize)> {
        self.hurry = false;
        let mut due = Vec::new();
        for (sequence, open) in &mut self.open {
            if open.send_at.is_none_or(|at| at <= now) {
                due.push((*sequence, open.attempts));
                open.send_at = Some(now + retry_after);
                open.attempts += 1;
                open.redirects = 0;
            }
        }
        due
    }

    fn wish(&self, sequence: u64) -> Option<&Wish> {
        self.open.get(&sequence).map(|open| &open.wish)
    }

    /// Whether a request may follow one more redirection.
    fn redirect(&mut self, request: RequestId) -> bool {
        let ours = self.is_ours(request);
        let Some(open) = self.open.get_mut(&request.sequence).filter(|_| ours) else {
            return false;
        };
        open.redirects += 1;
        open.redirects <= REDIRECTS
    }
}

impl Agent {
    pub(super) fn request(
        &mut self,
        now: Instant,
        ticket: Ticket,
        timeout: Duration,
        request: AdminRequest,
        effects: &mut Vec<Effect>,
    ) {
        let deadline = now + timeout.min(LONGEST_WAIT);
        let accepted = match request {
            AdminRequest::EnsureTopic { name } => self.ensure_topic(now, ticket, deadline, name),
            AdminRequest::ProducerId => self.producer_id(ticket, deadline),
            AdminRequest::CreateTopic { topic, validate_only } => {
                let wish = Wish::CreateTopic(self.new_topic_id(), self.with_defaults(topic));
                self.wish(ticket, deadline, wish, validate_only)
            }
            AdminRequest::DeleteTopic(topic) => self.wish(ticket, deadline, Wish::DeleteTopic(topic), false),
            AdminRequest::AddPartitions {
                topic,
                total,
                assignments,
                validate_only,
            } => self.wish(
                ticket,
                deadline,
                Wish::AddPartitions {
                    topic,
                    total,
                    assignments,
                },
                validate_only,
            ),
            AdminRequest::ConfigureTopic {
                topic,
                config,
                validate_only,
            } => self.wish(ticket, deadline, Wish::ConfigureTopic { topic, config }, validate_only),
            AdminRequest::Reassign {
                topic,
                partition,
                replicas,
            } => {
                let wish = match replicas {
                    None => Wish::CancelReassignment { topic, partition },
                    Some(replicas) => Wish::Reassign {
                        topic,
                        partition,
                        replicas,
                    },
                };
                self.wish(ticket, deadline, wish, false)
            }
        };
        match accepted {
            Ok(None) => {}
            Ok(Some(reply)) => effects.push(Effect::Reply(ticket, Ok(reply))),
            Err(error) => effects.push(Effect::Reply(ticket, Err(error))),
        }
    }

    /// An answer at once, or none yet.
    fn wish(
        &mut self,
        ticket: Ticket,
        deadline: Instant,
        wish: Wish,
        validate_only: bool,
    ) -> Result<Option<AdminReply>, AdminError> {
        if validate_only {
            self.catalog.plan(&wish, &self.down).map_err(AdminError::Refused)?;
            return Ok(Some(AdminReply::Valid));
        }
        if message_is_too_large(&wish) {
            return Err(AdminError::Refused(CatalogError::TooManyPartitions {
                limit: limits::PARTITIONS_PER_TOPIC,
            }));
        }
        self.requests.open(wish, Purpose::Client(ticket), Some(deadline))?;
        Ok(None)
    }

    /// -1 means the default, as in Kafka's CreateTopics.
    fn with_defaults(&self, mut topic: NewTopic) -> NewTopic {
        if let Layout::Spread {
            partitions,
            replication_factor,
        } = &mut topic.layout
        {
            if *partitions == -1 {
                *partitions = self.config.default_partitions;
            }
            if *replication_factor == -1 {
                *replication_factor = self.default_replication_factor();
            }
        }
        topic
    }

    /// A founder that has not registered yet is counted: it will.
    pub(super) fn default_replication_factor(&self) -> i32 {
        let brokers = self.config.metadata_replicas.len().max(self.catalog.brokers().count());
        let all = i32::try_from(brokers.min(3)).unwrap_or(3);
        self.config.default_replication_factor.unwrap_or(all)
    }

    /// Sends what is due.
    pub(super) fn resend(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if !self.requests.hurry && self.looked_at != now {
            return;
        }
        for (sequence, attempts) in self.requests.due(now, self.config.retry_after) {
            self.send_request(now, sequence, attempts, effects);
        }
    }

    fn send_request(&mut self, now: Instant, sequence: u64, attempts: usize, effects: &mut Vec<Effect>) {
        let request = self.requests.id(sequence);
        let settled = self.requests.settled();
        let Some(wish) = self.requests.wish(sequence).cloned() else {
            return;
        };
        if self.controlling.is_some() {
            return self.forwarded(now, (request, settled), &wish, effects);
        }
        if let Some(to) = self.whom_to_ask(attempts) {
            effects.push(Effect::Send(to, Message::Forward { request, settled, wish }.encode()));
        }
    }

    /// The controller; if it doesn't answer, or none is known, the metadata group's replicas in turn.
    fn whom_to_ask(&self, attempts: usize) -> Option<BrokerId> {
        let me = self.id();
        let known = self.leaders.leader(METADATA_GROUP).filter(|leader| *leader != me);
        if let (Some(leader), true) = (known, attempts.is_multiple_of(2)) {
            return Some(leader);
        }
        let others: Vec<BrokerId> = self
            .config
            .metadata_replicas
            .iter()
            .copied()
            .filter(|id| *id != me)
            .collect();
        others.get(attempts / 2 % others.len().max(1)).copied()
    }

    pub(super) fn redirected(&mut self, request: RequestId, controller: Option<BrokerId>, effects: &mut Vec<Effect>) {
        let Some(to) = controller.filter(|to| *to != self.id()) else {
            return;
        };
        if self.requests.redirect(request) {
            let settled = self.requests.settled();
            let Some(wish) = self.requests.wish(request.sequence).cloned() else {
                return;
            };
            effects.push(Effect::Send(to, Message::Forward { request, settled, wish }.encode()));
        }
    }

    /// The controller can't do it.
    pub(super) fn refused(&mut self, now: Instant, request: RequestId, error: CatalogError, effects: &mut Vec<Effect>) {
        match self.requests.purpose(request) {
            // A broker goes on asking: whatever stands in its way now (a later start of it, a limit) may pass, and
            // `registration` says what it is.
            None | Some(Purpose::Internal) => {}
            Some(_) => {
                let purpose = self.requests.close(request);
                self.conclude(now, purpose, Outcome::Refused(error), effects);
            }
        }
    }

    /// A command was applied: if it was one of ours, the request that waits for it is answered.
    pub(super) fn answer(&mut self, now: Instant, command: &Command, outcome: Outcome, effects: &mut Vec<Effect>) {
        if outcome == Outcome::Baseless {
            return self.requests.repeat(command.request);
        }
        let purpose = self.requests.close(command.request);
        if let Outcome::TopicCreated(topic) = &outcome {
            self.topic_is_there(&topic.clone(), effects);
        }
        self.conclude(now, purpose, outcome, effects);
    }

    fn conclude(&mut self, now: Instant, purpose: Option<Purpose>, outcome: Outcome, effects: &mut Vec<Effect>) {
        match purpose {
            None | Some(Purpose::Internal) => {}
            Some(Purpose::Client(ticket)) => effects.push(Effect::Reply(ticket, reply(outcome))),
            Some(Purpose::Topic(name)) => self.topic_answered(now, &name, outcome, effects),
            Some(Purpose::ProducerIds) => self.producer_ids_answered(outcome, effects),
            Some(Purpose::Arrival(group)) => self.arrival_reported(group),
        }
    }
}

/// What a client is told of an outcome.
fn reply(outcome: Outcome) -> Result<AdminReply, AdminError> {
    match outcome {
        Outcome::TopicCreated(topic)
        | Outcome::TopicDeleted(topic)
        | Outcome::TopicConfigured(topic)
        | Outcome::PartitionsAdded { topic, .. }
        | Outcome::Reassigning { topic, .. }
        | Outcome::Reassigned { topic, .. } => Ok(AdminReply::Topic(topic)),
        Outcome::Refused(error) => Err(AdminError::Refused(error)),
        // None of these answers a client's request; should one ever, the client must not wait for nothing.
        Outcome::ClusterFounded
        | Outcome::BrokerRegistered(_)
        | Outcome::ProducerIds { .. }
        | Outcome::Baseless
        | Outcome::Repeated
        | Outcome::Stale => Err(AdminError::TimedOut),
    }
}

/// Only explicit assignments can make a wish larger than a message may be.
fn message_is_too_large(wish: &Wish) -> bool {
    let assignments = match wish {
        Wish::CreateTopic(
            _,
            NewTopic {
                layout: Layout::Manual(assignments),
                ..
            },
        ) => assignments,
        Wish::AddPartitions {
            assignments: Some(assignments),
            ..
        } => assignments,
        Wish::Reassign { replicas, .. } => return replicas.len() > limits::PARTITIONS_PER_TOPIC,
        _ => return false,
    };
    let ids: usize = assignments.iter().map(Vec::len).sum();
    assignments.len() > limits::PARTITIONS_PER_TOPIC || ids > limits::PARTITIONS_PER_TOPIC * limits::REPLICATION_FACTOR
}
