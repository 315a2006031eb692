//! The folders of a build, as they are served and looked at.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Inputs;
use crate::fsutil::Attributes;
use crate::options::context_mode::ContextMode;

/// Folders by the name that BuildKit asks for, and how their entries are told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Folders {
    /// The folders.
    pub by_name: BTreeMap<String, PathBuf>,
    /// How their entries are told.
    pub attributes: Attributes,
}

impl Inputs {
    /// Returns the folders that the session serves.
    pub fn folders(&self) -> Folders {
        Folders {
            by_name: self.local_dirs.clone(),
            attributes: match self.mode {
                ContextMode::AsIs => Attributes::OfRoot,
                ContextMode::Git => Attributes::OfGit,
            },
        }
    }
}
