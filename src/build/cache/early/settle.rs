//! Keeps the layers of the result as an image wants them, where the rest of a cache is compressed otherwise
//! (`compression=auto`).
//!
//! The first export of a layer fixes its blob in the builder. At the end of the build the image comes before the
//! cache; an export beside the build comes before both, so it begins with the layers that the image will have.

use std::sync::Arc;

use super::Shared;
use super::discard::DiscardStore;
use super::queue::Queue;
use crate::build::cache::export::{RegistryExport, session_entry};
use crate::build::cache::store_id::StoreId;

impl Shared {
    /// Has the builder make the layers of the result that a step is made of, as the image's exporter will ask for
    /// them. Returns whether the step may be exported now: not if that has failed.
    pub(super) async fn settle(&self, step: &str, caches: &[(usize, &RegistryExport)]) -> bool {
        let mut wanted = caches.iter();
        let wanted = wanted.find_map(|(_, cache)| cache.target().result_layers.clone());
        let Some(mut attrs) = wanted else {
            return true;
        };
        attrs.insert("mode".to_owned(), "min".to_owned());
        for below in self.unsettled(step) {
            let definition = {
                let state = self.state.lock();
                let graph = state.queue.as_ref().map(Queue::graph);
                graph.and_then(|graph| graph.ending_at(&below))
            };
            let Some(definition) = definition else {
                continue;
            };
            let id = StoreId::random();
            self.stores
                .add(id.in_session(), Arc::new(DiscardStore::default()));
            let entry = session_entry(attrs.clone(), &id);
            let solved = self.solve(definition, vec![entry]).await;
            self.stores.remove(&id.in_session());
            match solved {
                Some(Ok(())) => {
                    self.state.lock().settled.insert(below);
                }
                Some(Err(error)) => {
                    let error = crate::error::chain(&error);
                    tracing::debug!(step, error, "layers of the result were not made first");
                    return false;
                }
                None => return false,
            }
        }
        true
    }

    fn unsettled(&self, step: &str) -> Vec<String> {
        let state = self.state.lock();
        let Some(queue) = &state.queue else {
            return Vec::new();
        };
        let mut below = queue.result_below(step);
        below.retain(|step| !state.settled.contains(step));
        below
    }
}
