//! What can go wrong, and whose fault it is.

use crate::journal::JournalError;
use std::error::Error;
use std::path::PathBuf;
use std::{fmt, io};
use trimaran_raft::{LogIndex, NodeId};

/// The reason that a member can't be opened, or can't go on.
#[derive(Debug)]
pub enum MemberError {
    /// The journal refuses: another process has the folder, the disk is full, or it is damaged.
    Journal(JournalError),
    /// The operating system refused something about the snapshot.
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Its error.
        source: io::Error,
    },
    /// The snapshot's file is damaged, or of a newer version.
    BadSnapshot {
        /// The file.
        path: PathBuf,
        /// The defect.
        what: &'static str,
    },
    /// The journal was shortened for a later snapshot than the one that is there: an old copy was put in its place.
    OldSnapshot {
        /// The entry that the journal begins behind.
        begins: LogIndex,
        /// The entry that the snapshot ends with.
        ends: LogIndex,
    },
    /// [`StateMachine::restore`](super::StateMachine::restore) refuses a snapshot that was made by this member, or that the
    /// group's leader sent.
    Restore(Box<dyn Error + Send + Sync>),
}

impl fmt::Display for MemberError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MemberError::Journal(error) => error.fmt(f),
            MemberError::Io { path, source } => write!(f, "{}: {source}", path.display()),
            MemberError::BadSnapshot { path, what } => write!(
                f,
                "{}: {what}; remove this member from its group, and add one with a new id and an empty folder",
                path.display()
            ),
            MemberError::OldSnapshot { begins, ends } => write!(
                f,
                "the journal begins behind entry {begins}, and the snapshot ends with {ends}: it was replaced by an old copy; \
                 put the right one back, or remove this member from its group"
            ),
            MemberError::Restore(error) => write!(f, "the state machine can't read its snapshot: {error}"),
        }
    }
}

impl Error for MemberError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            MemberError::Journal(error) => Some(error),
            MemberError::Io { source, .. } => Some(source),
            MemberError::BadSnapshot { .. } | MemberError::OldSnapshot { .. } => None,
            MemberError::Restore(error) => Some(&**error),
        }
    }
}

impl From<JournalError> for MemberError {
    fn from(error: JournalError) -> MemberError {
        MemberError::Journal(error)
    }
}

/// The reason that a member does not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Another member leads: ask that one, if it is known, or try all of them.
    NotLeader(Option<NodeId>),
    /// Too much is under way, or a change of the members is not complete. Nothing has happened: ask again.
    Again,
    /// The leadership was lost before the outcome was known. A command may be applied, or may never be: ask the new leader
    /// again, if it may be applied twice.
    Unknown,
    /// The command is longer than [`MAX_COMMAND_BYTES`](super::MAX_COMMAND_BYTES).
    TooLarge,
    /// The group can't do without this member, its only voter.
    LastVoter,
    /// The member has stopped.
    Stopped,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::NotLeader(Some(leader)) => write!(f, "member {leader} leads"),
            Refused::NotLeader(None) => f.write_str("there is no leader at the moment"),
            Refused::Again => f.write_str("not now: ask again"),
            Refused::Unknown => f.write_str("the leader has changed: it may have been done, or not"),
            Refused::TooLarge => write!(
                f,
                "a command must not be longer than {} bytes",
                super::MAX_COMMAND_BYTES
            ),
            Refused::LastVoter => f.write_str("the group has no other voter"),
            Refused::Stopped => f.write_str("the member has stopped"),
        }
    }
}

impl Error for Refused {}
