//! Exports chains of layers beside the build's own exports, after the last step.

use std::collections::BTreeMap;
use std::future::ready;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;

use super::layer_sizes::LayerTally;
use super::{Phase, Shared, is_early};
use crate::build::cache::export::EarlyExport;
use crate::buildkit::solve::Entry;

/// An export at the end that takes longer than this has layers to make; a short one is not helped.
const SHORT_END: Duration = Duration::from_millis(250);

impl Shared {
    /// Exports each chain of layers by itself, while the build's own exports go through all of them. Where the
    /// layers turn out to be small it ends: the builder's work is then not the compression, and two exports
    /// have twice of it.
    pub(super) async fn export_chains(&self) {
        tokio::select! {
            () = tokio::time::sleep(SHORT_END) => {}
            () = self.end.cancelled() => return,
        }
        let tally = Mutex::new(LayerTally::default());
        let tally = || tally.lock();
        let chains = stream::iter(self.chains());
        let worth = chains.take_while(|_| ready(!tally().is_of_small_layers()));
        self.export_all(worth, Phase::Built, |layers| tally().add(layers))
            .await;
    }

    /// Returns the last steps of the chains of layers that no export has. BuildKit begins a cache with the
    /// layers of the result (`solver/exporter.go`): those are left to it, unless it makes other things first.
    /// A chain that no cache wants is passed over when its turn comes.
    fn chains(&self) -> Vec<String> {
        let begins_with_result = self.results.is_empty() || self.image_makes_layers();
        let state = self.state.lock();
        let Some(queue) = &state.queue else {
            return Vec::new();
        };
        let mut chains = queue.chains();
        if begins_with_result {
            chains.retain(|last| !queue.in_result(last));
        }
        chains
    }

    /// Returns whether the builder compresses the result's layers for an image as the caches want them, and
    /// nobody else takes them.
    fn image_makes_layers(&self) -> bool {
        let mut caches = self.caches.iter().filter(|cache| is_early(cache));
        caches.all(|cache| {
            let attrs = cache.target().session_attrs();
            let mut results = self.results.iter();
            cache.target().early == EarlyExport::Compress
                && results.any(|image| has_layers_of(image, &attrs))
        })
    }
}

/// Returns whether a result is an image whose layers are those of a cache with these attributes.
fn has_layers_of(image: &Entry, cache: &BTreeMap<String, String>) -> bool {
    matches!(image.kind.as_str(), "image" | "docker" | "oci")
        && compression(&image.attrs) == compression(cache)
}

/// Returns the kind of compression that an export has, and its level if that is given.
fn compression(attrs: &BTreeMap<String, String>) -> (&str, Option<&str>) {
    let value = |key| attrs.get(key).map(String::as_str);
    let kind = value("compression").unwrap_or("gzip");
    (kind, value("compression-level"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::map;

    fn entry(kind: &str, attrs: &[(&str, &str)]) -> Entry {
        Entry {
            kind: kind.to_owned(),
            attrs: map(attrs),
        }
    }

    #[test]
    fn an_image_of_the_same_compression_has_the_layers() {
        let zstd = ("compression", "zstd");
        for (image, cache, expected) in [
            (entry("image", &[]), map(&[("mode", "max")]), true),
            (entry("oci", &[zstd]), map(&[zstd]), true),
            (entry("docker", &[]), map(&[("compression", "gzip")]), true),
            (entry("image", &[]), map(&[zstd]), false),
            (
                entry("image", &[]),
                map(&[("compression-level", "9")]),
                false,
            ),
            (entry("local", &[]), map(&[]), false),
            (entry("tar", &[]), map(&[]), false),
        ] {
            assert_eq!(
                has_layers_of(&image, &cache),
                expected,
                "{image:?} {cache:?}"
            );
        }
    }
}
