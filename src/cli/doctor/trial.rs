//! What a registry takes: one small cache is written in every form that a build may write it in, and removed again.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::report::{Report, because, way_out};
use crate::cli::errors::registry_hint;
use crate::digest::Digest;
use crate::registry::{Arrival, BlobSource, RegistryError, Repository, UploadOptions};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CACHE_CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A tar without files: two empty blocks.
const EMPTY_TAR: [u8; 1024] = [0; 1024];

/// A manifest of a cache grows with its layers, and BuildKit reads 1 MiB at most.
const LARGE: usize = 1 << 20;

const NOT_MOUNTED: &str =
    "nothing has to be done: layers of the image are sent once more, as parts of the cache";
const NO_REFERRERS: &str =
    "nothing has to be done: signatures of caches are in the manifests themselves";
const NOT_DELETED: &str = "let the registry allow it (distribution: REGISTRY_STORAGE_DELETE_ENABLED=true), or let its own rules remove old caches";

/// What is tried, in the order of the report.
const WRITES: [&str; 9] = [
    "streamed uploads",
    "mount of blobs",
    "cache as image manifest",
    "cache as index",
    "zstd layers",
    "manifest of 1 MiB",
    "referrers",
    "delete by tag",
    "delete by digest",
];

/// Notes an error of something that is needed, with a way out; the right is what the login needs: to read, or to push to
/// the repository.
pub(super) fn failed(
    report: &mut Report,
    check: &'static str,
    error: &RegistryError,
    repository: &Repository,
    right: &str,
) {
    let (host, name) = (repository.client().host(), repository.name());
    let advice = match error.status() {
        Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            format!("docker login {host} as somebody who may {right} {name}")
        }
        Some(StatusCode::METHOD_NOT_ALLOWED) => {
            format!("{host} does not do that: is it a mirror, or set to be read only?")
        }
        _ => registry_hint(error).unwrap_or_else(|| {
            format!(
                "is {host} a registry, does it run, and does a proxy or a firewall stand between?"
            )
        }),
    };
    report.missing(check, because(error), advice);
}

/// What is written under one tag.
pub(super) struct Trial<'a> {
    pub(super) repository: &'a Repository,
    pub(super) tag: &'a str,
}

/// Blobs of the trial: digest and size.
type Blob = (Digest, u64);

impl Trial<'_> {
    /// Tries everything that can be written.
    pub(super) async fn run(&self, report: &mut Report) {
        let config = Bytes::from_static(b"{\"layers\":[],\"records\":[]}");
        let layer = Bytes::from_static(&EMPTY_TAR);
        let layer = match (self.blob(&config).await, self.blob(&layer).await) {
            (Ok(config), Ok(layer)) => {
                report.yes("push", self.repository.name());
                (config, layer)
            }
            (Err(error), _) | (_, Err(error)) => {
                failed(report, "push", &error, self.repository, "push to");
                for check in WRITES {
                    report.untried(check, "nothing can be pushed");
                }
                return;
            }
        };
        self.uploads(&layer.1, report).await;
        self.forms(layer, report).await;
    }

    async fn blob(&self, bytes: &Bytes) -> Result<Blob, RegistryError> {
        let (digest, size) = (Digest::of(bytes), bytes.len() as u64);
        let source = BlobSource::Bytes(bytes.clone());
        let options = UploadOptions::default();
        self.repository
            .upload(&digest, size, &source, &options)
            .await?;
        Ok((digest, size))
    }

    async fn uploads(&self, (digest, size): &Blob, report: &mut Report) {
        // One that the registry cannot know, so that its bytes move.
        let unique = BlobSource::Bytes(self.tag.to_owned().into());
        let options = UploadOptions::default();
        let streamed = self.repository.upload_stream(&unique, &options).await;
        match streamed {
            Ok(_) if self.repository.client().takes_streams() => {
                report.yes(
                    "streamed uploads",
                    "layers are sent while they are compressed",
                );
            }
            Ok(_) => report.no(
                "streamed uploads",
                "PATCH is refused, so each layer is kept until its digest is known",
                "nothing has to be done: it takes room in the spool folder",
            ),
            Err(error) => report.no(
                "streamed uploads",
                because(&error),
                "see the registry's log: an upload was refused although a smaller one was taken",
            ),
        }
        let source = BlobSource::Bytes(Bytes::from_static(&EMPTY_TAR));
        let options = UploadOptions {
            mount_from: Some(self.repository.name().to_owned()),
            ..UploadOptions::default()
        };
        match self
            .repository
            .upload(digest, *size, &source, &options)
            .await
        {
            Ok(uploaded) if uploaded.arrival == Arrival::Mounted => {
                report.yes("mount of blobs", "layers of the image are not sent again");
            }
            Ok(_) => report.no(
                "mount of blobs",
                "the registry wants the bytes",
                NOT_MOUNTED,
            ),
            Err(error) => report.no("mount of blobs", because(&error), NOT_MOUNTED),
        }
    }

    async fn forms(&self, (config, layer): (Blob, Blob), report: &mut Report) {
        let cache = |layer_type: &str, pad: usize| {
            json!({
                "schemaVersion": 2, "mediaType": MANIFEST,
                "config": descriptor(CACHE_CONFIG, &config),
                "layers": [descriptor(layer_type, &layer)],
                "annotations": {"dev.docker-cachex.doctor": format!("{}{}", self.tag, "x".repeat(pad))},
            })
        };
        let index = json!({
            "schemaVersion": 2, "mediaType": INDEX,
            "manifests": [descriptor(LAYER, &layer), descriptor(CACHE_CONFIG, &config)],
        });
        let mut written = Vec::new();
        let manifest = self.put(MANIFEST, &cache(LAYER, 0)).await;
        match &manifest {
            Ok(digest) => {
                written.push(digest.clone());
                report.yes(
                    "cache as image manifest",
                    "image-manifest=true, the default",
                );
            }
            Err(error) => {
                let hints: Vec<String> = registry_hint(error).into_iter().collect();
                let otherwise = "this registry cannot hold registry caches in their default form; use another one for them";
                let advice = way_out(&hints, otherwise);
                report.missing("cache as image manifest", because(error), advice);
            }
        }
        let zstd = format!("{LAYER}+zstd");
        let others = [
            (
                "cache as index",
                INDEX,
                index,
                "keep image-manifest=true, the default",
            ),
            (
                "zstd layers",
                MANIFEST,
                cache(&zstd, 0),
                "use compression=gzip, the default",
            ),
            (
                "manifest of 1 MiB",
                MANIFEST,
                cache(LAYER, LARGE),
                "keep caches small with max-records and max-size",
            ),
        ];
        for (check, media_type, manifest, advice) in others {
            match self.put(media_type, &manifest).await {
                Ok(digest) => {
                    written.push(digest);
                    report.yes(check, "");
                }
                Err(error) => report.no(check, because(&error), advice),
            }
        }
        match manifest {
            Ok(digest) => self.referrers(&digest, report).await,
            Err(_) => report.untried("referrers", "no manifest was taken"),
        }
        self.clean_up(&written, report).await;
    }

    async fn put(&self, media_type: &str, manifest: &Value) -> Result<Digest, RegistryError> {
        let bytes = Bytes::from(manifest.to_string());
        self.repository
            .put_manifest(self.tag, media_type, &bytes)
            .await
    }

    async fn referrers(&self, digest: &Digest, report: &mut Report) {
        match self.repository.has_referrers(digest).await {
            Ok(true) => report.yes("referrers", ""),
            Ok(false) => report.no("referrers", "the registry has no such API", NO_REFERRERS),
            Err(error) => report.no("referrers", because(&error), NO_REFERRERS),
        }
    }

    async fn clean_up(&self, written: &[Digest], report: &mut Report) {
        if written.is_empty() {
            return report.untried("delete by tag", "no manifest was taken");
        }
        let by_tag = self.repository.delete_manifest(self.tag).await;
        match &by_tag {
            Ok(_) => report.yes("delete by tag", ""),
            Err(error) => report.no(
                "delete by tag",
                because(error),
                "nothing has to be done where deleting by digest works",
            ),
        }
        let mut kept = None;
        for digest in written {
            if let Err(error) = self.repository.delete_manifest(&digest.to_string()).await {
                kept = Some(error);
            }
        }
        let gone =
            by_tag.is_ok() || matches!(self.repository.manifest_at_once(self.tag).await, Ok(None));
        match kept {
            None => report.yes("delete by digest", "caches can be removed"),
            Some(error) if gone => report.no("delete by digest", because(&error), NOT_DELETED),
            Some(error) => report.no(
                "delete by digest",
                because(&error),
                format!(
                    "remove the tag {} of {} by hand; {NOT_DELETED}",
                    self.tag,
                    self.repository.name()
                ),
            ),
        }
    }
}

fn descriptor(media_type: &str, (digest, size): &Blob) -> Value {
    json!({"mediaType": media_type, "digest": digest.to_string(), "size": size})
}
