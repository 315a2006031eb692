use serde_json::json;

use super::*;
use crate::cache::config::{self, CacheInput, CacheLayer, CacheRecord, CacheResult, Parent};
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
    let made = trim(config, &manifest(config), limit, None).unwrap();
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
    let empty = trim(&empty, &manifest(&empty), 1 << 20, None).unwrap();
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

/// What a build can use of 5000 results: a base, and 12 steps on each other of which the last but one reads files. They
/// are the oldest.
fn large() -> (CacheConfig, BTreeSet<usize>) {
    let mut config = branches(5000);
    for record in &mut config.records {
        record.results[0].created_at = "2026-11-01T00:00:00Z".to_owned();
    }
    let link = |link| CacheInput {
        selector: String::new(),
        link,
        other: Unknown::default(),
    };
    let root = |name: &str| CacheRecord {
        digest: name.to_owned(),
        ..CacheRecord::default()
    };
    let base = config.records.len();
    config.records.push(root("base"));
    config.records.push(root("files"));
    config.records[7].inputs = vec![vec![link(base)]];
    for step in 0..12 {
        let below = if step == 0 { base } else { base + 1 + step };
        let mut record = root(&format!("step {step}"));
        record.inputs = vec![vec![link(below)]];
        if step == 10 {
            record.inputs.push(vec![link(base + 1), link(7)]);
        }
        record.results = config.records[step].results.clone();
        record.results[0].created_at = "2020-01-01T00:00:00Z".to_owned();
        config.records.push(record);
    }
    let wanted = (base + 2..base + 14).chain([base]).collect();
    (config, wanted)
}

#[test]
fn what_the_build_can_use_is_left_however_large_the_cache_is() {
    let (config, records) = large();
    let wanted = Wanted {
        records,
        is_sure: true,
    };
    let made = trim(&config, &manifest(&config), 1 << 20, Some(&wanted)).unwrap();
    assert!(made.config.len() < 20_000 && made.manifest.len() < 20_000);
    assert_eq!((made.what.results, made.what.kept), (5012, 12));
    assert_eq!(
        made.what.to_string(),
        "the cache is larger than BuildKit reads (1 MiB): only the 12 of its 5012 results that this build can use are \
         read"
    );
    let smaller = CacheConfig::parse(&made.config).unwrap();
    let names: BTreeSet<&str> = smaller.records.iter().map(|r| r.digest.as_str()).collect();
    assert_eq!(smaller.records.len(), 14);
    assert!(names.contains("base") && names.contains("files"));
    let reads = smaller.records.iter().find(|r| r.digest == "step 10");
    let links: Vec<usize> = reads.unwrap().inputs.iter().map(Vec::len).collect();
    assert_eq!(links, [1, 1], "what is left out is linked to");
    assert_eq!(smaller.layers.len(), 12);
}

#[test]
fn where_that_is_not_sure_it_only_stays_longest() {
    let (config, records) = large();
    let wanted = Wanted {
        records,
        is_sure: false,
    };
    let limit = manifest(&config).to_bytes().unwrap().len() / 2;
    let made = trim(&config, &manifest(&config), limit, Some(&wanted)).unwrap();
    let smaller = CacheConfig::parse(&made.config).unwrap();
    let steps = smaller.records.iter();
    let steps = steps
        .filter(|record| record.digest.starts_with("step "))
        .count();
    assert_eq!(steps, 12);
    assert!(
        made.what.kept > 1000 && made.what.kept < 4000,
        "{:?}",
        made.what
    );
    assert!(
        made.what
            .to_string()
            .ends_with("but for those that this build can use")
    );
}
