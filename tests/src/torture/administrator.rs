//! Someone who creates, uses, deletes and creates again topics of the same few names.

use super::ending::read_from_leader;
use super::producer::{Assignment, Producer};
use super::witness::{Slot, Stage, Witness};
use crate::checker::Law;
use crate::checker::history::{Delivery, Operation};
use crate::process::{
    CREATE_TOPICS_VERSION, Connection, DELETE_TOPICS_VERSION, KafkaClient, Reading, RequestError, create_topic,
    delete_topic, good,
};
use crate::sim::rng::Rng;
use kafka_protocol::ResponseError;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Topics that come and go.
const NAMES: [&str; 2] = ["comes-and-goes", "goes-and-comes"];

/// Between two attempts.
const RETRY: Duration = Duration::from_millis(100);

/// How long a request may take: the controller may be looking for its successor.
const PATIENCE: Duration = Duration::from_secs(12);

/// Works until the run ends.
pub struct Administrator {
    rng: Rng,
    witness: Arc<Witness>,
    replicas: i16,
    /// The ids of all topics that it has created.
    known: BTreeSet<Uuid>,
}

impl Administrator {
    /// Someone who creates topics with so many replicas.
    pub fn new(replicas: i16, rng: Rng, witness: Arc<Witness>) -> Administrator {
        Administrator {
            rng,
            witness,
            replicas,
            known: BTreeSet::new(),
        }
    }

    /// One topic after the other, each from its creation to its deletion. A topic that exists when the run ends stays.
    pub fn run(mut self) {
        for name in NAMES.iter().cycle() {
            if self.witness.stage() != Stage::Suffering || self.live(name).is_none() {
                return;
            }
        }
    }

    /// A topic's life; none if the run ended before it did.
    fn live(&mut self, name: &str) -> Option<()> {
        let id = self.create(name)?;
        self.known.insert(id);
        let replicas = usize::try_from(self.replicas).unwrap_or(1);
        let slot = self.witness.add_slot(Slot::new(name, Some(id), 0, replicas, false));
        let producer = Producer::new(
            Assignment {
                slot,
                topic: name.to_owned(),
                id: Some(id),
                partition: 0,
                delivery: Delivery::ExactlyOnce,
                pace: Duration::from_millis(5),
                batches: Some(u32::try_from(self.rng.between(1, 60)).unwrap_or(1)),
            },
            self.rng.fork(),
            Arc::clone(&self.witness),
        );
        if !producer.run() {
            return None;
        }
        self.read_everything(slot)?;
        if self.witness.stage() != Stage::Suffering {
            return None;
        }
        self.note_what_is_there(slot)?;
        self.delete(name)
    }

    fn create(&mut self, name: &str) -> Option<Uuid> {
        let request = create_topic(name, 1, self.replicas, &[("min.insync.replicas", "2")]);
        let mut asked_before = false;
        while self.witness.stage() == Stage::Suffering {
            let answer = self
                .anyone()
                .and_then(|mut connection| connection.call(CREATE_TOPICS_VERSION, &request, PATIENCE));
            let error = match answer.map(|answer| answer.topics.into_iter().next()) {
                Ok(Some(topic)) if topic.error_code == 0 => {
                    self.witness.seen().counts.created += 1;
                    return Some(topic.topic_id);
                }
                Ok(Some(topic)) if topic.error_code == ResponseError::TopicAlreadyExists.code() => {
                    if !asked_before {
                        let detail =
                            format!("topic {name} was created for the first time since it was deleted, and exists");
                        self.witness.accuse(Law::NoFalseAccusation, detail);
                    }
                    // An attempt without an answer has created it. Whoever knows its id tells.
                    match self.id_of(name) {
                        Some(id) => {
                            self.witness.seen().counts.created += 1;
                            return Some(id);
                        }
                        None => RequestError::Code(topic.error_code),
                    }
                }
                Ok(Some(topic)) => RequestError::Code(topic.error_code),
                Ok(None) => RequestError::Malformed("an empty answer".to_owned()),
                Err(error) => error,
            };
            asked_before = true;
            self.witness.note_error(&format!("creation of {name}"), &error);
            std::thread::sleep(RETRY);
        }
        None
    }

    /// The id of a topic that exists and is none of those that were deleted. A broker that was away may know only these.
    fn id_of(&self, name: &str) -> Option<Uuid> {
        let client = KafkaClient::new(self.witness.clients());
        let told = self.witness.clients().into_iter().filter_map(|broker| {
            let metadata = client.metadata(broker, name).ok()?;
            metadata.topics.first().map(|topic| topic.topic_id)
        });
        told.into_iter().find(|id| !id.is_nil() && !self.known.contains(id))
    }

    /// Reads the topic as a consumer of its own, to the end.
    fn read_everything(&mut self, slot: usize) -> Option<()> {
        let of = self.witness.seen().slots.get(slot).cloned()?;
        let consumer = self.witness.next_client();
        let client = KafkaClient::new(self.witness.clients());
        let mut position = 0;
        while self.witness.stage() != Stage::Stopped {
            let polled = of
                .id
                .and_then(|id| client.leader_by_id(&of.topic, id, of.partition))
                .ok_or_else(|| RequestError::Malformed("nobody knows a leader".to_owned()))
                .and_then(|leader| {
                    let reading = Reading {
                        id: of.id,
                        ..Reading::of(&of.topic, of.partition)
                    };
                    reading.fetch(&mut Connection::open(leader.address)?, position, 0)
                });
            match polled {
                Ok(fetched) => {
                    self.witness.polled(consumer, slot, &fetched.records);
                    position = fetched.records.last().map_or(position, |last| last.offset + 1);
                    if position >= fetched.high_watermark {
                        self.witness.saw(Operation::Drained {
                            consumer,
                            partition: slot,
                        });
                        return Some(());
                    }
                }
                Err(error) => {
                    self.witness.note_error(&format!("reader of {of}"), &error);
                    std::thread::sleep(RETRY);
                }
            }
        }
        None
    }

    /// Before it is deleted: what it holds.
    fn note_what_is_there(&mut self, slot: usize) -> Option<()> {
        let of = self.witness.seen().slots.get(slot).cloned()?;
        while self.witness.stage() != Stage::Stopped {
            match read_from_leader(&self.witness, &of) {
                Ok(log) => {
                    self.witness.seen().slots.get_mut(slot)?.ended = Some(log);
                    return Some(());
                }
                Err(error) => self.witness.note_error(&format!("reader of {of}"), &error),
            }
            std::thread::sleep(RETRY);
        }
        None
    }

    fn delete(&mut self, name: &str) -> Option<()> {
        let request = delete_topic(name);
        let mut asked_before = false;
        while self.witness.stage() != Stage::Stopped {
            let answer = self
                .anyone()
                .and_then(|mut connection| connection.call(DELETE_TOPICS_VERSION, &request, PATIENCE));
            let code = match answer {
                Ok(answer) => good(answer.responses.first().map_or(-1, |topic| topic.error_code)),
                Err(error) => Err(error),
            };
            match code {
                Ok(()) => {
                    self.witness.seen().counts.deleted += 1;
                    return Some(());
                }
                Err(RequestError::Code(code)) if code == ResponseError::UnknownTopicOrPartition.code() => {
                    if !asked_before {
                        let detail = format!("topic {name} exists, and its deletion was told that it does not");
                        self.witness.accuse(Law::NoFalseAccusation, detail);
                    }
                    self.witness.seen().counts.deleted += 1;
                    return Some(());
                }
                Err(error) => self.witness.note_error(&format!("deletion of {name}"), &error),
            }
            asked_before = true;
            std::thread::sleep(RETRY);
        }
        None
    }

    fn anyone(&mut self) -> Result<Connection, RequestError> {
        let broker = self.rng.pick(&self.witness.brokers).copied();
        let broker = broker.ok_or_else(|| RequestError::Malformed("there are no brokers".to_owned()))?;
        Connection::open(broker.client)
    }
}
