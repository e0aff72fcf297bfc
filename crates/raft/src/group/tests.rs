//! Tests of whole groups: transcripts, the paper's rules, and chance.

mod bursts;
mod chance;
mod contradictions;
mod dissertation;
mod elections;
mod hostile;
mod members;
mod paper;
mod replica;
mod silence;
mod starting;
mod transcripts;
