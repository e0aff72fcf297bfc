//! Tests of whole groups: transcripts, the paper's rules, and chance.

mod chance;
mod dissertation;
mod elections;
mod hostile;
mod members;
mod paper;
mod replica;
mod transcripts;
