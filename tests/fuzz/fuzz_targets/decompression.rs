//! records in each of Kafka's compressions: never more bytes than the limit
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| trimaran_tests::fuzz::run("decompression", data));
