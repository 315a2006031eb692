//! Which caches a repository has, and what each of them takes.

use std::collections::{BTreeMap, HashMap, HashSet};

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;

use super::extras::age::written;
use super::extras::notes::Replaced;
use super::source::{CacheSource, Loaded, SourceError};
use crate::digest::Digest;
use crate::registry::{RegistryError, Repository};

/// Caches that are read at the same time.
const READS: usize = 8;

/// A cache of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaggedCache {
    /// Its tag.
    pub tag: String,
    /// Digest of its manifest.
    pub digest: Digest,
    /// Its layers, with their sizes in bytes.
    pub layers: BTreeMap<Digest, u64>,
    /// Number of results.
    pub results: usize,
    /// When a build last wrote it, or used or made one of its results, where that is known.
    pub last_used: Option<Timestamp>,
    /// Manifests that the tag held before, as it notes.
    pub replaced: Vec<Replaced>,
}

/// The tags of a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// Those that are caches, in the order of their names.
    pub caches: Vec<TaggedCache>,
    /// Tags that are none, with their manifests.
    pub others: Vec<(String, Option<Digest>)>,
}

impl Survey {
    /// Reads the tags of a repository, at most `limit`. A tag that cannot be read is no cache.
    ///
    /// # Errors
    ///
    /// Fails if the registry does not answer, or refuses.
    pub async fn of(repository: &Repository, limit: usize) -> Result<Self, RegistryError> {
        let tags = repository.tags(limit).await?;
        let reads = stream::iter(tags).map(|tag| async move {
            let source = CacheSource::Registry {
                repository: repository.clone(),
                reference: tag.clone(),
            };
            (Box::pin(source.load()).await, tag)
        });
        let mut reads = reads.buffer_unordered(READS);
        let mut survey = Self::default();
        while let Some((read, tag)) = reads.next().await {
            match read {
                Ok(loaded) if loaded.manifest.is_cache() => {
                    survey.caches.push(TaggedCache::new(tag, &loaded));
                }
                Ok(loaded) => survey.others.push((tag, Some(loaded.raw.digest))),
                Err(SourceError::Registry(error)) if !error.is_not_found() => return Err(error),
                Err(error) => {
                    tracing::debug!(tag, error = %crate::error::chain(&error), "is no cache");
                    survey.others.push((tag, None));
                }
            }
        }
        survey.caches.sort_by(|a, b| a.tag.cmp(&b.tag));
        survey.others.sort();
        Ok(survey)
    }

    /// Returns the bytes that no other cache of the repository has: what deleting these tags frees.
    pub fn freed_by(&self, tags: &HashSet<&str>) -> u64 {
        let is_named = |cache: &&TaggedCache| tags.contains(cache.tag.as_str());
        let kept = self.caches.iter().filter(|cache| !is_named(cache));
        let kept: HashSet<&Digest> = kept.flat_map(|cache| cache.layers.keys()).collect();
        let gone = self.caches.iter().filter(is_named);
        let gone: HashMap<&Digest, u64> = gone
            .flat_map(|cache| cache.layers.iter().map(|(digest, size)| (digest, *size)))
            .collect();
        let freed = gone
            .into_iter()
            .filter(|(digest, _)| !kept.contains(digest));
        freed.fold(0, |sum, (_, size)| sum.saturating_add(size))
    }

    /// Returns the size of all layers of all caches, each counted once, in bytes.
    pub fn size(&self) -> u64 {
        let tags = self.caches.iter().map(|cache| cache.tag.as_str()).collect();
        self.freed_by(&tags)
    }

    /// Returns whether another tag has the same manifest, or may have: then it must not be deleted by its digest.
    pub fn is_shared(&self, cache: &TaggedCache) -> bool {
        let same = |other: &&TaggedCache| other.tag != cache.tag && other.digest == cache.digest;
        self.caches.iter().any(|other| same(&other))
            || self
                .others
                .iter()
                .any(|(_, digest)| digest.as_ref() == Some(&cache.digest))
    }
}

impl TaggedCache {
    fn new(tag: String, loaded: &Loaded) -> Self {
        let layers = loaded.manifest.layers.iter();
        let records = loaded.parts.iter().flat_map(|part| &part.config.records);
        let results = || records.clone().flat_map(|record| &record.results);
        let chains = || records.clone().flat_map(|record| &record.chains);
        let of_results = results().flat_map(|r| [&r.created_at, &r.last_used]);
        let of_chains = chains().flat_map(|c| [&c.created_at, &c.last_used]);
        let times = of_results.chain(of_chains);
        let notes = loaded.manifest.extras.notes();
        let is_own = notes.tag.as_deref() == Some(tag.as_str());
        let replaced = if is_own { notes.replaced() } else { &[] }.to_vec();
        Self {
            tag,
            digest: loaded.raw.digest.clone(),
            layers: layers
                .map(|layer| (layer.digest.clone(), layer.size))
                .collect(),
            results: results().count() + chains().count(),
            last_used: times
                .filter_map(|time| time.parse().ok())
                .chain(written(&loaded.raw.bytes, &loaded.manifest))
                .max(),
            replaced,
        }
    }

    /// Returns the size of its layers in bytes.
    pub fn size(&self) -> u64 {
        let sizes = self.layers.values().copied();
        sizes.fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(tag: &str, manifest: &str, layers: &[(&str, u64)]) -> TaggedCache {
        let layers = layers.iter();
        TaggedCache {
            tag: tag.to_owned(),
            digest: Digest::of(manifest.as_bytes()),
            layers: layers
                .map(|(name, size)| (Digest::of(name.as_bytes()), *size))
                .collect(),
            results: 1,
            last_used: None,
            replaced: Vec::new(),
        }
    }

    fn survey() -> Survey {
        Survey {
            caches: vec![
                cache("a", "1", &[("base", 100), ("a", 10)]),
                cache("b", "2", &[("base", 100), ("both", 5)]),
                cache("c", "2", &[("base", 100), ("both", 5)]),
                cache("d", "3", &[("d", 1)]),
            ],
            others: vec![("image".into(), Some(Digest::of(b"3"))), ("x".into(), None)],
        }
    }

    #[test]
    fn only_what_nobody_else_has_is_freed() {
        let survey = survey();
        let freed = |tags: &[&str]| survey.freed_by(&tags.iter().copied().collect());
        assert_eq!(survey.size(), 116);
        assert_eq!(freed(&["a"]), 10);
        assert_eq!(freed(&["b"]), 0);
        assert_eq!(freed(&["b", "c"]), 5);
        assert_eq!(freed(&["a", "b", "c"]), 115);
        assert_eq!(freed(&[]), 0);
    }

    #[test]
    fn a_manifest_with_two_tags_is_shared_also_with_what_is_no_cache() {
        let survey = survey();
        let shared: Vec<bool> = survey.caches.iter().map(|c| survey.is_shared(c)).collect();
        assert_eq!(shared, [false, true, true, true]);
    }
}
