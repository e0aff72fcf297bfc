//! the envelope between brokers, every kind: encoded and decoded again it is the same
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| trimaran_tests::fuzz::run("peers", data));
