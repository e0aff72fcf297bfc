//! JSON lines and bodies as values: a request, or an error that can be answered on one line
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| trimaran_tests::fuzz::run("json", data));
