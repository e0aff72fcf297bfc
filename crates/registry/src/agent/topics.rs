//! Requests that many clients make at once and that are one request to the controller: a topic that should exist, and
//! producer ids.

use super::{AdminError, AdminReply, Agent, Effect, Purpose, Ticket};
use crate::catalog::{Layout, NewTopic, Outcome, Topic, Wish, check_name};
use crate::{CatalogError, Instant};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Clients that may wait for topics, and for producer ids: each is a connection with a request under way.
const MOST_WAITING: usize = 10_000;

/// Who waits for which topic.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    topics: BTreeMap<String, Expected>,
    tickets: usize,
}

#[derive(Debug, Default)]
struct Expected {
    tickets: Vec<(Ticket, Instant)>,
    asking: Asking,
    /// Why it isn't there yet.
    reason: Option<CatalogError>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Asking {
    /// A request is to be made.
    #[default]
    Now,
    /// A request is to be made then.
    At(Instant),
    /// A request is open, or its result on its way.
    Asked,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Takes out those who have waited long enough, with the reason for it.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<(Ticket, AdminError)> {
        let mut expired = Vec::new();
        self.topics.retain(|_, expected| {
            let error = expected
                .reason
                .clone()
                .map_or(AdminError::TimedOut, AdminError::Refused);
            expected.tickets.retain(|(ticket, deadline)| {
                let over = *deadline <= now;
                if over {
                    expired.push((*ticket, error.clone()));
                }
                !over
            });
            !expected.tickets.is_empty()
        });
        self.tickets -= expired.len();
        expired
    }

    /// Everyone who waits for that topic.
    fn take(&mut self, name: &str) -> Vec<Ticket> {
        let tickets = self.topics.remove(name).unwrap_or_default().tickets;
        self.tickets -= tickets.len();
        tickets.into_iter().map(|(ticket, _)| ticket).collect()
    }

    /// Topics for which a request should be made now.
    fn due(&mut self, now: Instant) -> Vec<String> {
        let due = |expected: &Expected| match expected.asking {
            Asking::Now => true,
            Asking::At(at) => at <= now,
            Asking::Asked => false,
        };
        self.topics
            .iter()
            .filter(|(_, expected)| due(expected))
            .map(|(name, _)| name.clone())
            .collect()
    }

    fn set_asking(&mut self, name: &str, asking: Asking) {
        if let Some(expected) = self.topics.get_mut(name) {
            expected.asking = asking;
        }
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.topics.contains_key(name)
    }
}

/// This broker's block of producer ids.
#[derive(Debug, Default)]
pub(super) struct ProducerIds {
    next: i64,
    end: i64,
    waiting: VecDeque<(Ticket, Instant)>,
    asked: bool,
}

impl ProducerIds {
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn expire(&mut self, now: Instant) -> Vec<Ticket> {
        let mut expired = Vec::new();
        self.waiting.retain(|(ticket, deadline)| {
            let over = *deadline <= now;
            if over {
                expired.push(*ticket);
            }
            !over
        });
        expired
    }

    fn take(&mut self) -> Option<i64> {
        let id = self.next;
        (id < self.end).then(|| {
            self.next += 1;
            id
        })
    }
}

impl Agent {
    pub(super) fn ensure_topic(
        &mut self,
        now: Instant,
        ticket: Ticket,
        deadline: Instant,
        name: String,
    ) -> Result<Option<AdminReply>, AdminError> {
        if let Some(topic) = self.catalog.topic(&name) {
            return Ok(Some(AdminReply::Topic(topic.clone())));
        }
        check_name(&name).map_err(|fault| AdminError::Refused(CatalogError::InvalidName(fault)))?;
        if self.waiting.tickets >= MOST_WAITING {
            return Err(AdminError::Overloaded);
        }
        self.waiting.tickets += 1;
        self.waiting
            .topics
            .entry(name)
            .or_default()
            .tickets
            .push((ticket, deadline));
        self.ask_for_topics(now);
        Ok(None)
    }

    /// Makes the requests that are due. One that doesn't fit (too many are open) stays due.
    pub(super) fn ask_for_topics(&mut self, now: Instant) {
        for name in self.waiting.due(now) {
            let layout = Layout::Spread {
                partitions: self.config.default_partitions,
                replication_factor: self.default_replication_factor(),
            };
            let topic = NewTopic {
                name: name.clone(),
                layout,
                config: BTreeMap::new(),
            };
            let wish = Wish::CreateTopic(self.new_topic_id(), topic);
            if self.requests.open(wish, Purpose::Topic(name.clone()), None).is_ok() {
                self.waiting.set_asking(&name, Asking::Asked);
            }
        }
    }

    /// A topic exists: whoever waits for one of that name has what it wants, no matter who created it.
    pub(super) fn topic_is_there(&mut self, topic: &Arc<Topic>, effects: &mut Vec<Effect>) {
        for ticket in self.waiting.take(&topic.name) {
            effects.push(Effect::Reply(ticket, Ok(AdminReply::Topic(topic.clone()))));
        }
    }

    pub(super) fn topic_answered(&mut self, now: Instant, name: &str, outcome: Outcome, effects: &mut Vec<Effect>) {
        match outcome {
            // Somebody else created it: this broker will apply that in a moment, unless it is deleted before.
            Outcome::Refused(error @ CatalogError::TopicExists)
            // Brokers register as they start: while a cluster starts, there may be too few for a moment.
            | Outcome::Refused(error @ CatalogError::InvalidReplicationFactor { .. }) => {
                self.ask_again(now, name, Some(error));
            }
            Outcome::Refused(error) => {
                for ticket in self.waiting.take(name) {
                    effects.push(Effect::Reply(ticket, Err(AdminError::Refused(error.clone()))));
                }
            }
            _ => self.ask_again(now, name, None),
        }
    }

    fn ask_again(&mut self, now: Instant, name: &str, reason: Option<CatalogError>) {
        let at = now + self.config.retry_after;
        self.waiting.set_asking(name, Asking::At(at));
        if let Some(expected) = self.waiting.topics.get_mut(name) {
            expected.reason = reason;
        }
    }

    pub(super) fn producer_id(&mut self, ticket: Ticket, deadline: Instant) -> Result<Option<AdminReply>, AdminError> {
        if let Some(id) = self.producer_ids.take() {
            return Ok(Some(AdminReply::ProducerId(id)));
        }
        if self.producer_ids.waiting.len() >= MOST_WAITING {
            return Err(AdminError::Overloaded);
        }
        self.ask_for_producer_ids()?;
        self.producer_ids.waiting.push_back((ticket, deadline));
        Ok(None)
    }

    fn ask_for_producer_ids(&mut self) -> Result<(), AdminError> {
        if !self.producer_ids.asked {
            self.requests
                .open(Wish::AllocateProducerIds, Purpose::ProducerIds, None)?;
            self.producer_ids.asked = true;
        }
        Ok(())
    }

    /// A block of ids has come: those who wait get theirs, and if they are more than it has, another one is asked for.
    pub(super) fn producer_ids_answered(&mut self, outcome: Outcome, effects: &mut Vec<Effect>) {
        self.producer_ids.asked = false;
        if let Outcome::ProducerIds { first, count } = outcome {
            self.producer_ids.next = first;
            self.producer_ids.end = first + count;
        }
        while !self.producer_ids.waiting.is_empty() {
            let Some(id) = self.producer_ids.take() else { break };
            let Some((ticket, _)) = self.producer_ids.waiting.pop_front() else {
                break;
            };
            effects.push(Effect::Reply(ticket, Ok(AdminReply::ProducerId(id))));
        }
        if !self.producer_ids.waiting.is_empty() && self.ask_for_producer_ids().is_err() {
            for (ticket, _) in std::mem::take(&mut self.producer_ids.waiting) {
                effects.push(Effect::Reply(ticket, Err(AdminError::Overloaded)));
            }
        }
    }
}
