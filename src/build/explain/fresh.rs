//! What the builder has just exported.

use super::Around;
use crate::build::cache::CacheTarget;
use crate::build::cache::export::targets::RegistryTarget;
use crate::cache::config::CacheConfig;
use crate::cache::source::CacheSource;
use crate::reference::DEFAULT_TAG;
use crate::registry::Access;

/// Reads a cache that the build has written to a registry, if there is one that holds all of its steps.
pub(super) async fn read(around: Around<'_>) -> Option<CacheConfig> {
    let mut targets = around.targets.iter();
    let target = targets.find_map(|target| match target {
        CacheTarget::Registry(target) if holds_all(target) => Some(target),
        _ => None,
    })?;
    let cache = &target.cache;
    let insecure = cache.insecure == Some(true);
    let repository = around.registries;
    let repository = repository.repository(&cache.reference, insecure, Access::Pull);
    let tag = cache.reference.tag.as_deref().unwrap_or(DEFAULT_TAG);
    let source = CacheSource::Registry {
        repository: repository.ok()?,
        reference: tag.to_owned(),
    };
    match source.load().await {
        Ok(loaded) => loaded.parts.into_iter().next().map(|part| part.config),
        Err(error) => {
            let error = crate::error::chain(&error);
            tracing::debug!(error, "the cache that was written cannot be read");
            None
        }
    }
}

/// Returns whether nothing of what the builder exports is left out.
fn holds_all(target: &RegistryTarget) -> bool {
    let cache = &target.cache;
    cache.max_age.is_none() && cache.max_size.is_none() && cache.max_records.is_none()
}
