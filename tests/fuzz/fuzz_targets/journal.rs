//! a journal folder of any bytes, checksums made right where the input asks for it: opened, or an error with file and position
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| trimaran_tests::fuzz::run("journal", data));
