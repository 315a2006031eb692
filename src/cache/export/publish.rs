//! The end of an export: manifest and config are written again for the blobs as they are stored, and
//! published, the tag last.

use std::collections::HashSet;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use thiserror::Error;

use super::beside::Beside;
use super::layer::StoredLayer;
use super::push_merged::{self, Merged, Place, put_config};
use super::sink::{Collected, RegistrySink};
use crate::cache::MAX_METADATA;
use crate::cache::config::{CacheConfig, ConfigError};
use crate::cache::descriptor::Descriptor;
use crate::cache::extras::Extras;
use crate::cache::extras::store::{self, OldRecord, Written};
use crate::cache::manifest::{CacheManifest, ManifestError};
use crate::cache::media::Form;
use crate::cache::media::layer_type;
use crate::cache::merge::{Bounds, Contents, ContentsError, Dropped};
use crate::cache::remote_cache::RemoteCache;
use crate::digest::Digest;
use crate::registry::{RegistryError, Repository};

/// Why a cache cannot be published.
#[derive(Debug, Error)]
pub enum PublishError {
    /// A layer did not reach the registry.
    #[error("cannot store a layer of the cache: {0}")]
    Layer(String),
    /// BuildKit did not hand over what its manifest refers to.
    #[error("the builder did not hand over the cache's {0}")]
    Missing(&'static str),
    /// The manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The config cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Manifest or config cannot be written as JSON.
    #[error("cannot write the cache's JSON")]
    Json(#[from] serde_json::Error),
    /// The registry no longer has blobs that its own manifest lists, or those that were sent early did
    /// not arrive. The sink is ready to take them from BuildKit in a second export.
    #[error("the registry does not have {} blobs of the cache that it should have", .0.len())]
    Lost(Vec<Digest>),
    /// BuildKit could not export once more what the registry has lost.
    #[error(
        "the registry has lost blobs of the cache that it holds, and the builder cannot give them"
    )]
    NotAgain(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What was made for the registry cannot be read back.
    #[error(transparent)]
    Contents(#[from] ContentsError),
    /// Others write to the reference without pause.
    #[error(
        "others write to the same reference all the time: after {0} tries it does not hold this cache"
    )]
    Overwritten(usize),
    /// The registry refused.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// What is published of a new cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rules {
    /// The cache is merged with the one that the reference holds.
    pub merge: bool,
    /// How much is kept. Without `merge` it is cut only where the user named a bound.
    pub bounds: Bounds,
}

impl Rules {
    fn cut(&self) -> bool {
        self.bounds != Bounds::default()
    }
}

/// A cache that is in the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Digest of its manifest.
    pub manifest: Digest,
    /// The reference held exactly this before; nothing was sent.
    pub unchanged: bool,
    /// Layers of the cache.
    pub layers: usize,
    /// Layers that were sent.
    pub sent_layers: usize,
    /// Bytes of layers that were sent.
    pub sent_bytes: u64,
    /// The manifest or the config is larger than BuildKit reads: no BuildKit can import this cache.
    pub too_large: bool,
    /// What it was merged with.
    pub merged: Option<Merged>,
    /// What the bounds did not leave room for, where it was not merged.
    pub dropped: Option<Dropped>,
    /// The registry refuses the record, and it was left out.
    pub refused: bool,
}

/// Publishes what a sink has collected; `None` if BuildKit had nothing to export.
///
/// # Errors
///
/// Fails if a layer is missing or the registry refuses; the reference then holds what it held.
pub async fn publish(
    sink: &RegistrySink,
    reference: &str,
    rules: &Rules,
    beside: Beside<'_>,
) -> Result<Option<Published>, PublishError> {
    let collected = sink.finish().await.map_err(PublishError::Layer)?;
    if !collected.broken.is_empty() {
        let broken = collected.broken.clone();
        sink.export_again(&broken, collected).await;
        return Err(PublishError::Lost(broken));
    }
    let Some(manifest) = manifest_of(&collected) else {
        return Ok(None);
    };
    let mut made = rewrite(&collected, manifest, sink.settings().oci_types)?;
    let published = if rules.merge {
        Box::pin(merge(sink.repository(), reference, rules, &made, beside)).await
    } else {
        let dropped = if rules.cut() {
            made.cut(&rules.bounds)?
        } else {
            None
        };
        let alone = Box::pin(alone(sink, reference, &mut made, beside)).await;
        alone.map(|published| Published {
            dropped,
            ..published
        })
    };
    if let Err(PublishError::Lost(lost)) = &published {
        sink.export_again(lost, collected).await;
    }
    published.map(Some)
}

/// Publishes a cache in place of what the reference holds.
async fn alone(
    sink: &RegistrySink,
    reference: &str,
    made: &mut Rewritten,
    beside: Beside<'_>,
) -> Result<Published, PublishError> {
    let mut published = made.report();
    let known = sink.known().await;
    let repository = sink.repository();
    if let Some(old) = known.manifest()
        && (*old == published.manifest || adds_nothing(repository, &known, made).await?)
    {
        published.manifest = old.clone();
        published.unchanged = true;
        return Ok(published);
    }
    // A config whose layers are lost is in nobody's way.
    let layers = check_reused(repository, &made.layers);
    let config = store_config(repository, &known, made);
    let record = async {
        let Some(new) = beside.record else {
            return Ok(None);
        };
        let old = OldRecord::at(known.extras().record());
        Ok(store::store(repository, &old, new, false, made.form()?).await)
    };
    let ((), (), record) = tokio::try_join!(layers, config, record)?;
    let mut extras = Extras::default();
    extras.set_record(record);
    if beside.cleaning.is_some() || known.extras().notes().tag.is_some() {
        let bounds = Bounds::default();
        let place = place(repository, reference, &bounds, beside);
        extras.set_notes(place.notes_over_what_is_there().await?);
    }
    let manifest = made.with(extras)?.signed(beside.signing).await;
    let put = store::put(repository, Some(reference), &manifest, beside.signing).await?;
    (published.manifest, published.refused) = (put.digest, put.refused);
    Ok(published)
}

/// Publishes a cache merged with what the reference holds.
async fn merge(
    repository: &Repository,
    reference: &str,
    rules: &Rules,
    made: &Rewritten,
    beside: Beside<'_>,
) -> Result<Published, PublishError> {
    let contents = Contents::parse(&made.manifest, made.media_type, &made.config)?;
    let sent = made.layers.iter().filter(|layer| layer.sent > 0);
    let stored: HashSet<Digest> = sent.map(|layer| layer.digest.clone()).collect();
    let place = place(repository, reference, &rules.bounds, beside);
    let merged = push_merged::publish(place, &contents, &stored).await?;
    Ok(Published {
        manifest: merged.manifest.clone(),
        unchanged: merged.unchanged,
        too_large: false,
        refused: merged.refused,
        merged: Some(merged),
        ..made.report()
    })
}

fn place<'a>(
    repository: &'a Repository,
    reference: &'a str,
    bounds: &'a Bounds,
    beside: Beside<'a>,
) -> Place<'a> {
    Place {
        repository,
        reference,
        bounds,
        now: Timestamp::now(),
        beside,
    }
}

/// Returns whether the old cache has the same layers and at least the same records: BuildKit writes fewer
/// for steps that it has found than for those that ran. Costs one request, and only where no layer was
/// sent.
async fn adds_nothing(
    repository: &Repository,
    known: &RemoteCache,
    made: &Rewritten,
) -> Result<bool, PublishError> {
    let Some(old) = known
        .config()
        .filter(|c| c.size <= MAX_METADATA as u64 && made.config.len() <= MAX_METADATA)
    else {
        return Ok(false);
    };
    let manifest = CacheManifest::parse(&made.manifest, made.media_type)?;
    if made.layers.iter().any(|layer| layer.sent > 0) || !known.lists_the_same(&manifest) {
        return Ok(false);
    }
    if old.digest == Digest::of(&made.config) {
        return Ok(true);
    }
    let old = match repository.read_blob(&old.digest, old.size).await {
        Ok(bytes) => CacheConfig::parse(&bytes),
        Err(error) => {
            // Then it is time to write a new one.
            tracing::debug!(error = %crate::error::chain(&error), "cannot read the old config");
            return Ok(false);
        }
    };
    Ok(old.is_ok_and(|old| {
        CacheConfig::parse(&made.config).is_ok_and(|new| old.is_superset_of(&new))
    }))
}

/// Finds the manifest among what BuildKit handed over. Its answer names it too, but under one key for
/// all exports of a build.
pub(super) fn manifest_of(collected: &Collected) -> Option<&Bytes> {
    collected
        .metadata
        .values()
        .find(|bytes| CacheManifest::parse(bytes, "").is_ok_and(|manifest| manifest.is_cache()))
}

/// Manifest and config for the blobs as they are stored.
#[derive(Debug)]
pub(super) struct Rewritten {
    pub(super) manifest: Bytes,
    pub(super) media_type: &'static str,
    pub(super) config: Bytes,
    layers: Vec<StoredLayer>,
}

impl Rewritten {
    fn report(&self) -> Published {
        Published {
            manifest: Digest::of(&self.manifest),
            unchanged: false,
            layers: self.layers.len(),
            sent_layers: self.layers.iter().filter(|layer| layer.sent > 0).count(),
            sent_bytes: self.layers.iter().map(|layer| layer.sent).sum(),
            too_large: self.manifest.len().max(self.config.len()) > MAX_METADATA,
            merged: None,
            dropped: None,
            refused: false,
        }
    }

    fn form(&self) -> Result<Form, ManifestError> {
        Ok(CacheManifest::parse(&self.manifest, self.media_type)?.form)
    }

    /// Returns the manifest with entries and notes of this program. Without any it keeps every byte.
    fn with(&self, extras: Extras) -> Result<Written, PublishError> {
        if extras == Extras::default() {
            return Ok(Written {
                with: self.manifest.clone(),
                without: None,
                media_type: self.media_type,
            });
        }
        let mut manifest = CacheManifest::parse(&self.manifest, self.media_type)?;
        let is_noted = !extras.notes().is_empty();
        manifest.extras = extras;
        let mut written = Written::of(&manifest)?;
        if !is_noted {
            // What BuildKit wrote keeps every byte.
            written.without = written.without.map(|_| self.manifest.clone());
        }
        Ok(written)
    }

    /// Cuts the cache to bounds. What stays within them keeps every byte.
    fn cut(&mut self, bounds: &Bounds) -> Result<Option<Dropped>, PublishError> {
        let mut contents = Contents::parse(&self.manifest, self.media_type, &self.config)?;
        let dropped = contents.bound(bounds, Timestamp::now())?;
        if dropped.is_some() {
            let parts = contents.to_parts()?;
            let kept: HashSet<&Digest> = contents.blobs().map(|blob| &blob.digest).collect();
            self.layers.retain(|layer| kept.contains(&layer.digest));
            (self.manifest, self.config) = (parts.manifest, parts.config);
        }
        Ok(dropped)
    }
}

pub(super) fn rewrite(
    collected: &Collected,
    bytes: &Bytes,
    oci: bool,
) -> Result<Rewritten, PublishError> {
    let mut manifest = CacheManifest::parse(bytes, "")?;
    let named = manifest
        .config
        .clone()
        .ok_or(PublishError::Missing("config"))?;
    let config = collected
        .metadata
        .get(&named.digest)
        .ok_or(PublishError::Missing("config"))?;
    let stored = |digest: &Digest| {
        collected
            .layers
            .get(digest)
            .cloned()
            .ok_or(PublishError::Missing("layers"))
    };
    let mut layers = Vec::with_capacity(manifest.layers.len());
    let mut changed = false;
    for layer in &mut manifest.layers {
        let blob = stored(&layer.digest)?;
        if blob.digest != layer.digest {
            describe(layer, &blob, oci);
            changed = true;
        }
        layers.push(blob);
    }
    if !changed {
        // BuildKit's own bytes, to the letter.
        let (manifest_bytes, config) = (bytes.clone(), config.clone());
        let media_type = manifest.form.media_type();
        return Ok(Rewritten {
            manifest: manifest_bytes,
            media_type,
            config,
            layers,
        });
    }
    drop_repeated(&mut manifest.layers);
    let mut parsed = CacheConfig::parse(config)?;
    for layer in &mut parsed.layers {
        layer.blob = stored(&layer.blob)?.digest;
    }
    let config = Bytes::from(parsed.to_bytes()?);
    if let Some(descriptor) = &mut manifest.config {
        descriptor.digest = Digest::of(&config);
        descriptor.size = config.len() as u64;
    }
    let media_type = manifest.form.media_type();
    Ok(Rewritten {
        manifest: manifest.to_bytes()?.into(),
        media_type,
        config,
        layers,
    })
}

/// Writes a layer's descriptor again for the blob that it is stored as.
fn describe(layer: &mut Descriptor, blob: &StoredLayer, oci: bool) {
    use crate::cache::descriptor::UNCOMPRESSED;
    // BuildKit's descriptor of an uncompressed layer: its digest is the content's.
    if layer.diff_id().is_none() {
        let content = layer.digest.to_string();
        layer
            .annotations
            .insert(UNCOMPRESSED.to_owned(), Value::from(content));
    }
    layer.digest = blob.digest.clone();
    layer.size = blob.size;
    if let Some(algorithm) = blob.algorithm {
        layer_type(algorithm, oci).clone_into(&mut layer.media_type);
    }
}

/// Two layers of one content become one blob.
fn drop_repeated(layers: &mut Vec<Descriptor>) {
    let mut seen = HashSet::new();
    layers.retain(|layer| seen.insert(layer.digest.clone()));
}

/// A manifest may list blobs that the registry's garbage collection has taken; nothing may be
/// published on its word alone.
async fn check_reused(repository: &Repository, layers: &[StoredLayer]) -> Result<(), PublishError> {
    let reused = layers.iter().filter(|layer| layer.sent == 0);
    let reused: HashSet<Digest> = reused.map(|layer| layer.digest.clone()).collect();
    let lost = repository.missing_blobs(reused).await?;
    if lost.is_empty() {
        Ok(())
    } else {
        Err(PublishError::Lost(lost.into_iter().collect()))
    }
}

async fn store_config(
    repository: &Repository,
    known: &RemoteCache,
    made: &Rewritten,
) -> Result<(), PublishError> {
    let digest = Digest::of(&made.config);
    let may_exist = known.config().is_some_and(|old| old.digest == digest);
    Ok(put_config(repository, &digest, &made.config, may_exist).await?)
}

#[cfg(test)]
mod tests;
