//! What is measured: the same cases for every contender.

use std::time::Duration;

/// Members of every group.
pub const MEMBERS: usize = 3;

/// Bytes of a proposal's payload: its number, and zeros.
pub const PAYLOAD_BYTES: usize = 16;

/// The payload of a proposal.
pub fn payload(number: u64) -> [u8; PAYLOAD_BYTES] {
    let mut bytes = [0; PAYLOAD_BYTES];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// The number in a payload: what a member "applies" is the sum of these, so that nothing can be left out unnoticed.
pub fn number(payload: &[u8]) -> u64 {
    let bytes = payload.first_chunk().expect("a payload begins with its number");
    u64::from_le_bytes(*bytes)
}

/// Who must have applied a proposal for it to be no longer under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Its group's leader: a stream of proposals.
    Leader,
    /// All members of its group: what one proposal costs from its beginning to its end.
    All,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// As the table says it.
    pub name: &'static str,
    /// How many groups share the proposals.
    pub groups: usize,
    /// Proposals handed over together.
    pub batch: usize,
    /// Proposals of one group that are under way, at most.
    pub window: usize,
    /// When a proposal is no longer under way.
    pub pace: Pace,
}

/// The rows with proposals.
pub const CASES: [Case; 5] = [
    Case {
        name: "1 group, one at a time",
        groups: 1,
        batch: 1,
        window: 1,
        pace: Pace::All,
    },
    Case {
        name: "1 group, pipelined (256 under way)",
        groups: 1,
        batch: 1,
        window: 256,
        pace: Pace::Leader,
    },
    Case {
        name: "1 group, batches of 64 (4,096 under way)",
        groups: 1,
        batch: 64,
        window: 4096,
        pace: Pace::Leader,
    },
    Case {
        name: "10,000 groups, one each at a time",
        groups: 10_000,
        batch: 1,
        window: 1,
        pace: Pace::All,
    },
    Case {
        name: "10,000 groups, batches of 16",
        groups: 10_000,
        batch: 16,
        window: 16,
        pace: Pace::All,
    },
];

/// Groups that have nothing to do, for the last row.
pub const IDLE_GROUPS: usize = 10_000;

/// How often an idle group's leader says that it leads.
pub const HEARTBEAT: Duration = Duration::from_millis(100);

/// Without word from its leader for so long, a member stands.
pub const ELECTION: Duration = Duration::from_secs(1);

/// What a run took.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Proposals that were committed, and applied by all members.
    pub proposals: u64,
    /// Processor time that it took.
    pub took: Duration,
    /// What the cores were told meanwhile, where it can be counted: proposals, messages, that something is durable, that
    /// something is applied.
    pub steps: Option<u64>,
}

impl Measured {
    pub fn per_second(&self) -> f64 {
        self.proposals as f64 / self.took.as_secs_f64()
    }

    pub fn nanos_a_step(&self) -> Option<f64> {
        self.steps.map(|steps| self.took.as_nanos() as f64 / steps as f64)
    }

    pub fn steps_a_proposal(&self) -> Option<f64> {
        self.steps.map(|steps| steps as f64 / self.proposals as f64)
    }
}

/// Processor time that this process has used, all its threads together.
///
/// Not the time of day: other processes on the machine must not count, and a contender that uses two cores must not win
/// by that. On a quiet machine, for a contender of one thread, it is the same.
pub fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// One core in one set-up, ready for one case.
pub trait Contender {
    /// Proposes this many in each group, until all members have applied all of them.
    fn run(&mut self, per_group: u64) -> Measured;

    /// How many groups it has.
    fn groups(&self) -> usize;
}
