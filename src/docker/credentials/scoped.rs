//! buildx's scoped configurations: a docker configuration file for one registry, one repository or
//! one kind of access. Its folder names what it is for: `HOST[/REPOSITORY][@ACTION,ACTION]`
//! (buildx util/dockerutil/dockerconfig).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use crate::docker::config::{CONFIG_FILE_NAME, ConfigError, ConfigFile, is_missing};

/// Why a scoped configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScopedError {
    /// A folder cannot be read.
    #[error("cannot read the scoped docker configurations in {}", dir.display())]
    Read {
        /// The folder.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl ScopedError {
    /// Returns what the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Read { .. } => "check the permissions of the folder".to_owned(),
            Self::Config(error) => error.hint(),
        }
    }
}

/// One scoped configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ScopedConfig {
    /// Its folder.
    pub(super) dir: PathBuf,
    host: String,
    repository: String,
    actions: BTreeSet<String>,
}

impl ScopedConfig {
    fn parse(dir: PathBuf, key: &str) -> Self {
        let (place, actions) = key.split_once('@').unwrap_or((key, ""));
        let (host, repository) = place.split_once('/').unwrap_or((place, ""));
        let actions = actions.split(',').map(str::trim);
        Self {
            dir,
            host: host.to_owned(),
            repository: repository.to_owned(),
            actions: actions
                .filter(|a| !a.is_empty())
                .map(str::to_owned)
                .collect(),
        }
    }

    /// Reads the file.
    pub(super) fn load(&self) -> Result<ConfigFile, ScopedError> {
        Ok(ConfigFile::load(&self.dir)?)
    }

    fn matches(&self, name: &str, actions: &BTreeSet<&str>) -> bool {
        let repository_fits = self.repository.is_empty()
            || name.strip_prefix("repository:") == Some(self.repository.as_str());
        repository_fits && self.actions.iter().all(|a| actions.contains(a.as_str()))
    }
}

/// Finds all scoped configurations below a folder, which need not exist.
pub(super) fn find(base: &Path) -> Result<Vec<ScopedConfig>, ScopedError> {
    let mut found = Vec::new();
    let mut folders = vec![base.to_owned()];
    while let Some(dir) = folders.pop() {
        let read_error = |source| ScopedError::Read {
            dir: dir.clone(),
            source,
        };
        let entries = match fs_err::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if is_missing(&error) => continue,
            Err(error) => return Err(read_error(error)),
        };
        for entry in entries {
            let entry = entry.map_err(read_error)?;
            if entry.file_type().map_err(read_error)?.is_dir() {
                folders.push(entry.path());
            } else if entry.file_name() == CONFIG_FILE_NAME
                && let Ok(key) = dir.strip_prefix(base)
            {
                found.push(ScopedConfig::parse(dir.clone(), &key.to_string_lossy()));
            }
        }
    }
    found.sort_by(|a, b| a.dir.cmp(&b.dir));
    Ok(found)
}

/// Chooses the configuration for a token: only where exactly one resource is asked for; one with a
/// repository before one without, then the one with more actions.
pub(super) fn choose<'a>(
    all: &'a [ScopedConfig],
    host: &str,
    scopes: &[String],
) -> Option<&'a ScopedConfig> {
    let mut resources: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for scope in scopes
        .iter()
        .flat_map(|s| s.split(' '))
        .filter(|s| !s.is_empty())
    {
        let mut parts = scope.splitn(3, ':');
        let kind = parts.next().unwrap_or_default();
        let name = parts.next().unwrap_or_default();
        let actions = parts.next().unwrap_or_default();
        resources
            .entry(format!("{kind}:{name}"))
            .or_default()
            .extend(actions.split(',').filter(|a| !a.is_empty()));
    }
    let mut resources = resources.iter();
    let (name, actions) = resources.next()?;
    if resources.next().is_some() {
        return None;
    }
    all.iter()
        .filter(|scoped| scoped.host == host && scoped.matches(name, actions))
        .min_by(|a, b| {
            b.repository
                .cmp(&a.repository)
                .then(b.actions.len().cmp(&a.actions.len()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(keys: &[&str], host: &str, scopes: &[&str]) -> Option<String> {
        let all: Vec<_> = keys
            .iter()
            .map(|key| ScopedConfig::parse(PathBuf::from(key), key))
            .collect();
        let scopes: Vec<_> = scopes.iter().map(|&s| s.to_owned()).collect();
        choose(&all, host, &scopes).map(|s| s.dir.display().to_string())
    }

    #[test]
    fn the_most_specific_configuration_wins() {
        let keys = ["r", "r/a/b", "r@push", "r/a/b@pull,push", "other/a/b"];
        for (scopes, want) in [
            (&["repository:a/b:pull"][..], Some("r/a/b")),
            (&["repository:a/b:pull,push"], Some("r/a/b@pull,push")),
            (&["repository:c:pull"], Some("r")),
            (&["repository:c:push,pull"], Some("r@push")),
            (&["repository:c:pull", "repository:d:pull"], None),
            (&["repository:c:pull repository:d:pull"], None),
            (&[], None),
        ] {
            assert_eq!(chosen(&keys, "r", scopes).as_deref(), want, "{scopes:?}");
        }
        assert_eq!(chosen(&keys, "x", &["repository:a/b:pull"]), None);
    }

    #[test]
    fn folders_are_found_at_any_depth() {
        let dir = tempfile::tempdir().unwrap();
        assert!(find(&dir.path().join("none")).unwrap().is_empty());
        for key in ["r", "r/a/b@push", "r/empty"] {
            fs_err::create_dir_all(dir.path().join(key)).unwrap();
        }
        for key in ["r", "r/a/b@push"] {
            fs_err::write(dir.path().join(key).join(CONFIG_FILE_NAME), "{}").unwrap();
        }
        let found = find(dir.path()).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found[1].host.as_str(), found[1].repository.as_str()),
            ("r", "a/b")
        );
        assert!(found[1].actions.contains("push"));
    }
}
