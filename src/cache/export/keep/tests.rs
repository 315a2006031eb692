use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::buildkit::session::content::{ContentStore, NewBlob, Write};
use crate::cache::config::{self, CacheConfig, CacheLayer, CacheRecord, CacheResult, Parent};
use crate::cache::descriptor::Descriptor;
use crate::cache::export::publish::{Rules, publish};
use crate::cache::export::{ExportProgress, ExportSettings, Storage};
use crate::cache::extras::Extras;
use crate::cache::media::Form;
use crate::cache::remote_cache::RemoteCache;
use crate::cache::unknown::Unknown;
use crate::compress::Workers;
use crate::registry::tests::{Fault, ScriptedRegistry, pushable};

const TAR: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const LAYERS: [&[u8]; 2] = [b"the first layer", b"the second layer"];

/// Config and manifest of one step on another.
fn metadata() -> [Bytes; 2] {
    let digests = LAYERS.map(Digest::of);
    let layer = |index: usize, parent| CacheLayer {
        blob: digests[index].clone(),
        parent: Parent(parent),
        annotations: None,
        other: Unknown::default(),
    };
    let record = |layer| CacheRecord {
        results: vec![CacheResult {
            layer,
            created_at: "2026-01-01T00:00:00Z".to_owned(),
            last_used: String::new(),
            other: Unknown::default(),
        }],
        digest: digests[layer].to_string(),
        ..CacheRecord::default()
    };
    let config = CacheConfig {
        layers: vec![layer(0, None), layer(1, Some(0))],
        records: vec![record(0), record(1)],
        ..CacheConfig::default()
    };
    let config = Bytes::from(config.to_bytes().unwrap());
    let blobs = LAYERS.map(|layer| Descriptor::new(TAR, Digest::of(layer), layer.len() as u64));
    let manifest = CacheManifest {
        extras: Extras::default(),
        form: Form::OciManifest,
        config: Some(Descriptor::of(config::MEDIA_TYPE, &config)),
        layers: blobs.into(),
        other: Unknown::default(),
    };
    [config, manifest.to_bytes().unwrap().into()]
}

async fn write(store: &dyn ContentStore, bytes: Bytes, is_layer: bool) {
    let digest = Digest::of(&bytes);
    let key = if is_layer { "layer-" } else { "" };
    let blob = NewBlob {
        key: format!("{key}{digest}"),
        size: Some(bytes.len() as u64),
        digest,
    };
    let Write::Open(mut writer) = store.write(blob).await.unwrap() else {
        panic!("it is there already");
    };
    writer.write(bytes).await.unwrap();
    writer.commit().await.unwrap();
}

/// An export that nobody looks at.
struct Unseen;

impl ExportProgress for Unseen {
    fn part(&self, _name: &str, _current: u64, _total: u64) {}
    fn part_done(&self, _name: &str) {}
    fn done(&self, _summary: &str) {}
    fn failed(&self, _error: &str) {}
}

#[tokio::test]
async fn an_export_that_is_broken_off_keeps_what_has_arrived() {
    let registry = ScriptedRegistry::start().await;
    let repository = pushable(&registry);
    let settings = ExportSettings {
        storage: Storage::AsGiven,
        oci_types: true,
        mount_from: None,
        shares_repository: false,
        progress: Arc::new(Unseen),
    };
    let known = RemoteCache::ask(repository.clone(), "cache".to_owned(), None);
    let dir = tempfile::tempdir().unwrap();
    let workers = Workers::new(NonZeroUsize::MIN);
    let folder = dir.path().into();
    let sink = RegistrySink::new(repository.clone(), settings, known, workers, folder);
    let store = sink.store();
    write(&*store, Bytes::from_static(LAYERS[0]), true).await;
    let first = Digest::of(LAYERS[0]);
    while registry.blob("team/app", first.as_str()).is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // The second one never arrives.
    for method in ["PUT", "PATCH"] {
        registry.fault(method, "/uploads/", (0, 99), Fault::StallInBody(3));
    }
    write(&*store, Bytes::from_static(LAYERS[1]), true).await;
    for bytes in metadata() {
        write(&*store, bytes, false).await;
    }

    let rules = Rules::default();
    let publishing = Box::pin(publish(&sink, "cache", &rules, Beside::default()));
    let broken_off = timeout(Duration::from_millis(200), publishing).await;
    assert!(broken_off.is_err(), "{broken_off:?}");
    let (whole, is_sending) = sink.whole();
    assert!(is_sending);
    // Config and manifest go through again.
    let kept = async {
        let enough = std::future::ready(());
        let bounds = Bounds::default();
        let kept = keep(
            &sink,
            vec![whole],
            "cache",
            &bounds,
            Beside::default(),
            enough,
        );
        timeout(Duration::from_secs(10), kept).await.unwrap()
    };
    for method in ["PUT", "PATCH"] {
        registry.clear(method);
    }
    let kept = kept.await.unwrap().unwrap();
    assert_eq!((kept.layers, kept.sent_layers), (1, 1));
    let manifest = repository.manifest("cache").await.unwrap().unwrap();
    let manifest = CacheManifest::parse(&manifest.bytes, &manifest.media_type).unwrap();
    assert_eq!(manifest.layers.len(), 1);
    assert_eq!(manifest.layers[0].digest, first);

    sink.stop().await;
    repository.client().close().await;
    assert_eq!(registry.open_uploads(), 0);
}
