//! A registry cache served to BuildKit through the session, for builders that cannot reach the
//! registry or may not log in to it.
//!
//! BuildKit imports it as a `type=local` cache: it asks for the manifest by digest, then for the
//! config, then for the layers that it needs, one mebibyte a call (BuildKit
//! `cache/remotecache/local`, containerd `core/content/proxy`).

mod missing_layers;
mod prefetch;
mod trim;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use thiserror::Error;

use self::prefetch::ReadAhead;
use self::trim::Trimmed;
use super::MAX_METADATA;
use super::config::{CacheConfig, ConfigError};
use super::descriptor::Descriptor;
use super::manifest::{CacheManifest, ManifestError};
use super::media::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use crate::buildkit::session::content::{ContentStore, NewBlob, Pieces, StoreError, Write};
use crate::digest::Digest;
use crate::registry::{RawManifest, RegistryError, Repository};
use crate::text::counted;

pub use self::missing_layers::{lost_layers, without};
pub use self::trim::{Trim, Wanted};

/// Why a cache cannot be served.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The registry does not answer, or refuses.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The config cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The smaller cache cannot be written as JSON.
    #[error("cannot write the cache's JSON")]
    Json(#[from] serde_json::Error),
    /// The config is larger than is read.
    #[error("the cache config has {0} bytes, more than the {limit} that are read", limit = CacheConfig::MAX_BYTES)]
    ConfigTooLarge(u64),
    /// The work on the config broke off.
    #[error("the cache config was not read to its end")]
    BrokenOff(#[from] tokio::task::JoinError),
}

/// A cache that is served.
#[derive(Debug)]
pub struct RegistryImport {
    manifest: Digest,
    config: Option<Bytes>,
    layers: usize,
    trimmed: Option<Trim>,
    /// The config as the registry has it, where it was made smaller.
    whole: Option<Bytes>,
    store: Arc<RegistryStore>,
}

/// What is known of a cache that is larger than BuildKit reads.
#[derive(Debug, Clone, Default)]
pub struct Large {
    /// Its config, where that was read already.
    pub config: Option<Bytes>,
    /// What the build can use of it, where that is known.
    pub wanted: Option<Arc<Wanted>>,
}

impl RegistryImport {
    /// Takes a manifest that was read already. A cache whose manifest or config is larger than
    /// BuildKit reads is made smaller.
    ///
    /// # Errors
    ///
    /// Fails if the registry refuses, or the manifest is none of a cache.
    pub async fn of(
        repository: Repository,
        raw: RawManifest,
        large: Large,
    ) -> Result<Self, ImportError> {
        let manifest = CacheManifest::parse(&raw.bytes, &raw.media_type)?;
        let store = RegistryStore::new(repository);
        let mut served = raw.digest.clone();
        let (mut trimmed, mut whole) = (None, None);
        let config;
        if let Some((all, smaller)) = store.trim(&raw, &manifest, large).await? {
            whole = Some(all);
            served = Digest::of(&smaller.manifest);
            let mut state = store.state.lock();
            config = Some(smaller.config.clone());
            state.keep(smaller.config_digest.clone(), smaller.config);
            state.keep(served.clone(), smaller.manifest);
            trimmed = Some(smaller.what);
        } else {
            config = store.take_config(&manifest).await?;
            store.state.lock().keep(raw.digest, raw.bytes);
        }
        store.state.lock().learn(&manifest);
        Ok(Self {
            manifest: served,
            config,
            layers: manifest.layers.len(),
            trimmed,
            whole,
            store: Arc::new(store),
        })
    }

    /// Returns the config as the registry has it, where it was made smaller.
    pub fn whole(&self) -> Option<&Bytes> {
        self.whole.as_ref()
    }

    /// Returns the digest of the manifest that BuildKit is to be told.
    pub fn manifest(&self) -> &Digest {
        &self.manifest
    }

    /// Returns the config that BuildKit gets, where it was read already.
    pub fn config(&self) -> Option<&Bytes> {
        self.config.as_ref()
    }

    /// Returns the store to offer in the session.
    pub fn store(&self) -> Arc<dyn ContentStore> {
        Arc::<RegistryStore>::clone(&self.store)
    }

    /// One line about the cache.
    pub fn summary(&self) -> String {
        match &self.trimmed {
            None => counted(self.layers, "layer"),
            Some(trim) => trim.to_string(),
        }
    }
}

/// A repository as a store that is only read.
struct RegistryStore {
    repository: Repository,
    state: Mutex<State>,
    downloads: ReadAhead,
}

impl fmt::Debug for RegistryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryStore")
            .field("repository", &self.repository.name())
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    /// Manifests, and a config that was made smaller.
    whole: HashMap<Digest, Bytes>,
    /// Sizes of blobs, as manifests name them.
    sizes: HashMap<Digest, u64>,
    /// Entries of an index of images, which are manifests themselves.
    manifests: HashMap<Digest, u64>,
}

impl State {
    fn keep(&mut self, digest: Digest, bytes: Bytes) {
        self.whole.insert(digest, bytes);
    }

    fn learn(&mut self, manifest: &CacheManifest) {
        for entry in manifest.layers.iter().chain(&manifest.config) {
            let known = if is_manifest(entry) {
                &mut self.manifests
            } else {
                &mut self.sizes
            };
            known.insert(entry.digest.clone(), entry.size);
        }
    }
}

/// How long a config may take. A build does not wait longer for a cache.
pub const CONFIG_PATIENCE: Duration = Duration::from_secs(10);

/// Reads a config of a size that BuildKit reads, to know that it comes; `None` if it is larger.
async fn read_config(
    repository: &Repository,
    config: &Descriptor,
) -> Result<Option<Vec<u8>>, RegistryError> {
    if config.size > MAX_METADATA as u64 {
        return Ok(None);
    }
    let read = repository.read_blob_at_once(&config.digest, config.size, CONFIG_PATIENCE);
    read.await.map(Some)
}

/// The config of a cache does not come in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooSlow;

/// Reads the config of a cache that BuildKit reads by itself; `None` where there is none, or BuildKit is to say what is
/// wrong with it.
///
/// # Errors
///
/// Fails if it does not come in time. BuildKit would wait for it in its scheduler, without end, and every other build
/// with it.
pub async fn config_in_time(
    repository: &Repository,
    raw: &RawManifest,
) -> Result<Option<Bytes>, TooSlow> {
    let Ok(manifest) = CacheManifest::parse(&raw.bytes, &raw.media_type) else {
        return Ok(None);
    };
    let Some(config) = &manifest.config else {
        return Ok(None);
    };
    match read_config(repository, config).await {
        Ok(bytes) => Ok(bytes.map(Bytes::from)),
        Err(error) if error.is_slow() => Err(TooSlow),
        Err(error) => {
            tracing::debug!(%error, "the config is left to the builder");
            Ok(None)
        }
    }
}

/// Returns whether BuildKit refuses a cache because its manifest or config is over 1 MiB.
pub fn is_too_large(raw: &RawManifest, manifest: &CacheManifest) -> bool {
    let Some(config) = manifest.config.as_ref().filter(|_| manifest.is_cache()) else {
        return false;
    };
    config.size.max(raw.bytes.len() as u64) > MAX_METADATA as u64
}

fn is_manifest(entry: &Descriptor) -> bool {
    [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST].contains(&entry.media_type.as_str())
}

impl RegistryStore {
    fn new(repository: Repository) -> Self {
        Self {
            downloads: ReadAhead::new(repository.clone()),
            repository,
            state: Mutex::default(),
        }
    }

    async fn trim(
        &self,
        raw: &RawManifest,
        manifest: &CacheManifest,
        large: Large,
    ) -> Result<Option<(Bytes, Trimmed)>, ImportError> {
        let Some(config) = manifest
            .config
            .as_ref()
            .filter(|_| is_too_large(raw, manifest))
        else {
            return Ok(None);
        };
        if config.size > CacheConfig::MAX_BYTES as u64 {
            return Err(ImportError::ConfigTooLarge(config.size));
        }
        let bytes = if let Some(bytes) = large.config {
            bytes
        } else {
            let read = self.repository.read_blob(&config.digest, config.size);
            Bytes::from(read.await?)
        };
        let manifest = manifest.clone();
        // Some megabytes of JSON take long enough to hold up what else this thread does.
        let trimmed = tokio::task::spawn_blocking(move || {
            let config = CacheConfig::parse(&bytes)?;
            let wanted = large.wanted.as_deref();
            let trimmed = trim::trim(&config, &manifest, MAX_METADATA, wanted)?;
            Ok::<_, ImportError>((bytes, trimmed))
        });
        trimmed.await?.map(Some)
    }

    /// Reads the config before BuildKit asks for it: its scheduler waits for it, and every other build with
    /// it. What is wrong with it BuildKit says itself, but not that it does not come.
    async fn take_config(&self, manifest: &CacheManifest) -> Result<Option<Bytes>, ImportError> {
        let Some(config) = &manifest.config else {
            return Ok(None);
        };
        match read_config(&self.repository, config).await {
            Ok(bytes) => {
                let bytes = bytes.map(Bytes::from);
                if let Some(bytes) = &bytes {
                    self.state.lock().keep(config.digest.clone(), bytes.clone());
                }
                Ok(bytes)
            }
            Err(error) if error.is_slow() => Err(error.into()),
            Err(error) => {
                tracing::debug!(%error, "the config is left to the builder");
                Ok(None)
            }
        }
    }

    /// Returns a manifest, which is read once.
    async fn whole(&self, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        {
            let state = self.state.lock();
            if let Some(bytes) = state.whole.get(digest) {
                return Ok(Some(bytes.clone()));
            }
            if !state.manifests.contains_key(digest) {
                return Ok(None);
            }
        }
        let raw = self.repository.manifest(digest.as_str()).await;
        let raw = raw.map_err(|error| StoreError::failed(&error))?;
        let raw = raw.ok_or_else(|| StoreError::NotFound(digest.clone()))?;
        let mut state = self.state.lock();
        if let Ok(manifest) = CacheManifest::parse(&raw.bytes, &raw.media_type) {
            state.learn(&manifest);
        }
        state.keep(digest.clone(), raw.bytes.clone());
        Ok(Some(raw.bytes))
    }
}

#[tonic::async_trait]
impl ContentStore for RegistryStore {
    async fn size(&self, digest: &Digest) -> Result<u64, StoreError> {
        if let Some(bytes) = self.whole(digest).await? {
            return Ok(bytes.len() as u64);
        }
        let known = self.state.lock().sizes.get(digest).copied();
        if let Some(size) = known {
            return Ok(size);
        }
        let size = self.repository.blob_size(digest).await;
        let size = size.map_err(|error| StoreError::failed(&error))?;
        let size = size.ok_or_else(|| StoreError::NotFound(digest.clone()))?;
        self.state.lock().sizes.insert(digest.clone(), size);
        Ok(size)
    }

    async fn read(
        &self,
        digest: &Digest,
        offset: u64,
        size: Option<u64>,
    ) -> Result<Pieces, StoreError> {
        if let Some(bytes) = self.whole(digest).await? {
            let part = part(&bytes, offset, size);
            return Ok(stream::iter([Ok(part)]).boxed());
        }
        let total = self.size(digest).await?;
        Ok(self.downloads.read(digest, offset, size, total))
    }

    async fn write(&self, _blob: NewBlob) -> Result<Write, StoreError> {
        Err(StoreError::Failed("this cache is only read".to_owned()))
    }
}

fn part(bytes: &Bytes, offset: u64, size: Option<u64>) -> Bytes {
    let clamp = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
    let start = clamp(offset);
    let end = clamp(offset.saturating_add(size.unwrap_or(u64::MAX)));
    bytes.slice(start..end)
}

#[cfg(test)]
mod tests;
