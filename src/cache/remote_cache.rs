//! What a cache in the registry holds already, so that it need not be read, compressed or sent again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use tokio_util::task::AbortOnDropHandle;

use super::descriptor::Descriptor;
use super::extras::Extras;
use super::manifest::{CacheManifest, ManifestError};
use super::media::Form;
use super::media::algorithm_of;
use super::sign::writer::Signing;
use crate::compress::Algorithm;
use crate::digest::Digest;
use crate::registry::{RegistryError, Repository};

/// The blobs of the cache that a reference holds before the export.
#[derive(Debug, Clone, Default)]
pub struct RemoteCache {
    manifest: Option<Digest>,
    form: Option<Form>,
    config: Option<Descriptor>,
    extras: Extras,
    /// The registry was not to be had.
    is_unasked: bool,
    blobs: HashMap<Digest, Descriptor>,
    by_diff_id: HashMap<Digest, Vec<Digest>>,
}

/// What is known, once the registry has answered. It ends with its last clone.
pub type KnownLater = Shared<BoxFuture<'static, Arc<RemoteCache>>>;

impl RemoteCache {
    /// Asks the registry beside other work. A registry that does not answer counts as empty: the
    /// error comes again where something is stored.
    pub fn ask(
        repository: Repository,
        reference: String,
        signing: Option<Arc<Signing>>,
    ) -> KnownLater {
        let asked = tokio::spawn(Self::ask_later(repository, reference, signing));
        let asked = AbortOnDropHandle::new(asked);
        async move {
            asked.await.unwrap_or_else(|error| {
                log_unasked(&error);
                Arc::new(Self::unasked())
            })
        }
        .boxed()
        .shared()
    }

    /// Asks the registry as [`ask`](Self::ask) does, once somebody waits for the answer.
    pub fn ask_later(
        repository: Repository,
        reference: String,
        signing: Option<Arc<Signing>>,
    ) -> KnownLater {
        async move {
            let known = Self::fetch(&repository, &reference, signing.as_deref()).await;
            Arc::new(known.unwrap_or_else(|error| {
                log_unasked(&error);
                Self::unasked()
            }))
        }
        .boxed()
        .shared()
    }

    /// Asks the registry. What cannot be read as a cache is no reason not to write one: it counts
    /// as empty. So does, where a cache is signed, one that is not signed or not trusted: it says which blob has which
    /// content, and a signature must not vouch for that.
    ///
    /// # Errors
    ///
    /// Fails if the registry does not answer, or refuses.
    pub async fn fetch(
        repository: &Repository,
        reference: &str,
        signing: Option<&Signing>,
    ) -> Result<Self, RegistryError> {
        let Some(raw) = repository.manifest(reference).await? else {
            return Ok(Self::default());
        };
        let distrusted = match signing {
            Some(signing) => signing.distrusts(&raw.bytes).await,
            None => None,
        };
        if let Some(why) = distrusted {
            tracing::debug!(reference, why, "the old cache counts as empty");
            return Ok(Self::default());
        }
        Ok(match CacheManifest::parse(&raw.bytes, &raw.media_type) {
            Ok(manifest) if manifest.is_cache() => Self::of(&manifest, raw.digest),
            Ok(_) => Self::default(),
            Err(error) => {
                log_unreadable(reference, &error);
                Self::default()
            }
        })
    }

    /// Takes the blobs of a manifest.
    pub fn of(manifest: &CacheManifest, digest: Digest) -> Self {
        let mut known = Self {
            manifest: Some(digest),
            form: Some(manifest.form),
            config: manifest.config.clone(),
            extras: manifest.extras.clone(),
            ..Self::default()
        };
        for layer in &manifest.layers {
            if let Some(diff_id) = layer.diff_id() {
                known
                    .by_diff_id
                    .entry(diff_id)
                    .or_default()
                    .push(layer.digest.clone());
            }
            known.blobs.insert(layer.digest.clone(), layer.clone());
        }
        known
    }

    fn unasked() -> Self {
        Self {
            is_unasked: true,
            ..Self::default()
        }
    }

    /// Returns whether the registry did not answer, or refused.
    pub fn is_unasked(&self) -> bool {
        self.is_unasked
    }

    /// Returns the entries of this program in the manifest.
    pub fn extras(&self) -> &Extras {
        &self.extras
    }

    /// Returns the digest of the manifest, if there is a cache.
    pub fn manifest(&self) -> Option<&Digest> {
        self.manifest.as_ref()
    }

    /// Returns the descriptor of the cache's config.
    pub fn config(&self) -> Option<&Descriptor> {
        self.config.as_ref()
    }

    /// Returns whether the manifest lists exactly the blobs of another, in the same form and of the same
    /// types.
    pub fn lists_the_same(&self, other: &CacheManifest) -> bool {
        let known = |layer: &Descriptor| {
            self.blobs
                .get(&layer.digest)
                .is_some_and(|known| known.media_type == layer.media_type)
        };
        let others: HashSet<&Digest> = other.layers.iter().map(|layer| &layer.digest).collect();
        self.form == Some(other.form)
            && others.len() == self.blobs.len()
            && other.layers.iter().all(known)
    }

    /// Returns the descriptor of a blob.
    pub fn blob(&self, digest: &Digest) -> Option<&Descriptor> {
        self.blobs.get(digest)
    }

    /// Returns a blob that holds a layer's content in this compression; without one, in any.
    pub fn layer(&self, diff_id: &Digest, algorithm: Option<Algorithm>) -> Option<&Descriptor> {
        let blobs = self.by_diff_id.get(diff_id)?;
        blobs
            .iter()
            .filter_map(|digest| self.blobs.get(digest))
            .find(|blob| {
                algorithm.is_none_or(|wanted| algorithm_of(&blob.media_type) == Some(wanted))
            })
    }

    /// Forgets blobs that turned out to be gone.
    pub fn forget(&mut self, lost: &[Digest]) {
        for digest in lost {
            self.blobs.remove(digest);
        }
    }
}

fn log_unasked(error: &(dyn std::error::Error + 'static)) {
    tracing::debug!(error = %crate::error::chain(error), "cannot read the old cache");
}

fn log_unreadable(reference: &str, error: &ManifestError) {
    tracing::debug!(reference, error = %crate::error::chain(error), "the old cache is unreadable");
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::super::descriptor::UNCOMPRESSED;
    use super::super::unknown::Unknown;
    use super::*;

    fn layer(blob: &[u8], content: &[u8], media_type: &str) -> Descriptor {
        let mut annotations = Map::new();
        annotations.insert(UNCOMPRESSED.into(), json!(Digest::of(content).as_str()));
        Descriptor {
            media_type: media_type.into(),
            digest: Digest::of(blob),
            size: 1,
            annotations,
            other: Unknown::default(),
        }
    }

    #[test]
    fn layers_are_found_by_content_and_compression() {
        let manifest = CacheManifest {
            extras: Extras::default(),
            form: Form::OciManifest,
            config: None,
            layers: vec![
                layer(
                    b"gz",
                    b"content",
                    "application/vnd.oci.image.layer.v1.tar+gzip",
                ),
                layer(
                    b"zst",
                    b"content",
                    "application/vnd.oci.image.layer.v1.tar+zstd",
                ),
            ],
            other: Unknown::default(),
        };
        let mut known = RemoteCache::of(&manifest, Digest::of(b"m"));
        let content = Digest::of(b"content");
        let found = |known: &RemoteCache, algorithm| {
            known
                .layer(&content, algorithm)
                .map(|blob| blob.digest.clone())
        };
        assert_eq!(
            found(&known, Some(Algorithm::Zstd)),
            Some(Digest::of(b"zst"))
        );
        assert_eq!(found(&known, Some(Algorithm::Uncompressed)), None);
        assert!(found(&known, None).is_some());
        assert!(known.blob(&Digest::of(b"gz")).is_some());
        known.forget(&[Digest::of(b"zst")]);
        assert_eq!(found(&known, Some(Algorithm::Zstd)), None);
        assert_eq!(known.layer(&Digest::of(b"x"), None), None);
    }
}
