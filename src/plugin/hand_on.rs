//! The buildx whose place this program takes: finding it, and becoming it.
//!
//! A process that becomes another keeps its number, its terminal and docker's socket, so that the other one behaves as if
//! docker had called it. Nothing may have been done or said before.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::Metadata;
use super::name::BUILDX;
use crate::child;
use crate::platform::process;

mod ask;

use self::ask::{Answer, ask};

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

/// How long a program may take to say what it is. buildx takes a tenth of a second, and a cold disk some more.
const LIMIT: Duration = Duration::from_secs(5);
/// How long a program that did not answer is not asked again, so that not every command waits for it.
const REST: Duration = Duration::from_secs(60);

/// There may be a program to hand on to, but it does not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} did not say within {} seconds what it is", path.display(), limit.as_secs())]
pub struct Silent {
    /// The program's file.
    pub path: PathBuf,
    limit: Duration,
}

impl Silent {
    /// Returns what the user can do.
    pub fn hint(&self) -> String {
        format!(
            "see what {} docker-cli-plugin-metadata waits for, or remove that file; it is asked again after {} seconds",
            self.path.display(),
            REST.as_secs()
        )
    }
}

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
    /// How long a program may take to answer.
    limit: Duration,
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
    #[serde(flatten)]
    said: Said,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    /// What it is.
    Metadata(Metadata),
    /// Nothing; it is asked again after this time, in seconds since 1970.
    SilentUntil(u64),
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
            limit: LIMIT,
        }
    }

    /// Returns the first candidate that is neither this file nor a copy of this program. A file that does not answer as
    /// a plugin is passed over, as docker does.
    ///
    /// # Errors
    ///
    /// Fails if there is none, but a file that did not answer in time.
    pub fn run(&self) -> Result<Option<Original>, Silent> {
        let mut known = self.remembered();
        let own = same_file::Handle::from_path(&self.own).ok();
        let mut silent = None;
        for path in &self.candidates {
            if own.is_some() && same_file::Handle::from_path(path).ok() == own {
                continue;
            }
            match self.answer(path, &mut known) {
                Answer::Plugin(metadata) if metadata.vendor != Metadata::own().vendor => {
                    return Ok(Some(Original {
                        path: path.clone(),
                        version: metadata.version,
                    }));
                }
                Answer::Plugin(_) | Answer::NotOne => {}
                Answer::Silent => {
                    silent.get_or_insert_with(|| Silent {
                        path: path.clone(),
                        limit: self.limit,
                    });
                }
            }
        }
        silent.map_or(Ok(None), Err)
    }

    fn answer(&self, path: &Path, known: &mut BTreeMap<PathBuf, Remembered>) -> Answer {
        let Some(stamp) = stamp(path) else {
            return Answer::NotOne;
        };
        match known.get(path).filter(|entry| entry.stamp == stamp) {
            Some(Remembered {
                said: Said::Metadata(metadata),
                ..
            }) => return Answer::Plugin(metadata.clone()),
            Some(Remembered {
                said: Said::SilentUntil(time),
                ..
            }) if is_ahead(*time) => return Answer::Silent,
            _ => {}
        }
        let answer = ask(path, self.limit);
        let said = match &answer {
            Answer::Plugin(metadata) => Said::Metadata(metadata.clone()),
            Answer::Silent => Said::SilentUntil(since_1970(SystemTime::now() + REST).as_secs()),
            Answer::NotOne => return answer,
        };
        known.retain(|path, _| path.exists());
        known.insert(path.to_owned(), Remembered { stamp, said });
        if let Err(error) = self.remember(known) {
            tracing::debug!(%error, "what buildx says of itself is not remembered");
        }
        answer
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

/// Returns whether a time, in seconds since 1970, is still to come, and no further away than it can have been set.
fn is_ahead(time: u64) -> bool {
    let now = since_1970(SystemTime::now()).as_secs();
    (now..=now + REST.as_secs()).contains(&time)
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl Original {
    /// Becomes the program; returns only if that fails.
    pub fn become_it(&self, args: &[OsString]) -> io::Error {
        process::become_program(child::std_command(&self.path).args(args).env(GUARD, "1"))
    }
}

#[cfg(test)]
mod tests;
