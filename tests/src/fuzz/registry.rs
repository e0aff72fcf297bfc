//! Commands of the metadata group, and what registry agents say to each other.

use super::pieces::{Pieces, put_piece};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use trimaran_registry::agent::{AdminRequest, Agent, AgentConfig, Effect, Input, Ticket};
use trimaran_registry::catalog::{Broker, Catalog, Change, Command, Layout, NewTopic, RequestId, TopicRef};
use trimaran_registry::{
    BrokerId, CommandIndex, FolderId, GroupId, Incarnation, Instant, METADATA_GROUP, PartitionIndex, Term, TopicId,
    limits,
};

/// Several commands, applied in turn on two replicas.
pub(super) fn commands(data: &[u8]) {
    let mut pieces = Pieces::new(data);
    let (mut one, mut other) = (Catalog::default(), Catalog::default());
    let mut index = 0;
    while !pieces.is_empty() {
        let Ok(command) = Command::decode(pieces.piece()) else {
            continue;
        };
        assert_eq!(Command::decode(&command.encode()), Ok(command.clone()));
        index += 1;
        let outcome = one.apply(CommandIndex(index), &command);
        assert_eq!(other.apply(CommandIndex(index), &command), outcome);
    }
    assert!(one == other);
    assert!(one.partition_count() <= limits::PARTITIONS_PER_CLUSTER && one.brokers().count() <= limits::BROKERS);
}

pub(super) fn command_seeds() -> Vec<Vec<u8>> {
    let brokers = [1, 2, 3].map(|id| Change::RegisterBroker(broker(id)));
    let config = BTreeMap::from([("retention.ms".to_owned(), "5000".to_owned())]);
    let id = TopicId([7; 16]);
    let replicas = vec![vec![BrokerId(1), BrokerId(2)], vec![BrokerId(2), BrokerId(3)]];
    let reassign = Change::Reassign {
        id,
        partition: PartitionIndex(0),
        replicas: vec![BrokerId(3)],
    };
    let changes = [
        Change::CreateTopic {
            id,
            name: "orders".into(),
            partitions: replicas.clone(),
            config: config.clone(),
        },
        Change::ConfigureTopic { id, config },
        Change::AddPartitions {
            id,
            present: 2,
            partitions: replicas,
        },
        Change::AllocateProducerIds { count: 1000 },
        Change::RegisterFolder {
            broker: broker(1),
            folder: FolderId([1; 16]),
        },
        reassign.clone(),
        Change::CancelReassignment {
            id,
            partition: PartitionIndex(0),
        },
        reassign,
        Change::FinishReassignment {
            id,
            partition: PartitionIndex(0),
            since: CommandIndex(12),
        },
        Change::DeleteTopic(id),
    ];
    let found = [Change::FoundCluster("fuzz".into())];
    let changes = found.into_iter().chain(brokers).chain(changes);
    let commands: Vec<Vec<u8>> = changes
        .zip(1..)
        .map(|(change, sequence)| command(sequence, change))
        .collect();
    let script = |commands: &[Vec<u8>]| {
        let mut script = Vec::new();
        commands.iter().for_each(|command| put_piece(&mut script, command));
        script
    };
    let mut seeds: Vec<Vec<u8>> = commands.chunks(1).map(script).collect();
    seeds.extend((2..=commands.len()).map(|length| script(&commands[..length])));
    seeds
}

fn command(sequence: u64, change: Change) -> Vec<u8> {
    let request = RequestId {
        broker: BrokerId(1),
        incarnation: Incarnation(5),
        sequence,
    };
    let settled = sequence;
    Command {
        request,
        settled,
        change,
    }
    .encode()
}

fn broker(id: i32) -> Broker {
    Broker {
        id: BrokerId(id),
        incarnation: Incarnation(5),
        rack: Some("rack".into()),
        ..Broker::default()
    }
}

/// An agent that leads the metadata group of a cluster of three, whose other members say these things.
pub(super) fn messages(data: &[u8]) {
    let mut pieces = Pieces::new(data);
    let mut desk = Desk::new(1);
    desk.lead();
    let mut effects = Vec::new();
    while !pieces.is_empty() {
        // The transport knows who speaks, and it is never the broker itself.
        let from = BrokerId(i32::from(pieces.u8()).max(2));
        let message = pieces.piece();
        desk.tell(Input::Peer { from, message }, &mut effects);
        assert!(
            effects.len() <= limits::NEWS_PER_MESSAGE,
            "one message, {} effects",
            effects.len()
        );
        for effect in effects.drain(..) {
            desk.check(effect);
        }
    }
    desk.now = Instant(desk.now.0 + 10_000_000);
    desk.tell(Input::Tick, &mut effects);
    effects.into_iter().for_each(|effect| desk.check(effect));
}

/// An agent, and the log that it proposes to.
struct Desk {
    agent: Agent,
    now: Instant,
    applied: u64,
}

impl Desk {
    fn new(id: i32) -> Desk {
        let config = AgentConfig {
            broker: broker(id),
            folder: FolderId([7; 16]),
            founded_with: None,
            is_member: false,
            cluster_id: "fuzz".into(),
            noted_founders: None,
            metadata_replicas: vec![BrokerId(1)],
            seed: 1,
            default_partitions: 2,
            default_replication_factor: Some(2),
            retry_after: Duration::from_millis(200),
            digest_every: Duration::from_secs(1),
            known_groups: Default::default(),
        };
        Desk {
            agent: Agent::new(config, Instant(0)),
            now: Instant(0),
            applied: 0,
        }
    }

    fn tell(&mut self, input: Input<'_>, effects: &mut Vec<Effect>) {
        self.now = Instant(self.now.0 + 1000);
        self.agent.step(self.now, input, effects);
    }

    fn apply(&mut self, command: &[u8], effects: &mut Vec<Effect>) {
        self.applied += 1;
        let index = CommandIndex(self.applied);
        self.tell(Input::Applied { index, command }, effects);
    }

    /// Leads the metadata group; the cluster's three brokers are registered.
    fn lead(&mut self) {
        let mut effects = Vec::new();
        for id in 1..=3 {
            self.apply(&command(id as u64, Change::RegisterBroker(broker(id))), &mut effects);
        }
        self.tell(serving(), &mut effects);
        for effect in effects {
            self.check(effect);
        }
    }

    /// Nothing that an agent wants may be impossible. What it proposes is committed at once.
    fn check(&mut self, effect: Effect) {
        match effect {
            Effect::Propose(command) => {
                assert!(Command::decode(&command).is_ok(), "an agent can read what it proposes");
                let mut effects = Vec::new();
                self.apply(&command, &mut effects);
                effects.into_iter().for_each(|effect| self.check(effect));
            }
            Effect::Send(to, message) => {
                assert!(to != BrokerId(1) && message.len() <= limits::MESSAGE_BYTES);
            }
            Effect::Unreadable { .. } => panic!("a command that was applied can't be read"),
            Effect::OpenMetadata(_)
            | Effect::Open(_)
            | Effect::Replicas { .. }
            | Effect::Configure { .. }
            | Effect::Close(_)
            | Effect::Reply(..)
            | Effect::Newcomers(_)
            | Effect::Rejected { .. } => {}
        }
    }
}

fn serving() -> Input<'static> {
    Input::Led {
        group: METADATA_GROUP,
        term: Term(1),
        leader: Some(BrokerId(1)),
        serving: true,
    }
}

/// What three agents say to each other while topics come and go.
pub(super) fn message_seeds() -> Vec<Vec<u8>> {
    let mut desks: BTreeMap<BrokerId, Desk> = (1..=3).map(|id| (BrokerId(id), Desk::new(id))).collect();
    let mut said = Vec::new();
    let mut tell = |desks: &mut BTreeMap<BrokerId, Desk>, who: BrokerId, input: Input<'_>| {
        let mut effects = Vec::new();
        desks.get_mut(&who).expect("one of the three").tell(input, &mut effects);
        let mut todo: VecDeque<(BrokerId, Effect)> = effects.into_iter().map(|effect| (who, effect)).collect();
        while let Some((who, effect)) = todo.pop_front() {
            let mut effects = Vec::new();
            match effect {
                Effect::Propose(command) => {
                    for (id, desk) in desks.iter_mut() {
                        desk.apply(&command, &mut effects);
                        todo.extend(effects.drain(..).map(|effect| (*id, effect)));
                    }
                }
                Effect::Send(to, message) => {
                    if let Some(desk) = desks.get_mut(&to) {
                        desk.tell(
                            Input::Peer {
                                from: who,
                                message: &message,
                            },
                            &mut effects,
                        );
                        todo.extend(effects.drain(..).map(|effect| (to, effect)));
                    }
                    said.push((who, message));
                }
                _ => {}
            }
        }
    };
    tell(&mut desks, BrokerId(1), serving());
    for (ticket, request) in (1..).zip(wishes()) {
        let input = Input::Request {
            ticket: Ticket(ticket),
            timeout: Duration::from_secs(30),
            request,
        };
        tell(&mut desks, BrokerId(2 + ticket as i32 % 2), input);
        for desk in desks.values_mut() {
            desk.now = Instant(desk.now.0 + 1_500_000);
        }
        for id in 1..=3 {
            let led = Input::Led {
                group: GroupId(ticket),
                term: Term(ticket),
                leader: Some(BrokerId(id)),
                serving: true,
            };
            tell(&mut desks, BrokerId(id), led);
            tell(&mut desks, BrokerId(id), Input::Tick);
            tell(&mut desks, BrokerId(id), Input::Restored(BrokerId(1 + id % 3)));
        }
    }
    // To the target it is the others that speak.
    let script = |said: &[(BrokerId, Vec<u8>)]| {
        let mut script = Vec::new();
        for (from, message) in said {
            script.push(u8::try_from(from.0).expect("one of the three").max(2));
            put_piece(&mut script, message);
        }
        script
    };
    let mut seeds: Vec<Vec<u8>> = said.chunks(1).map(script).collect();
    seeds.extend(said.chunks(10).map(script));
    seeds.sort();
    seeds.dedup();
    seeds
}

fn wishes() -> Vec<AdminRequest> {
    let topic = |name: &str| NewTopic {
        name: name.into(),
        layout: Layout::Spread {
            partitions: 2,
            replication_factor: 2,
        },
        config: BTreeMap::new(),
    };
    let create = |name: &str| AdminRequest::CreateTopic {
        topic: topic(name),
        validate_only: false,
    };
    vec![
        create("orders"),
        create("orders"),
        create("no good name!"),
        AdminRequest::EnsureTopic { name: "ensured".into() },
        AdminRequest::AddPartitions {
            topic: "orders".into(),
            total: 4,
            assignments: None,
            validate_only: false,
        },
        AdminRequest::ConfigureTopic {
            topic: TopicRef::Name("orders".into()),
            config: BTreeMap::from([("retention.ms".to_owned(), "5000".to_owned())]),
            validate_only: false,
        },
        AdminRequest::ProducerId,
        AdminRequest::DeleteTopic(TopicRef::Name("orders".into())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_have_said_all_kinds_of_things() {
        // The byte behind sender, length and version is the kind.
        let kinds: std::collections::BTreeSet<u8> = message_seeds().iter().map(|seed| seed[4]).collect();
        assert!(kinds.len() >= 3, "{kinds:?}");
    }

    #[test]
    fn the_longest_script_is_applied() {
        let mut catalog = Catalog::default();
        let script = command_seeds().pop().unwrap();
        let mut pieces = Pieces::new(&script);
        let mut index = 0;
        while !pieces.is_empty() {
            index += 1;
            let outcome = catalog.apply(CommandIndex(index), &Command::decode(pieces.piece()).unwrap());
            let refused = matches!(outcome, trimaran_registry::catalog::Outcome::Refused(_));
            assert!(!refused, "{index}: {outcome:?}");
        }
        assert_eq!(index, 14);
    }
}
