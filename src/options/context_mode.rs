//! `--context-mode`: which permissions the files of a context have in a build.

use super::OptionError;

/// Which permissions the files of a context have in a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ContextMode {
    /// Their own.
    #[default]
    AsIs,
    /// Those that git keeps: whether a file may be run.
    Git,
}

impl ContextMode {
    /// The words for them.
    pub const WORDS: [(&'static str, Self); 2] = [("as-is", Self::AsIs), ("git", Self::Git)];

    /// Reads `as-is` or `git`.
    ///
    /// # Errors
    ///
    /// Fails for any other text.
    pub fn parse(text: &str) -> Result<Self, OptionError> {
        let found = Self::WORDS.into_iter().find(|(word, _)| *word == text);
        found
            .map(|(_, mode)| mode)
            .ok_or_else(|| OptionError::other(format!("{text:?} is neither as-is nor git")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_two() {
        assert_eq!(ContextMode::parse("git"), Ok(ContextMode::Git));
        assert_eq!(ContextMode::parse("as-is"), Ok(ContextMode::AsIs));
        for text in ["", "Git", "umask"] {
            let error = ContextMode::parse(text).unwrap_err().to_string();
            assert!(error.contains("neither as-is nor git"), "{error}");
        }
    }
}
