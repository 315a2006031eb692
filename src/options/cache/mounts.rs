//! Which cache mounts of `RUN --mount=type=cache` a cache brings along.

use std::collections::BTreeSet;
use std::fmt;

use crate::options::csv::KeyValues;
use crate::options::error::OptionError;
use crate::reference::Reference;

/// The largest mount that is kept where the user says nothing, in bytes.
pub const MAX_SIZE: u64 = 2 << 30;
/// What the key `mounts` takes.
pub(super) const EXPECTED: &str = "none, all, or the ids of cache mounts with ; between them";

/// Takes the image that carries mounts where no image of a step can.
pub(super) fn take_helper(pairs: &mut KeyValues) -> Result<Option<Reference>, OptionError> {
    pairs.take_with("mounts-helper", "the reference of an image", |value| {
        Reference::parse_normalized(value).ok()
    })
}

/// The value of the key `mounts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mounts {
    /// None of them.
    None,
    /// All that the steps use.
    All,
    /// Those with these ids: `id=` of the mount, else its target.
    Ids(BTreeSet<String>),
}

impl Mounts {
    /// Parses the value; `None` if it is none.
    pub(super) fn parse(value: &str) -> Option<Self> {
        match value {
            "none" => Some(Self::None),
            "all" => Some(Self::All),
            ids => {
                let ids: BTreeSet<String> = ids.split(';').map(str::to_owned).collect();
                ids.iter().all(|id| is_id(id)).then_some(Self::Ids(ids))
            }
        }
    }

    /// Returns whether none is wanted.
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }

    /// Returns whether the mount with this id is wanted.
    pub fn wants(&self, id: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Ids(ids) => ids.contains(id),
        }
    }
}

/// Returns whether this is an id, and no word for all of them or none.
fn is_id(id: &str) -> bool {
    let words = ["", "all", "none", "true", "false", "on", "off"];
    !words.contains(&id.to_ascii_lowercase().as_str())
}

impl fmt::Display for Mounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::All => f.write_str("all"),
            Self::Ids(ids) => {
                let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
                f.write_str(&ids.join(";"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_all_none_or_named() {
        for text in ["none", "all", "/root/.npm", "/root/.cache;go"] {
            assert_eq!(Mounts::parse(text).unwrap().to_string(), text);
        }
        // What is meant to be all of them is not taken for the id of one.
        for text in ["", "a;;b", "true", "All", "OFF", "go;all", "none;go"] {
            assert_eq!(Mounts::parse(text), None, "{text}");
        }
        let some = Mounts::parse("go;/root/.npm").unwrap();
        assert!(some.wants("go") && !some.wants("all") && !some.is_none());
        assert!(Mounts::All.wants("x") && !Mounts::None.wants("x"));
    }
}
