//! Public keys of files and the environment.

use std::path::Path;

use zeroize::Zeroizing;

use super::file::{read, read_named_by};
use super::file_of;
use crate::cache::sign::key::PublicKey;
use crate::cache::sign::trust::NamedKey;
use crate::env::Env;
use crate::error::CommandError;
use crate::options::signing::KeyPlace;

/// What is in a variable that has a key and not the path of one.
pub(super) const PEM: &str = "-----BEGIN";

/// Reads public keys.
///
/// # Errors
///
/// Fails if there are none.
pub(in crate::cli) fn public_keys(
    place: &KeyPlace,
    env: &Env,
) -> Result<Vec<NamedKey>, CommandError> {
    match place {
        KeyPlace::File(path) => public_file(&env.current_dir().join(path)),
        KeyPlace::Env(name) => match env.non_empty(name).map(str::trim) {
            None | Some("") => Err(CommandError::failed(format!(
                "cannot read the key to verify with: the variable {name} is not set"
            ))),
            Some(text) if text.contains(PEM) => public_text(text, name, name),
            Some(path) => {
                let path = file_of(path).map_err(|error| {
                    CommandError::failed(format!(
                        "cannot read the key to verify with, {place}: {error}"
                    ))
                })?;
                file_in(name, &env.current_dir().join(path))
            }
        },
    }
}

/// Reads the public keys of a file whose path is in the value of a variable: no error shows it.
pub(super) fn file_in(variable: &str, path: &Path) -> Result<Vec<NamedKey>, CommandError> {
    keys_of(read_named_by(variable, path), path, variable)
}

/// Reads the public keys of a file.
pub(super) fn public_file(path: &Path) -> Result<Vec<NamedKey>, CommandError> {
    keys_of(read(path), path, &path.display().to_string())
}

/// Reads the public keys of what a file holds, if that could be read; `shown` is what errors call it.
fn keys_of(
    text: std::io::Result<Zeroizing<String>>,
    path: &Path,
    shown: &str,
) -> Result<Vec<NamedKey>, CommandError> {
    let text = text.map_err(|error| {
        CommandError::failed(format!("cannot read the key to verify with: {error}"))
    })?;
    let name = path.file_name().map(|name| name.to_string_lossy());
    public_text(&text, &name.unwrap_or_default(), shown)
}

/// Reads the public keys of a text with a name for people; `shown` is where it is from.
pub(super) fn public_text(
    text: &str,
    name: &str,
    shown: &str,
) -> Result<Vec<NamedKey>, CommandError> {
    let keys = PublicKey::parse_all(text).map_err(|error| {
        CommandError::failed(format!(
            "cannot read the key to verify with, {shown}: {error}"
        ))
    })?;
    let named = keys.into_iter().map(|key| NamedKey::new(name, key));
    Ok(named.collect())
}
