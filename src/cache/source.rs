//! A cache that is looked at: read from a registry or from a layout folder, never held whole.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::budget::{Budget, TooMuch};
use super::config::{CacheConfig, CacheLayer, CacheRecord, ConfigError, Parent};
use super::descriptor::{CREATED_AT, Descriptor, UNCOMPRESSED};
use super::layout::{Layout, LayoutError};
use super::manifest::{CacheManifest, ManifestError};
use super::unknown::{Unknown, null_is_empty};
use crate::digest::Digest;
use crate::registry::{RawManifest, RegistryError, Repository};

/// Annotation of a layer: the step that made it (BuildKit).
pub const DESCRIPTION: &str = "buildkit/description";
/// How deep indexes are followed.
const MAX_DEPTH: usize = 4;
/// Images of one index that are looked at.
const MAX_IMAGES: usize = 256;

/// Why a cache cannot be looked at.
#[derive(Debug, Error)]
pub enum SourceError {
    /// There is nothing under that name.
    #[error("not found")]
    NotFound,
    /// What is there is an image without a cache, or something else.
    #[error("{0} holds no build cache")]
    NoCache(&'static str),
    /// The registry does not answer, or refuses.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The folder cannot be read.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The config cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The config of an image cannot be read.
    #[error("the config of the image is not valid")]
    ImageConfig(#[from] serde_json::Error),
    /// The images of an index are more than is read.
    #[error("an image of the index {0}")]
    TooMuch(#[from] TooMuch),
    /// A blob is larger than is read at once.
    #[error(
        "blob {digest} has {size} bytes, more than the {limit} that are read",
        limit = CacheConfig::MAX_BYTES
    )]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
    },
    /// A blob that a manifest names is not there.
    #[error("{0}, which the cache refers to, is gone")]
    Gone(Digest),
}

impl SourceError {
    /// Returns whether there is nothing under that name.
    pub fn is_missing(&self) -> bool {
        match self {
            Self::NotFound => true,
            Self::Layout(error) => error.is_missing(),
            _ => false,
        }
    }
}

/// Where a cache is.
#[derive(Debug)]
pub enum CacheSource {
    /// In a repository, under a tag or a digest.
    Registry {
        /// The repository.
        repository: Repository,
        /// The tag or digest.
        reference: String,
    },
    /// In a layout folder.
    Layout {
        /// The folder.
        layout: Layout,
        /// The tag, if one was given; it does not count where there is a digest.
        tag: Option<String>,
        /// The digest.
        digest: Option<Digest>,
    },
}

/// A cache with its config; one for each image of an inline cache.
#[derive(Debug, Clone)]
pub struct CachePart {
    /// Platform of the image that holds the cache inline.
    pub platform: Option<String>,
    /// Descriptor of the config, which is the image's where the cache is inline.
    pub config_blob: Descriptor,
    /// The config.
    pub config: CacheConfig,
    /// Descriptors of the layers.
    pub layers: Vec<Descriptor>,
}

/// A cache that was read.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The manifest as it is stored.
    pub raw: RawManifest,
    /// The manifest.
    pub manifest: CacheManifest,
    /// What is in it.
    pub parts: Vec<CachePart>,
}

impl CacheSource {
    /// Returns the tag or digest, if there is one.
    pub fn named(&self) -> Option<&str> {
        match self {
            Self::Registry { reference, .. } => Some(reference),
            Self::Layout { tag, digest, .. } => {
                digest.as_ref().map(Digest::as_str).or(tag.as_deref())
            }
        }
    }

    /// Reads the manifest as it is stored.
    ///
    /// # Errors
    ///
    /// Fails if there is none, or it cannot be had.
    pub async fn manifest(&self) -> Result<RawManifest, SourceError> {
        let found = match self {
            Self::Registry {
                repository,
                reference,
            } => repository.manifest(reference).await?,
            Self::Layout {
                layout,
                tag,
                digest,
            } => {
                layout.check()?;
                let (digest, media_type) = if let Some(digest) = digest {
                    (digest.clone(), String::new())
                } else {
                    let entry = layout.manifest(tag.as_deref())?;
                    (entry.digest, entry.media_type)
                };
                from_layout(layout, digest, media_type)?
            }
        };
        found.ok_or(SourceError::NotFound)
    }

    /// Reads everything but the layers.
    ///
    /// # Errors
    ///
    /// Fails if there is no cache, or it cannot be read.
    pub async fn load(&self) -> Result<Loaded, SourceError> {
        let raw = self.manifest().await?;
        let manifest = CacheManifest::parse(&raw.bytes, &raw.media_type)?;
        let parts = if manifest.is_cache() {
            vec![self.cache(&manifest).await?]
        } else {
            self.inline(&manifest).await?
        };
        if parts.is_empty() {
            return Err(SourceError::NoCache(if manifest.config.is_some() {
                "the image"
            } else {
                "the index"
            }));
        }
        Ok(Loaded {
            raw,
            manifest,
            parts,
        })
    }

    async fn cache(&self, manifest: &CacheManifest) -> Result<CachePart, SourceError> {
        let Some(config_blob) = manifest.config.clone() else {
            return Err(SourceError::NoCache("the manifest"));
        };
        let bytes = self.blob(&config_blob).await?;
        Ok(CachePart {
            platform: None,
            config: CacheConfig::parse(&bytes)?,
            config_blob,
            layers: manifest.layers.clone(),
        })
    }

    /// Reads the inline caches of an image, or of the images of an index.
    async fn inline(&self, manifest: &CacheManifest) -> Result<Vec<CachePart>, SourceError> {
        let mut parts = Vec::new();
        let mut seen = HashSet::new();
        let mut budget = CacheConfig::BUDGET;
        let mut open = vec![(manifest.clone(), 0)];
        while let Some((manifest, depth)) = open.pop() {
            if let Some(config) = &manifest.config {
                parts.extend(self.image(&manifest, config, &mut budget).await?);
                continue;
            }
            // The stack is read from its end; the order of the index is kept.
            for entry in manifest.layers.iter().rev() {
                let looked_at = depth < MAX_DEPTH && seen.len() < MAX_IMAGES;
                if looked_at && seen.insert(entry.digest.clone()) {
                    let raw = self.child(entry).await?;
                    budget.take(&raw.bytes)?;
                    let child = CacheManifest::parse(&raw.bytes, &raw.media_type)?;
                    open.push((child, depth + 1));
                }
            }
        }
        Ok(parts)
    }

    async fn image(
        &self,
        manifest: &CacheManifest,
        config: &Descriptor,
        budget: &mut Budget,
    ) -> Result<Option<CachePart>, SourceError> {
        if !config.media_type.ends_with("+json") {
            return Ok(None);
        }
        let bytes = self.blob(config).await?;
        budget.take(&bytes)?;
        let image: Image = serde_json::from_slice(&bytes)?;
        image.part(manifest, config, budget)
    }

    async fn child(&self, entry: &Descriptor) -> Result<RawManifest, SourceError> {
        let found = match self {
            Self::Registry { repository, .. } => repository.manifest(entry.digest.as_str()).await?,
            Self::Layout { layout, .. } => {
                from_layout(layout, entry.digest.clone(), entry.media_type.clone())?
            }
        };
        found.ok_or_else(|| SourceError::Gone(entry.digest.clone()))
    }

    /// Reads a config whole.
    ///
    /// # Errors
    ///
    /// Fails if it is not there, is too large, or is corrupt.
    pub async fn blob(&self, blob: &Descriptor) -> Result<Bytes, SourceError> {
        let digest = &blob.digest;
        if blob.size > CacheConfig::MAX_BYTES as u64 {
            return Err(SourceError::TooLarge {
                digest: digest.clone(),
                size: blob.size,
            });
        }
        match self {
            Self::Registry { repository, .. } => {
                let bytes = repository.read_blob(digest, blob.size).await;
                let bytes = bytes.map_err(|error| {
                    if error.is_not_found() {
                        SourceError::Gone(digest.clone())
                    } else {
                        error.into()
                    }
                })?;
                Ok(bytes.into())
            }
            Self::Layout { layout, .. } => layout
                .read_blob(digest, CacheConfig::MAX_BYTES as u64)?
                .ok_or_else(|| SourceError::Gone(digest.clone())),
        }
    }

    /// Returns those blobs that are not there.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be told.
    pub async fn missing(&self, blobs: &[Digest]) -> Result<HashSet<Digest>, SourceError> {
        match self {
            Self::Registry { repository, .. } => {
                Ok(repository.missing_blobs(blobs.iter().cloned()).await?)
            }
            Self::Layout { layout, .. } => {
                let mut missing = HashSet::new();
                for digest in blobs {
                    if layout.blob_size(digest)?.is_none() {
                        missing.insert(digest.clone());
                    }
                }
                Ok(missing)
            }
        }
    }
}

fn from_layout(
    layout: &Layout,
    digest: Digest,
    media_type: String,
) -> Result<Option<RawManifest>, SourceError> {
    let bytes = layout.read_blob(&digest, CacheManifest::MAX_BYTES as u64)?;
    Ok(bytes.map(|bytes| RawManifest {
        bytes,
        media_type,
        digest,
    }))
}

/// The config of an image, as far as an inline cache is in it (BuildKit
/// `cache/remotecache/import.go`).
#[derive(Deserialize)]
struct Image {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
    #[serde(default)]
    rootfs: RootFs,
    #[serde(default, deserialize_with = "null_is_empty")]
    history: Vec<History>,
    /// The records in base64.
    #[serde(rename = "moby.buildkit.cache.v0")]
    cache: Option<String>,
}

#[derive(Default, Deserialize)]
struct RootFs {
    #[serde(default, deserialize_with = "null_is_empty")]
    diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
struct History {
    created: Option<String>,
    #[serde(default)]
    created_by: String,
    #[serde(default)]
    empty_layer: bool,
}

impl Image {
    /// Creates a cache of the image's layers and the records in its config; `None` if it has none.
    fn part(
        self,
        manifest: &CacheManifest,
        config_blob: &Descriptor,
        budget: &mut Budget,
    ) -> Result<Option<CachePart>, SourceError> {
        let Some(records) = &self.cache else {
            return Ok(None);
        };
        let json = STANDARD.decode(records).map_err(|error| {
            SourceError::ImageConfig(<serde_json::Error as serde::de::Error>::custom(error))
        })?;
        budget.take(&json)?;
        let records: Option<Vec<CacheRecord>> = serde_json::from_slice(&json)?;
        let config = CacheConfig {
            layers: chain_of(&manifest.layers),
            records: records.unwrap_or_default(),
            ..CacheConfig::default()
        };
        config.check()?;
        let platform = [&self.os, &self.architecture, &self.variant];
        let platform: Vec<_> = platform.into_iter().filter(|p| !p.is_empty()).collect();
        let platform: Vec<&str> = platform.into_iter().map(String::as_str).collect();
        Ok(Some(CachePart {
            platform: (!platform.is_empty()).then(|| platform.join("/")),
            config_blob: config_blob.clone(),
            config,
            layers: self.describe(&manifest.layers),
        }))
    }

    /// The layers with what the image's history tells about them.
    fn describe(&self, layers: &[Descriptor]) -> Vec<Descriptor> {
        let steps: Vec<_> = self.history.iter().filter(|h| !h.empty_layer).collect();
        let describe = |(index, layer): (usize, &Descriptor)| {
            let mut layer = layer.clone();
            let mut set = |key: &str, value: &str| {
                if !value.is_empty() {
                    let value = Value::from(value);
                    layer.annotations.insert(key.to_owned(), value);
                }
            };
            if let Some(step) = steps.get(index) {
                set(CREATED_AT, step.created.as_deref().unwrap_or_default());
                set(DESCRIPTION, &step.created_by);
            }
            if let Some(diff_id) = self.rootfs.diff_ids.get(index) {
                set(UNCOMPRESSED, diff_id.as_str());
            }
            layer
        };
        layers.iter().enumerate().map(describe).collect()
    }
}

/// Each layer of an image lies on the one before it.
fn chain_of(layers: &[Descriptor]) -> Vec<CacheLayer> {
    let layer = |(index, layer): (usize, &Descriptor)| CacheLayer {
        blob: layer.digest.clone(),
        parent: Parent(index.checked_sub(1)),
        annotations: None,
        other: Unknown::default(),
    };
    layers.iter().enumerate().map(layer).collect()
}

#[cfg(test)]
mod tests;
