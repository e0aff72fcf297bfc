//! what the project's own client reads, of every API and version: encoded and decoded again it is the same
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| trimaran_tests::fuzz::run("kafka_responses", data));
