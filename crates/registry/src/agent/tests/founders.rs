//! Agents of brokers whose founders are not what they were told, and of brokers that are none.

use super::cluster::config;
use super::*;
use crate::catalog::{Change, Command, RequestId};
use crate::{Founders, Incarnation};

fn founders(ids: &[i32]) -> Founders {
    Founders::new(ids.iter().copied().map(BrokerId))
}

/// Of five founders, three are configured after one restart.
#[test]
fn a_broker_whose_folder_has_noted_other_founders_opens_nothing() {
    for (noted, opens) in [(&[0, 1, 2][..], true), (&[0, 1, 2, 3, 4][..], false)] {
        let config = AgentConfig {
            noted_founders: Some(founders(noted)),
            known_groups: BTreeSet::from([METADATA_GROUP]),
            ..config(0, 2, 3)
        };
        let mut effects = Vec::new();
        let mut agent = Agent::new(config, Instant::default());
        agent.step(Instant::default(), Input::Tick, &mut effects);
        let opened = effects.iter().any(|effect| matches!(effect, Effect::OpenMetadata(_)));
        assert_eq!(opened, opens, "{noted:?}");
        let expected = match opens {
            true => Registration::Pending,
            false => Registration::OtherFounders { noted: founders(noted) },
        };
        assert_eq!(agent.registration(), expected);
    }
}

fn register(agent: &mut Agent, index: u64, id: i32) -> Vec<Effect> {
    let command = Command {
        request: RequestId {
            broker: BrokerId(id),
            incarnation: Incarnation(1),
            sequence: 1,
        },
        settled: 1,
        change: Change::RegisterFolder {
            broker: config(id, 1, 3).broker,
            folder: FolderId([7; 16]),
        },
    };
    let mut effects = Vec::new();
    let input = Input::Applied {
        index: CommandIndex(index),
        command: &command.encode(),
    };
    agent.step(Instant::default(), input, &mut effects);
    effects
}

fn newcomers(effects: &[Effect]) -> Option<Vec<i32>> {
    effects.iter().find_map(|effect| match effect {
        Effect::Newcomers(brokers) => Some(brokers.iter().map(|broker| broker.id.0).collect()),
        _ => None,
    })
}

/// A history that is replayed names them one after the other: a leader that believed it would drop members meanwhile.
#[test]
fn brokers_that_are_no_founders_are_named_all_together_once_the_own_start_is_registered() {
    let mut agent = Agent::new(config(0, 1, 3), Instant::default());
    assert_eq!(newcomers(&register(&mut agent, 1, 5)), None);
    assert_eq!(newcomers(&register(&mut agent, 2, 4)), None);
    assert_eq!(newcomers(&register(&mut agent, 3, 0)), Some(vec![4, 5]));
    assert_eq!(newcomers(&register(&mut agent, 4, 1)), None, "a founder");
    assert_eq!(newcomers(&register(&mut agent, 5, 3)), Some(vec![3, 4, 5]));
}
