use serde_json::json;

use super::*;
use crate::cache::config::MEDIA_TYPE;
use crate::cache::extras::Extras;
use crate::cache::media::{Form, OCI_INDEX, OCI_MANIFEST};
use crate::cache::unknown::Unknown;
use crate::registry::tests::{ScriptedRegistry, pushable};

const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A layout folder that things are put into by hand.
struct Folder {
    dir: tempfile::TempDir,
    layout: Layout,
}

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        layout.create().unwrap();
        Self { dir, layout }
    }

    fn put(&self, bytes: &[u8], media_type: &str) -> Descriptor {
        let descriptor = Descriptor::of(media_type, bytes);
        let path = self.dir.path().join("blobs/sha256");
        fs_err::write(path.join(descriptor.digest.hex()), bytes).unwrap();
        descriptor
    }

    fn image(&self, architecture: &str, cache: Option<&Value>) -> Descriptor {
        let layer = self.put(architecture.as_bytes(), LAYER);
        let mut config = json!({
            "os": "linux",
            "architecture": architecture,
            "rootfs": {"diff_ids": [Digest::of(b"content")]},
            "history": [
                {"created": "2026-01-01T00:00:00Z", "created_by": "ENV a", "empty_layer": true},
                {"created": "2026-01-02T00:00:00Z", "created_by": "RUN b"},
            ],
        });
        if let Some(records) = cache {
            config["moby.buildkit.cache.v0"] = json!(STANDARD.encode(records.to_string()));
        }
        let config = self.put(config.to_string().as_bytes(), IMAGE_CONFIG);
        let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]});
        self.put(manifest.to_string().as_bytes(), OCI_MANIFEST)
    }

    fn source(&self, tag: &str) -> CacheSource {
        CacheSource::Layout {
            layout: self.layout.clone(),
            tag: Some(tag.to_owned()),
            digest: None,
        }
    }
}

fn records() -> Value {
    json!([{"digest": "sha256:a", "layers": [{"layer": 0, "createdAt": "2026-01-02T00:00:00Z"}]}])
}

#[tokio::test]
async fn a_cache_in_a_folder_is_read() {
    let folder = Folder::new();
    let layer = folder.put(b"layer", LAYER);
    let config = json!({"layers": [{"blob": layer.digest, "parent": -1}], "records": records()});
    let config = folder.put(config.to_string().as_bytes(), MEDIA_TYPE);
    for (tag, form) in [
        ("manifest", Form::OciManifest),
        ("index", Form::OciIndex),
        ("list", Form::DockerList),
    ] {
        let manifest = CacheManifest {
            extras: Extras::default(),
            form,
            config: Some(config.clone()),
            layers: vec![layer.clone()],
            other: Unknown::default(),
        };
        let entry = folder.put(&manifest.to_bytes().unwrap(), form.media_type());
        folder.layout.tag(&entry, tag).unwrap();
        let source = folder.source(tag);
        let loaded = source.load().await.unwrap();
        assert_eq!(loaded.manifest, manifest);
        assert_eq!(loaded.parts.len(), 1);
        assert_eq!(loaded.parts[0].config.records.len(), 1);
        let gone = Digest::of(b"gone");
        let missing = source
            .missing(&[layer.digest.clone(), gone.clone()])
            .await
            .unwrap();
        assert_eq!(missing, HashSet::from([gone]));
    }
}

#[tokio::test]
async fn inline_caches_of_all_platforms_are_read() {
    let folder = Folder::new();
    let amd64 = folder.image("amd64", Some(&records()));
    folder.layout.tag(&amd64, "one").unwrap();
    let loaded = folder.source("one").load().await.unwrap();
    let part = &loaded.parts[0];
    assert_eq!(part.platform.as_deref(), Some("linux/amd64"));
    assert_eq!(part.layers[0].annotation(DESCRIPTION), Some("RUN b"));
    assert_eq!(
        part.layers[0].annotation(CREATED_AT),
        Some("2026-01-02T00:00:00Z")
    );
    assert_eq!(part.layers[0].diff_id(), Some(Digest::of(b"content")));

    let arm64 = folder.image("arm64", Some(&records()));
    let plain = folder.image("riscv64", None);
    let index =
        json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [amd64, arm64, plain]});
    let index = folder.put(index.to_string().as_bytes(), OCI_INDEX);
    folder.layout.tag(&index, "all").unwrap();
    let loaded = folder.source("all").load().await.unwrap();
    let mut platforms: Vec<_> = loaded
        .parts
        .iter()
        .filter_map(|p| p.platform.as_deref())
        .collect();
    platforms.sort_unstable();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
}

#[tokio::test]
async fn what_is_no_cache_is_told() {
    let folder = Folder::new();
    let missing = folder.source("x").load().await.unwrap_err();
    assert!(missing.is_missing(), "{missing}");
    let plain = folder.image("amd64", None);
    folder.layout.tag(&plain, "image").unwrap();
    assert!(matches!(
        folder.source("image").load().await,
        Err(SourceError::NoCache("the image"))
    ));
    let broken = folder.put(b"{", OCI_MANIFEST);
    folder.layout.tag(&broken, "broken").unwrap();
    assert!(matches!(
        folder.source("broken").load().await,
        Err(SourceError::Manifest(_))
    ));
    let wrong = json!([{"digest": "a", "layers": [{"layer": 9, "createdAt": ""}]}]);
    let wrong = folder.image("amd64", Some(&wrong));
    folder.layout.tag(&wrong, "wrong").unwrap();
    assert!(matches!(
        folder.source("wrong").load().await,
        Err(SourceError::Config(_))
    ));
}

#[tokio::test]
async fn a_registry_is_read_and_checked() {
    let registry = ScriptedRegistry::start().await;
    let repository = pushable(&registry);
    let source = |reference: &str| CacheSource::Registry {
        repository: repository.clone(),
        reference: reference.to_owned(),
    };
    assert!(matches!(
        source("c").load().await,
        Err(SourceError::NotFound)
    ));
    let config = br#"{"layers":[],"records":[]}"#;
    let digest: Digest = registry.put_blob("team/app", config).parse().unwrap();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": MEDIA_TYPE, "digest": digest, "size": config.len()},
        "layers": [],
    });
    let bytes = Bytes::from(manifest.to_string());
    repository
        .put_manifest("c", OCI_MANIFEST, &bytes)
        .await
        .unwrap();
    let loaded = source("c").load().await.unwrap();
    assert_eq!(loaded.raw.bytes, bytes);
    let gone = Digest::of(b"gone");
    let missing = source("c").missing(&[digest, gone.clone()]).await.unwrap();
    assert_eq!(missing, HashSet::from([gone]));
}
