//! a replica's valid folder, then damaged: the entries that were written, or an error with file and position
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| trimaran_tests::fuzz::run("segments_damage", data));
