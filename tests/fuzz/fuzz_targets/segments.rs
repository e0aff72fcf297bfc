//! a replica's folder of any bytes, checksums made right where the input asks for it: opened and read, or an error with file and position
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| trimaran_tests::fuzz::run("segments", data));
