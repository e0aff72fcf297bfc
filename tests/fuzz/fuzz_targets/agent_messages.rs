//! what registry agents are told by peers: understood or rejected, the agent goes on
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| trimaran_tests::fuzz::run("agent_messages", data));
