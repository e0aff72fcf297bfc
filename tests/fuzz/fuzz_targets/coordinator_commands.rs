//! commands of a coordinator's partition, decoded and applied: the same on every replica
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| trimaran_tests::fuzz::run("coordinator_commands", data));
