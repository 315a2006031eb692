//! `--ssh`: agents and keys that build steps may use.

use std::fmt;
use std::path::PathBuf;

use super::error::OptionError;

/// The ID of an agent or key when none is given.
pub const DEFAULT_ID: &str = "default";

/// One SSH agent for the build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ssh {
    /// The name by which a build step asks for it; not empty.
    pub id: String,
    /// One agent socket, or private keys; empty for the agent of the environment
    /// (`SSH_AUTH_SOCK`).
    pub paths: Vec<PathBuf>,
}

impl Ssh {
    /// Parses `ID[=PATH[,PATH]]`. Paths are split at commas, without quoting, as in buildx; `ID=` is
    /// the agent of the environment.
    pub fn parse(value: &str) -> Result<Self, OptionError> {
        let (id, paths) = match value.split_once('=') {
            Some((id, "")) => (id, Vec::new()),
            Some((id, paths)) => (id, paths.split(',').collect()),
            None => (value, Vec::new()),
        };
        if paths.iter().any(|path| path.is_empty()) {
            return Err(OptionError::other("empty path").within(value));
        }
        Ok(Self {
            id: if id.is_empty() { DEFAULT_ID } else { id }.to_owned(),
            paths: paths.into_iter().map(PathBuf::from).collect(),
        })
    }

    /// Parses the values of all `--ssh` flags; empty ones are skipped. An ID that is there twice is
    /// an error, as only one of them could be served.
    pub fn parse_list<S: AsRef<str>>(values: &[S]) -> Result<Vec<Self>, OptionError> {
        let mut list: Vec<Self> = Vec::new();
        for value in values
            .iter()
            .map(AsRef::as_ref)
            .filter(|value| !value.is_empty())
        {
            let ssh = Self::parse(value)?;
            if list.iter().any(|seen| seen.id == ssh.id) {
                return Err(OptionError::other(format!(
                    "ID {:?} is given more than once",
                    ssh.id
                )));
            }
            list.push(ssh);
        }
        Ok(list)
    }
}

impl fmt::Display for Ssh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)?;
        for (index, path) in self.paths.iter().enumerate() {
            let separator = if index == 0 { '=' } else { ',' };
            write!(f, "{separator}{}", path.display())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (value, id, paths, display) in [
            ("default", "default", vec![], "default"),
            ("default=", "default", vec![], "default"),
            ("key=", "key", vec![], "key"),
            ("key=/a", "key", vec!["/a"], "key=/a"),
            ("key=/a,/b", "key", vec!["/a", "/b"], "key=/a,/b"),
            ("=/a", "default", vec!["/a"], "default=/a"),
            ("key=/a=b", "key", vec!["/a=b"], "key=/a=b"),
        ] {
            let ssh = Ssh::parse(value).unwrap();
            let paths: Vec<PathBuf> = paths.into_iter().map(PathBuf::from).collect();
            assert_eq!((ssh.id.as_str(), &ssh.paths), (id, &paths), "{value}");
            assert_eq!(ssh.to_string(), display, "{value}");
        }
    }

    #[test]
    fn errors() {
        for (value, text) in [
            ("key=,/a", r#"empty path in "key=,/a""#),
            ("key=/a,", r#"empty path in "key=/a,""#),
        ] {
            assert_eq!(Ssh::parse(value).unwrap_err().to_string(), text);
        }
        let twice = Ssh::parse_list(&["default", "", "=/a"]).unwrap_err();
        assert_eq!(twice.to_string(), r#"ID "default" is given more than once"#);
    }
}
