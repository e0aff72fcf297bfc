use super::*;
use crate::placement::scramble;
use std::collections::BTreeSet;

/// Brokers whose folders can be lost, around the state machine under test.
struct World {
    brokers: Vec<Broker>,
    folders: u8,
}

struct Broker {
    founding: Founding,
    /// What is on the disk: the note, and whether the metadata group was opened with it.
    noted: Option<Vec<(BrokerId, FolderId)>>,
    holds: bool,
    up: bool,
}

fn id(broker: usize) -> BrokerId {
    BrokerId(broker as i32)
}

impl World {
    fn new(brokers: usize) -> World {
        let mut world = World {
            brokers: Vec::new(),
            folders: 0,
        };
        for at in 0..brokers {
            let config = world.config(at, brokers);
            world.brokers.push(Broker {
                founding: Founding::new(config),
                noted: None,
                holds: false,
                up: true,
            });
        }
        world
    }

    fn config(&mut self, at: usize, brokers: usize) -> FoundingConfig {
        self.folders += 1;
        FoundingConfig {
            broker: id(at),
            folder: FolderId([self.folders; 16]),
            replicas: (0..brokers).map(id).collect(),
            holds: false,
            founded_with: None,
            is_member: false,
        }
    }

    /// The disk is replaced, and the broker started.
    fn wipe(&mut self, at: usize) {
        let config = self.config(at, self.brokers.len());
        self.brokers[at] = Broker {
            founding: Founding::new(config),
            noted: None,
            holds: false,
            up: true,
        };
    }

    /// The journal is lost, and the rest of the folder is there: it gets another name.
    fn lose_journal(&mut self, at: usize) {
        let config = self.config(at, self.brokers.len());
        let broker = &mut self.brokers[at];
        let was_member = broker.founding.config.is_member || broker.holds || broker.noted.is_some();
        broker.founding = Founding::new(FoundingConfig {
            founded_with: broker.noted.clone(),
            is_member: was_member,
            ..config
        });
        broker.holds = false;
        broker.up = true;
    }

    fn restart(&mut self, at: usize) {
        let broker = &mut self.brokers[at];
        broker.founding = Founding::new(FoundingConfig {
            holds: broker.holds,
            founded_with: broker.noted.clone(),
            ..broker.founding.config.clone()
        });
        broker.up = true;
    }

    /// One broker asks another.
    fn ask(&mut self, from: usize, to: usize) {
        if from == to || !self.brokers[from].up || !self.brokers[to].up {
            return;
        }
        let asker = self.brokers[from].founding.config.folder;
        let answering = &self.brokers[to].founding;
        let (folder, found) = (answering.config.folder, answering.asked(id(from), asker, false));
        self.brokers[from].founding.answered(id(to), asker, folder, found);
        self.note(from);
    }

    /// What the driver does before it opens the group.
    fn note(&mut self, at: usize) {
        let broker = &mut self.brokers[at];
        match broker.founding.decision() {
            Some(Decision::Found(with)) => broker.noted = Some(with.clone()),
            Some(Decision::Join) => broker.holds = true,
            Some(Decision::Resume) | None => {}
        }
    }

    fn ask_all(&mut self) {
        for from in 0..self.brokers.len() {
            for to in 0..self.brokers.len() {
                self.ask(from, to);
            }
        }
    }

    fn decision(&self, at: usize) -> Option<&Decision> {
        self.brokers[at].founding.decision()
    }

    /// It takes part: one that has joined does not, before it is refilled.
    fn opened(&self, at: usize) -> bool {
        matches!(self.decision(at), Some(Decision::Found(_) | Decision::Resume))
    }

    fn founds(&self, at: usize) -> bool {
        matches!(self.decision(at), Some(Decision::Found(_)))
    }
}

#[test]
fn a_broker_alone_founds_at_once() {
    let world = World::new(1);
    assert_eq!(world.decision(0), Some(&Decision::Found(vec![])));
}

#[test]
fn a_new_cluster_is_founded_when_all_have_answered() {
    for brokers in 2..=7 {
        let mut world = World::new(brokers);
        let last = brokers - 1;
        for other in 0..last {
            world.ask(0, other);
        }
        assert_eq!(world.decision(0), None, "broker {last} may hold something");
        assert_eq!(world.brokers[0].founding.silent(), [id(last)]);
        world.ask_all();
        assert!((0..brokers).all(|at| world.founds(at)));
        assert!(world.brokers[0].founding.silent().is_empty());
    }
}

#[test]
fn whoever_comes_late_founds_with_those_who_have_founded() {
    let mut world = World::new(3);
    for to in [1, 2] {
        world.ask(0, to);
    }
    assert!(world.founds(0));
    world.brokers[0].holds = true; // it has voted by now
    world.restart(0);
    assert_eq!(world.decision(0), Some(&Decision::Resume));
    world.ask_all();
    assert!(world.founds(1) && world.founds(2));
}

#[test]
fn a_founder_that_crashes_before_it_opens_founds_again() {
    let mut world = World::new(3);
    world.ask_all();
    let before = world.decision(1).cloned();
    world.restart(1);
    assert_eq!(world.decision(1).cloned(), before);
}

#[test]
fn an_empty_folder_in_an_old_cluster_joins() {
    let mut world = World::new(3);
    world.ask_all();
    world.brokers.iter_mut().for_each(|broker| broker.holds = true);
    world.wipe(2);
    world.brokers[0].up = false;
    world.ask(2, 1);
    assert_eq!(
        world.decision(2),
        Some(&Decision::Join),
        "one that holds something is enough"
    );
    world.restart(2);
    assert_eq!(
        world.decision(2),
        Some(&Decision::Resume),
        "what it was given since is its own"
    );
}

#[test]
fn silence_is_no_answer() {
    let mut world = World::new(3);
    world.ask_all();
    world.brokers.iter_mut().for_each(|broker| broker.holds = true);
    world.wipe(1);
    world.wipe(2);
    world.brokers[0].up = false;
    world.ask_all();
    assert_eq!((world.decision(1), world.decision(2)), (None, None));
    world.restart(0);
    world.ask_all();
    assert_eq!(world.decision(1), Some(&Decision::Join));
    assert_eq!(world.decision(2), Some(&Decision::Join));
}

#[test]
fn an_answer_to_an_earlier_folder_says_nothing() {
    let mut world = World::new(2);
    let earlier = world.brokers[0].founding.config.folder;
    world.wipe(0);
    let folder = world.brokers[1].founding.config.folder;
    world.brokers[0]
        .founding
        .answered(id(1), earlier, folder, Found::Nothing);
    assert_eq!(world.decision(0), None);
    let own = world.brokers[0].founding.config.folder;
    world.brokers[0].founding.answered(id(7), own, folder, Found::Nothing);
    assert_eq!(world.decision(0), None, "and strangers have no say");
    world.ask(0, 1);
    assert!(world.founds(0));
}

#[test]
fn one_that_joined_and_was_given_nothing_holds_nothing() {
    let mut world = World::new(3);
    world.ask(0, 1);
    world.ask(0, 2);
    world.wipe(1);
    world.ask(1, 0);
    assert_eq!(world.decision(1), Some(&Decision::Join));
    world.ask(2, 0);
    world.ask(2, 1);
    assert!(world.founds(2), "two founders are a majority that can refill the third");
    let folder = world.brokers[2].founding.config.folder;
    assert_eq!(world.brokers[1].founding.asked(id(2), folder, true), Found::Something);
}

#[test]
fn a_member_whose_journal_is_gone_joins_and_says_that_the_cluster_is_not_new() {
    let mut world = World::new(3);
    world.ask_all();
    world.brokers.iter_mut().for_each(|broker| broker.holds = true);
    world.lose_journal(1);
    assert_eq!(world.decision(1), Some(&Decision::Join), "without asking anybody");
    world.brokers[0].up = false;
    world.wipe(2);
    world.ask(2, 1);
    assert_eq!(world.decision(2), Some(&Decision::Join));
}

#[test]
fn a_cluster_whose_journals_are_all_lost_is_not_founded_again() {
    let mut world = World::new(3);
    world.ask_all();
    world.brokers.iter_mut().for_each(|broker| broker.holds = true);
    (0..3).for_each(|at| world.lose_journal(at));
    world.ask_all();
    assert!((0..3).all(|at| world.decision(at) == Some(&Decision::Join)));
    // As little as when some of them have been emptied since.
    world.wipe(0);
    world.ask_all();
    assert_eq!(world.decision(0), Some(&Decision::Join));
}

#[test]
fn a_founder_whose_journal_is_gone_still_knows_with_whom_it_has_founded() {
    let mut world = World::new(3);
    for to in [1, 2] {
        world.ask(0, to);
    }
    assert!(world.founds(0));
    world.lose_journal(0);
    world.ask(1, 0);
    world.ask(1, 2);
    assert!(
        world.founds(1),
        "its folder is the one that broker 0 has founded with: it can't have promised anything"
    );
}

/// Whatever happens, a broker that has lost a folder with which it had opened the group never founds again as long as
/// somebody is left to whom it may have promised something.
#[test]
fn no_order_of_events_lets_a_broker_found_twice() {
    for seed in 0..3_000_u64 {
        let mut state = scramble(seed);
        let mut chance = |below: u64| {
            state = scramble(state);
            (state % below) as usize
        };
        let brokers = 2 + chance(4);
        let mut world = World::new(brokers);
        // To whom each broker has promised something: opened groups exchange votes and entries.
        let mut promised = BTreeSet::new();
        for _ in 0..60 {
            let (at, other) = (chance(brokers as u64), chance(brokers as u64));
            match chance(13) {
                12 if chance(2) == 0 => world.lose_journal(at),
                0 => world.brokers[at].up = false,
                1 => world.restart(at),
                2 if chance(3) == 0 => world.wipe(at),
                3 if world.opened(at) && world.opened(other) && at != other => {
                    // It promises something to the other one, which stands for election or leads.
                    world.brokers[at].holds = true;
                    world.brokers[other].holds = true;
                    promised.insert((at, other));
                }
                _ => world.ask(at, other),
            }
            // A wiped disk takes along what was promised to it, and so does a lost journal.
            promised.retain(|(_, to)| world.brokers[*to].holds);
            for (at, to) in &promised {
                let fresh = world.founds(*at) && !world.brokers[*at].holds;
                assert!(!fresh, "seed {seed}: {at} has promised something to {to}");
            }
        }
    }
}

#[test]
fn a_broker_that_is_no_founder_joins_without_asking_and_is_not_waited_for() {
    let config = FoundingConfig {
        broker: id(4),
        folder: FolderId([4; 16]),
        replicas: vec![id(1), id(2), id(3)],
        holds: false,
        founded_with: None,
        is_member: false,
    };
    let newcomer = Founding::new(config.clone());
    assert_eq!(newcomer.decision(), Some(&Decision::Join));
    assert_eq!(newcomer.silent(), []);
    let filled = Founding::new(FoundingConfig { holds: true, ..config });
    assert_eq!(filled.decision(), Some(&Decision::Resume));
}
