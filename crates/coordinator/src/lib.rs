//! Consumer groups and their committed offsets as pure replicated state machines
