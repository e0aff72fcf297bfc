//! A version, then postcard.

use crate::catalog::DecodeError;
use crate::limits;
use serde::{Serialize, de::DeserializeOwned};

/// Encodes a value behind its version.
pub(crate) fn encode<T: Serialize>(version: u8, value: &T) -> Vec<u8> {
    // Growing a Vec never fails, and none of our types has a length that postcard can't know beforehand.
    postcard::to_extend(value, vec![version]).expect("our own values can be encoded")
}

/// Decodes a value of that version; nothing may be left over.
pub(crate) fn decode<T: DeserializeOwned>(version: u8, bytes: &[u8]) -> Result<T, DecodeError> {
    if bytes.len() > limits::MESSAGE_BYTES {
        return Err(DecodeError::TooLong(bytes.len()));
    }
    match bytes.split_first() {
        Some((found, body)) if *found == version => match postcard::take_from_bytes(body) {
            Ok((value, [])) => Ok(value),
            _ => Err(DecodeError::Malformed),
        },
        Some((found, _)) => Err(DecodeError::Version(*found)),
        None => Err(DecodeError::Malformed),
    }
}
