//! `trimaran node`: the same core over JSON lines, as a node of Jepsen's Maelstrom.

use std::io::{self, Read, Write};

/// Reads messages from `input` until it ends, and writes answers to `output`.
///
/// # Errors
/// When `input` or `output` fails.
pub fn run(input: impl Read, output: impl Write) -> io::Result<()> {
    let _ = (input, output);
    Err(io::Error::other("`trimaran node` is not there yet"))
}
