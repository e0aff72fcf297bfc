//! What agents say to each other.

use crate::catalog::{DecodeError, RequestId, Wish};
use crate::founding::Found;
use crate::leaders::Word;
use crate::{BrokerId, CatalogError, CommandIndex, FolderId, Incarnation, codec};
use serde::{Deserialize, Serialize};

/// The version that this build speaks. Version 1 knew neither folders nor reassignments.
const VERSION: u8 = 2;

/// Any of these may be lost, delayed, repeated or overtaken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Message {
    /// To whom the sender believes to be the controller.
    Forward {
        request: RequestId,
        /// The sender retries no request before this one.
        settled: u64,
        wish: Wish,
    },
    /// The controller's answer if it can't be. (If it can, the asker sees the command itself.)
    Refused { request: RequestId, error: CatalogError },
    /// The receiver of a `Forward` is not the controller, but knows of one, perhaps.
    Elsewhere {
        request: RequestId,
        controller: Option<BrokerId>,
    },
    /// All the sender's words numbered above `after` and up to `upto`, save those it has replaced by later ones. Without
    /// words it only says which number the receiver should have reached.
    News {
        incarnation: Incarnation,
        after: u64,
        upto: u64,
        words: Vec<(u64, Word)>,
    },
    /// To the source of news, of that start: the sender has them only up to `after`.
    Want { incarnation: Incarnation, after: u64 },
    /// The sender's catalog is that far; see [`super::replicas`].
    Applied { index: CommandIndex },
    /// The sender's folder holds nothing of the metadata group. What does the receiver's? See [`crate::founding`].
    Ask { folder: FolderId },
    /// The answer.
    Answer {
        /// The folder whose question is answered.
        asker: FolderId,
        /// The sender's own.
        folder: FolderId,
        found: Found,
    },
}

impl Message {
    pub(super) fn encode(&self) -> Vec<u8> {
        codec::encode(VERSION, self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
        codec::decode(VERSION, bytes)
    }
}
