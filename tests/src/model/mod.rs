//! A model check in which the model is the real thing: every state that a small group can reach, within bounds.
//!
//! [`explore`] drives [`trimaran_raft::Group`] itself, three or four of them, with their logs and disks, through every
//! order of what can happen: messages arrive in any order, twice, or never; a disk takes as long as it likes; deadlines
//! come when they will; members crash and lose what was not durable (a write may have reached the disk although nobody
//! was told), or all of it; they delete what is committed from the beginning of their logs. After every step the laws of [`Law`] are judged. The first one that is broken is reported with a shortest
//! way to it.
//!
//! **What makes states few enough.** Time is only distances: after each step [`trimaran_raft::Group::rename`] sets the
//! member's clock back, and a deadline may come at any moment. Members, messages and histories are stored once, and a
//! state is a handful of their numbers; what a member makes of a message is computed once, however many states
//! it happens in. A message that is never delivered is a message that is lost. States that differ are told apart by 128
//! bits.
//!
//! **Why not `stateright`.** It would copy and hash three groups with their logs for every state; here one step of the core
//! serves hundreds of states. That is worth a factor of ten, and the explorer is one page (`explorer`). What
//! stateright offers besides (parallel search, a browser) was not needed.
//!
//! **What it doesn't cover.** Clocks of different members know nothing of each other, so nothing that relies on bounded
//! drift can be judged. A member's own disk does not lie. What is beyond the bounds of a [`Scenario`] is for the simulation.
//!
//! The rooms: `scenarios` (the explorations that there are, as `scenario` describes one), `start` (close to the danger),
//! `member` (one group with its disk, and the laws it alone can break), `world` (all of them, and the network), `history` (the
//! other laws), `explorer`, `convergence` (from any state on, when all faults end, the group must go on), `ending` (whether
//! everybody returns then), `trace`.

mod convergence;
mod ending;
mod explorer;
mod history;
mod law;
mod member;
mod scenario;
mod scenarios;
mod start;
mod store;
mod trace;
mod world;

pub use explorer::{Exploration, Failure, Limits, explore};
pub use law::{Law, Violation};
pub use scenario::{Budget, Scenario};
pub use start::{Before, Start};
pub use trace::Trace;
