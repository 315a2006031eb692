//! The buildx whose place this program takes: finding it, and becoming it.
//!
//! A process that becomes another keeps its number, its terminal and docker's socket, so that the other one behaves as if
//! docker had called it. Nothing may have been done or said before.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::name::BUILDX;
use super::{METADATA_COMMAND, Metadata};
use crate::child;
use crate::platform::process;

/// Set in the environment of the one that is become, and of one that is asked who it is: whoever finds it set hands
/// nothing on. So a file that leads back here ends in an error, never in a loop.
pub const GUARD: &str = "CACHEX_HANDED_ON";

/// The buildx whose flags and commands this program has; its version is told where there is no other.
pub const COVERED_VERSION: &str = "v0.36.1";

/// Folders that docker looks for plugins in after those of the user.
const SYSTEM_DIRS: [&str; 4] = [
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
];

/// The program that is handed on to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Original {
    /// Its file.
    pub path: PathBuf,
    /// Its version, as it tells docker.
    pub version: String,
}

/// Where to look, and what is known already.
#[derive(Debug)]
pub struct Search {
    /// This program's file.
    own: PathBuf,
    /// Files that may be the other program, best first.
    candidates: Vec<PathBuf>,
    /// What was answered before.
    memory: PathBuf,
}

/// A file as it was when it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    size: u64,
    /// Since 1970.
    modified_ns: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Remembered {
    #[serde(flatten)]
    stamp: Stamp,
    metadata: Metadata,
}

impl Search {
    /// Looks for the plugin where docker does: the folders that the configuration names, the one beside the
    /// configuration, those of the system. `memory` is a file for answers, which is written where it can be.
    pub fn plugin(own: &Path, extra_dirs: &[String], config_dir: &Path, memory: &Path) -> Self {
        let file = format!("docker-{BUILDX}{}", std::env::consts::EXE_SUFFIX);
        let extra = extra_dirs.iter().map(PathBuf::from);
        let user = config_dir.join("cli-plugins");
        let system = SYSTEM_DIRS.iter().map(PathBuf::from);
        let dirs = extra.chain([user]).chain(system);
        Self::new(own, dirs.map(|dir| dir.join(&file)).collect(), memory)
    }

    /// Looks for the stand-alone program in the folders of `PATH`.
    pub fn stand_alone(own: &Path, search_path: &OsStr, memory: &Path) -> Self {
        let file = format!("{BUILDX}{}", std::env::consts::EXE_SUFFIX);
        let dirs = std::env::split_paths(search_path);
        Self::new(own, dirs.map(|dir| dir.join(&file)).collect(), memory)
    }

    fn new(own: &Path, candidates: Vec<PathBuf>, memory: &Path) -> Self {
        Self {
            own: own.to_owned(),
            candidates,
            memory: memory.to_owned(),
        }
    }

    /// Returns the first candidate that is neither this file nor a copy of this program. A file that does not answer as
    /// a plugin is passed over, as docker does.
    pub fn run(&self) -> Option<Original> {
        let remembered = self.remembered();
        let own = same_file::Handle::from_path(&self.own).ok();
        self.candidates.iter().find_map(|path| {
            if own.is_some() && same_file::Handle::from_path(path).ok() == own {
                return None;
            }
            let metadata = self.metadata(path, &remembered)?;
            let is_own = metadata.vendor == Metadata::own().vendor;
            (!is_own).then(|| Original {
                path: path.clone(),
                version: metadata.version,
            })
        })
    }

    fn metadata(&self, path: &Path, known: &BTreeMap<PathBuf, Remembered>) -> Option<Metadata> {
        let stamp = stamp(path)?;
        if let Some(entry) = known.get(path)
            && entry.stamp == stamp
        {
            return Some(entry.metadata.clone());
        }
        let metadata = ask(path)?;
        let mut all = known.clone();
        all.retain(|path, _| path.exists());
        let entry = Remembered {
            stamp,
            metadata: metadata.clone(),
        };
        all.insert(path.to_owned(), entry);
        if let Err(error) = self.remember(&all) {
            tracing::debug!(%error, "what buildx says of itself is not remembered");
        }
        Some(metadata)
    }

    /// Reads what was answered before. A file that is not there or broken is empty: then the programs are asked again.
    fn remembered(&self) -> BTreeMap<PathBuf, Remembered> {
        let text = fs_err::read(&self.memory).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    fn remember(&self, all: &BTreeMap<PathBuf, Remembered>) -> io::Result<()> {
        let dir = self.memory.parent().ok_or(io::ErrorKind::NotFound)?;
        fs_err::create_dir_all(dir)?;
        let file = tempfile::NamedTempFile::new_in(dir)?;
        serde_json::to_writer(&file, all)?;
        file.persist(&self.memory)?;
        Ok(())
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs_err::metadata(path)
        .ok()
        .filter(std::fs::Metadata::is_file)?;
    let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(Stamp {
        size: metadata.len(),
        modified_ns: u64::try_from(modified.as_nanos()).ok()?,
    })
}

/// Asks a program what it is, in docker's words.
fn ask(path: &Path) -> Option<Metadata> {
    let output = child::std_command(path)
        .arg(METADATA_COMMAND)
        .env(GUARD, "1")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let metadata: Metadata = serde_json::from_slice(&output.stdout).ok()?;
    (output.status.success() && !metadata.vendor.is_empty()).then_some(metadata)
}

impl Original {
    /// Becomes the program; returns only if that fails.
    pub fn become_it(&self, args: &[OsString]) -> io::Error {
        process::become_program(child::std_command(&self.path).args(args).env(GUARD, "1"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        /// A plugin in a folder that answers with this metadata, and notes that it was asked.
        fn plugin(&self, dir: &str, metadata: &str) {
            fs_err::create_dir_all(self.path(dir)).unwrap();
            let script = format!(
                "#!/bin/sh\necho \"$0 $1 ${GUARD}\" >> {}\necho '{metadata}'\n",
                self.path("asked").display()
            );
            let file = self.path(dir).join("docker-buildx");
            fs_err::write(&file, script).unwrap();
            fs_err::set_permissions(file, Permissions::from_mode(0o755)).unwrap();
        }

        fn asked(&self) -> usize {
            let text = fs_err::read_to_string(self.path("asked")).unwrap_or_default();
            assert!(
                text.lines()
                    .all(|line| line.ends_with(" docker-cli-plugin-metadata 1"))
            );
            text.lines().count()
        }

        fn find(&self, dirs: &[&str]) -> Option<Original> {
            let dirs: Vec<String> = dirs
                .iter()
                .map(|dir| self.path(dir).display().to_string())
                .collect();
            let (own, memory) = (self.path("own"), self.path("memory/x.json"));
            Search::plugin(&own, &dirs, &self.path("config"), &memory).run()
        }
    }

    fn real(version: &str) -> String {
        format!(r#"{{"SchemaVersion":"0.1.0","Vendor":"Docker Inc.","Version":"{version}"}}"#)
    }

    #[test]
    fn the_first_other_program_is_found() {
        let machine = Machine::new();
        let own = Metadata::own();
        fs_err::write(machine.path("own"), "").unwrap();
        fs_err::create_dir(machine.path("a")).unwrap();
        symlink(machine.path("own"), machine.path("a/docker-buildx")).unwrap();
        machine.plugin("b", &serde_json::to_string(&own).unwrap());
        machine.plugin("c", "not a plugin");
        machine.plugin("d", &real(""));
        machine.plugin("config/cli-plugins", &real("v0.29.1"));
        let dirs = ["a", "none", "b", "c"];
        let found = machine.find(&dirs).unwrap();
        assert_eq!(found.path, machine.path("config/cli-plugins/docker-buildx"));
        assert_eq!(found.version, "v0.29.1");
        assert_eq!(machine.find(&["a", "d"]).unwrap().version, "");
        fs_err::remove_dir_all(machine.path("config")).unwrap();
        let found = machine.find(&dirs);
        let on_this_machine = |found: &Original| found.path.starts_with("/usr");
        assert!(found.as_ref().is_none_or(on_this_machine), "{found:?}");
    }

    #[test]
    fn a_program_is_asked_once_and_again_when_it_changes() {
        let machine = Machine::new();
        machine.plugin("a", &real("v1"));
        for _ in 0..3 {
            assert_eq!(machine.find(&["a"]).unwrap().version, "v1");
        }
        assert_eq!(machine.asked(), 1);
        machine.plugin("a", &real("v1.2"));
        assert_eq!(machine.find(&["a"]).unwrap().version, "v1.2");
        assert_eq!(machine.asked(), 2);
        fs_err::write(machine.path("memory/x.json"), "broken").unwrap();
        assert_eq!(machine.find(&["a"]).unwrap().version, "v1.2");
        assert_eq!(machine.asked(), 3);
    }

    #[test]
    fn what_cannot_be_remembered_is_asked_each_time() {
        let machine = Machine::new();
        machine.plugin("a", &real("v1"));
        fs_err::write(machine.path("memory"), "a file in the folder's place").unwrap();
        for asked in 1..3 {
            assert_eq!(machine.find(&["a"]).unwrap().version, "v1");
            assert_eq!(machine.asked(), asked);
        }
    }

    #[test]
    fn the_stand_alone_program_is_looked_for_in_the_path() {
        let machine = Machine::new();
        machine.plugin("bin", &real("v2"));
        fs_err::rename(
            machine.path("bin/docker-buildx"),
            machine.path("bin/buildx"),
        )
        .unwrap();
        let path = std::env::join_paths([machine.path("x"), machine.path("bin")]).unwrap();
        let memory = machine.path("m");
        let found = Search::stand_alone(&machine.path("own"), &path, &memory).run();
        assert_eq!(found.unwrap().path, machine.path("bin/buildx"));
    }

    #[test]
    fn a_program_that_cannot_be_run_is_an_error() {
        let machine = Machine::new();
        let original = Original {
            path: machine.path("none"),
            version: String::new(),
        };
        let error = original.become_it(&[]);
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
