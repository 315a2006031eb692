//! Repositories whose registry does not take the record of a build.
//!
//! Where BuildKit writes a cache, the record is added by a second manifest, and a registry that refuses it would be asked
//! again in each build. What it said is kept in a file of the user's cache folder: the manifest that BuildKit writes has no
//! place for it.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

/// The file, below the user's cache folder.
const FILE: &str = "docker-cachex/no-record.json";
/// How long a registry is not asked again.
const PATIENCE: SignedDuration = SignedDuration::from_hours(30 * 24);
/// How many repositories are kept: the youngest.
const MOST: usize = 100;
/// How many bytes of the file are read.
const MAX_SIZE: u64 = 64 << 10;

/// The repositories, by name with the registry, and when each was refused, in seconds since 1970.
type Known = BTreeMap<String, i64>;

/// What registries have refused. Nothing fails where the file cannot be read or written: then they are asked again.
#[derive(Debug, Clone, Default)]
pub struct Refusals {
    file: Option<PathBuf>,
}

impl Refusals {
    /// Keeps them below the user's cache folder; nowhere, where there is none.
    pub fn new(cache_dir: Option<&Path>) -> Self {
        Self {
            file: cache_dir.map(|dir| dir.join(FILE)),
        }
    }

    /// Returns whether the registry of a repository, such as `ghcr.io/acme/app`, has refused not long ago.
    pub fn has(&self, repository: &str, now: Timestamp) -> bool {
        let known = self.file.as_deref().map(read).unwrap_or_default();
        known.get(repository).is_some_and(|at| is_recent(*at, now))
    }

    /// Notes that the registry of a repository has refused.
    pub fn note(&self, repository: &str, now: Timestamp) {
        let Some(file) = &self.file else { return };
        let mut known: Vec<(String, i64)> = read(file).into_iter().collect();
        known.retain(|(name, at)| name != repository && is_recent(*at, now));
        known.push((repository.to_owned(), now.as_second()));
        known.sort_by_key(|(_, at)| *at);
        let old = known.len().saturating_sub(MOST);
        if let Err(error) = write(file, &known.into_iter().skip(old).collect()) {
            tracing::debug!(%error, "a refusal of a registry is not kept");
        }
    }
}

fn is_recent(at: i64, now: Timestamp) -> bool {
    // One of the future is of a clock that was wrong.
    let age = now.as_second().checked_sub(at);
    age.is_some_and(|age| (0..PATIENCE.as_secs()).contains(&age))
}

fn read(file: &Path) -> Known {
    let read = || -> io::Result<Known> {
        let mut text = String::new();
        let file = fs_err::File::open(file)?;
        file.take(MAX_SIZE).read_to_string(&mut text)?;
        Ok(serde_json::from_str(&text)?)
    };
    match read() {
        Ok(known) => known,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Known::new(),
        Err(error) => {
            tracing::debug!(%error, "what registries refused is not known");
            Known::new()
        }
    }
}

/// Writes the file in one go: another build may read it.
fn write(file: &Path, known: &Known) -> io::Result<()> {
    let dir = file.parent().unwrap_or(Path::new("."));
    fs_err::create_dir_all(dir)?;
    let mut new = tempfile::NamedTempFile::new_in(dir)?;
    new.write_all(&serde_json::to_vec(known)?)?;
    new.persist(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(days: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + days * 24 * 3600).unwrap()
    }

    #[test]
    fn a_refusal_is_kept_for_a_month() {
        let dir = tempfile::tempdir().unwrap();
        let refusals = Refusals::new(Some(dir.path()));
        assert!(!refusals.has("r.io/a", at(0)));
        refusals.note("r.io/a", at(0));
        let others = Refusals::new(Some(dir.path()));
        assert!(others.has("r.io/a", at(29)) && !others.has("r.io/b", at(1)));
        assert!(!others.has("r.io/a", at(31)) && !others.has("r.io/a", at(-1)));
    }

    #[test]
    fn the_youngest_are_kept_and_nonsense_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let refusals = Refusals::new(Some(dir.path()));
        fs_err::create_dir_all(dir.path().join("docker-cachex")).unwrap();
        fs_err::write(dir.path().join(FILE), "no JSON").unwrap();
        assert!(!refusals.has("r.io/a", at(0)));
        for n in 0..=100 {
            let minutes = SignedDuration::from_mins(n);
            refusals.note(&format!("r.io/{n}"), at(0) + minutes);
        }
        assert!(!refusals.has("r.io/0", at(1)) && refusals.has("r.io/1", at(1)));
        let nowhere = Refusals::default();
        nowhere.note("r.io/a", at(0));
        assert!(!nowhere.has("r.io/a", at(0)));
    }
}
