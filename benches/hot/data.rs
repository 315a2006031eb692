//! Caches that are the same in every run.

use docker_cachex::for_tests::cache::config::{
    CacheConfig, CacheInput, CacheLayer, CacheRecord, CacheResult, Parent,
};
use docker_cachex::for_tests::cache::descriptor::Descriptor;
use docker_cachex::for_tests::cache::extras::Extras;
use docker_cachex::for_tests::cache::manifest::CacheManifest;
use docker_cachex::for_tests::cache::media::Form;
use docker_cachex::for_tests::cache::unknown::Unknown;
use docker_cachex::for_tests::digest::Digest;
use serde_json::Map;

/// Records to a layer, about as in a cache of BuildKit: a key by the definition, one by the content, and the source's.
const KEYS: usize = 3;

/// A cache of a long build: each step has [`KEYS`] records, which depend on the step before. The second half of the steps
/// is those of a branch, so two branches share the first half.
pub(crate) fn cache(records: usize, branch: &str) -> CacheConfig {
    let digest = |kind: &str, index: usize, of: usize| {
        let name = if index < of / 2 { "main" } else { branch };
        Digest::of(format!("{kind} {index} of {name}").as_bytes())
    };
    let steps = records / KEYS;
    let layers = (0..steps).map(|step| CacheLayer {
        blob: digest("layer", step, steps),
        parent: Parent(step.checked_sub(1)),
        annotations: None,
        other: Unknown::default(),
    });
    let records = (0..records).map(|index| {
        let step = index / KEYS;
        CacheRecord {
            results: (index.is_multiple_of(KEYS) && step < steps)
                .then(|| result(step))
                .into_iter()
                .collect(),
            digest: digest("record", index, records).to_string(),
            inputs: inputs(index),
            ..CacheRecord::default()
        }
    });
    CacheConfig {
        layers: layers.collect(),
        records: records.collect(),
        other: Unknown::default(),
    }
}

fn result(layer: usize) -> CacheResult {
    CacheResult {
        layer,
        created_at: "2026-11-24T12:00:00.123456789Z".to_owned(),
        last_used: String::new(),
        other: Unknown::default(),
    }
}

/// The first record of a step depends on all records of the step before, the others on nothing.
fn inputs(index: usize) -> Vec<Vec<CacheInput>> {
    if index < KEYS || !index.is_multiple_of(KEYS) {
        return Vec::new();
    }
    let links = (index - KEYS..index).map(|link| CacheInput {
        selector: String::new(),
        link,
        other: Unknown::default(),
    });
    vec![links.collect()]
}

/// The manifest of a cache.
pub(crate) fn manifest(config: &CacheConfig) -> CacheManifest {
    let layers = config.layers.iter().map(|layer| Descriptor {
        media_type: "application/vnd.oci.image.layer.v1.tar+gzip".to_owned(),
        digest: layer.blob.clone(),
        size: 1_000_000,
        annotations: Map::new(),
        other: Unknown::default(),
    });
    CacheManifest {
        extras: Extras::default(),
        form: Form::OciManifest,
        config: None,
        layers: layers.collect(),
        other: Unknown::default(),
    }
}
