//! Exports one part of a build: a step with everything that it is made of.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use bollard_buildkit_proto::pb::Definition;

use super::discard::DiscardStore;
use super::layer_sizes::{LayerSizes, Layers};
use super::{Part, Phase, Shared, is_early, keeps};
use crate::build::cache::export::{EarlyExport, RegistryExport, session_entry};
use crate::build::cache::store_id::StoreId;
use crate::buildkit::RpcError;
use crate::buildkit::solve::{self, Entry, SolveRequest};

/// How many bytes the parts may hold that are kept for a build that fails. Each part of a chain of steps
/// holds the records of all steps below it, so that all together grow with the square of the chain.
const MEMORY: usize = 16 << 20;

/// Returns how many of the first parts are forgotten, so that the sizes of the others are within the
/// limit. What no other part has of them is exported again if the build fails.
fn too_many(sizes: &[usize], limit: usize) -> usize {
    let mut held = 0_usize;
    let last = sizes.iter().rev().take_while(|size| {
        held = held.saturating_add(**size);
        held <= limit
    });
    sizes.len() - last.count()
}

impl Shared {
    /// Exports the part of the build that ends at one step. When the build is broken, every cache that
    /// is to be kept takes all of it. When it is built, only the chain of layers that ends at the step is
    /// taken: the others are exported beside it. Returns the layers of the part, if it was exported.
    pub(super) async fn export(&self, step: &str, phase: Phase) -> Layers {
        if self.end.is_cancelled() {
            return Layers::new();
        }
        let over = matches!(phase, Phase::Broken(_));
        let Some((definition, caches)) = self.part(step, over) else {
            return Layers::new();
        };
        if !self.settle(step, &caches).await {
            return Layers::new();
        }
        let sizes = LayerSizes::default();
        let mut entries = Vec::new();
        let mut seen = HashSet::new();
        let mut offered = Vec::new();
        let mut parts = Vec::new();
        for (at, cache) in caches {
            let mut attrs = cache.target().session_attrs();
            if phase == Phase::Built {
                attrs.insert("mode".to_owned(), "min".to_owned());
            }
            let store_id = StoreId::random();
            if !over && cache.target().early == EarlyExport::Compress {
                // Caches of one compression are one to the builder.
                if !seen.insert(attrs.clone()) {
                    continue;
                }
                let store = sizes.record(Arc::new(DiscardStore::default()));
                self.stores.add(store_id.in_session(), store);
            } else {
                let (export, store) = cache.part();
                let family = cache.target().store.in_session();
                self.stores
                    .add_to(family, store_id.in_session(), sizes.record(store));
                parts.push(Part {
                    cache: at,
                    step: step.to_owned(),
                    export,
                });
            }
            entries.push(session_entry(attrs, &store_id));
            offered.push(store_id);
        }
        let begun = Instant::now();
        let solved = self.solve(definition, entries).await;
        for id in offered {
            self.stores.remove(&id.in_session());
        }
        match solved {
            Some(Ok(())) => {
                let layers = sizes.layers();
                let (count, took) = (layers.len(), begun.elapsed());
                tracing::debug!(
                    step,
                    ?phase,
                    count,
                    ?took,
                    "a part of the build was exported"
                );
                parts.retain(|part| self.keeps(part));
                let mut state = self.state.lock();
                state.parts.append(&mut parts);
                if !over {
                    let held: Vec<usize> = state.parts.iter().map(|p| p.export.size()).collect();
                    state.parts.drain(..too_many(&held, MEMORY));
                }
                return layers;
            }
            Some(Err(error)) => {
                let error = crate::error::chain(&error);
                tracing::debug!(step, error, "a part of the build was not exported");
            }
            None => {}
        }
        Layers::new()
    }

    /// Returns the definition of a part, and the caches that want it.
    fn part(&self, step: &str, over: bool) -> Option<(Definition, Vec<(usize, &RegistryExport)>)> {
        let state = self.state.lock();
        let queue = state.queue.as_ref()?;
        let has = |cache: usize| {
            let mut parts = state.parts.iter();
            parts.any(|part| part.cache == cache && part.step == step)
        };
        let wants = |(at, cache): &(usize, &RegistryExport)| {
            let now = if over {
                keeps(cache) && !has(*at)
            } else {
                is_early(cache)
            };
            now && (cache.target().is_max() || queue.in_result(step))
        };
        let caches = self.caches.iter().map(AsRef::as_ref).enumerate();
        let caches: Vec<_> = caches.filter(wants).collect();
        if caches.is_empty() {
            return None;
        }
        Some((queue.graph().ending_at(step)?, caches))
    }

    /// Solves a part; `None` if it was given up.
    pub(super) async fn solve(
        &self,
        definition: Definition,
        cache_exports: Vec<Entry>,
    ) -> Option<Result<(), RpcError>> {
        let request = SolveRequest {
            build_ref: crate::buildkit::new_id(),
            cache_exports,
            ..self.request.clone()
        };
        tokio::select! {
            solved = solve::solve_definition(&self.client, &request, definition) => Some(solved),
            () = self.end.cancelled() => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_parts_are_kept_within_the_limit() {
        assert_eq!(too_many(&[], 10), 0);
        assert_eq!(too_many(&[4, 3, 3], 10), 0);
        assert_eq!(too_many(&[4, 3, 4], 10), 1);
        assert_eq!(too_many(&[1, 1, 11], 10), 3);
        assert_eq!(too_many(&[1, 9, 1], 10), 1);
        // The parts of a chain of steps.
        let chain: Vec<usize> = (1..1000).collect();
        let left: usize = chain[too_many(&chain, 10_000)..].iter().sum();
        assert!((9_000..=10_000).contains(&left));
    }
}
