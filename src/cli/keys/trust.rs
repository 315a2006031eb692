//! Which keys count where the options name none: the trust file, or a variable.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::file::read;
use super::public::{PEM, file_in, public_file, public_keys, public_text};
use crate::cache::sign::trust::{NamedKey, Trust, TrustError};
use crate::env::{self, Env};
use crate::error::{CommandError, chain};
use crate::options::signing::KeyPlace;

/// Where a repository says which keys count.
pub(super) const TRUST_FILE: &str = ".cachex/trust.toml";

/// Returns which keys count where the options name none: by `--trust`, else by the trust file of the repository that a
/// folder lies in, else by `CACHEX_VERIFY_KEYS`; `None` where nothing says so. The last also counts with `own` keys, with
/// which this command signs.
///
/// # Errors
///
/// Fails if a file or a key cannot be read.
pub(in crate::cli) fn trust(
    file: Option<&str>,
    folder: Option<&Path>,
    mut own: Vec<NamedKey>,
    env: &Env,
) -> Result<Option<Trust>, CommandError> {
    let file = match (file, folder) {
        (Some(file), _) => Some(env.current_dir().join(file)),
        (None, Some(folder)) => trust_file(folder)?,
        (None, None) => None,
    };
    if let Some(file) = file {
        return read_trust(&file).map(Some);
    }
    if let Some(text) = env.non_empty(env::CACHEX_VERIFY_KEYS).map(str::trim) {
        let name = env::CACHEX_VERIFY_KEYS;
        if text.contains(PEM) {
            own.extend(public_text(text, name, name)?);
        } else {
            let places = KeyPlace::parse_list(text);
            let places =
                places.map_err(|e| CommandError::failed(format!("invalid {name}: {e}")))?;
            for place in places {
                own.extend(match &place {
                    KeyPlace::File(path) => file_in(name, &env.current_dir().join(path))?,
                    KeyPlace::Env(_) => public_keys(&place, env)?,
                });
            }
        }
    }
    Ok((!own.is_empty()).then(|| Trust::of(own)))
}

/// Returns whether a variable or the trust file of a folder's repository asks for caches to be verified, be it one that cannot
/// be read.
pub(in crate::cli) fn is_asked_for(folder: &Path, env: &Env) -> bool {
    env.non_empty(env::CACHEX_VERIFY_KEYS).is_some() || !matches!(trust_file(folder), Ok(None))
}

/// Finds the trust file of the repository that a folder lies in. Whatever has its name is one: what cannot be read must
/// not count as absent, since then caches would be read unverified.
///
/// # Errors
///
/// Fails if it cannot be told whether there is one.
fn trust_file(folder: &Path) -> Result<Option<PathBuf>, CommandError> {
    let failed = |error: std::io::Error| {
        CommandError::failed(format!("cannot look for {TRUST_FILE}: {error}"))
    };
    // Its true place: `..` and links lead elsewhere than their text says.
    let folder = fs::canonicalize(folder).map_err(failed)?;
    for folder in folder.ancestors() {
        let file = folder.join(TRUST_FILE);
        if is_there(&file).map_err(failed)? {
            return Ok(Some(file));
        }
        if is_there(&folder.join(".git")).map_err(failed)? {
            break;
        }
    }
    Ok(None)
}

/// Returns whether there is anything at a path, be it a link that leads nowhere, or one on the way to it.
fn is_there(path: &Path) -> std::io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let folder = path.parent().unwrap_or(path);
            let is_link = fs::symlink_metadata(folder).is_ok_and(|found| found.is_symlink());
            Ok(is_link && fs::metadata(folder).is_err())
        }
        Err(error) => Err(error),
    }
}

fn read_trust(path: &Path) -> Result<Trust, CommandError> {
    let failed = |error: &dyn std::fmt::Display| {
        CommandError::failed(format!("trust file {}: {error}", path.display()))
    };
    let text = read(path).map_err(|error| failed(&error))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let parsed = Trust::parse(&text, |file| {
        public_file(&folder.join(file)).map_err(TrustFailure::Key)
    });
    parsed.map_err(|error| match error {
        TrustFailure::File(error) => failed(&chain(&error)),
        TrustFailure::Key(error) => failed(&error),
    })
}

enum TrustFailure {
    File(TrustError),
    Key(CommandError),
}

impl From<TrustError> for TrustFailure {
    fn from(error: TrustError) -> Self {
        Self::File(error)
    }
}
