//! header and body of every API and version: encoded and decoded again they are the same, and as kafka-protocol reads them
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| trimaran_tests::fuzz::run("kafka_requests", data));
