//! The explorations that there are.

use super::scenario::{Budget, Scenario};
use super::start::{Before, Start};
use trimaran_raft::{Body, Configuration, Life, LogIndex, Message, NodeId, Term};

/// All three are quiet, and the first one leads: its first entry is committed everywhere.
const LED: [Before; 2] = [Before::Deadline(1), Before::Settled(&[1, 2, 3, 4])];

/// Voters 1, 2 and 3, and 4 that learns.
fn with_a_learner() -> Configuration {
    Configuration {
        learners: vec![NodeId(4)],
        ..voters([1, 2, 3])
    }
}

fn voters<const N: usize>(ids: [u64; N]) -> Configuration {
    Configuration::of_voters(ids.map(NodeId))
}

/// [`LED`], and then this.
fn led_and(then: impl IntoIterator<Item = Before>) -> Vec<Before> {
    LED.into_iter().chain(then).collect()
}

impl Scenario {
    /// All that there are, with the bounds that the command explores.
    pub fn all() -> Vec<Scenario> {
        vec![
            Scenario::replication(),
            Scenario::elections(),
            Scenario::succession(),
            Scenario::repair(),
            Scenario::figure_8(),
            Scenario::late_answer(),
            Scenario::handover(),
            Scenario::own_time(),
            Scenario::exchange(),
            Scenario::promotion(),
            Scenario::minority(),
            Scenario::removal(),
            Scenario::drained(),
            Scenario::longer_log(),
            Scenario::taken_back(),
            Scenario::growth_taken_back(),
            Scenario::catch_up(),
            Scenario::moved_on(),
            Scenario::loss(),
            Scenario::former_life(),
            Scenario::reads(),
        ]
    }

    /// Three voters, new.
    fn base(name: &'static str, about: &'static str, max_term: u64, budget: Budget) -> Scenario {
        Scenario {
            name,
            about,
            first: voters([1, 2, 3]),
            targets: Vec::new(),
            own_time: false,
            start: Start::New,
            before: Vec::new(),
            max_term,
            budget,
            prepare: |_| {},
        }
    }

    /// Three voters, the first of which leads in term 1.
    fn led(name: &'static str, about: &'static str, max_term: u64, budget: Budget) -> Scenario {
        Scenario {
            before: LED.to_vec(),
            ..Scenario::base(name, about, max_term, budget)
        }
    }
}

/// Elections and replication.
impl Scenario {
    /// A new group elects leaders, while members crash.
    pub fn elections() -> Scenario {
        let budget = Budget {
            timeouts: 2,
            crashes: 1,
            ..Budget::default()
        };
        Scenario::base("elections", "a new group elects its leaders", 2, budget)
    }

    /// A leader replicates to members that crash.
    pub fn replication() -> Scenario {
        let budget = Budget {
            proposals: 2,
            crashes: 1,
            ..Budget::default()
        };
        let about = "a leader replicates, and a member crashes";
        Scenario::led("replication", about, 1, budget)
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
        Scenario::led("succession", about, 2, budget)
    }

    /// Logs that differ, as in figure 8 of the Raft paper: entries of earlier leaders are on some disks.
    pub fn repair() -> Scenario {
        let budget = Budget {
            timeouts: 2,
            crashes: 1,
            ..Budget::default()
        };
        let about = "logs differ as in figure 8 of the paper";
        Scenario {
            start: Start::of_logs(3, [&[1, 2], &[1], &[1, 3]]),
            ..Scenario::base("repair", about, 5, budget)
        }
    }

    /// Figure 8 of the Raft paper itself, at its state (c): member 1 leads again, in term 4, and sends member 2 what it had
    /// appended in term 2; member 3, whose entry is of term 3, has seen term 4 as well, and stands.
    pub fn figure_8() -> Scenario {
        let budget = Budget {
            evidence: 1,
            ..Budget::default()
        };
        let about = "an entry of an earlier term is on a majority of disks (figure 8 of the paper)";
        Scenario {
            start: Start::Found {
                disks: vec![(3, vec![1, 2]), (3, vec![1]), (4, vec![1, 3])],
                in_flight: Vec::new(),
            },
            before: vec![
                Before::Deadline(1),
                Before::Elected(&[1, 2]),
                Before::Lost,
                Before::Deadline(1),
            ],
            ..Scenario::base("figure-8", about, 5, budget)
        }
    }

    /// Member 1 led term 3, and lost what it had appended in a crash; member 3 had it and had acknowledged it, until the
    /// leader of term 4 (member 2) replaced it. That acknowledgement arrives only now.
    pub fn late_answer() -> Scenario {
        let budget = Budget {
            timeouts: 1,
            crashes: 1,
            ..Budget::default()
        };
        let late = Message {
            term: Term(3),
            body: Body::AppendAccepted {
                match_index: LogIndex(3),
                commit: LogIndex::ZERO,
                life: Life::default(),
            },
        };
        let about = "what was acknowledged two terms ago has been replaced since";
        Scenario {
            start: Start::Found {
                disks: vec![(4, vec![1, 2]), (4, vec![1, 2, 4]), (4, vec![1, 2])],
                in_flight: vec![(NodeId(3), NodeId(1), late)],
            },
            ..Scenario::base("late-answer", about, 5, budget)
        }
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
        Scenario::led("handover", "a leader hands over", 3, budget)
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
            ..Scenario::led("own-time", about, 2, budget)
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
        Scenario::led("reads", about, 2, budget)
    }
}

/// Members that come and go.
impl Scenario {
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
            first: with_a_learner(),
            targets: vec![voters([1, 2, 4])],
            ..Scenario::led("exchange", about, 2, budget)
        }
    }

    /// Leadership is handed over while a learner becomes a voter.
    pub fn promotion() -> Scenario {
        let budget = Budget {
            transfers: 1,
            changes: 1,
            ..Budget::default()
        };
        let about = "a leader hands over while a learner is promoted";
        Scenario {
            first: with_a_learner(),
            targets: vec![voters([1, 2, 3, 4])],
            ..Scenario::led("promotion", about, 2, budget)
        }
    }

    /// An exchange has reached the leader and the new voter, but none of those who have to agree to it as well, and who begin
    /// to doubt the leader.
    pub fn minority() -> Scenario {
        let budget = Budget {
            timeouts: 1,
            evidence: 1,
            ..Budget::default()
        };
        let about = "an exchange of voters has reached the new majority, but not the old one";
        Scenario {
            first: with_a_learner(),
            targets: vec![voters([1, 2, 4])],
            before: led_and([
                Before::Changed(1),
                Before::Settled(&[1, 4]),
                Before::Lost,
                Before::Restarted(3),
            ]),
            ..Scenario::led("minority", about, 2, budget)
        }
    }

    /// The leader is removed. Nobody could be left, if it were allowed.
    pub fn removal() -> Scenario {
        let budget = Budget {
            timeouts: 1,
            crashes: 1,
            changes: 1,
            ..Budget::default()
        };
        let nobody = Configuration {
            learners: [1, 2, 3].map(NodeId).to_vec(),
            ..Configuration::default()
        };
        Scenario {
            targets: vec![voters([2, 3]), nobody],
            ..Scenario::led("removal", "the leader removes itself", 2, budget)
        }
    }

    /// The leader has handed over to the second member, which has exchanged it for the fourth. The third one has heard
    /// nothing of that, and believes in the first one.
    pub fn drained() -> Scenario {
        let budget = Budget {
            timeouts: 1,
            evidence: 1,
            ..Budget::default()
        };
        Scenario {
            first: with_a_learner(),
            targets: vec![voters([2, 3, 4])],
            before: led_and([
                Before::HandedOver(1, 2),
                Before::Settled(&[1, 2, 4]),
                Before::Lost,
                Before::Changed(2),
                Before::Settled(&[1, 2, 4]),
                Before::Lost,
            ]),
            ..Scenario::led("drained", "a leader was replaced, and a voter doesn't know", 3, budget)
        }
    }

    /// The leader alone holds an exchange of which the fourth member is to be a voter. The third one has been elected since,
    /// and only the fourth one, a learner for all that it knows, has got its entry.
    pub fn longer_log() -> Scenario {
        let budget = Budget {
            timeouts: 1,
            evidence: 1,
            ..Budget::default()
        };
        Scenario {
            first: with_a_learner(),
            targets: vec![voters([1, 4])],
            before: led_and([
                Before::Changed(1),
                Before::Settled(&[1]),
                Before::Lost,
                Before::Doubted(2, 1),
                Before::Doubted(3, 1),
                Before::Restarted(2),
                Before::Deadline(3),
                Before::Elected(&[3, 2]),
                Before::Settled(&[3]),
                Before::Arrived(3, 4),
                Before::Settled(&[4]),
                Before::Lost,
            ]),
            ..Scenario::led("longer-log", "a learner has the longest log", 3, budget)
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
            ..voters([1])
        };
        let about = "one voter becomes two, and one again, and a member crashes";
        Scenario {
            first: one.clone(),
            targets: vec![voters([1, 2]), one],
            ..Scenario::led("growth-taken-back", about, 3, budget)
        }
    }
}

/// Logs whose beginning is deleted, and disks that are lost.
impl Scenario {
    /// What the third member lacks is deleted.
    pub fn catch_up() -> Scenario {
        let budget = Budget {
            timeouts: 1,
            proposals: 1,
            crashes: 1,
            deletions: 1,
            ..Budget::default()
        };
        let about = "a member lacks what is deleted elsewhere";
        Scenario {
            before: led_and([
                Before::Proposed(1),
                Before::Settled(&[1, 2]),
                Before::Lost,
                Before::Deleted(1),
            ]),
            ..Scenario::led("catch-up", about, 2, budget)
        }
    }

    /// The third member missed that the second one was exchanged for the fourth, and learns it from a snapshot.
    pub fn moved_on() -> Scenario {
        let budget = Budget {
            timeouts: 2,
            evidence: 1,
            ..Budget::default()
        };
        let about = "a member learns from a snapshot who the voters are";
        Scenario {
            first: with_a_learner(),
            targets: vec![voters([1, 3, 4])],
            before: led_and([
                Before::Changed(1),
                Before::Settled(&[1, 2, 4]),
                Before::Lost,
                Before::Deleted(1),
                Before::Restarted(2),
                Before::Deadline(1),
            ]),
            ..Scenario::led("moved-on", about, 2, budget)
        }
    }

    /// An entry is on two disks of three, and a disk is lost.
    pub fn loss() -> Scenario {
        let budget = Budget {
            timeouts: 1,
            evidence: 1,
            losses: 1,
            ..Budget::default()
        };
        let about = "of the two that hold an entry, one may lose its disk";
        Scenario {
            before: led_and([Before::Proposed(1), Before::Settled(&[1, 2]), Before::Lost]),
            ..Scenario::led("loss", about, 2, budget)
        }
    }

    /// A disk is lost while an acknowledgement is on its way.
    pub fn former_life() -> Scenario {
        let budget = Budget {
            timeouts: 1,
            losses: 1,
            ..Budget::default()
        };
        let about = "what a member acknowledged before it lost its disk arrives afterwards";
        Scenario {
            before: led_and([Before::Proposed(1), Before::Settled(&[1])]),
            ..Scenario::led("former-life", about, 2, budget)
        }
    }
}
