//! Exports one part of a build: a step with everything that it is made of.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use bollard_buildkit_proto::pb::Definition;

use super::swallow::Swallow;
use super::tally::{Layers, Notes};
use super::{Early, Lane, Part, Phase, Shared, keeps};
use crate::buildkit::RpcError;
use crate::buildkit::solve::{self, Entry, SolveRequest};
use crate::options::cache::Mode;

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
        let Some((definition, lanes)) = self.part(step, over) else {
            return Layers::new();
        };
        let notes = Notes::default();
        let mut entries = Vec::new();
        let mut seen = HashSet::new();
        let mut offered = Vec::new();
        let mut parts = Vec::new();
        for lane in lanes {
            let Some(Lane { cache, early }) = self.lanes.get(lane) else {
                continue;
            };
            let mut entry = cache.entry().clone();
            entry.attrs.remove("dest");
            if phase == Phase::Built {
                entry.attrs.insert("mode".to_owned(), "min".to_owned());
            }
            let id = crate::buildkit::new_id();
            let store_id = format!("local:{id}");
            if !over && *early == Early::Compressed {
                // Caches of one compression are one to the builder.
                if !seen.insert(entry.attrs.clone()) {
                    continue;
                }
                let store = notes.of(Arc::new(Swallow::default()));
                self.stores.add(store_id.clone(), store);
            } else {
                let (export, store) = cache.part();
                self.stores
                    .add_to(cache.store_id(), store_id.clone(), notes.of(store));
                parts.push(Part {
                    lane,
                    step: step.to_owned(),
                    export,
                });
            }
            offered.push(store_id);
            entry.attrs.insert("dest".to_owned(), id);
            entries.push(entry);
        }
        let begun = Instant::now();
        let solved = self.solve(definition, entries).await;
        for id in offered {
            self.stores.remove(&id);
        }
        match solved {
            Some(Ok(())) => {
                let layers = notes.layers();
                let (count, took) = (layers.len(), begun.elapsed());
                tracing::debug!(
                    step,
                    ?phase,
                    count,
                    ?took,
                    "a part of the build was exported"
                );
                parts.retain(|part| self.lanes.get(part.lane).is_some_and(keeps));
                let mut state = self.state();
                state.parts.append(&mut parts);
                if !over {
                    let sizes: Vec<usize> = state.parts.iter().map(|p| p.export.size()).collect();
                    state.parts.drain(..too_many(&sizes, MEMORY));
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
    fn part(&self, step: &str, over: bool) -> Option<(Definition, Vec<usize>)> {
        let state = self.state();
        let queue = state.queue.as_ref()?;
        let has = |lane: usize| {
            let mut parts = state.parts.iter();
            parts.any(|part| part.lane == lane && part.step == step)
        };
        let wants = |(at, lane): &(usize, &Lane)| {
            let now = if over {
                keeps(lane) && !has(*at)
            } else {
                lane.early != Early::Nothing
            };
            now && (lane.cache.mode() == Mode::Max || queue.in_result(step))
        };
        let lanes = self.lanes.iter().enumerate().filter(wants);
        let lanes: Vec<usize> = lanes.map(|(at, _)| at).collect();
        if lanes.is_empty() {
            return None;
        }
        Some((queue.graph().ending_at(step)?, lanes))
    }

    /// Solves a part; `None` where it was given up.
    async fn solve(
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
