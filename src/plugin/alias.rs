//! The alias: `docker buildx` is answered by this program.
//!
//! Docker looks for plugins first in the folders that `cliPluginsExtraDirs` of its configuration names. So a folder of our
//! own, at the head of that list, holds a link named `docker-buildx`. The file `~/.docker/cli-plugins/docker-buildx` is left
//! alone: others write it, and with Docker Desktop it comes behind a folder of Desktop's.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

mod member;
mod place;

use self::member::{Before, MemberError};
use self::place::Lock;
use super::name::BUILDX;
use crate::platform::files;

/// How long another process may hold the lock; it needs milliseconds.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Why the alias cannot be changed or told.
#[derive(Debug, thiserror::Error)]
pub enum AliasError {
    /// A file or folder cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Docker's configuration is not what docker writes.
    #[error("the docker configuration file {} is not changed", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: MemberError,
    },
    /// Another process does not let go of the lock.
    #[error(
        "another process is changing the alias, and has kept {} locked for {} seconds",
        .0.display(),
        LONGEST_WAIT.as_secs()
    )]
    Locked(PathBuf),
    /// The folder's path is not text, so that it cannot stand in the configuration.
    #[error("the path {} is not UTF-8", .0.display())]
    Path(PathBuf),
}

impl AliasError {
    /// Returns what the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Config { .. } => {
                Some("correct it by hand; as long as it is like that nothing is changed".to_owned())
            }
            Self::Locked(path) => Some(format!(
                "wait until that process has ended, or end it: \"fuser {}\" shows its number",
                path.display()
            )),
            Self::Path(_) => Some("name another folder with DOCKER_CONFIG or --config".to_owned()),
            Self::Io(_) => None,
        }
    }
}

/// How the alias stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Docker does not look into the folder.
    Off,
    /// Docker looks into the folder first; the link leads to this file.
    On(PathBuf),
    /// Docker looks into the folder, but the link is gone or leads nowhere.
    Broken,
    /// Docker looks into these folders first, which also hold a plugin of the name.
    Behind(PathBuf),
}

/// What is noted while the alias is on.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    before: Before,
    /// What was in a configuration file that held nothing but space.
    blank: Option<String>,
    /// Whether docker's folder was made for it.
    #[serde(default)]
    made_folder: bool,
}

/// The alias of a configuration folder.
#[derive(Debug)]
pub struct Alias {
    /// Docker's folder.
    config_dir: PathBuf,
    /// `cachex` in it.
    home: PathBuf,
    config: PathBuf,
}

impl Alias {
    /// Takes docker's configuration folder, whose path must be absolute, and the file in it.
    pub fn new(config_dir: &Path, config_file: &Path) -> Self {
        Self {
            config_dir: config_dir.to_owned(),
            home: own_dir(config_dir),
            config: config_file.to_owned(),
        }
    }

    /// Switches it on: `docker buildx` is `program`. Returns whether anything has changed.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be written, or docker's configuration is not what docker writes; then nothing is changed.
    pub fn on(&self, program: &Path) -> Result<bool, AliasError> {
        let made_folder = !self.config_dir.exists();
        fs_err::create_dir_all(&self.config_dir)?;
        let done = self
            .lock(LONGEST_WAIT)
            .and_then(|_lock| self.on_locked(program, made_folder));
        if done.is_err() && made_folder {
            remove_if_empty(&self.config_dir);
        }
        done
    }

    fn lock(&self, patience: Duration) -> Result<Lock, AliasError> {
        let lock = Lock::take(&self.config_dir, patience)?;
        lock.ok_or_else(|| AliasError::Locked(Lock::path(&self.config_dir)))
    }

    fn on_locked(&self, program: &Path, made_folder: bool) -> Result<bool, AliasError> {
        let dir = self.dir_text()?;
        let config = place::behind_links(&self.config)?;
        let old = place::read(&config)?;
        let text = old.clone().unwrap_or_default();
        let entries = member::entries(&text).map_err(|source| self.broken(source))?;
        if entries
            .first()
            .is_some_and(|first| member::is_same_folder(first, &dir))
        {
            return Ok(self.link(program)?);
        }
        // Where the folder stands behind others it is put in anew.
        let listed = entries
            .iter()
            .any(|entry| member::is_same_folder(entry, &dir));
        let before = if listed { Before::List } else { Before::NoList };
        let text = member::remove(&text, &dir, before).map_err(|source| self.broken(source))?;
        let text = text.unwrap_or_default();
        let (new, before) = member::insert(&text, &dir).map_err(|source| self.broken(source))?;
        // What is most likely to fail comes first: a configuration that this user may not write.
        let new = place::beside(&config, new.as_bytes())?;
        let note = (!listed).then(|| Note {
            before,
            blank: old.filter(|_| before == Before::Nothing),
            made_folder,
        });
        let done = self
            .make_files(program, note.as_ref())
            .and_then(|()| place::put(new, &config));
        if let Err(error) = done {
            if !listed && let Err(left) = self.remove_files() {
                tracing::debug!(error = %left, "what was made for the alias stays");
            }
            return Err(error.into());
        }
        Ok(true)
    }

    fn make_files(&self, program: &Path, note: Option<&Note>) -> io::Result<()> {
        self.link(program)?;
        if let Some(note) = note {
            let path = self.note_path();
            place::put(place::beside(&path, &serde_json::to_vec(note)?)?, &path)?;
        }
        Ok(())
    }

    /// Switches it off: docker's configuration is as it was before. Returns whether anything has changed.
    ///
    /// # Errors
    ///
    /// Fails as [`on`](Self::on).
    pub fn off(&self) -> Result<bool, AliasError> {
        if !self.has_traces()? {
            return Ok(false);
        }
        let lock = self.lock(LONGEST_WAIT)?;
        let (changed, made_folder) = self.off_locked()?;
        drop(lock);
        if made_folder {
            remove_if_empty(&self.config_dir);
        }
        Ok(changed)
    }

    /// Returns whether anything of the alias is there. This needs no folder that can be written.
    fn has_traces(&self) -> Result<bool, AliasError> {
        let dir = self.dir_text()?;
        let text = self.read()?.unwrap_or_default();
        let entries = member::entries(&text).map_err(|source| self.broken(source))?;
        let files = [self.link_path(), self.note_path()];
        Ok(entries
            .iter()
            .any(|entry| member::is_same_folder(entry, &dir))
            || files.iter().any(|file| file.symlink_metadata().is_ok()))
    }

    /// Returns whether anything has changed, and whether docker's folder was made for the alias.
    fn off_locked(&self) -> Result<(bool, bool), AliasError> {
        let dir = self.dir_text()?;
        let note = place::read(&self.note_path())?;
        // A note that is damaged, or that another version wrote, is none: then what is certain is taken back.
        let note: Option<Note> = note.and_then(|text| serde_json::from_str(&text).ok());
        let before = note.as_ref().map_or(Before::NoList, |note| note.before);
        let made_folder = note.as_ref().is_some_and(|note| note.made_folder);
        let config = place::behind_links(&self.config)?;
        let mut changed = self.link_path().symlink_metadata().is_ok();
        if let Some(old) = place::read(&config)? {
            let new = member::remove(&old, &dir, before).map_err(|source| self.broken(source))?;
            let new = new.or_else(|| note.and_then(|note| note.blank));
            let is_new = new.as_ref() != Some(&old);
            changed |= is_new;
            match new {
                Some(new) if is_new => {
                    place::put(place::beside(&config, new.as_bytes())?, &config)?;
                }
                Some(_) => {}
                None => place::remove(&config)?,
            }
        }
        self.remove_files()?;
        Ok((changed, made_folder))
    }

    /// Tells how it stands.
    ///
    /// # Errors
    ///
    /// Fails as [`on`](Self::on).
    pub fn status(&self) -> Result<Status, AliasError> {
        let dir = self.dir_text()?;
        let text = self.read()?.unwrap_or_default();
        let entries = member::entries(&text).map_err(|source| self.broken(source))?;
        let Some(at) = entries
            .iter()
            .position(|entry| member::is_same_folder(entry, &dir))
        else {
            return Ok(Status::Off);
        };
        let plugin = |dir: &String| Path::new(dir).join(file_name());
        if let Some(first) = entries[..at].iter().map(plugin).find(|path| path.exists()) {
            return Ok(Status::Behind(first));
        }
        let target = fs_err::canonicalize(self.link_path());
        Ok(target.map_or(Status::Broken, Status::On))
    }

    /// Returns the file that docker calls while the alias is on.
    pub fn link_path(&self) -> PathBuf {
        self.home.join("cli-plugins").join(file_name())
    }

    fn note_path(&self) -> PathBuf {
        self.home.join("alias.json")
    }

    fn dir_text(&self) -> Result<String, AliasError> {
        let dir = self.home.join("cli-plugins");
        let text = dir.to_str().map(str::to_owned);
        text.ok_or(AliasError::Path(dir))
    }

    fn broken(&self, source: MemberError) -> AliasError {
        AliasError::Config {
            path: self.config.clone(),
            source,
        }
    }

    /// Makes the link, at once or not at all; returns whether it was another one before.
    fn link(&self, program: &Path) -> io::Result<bool> {
        let link = self.link_path();
        if fs_err::read_link(&link).is_ok_and(|target| target == program) {
            return Ok(false);
        }
        let dir = self.home.join("cli-plugins");
        fs_err::create_dir_all(&dir)?;
        let new =
            tempfile::Builder::new().make_in(&dir, |path| files::link_program(program, path))?;
        new.into_temp_path().persist(link)?;
        Ok(true)
    }

    fn read(&self) -> Result<Option<String>, AliasError> {
        Ok(place::read(&place::behind_links(&self.config)?)?)
    }

    /// Removes what this program keeps in docker's folder for the alias.
    fn remove_files(&self) -> io::Result<()> {
        let files = [self.link_path(), self.note_path(), memory_in(&self.home)];
        // One that cannot be removed does not keep the others.
        let removed = files.map(|path| place::remove(&path));
        for dir in [self.home.join("cli-plugins"), self.home.clone()] {
            remove_if_empty(&dir);
        }
        removed.into_iter().collect()
    }
}

/// Removes a folder; one that holds something else stays.
fn remove_if_empty(dir: &Path) {
    if let Err(error) = fs_err::remove_dir(dir) {
        tracing::debug!(%error, "a folder of the alias stays");
    }
}

/// Returns this program's folder in docker's.
fn own_dir(config_dir: &Path) -> PathBuf {
    config_dir.join("cachex")
}

/// Returns the file in which is noted what the real buildx says of itself.
pub fn memory(config_dir: &Path) -> PathBuf {
    memory_in(&own_dir(config_dir))
}

fn memory_in(home: &Path) -> PathBuf {
    home.join("buildx.json")
}

fn file_name() -> String {
    format!("docker-{BUILDX}{}", std::env::consts::EXE_SUFFIX)
}

#[cfg(test)]
mod tests;
