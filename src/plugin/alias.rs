//! The alias: `docker buildx` is answered by this program.
//!
//! Docker looks for plugins first in the folders that `cliPluginsExtraDirs` of its configuration names. So a folder of our
//! own, at the head of that list, holds a link named `docker-buildx`. The file `~/.docker/cli-plugins/docker-buildx` is left
//! alone: others write it, and with Docker Desktop it comes behind a folder of Desktop's.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

mod member;

use self::member::{Before, MemberError};
use super::name::BUILDX;
use crate::platform::files;

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
    /// The folder's path is not text, so that it cannot stand in the configuration.
    #[error("the path {} is not UTF-8", .0.display())]
    Path(PathBuf),
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
}

/// The alias of a configuration folder.
#[derive(Debug)]
pub struct Alias {
    /// `cachex` in docker's folder.
    home: PathBuf,
    config: PathBuf,
}

impl Alias {
    /// Takes docker's configuration folder, whose path must be absolute, and the file in it.
    pub fn new(config_dir: &Path, config_file: &Path) -> Self {
        Self {
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
        let dir = self.dir_text()?;
        let old = self.read()?;
        let text = old.clone().unwrap_or_default();
        let entries = member::entries(&text).map_err(|source| self.broken(source))?;
        let linked = self.link(program)?;
        if entries.first() == Some(&dir) {
            return Ok(linked);
        }
        // Where the folder stands behind others it is put in anew.
        let listed = entries.contains(&dir);
        let before = if listed { Before::List } else { Before::NoList };
        let text = member::remove(&text, &dir, before).map_err(|source| self.broken(source))?;
        let text = text.unwrap_or_default();
        let (new, before) = member::insert(&text, &dir).map_err(|source| self.broken(source))?;
        if !listed {
            let blank = old.filter(|_| before == Before::Nothing);
            let note = serde_json::to_vec(&Note { before, blank }).map_err(io::Error::from)?;
            fs_err::write(self.note_path(), note)?;
        }
        self.write(&new)?;
        Ok(true)
    }

    /// Switches it off: docker's configuration is as it was before. Returns whether anything has changed.
    ///
    /// # Errors
    ///
    /// Fails as [`on`](Self::on).
    pub fn off(&self) -> Result<bool, AliasError> {
        let dir = self.dir_text()?;
        let note: Option<Note> = fs_err::read(self.note_path())
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        let before = note.as_ref().map_or(Before::NoList, |note| note.before);
        let mut changed = false;
        if let Some(old) = self.read()? {
            let new = member::remove(&old, &dir, before).map_err(|source| self.broken(source))?;
            let new = new.or_else(|| note.and_then(|note| note.blank));
            changed = new.as_ref() != Some(&old);
            match new {
                Some(new) if changed => self.write(&new)?,
                Some(_) => {}
                None => fs_err::remove_file(&self.config)?,
            }
        }
        changed |= self.home.join("cli-plugins").exists();
        self.remove_files()?;
        Ok(changed)
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
        let Some(at) = entries.iter().position(|entry| *entry == dir) else {
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
        match fs_err::read_to_string(&self.config) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the configuration beside the old one and renames it. A link stays one; mode and owner stay as they are. A
    /// new file is the user's alone, as docker makes it.
    fn write(&self, text: &str) -> io::Result<()> {
        let path = fs_err::canonicalize(&self.config).unwrap_or_else(|_| self.config.clone());
        let dir = path.parent().ok_or(io::ErrorKind::NotFound)?;
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        io::Write::write_all(&mut file, text.as_bytes())?;
        if let Ok(old) = fs_err::metadata(&path) {
            file.as_file().set_permissions(old.permissions())?;
            keep_owner(file.path(), &old)?;
        }
        file.as_file().sync_all()?;
        file.persist(&path)?;
        Ok(())
    }

    /// Removes what this program keeps in docker's folder for the alias.
    fn remove_files(&self) -> io::Result<()> {
        let is_gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        for path in [self.link_path(), self.note_path(), memory_in(&self.home)] {
            match fs_err::remove_file(path) {
                Err(error) if !is_gone(&error) => return Err(error),
                _ => {}
            }
        }
        // A folder that holds something else stays.
        for dir in [self.home.join("cli-plugins"), self.home.clone()] {
            if let Err(error) = fs_err::remove_dir(dir) {
                tracing::debug!(%error, "a folder of the alias stays");
            }
        }
        Ok(())
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

fn keep_owner(path: &Path, old: &std::fs::Metadata) -> io::Result<()> {
    let owner = files::owner(old);
    if files::owner(&fs_err::metadata(path)?) == owner {
        return Ok(());
    }
    files::give(path, owner)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    struct Home(tempfile::TempDir);

    impl Home {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn alias(&self) -> Alias {
            Alias::new(self.0.path(), &self.path("config.json"))
        }

        fn program(&self) -> PathBuf {
            let program = self.path("docker-cachex");
            fs_err::write(&program, "").unwrap();
            program
        }

        /// All that is there, with the text of the configuration.
        fn seen(&self) -> (Vec<PathBuf>, Option<String>) {
            let mut all: Vec<_> = fs_err::read_dir(self.0.path())
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            all.sort();
            (all, fs_err::read_to_string(self.path("config.json")).ok())
        }
    }

    #[test]
    fn off_takes_back_what_on_has_done() {
        for config in [
            None,
            Some(""),
            Some("\n"),
            Some("{}"),
            Some("{\n\t\"auths\": {}\n}"),
        ] {
            let home = Home::new();
            let program = home.program();
            if let Some(config) = config {
                fs_err::write(home.path("config.json"), config).unwrap();
            }
            let before = home.seen();
            let alias = home.alias();
            assert_eq!(alias.status().unwrap(), Status::Off);
            assert!(alias.on(&program).unwrap());
            assert!(!alias.on(&program).unwrap());
            assert_eq!(
                alias.status().unwrap(),
                Status::On(program.canonicalize().unwrap())
            );
            fs_err::write(memory(home.0.path()), "{}").unwrap();
            assert!(alias.off().unwrap());
            assert_eq!(home.seen(), before, "{config:?}");
            assert!(!alias.off().unwrap());
            assert_eq!(home.seen(), before, "{config:?}");
        }
    }

    #[test]
    fn mode_and_link_of_the_configuration_stay() {
        let home = Home::new();
        let program = home.program();
        let real = home.path("dotfiles.json");
        fs_err::write(&real, "{\"a\":1}").unwrap();
        fs_err::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
        symlink("dotfiles.json", home.path("config.json")).unwrap();
        home.alias().on(&program).unwrap();
        assert!(
            fs_err::read_to_string(&real)
                .unwrap()
                .contains("cachex/cli-plugins")
        );
        assert!(home.path("config.json").is_symlink());
        assert_eq!(
            fs_err::metadata(&real).unwrap().permissions().mode() & 0o777,
            0o640
        );
        home.alias().off().unwrap();
        assert_eq!(fs_err::read_to_string(&real).unwrap(), "{\"a\":1}");
        fs_err::remove_file(home.path("config.json")).unwrap();
        home.alias().on(&program).unwrap();
        let mode = fs_err::metadata(home.path("config.json"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_broken_configuration_is_left_alone() {
        let home = Home::new();
        let program = home.program();
        fs_err::write(home.path("config.json"), "{\"auths\":").unwrap();
        let before = home.seen();
        let error = home.alias().on(&program).unwrap_err();
        assert!(crate::error::chain(&error).contains("config.json is not changed: it is not JSON"));
        assert_eq!(home.seen(), before);
    }

    #[test]
    fn the_folder_comes_before_others_and_a_lost_link_is_seen() {
        let home = Home::new();
        let program = home.program();
        let alias = home.alias();
        alias.on(&program).unwrap();
        let other = home.path("other");
        fs_err::create_dir(&other).unwrap();
        fs_err::write(other.join("docker-buildx"), "").unwrap();
        let own = alias.dir_text().unwrap();
        let list = serde_json::json!({"cliPluginsExtraDirs": [other, own]}).to_string();
        fs_err::write(home.path("config.json"), &list).unwrap();
        assert_eq!(
            alias.status().unwrap(),
            Status::Behind(other.join("docker-buildx"))
        );
        assert!(alias.on(&program).unwrap());
        assert!(matches!(alias.status().unwrap(), Status::On(_)));
        alias.off().unwrap();
        let left = serde_json::json!({"cliPluginsExtraDirs": [other]}).to_string();
        assert_eq!(home.seen().1, Some(left));
        alias.on(&program).unwrap();
        fs_err::remove_file(&program).unwrap();
        assert_eq!(alias.status().unwrap(), Status::Broken);
    }
}
