use std::collections::HashMap;

use serde_json::json;

use super::*;
use crate::cache::config::{self, CacheLayer, Parent};
use crate::cache::descriptor::UNCOMPRESSED;
use crate::cache::extras::Extras;
use crate::cache::media::Form;
use crate::cache::unknown::Unknown;
use crate::compress::Algorithm;

fn stored(digest: Digest, sent: u64) -> StoredLayer {
    StoredLayer {
        digest,
        size: 7,
        algorithm: Some(Algorithm::Zstd),
        sent,
    }
}

/// What BuildKit hands over: two uncompressed layers, the second on the first.
fn collected(blobs: [Digest; 2]) -> (Collected, Digest) {
    let contents = [Digest::of(b"one"), Digest::of(b"two")];
    let config = CacheConfig {
        layers: vec![
            CacheLayer {
                blob: contents[0].clone(),
                parent: Parent(None),
                annotations: None,
                other: Unknown::default(),
            },
            CacheLayer {
                blob: contents[1].clone(),
                parent: Parent(Some(0)),
                annotations: None,
                other: Unknown::default(),
            },
        ],
        ..Default::default()
    };
    let config = Bytes::from(config.to_bytes().unwrap());
    let tar = "application/vnd.oci.image.layer.v1.tar";
    let manifest = CacheManifest {
        extras: Extras::default(),
        form: Form::OciManifest,
        config: Some(Descriptor::of(config::MEDIA_TYPE, &config)),
        layers: contents
            .iter()
            .map(|d| Descriptor::new(tar, d.clone(), 3))
            .collect(),
        other: Unknown::default(),
    };
    let manifest = Bytes::from(manifest.to_bytes().unwrap());
    let digest = Digest::of(&manifest);
    let [a, b] = blobs;
    let collected = Collected {
        broken: Vec::new(),
        layers: HashMap::from([
            (contents[0].clone(), stored(a, 7)),
            (contents[1].clone(), stored(b, 0)),
        ]),
        metadata: HashMap::from([(Digest::of(&config), config), (digest.clone(), manifest)]),
    };
    (collected, digest)
}

#[test]
fn descriptors_and_config_follow_the_stored_blobs() {
    let blobs = [Digest::of(b"z1"), Digest::of(b"z2")];
    let (collected, _) = collected(blobs.clone());
    let made = rewrite(&collected, manifest_of(&collected).unwrap(), true).unwrap();
    let manifest = CacheManifest::parse(&made.manifest, made.media_type).unwrap();
    assert_eq!(manifest.layers[0].digest, blobs[0]);
    assert_eq!(manifest.layers[0].size, 7);
    assert_eq!(
        manifest.layers[0].media_type,
        "application/vnd.oci.image.layer.v1.tar+zstd"
    );
    assert_eq!(
        manifest.layers[0].annotations[UNCOMPRESSED],
        json!(Digest::of(b"one").as_str())
    );
    let config = CacheConfig::parse(&made.config).unwrap();
    assert_eq!(config.layers[1].blob, blobs[1]);
    assert_eq!(config.layers[1].parent, Parent(Some(0)));
    let described = manifest.config.unwrap();
    assert_eq!(described.digest, Digest::of(&made.config));
    assert_eq!(described.size, made.config.len() as u64);
    let report = made.report();
    assert_eq!(
        (report.layers, report.sent_layers, report.sent_bytes),
        (2, 1, 7)
    );
}

#[test]
fn blobs_that_stay_as_they_are_keep_every_byte() {
    let (collected, digest) = collected([Digest::of(b"one"), Digest::of(b"two")]);
    let made = rewrite(&collected, manifest_of(&collected).unwrap(), true).unwrap();
    assert_eq!(Digest::of(&made.manifest), digest);
}

#[test]
fn equal_contents_become_one_blob() {
    let same = Digest::of(b"same");
    let (collected, _) = collected([same.clone(), same.clone()]);
    let made = rewrite(&collected, manifest_of(&collected).unwrap(), false).unwrap();
    let manifest = CacheManifest::parse(&made.manifest, "").unwrap();
    assert_eq!(manifest.layers.len(), 1);
    let docker = "application/vnd.docker.image.rootfs.diff.tar.zstd";
    assert_eq!(manifest.layers[0].media_type, docker);
}

#[test]
fn what_is_missing_is_named() {
    let (mut collected, _) = collected([Digest::of(b"a"), Digest::of(b"b")]);
    collected.layers.clear();
    assert!(matches!(
        rewrite(&collected, manifest_of(&collected).unwrap(), true),
        Err(PublishError::Missing("layers"))
    ));
}

#[test]
fn without_a_manifest_there_is_nothing_to_publish() {
    assert!(manifest_of(&Collected::default()).is_none());
}
