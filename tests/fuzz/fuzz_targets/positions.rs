//! where a follower's log is to begin, and what producers sent before: what can be, encoded and decoded again the same, or refused
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| trimaran_tests::fuzz::run("positions", data));
