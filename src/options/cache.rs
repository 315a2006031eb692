//! `--cache-to` and `--cache-from`: where caches go and where they come from.
//!
//! The form is BuildKit's: comma-separated `key=value` fields with a `type`, or a bare list of
//! references, each of which is `type=registry,ref=REFERENCE`. Keys are case-insensitive. A registry
//! cache is read strictly, as is the one of `--cache`; the other types are passed on, after the checks that buildx's client makes.

mod env;
mod export;
mod import;
mod mounts;
mod scoped;
mod words;

use std::collections::BTreeMap;

use super::csv::{self, KeyValues, Writer};
use super::error::{OptionError, Problem};
use super::{secret_keys, suggest};
use crate::reference::Reference;

pub use export::{CacheTo, KEYS as EXPORT_KEYS, RegistryCacheTo};
pub use import::CacheFrom;
pub use mounts::Mounts;
pub use scoped::{ScopedCache, WriteScope};
pub use words::{Compression, Compressor, Mode, OnFailure, SignAs, Told, Via};

/// The value of one flag, split.
enum Entry {
    /// References only.
    Bare(Vec<String>),
    /// Fields with a type.
    Keyed { kind: String, pairs: KeyValues },
}

impl Entry {
    fn parse(value: &str, types: &[&str]) -> Result<Self, OptionError> {
        if value.is_empty() {
            return Ok(Self::Bare(Vec::new()));
        }
        if !value.contains('=') {
            let fields = csv::fields(value)?;
            return Ok(Self::Bare(
                fields.into_iter().map(|field| field.text).collect(),
            ));
        }
        let mut pairs = KeyValues::parse(value)?.refuse_duplicates()?;
        let kind = pairs.take_required("type")?;
        if !types.contains(&kind.as_str()) {
            return Err(pairs.error(
                OptionError::new(Problem::BadValue {
                    key: "type".to_owned(),
                    value: kind.clone(),
                    expected: types.join(", "),
                })
                .suggest(suggest::closest(&kind, types)),
            ));
        }
        Ok(Self::Keyed { kind, pairs })
    }
}

/// Reads a reference; `key` is what names the folder of a local cache, which may have been meant.
fn reference(raw_ref: &str, key: &str) -> Result<Reference, OptionError> {
    let is_path = ["/", "./", "../", "~"]
        .iter()
        .any(|prefix| raw_ref.starts_with(prefix));
    if is_path || raw_ref == "." || raw_ref == ".." {
        return Err(OptionError::other(format!(
            "{raw_ref:?} is no reference; a folder is named by type=local,{key}={raw_ref}"
        )));
    }
    Ok(Reference::parse_normalized(raw_ref)?)
}

/// Takes the attributes of a backend that BuildKit serves on its own. `folder` is the key that a
/// local cache must have.
fn other_attrs(
    kind: &str,
    mut pairs: KeyValues,
    folder: &'static str,
) -> Result<BTreeMap<String, String>, OptionError> {
    for key in ["sign", "verify"] {
        if pairs.has(key) {
            return Err(pairs.error(OptionError::other(format!(
                "{key} is of caches in registries, and none of type={kind} has a signature"
            ))));
        }
    }
    let mut attrs = BTreeMap::new();
    if let Some(mode) = pairs.take_word("mode", &Mode::WORDS)? {
        attrs.insert("mode".to_owned(), mode.as_str().to_owned());
    }
    if kind == "local" {
        attrs.insert(folder.to_owned(), pairs.take_required(folder)?);
    }
    attrs.extend(pairs.rest().into_iter().map(|pair| (pair.key, pair.value)));
    Ok(attrs)
}

/// Writes a type and its attributes, credentials masked.
fn line(kind: &str, attrs: &BTreeMap<String, String>) -> String {
    let mut writer = Writer::new();
    writer.pair("type", kind);
    for (key, value) in attrs {
        let secret = secret_keys::SECRET_KEYS.contains(&key.as_str());
        writer.pair(key, if secret { "…" } else { value });
    }
    writer.finish()
}

#[cfg(test)]
mod tests;
