//! Which layers exports have, and how large they are.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::buildkit::session::content::{ContentStore, NewBlob, Pieces, StoreError, Write};
use crate::digest::Digest;

/// An average below this, in bytes, is small. Compressing such a layer is nothing beside what the builder does
/// for each layer whatever its size.
const SMALL: u64 = 64 << 10;

/// Layers with their sizes in bytes.
pub(super) type Layers = HashMap<Digest, u64>;

/// The layers of several exports.
#[derive(Debug, Default)]
pub(super) struct LayerTally {
    /// How large each layer is, and how many exports have it.
    layers: HashMap<Digest, (u64, usize)>,
}

impl LayerTally {
    /// Takes note of an export.
    pub(super) fn add(&mut self, layers: Layers) {
        for (layer, size) in layers {
            let (known, exports) = self.layers.entry(layer).or_default();
            (*known, *exports) = (size, *exports + 1);
        }
    }

    /// Returns whether layers that only one export has are small. What several have is made once, or nobody
    /// makes it: the layers of an image below all of them.
    pub(super) fn is_of_small_layers(&self) -> bool {
        let own = self.layers.values().filter(|(_, exports)| *exports == 1);
        let sizes: Vec<u64> = own.map(|(size, _)| *size).collect();
        !sizes.is_empty() && sizes.iter().sum::<u64>() / (sizes.len() as u64) < SMALL
    }
}

/// The sizes of the layers that were offered to several stores.
#[derive(Debug, Clone, Default)]
pub(super) struct LayerSizes(Arc<Mutex<Layers>>);

impl LayerSizes {
    /// Returns the layers that were offered so far, taken or not.
    pub(super) fn layers(&self) -> Layers {
        self.0.lock().clone()
    }

    /// Returns a store that records the layers offered to another.
    pub(super) fn record(&self, store: Arc<dyn ContentStore>) -> Arc<dyn ContentStore> {
        let layers = self.clone();
        Arc::new(RecordingStore { store, layers })
    }
}

/// A store that records the layers that are offered to it.
struct RecordingStore {
    store: Arc<dyn ContentStore>,
    layers: LayerSizes,
}

#[tonic::async_trait]
impl ContentStore for RecordingStore {
    async fn size(&self, digest: &Digest) -> Result<u64, StoreError> {
        self.store.size(digest).await
    }

    async fn read(
        &self,
        digest: &Digest,
        offset: u64,
        size: Option<u64>,
    ) -> Result<Pieces, StoreError> {
        self.store.read(digest, offset, size).await
    }

    async fn write(&self, blob: NewBlob) -> Result<Write, StoreError> {
        // Config and manifest are no layers.
        if let Some(size) = blob.size.filter(|_| !blob.is_metadata()) {
            self.layers.0.lock().insert(blob.digest.clone(), size);
        }
        self.store.write(blob).await
    }
}

#[cfg(test)]
mod tests {
    use super::super::discard::DiscardStore;
    use super::*;

    fn layers(sizes: &[(&str, u64)]) -> Layers {
        let layers = sizes.iter();
        layers
            .map(|(name, size)| (Digest::of(name.as_bytes()), *size))
            .collect()
    }

    #[tokio::test]
    async fn layers_are_noted_once_and_nothing_else_is() {
        let sizes = LayerSizes::default();
        let stores = [(); 2].map(|()| sizes.record(Arc::new(DiscardStore::default())));
        for store in &stores {
            for (key, name, size) in [
                ("layer-a", "a", Some(7)),
                ("layer-b", "b", None),
                (Digest::of(b"config").as_str(), "config", Some(9)),
            ] {
                let digest = Digest::of(name.as_bytes());
                let key = key.to_owned();
                store.write(NewBlob { key, digest, size }).await.unwrap();
            }
        }
        assert_eq!(sizes.layers(), layers(&[("a", 7)]));
    }

    #[test]
    fn what_all_have_below_does_not_count() {
        let mut tally = LayerTally::default();
        assert!(!tally.is_of_small_layers());
        tally.add(layers(&[("base", 1000 * SMALL), ("a", 10)]));
        assert!(!tally.is_of_small_layers());
        tally.add(layers(&[("base", 1000 * SMALL), ("b", 10)]));
        assert!(tally.is_of_small_layers());
        tally.add(layers(&[("base", 1000 * SMALL), ("c", 3 * SMALL)]));
        assert!(!tally.is_of_small_layers());
    }
}
