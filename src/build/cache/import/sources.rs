//! Where the caches of a build are read from.

use std::collections::BTreeMap;

use crate::build::cache::error::{CacheError, local_tag};
use crate::buildkit::solve::Entry;
use crate::digest::Digest;
use crate::options::cache::{CacheFrom, Mounts, Via};
use crate::options::signing::Verification;
use crate::reference::{DEFAULT_TAG, Reference};

/// Where one cache is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheImport {
    /// No registry and no folder; BuildKit reads it by itself.
    Builder(Entry),
    /// A layout folder, read through the session.
    Layout(LayoutImport),
    /// A registry, read by BuildKit itself as the entry says.
    Registry(RegistrySource, Entry),
    /// A registry, read by this program and served through the session.
    Client(RegistrySource),
}

/// A registry's cache to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrySource {
    /// Where from.
    pub reference: Reference,
    /// The reference as the user wrote it.
    pub raw_ref: String,
    /// Plain HTTP, or HTTPS with any certificate.
    pub insecure: bool,
    /// Whether it must be signed, and how.
    pub verification: Verification,
    /// Which cache mounts are taken out of it.
    pub mounts: Mounts,
    /// The image that carries them where no image of a step can.
    pub mounts_helper: Option<Reference>,
}

impl RegistrySource {
    /// Returns what the reference names in its repository: the digest, else the tag.
    pub fn named(&self) -> &str {
        let tag = self.reference.tag.as_deref().unwrap_or(DEFAULT_TAG);
        self.reference.digest.as_deref().unwrap_or(tag)
    }
}

/// A cache that is read from a layout folder (`type=local`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutImport {
    /// The folder as the user wrote it.
    pub src: String,
    /// The tag in the folder's index.
    pub tag: String,
    /// The manifest, where the user named it; the tag does not count then.
    pub digest: Option<Digest>,
    /// What BuildKit is told, but for the digest.
    pub attrs: BTreeMap<String, String>,
}

/// Returns where the caches are read from.
///
/// # Errors
///
/// Fails if a value of a local cache is wrong.
pub fn imports(caches: &[CacheFrom]) -> Result<Vec<CacheImport>, CacheError> {
    caches
        .iter()
        .map(|cache| match cache {
            CacheFrom::Registry {
                reference,
                raw_ref,
                insecure,
                via,
                verification,
                mounts,
                mounts_helper,
            } => {
                let source = RegistrySource {
                    reference: reference.clone(),
                    raw_ref: raw_ref.clone(),
                    insecure: *insecure == Some(true),
                    verification: verification.clone(),
                    mounts: mounts.clone(),
                    mounts_helper: mounts_helper.as_deref().cloned(),
                };
                Ok(match via {
                    Via::Client => CacheImport::Client(source),
                    Via::Auto | Via::Builder => CacheImport::Registry(source, entry_of(cache)),
                })
            }
            CacheFrom::Other { kind, attrs } if kind == "local" => {
                layout_import(attrs).map(CacheImport::Layout)
            }
            CacheFrom::Other { .. } => Ok(CacheImport::Builder(entry_of(cache))),
        })
        .collect()
}

fn entry_of(cache: &CacheFrom) -> Entry {
    Entry {
        kind: cache.kind().to_owned(),
        attrs: cache.attrs(),
    }
}

fn layout_import(attrs: &BTreeMap<String, String>) -> Result<LayoutImport, CacheError> {
    let digest = attrs.get("digest").filter(|digest| !digest.is_empty());
    let digest = digest.map(|text| {
        text.parse().map_err(|_| CacheError::Local {
            key: "digest",
            value: text.clone(),
        })
    });
    Ok(LayoutImport {
        src: attrs.get("src").cloned().unwrap_or_default(),
        tag: local_tag(attrs)?,
        digest: digest.transpose()?,
        attrs: attrs.clone(),
    })
}
