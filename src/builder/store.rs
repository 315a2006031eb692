//! The store of builders, shared with buildx: one folder, a lock file, one JSON file per builder.
//!
//! | path | content |
//! |---|---|
//! | `.lock` | flock(2), held exclusively during a transaction |
//! | `instances/<name>` | [`NodeGroup`] as JSON, the name in lower case |
//! | `current` | `{"Key", "Name", "Global"}`: the builder in use under a docker context key |
//! | `defaults/<20 hex digits of sha256(key)>` | name of the default builder of a context key |
//! | `activity/<name>` | time of last use, RFC 3339 |
//! | `refs/<builder>/<node>/<ref>` | see [`refs`](super::refs) |
//! | `.buildNodeID` | 16 hex digits, part of the key of shared build contexts |
//! | `buildkitd.default.toml` | configuration of new builders |
//!
//! Every file is written to a temporary file in the folder itself and renamed into place, so a
//! reader never sees half a file. The temporary file is never in `instances/`: buildx fails on any
//! file there that is not named as a builder. Readers need no lock and write nothing.

use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::docker::{go_json, settings};
use crate::platform::files::{self, Owner};

use super::group::NodeGroup;
use super::name::{self, InvalidName};

const INSTANCES: &str = "instances";
const DEFAULTS: &str = "defaults";
const ACTIVITY: &str = "activity";
const TEMPORARY: &str = ".tmp-cachex-";
/// Time between two tries to get the lock. flock(2) itself cannot be cancelled.
const LOCK_POLL: Duration = Duration::from_millis(20);
/// A temporary file older than this was left by a process that was killed.
const STRAY_AGE: Duration = Duration::from_secs(3600);

/// Why the store cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or folder cannot be read or written.
    #[error("cannot {action} the builder store")]
    Io {
        /// `read`, `write` or `lock`.
        action: &'static str,
        /// The cause, with the path.
        #[source]
        source: io::Error,
    },
    /// A file of the store is not what it should be.
    #[error("builder store: bad file {path}")]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The name cannot be that of a builder.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// No free random name was found.
    #[error("failed to generate random name")]
    NoRandomName,
}

fn reading(source: io::Error) -> StoreError {
    StoreError::Io {
        action: "read",
        source,
    }
}

fn writing(source: io::Error) -> StoreError {
    StoreError::Io {
        action: "write",
        source,
    }
}

/// The store of builders. Reading takes no lock.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
    owner: Option<Owner>,
}

/// A transaction: the store, locked until this is dropped.
#[derive(Debug)]
pub struct Transaction {
    store: Store,
    _lock: fs_err::File,
}

impl Deref for Transaction {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Current {
    #[serde(rename = "Key", default)]
    key: String,
    #[serde(rename = "Name", default)]
    name: String,
    #[serde(rename = "Global", default)]
    global: bool,
}

impl Store {
    /// Opens the store in a folder, which need not exist.
    pub fn new(dir: impl Into<PathBuf>, owner: Option<Owner>) -> Self {
        Self {
            dir: dir.into(),
            owner,
        }
    }

    /// Returns the folder of the store.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Locks the store, waiting for other processes (this program or buildx). The wait ends when the
    /// future is dropped.
    ///
    /// # Errors
    ///
    /// Fails if the folder or the lock file cannot be made.
    pub async fn begin(&self) -> Result<Transaction, StoreError> {
        for dir in [INSTANCES, DEFAULTS, ACTIVITY] {
            self.make_dir(Path::new(dir))?;
        }
        let path = self.dir.join(".lock");
        let mut options = fs_err::OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        files::private_file(&mut options);
        let lock = options.open(&path).map_err(writing)?;
        loop {
            match lock.file().try_lock() {
                Ok(()) => break,
                Err(std::fs::TryLockError::WouldBlock) => tokio::time::sleep(LOCK_POLL).await,
                Err(std::fs::TryLockError::Error(source)) => {
                    return Err(StoreError::Io {
                        action: "lock",
                        source,
                    });
                }
            }
        }
        let transaction = Transaction {
            store: self.clone(),
            _lock: lock,
        };
        transaction.remove_strays();
        Ok(transaction)
    }

    /// Returns all builders, sorted by name. A file that is not named as a builder is left out: it
    /// is a temporary file that some program left.
    ///
    /// # Errors
    ///
    /// Fails if the folder or one of the files cannot be read.
    pub fn list(&self) -> Result<Vec<NodeGroup>, StoreError> {
        let entries = match fs_err::read_dir(self.dir.join(INSTANCES)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(reading(error)),
        };
        let mut groups = Vec::new();
        for entry in entries {
            let file_name = entry.map_err(reading)?.file_name();
            let Some(name) = file_name.to_str().filter(|n| name::validate(n).is_ok()) else {
                tracing::warn!(file = ?file_name, "a file in the builder store is no builder");
                continue;
            };
            groups.extend(self.get(name)?);
        }
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(groups)
    }

    /// Returns a builder by name, or `None` if there is none.
    ///
    /// # Errors
    ///
    /// Fails for a name that no builder can have and for a file that cannot be read.
    pub fn get(&self, name: &str) -> Result<Option<NodeGroup>, StoreError> {
        let path = self.dir.join(INSTANCES).join(name::validate(name)?);
        let Some(text) = read_optional(&path)? else {
            return Ok(None);
        };
        NodeGroup::parse(&text)
            .map(Some)
            .map_err(|source| StoreError::BadFile { path, source })
    }

    /// Returns the builder in use under a docker context key, or `None` if that is the context's
    /// own builder: the global choice, else the choice made under this key, else the key's default.
    ///
    /// # Errors
    ///
    /// Fails for a file that cannot be read.
    pub fn current(&self, key: &str) -> Result<Option<NodeGroup>, StoreError> {
        let path = self.dir.join("current");
        if let Some(text) = read_optional(&path)? {
            let current: Current = go_json::from_slice(&text)
                .map_err(|source| StoreError::BadFile { path, source })?;
            if !current.name.is_empty() {
                let group = self.get_lenient(&current.name)?;
                if current.key == key || (current.global && group.is_some()) {
                    return Ok(group);
                }
            }
        }
        let default = self.dir.join(DEFAULTS).join(key_hash(key));
        match read_optional(&default)? {
            Some(name) => self.get_lenient(&String::from_utf8_lossy(&name)),
            None => Ok(None),
        }
    }

    /// As [`get`](Self::get); a name that no builder can have is one that is not there.
    fn get_lenient(&self, name: &str) -> Result<Option<NodeGroup>, StoreError> {
        match self.get(name) {
            Err(StoreError::Name(_)) => Ok(None),
            other => other,
        }
    }

    /// Returns when a builder was last used, or `None` if that is not known.
    ///
    /// # Errors
    ///
    /// Fails for a file that cannot be read.
    pub fn last_activity(&self, name: &str) -> Result<Option<jiff::Timestamp>, StoreError> {
        // Names of docker contexts are allowed here, but never a path.
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return Ok(None);
        }
        let text = read_optional(&self.dir.join(ACTIVITY).join(name))?;
        Ok(text.and_then(|text| std::str::from_utf8(&text).ok()?.trim().parse().ok()))
    }

    /// Notes that a builder is used now.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be written.
    pub fn record_activity(&self, name: &str) -> Result<(), StoreError> {
        if name.contains('/') || name.starts_with('.') {
            return Err(InvalidName {
                name: name.to_owned(),
            }
            .into());
        }
        self.make_dir(Path::new(ACTIVITY))?;
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
        self.write(&Path::new(ACTIVITY).join(name), now.to_string().as_bytes())
    }

    /// Returns the identifier of this machine for shared build contexts, 16 hex digits, and makes it
    /// if there is none.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read or written.
    pub fn node_id(&self) -> Result<String, StoreError> {
        let path = self.dir.join(".buildNodeID");
        if let Some(text) = read_optional(&path)? {
            return Ok(String::from_utf8_lossy(&text).into_owned());
        }
        self.make_dir(Path::new(""))?;
        let id = hex::encode(rand::random::<[u8; 8]>());
        self.write(Path::new(".buildNodeID"), id.as_bytes())?;
        // Another process may have made it meanwhile; the last one counts for all.
        Ok(read_optional(&path)?.map_or(id, |text| String::from_utf8_lossy(&text).into_owned()))
    }

    /// Returns the path of the default buildkitd configuration, if there is one.
    pub fn default_buildkitd_config(&self) -> Option<PathBuf> {
        Some(self.dir.join("buildkitd.default.toml")).filter(|path| path.exists())
    }

    /// Creates a folder of the store and its parents, mode 0700, and gives the new ones the owner.
    pub(super) fn make_dir(&self, relative: &Path) -> Result<(), StoreError> {
        let path = self.dir.join(relative);
        let missing: Vec<&Path> = path.ancestors().take_while(|p| !p.exists()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        files::private_directory(&mut builder);
        builder.create(&path).map_err(|error| {
            let text = format!("failed to create directory {}: {error}", path.display());
            writing(io::Error::new(error.kind(), text))
        })?;
        missing.into_iter().try_for_each(|dir| self.give(dir))
    }

    /// Writes a file of the store, all or nothing.
    pub(super) fn write(&self, relative: &Path, content: &[u8]) -> Result<(), StoreError> {
        use io::Write as _;
        let mut file = tempfile::Builder::new()
            .prefix(TEMPORARY)
            .tempfile_in(&self.dir)
            .map_err(writing)?;
        file.write_all(content).map_err(writing)?;
        file.as_file().sync_all().map_err(writing)?;
        self.give(file.path())?;
        file.persist(self.dir.join(relative))
            .map_err(|error| writing(error.error))?;
        Ok(())
    }

    fn give(&self, path: &Path) -> Result<(), StoreError> {
        let given = self.owner.map(|owner| files::give(path, owner));
        given.transpose().map(|_| ()).map_err(writing)
    }

    /// Removes temporary files of processes that were killed. Only tidying: what cannot be removed
    /// stays.
    fn remove_strays(&self) {
        let Ok(entries) = fs_err::read_dir(&self.dir) else {
            return;
        };
        let now = SystemTime::now();
        for entry in entries.flatten() {
            let ours = entry
                .file_name()
                .to_str()
                .is_some_and(|name| name.starts_with(TEMPORARY));
            let old = ours
                && entry
                    .metadata()
                    .and_then(|m| m.modified())
                    .is_ok_and(|time| now.duration_since(time).is_ok_and(|age| age > STRAY_AGE));
            if old && let Err(error) = fs_err::remove_file(entry.path()) {
                tracing::debug!(%error, "a stray temporary file stays");
            }
        }
    }
}

impl Transaction {
    /// Writes a builder, new or changed, and notes its use.
    ///
    /// # Errors
    ///
    /// Fails for a bad name or a file that cannot be written.
    pub fn save(&self, group: &NodeGroup) -> Result<(), StoreError> {
        let file = name::validate(&group.name)?;
        self.record_activity(&group.name)?;
        let path = Path::new(INSTANCES).join(file);
        let json = serde_json::to_vec(group).map_err(|source| StoreError::BadFile {
            path: path.clone(),
            source,
        })?;
        self.write(&path, &json)
    }

    /// Removes a builder with all that is noted about it. It need not exist.
    ///
    /// # Errors
    ///
    /// Fails for a bad name or a file that cannot be removed.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        let file = name::validate(name)?;
        for path in [
            self.dir.join(ACTIVITY).join(name),
            self.dir.join(ACTIVITY).join(&file),
        ] {
            remove_optional(&path)?;
        }
        for builder in [name, &file] {
            self.remove_builder_refs(builder)?;
        }
        remove_optional(&self.dir.join(INSTANCES).join(file))
    }

    /// Takes a builder into use under a docker context key; an empty name is the context's own.
    /// `global`: under every key; `default`: also the next time the key is used, else the key's
    /// default is forgotten.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be written.
    pub fn set_current(
        &self,
        key: &str,
        name: &str,
        global: bool,
        default: bool,
    ) -> Result<(), StoreError> {
        let current = Current {
            key: key.to_owned(),
            name: name.to_owned(),
            global,
        };
        let path = PathBuf::from("current");
        let json = serde_json::to_vec(&current).map_err(|source| StoreError::BadFile {
            path: path.clone(),
            source,
        })?;
        self.write(&path, &json)?;
        let hash = Path::new(DEFAULTS).join(key_hash(key));
        if default {
            self.write(&hash, name.as_bytes())
        } else {
            remove_optional(&self.dir.join(hash))
        }
    }

    /// Returns a random name that no builder has.
    ///
    /// # Errors
    ///
    /// Fails after six taken names.
    pub fn free_name(&self) -> Result<String, StoreError> {
        let mut rng = rand::rng();
        for retry in 0..6 {
            let name = name::random(retry, &mut rng);
            if self.get(&name)?.is_none() {
                return Ok(name);
            }
        }
        Err(StoreError::NoRandomName)
    }
}

/// Returns the file name of a context key in `defaults/`.
fn key_hash(key: &str) -> String {
    let mut hash = hex::encode(Sha256::digest(key.as_bytes()));
    hash.truncate(20);
    hash
}

fn read_optional(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match settings::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(reading(error)),
    }
}

fn remove_optional(path: &Path) -> Result<(), StoreError> {
    match fs_err::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(writing(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
