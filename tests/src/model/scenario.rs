//! From where an exploration starts, and how far it goes.

use std::fmt;
use trimaran_raft::{Configuration, Group, Heartbeats, NodeId};

/// How often each kind of thing may happen along one way. Messages may be delivered in any order, or never, and disks may
/// be slow, without any limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Deadlines that come, of all members together.
    pub timeouts: u8,
    /// Proposals.
    pub proposals: u8,
    /// Crashes, each followed by a start; what was not durable is lost.
    pub crashes: u8,
    /// Messages that arrive once more later.
    pub repeats: u8,
    /// Times that someone is told that its leader is gone, or that a node is back.
    pub evidence: u8,
    /// Times that a leader is told to hand over.
    pub transfers: u8,
    /// Times that a leader is told to change the members.
    pub changes: u8,
    /// Reads that a leader is asked for.
    pub reads: u8,
}

impl Budget {
    /// All kinds, as numbers.
    pub(super) fn kinds(self) -> [u8; 8] {
        let Budget {
            timeouts,
            proposals,
            crashes,
            repeats,
            evidence,
            transfers,
            changes,
            reads,
        } = self;
        [
            timeouts, proposals, crashes, repeats, evidence, transfers, changes, reads,
        ]
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            "timeout", "proposal", "crash", "repeat", "doubt", "transfer", "change", "read",
        ];
        let texts: Vec<String> = (self.kinds().into_iter().zip(names))
            .filter(|(count, _)| *count > 0)
            .map(|(count, name)| match (count, name) {
                (1, name) => format!("1 {name}"),
                (count, "crash") => format!("{count} crashes"),
                (count, name) => format!("{count} {name}s"),
            })
            .collect();
        f.write_str(&texts.join(", "))
    }
}

/// How a group is when an exploration starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// New: empty logs, no leader.
    New,
    /// The first member leads in term 1; its first entry is committed everywhere, and all is quiet.
    Led,
    /// After a crash of all: each member has a term, and a log of entries of these terms.
    Logs(Vec<(u64, Vec<u64>)>),
}

/// An exploration: from where, with what, how far.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What it is called.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// The group's first configuration.
    pub first: Configuration,
    /// What the group is to be changed to, one after the other; see [`Budget::changes`].
    pub targets: Vec<Configuration>,
    /// Whether the group itself keeps time.
    pub own_time: bool,
    /// The beginning.
    pub start: Start,
    /// No member goes beyond this term.
    pub max_term: u64,
    /// See [`Budget`].
    pub budget: Budget,
    /// What is done to every group as it starts: nothing, but by tests, which break it on purpose.
    pub prepare: fn(&mut Group),
}

impl Scenario {
    pub(super) fn heartbeats(&self) -> Heartbeats {
        match self.own_time {
            true => Heartbeats::Own(std::time::Duration::from_micros(1)),
            false => Heartbeats::External,
        }
    }

    /// All that there are, with the bounds that the command explores.
    pub fn all() -> Vec<Scenario> {
        vec![
            Scenario::elections(),
            Scenario::replication(),
            Scenario::succession(),
            Scenario::repair(),
            Scenario::handover(),
            Scenario::own_time(),
            Scenario::exchange(),
            Scenario::removal(),
            Scenario::taken_back(),
            Scenario::growth_taken_back(),
            Scenario::reads(),
        ]
    }

    fn base(name: &'static str, about: &'static str, start: Start, max_term: u64, budget: Budget) -> Scenario {
        Scenario {
            name,
            about,
            first: Configuration::of_voters([1, 2, 3].map(NodeId)),
            targets: Vec::new(),
            own_time: false,
            start,
            max_term,
            budget,
            prepare: |_| {},
        }
    }

    /// A new group elects leaders, while members crash.
    pub fn elections() -> Scenario {
        let budget = Budget {
            timeouts: 2,
            crashes: 1,
            ..Budget::default()
        };
        Scenario::base("elections", "a new group elects its leaders", Start::New, 2, budget)
    }

    /// A leader replicates to members that crash.
    pub fn replication() -> Scenario {
        let budget = Budget {
            proposals: 2,
            crashes: 1,
            ..Budget::default()
        };
        let about = "a leader replicates, and a member crashes";
        Scenario::base("replication", about, Start::Led, 1, budget)
    }

    /// A leader is lost or doubted with proposals under way; another takes over, and the first one comes back.
    pub fn succession() -> Scenario {
        let budget = Budget {
            timeouts: 1,
            proposals: 1,
            crashes: 1,
            evidence: 1,
            ..Budget::default()
        };
        let about = "a leader is doubted or crashes, and another takes over";
        Scenario::base("succession", about, Start::Led, 2, budget)
    }

    /// Logs that differ, as in figure 8 of the Raft paper: entries of earlier leaders are on some disks.
    pub fn repair() -> Scenario {
        let logs = [vec![1, 2], vec![1], vec![1, 3]];
        let start = Start::Logs(logs.into_iter().map(|log| (3, log)).collect());
        let budget = Budget {
            timeouts: 2,
            crashes: 1,
            ..Budget::default()
        };
        let about = "logs differ as in figure 8 of the paper";
        Scenario::base("repair", about, start, 5, budget)
    }

    /// A leader hands over, and changes its mind.
    pub fn handover() -> Scenario {
        let budget = Budget {
            timeouts: 1,
            proposals: 1,
            repeats: 1,
            transfers: 1,
            ..Budget::default()
        };
        Scenario::base("handover", "a leader hands over", Start::Led, 3, budget)
    }

    /// The group sends its own heartbeats.
    pub fn own_time() -> Scenario {
        let budget = Budget {
            timeouts: 3,
            proposals: 1,
            ..Budget::default()
        };
        let about = "the group keeps its own time, and loses its leader";
        Scenario {
            own_time: true,
            ..Scenario::base("own-time", about, Start::Led, 2, budget)
        }
    }

    /// A voter is exchanged for a learner, through a joint configuration.
    pub fn exchange() -> Scenario {
        let budget = Budget {
            timeouts: 1,
            crashes: 1,
            changes: 1,
            ..Budget::default()
        };
        let about = "a voter is exchanged for a learner, and a member crashes";
        Scenario {
            first: Configuration {
                learners: vec![NodeId(4)],
                ..Configuration::of_voters([1, 2, 3].map(NodeId))
            },
            targets: vec![Configuration::of_voters([1, 2, 4].map(NodeId))],
            ..Scenario::base("exchange", about, Start::Led, 2, budget)
        }
    }

    /// The leader is removed.
    pub fn removal() -> Scenario {
        let budget = Budget {
            timeouts: 1,
            crashes: 1,
            changes: 1,
            ..Budget::default()
        };
        Scenario {
            targets: vec![Configuration::of_voters([2, 3].map(NodeId))],
            ..Scenario::base("removal", "the leader removes itself", Start::Led, 2, budget)
        }
    }

    /// A voter is exchanged for a learner, and before that is complete, the exchange is taken back.
    pub fn taken_back() -> Scenario {
        let exchange = Scenario::exchange();
        let budget = Budget {
            changes: 2,
            ..exchange.budget
        };
        Scenario {
            name: "taken-back",
            about: "an exchange of voters is taken back, and a member crashes",
            targets: vec![exchange.targets[0].clone(), exchange.first.clone()],
            budget,
            ..exchange
        }
    }

    /// One voter becomes two, and before that is complete, one again: also by a leader that waits for the second one to
    /// leave the joint configuration.
    pub fn growth_taken_back() -> Scenario {
        let budget = Budget {
            timeouts: 1,
            proposals: 1,
            crashes: 1,
            changes: 2,
            ..Budget::default()
        };
        let one = Configuration {
            learners: vec![NodeId(2)],
            ..Configuration::of_voters([NodeId(1)])
        };
        let about = "one voter becomes two, and one again, and a member crashes";
        Scenario {
            first: one.clone(),
            targets: vec![Configuration::of_voters([1, 2].map(NodeId)), one],
            ..Scenario::base("growth-taken-back", about, Start::Led, 3, budget)
        }
    }

    /// A leader that may have been succeeded is asked for reads.
    pub fn reads() -> Scenario {
        let budget = Budget {
            timeouts: 1,
            // Both followers have to doubt it before either can succeed it.
            evidence: 2,
            reads: 1,
            ..Budget::default()
        };
        let about = "a leader that may have been succeeded answers a read";
        Scenario::base("reads", about, Start::Led, 2, budget)
    }
}
