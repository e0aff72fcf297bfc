//! The cluster's metadata as a replicated state machine, and the view of who leads what
