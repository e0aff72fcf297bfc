//! Moves frames over TCP: listeners with ordered responses, peer links with handshakes
