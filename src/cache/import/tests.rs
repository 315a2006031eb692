use futures_util::TryStreamExt as _;
use serde_json::json;

use super::*;
use crate::cache::config::{self, CacheLayer, CacheRecord, CacheResult, Parent};
use crate::cache::extras::Extras;
use crate::cache::media::Form;
use crate::cache::unknown::Unknown;
use crate::registry::tests::{Fault, ScriptedRegistry, pushable};
use crate::registry::{BlobSource, UploadOptions};

const MIB: usize = 1 << 20;
const REPO: &str = "team/app";

fn data(length: usize) -> Vec<u8> {
    (0..length)
        .map(|n| u8::try_from((n * 7 + n / 251) % 256).unwrap())
        .collect()
}

/// A cache of one layer whose `records` records have a result each.
async fn store(repository: &Repository, layer: &[u8], records: usize) -> CacheManifest {
    let mut config = CacheConfig::default();
    config.layers.push(CacheLayer {
        blob: Digest::of(layer),
        parent: Parent(None),
        annotations: None,
        other: Unknown::default(),
    });
    for record in 0..records {
        let day = 1 + record % 28;
        config.records.push(CacheRecord {
            results: vec![CacheResult {
                layer: 0,
                created_at: format!("2026-01-{day:02}T00:00:00Z"),
                last_used: String::new(),
                other: Unknown::default(),
            }],
            digest: Digest::of(&record.to_be_bytes()).to_string(),
            ..CacheRecord::default()
        });
    }
    let config = config.to_bytes().unwrap();
    let manifest = CacheManifest {
        extras: Extras::default(),
        form: Form::OciManifest,
        config: Some(Descriptor::of(config::MEDIA_TYPE, &config)),
        layers: vec![Descriptor::of(
            "application/vnd.oci.image.layer.v1.tar+gzip",
            layer,
        )],
        other: Unknown::default(),
    };
    for blob in [layer, &config] {
        upload(repository, blob).await;
    }
    put(
        repository,
        "cache",
        &manifest.to_bytes().unwrap(),
        OCI_MANIFEST,
    )
    .await;
    manifest
}

/// Opens a cache that is there.
async fn open(repository: Repository, tag: &str) -> RegistryImport {
    let raw = repository.manifest(tag).await.unwrap().expect("a cache");
    RegistryImport::of(repository, raw, Large::default())
        .await
        .unwrap()
}

async fn upload(repository: &Repository, blob: &[u8]) {
    let source = BlobSource::Bytes(Bytes::copy_from_slice(blob));
    let options = UploadOptions::default();
    repository
        .upload(&Digest::of(blob), blob.len() as u64, &source, &options)
        .await
        .unwrap();
}

async fn put(repository: &Repository, tag: &str, bytes: &[u8], media_type: &str) {
    let bytes = Bytes::copy_from_slice(bytes);
    repository
        .put_manifest(tag, media_type, &bytes)
        .await
        .unwrap();
}

async fn read(
    store: &dyn ContentStore,
    digest: &Digest,
    offset: usize,
    size: usize,
) -> Result<Vec<u8>, StoreError> {
    let pieces = store.read(digest, offset as u64, Some(size as u64)).await?;
    let pieces: Vec<Bytes> = pieces.try_collect().await?;
    Ok(pieces.concat())
}

/// Reads as BuildKit does: size first, then one call a mebibyte.
async fn read_whole(store: &dyn ContentStore, digest: &Digest) -> Result<Vec<u8>, StoreError> {
    let size = usize::try_from(store.size(digest).await?).unwrap();
    let mut bytes = Vec::new();
    while bytes.len() < size {
        bytes.extend(read(store, digest, bytes.len(), MIB).await?);
    }
    Ok(bytes)
}

#[tokio::test]
async fn a_cache_is_served_with_one_request_a_blob() {
    let registry = ScriptedRegistry::start().await;
    let repository = pushable(&registry);
    let layer = data(5 * MIB + 77);
    let manifest = store(&repository, &layer, 3).await;
    let import = open(repository, "cache").await;
    assert_eq!(import.summary(), "1 layer");
    let store = import.store();
    let bytes = manifest.to_bytes().unwrap();
    assert_eq!(*import.manifest(), Digest::of(&bytes));
    assert_eq!(
        read_whole(store.as_ref(), import.manifest()).await.unwrap(),
        bytes
    );
    let config = &manifest.config.as_ref().unwrap().digest;
    CacheConfig::parse(&read_whole(store.as_ref(), config).await.unwrap()).unwrap();
    let digest = Digest::of(&layer);
    assert!(read_whole(store.as_ref(), &digest).await.unwrap() == layer);
    assert_eq!(registry.count("GET", digest.hex()), 1);
    assert_eq!(
        registry.count("HEAD", digest.hex()),
        0,
        "the manifest names the size"
    );
    assert!(
        store
            .write(NewBlob {
                key: "x".into(),
                digest: Digest::of(b"x"),
                size: None
            })
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_jump_costs_one_request_for_a_range() {
    let registry = ScriptedRegistry::start().await;
    let repository = pushable(&registry);
    let layer = data(4 * MIB);
    store(&repository, &layer, 1).await;
    let import = open(repository, "cache").await;
    let (store, digest) = (import.store(), Digest::of(&layer));
    for (offset, size, requests) in [
        (0, MIB, 1),
        (MIB, 10, 1),
        (3 * MIB, 100, 2),
        (3 * MIB + 100, MIB, 2),
        (0, 5, 3),
        (4 * MIB, 5, 3),
    ] {
        let bytes = read(store.as_ref(), &digest, offset, size).await.unwrap();
        let end = (offset + size).min(layer.len());
        assert!(bytes == layer[offset..end], "{offset}");
        assert_eq!(registry.count("GET", digest.hex()), requests, "{offset}");
    }
}

#[tokio::test]
async fn open_downloads_are_bounded() {
    let registry = ScriptedRegistry::start().await;
    let repository = pushable(&registry);
    let store = RegistryStore::new(repository.clone());
    let blobs: Vec<Vec<u8>> = (0..12).map(|n| data(MIB + n)).collect();
    for blob in &blobs {
        upload(&repository, blob).await;
    }
    // Each is begun and left alone. More than may be open at once must not wait for each other.
    for blob in &blobs {
        let digest = Digest::of(blob);
        let begun = read(&store, &digest, 0, 1000);
        let begun = tokio::time::timeout(Duration::from_secs(20), begun).await;
        assert!(begun.expect("it hangs").unwrap() == blob[..1000]);
    }
    assert_eq!(store.downloads.idle(), 8);
    for blob in &blobs {
        let digest = Digest::of(blob);
        let rest = read(&store, &digest, 1000, 2 * MIB);
        let rest = tokio::time::timeout(Duration::from_secs(20), rest).await;
        assert!(rest.expect("it hangs").unwrap() == blob[1000..]);
    }
    assert_eq!(store.downloads.idle(), 0);
}

#[tokio::test]
async fn corrupt_and_missing_blobs_are_errors() {
    let registry = ScriptedRegistry::start().await;
    let repository = pushable(&registry);
    let layer = data(3 * MIB);
    store(&repository, &layer, 1).await;
    let import = open(repository, "cache").await;
    let (store, digest) = (import.store(), Digest::of(&layer));
    registry.fault("GET", digest.hex(), (0, 9), Fault::CorruptAnswer);
    assert!(read_whole(store.as_ref(), &digest).await.is_err());
    let gone = Digest::of(b"gone");
    assert!(matches!(
        store.size(&gone).await,
        Err(StoreError::NotFound(_))
    ));
}

#[tokio::test]
async fn what_is_too_large_for_buildkit_is_trimmed() {
    let registry = ScriptedRegistry::start().await;
    let repository = pushable(&registry);
    let original = store(&repository, b"layer", 12_000).await;
    assert!(original.config.unwrap().size > MIB as u64);
    let import = open(repository, "cache").await;
    assert!(
        import.summary().contains("of its 12000 results"),
        "{}",
        import.summary()
    );
    let store = import.store();
    let bytes = read_whole(store.as_ref(), import.manifest()).await.unwrap();
    let manifest = CacheManifest::parse(&bytes, "").unwrap();
    assert_eq!(manifest.layers.len(), 1);
    let config = manifest.config.unwrap();
    let bytes = read_whole(store.as_ref(), &config.digest).await.unwrap();
    assert!(
        bytes.len() <= MIB && bytes.len() > MIB * 9 / 10,
        "{}",
        bytes.len()
    );
    let config = CacheConfig::parse(&bytes).unwrap();
    let oldest = config
        .records
        .iter()
        .map(|r| r.results[0].created_at.as_str())
        .min();
    assert!(oldest.unwrap() > "2026-01-02", "{oldest:?}");
}

#[tokio::test]
async fn an_index_of_images_is_served() {
    let registry = ScriptedRegistry::start().await;
    let repository = pushable(&registry);
    let image = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": Descriptor::of("application/vnd.oci.image.config.v1+json", b"config"),
        "layers": [Descriptor::of("application/vnd.oci.image.layer.v1.tar", b"layer")],
    });
    let image = image.to_string().into_bytes();
    let index = json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [Descriptor::of(OCI_MANIFEST, &image)],
    });
    for blob in [&b"config"[..], b"layer"] {
        registry.put_blob(REPO, blob);
    }
    let digest = Digest::of(&image);
    put(&repository, digest.as_str(), &image, OCI_MANIFEST).await;
    put(
        &repository,
        "app",
        &index.to_string().into_bytes(),
        OCI_INDEX,
    )
    .await;
    let import = open(repository, "app").await;
    let store = import.store();
    assert!(read_whole(store.as_ref(), &digest).await.unwrap() == image);
    for blob in [&b"config"[..], b"layer"] {
        assert!(read_whole(store.as_ref(), &Digest::of(blob)).await.unwrap() == blob);
    }
}

#[tokio::test]
async fn what_is_no_manifest_is_an_error() {
    let registry = ScriptedRegistry::start().await;
    let repository = pushable(&registry);
    put(&repository, "text", b"{}", "text/plain").await;
    let raw = repository.manifest("text").await.unwrap().unwrap();
    assert!(matches!(
        RegistryImport::of(repository, raw, Large::default()).await,
        Err(ImportError::Manifest(_))
    ));
}

#[tokio::test]
async fn a_config_that_does_not_come_is_too_slow() {
    let registry = ScriptedRegistry::start().await;
    let repository = pushable(&registry);
    let manifest = store(&repository, &data(10), 1).await;
    let config = manifest.config.unwrap().digest;
    let raw = repository.manifest("cache").await.unwrap().unwrap();
    assert!(config_in_time(&repository, &raw).await.is_ok());

    let import = RegistryImport::of(repository.clone(), raw.clone(), Large::default()).await;
    let asked = registry.count("GET", config.as_str());
    let read = import
        .unwrap()
        .store()
        .read(&config, 0, None)
        .await
        .unwrap();
    let pieces: Vec<Bytes> = read.try_collect().await.unwrap();
    assert_eq!(Digest::of(&pieces.concat()), config);
    assert_eq!(registry.count("GET", config.as_str()), asked, "it is kept");

    registry.fault("GET", config.as_str(), (0, 99), Fault::StallAnswer(10));
    assert!(config_in_time(&repository, &raw).await == Err(TooSlow));
    let error = RegistryImport::of(repository.clone(), raw.clone(), Large::default()).await;
    assert!(
        matches!(&error, Err(ImportError::Registry(error)) if error.is_slow()),
        "{error:?}"
    );
}
