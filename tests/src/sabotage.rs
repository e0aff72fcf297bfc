//! The simulation must be able to find bugs: here are some, each of which somebody had, built in one at a time.
//!
//! [`SCENARIOS`] says what went wrong, where, and which switch makes it go wrong here. Without the feature `sabotage`
//! this is a table and nothing else; with it, the binary `sabotage` runs the simulation with each switch until a
//! checker (or an assertion of the code itself) notices, and `cargo xtask sabotage --write` puts the outcome into
//! `docs/testing.md`.

#[cfg(feature = "sabotage")]
mod search;

#[cfg(feature = "sabotage")]
pub use search::{Found, find, unlisted};

/// A bug that somebody had.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// The room in which it is built in.
    pub room: Room,
    /// The switch that builds it in: a variant of that room's `Sabotage`.
    pub switch: &'static str,
    /// What goes wrong.
    pub what: &'static str,
    /// Who had it.
    pub source: &'static str,
    /// Where it is noticed.
    pub noticed: Noticed,
}

/// Where a bug is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noticed {
    /// By the simulation of a whole cluster, within so many short seeds.
    InTheCluster(u64),
    /// By the core's own random runs (`a_broken_core_is_found_out`): they cause far more elections, restarts and
    /// changes of members in a second, and ask for what a cluster doesn't use yet.
    InTheCore,
    /// By the model check, in that scenario: it begins close to where so many things have to come in the right order.
    InTheModel(&'static str),
    /// Nowhere: something else makes up for it.
    Nowhere,
}

/// Within so many seeds the simulation must notice: several times what it takes today, since a change anywhere makes
/// every seed another run.
const WITHIN: Noticed = Noticed::InTheCluster(800);
const IN_THE_CORE: Noticed = Noticed::InTheCore;

/// Whose `Sabotage` it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// `raft`
    Raft,
    /// `multiraft`
    Multiraft,
    /// `registry`
    Registry,
    /// `node`
    Node,
    /// `storage`
    Storage,
}

impl Room {
    /// The crate's short name.
    pub fn name(self) -> &'static str {
        match self {
            Room::Raft => "raft",
            Room::Multiraft => "multiraft",
            Room::Registry => "registry",
            Room::Node => "node",
            Room::Storage => "storage",
        }
    }
}

const fn raft(switch: &'static str, what: &'static str, source: &'static str, noticed: Noticed) -> Scenario {
    Scenario {
        room: Room::Raft,
        switch,
        what,
        source,
        noticed,
    }
}

const fn multiraft(switch: &'static str, what: &'static str, source: &'static str, noticed: Noticed) -> Scenario {
    Scenario {
        room: Room::Multiraft,
        switch,
        what,
        source,
        noticed,
    }
}

const fn registry(switch: &'static str, what: &'static str, source: &'static str, noticed: Noticed) -> Scenario {
    Scenario {
        room: Room::Registry,
        switch,
        what,
        source,
        noticed,
    }
}

const fn node(switch: &'static str, what: &'static str, source: &'static str, noticed: Noticed) -> Scenario {
    Scenario {
        room: Room::Node,
        switch,
        what,
        source,
        noticed,
    }
}

const fn storage(switch: &'static str, what: &'static str, source: &'static str, noticed: Noticed) -> Scenario {
    Scenario {
        room: Room::Storage,
        switch,
        what,
        source,
        noticed,
    }
}

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    raft(
        "ForgetVote",
        "a voter forgets its vote when it steps down within a term; a second candidate wins the same term",
        "redpanda #19",
        IN_THE_CORE,
    ),
    multiraft(
        "KeepWaiters",
        "the term changes while a producer waits; it is told of success, and its entry was truncated",
        "redpanda #3003",
        WITHIN,
    ),
    raft(
        "ServeAtOnce",
        "a leader serves when it is elected, before it knows what is committed",
        "redpanda #5025",
        WITHIN,
    ),
    raft(
        "KeepMarks",
        "a flush completes after a truncation and vouches for what is no longer there",
        "redpanda 2327254c",
        WITHIN,
    ),
    multiraft(
        "FlushTwice",
        "concurrent flushes finish out of order; the flushed index moves back",
        "redpanda #3100",
        WITHIN,
    ),
    raft(
        "CommitAfterResigning",
        "a leader that loses its leadership while it flushes advances its commit index all the same",
        "redpanda b41b5c6f",
        WITHIN,
    ),
    raft(
        "GrantingPutsOff",
        "granting a pre-vote resets the election timer; an even number of voters take turns for ever",
        "redpanda #11657, hashicorp/raft #609",
        IN_THE_CORE,
    ),
    raft(
        "HideTerm",
        "a refusal lacks the later term that it is due to; the leader never steps down",
        "redpanda #31547",
        WITHIN,
    ),
    multiraft(
        "ShowDurable",
        "a write becomes visible before a majority has it",
        "redpanda 73b8d009, 09917c71",
        WITHIN,
    ),
    raft(
        "IgnoreRefusals",
        "those with a high term and short logs against those with a low term and long ones: nobody is elected",
        "etcd #8501, openraft #1796, Ra #442",
        WITHIN,
    ),
    raft(
        "IgnoreLowerTerms",
        "a node with a lower term returns as the leader dies, and its pre-votes are ignored",
        "etcd #8243, canonical/raft #279",
        IN_THE_CORE,
    ),
    raft(
        "CountSelfAtOnce",
        "a leader acknowledges before its own disk has the entry; a crash loses it",
        "etcd #14370",
        WITHIN,
    ),
    multiraft(
        "SkipAtPageEnd",
        "a page of the log has one entry more or less than its limit says; entries are skipped",
        "etcd-raft 8ecce32",
        WITHIN,
    ),
    raft(
        "MistakeWrites",
        "overlapping writes of two terms: the old one's completion passes for the new one's",
        "etcd-raft, async_storage_writes_append_aba_race",
        WITHIN,
    ),
    raft(
        "KeepInflight",
        "the window of what is in flight is not emptied when the state changes; the flow stalls",
        "etcd-raft e419ba5",
        WITHIN,
    ),
    raft(
        "KeepUncommittedBytes",
        "the count of uncommitted bytes drifts; all proposals are refused for ever",
        "etcd-raft a370b6f",
        WITHIN,
    ),
    raft(
        "CountUnsorted",
        "the order of what the followers hold breaks; commit without a quorum",
        "openraft #1802",
        WITHIN,
    ),
    raft(
        "CountOldAnswers",
        "a late acknowledgement from before a log was truncated makes a false quorum",
        "openraft cecb5de8",
        Noticed::InTheModel("late-answer"),
    ),
    raft(
        "CountFirstAtOnce",
        "a new leader counts its blank entry before it is flushed, then restarts",
        "openraft a9f696a9",
        WITHIN,
    ),
    multiraft(
        "LoseNewerToken",
        "two completions of writes come together; the newer one is lost, and the replica waits for ever",
        "openraft #1960",
        WITHIN,
    ),
    raft(
        "TakeRefusalForLoss",
        "a late conflict is read as a loss of data; the leader panics",
        "openraft #1500",
        WITHIN,
    ),
    multiraft(
        "HardStateLater",
        "the term's write is reordered behind what depends on it, and a crash comes between",
        "openraft, io_ordering.md",
        WITHIN,
    ),
    raft(
        "KeepDurable",
        "a truncation leaves the last durable index as it was; a leader commits what no disk holds",
        "Ra 39490978",
        WITHIN,
    ),
    raft(
        "CommitUnverified",
        "a follower advances its commit index before it has compared the logs",
        "Ra #508",
        WITHIN,
    ),
    raft(
        "CountHints",
        "a refusal's hint counts as an acknowledgement",
        "CCF #6016",
        WITHIN,
    ),
    registry(
        "ReuseGroupIds",
        "a topic is deleted and created again; the old one's log is replayed into the new group",
        "what Ra's unique ids are for",
        WITHIN,
    ),
    registry(
        "TrustOldFolders",
        "a broker is started with a former data folder, or an old copy of its own, and passes for sound",
        "Trimaran's own: acknowledged records were lost, without a line in a log",
        WITHIN,
    ),
    registry(
        "IncarnationFromClock",
        "a new data folder is taken for an earlier start, because the clock was set back",
        "Trimaran's own: a broker was refused for as long as its clock had been ahead",
        WITHIN,
    ),
    raft(
        "AcceptNoVoters",
        "the next configuration has learners only; nothing is ever committed",
        "redpanda #2289",
        IN_THE_CORE,
    ),
    raft(
        "InventTerms",
        "a probe with term 0 passes for a match where the log was deleted",
        "etcd-io/raft #31",
        WITHIN,
    ),
    raft(
        "ConfigureAtCommit",
        "a candidate stands with a configuration that it has not applied; two leaders in a term",
        "etcd #7280, raft #456",
        WITHIN,
    ),
    raft(
        "LeaveAtOnce",
        "the joint configuration is left before it is committed; one crash, and nobody can be elected",
        "etcd #12359, raft-rs #411",
        IN_THE_CORE,
    ),
    raft(
        "ForgetOutgoing",
        "while voters are exchanged, a majority of the new ones decides alone",
        "Raft dissertation, section 4.3",
        WITHIN,
    ),
    raft(
        "LetLearnersLead",
        "leadership goes to a member that has not replicated its own promotion",
        "openraft #1805, Ra 114d1d37",
        WITHIN,
    ),
    raft(
        "KeepConfiguration",
        "a snapshot covers the entry of the configuration in force, and the old one survives",
        "openraft #1808",
        IN_THE_CORE,
    ),
    raft(
        "LeaveBehind",
        "a follower of which nothing is known, and whose entries are deleted, is never sent a snapshot",
        "openraft #1828",
        WITHIN,
    ),
    raft(
        "LoseSecondSnapshot",
        "a snapshot comes while an earlier one is being written; what is durable stays behind",
        "raft-rs #417",
        Noticed::InTheModel("catch-up"),
    ),
    raft(
        "ChangeAtOnce",
        "members change before the leader has committed in its term; disjoint quorums",
        "the erratum to the Raft dissertation",
        WITHIN,
    ),
    raft(
        "ForgetLoss",
        "a member that has lost its disk votes and counts as if it hadn't",
        "any wiped disk",
        WITHIN,
    ),
    raft(
        "CountFormerLives",
        "what a member acknowledged before it lost its disk counts afterwards",
        "any wiped disk",
        IN_THE_CORE,
    ),
    raft(
        "ReadAtOnce",
        "a deposed leader answers a read",
        "Raft dissertation, section 6.4",
        IN_THE_CORE,
    ),
    raft(
        "ForgetLease",
        "a voter restarts and votes inside the old lease; two lease holders",
        "TiKV #15035",
        IN_THE_CORE,
    ),
    raft(
        "CommitOldTerms",
        "an entry of an earlier term is committed by counting who holds it",
        "Raft paper, figure 8",
        Noticed::InTheModel("figure-8"),
    ),
    raft(
        "VoteAtOnce",
        "a vote leaves before it is on disk; after a crash the voter votes again",
        "Raft paper, figure 2",
        WITHIN,
    ),
    raft(
        "StandAtOnce",
        "a candidate asks for votes before its own is on disk",
        "Raft paper, figure 2",
        WITHIN,
    ),
    raft(
        "VoteForShorterLog",
        "a vote goes to a candidate whose log lacks something",
        "Raft paper, section 5.4.1",
        WITHIN,
    ),
    raft(
        "AcknowledgeAtOnce",
        "a follower acknowledges what its disk doesn't hold",
        "Raft paper, section 5.3",
        WITHIN,
    ),
    raft(
        "TruncateWithoutConflict",
        "a late append cuts off what followed it",
        "Raft paper, figure 2",
        WITHIN,
    ),
    raft(
        "BelieveForEver",
        "a follower goes on believing in a leader that asks for votes",
        "Trimaran's own, found by these tests",
        WITHIN,
    ),
    raft(
        "ConfirmFormerLeader",
        "a follower goes on believing in a leader that was demoted, and that follows another one",
        "Trimaran's own, found with a minority down for good",
        IN_THE_CORE,
    ),
    raft(
        "LearnersNeverStand",
        "a learner has the longest log, and a voter needs its vote: nobody is elected",
        "Trimaran's own, found with a minority down for good",
        Noticed::InTheModel("longer-log"),
    ),
    multiraft(
        "IgnoreUnknownGroups",
        "a broker closes a replica that led, and doesn't say so to those that go on believing in it",
        "Trimaran's own, found with a minority down for good",
        Noticed::Nowhere,
    ),
    raft(
        "WaitForAll",
        "a leader waits for every voter, not for a majority; with one of them gone for good, nothing is committed",
        "Trimaran's own, for endings in which somebody is missed",
        WITHIN,
    ),
    raft(
        "SendOnce",
        "what got no answer is not sent again",
        "any lossy network",
        WITHIN,
    ),
    multiraft(
        "ForgetProducers",
        "a new leader doesn't know what producers sent to the old one; a retry is stored twice",
        "KIP-98",
        WITHIN,
    ),
    multiraft(
        "WatchJournalOnly",
        "a shard's thread hangs on a bad sector, heartbeats go on, and its broker keeps leaderships that it can't use",
        "Trimaran's own, found by reading",
        WITHIN,
    ),
    multiraft(
        "HoardUnflushed",
        "a follower whose segments can't be written takes ever more, and its group goes on counting on it",
        "Trimaran's own",
        WITHIN,
    ),
    registry(
        "KeepFolderName",
        "a data folder whose journal is gone passes for the one that it was",
        "Trimaran's own, found by reading",
        WITHIN,
    ),
    storage(
        "IgnoreMark",
        "an older copy of the journal is brought back and passes for the latest one",
        "Trimaran's own, found by reading",
        WITHIN,
    ),
    multiraft(
        "BelieveOwnEyes",
        "only the link between two brokers is cut, and each tells clients that the other's partitions have no leader",
        "Trimaran's own, found by outsiders",
        WITHIN,
    ),
    registry(
        "BelieveConfiguration",
        "the list of voters is edited, and two majorities of the metadata group don't meet",
        "Trimaran's own, found by outsiders",
        WITHIN,
    ),
    node(
        "OpenTwice",
        "a replica that runs is opened once more, by a job that takes its folder for nobody's",
        "nobody: made up for the life cycle",
        WITHIN,
    ),
    node(
        "KeepDeleted",
        "a replica is taken away and given back, and opened again before its folder is deleted",
        "nobody: made up for the life cycle",
        WITHIN,
    ),
    node(
        "OpenLostAsWhole",
        "a replica that has lost what it promised is opened as one that has promised nothing",
        "nobody: made up for the life cycle",
        WITHIN,
    ),
    node(
        "ForgetWishes",
        "a partition is moved while a replica of it is being opened, which never learns of it",
        "nobody: made up for the life cycle",
        WITHIN,
    ),
    node(
        "ReadyAtOnce",
        "a broker says that it is ready while its replicas are being opened",
        "nobody: made up for the life cycle",
        WITHIN,
    ),
    node(
        "AnswerFirst",
        "an answer leaves before the view that shows what it says",
        "nobody: made up for the life cycle",
        WITHIN,
    ),
    node(
        "TrustFormerRegistration",
        "a broker replays the registration of its former start, and takes it for its own",
        "nobody: made up for the life cycle",
        WITHIN,
    ),
];
