//! Manifests that tags have held before, as they note, and that no tag has now.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;

use super::extras::clean::is_of;
use super::survey::{Survey, TaggedCache};
use crate::digest::Digest;
use crate::registry::{RegistryError, Repository};

/// A manifest that no tag has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// The tag that it was of.
    pub tag: String,
    /// Its digest.
    pub digest: Digest,
}

/// Finds the manifests that some caches of a survey note, that were replaced longer ago than `grace`, and that are still
/// there. The survey must be of all tags: any may have one of them.
///
/// # Errors
///
/// Fails if the registry does not answer, or refuses.
pub async fn find(
    repository: &Repository,
    survey: &Survey,
    caches: impl Iterator<Item = &TaggedCache>,
    grace: Duration,
    now: Timestamp,
) -> Result<Vec<Orphan>, RegistryError> {
    let mut held = None;
    let mut found = Vec::new();
    for cache in caches {
        for old in cache.replaced.iter().filter(|old| old.is_due(grace, now)) {
            if held.is_none() {
                held = Some(self::held(repository, survey).await?);
            }
            let is_held = |held: &HashSet<Digest>| held.contains(&old.digest);
            if !held.as_ref().is_some_and(is_held)
                && is_of(repository, &cache.tag, &old.digest).await?
            {
                found.push(Orphan {
                    tag: cache.tag.clone(),
                    digest: old.digest.clone(),
                });
            }
        }
    }
    Ok(found)
}

/// Returns the manifests that the tags have.
async fn held(repository: &Repository, survey: &Survey) -> Result<HashSet<Digest>, RegistryError> {
    let caches = survey.caches.iter().map(|cache| cache.digest.clone());
    let mut held: HashSet<Digest> = caches.collect();
    for (tag, digest) in &survey.others {
        if let Some(digest) = digest {
            held.insert(digest.clone());
        } else {
            // What could not be read may be anything.
            let other = repository.manifest_descriptor(tag).await?;
            held.extend(other.map(|other| other.digest));
        }
    }
    Ok(held)
}
