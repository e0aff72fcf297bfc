//! records of a coordinator's partition, decoded and applied: the same on every replica, and led with
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| trimaran_tests::fuzz::run("coordinator_records", data));
