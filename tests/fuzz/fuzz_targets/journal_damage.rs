//! a valid journal, then damaged: a state that it once had, or an error with file and position
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| trimaran_tests::fuzz::run("journal_damage", data));
