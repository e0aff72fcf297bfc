//! Remembers: one journal per broker, one log per replica.
#![forbid(unsafe_code)]

pub mod fs;
pub mod journal;
pub mod log;
pub mod scale;
