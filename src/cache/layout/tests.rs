use std::path::Path;

use futures_util::TryStreamExt as _;
use serde_json::{Value, json};

use super::*;
use crate::cache::config;
use crate::cache::extras::Extras;
use crate::cache::media::{Form, OCI_MANIFEST};
use crate::cache::unknown::Unknown;

fn layout() -> (tempfile::TempDir, Layout) {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path().join("cache"));
    layout.create().unwrap();
    (folder, layout)
}

async fn put(store: &LayoutStore, key: &str, bytes: &[u8]) -> Result<bool, StoreError> {
    let blob = NewBlob {
        key: key.to_owned(),
        digest: Digest::of(bytes),
        size: Some(bytes.len() as u64),
    };
    match store.write(blob).await? {
        Write::Exists => Ok(false),
        Write::Open(mut writer) => {
            for piece in bytes.chunks(3) {
                writer.write(Bytes::copy_from_slice(piece)).await?;
            }
            writer.commit().await?;
            Ok(true)
        }
    }
}

/// A cache of one layer as BuildKit hands it over.
async fn export(store: &LayoutStore, layer: &[u8]) -> Descriptor {
    put(store, "layer", layer).await.unwrap();
    let config = br#"{"layers":[],"records":[]}"#;
    put(store, Digest::of(config).as_str(), config)
        .await
        .unwrap();
    let manifest = CacheManifest {
        extras: Extras::default(),
        form: Form::OciManifest,
        config: Some(Descriptor::of(config::MEDIA_TYPE, config)),
        layers: vec![Descriptor::of(
            "application/vnd.oci.image.layer.v1.tar",
            layer,
        )],
        other: Unknown::default(),
    };
    let bytes = manifest.to_bytes().unwrap();
    put(store, Digest::of(&bytes).as_str(), &bytes)
        .await
        .unwrap();
    Descriptor::of(OCI_MANIFEST, &bytes)
}

async fn read(store: &LayoutStore, digest: &Digest, offset: u64, size: Option<u64>) -> Vec<u8> {
    let pieces = store.read(digest, offset, size).await.unwrap();
    let pieces: Vec<Bytes> = pieces.try_collect().await.unwrap();
    pieces.concat()
}

fn files(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[tokio::test]
async fn blobs_are_written_read_and_known() {
    let (_folder, layout) = layout();
    let store = LayoutStore::new(layout.clone());
    let digest = Digest::of(b"content");
    assert!(matches!(
        store.size(&digest).await,
        Err(StoreError::NotFound(_))
    ));
    assert!(matches!(
        store.read(&digest, 0, None).await.err(),
        Some(StoreError::NotFound(_))
    ));
    assert!(put(&store, "layer", b"content").await.unwrap());
    assert!(!put(&store, "layer", b"content").await.unwrap());
    assert_eq!(store.size(&digest).await.unwrap(), 7);
    assert_eq!(read(&store, &digest, 0, None).await, b"content");
    assert_eq!(read(&store, &digest, 2, Some(3)).await, b"nte");
    assert_eq!(read(&store, &digest, 5, Some(99)).await, b"nt");
    let path = layout.root().join("blobs/sha256").join(digest.hex());
    let mode = files::mode(&fs::metadata(path).unwrap());
    assert_eq!(mode & 0o777, 0o444);
    assert_eq!(files(&layout.root().join("ingest")), 0);
}

#[tokio::test]
async fn what_is_not_as_announced_leaves_nothing() {
    let (_folder, layout) = layout();
    let store = LayoutStore::new(layout.clone());
    for (digest, size) in [(Digest::of(b"other"), None), (Digest::of(b"abc"), Some(4))] {
        let blob = NewBlob {
            key: "layer".to_owned(),
            digest: digest.clone(),
            size,
        };
        let Write::Open(mut writer) = store.write(blob).await.unwrap() else {
            panic!("the folder is empty")
        };
        writer.write(Bytes::from_static(b"abc")).await.unwrap();
        assert!(writer.commit().await.is_err());
        assert_eq!(layout.blob_size(&digest).unwrap(), None);
    }
    let blob = NewBlob {
        key: "layer".to_owned(),
        digest: Digest::of(b"abc"),
        size: None,
    };
    let Write::Open(mut writer) = store.write(blob).await.unwrap() else {
        panic!("the folder is empty")
    };
    writer.write(Bytes::from_static(b"a")).await.unwrap();
    drop(writer);
    assert_eq!(files(&layout.root().join("ingest")), 0);
    assert_eq!(files(&layout.root().join("blobs/sha256")), 0);
}

#[tokio::test]
async fn an_export_is_found_and_tagged() {
    let (_folder, layout) = layout();
    let store = LayoutStore::new(layout.clone());
    assert_eq!(store.exported().unwrap(), None);
    assert_eq!(layout.tagged("latest").unwrap(), None);
    let manifest = export(&store, b"layer one").await;
    assert_eq!(store.exported().unwrap().as_ref(), Some(&manifest));
    layout.tag(&manifest, "latest").unwrap();
    assert_eq!(
        layout.tagged("latest").unwrap().unwrap().digest,
        manifest.digest
    );

    // Written again, all of it is there already.
    let again = LayoutStore::new(layout.clone());
    assert_eq!(export(&again, b"layer one").await, manifest);
    assert_eq!(again.exported().unwrap().unwrap().digest, manifest.digest);
    assert_eq!(
        fs::read_to_string(layout.root().join("oci-layout")).unwrap(),
        r#"{"imageLayoutVersion":"1.0.0"}"#
    );
    assert!(!layout.root().join("index.json.lock").exists());
}

#[tokio::test]
async fn other_tags_and_unknown_fields_stay() {
    let (_folder, layout) = layout();
    let store = LayoutStore::new(layout.clone());
    let manifest = export(&store, b"layer").await;
    let other = Digest::of(b"other");
    let index = json!({
        "schemaVersion": 2,
        "x": 1,
        "manifests": [
            {"mediaType": OCI_MANIFEST, "digest": other, "size": 1, "annotations": {"org.opencontainers.image.ref.name": "old"}},
            {"mediaType": OCI_MANIFEST, "digest": other, "size": 1, "y": 2, "annotations": {"org.opencontainers.image.ref.name": "latest"}},
            {"mediaType": OCI_MANIFEST, "digest": other, "size": 1, "annotations": {"org.opencontainers.image.ref.name": "latest", "io.containerd.image.name": "r.io/a:latest"}},
        ],
    });
    let path = layout.root().join("index.json");
    fs::write(&path, index.to_string()).unwrap();
    layout.tag(&manifest, "latest").unwrap();
    let index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(index["x"], 1);
    assert_eq!(
        index["mediaType"],
        "application/vnd.oci.image.index.v1+json"
    );
    assert_eq!(index["manifests"].as_array().unwrap().len(), 3);
    assert_eq!(layout.tagged("old").unwrap().unwrap().digest, other);
    assert_eq!(index["manifests"][2]["digest"], manifest.digest.as_str());
    assert_eq!(
        layout.tagged("r.io/a:latest").unwrap().unwrap().digest,
        other
    );
}

#[test]
fn a_broken_index_is_an_error_and_stays() {
    let (_folder, layout) = layout();
    let path = layout.root().join("index.json");
    let manifest = Descriptor::of(OCI_MANIFEST, b"m");
    for broken in ["{", r#"{"manifests":{}}"#, "[]"] {
        fs::write(&path, broken).unwrap();
        assert!(layout.tagged("latest").is_err(), "{broken}");
        assert!(layout.tag(&manifest, "latest").is_err(), "{broken}");
        assert_eq!(fs::read_to_string(&path).unwrap(), broken);
    }
    fs::write(&path, "").unwrap();
    layout.tag(&manifest, "latest").unwrap();
}

#[test]
fn tags_of_many_writers_are_all_kept() {
    let (_folder, layout) = layout();
    let manifest = Descriptor::of(OCI_MANIFEST, b"m");
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (layout, manifest) = (&layout, &manifest);
            scope.spawn(move || {
                for n in 0..10 {
                    layout.tag(manifest, &format!("{writer}-{n}")).unwrap();
                }
            });
        }
    });
    assert_eq!(layout.entries().unwrap().len(), 40);
}

#[tokio::test]
async fn reset_removes_what_no_tag_leads_to() {
    let (_folder, layout) = layout();
    let old = export(&LayoutStore::new(layout.clone()), b"old layer").await;
    layout.tag(&old, "latest").unwrap();
    let new = export(&LayoutStore::new(layout.clone()), b"new layer").await;
    layout.tag(&new, "latest").unwrap();
    let foreign = layout.root().join("blobs/sha256/notes.txt");
    fs::write(&foreign, "mine").unwrap();
    // The old layer and the old manifest; the config is the same.
    assert_eq!(layout.remove_unreferenced().unwrap(), 2);
    assert!(
        layout
            .blob_size(&Digest::of(b"old layer"))
            .unwrap()
            .is_none()
    );
    assert!(
        layout
            .blob_size(&Digest::of(b"new layer"))
            .unwrap()
            .is_some()
    );
    assert!(foreign.exists());

    // A manifest that is gone: nothing is removed on a guess.
    fs::remove_file(layout.path_of(&new.digest)).unwrap();
    assert!(layout.remove_unreferenced().is_err());
    assert!(
        layout
            .blob_size(&Digest::of(b"new layer"))
            .unwrap()
            .is_some()
    );
}

#[test]
fn corrupt_and_large_blobs_are_not_read_whole() {
    let (_folder, layout) = layout();
    let digest = Digest::of(b"abc");
    assert_eq!(layout.read_blob(&digest, 10).unwrap(), None);
    fs::write(layout.path_of(&digest), "abx").unwrap();
    assert!(matches!(
        layout.read_blob(&digest, 10),
        Err(LayoutError::Corrupt(_))
    ));
    assert!(matches!(
        layout.read_blob(&digest, 2),
        Err(LayoutError::TooLarge { .. })
    ));
}

#[test]
fn files_of_killed_programs_go_after_a_day() {
    let (_folder, layout) = layout();
    let ingest = layout.root().join("ingest");
    let old = SystemTime::now() - INGEST_AGE * 2;
    for (name, stays) in [("cachex-old", false), ("cachex-new", true), ("other", true)] {
        let file = fs::File::create(ingest.join(name)).unwrap();
        if name != "cachex-new" {
            file.file().set_modified(old).unwrap();
        }
        layout.create().unwrap();
        assert_eq!(ingest.join(name).exists(), stays, "{name}");
    }
}
