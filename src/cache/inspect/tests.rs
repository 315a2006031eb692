use serde_json::{Value, json};

use super::*;
use crate::cache::config::{self, CacheLayer, Parent};
use crate::cache::extras::Extras;
use crate::cache::manifest::CacheManifest;
use crate::cache::unknown::Unknown;
use crate::registry::RawManifest;

fn descriptor(name: &str, kind: &str, size: u64, annotations: &Value) -> Descriptor {
    Descriptor {
        media_type: format!("application/vnd.oci.image.layer.v1.tar{kind}"),
        digest: Digest::of(name.as_bytes()),
        size,
        annotations: annotations.as_object().unwrap().clone(),
        other: Unknown::default(),
    }
}

/// A base layer below two others, a layer of a chain, and one that nothing leads to.
pub(crate) fn loaded() -> Loaded {
    let toc = json!({STARGZ_TOC: "sha256:x"});
    let made =
        json!({CREATED_AT: "2026-01-02T00:00:00Z", DESCRIPTION: "RUN make\n\tall \u{1b}[31mred"});
    let layers = vec![
        descriptor("base", "+gzip", 30_000_000, &json!({})),
        descriptor("left", "+zstd", 2_000_000, &made),
        descriptor("right", "+gzip", 1_500, &toc),
        descriptor("chained", "", 512, &json!({})),
        descriptor("lost", "+gzip", 7, &json!({})),
    ];
    let names = [
        ("base", -1),
        ("left", 0),
        ("right", 0),
        ("chained", -1),
        ("unlisted", -1),
    ];
    let cached = names.map(|(name, parent)| CacheLayer {
        blob: Digest::of(name.as_bytes()),
        parent: Parent(usize::try_from(parent).ok()),
        annotations: None,
        other: Unknown::default(),
    });
    let records = json!([
        {"digest": "sha256:a", "layers": [{"layer": 0, "createdAt": "2026-01-01T00:00:00Z"}]},
        {"digest": "sha256:b", "layers": [{"layer": 1, "createdAt": "2026-01-03T00:00:00Z"}], "inputs": [[{"link": 0}]]},
        {"digest": "sha256:c", "layers": [{"layer": 2, "createdAt": "0001-01-01T00:00:00Z"}], "inputs": [[{"link": 0}]]},
        {"digest": "sha256:d", "chains": [{"layers": [1, 3], "createdAt": "2026-01-04T00:00:00Z"}]},
        {"digest": "sha256:e", "inputs": [[{"link": 3}]]},
    ]);
    let manifest = CacheManifest {
        extras: Extras::default(),
        form: Form::OciManifest,
        config: Some(Descriptor::new(
            config::MEDIA_TYPE,
            Digest::of(b"config"),
            1234,
        )),
        layers: layers.clone(),
        other: Unknown::default(),
    };
    let config = CacheConfig {
        layers: cached.to_vec(),
        records: serde_json::from_value(records).unwrap(),
        ..CacheConfig::default()
    };
    config.check().unwrap();
    let bytes = manifest.to_bytes().unwrap();
    Loaded {
        raw: RawManifest {
            digest: Digest::of(&bytes),
            bytes: bytes.into(),
            media_type: Form::OciManifest.media_type().to_owned(),
        },
        parts: vec![CachePart {
            platform: None,
            config_blob: manifest.config.clone().unwrap(),
            config,
            layers,
        }],
        manifest,
    }
}

#[test]
fn layers_are_counted_by_the_results_that_use_them() {
    let inspection = Inspection::new("r.io/a:c", &loaded(), None);
    let uses: Vec<_> = inspection
        .layers
        .iter()
        .map(|layer| layer.results)
        .collect();
    assert_eq!(uses, [3, 2, 1, 1, 0]);
    assert_eq!((inspection.records, inspection.results), (5, 4));
    assert_eq!(inspection.total_size, 32_002_019);
    assert_eq!(inspection.shared_size, 32_000_000);
    assert_eq!(inspection.unreachable_size, 7);
    assert_eq!(inspection.oldest.as_deref(), Some("2026-01-01T00:00:00Z"));
    assert_eq!(inspection.newest.as_deref(), Some("2026-01-04T00:00:00Z"));
    let kinds: Vec<_> = inspection
        .layers
        .iter()
        .map(|layer| layer.compression)
        .collect();
    assert_eq!(kinds, ["gzip", "zstd", "estargz", "uncompressed", "gzip"]);
    let times: Vec<_> = inspection
        .layers
        .iter()
        .map(|l| l.created_at.as_deref())
        .collect();
    let [one, two, four] = [1, 2, 4].map(|day| format!("2026-01-0{day}T00:00:00Z"));
    assert_eq!(
        times,
        [
            Some(one.as_str()),
            Some(two.as_str()),
            None,
            Some(four.as_str()),
            None
        ]
    );
    assert_eq!(
        inspection.warnings,
        [
            "1 layer of the config is not in the manifest",
            "1 layer belongs to no result"
        ]
    );
}

#[test]
fn a_deep_chain_is_counted_in_no_time() {
    let mut loaded = loaded();
    let depth = 100_000;
    let part = &mut loaded.parts[0];
    part.config.layers = (0..depth)
        .map(|index: usize| CacheLayer {
            blob: Digest::of(b"base"),
            parent: Parent(index.checked_sub(1)),
            annotations: None,
            other: Unknown::default(),
        })
        .collect();
    part.config.records.truncate(1);
    part.config.records[0].results[0].layer = depth - 1;
    let inspection = Inspection::new("x", &loaded, None);
    assert_eq!(inspection.layers[0].results, depth);
}

#[test]
fn what_buildkit_does_not_import_is_told() {
    let mut large = loaded();
    large.parts[0].config_blob.size = (1 << 20) + 1;
    large.raw.bytes = vec![b' '; (1 << 20) + 1].into();
    large.parts[0].config.records.clear();
    let warnings = Inspection::new("x", &large, None).warnings;
    assert_eq!(
        warnings[0],
        "the manifest is over 1 MiB: BuildKit does not import it"
    );
    assert_eq!(
        warnings[1],
        "the config is over 1 MiB: BuildKit does not import it"
    );
    assert!(
        warnings.last().unwrap().contains("no result"),
        "{warnings:?}"
    );
}

#[test]
fn missing_blobs_are_told() {
    let missing = HashSet::from([Digest::of(b"left"), Digest::of(b"right")]);
    let inspection = Inspection::new("x", &loaded(), Some(&missing));
    assert!(
        inspection
            .warnings
            .contains(&"2 layers are missing".to_owned())
    );
    assert_eq!(inspection.layers[0].present, Some(true));
    assert_eq!(inspection.layers[1].present, Some(false));
}
