//! commands of the metadata group, decoded and applied: the same on every replica
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| trimaran_tests::fuzz::run("catalog_commands", data));
