//! Layers that a registry has lost, and a cache without them.

use std::collections::HashSet;

use super::ImportError;
use crate::cache::manifest::{CacheManifest, ManifestError};
use crate::digest::Digest;
use crate::registry::{RawManifest, RegistryError, Repository};

/// Asks the registry for every layer of a cache and returns those that are gone. A layer that is there
/// may still hold something else than it should; only who reads it learns that.
///
/// # Errors
///
/// Fails if the registry does not answer, or refuses.
pub async fn lost_layers(
    repository: &Repository,
    manifest: &CacheManifest,
) -> Result<HashSet<Digest>, RegistryError> {
    let layers = manifest.layers.iter().map(|layer| layer.digest.clone());
    let layers: HashSet<Digest> = layers.collect();
    repository.missing_blobs(layers).await
}

/// Returns the manifest of a cache without some of its layers. Its config stays as it is: BuildKit
/// leaves out each result that needs a layer which the manifest does not list, and keeps the keys that
/// lead to those above it (BuildKit `cache/remotecache/v1/parse.go`).
///
/// `None` if no layer is left, or where it is an image with an inline cache, whose layers are
/// counted.
///
/// # Errors
///
/// Fails if the manifest cannot be read or written.
pub fn without(raw: &RawManifest, lost: &[Digest]) -> Result<Option<RawManifest>, ImportError> {
    let mut manifest = CacheManifest::parse(&raw.bytes, &raw.media_type)?;
    manifest
        .layers
        .retain(|layer| !lost.contains(&layer.digest));
    if manifest.layers.is_empty() || !manifest.is_cache() {
        return Ok(None);
    }
    let bytes = manifest.to_bytes().map_err(ManifestError::Json)?;
    Ok(Some(RawManifest {
        digest: Digest::of(&bytes),
        bytes: bytes.into(),
        media_type: raw.media_type.clone(),
    }))
}
