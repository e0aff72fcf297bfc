//! record batches: header, CRC, stamping, splitting, records; never more than the header says
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| trimaran_tests::fuzz::run("batches", data));
