use serde_json::json;

use super::*;
use crate::cache::config::{self, CacheLayer, CacheRecord, CacheResult, Parent};
use crate::cache::descriptor::Descriptor;
use crate::cache::extras::Extras;
use crate::cache::media::Form;
use crate::cache::unknown::Unknown;

/// Branches: record and layer N have no other below them; the result of N was made on day N+1.
fn branches(count: usize) -> CacheConfig {
    let mut config = CacheConfig::default();
    for step in 0..count {
        config.layers.push(CacheLayer {
            blob: Digest::of(&step.to_be_bytes()),
            parent: Parent(None),
            annotations: None,
            other: Unknown::default(),
        });
        config.records.push(CacheRecord {
            results: vec![CacheResult {
                layer: step,
                created_at: format!("2026-01-{:02}T00:00:00Z", step + 1),
                last_used: String::new(),
                other: Unknown::default(),
            }],
            digest: format!("record {step:02}"),
            ..CacheRecord::default()
        });
    }
    config
}

fn manifest(config: &CacheConfig) -> CacheManifest {
    let descriptor = |layer: &CacheLayer| {
        Descriptor::new(
            "application/vnd.oci.image.layer.v1.tar+gzip",
            layer.blob.clone(),
            1,
        )
    };
    let bytes = config.to_bytes().unwrap();
    CacheManifest {
        extras: Extras::default(),
        form: Form::OciManifest,
        config: Some(Descriptor::of(config::MEDIA_TYPE, &bytes)),
        layers: config.layers.iter().map(descriptor).collect(),
        other: Unknown::default(),
    }
}

fn trimmed(config: &CacheConfig, limit: usize) -> (CacheConfig, Trim) {
    let made = trim(config, &manifest(config), limit).unwrap();
    assert!(made.config.len() <= limit && made.manifest.len() <= limit);
    let smaller = CacheConfig::parse(&made.config).unwrap();
    let listed = CacheManifest::parse(&made.manifest, "").unwrap();
    let named = listed.config.unwrap();
    assert_eq!(named.digest, Digest::of(&made.config));
    assert_eq!(named.digest, made.config_digest);
    assert_eq!(named.size, made.config.len() as u64);
    let blobs: Vec<_> = listed.layers.iter().map(|l| &l.digest).collect();
    let wanted: Vec<_> = smaller.layers.iter().map(|l| &l.blob).collect();
    assert_eq!(blobs, wanted);
    (smaller, made.what)
}

#[test]
fn what_fits_stays() {
    let (smaller, what) = trimmed(&branches(5), 1 << 20);
    assert_eq!((smaller.records.len(), smaller.layers.len()), (5, 5));
    assert_eq!((what.results, what.kept), (5, 5));
    assert!(what.to_string().contains("twice"), "{what}");
}

#[test]
fn the_oldest_results_go_with_what_only_they_need() {
    let config = branches(20);
    let limit = manifest(&config).to_bytes().unwrap().len() / 2;
    let (smaller, what) = trimmed(&config, limit);
    assert!(what.kept > 5 && what.kept < 15, "{what:?}");
    assert_eq!(smaller.records.len(), what.kept);
    assert_eq!(smaller.layers.len(), what.kept);
    let first = 20 - what.kept;
    assert_eq!(smaller.records[0].digest, config.records[first].digest);
    let layer = &smaller.layers[smaller.records[0].results[0].layer];
    assert_eq!(layer.blob, config.layers[first].blob);
    assert_eq!(
        what.to_string(),
        format!(
            "the cache is larger than BuildKit reads (1 MiB): the oldest {first} of its 20 results are left out"
        )
    );
}

#[test]
fn nothing_may_be_left() {
    let empty = CacheConfig::default();
    let empty = trim(&empty, &manifest(&empty), 1 << 20).unwrap();
    let (smaller, what) = trimmed(&branches(3), empty.manifest.len());
    assert_eq!(what.kept, 0);
    assert!(smaller.records.is_empty() && smaller.layers.is_empty());
}

#[test]
fn unknown_fields_stay() {
    let mut config = branches(2);
    let unknown = |fields| serde_json::from_value::<Unknown>(fields).unwrap();
    config.other = unknown(json!({"x": 1}));
    config.records[1].other = unknown(json!({"y": 2}));
    config.layers[1].other = unknown(json!({"z": 3}));
    let (smaller, _) = trimmed(&config, 1 << 20);
    assert_eq!(smaller.other, config.other);
    assert_eq!(smaller.records[1].other, config.records[1].other);
    let z = |layer: &CacheLayer| layer.other == config.layers[1].other;
    assert!(smaller.layers.iter().any(z));
}
