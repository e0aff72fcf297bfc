//! what other members say to a group: it goes on, nothing falls, nothing grows beyond what came
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| trimaran_tests::fuzz::run("group_messages", data));
