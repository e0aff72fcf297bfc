//! standard input of `trimaran node`: every answer is a line of JSON, and the node never gives up
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| trimaran_tests::fuzz::run("node", data));
