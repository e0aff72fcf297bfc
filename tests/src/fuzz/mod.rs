//! Fuzz targets: one for every decoder of bytes that come from outside.
//!
//! A target is a plain function of bytes that panics where the code it judges does something wrong. What is wrong is more
//! than a panic inside: what was decoded must come out the same when it is encoded and decoded again, nothing may be
//! larger than its limit, a damaged journal or segment must give what was written, or an error that names file and
//! position. [`TARGETS`] lists them. Each comes with seeds, which are valid inputs made by the project's own encoders (or
//! by independent ones).
//!
//! They run in two ways: `tests/fuzz.rs` gives each a fixed number of mutated seeds ([`inputs`]: the same ones on every
//! run), and `cargo xtask fuzz TARGET` lets cargo-fuzz look for as long as it is told to, beginning with the same seeds.
//! The product crates know nothing of this.
//!
//! To add one: a module here, a line in [`TARGETS`], a file of three lines in `tests/fuzz/fuzz_targets/` and a section in
//! `tests/fuzz/Cargo.toml`. A test says so if one of them is forgotten.

mod batches;
mod config;
#[path = "../../../crates/wire/src/testing/consumer_groups.rs"]
mod consumer_groups;
mod coordinator;
mod core;
mod disk;
mod frames;
mod journal;
mod json;
mod kafka_requests;
mod kafka_responses;
mod mutate;
mod peers;
mod pieces;
mod positions;
mod registry;
mod segments;

pub use mutate::inputs;

/// One decoder under test.
pub struct Target {
    /// Its name, also that of its binary under cargo-fuzz.
    pub name: &'static str,
    /// What it decodes, and what must hold.
    pub what: &'static str,
    /// Panics where something is wrong.
    pub run: fn(&[u8]),
    /// Valid inputs.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// How many inputs the tests try: fewer where one takes longer.
    pub tested_inputs: usize,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "frames",
        what: "Kafka's frames and JSON lines out of a stream: the same wherever it is cut, none beyond the limit",
        run: frames::target,
        seeds: frames::seeds,
        tested_inputs: 20_000,
    },
    Target {
        name: "kafka_requests",
        what: "header and body of every API and version: encoded and decoded again they are the same, and as kafka-protocol reads them",
        run: kafka_requests::target,
        seeds: kafka_requests::seeds,
        tested_inputs: 40_000,
    },
    Target {
        name: "kafka_responses",
        what: "what the project's own client reads, of every API and version: encoded and decoded again it is the same",
        run: kafka_responses::target,
        seeds: kafka_responses::seeds,
        tested_inputs: 30_000,
    },
    Target {
        name: "batches",
        what: "record batches: header, CRC, stamping, splitting, records; never more than the header says",
        run: batches::target,
        seeds: batches::seeds,
        tested_inputs: 30_000,
    },
    Target {
        name: "decompression",
        what: "records in each of Kafka's compressions: never more bytes than the limit",
        run: batches::decompression,
        seeds: batches::compressed_seeds,
        tested_inputs: 15_000,
    },
    Target {
        name: "peers",
        what: "the envelope between brokers, every kind: encoded and decoded again it is the same",
        run: peers::target,
        seeds: peers::seeds,
        tested_inputs: 30_000,
    },
    Target {
        name: "group_messages",
        what: "what other members say to a group: it goes on, nothing falls, nothing grows beyond what came",
        run: core::group,
        seeds: core::group_seeds,
        tested_inputs: 20_000,
    },
    Target {
        name: "shard_messages",
        what: "what other brokers say to a shard, down to its logs: it goes on, nothing grows beyond what came",
        run: core::shard,
        seeds: core::shard_seeds,
        tested_inputs: 4_000,
    },
    Target {
        name: "positions",
        what: "where a follower's log is to begin, and what producers sent before: what can be, encoded and decoded again the same, or refused",
        run: positions::target,
        seeds: positions::seeds,
        tested_inputs: 30_000,
    },
    Target {
        name: "catalog_commands",
        what: "commands of the metadata group, decoded and applied: the same on every replica",
        run: registry::commands,
        seeds: registry::command_seeds,
        tested_inputs: 10_000,
    },
    Target {
        name: "agent_messages",
        what: "what registry agents are told by peers: understood or rejected, the agent goes on",
        run: registry::messages,
        seeds: registry::message_seeds,
        tested_inputs: 10_000,
    },
    Target {
        name: "coordinator_records",
        what: "records of a coordinator's partition, decoded and applied: the same on every replica, and led with",
        run: coordinator::target,
        seeds: coordinator::seeds,
        tested_inputs: 10_000,
    },
    Target {
        name: "journal",
        what: "a journal folder of any bytes, checksums made right where the input asks for it: opened, or an error with file and position",
        run: journal::target,
        seeds: journal::seeds,
        tested_inputs: 6_000,
    },
    Target {
        name: "journal_damage",
        what: "a valid journal, then damaged: a state that it once had, or an error with file and position",
        run: journal::damage,
        seeds: journal::damage_seeds,
        tested_inputs: 6_000,
    },
    Target {
        name: "segments",
        what: "a replica's folder of any bytes, checksums made right where the input asks for it: opened and read, or an error with file and position",
        run: segments::target,
        seeds: segments::seeds,
        tested_inputs: 6_000,
    },
    Target {
        name: "segments_damage",
        what: "a replica's valid folder, then damaged: the entries that were written, or an error with file and position",
        run: segments::damage,
        seeds: segments::damage_seeds,
        tested_inputs: 6_000,
    },
    Target {
        name: "json",
        what: "JSON lines and bodies as values: a request, or an error that can be answered on one line",
        run: json::target,
        seeds: json::seeds,
        tested_inputs: 20_000,
    },
    Target {
        name: "node",
        what: "standard input of `trimaran node`: every answer is a line of JSON, and the node never gives up",
        run: json::node,
        seeds: json::node_seeds,
        tested_inputs: 400,
    },
    Target {
        name: "config",
        what: "configuration file, environment and flags: settings, or an error that says where",
        run: config::target,
        seeds: config::seeds,
        tested_inputs: 4_000,
    },
];

/// The target of that name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Runs the target of that name on one input.
///
/// # Panics
/// If there is no such target, or if it finds something wrong.
pub fn run(name: &str, data: &[u8]) {
    let target = find(name).unwrap_or_else(|| panic!("there is no target {name}"));
    (target.run)(data);
}
