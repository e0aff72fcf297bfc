//! Someone who creates and deletes topics while the cluster suffers.

use super::{Answer, Client, Moves, Request};
use crate::checker::{Law, Violation};
use crate::sim::queue::Micros;
use crate::sim::rng::Rng;
use std::collections::{BTreeMap, VecDeque};
use trimaran_registry::agent::{AdminError, AdminReply, AdminRequest};
use trimaran_registry::catalog::{Layout, NewTopic, TopicRef};
use trimaran_registry::{BrokerId, CatalogError, PartitionIndex};

const REQUEST_TIMEOUT_US: Micros = 4_000_000;
const BACKOFF_US: Micros = 100_000;

/// One thing to do, and done once the cluster says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Create a topic.
    Create {
        /// Its name.
        name: String,
        /// How many partitions.
        partitions: i32,
        /// How many replicas of each.
        replication_factor: i32,
        /// How many of them have to be in sync for acks=all.
        min_insync: usize,
        /// Bytes beyond which retention deletes the oldest segments.
        retention_bytes: Option<u64>,
    },
    /// Have another number in sync, from now on.
    Configure {
        /// Its name.
        name: String,
        /// How many.
        min_insync: usize,
    },
    /// Give a topic more partitions.
    Grow {
        /// Its name.
        name: String,
        /// How many it should have in all.
        total: i32,
    },
    /// Keep a partition on other brokers.
    Reassign {
        /// Its topic.
        name: String,
        /// Its number.
        partition: i32,
        /// On which, the preferred leader first.
        replicas: Vec<i32>,
    },
    /// Delete a topic.
    Delete {
        /// Its name.
        name: String,
    },
}

/// Works through a list of tasks, one after the other, by whichever broker answers.
pub struct Administrator {
    number: u32,
    brokers: u32,
    rng: Rng,
    /// Not before that time each.
    tasks: VecDeque<(Micros, Task)>,
    /// The first task was asked for before, and may have been done.
    asked_before: bool,
    waiting: Option<(u64, Micros)>,
    next_request: u64,
    not_before: Micros,
}

impl Administrator {
    /// Someone with these tasks, in the order of their times.
    pub fn new(number: u32, brokers: u32, tasks: Vec<(Micros, Task)>, rng: Rng) -> Administrator {
        Administrator {
            number,
            brokers,
            rng,
            tasks: tasks.into(),
            asked_before: false,
            waiting: None,
            next_request: 0,
            not_before: 0,
        }
    }

    fn go_on(&mut self, now: Micros, moves: &mut Moves) {
        if self.waiting.is_some_and(|(_, until)| until <= now) {
            self.waiting = None;
            self.asked_before = true;
            self.not_before = now + BACKOFF_US;
        }
        let Some((from, task)) = self.tasks.front() else {
            return;
        };
        let from = (*from).max(self.not_before);
        if let Some((_, until)) = self.waiting {
            moves.wake_by(until);
        } else if now < from {
            moves.wake_by(from);
        } else {
            let request = Request::Admin(request(task));
            let broker = 1 + u32::try_from(self.rng.below(u64::from(self.brokers))).unwrap_or(0);
            self.next_request += 1;
            self.waiting = Some((self.next_request, now + REQUEST_TIMEOUT_US));
            moves.wake_by(now + REQUEST_TIMEOUT_US);
            moves.requests.push((broker, self.next_request, request));
        }
    }

    /// Whether the answer says that the first task is done.
    fn settles(&self, result: &Result<AdminReply, AdminError>, moves: &mut Moves) -> bool {
        match (self.tasks.front(), result) {
            (_, Ok(_)) => true,
            (Some((_, Task::Create { .. })), Err(AdminError::Refused(CatalogError::TopicExists)))
            | (Some((_, Task::Delete { .. })), Err(AdminError::Refused(CatalogError::UnknownTopic))) => {
                if !self.asked_before {
                    let detail = format!("{} was told {result:?} when it asked first", self.describe());
                    moves.accuse(Violation::new(Law::NoFalseAccusation, detail));
                }
                true
            }
            // It was done before: there are as many already.
            (Some((_, Task::Grow { .. })), Err(AdminError::Refused(CatalogError::InvalidPartitions { .. }))) => {
                self.asked_before
            }
            // Another one is under way, or the topic is gone.
            (Some((_, Task::Reassign { .. })), Err(AdminError::Refused(_))) => true,
            // Brokers may not have registered yet.
            (_, Err(_)) => false,
        }
    }
}

fn request(task: &Task) -> AdminRequest {
    match task {
        Task::Create {
            name,
            partitions,
            replication_factor,
            min_insync,
            retention_bytes,
        } => AdminRequest::CreateTopic {
            topic: NewTopic {
                name: name.clone(),
                layout: Layout::Spread {
                    partitions: *partitions,
                    replication_factor: *replication_factor,
                },
                config: config(*min_insync, *retention_bytes),
            },
            validate_only: false,
        },
        Task::Configure { name, min_insync } => AdminRequest::ConfigureTopic {
            topic: TopicRef::Name(name.clone()),
            config: config(*min_insync, None),
            validate_only: false,
        },
        Task::Grow { name, total } => AdminRequest::AddPartitions {
            topic: name.clone(),
            total: *total,
            assignments: None,
            validate_only: false,
        },
        Task::Reassign {
            name,
            partition,
            replicas,
        } => AdminRequest::Reassign {
            topic: TopicRef::Name(name.clone()),
            partition: PartitionIndex(*partition),
            replicas: Some(replicas.iter().map(|id| BrokerId(*id)).collect()),
        },
        Task::Delete { name } => AdminRequest::DeleteTopic(TopicRef::Name(name.clone())),
    }
}

fn config(min_insync: usize, retention_bytes: Option<u64>) -> BTreeMap<String, String> {
    let mut config = BTreeMap::from([("min.insync.replicas".to_owned(), min_insync.to_string())]);
    config.extend(retention_bytes.map(|bytes| ("retention.bytes".to_owned(), bytes.to_string())));
    config
}

impl Client for Administrator {
    fn wake(&mut self, now: Micros, moves: &mut Moves) {
        self.go_on(now, moves);
    }

    fn answer(&mut self, now: Micros, number: u64, answer: Answer, moves: &mut Moves) {
        if self.waiting.take_if(|(waiting, _)| *waiting == number).is_none() {
            return self.go_on(now, moves);
        }
        match answer {
            Answer::Admin(result) if self.settles(&result, moves) => {
                self.tasks.pop_front();
                self.asked_before = false;
            }
            Answer::Admin(_) | Answer::Metadata(_) | Answer::Produced(_) | Answer::Fetched(_) | Answer::Closed => {
                self.asked_before = true;
                self.not_before = now + self.rng.between(1, 2 * BACKOFF_US);
            }
        }
        self.go_on(now, moves);
    }

    fn finish(&mut self) {}

    fn spare_the_missing(&mut self) {
        // One that was asked for may still be carried out.
        let asked = usize::from(self.waiting.is_some() || self.asked_before).min(self.tasks.len());
        let mut later = self.tasks.split_off(asked);
        later.retain(|(_, task)| !matches!(task, Task::Reassign { .. }));
        self.tasks.append(&mut later);
    }

    fn is_done(&self) -> bool {
        self.tasks.is_empty()
    }

    fn describe(&self) -> String {
        format!(
            "administrator {} with {} tasks left, first {:?}",
            self.number,
            self.tasks.len(),
            self.tasks.front()
        )
    }
}
