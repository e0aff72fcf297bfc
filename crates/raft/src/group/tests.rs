//! Tests of whole groups: transcripts, the paper's rules, and chance.

mod chance;
mod hostile;
mod paper;
mod replica;
mod transcripts;
