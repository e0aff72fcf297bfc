//! What other members say, honest or not, to a real group with its log, and to a whole shard: neither may panic, hang, or
//! grow beyond what it was sent.
//!
//! An input is a script. Each step is a byte that says what happens and the bytes that this takes: a frame as it would come
//! over the network, a message that is made up field by field (so that terms and indices lie near those that the receiver
//! knows, where the decisions are), or what only the receiver's own driver does.

mod group;
mod messages;
mod shard;

pub(super) use group::{seeds as group_seeds, target as group};
pub(super) use shard::{seeds as shard_seeds, target as shard};
