//! Turns bytes into values and back.
#![forbid(unsafe_code)]

pub mod batch;
pub mod peer;

#[cfg(test)]
mod testing;
