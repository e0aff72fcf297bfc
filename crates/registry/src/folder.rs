//! Whether the parts of a broker's data folder belong together, and whether it is still the folder that the cluster knows.
//!
//! A data folder has three parts, each of which may lie on a disk of its own: its description (with its name), the journal, and
//! the replicas' folders. Each of them names the folder. Parts of different folders are refused: what one of them promised, the
//! other denies.
//!
//! The journal holds what the broker has promised. Where it is gone, the folder is another one for the cluster, whatever else is
//! left: it gets a new name, and its replicas count as lost and are filled by the others. If it was part of the metadata group,
//! it must never found one: with nothing in the journal, it would look like a new broker of a new cluster.

use crate::FolderId;
use crate::sabotage::{Breakage, Sabotage};
use std::fmt;

/// The contents of a data folder, as found at a start.
#[derive(Clone, Debug, Default)]
pub struct FolderParts {
    /// Its description, if there is one.
    pub description: Option<Description>,
    /// Its journal.
    pub journal: JournalPart,
    /// The folder that the replicas' folders say they belong to. None if they don't say.
    pub replicas: Option<FolderId>,
    /// The metadata group's replica has files.
    pub has_metadata: bool,
    pub(crate) breakage: Breakage,
}

/// The description of a folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// The folder's name. None in a folder that was made before folders had names.
    pub folder: Option<FolderId>,
    /// The folder, under this name or an earlier one, has been part of the cluster's metadata group.
    pub is_member: bool,
    /// What the journal holds is older than what the broker has promised, as others have said, and is not believed.
    pub is_lost: bool,
}

/// The state in which a journal is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JournalPart {
    /// None.
    #[default]
    Missing,
    /// One from before journals named their folder; or one that is damaged, which is found when it is opened.
    Nameless,
    /// The journal of this folder.
    Of(FolderId),
}

/// The identity of a data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FolderState {
    /// The folder that it was at the last start. Without a name, it gets its first one.
    Same(Option<FolderId>),
    /// Another one for the cluster: it needs a name that no folder had. `lost`: it has been part of the cluster, and what
    /// it had promised is gone.
    New {
        /// See above.
        lost: bool,
    },
}

/// Parts that don't belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MixedParts {
    /// There is a journal and no description.
    NoDescription {
        /// The folder that the journal names.
        journal: Option<FolderId>,
    },
    /// The journal is another folder's.
    Journal {
        /// The folder that the description names.
        description: Option<FolderId>,
        /// The folder that the journal names.
        journal: FolderId,
    },
    /// The replicas' folders are another folder's.
    Replicas {
        /// The folder that the description names.
        description: FolderId,
        /// The folder that they name.
        replicas: FolderId,
    },
}

impl fmt::Display for MixedParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MixedParts::NoDescription { journal: Some(journal) } => {
                write!(
                    f,
                    "the journal belongs to the data folder {journal}, whose description is missing"
                )
            }
            MixedParts::NoDescription { journal: None } => {
                f.write_str("there is a journal, and the data folder's description is missing")
            }
            MixedParts::Journal {
                description: Some(description),
                journal,
            } => write!(
                f,
                "the journal belongs to the data folder {journal}, and this is {description}"
            ),
            MixedParts::Journal {
                description: None,
                journal,
            } => write!(
                f,
                "the journal belongs to the data folder {journal}, and this one has no name"
            ),
            MixedParts::Replicas { description, replicas } => {
                write!(
                    f,
                    "the replicas belong to the data folder {replicas}, and this is {description}"
                )
            }
        }
    }
}

impl std::error::Error for MixedParts {}

impl FolderParts {
    /// The identity of the folder.
    ///
    /// # Errors
    /// [`MixedParts`]: the folder must not be used, or written to, before somebody has put the right parts together.
    pub fn state(&self) -> Result<FolderState, MixedParts> {
        let name = self.description.and_then(|description| description.folder);
        let is_member = self.description.is_some_and(|description| description.is_member);
        let new = Ok(FolderState::New {
            lost: self.has_metadata || is_member,
        });
        match (self.journal, self.description) {
            // Its journal may have another name already, or still.
            (_, Some(description)) if description.is_lost => new,
            (JournalPart::Missing, Some(_)) if self.breakage.is(Sabotage::KeepFolderName) => {
                Ok(FolderState::Same(name))
            }
            // Nothing of it is believed: whose the replicas were does not matter.
            (JournalPart::Missing, _) => new,
            (JournalPart::Nameless, None) => Err(MixedParts::NoDescription { journal: None }),
            (JournalPart::Of(journal), None) => Err(MixedParts::NoDescription { journal: Some(journal) }),
            (JournalPart::Of(journal), Some(description)) if description.folder != Some(journal) => {
                Err(MixedParts::Journal {
                    description: description.folder,
                    journal,
                })
            }
            (JournalPart::Nameless | JournalPart::Of(_), Some(_)) => match (name, self.replicas) {
                (Some(description), Some(replicas)) if description != replicas => {
                    Err(MixedParts::Replicas { description, replicas })
                }
                _ => Ok(FolderState::Same(name)),
            },
        }
    }

    /// Judges wrongly from now on, in that way: for tests of tests.
    #[cfg(feature = "sabotage")]
    pub fn sabotage(&mut self, how: Sabotage) {
        self.breakage = Breakage::of(how);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: FolderId = FolderId([1; 16]);
    const OTHER: FolderId = FolderId([2; 16]);

    fn parts(folder: Option<FolderId>, journal: JournalPart) -> FolderParts {
        FolderParts {
            description: Some(Description {
                folder,
                ..Description::default()
            }),
            journal,
            ..FolderParts::default()
        }
    }

    #[test]
    fn a_folder_is_the_same_as_long_as_its_journal_is_there() {
        let here = JournalPart::Of(OURS);
        assert_eq!(parts(Some(OURS), here).state(), Ok(FolderState::Same(Some(OURS))));
        let nameless = parts(Some(OURS), JournalPart::Nameless);
        assert_eq!(nameless.state(), Ok(FolderState::Same(Some(OURS))));
        assert_eq!(parts(None, JournalPart::Nameless).state(), Ok(FolderState::Same(None)));
        let replicas = FolderParts {
            replicas: Some(OURS),
            ..parts(Some(OURS), here)
        };
        assert_eq!(replicas.state(), Ok(FolderState::Same(Some(OURS))));
    }

    #[test]
    fn without_its_journal_it_is_another_one_and_says_whether_it_has_lost_something() {
        assert_eq!(FolderParts::default().state(), Ok(FolderState::New { lost: false }));
        let mut gone = parts(Some(OURS), JournalPart::Missing);
        gone.replicas = Some(OTHER);
        assert_eq!(gone.state(), Ok(FolderState::New { lost: false }));
        gone.description = Some(Description {
            folder: Some(OURS),
            is_member: true,
            is_lost: false,
        });
        assert_eq!(gone.state(), Ok(FolderState::New { lost: true }));
        let mut behind = parts(Some(OURS), JournalPart::Of(OTHER));
        behind.description = Some(Description {
            folder: Some(OURS),
            is_member: false,
            is_lost: true,
        });
        assert_eq!(behind.state(), Ok(FolderState::New { lost: false }));
        let undescribed = FolderParts {
            has_metadata: true,
            ..FolderParts::default()
        };
        assert_eq!(undescribed.state(), Ok(FolderState::New { lost: true }));
    }

    #[test]
    fn parts_of_different_folders_are_refused() {
        let check = |parts: FolderParts, expected: MixedParts| assert_eq!(parts.state(), Err(expected));
        let journal = JournalPart::Of(OTHER);
        let undescribed = |journal| FolderParts {
            journal,
            ..FolderParts::default()
        };
        check(undescribed(journal), MixedParts::NoDescription { journal: Some(OTHER) });
        let nameless = MixedParts::NoDescription { journal: None };
        check(undescribed(JournalPart::Nameless), nameless);
        for description in [Some(OURS), None] {
            check(
                parts(description, journal),
                MixedParts::Journal {
                    description,
                    journal: OTHER,
                },
            );
        }
        let replicas = FolderParts {
            replicas: Some(OTHER),
            ..parts(Some(OURS), JournalPart::Of(OURS))
        };
        let mixed = MixedParts::Replicas {
            description: OURS,
            replicas: OTHER,
        };
        assert!(mixed.to_string().contains(&OTHER.to_string()));
        check(replicas, mixed);
    }
}
