//! configuration file, environment and flags: settings, or an error that says where
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| trimaran_tests::fuzz::run("config", data));
