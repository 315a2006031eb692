use serde_json::{Map, json};

use super::*;
use crate::cache::config::{CacheInput, CacheLayer, CacheResult, ChainedResult};
use crate::cache::manifest::{Descriptor, Form};

/// A chain of steps: record and layer N lie on N-1, and the result of N was made on day N+1. The
/// last record has a chain of all layers besides, which has no time.
fn config(steps: usize) -> CacheConfig {
    let mut config = CacheConfig::default();
    for step in 0..steps {
        config.layers.push(CacheLayer {
            blob: Digest::of(&step.to_be_bytes()),
            parent: Parent(step.checked_sub(1)),
            annotations: None,
            other: Map::new(),
        });
        let link = step.checked_sub(1).map(|link| CacheInput {
            selector: String::new(),
            link,
            other: Map::new(),
        });
        config.records.push(CacheRecord {
            results: vec![CacheResult {
                layer: step,
                created_at: format!("2026-01-{:02}T00:00:00Z", step + 1),
                other: Map::new(),
            }],
            digest: Digest::of(&[1, u8::try_from(step).unwrap()]).to_string(),
            inputs: link.into_iter().map(|link| vec![link]).collect(),
            ..CacheRecord::default()
        });
    }
    let last = config.records.last_mut().unwrap();
    last.chains.push(ChainedResult {
        layers: (0..steps).collect(),
        created_at: String::new(),
        other: Map::new(),
    });
    config
}

/// Branches: each record has its own layer and no input.
fn branches(count: usize) -> CacheConfig {
    let mut config = config(count);
    for record in &mut config.records {
        record.inputs.clear();
        record.chains.clear();
    }
    for layer in &mut config.layers {
        layer.parent = Parent(None);
    }
    config
}

fn manifest(config: &CacheConfig) -> CacheManifest {
    let descriptor = |digest: Digest, media_type: &str, size: usize| Descriptor {
        media_type: media_type.to_owned(),
        digest,
        size: size as u64,
        annotations: Map::new(),
        other: Map::new(),
    };
    let bytes = config.to_bytes().unwrap();
    let layers = config.layers.iter();
    CacheManifest {
        form: Form::OciManifest,
        config: Some(descriptor(
            Digest::of(&bytes),
            crate::cache::config::MEDIA_TYPE,
            bytes.len(),
        )),
        layers: layers
            .map(|l| {
                descriptor(
                    l.blob.clone(),
                    "application/vnd.oci.image.layer.v1.tar+gzip",
                    1,
                )
            })
            .collect(),
        other: Map::new(),
    }
}

fn trimmed(config: &CacheConfig, limit: usize) -> (CacheConfig, CacheManifest, Trim) {
    let made = trim(config, &manifest(config), limit).unwrap();
    assert!(made.config.len() <= limit && made.manifest.len() <= limit);
    let smaller = CacheConfig::parse(&made.config).unwrap();
    let listed = CacheManifest::parse(&made.manifest, "").unwrap();
    let named = listed.config.as_ref().unwrap();
    assert_eq!(named.digest, Digest::of(&made.config));
    assert_eq!(named.digest, made.config_digest);
    assert_eq!(named.size, made.config.len() as u64);
    let blobs: Vec<_> = listed.layers.iter().map(|l| &l.digest).collect();
    let wanted: Vec<_> = smaller.layers.iter().map(|l| &l.blob).collect();
    assert_eq!(blobs, wanted);
    (smaller, listed, made.what)
}

#[test]
fn what_fits_stays_as_it_is() {
    let config = config(5);
    let (smaller, listed, what) = trimmed(&config, 1 << 20);
    assert_eq!(smaller, config);
    assert_eq!(listed, manifest(&config));
    assert_eq!((what.results, what.kept), (6, 6));
}

#[test]
fn the_oldest_results_go_with_what_only_they_need() {
    let config = branches(20);
    let limit = manifest(&config).to_bytes().unwrap().len() / 2;
    let (smaller, _, what) = trimmed(&config, limit);
    assert!(what.kept > 5 && what.kept < 15, "{what:?}");
    assert_eq!(smaller.records.len(), what.kept);
    assert_eq!(smaller.layers.len(), what.kept);
    let first = 20 - what.kept;
    assert_eq!(smaller.records[0].digest, config.records[first].digest);
    assert_eq!(smaller.layers[0].blob, config.layers[first].blob);
    assert_eq!(smaller.records[0].results[0].layer, 0);
    assert_eq!(
        what.to_string(),
        format!(
            "the cache is larger than BuildKit reads (1 MiB): the oldest {first} of its 20 results are left out"
        )
    );
}

#[test]
fn a_result_keeps_all_below_it() {
    let config = config(20);
    let whole = config.to_bytes().unwrap().len();
    let (smaller, _, what) = trimmed(
        &config,
        whole.max(manifest(&config).to_bytes().unwrap().len()) - 1,
    );
    // The chain without a time is the oldest.
    assert!(
        smaller
            .records
            .iter()
            .all(|record| record.chains.is_empty())
    );
    assert!(what.kept < 21);
    assert_eq!(smaller.records.len(), 20);
    assert_eq!(smaller.layers.len(), 20);
    assert_eq!(smaller.records[19].inputs[0][0].link, 18);
}

#[test]
fn nothing_may_be_left() {
    let config = config(3);
    let empty = trim(
        &CacheConfig::default(),
        &manifest(&CacheConfig::default()),
        1 << 20,
    )
    .unwrap();
    let limit = empty.manifest.len();
    let (smaller, listed, what) = trimmed(&config, limit);
    assert_eq!(what.kept, 0);
    assert!(smaller.records.is_empty() && listed.layers.is_empty());
}

#[test]
fn unknown_fields_stay() {
    let mut config = branches(2);
    config.other.insert("x".to_owned(), json!(1));
    config.records[1].other.insert("y".to_owned(), json!(2));
    let (smaller, _, _) = trimmed(&config, 1 << 20);
    assert_eq!(smaller, config);
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    /// Records that link to earlier ones and have results at any layer.
    fn any_config() -> impl Strategy<Value = CacheConfig> {
        let layer = (any::<u8>(), any::<bool>());
        let record = (
            prop::collection::vec((any::<u8>(), 1_u8..29), 0..3),
            prop::collection::vec(any::<u8>(), 0..3),
        );
        (
            prop::collection::vec(layer, 1..12),
            prop::collection::vec(record, 1..20),
        )
            .prop_map(|(layers, records)| {
                let count = layers.len();
                let mut config = CacheConfig::default();
                for (index, (parent, first)) in layers.into_iter().enumerate() {
                    let parent = (!first && index > 0).then(|| usize::from(parent) % index.max(1));
                    config.layers.push(CacheLayer {
                        blob: Digest::of(&index.to_be_bytes()),
                        parent: Parent(parent),
                        annotations: None,
                        other: Map::new(),
                    });
                }
                for (index, (results, links)) in records.into_iter().enumerate() {
                    let results = results.into_iter().map(|(layer, day)| CacheResult {
                        layer: usize::from(layer) % count,
                        created_at: format!("2026-02-{day:02}T00:00:00Z"),
                        other: Map::new(),
                    });
                    let inputs = links.into_iter().filter(|_| index > 0).map(|link| {
                        vec![CacheInput {
                            selector: String::new(),
                            link: usize::from(link) % index.max(1),
                            other: Map::new(),
                        }]
                    });
                    config.records.push(CacheRecord {
                        results: results.collect(),
                        digest: Digest::of(&[7, u8::try_from(index).unwrap()]).to_string(),
                        inputs: inputs.collect(),
                        ..CacheRecord::default()
                    });
                }
                config
            })
    }

    proptest! {
        #[test]
        fn every_size_is_a_sound_cache(config in any_config(), part in 0_usize..100) {
            let manifest = manifest(&config);
            let places = by_age(&config);
            let count = places.len() * part / 100;
            let made = make(&config, &manifest, &places, count).unwrap();
            let smaller = CacheConfig::parse(&made.config).unwrap();
            // Each kept result is of the same record and leads to the same blobs.
            let chains = |config: &CacheConfig, record: usize| -> Vec<Vec<Digest>> {
                let results = config.records[record].results.iter();
                results
                    .map(|r| config.chain(r.layer).into_iter().map(|l| config.layers[l].blob.clone()).collect())
                    .collect()
            };
            let total: usize = smaller.records.iter().map(|r| r.results.len()).sum();
            prop_assert_eq!(total, count);
            for (new, record) in smaller.records.iter().enumerate() {
                let old = config.records.iter().position(|r| r.digest == record.digest).unwrap();
                prop_assert_eq!(record.inputs.len(), config.records[old].inputs.len());
                for (a, b) in record.inputs.iter().flatten().zip(config.records[old].inputs.iter().flatten()) {
                    prop_assert_eq!(&smaller.records[a.link].digest, &config.records[b.link].digest);
                }
                let before = chains(&config, old);
                for chain in chains(&smaller, new) {
                    prop_assert!(before.contains(&chain));
                }
            }
        }
    }
}
