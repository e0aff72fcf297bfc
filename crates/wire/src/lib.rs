//! Turns bytes into values and back.
#![forbid(unsafe_code)]

pub mod api;
pub mod batch;
mod error;
pub mod fetch;
pub mod frame;
mod hint;
pub mod peer;
pub mod produce;
mod reader;
pub mod request;
mod schema;
#[cfg(test)]
mod testing;
mod topic_id;
mod writer;

pub use error::WireError;
pub use hint::{LeaderHint, NodeEndpoint};
pub use topic_id::TopicId;
