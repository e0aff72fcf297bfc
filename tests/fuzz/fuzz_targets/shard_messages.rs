//! what other brokers say to a shard, down to its logs: it goes on, nothing grows beyond what came
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| trimaran_tests::fuzz::run("shard_messages", data));
