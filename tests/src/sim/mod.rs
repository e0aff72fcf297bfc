//! A whole cluster on one seed.
pub mod queue;
pub mod records;
pub mod rng;
