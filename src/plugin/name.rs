//! The name that the program was started under, which decides whom it answers as.
//!
//! Docker calls a plugin by the name of its file: `docker-cachex` is `docker cachex`. As `docker-buildx`, or stand-alone
//! as `buildx`, this program stands in the place of buildx.

use std::ffi::OsStr;
use std::path::Path;

/// The plugin's own name.
pub const CACHEX: &str = "cachex";
/// The name of the plugin whose place this one can take.
pub const BUILDX: &str = "buildx";

/// What stands before a plugin's name in the name of its file.
const PREFIX: &str = "docker-";

/// A name of this program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    word: String,
    stands_alone: bool,
}

impl Name {
    /// Reads the name from the path that the program was started by.
    pub fn of(program: Option<&OsStr>) -> Self {
        let file = program.map(Path::new).and_then(Path::file_name);
        let file = file.map(OsStr::to_string_lossy).unwrap_or_default();
        let file = file.strip_suffix(".exe").unwrap_or(&file);
        match file.strip_prefix(PREFIX) {
            Some(word) if is_plugin_name(word) => Self {
                word: word.to_owned(),
                stands_alone: false,
            },
            None if file == BUILDX => Self {
                word: BUILDX.to_owned(),
                stands_alone: true,
            },
            _ => Self::default(),
        }
    }

    /// Returns the word on docker's command line.
    pub fn word(&self) -> &str {
        &self.word
    }

    /// Returns whether it was started as `buildx`, which is not a plugin's name.
    pub fn stands_alone(&self) -> bool {
        self.stands_alone
    }

    /// Returns whether it stands in buildx's place.
    pub fn is_buildx(&self) -> bool {
        self.word == BUILDX
    }

    /// Returns how a user calls it, such as `docker cachex`.
    pub fn command(&self) -> String {
        if self.stands_alone {
            self.word.clone()
        } else {
            format!("docker {}", self.word)
        }
    }
}

impl Default for Name {
    fn default() -> Self {
        Self {
            word: CACHEX.to_owned(),
            stands_alone: false,
        }
    }
}

/// Returns whether docker takes it as the name of a plugin.
fn is_plugin_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_lowercase())
        && word
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_that_of_the_file() {
        for (program, command, is_buildx) in [
            ("docker-cachex", "docker cachex", false),
            ("/a/b/docker-cachex", "docker cachex", false),
            ("./docker-cachex.exe", "docker cachex", false),
            ("/a/docker-buildx", "docker buildx", true),
            ("docker-buildx.exe", "docker buildx", true),
            ("/usr/bin/buildx", "buildx", true),
            ("docker-other7", "docker other7", false),
            // What docker cannot call is this program's own name.
            ("docker-cachex-v1.2.3-linux-amd64", "docker cachex", false),
            ("docker-", "docker cachex", false),
            ("docker-Buildx", "docker cachex", false),
            ("anything", "docker cachex", false),
            ("", "docker cachex", false),
        ] {
            let name = Name::of(Some(OsStr::new(program)));
            assert_eq!(name.command(), command, "{program}");
            assert_eq!(name.is_buildx(), is_buildx, "{program}");
        }
        assert_eq!(Name::of(None), Name::default());
    }
}
