//! Kafka's frames and JSON lines out of a stream: the same wherever it is cut, none beyond the limit
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| trimaran_tests::fuzz::run("frames", data));
