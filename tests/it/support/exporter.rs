//! BuildKit's part in the export of a cache, played against a registry in this process.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use docker_cachex::for_tests::buildkit::session::content::{
    ContentStore, NewBlob, StoreError, Write,
};
use docker_cachex::for_tests::cache::config::{
    CacheConfig, CacheLayer, CacheRecord, CacheResult, MEDIA_TYPE, Parent,
};
use docker_cachex::for_tests::cache::descriptor::Descriptor;
use docker_cachex::for_tests::cache::export::{
    Beside, ExportProgress, ExportSettings, PublishError, Published, RegistrySink, Rules, Storage,
    publish,
};
use docker_cachex::for_tests::cache::extras::Extras;
use docker_cachex::for_tests::cache::manifest::CacheManifest;
use docker_cachex::for_tests::cache::media::Form;
use docker_cachex::for_tests::cache::remote_cache::RemoteCache;
use docker_cachex::for_tests::cache::unknown::Unknown;
use docker_cachex::for_tests::compress::{Algorithm, Level, Workers};
use docker_cachex::for_tests::digest::Digest;
use docker_cachex::for_tests::docker::Tokens;
use docker_cachex::for_tests::registry::{
    Access, HostConfig, RegistryClient, Repository, RetryPolicy, SpoolDir, SystemClock, Timeouts,
    Transport,
};

use super::scripted_registry::{ScriptedRegistry, digest_of};

const REPO: &str = "team/cache";
const TAG: &str = "main";
/// An export with faults that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(30);

/// BuildKit as it exports to a content store.
pub(crate) struct Exporter {
    pub(crate) layers: Vec<Bytes>,
    /// The layer whose digest is announced wrong.
    pub(crate) lies: Option<usize>,
}

/// What came of an export.
#[derive(Debug)]
pub(crate) struct Exported {
    pub(crate) published: Published,
    /// Layers that were read out of BuildKit.
    pub(crate) read: usize,
}

impl Exporter {
    /// Creates one that exports these layers, each on the one before.
    pub(crate) fn of(layers: &[Bytes]) -> Self {
        Self {
            layers: layers.to_vec(),
            lies: None,
        }
    }

    fn digest(&self, layer: usize) -> Digest {
        if self.lies == Some(layer) {
            return Digest::of(b"something else");
        }
        Digest::of(&self.layers[layer])
    }

    /// Hands everything over, and stops at the first error as BuildKit does. Returns how many layers were read.
    async fn hand_over(&self, store: &Arc<dyn ContentStore>) -> Result<usize, StoreError> {
        let layers = (0..self.layers.len()).map(|n| {
            let digest = self.digest(n);
            write(store, format!("layer-{digest}"), digest, &self.layers[n])
        });
        let read = futures_util::future::try_join_all(layers).await?;
        let (config, manifest) = self.documents();
        for document in [config, manifest] {
            let digest = Digest::of(&document);
            write(store, digest.to_string(), digest, &document).await?;
        }
        Ok(read.into_iter().filter(|read| *read).count())
    }

    fn documents(&self) -> (Bytes, Bytes) {
        let digests: Vec<Digest> = (0..self.layers.len()).map(|n| self.digest(n)).collect();
        let config = CacheConfig {
            layers: digests
                .iter()
                .enumerate()
                .map(|(n, blob)| CacheLayer {
                    blob: blob.clone(),
                    parent: Parent(n.checked_sub(1)),
                    annotations: None,
                    other: Unknown::default(),
                })
                .collect(),
            records: (0..digests.len())
                .map(|layer| CacheRecord {
                    digest: digests[layer].to_string(),
                    results: vec![CacheResult {
                        layer,
                        created_at: String::new(),
                        last_used: String::new(),
                        other: Unknown::default(),
                    }],
                    ..CacheRecord::default()
                })
                .collect(),
            other: Unknown::default(),
        };
        let config = Bytes::from(config.to_bytes().expect("a config"));
        let layer = "application/vnd.oci.image.layer.v1.tar";
        let manifest = CacheManifest {
            form: Form::OciManifest,
            extras: Extras::default(),
            config: Some(Descriptor::of(MEDIA_TYPE, &config)),
            layers: digests
                .into_iter()
                .zip(&self.layers)
                .map(|(digest, bytes)| Descriptor::new(layer, digest, bytes.len() as u64))
                .collect(),
            other: Unknown::default(),
        };
        (config, manifest.to_bytes().expect("a manifest").into())
    }
}

/// Writes a blob; returns whether it was wanted.
async fn write(
    store: &Arc<dyn ContentStore>,
    key: String,
    digest: Digest,
    bytes: &Bytes,
) -> Result<bool, StoreError> {
    let size = Some(bytes.len() as u64);
    match store.write(NewBlob { key, digest, size }).await? {
        Write::Exists => Ok(false),
        Write::Open(mut writer) => {
            for piece in bytes.chunks(64 * 1024) {
                writer.write(Bytes::copy_from_slice(piece)).await?;
            }
            writer.commit().await?;
            Ok(true)
        }
    }
}

/// A client of the tests' repository that gives up soon.
pub(crate) fn repository(host: &str, attempts: u32) -> Repository {
    let mut config = HostConfig::new(host);
    config.transport = Transport::Http;
    config.timeouts = Timeouts {
        connect: Duration::from_secs(5),
        idle: Duration::from_millis(500),
        small: Duration::from_millis(500),
        commit: Duration::from_millis(500),
        token: Duration::from_secs(5),
        cancel: Duration::from_secs(1),
    };
    let policy = RetryPolicy {
        attempts,
        first_delay: Duration::from_millis(5),
        max_delay: Duration::from_millis(200),
        ..RetryPolicy::default()
    };
    RegistryClient::new(config, Tokens::anonymous(), policy, Arc::new(SystemClock))
        .and_then(|client| client.repository(REPO, Access::Delete))
        .expect("a repository")
}

/// The ways to store layers.
pub(crate) fn storages() -> [Storage; 2] {
    let level = Level::new(Algorithm::Zstd, None).expect("a level");
    [Storage::AsGiven, Storage::Compress { level, force: true }]
}

/// An export that nobody looks at.
struct Unseen;

impl ExportProgress for Unseen {
    fn part(&self, _name: &str, _current: u64, _total: u64) {}
    fn part_done(&self, _name: &str) {}
    fn done(&self, _summary: &str) {}
    fn failed(&self, _error: &str) {}
}

/// The sink of an export to the tests' tag.
pub(crate) fn sink(
    repository: &Repository,
    storage: Storage,
    spool: impl Into<SpoolDir>,
) -> RegistrySink {
    let settings = ExportSettings {
        storage,
        oci_types: true,
        mount_from: None,
        shares_repository: false,
        progress: Arc::new(Unseen),
    };
    let known = RemoteCache::ask(repository.clone(), TAG.to_owned(), None);
    RegistrySink::new(
        repository.clone(),
        settings,
        known,
        Workers::all_cores(),
        spool.into(),
    )
}

/// A whole export, with the second try that lost blobs get.
pub(crate) async fn export(exporter: &Exporter, sink: &RegistrySink) -> Result<Exported, String> {
    let work = async {
        let store = sink.store();
        let mut read = 0;
        for _ in 0..2 {
            match exporter.hand_over(&store).await {
                Ok(wanted) => read += wanted,
                Err(heard) => return Err(sink.failure().await.unwrap_or(heard.to_string())),
            }
            match Box::pin(publish::publish(
                sink,
                TAG,
                &Rules::default(),
                Beside::default(),
            ))
            .await
            {
                Ok(published) => {
                    let published = published.expect("something to publish");
                    return Ok(Exported { published, read });
                }
                Err(PublishError::Lost(_)) => {}
                Err(error) => return Err(docker_cachex::for_tests::error::chain(&error)),
            }
        }
        Err("lost twice".to_owned())
    };
    tokio::time::timeout(LIMIT, work)
        .await
        .expect("the export hangs")
}

/// The manifest under the tag, with its digest.
pub(crate) async fn manifest(repository: &Repository) -> (CacheManifest, Digest) {
    let raw = repository
        .manifest(TAG)
        .await
        .expect("an answer")
        .expect("a cache");
    let manifest = CacheManifest::parse(&raw.bytes, &raw.media_type).expect("a manifest");
    (manifest, raw.digest)
}

/// Reads the cache under the tag: all that it refers to must be there and be what its digest says.
pub(crate) async fn readable(registry: &ScriptedRegistry, repository: &Repository) -> Digest {
    let (manifest, digest) = manifest(repository).await;
    let config = manifest.config.clone().expect("a config");
    for entry in manifest.layers.iter().chain([&config]) {
        let blob = registry.blob(REPO, entry.digest.as_str()).expect("a blob");
        assert_eq!(digest_of(&blob), entry.digest.as_str());
        assert_eq!(blob.len() as u64, entry.size);
    }
    let config = registry
        .blob(REPO, config.digest.as_str())
        .expect("a config");
    let config = CacheConfig::parse(&config).expect("a config");
    for layer in &config.layers {
        assert!(
            manifest
                .layers
                .iter()
                .any(|entry| entry.digest == layer.blob)
        );
    }
    digest
}

/// A registry that holds a cache of the first two layers.
pub(crate) async fn registry_with_cache(
    storage: Storage,
    layers: &[Bytes],
    spool: &Path,
) -> (ScriptedRegistry, Digest) {
    let registry = ScriptedRegistry::start().await;
    let repository = repository(&registry.host(), 3);
    let sink = sink(&repository, storage, spool);
    export(&Exporter::of(&layers[..2]), &sink)
        .await
        .expect("the first export");
    let digest = readable(&registry, &repository).await;
    (registry, digest)
}
