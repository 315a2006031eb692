//! OCI layout folders as named contexts: `oci-layout://PATH[:TAG][@DIGEST]`, served to the builder
//! through the content service of the session (buildx `util/ocilayout`, BuildKit `client/ociindex`).

use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use fs_err as fs;
use futures_util::StreamExt as _;
use serde::Deserialize;
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use crate::buildkit::session::content::{ContentStore, NewBlob, Pieces, StoreError, Write};
use crate::digest::Digest;

/// How a context says that it is a layout.
pub const SCHEME: &str = "oci-layout://";
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const IMAGE_NAME: &str = "io.containerd.image.name";
/// Bytes of one piece of a blob.
const PIECE: usize = 256 << 10;

/// A layout that a context names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutRef {
    /// The folder.
    pub path: String,
    /// The tag; `latest` where there is neither tag nor digest.
    pub tag: Option<String>,
    /// The digest of a manifest or an index.
    pub digest: Option<Digest>,
}

/// Why a layout cannot be used.
#[derive(Debug, Error)]
pub enum LayoutError {
    /// There is no index in the folder.
    #[error("cannot read {path:?}")]
    Read {
        /// The index.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The index is no index.
    #[error("cannot read the index of the OCI layout")]
    Json(#[from] serde_json::Error),
    /// The index has no image of the name, and not just one image.
    #[error("failed to resolve digest: the OCI layout has no image {0:?}")]
    NotFound(String),
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: Digest,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

impl LayoutRef {
    /// Parses a context; `None` where it is no layout.
    pub fn parse(text: &str) -> Option<Self> {
        let mut path = text.strip_prefix(SCHEME)?;
        let mut digest = None;
        if let Some((before, after)) = path.rsplit_once('@')
            && let Ok(parsed) = after.parse()
        {
            (path, digest) = (before, Some(parsed));
        }
        let mut tag = None;
        if let Some((before, after)) = path.rsplit_once(':')
            && is_tag(after)
        {
            (path, tag) = (before, Some(after.to_owned()));
        }
        if tag.is_none() && digest.is_none() {
            tag = Some("latest".to_owned());
        }
        Some(Self {
            path: path.to_owned(),
            tag,
            digest,
        })
    }

    /// Finds the digest in the layout's index: that of the tag, else that of the only image.
    ///
    /// # Errors
    ///
    /// Fails where there is no such image.
    pub fn resolve(&self, folder: &Path) -> Result<Digest, LayoutError> {
        if let Some(digest) = &self.digest {
            return Ok(digest.clone());
        }
        let path = folder.join("index.json");
        let data = fs::read(&path).map_err(|source| LayoutError::Read { path, source })?;
        let index: Index = serde_json::from_slice(&data)?;
        let tag = self.tag.as_deref().unwrap_or("latest");
        let is_named = |one: &&Descriptor| {
            [REF_NAME, IMAGE_NAME]
                .iter()
                .any(|key| one.annotations.get(*key).is_some_and(|name| name == tag))
        };
        let named = index.manifests.iter().find(is_named);
        let only = match index.manifests.as_slice() {
            [one] => Some(one),
            _ => None,
        };
        let found = named.or(only);
        found
            .map(|one| one.digest.clone())
            .ok_or_else(|| LayoutError::NotFound(tag.to_owned()))
    }

    /// Returns the context for the builder, in which a store of the session stands for the folder.
    pub fn for_store(&self, store: &str, digest: &Digest) -> String {
        let tag = self.tag.as_ref().map(|tag| format!(":{tag}"));
        format!(
            "{SCHEME}{store}{}@{}",
            tag.unwrap_or_default(),
            digest.as_str()
        )
    }
}

/// A tag as references have it.
fn is_tag(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= 128
        && text.starts_with(word)
        && text.chars().all(|c| word(c) || matches!(c, '.' | '-'))
}

/// The blobs of a layout folder, to be read only.
#[derive(Debug)]
pub struct LayoutStore {
    folder: PathBuf,
}

impl LayoutStore {
    /// Takes a layout folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        let blobs = self.folder.join("blobs");
        blobs.join(digest.algorithm()).join(digest.hex())
    }
}

fn refused(digest: &Digest, error: &io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::NotFound => StoreError::NotFound(digest.clone()),
        _ => StoreError::failed(error),
    }
}

#[tonic::async_trait]
impl ContentStore for LayoutStore {
    async fn size(&self, digest: &Digest) -> Result<u64, StoreError> {
        let metadata = fs_err::tokio::metadata(self.blob(digest)).await;
        let metadata = metadata.map_err(|error| refused(digest, &error))?;
        Ok(metadata.len())
    }

    async fn read(
        &self,
        digest: &Digest,
        offset: u64,
        size: Option<u64>,
    ) -> Result<Pieces, StoreError> {
        let error = |error: io::Error| refused(digest, &error);
        let mut file = fs_err::tokio::File::open(self.blob(digest))
            .await
            .map_err(error)?;
        file.seek(SeekFrom::Start(offset)).await.map_err(error)?;
        let part = file.take(size.unwrap_or(u64::MAX));
        let pieces = ReaderStream::with_capacity(part, PIECE);
        let pieces = pieces
            .map(|piece: io::Result<Bytes>| piece.map_err(|error| StoreError::failed(&error)));
        Ok(pieces.boxed())
    }

    async fn write(&self, _blob: NewBlob) -> Result<Write, StoreError> {
        Err(StoreError::Failed(
            "an OCI layout context is only read".to_owned(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    #[test]
    fn forms() {
        let a = digest("a");
        for (text, path, tag, with_digest) in [
            ("oci-layout:///x/y", "/x/y", Some("latest"), false),
            ("oci-layout://y:v1.2", "y", Some("v1.2"), false),
            (&format!("oci-layout://y@{}", a.as_str()), "y", None, true),
            (
                &format!("oci-layout://y:t@{}", a.as_str()),
                "y",
                Some("t"),
                true,
            ),
            ("oci-layout://a:b/c", "a:b/c", Some("latest"), false),
            ("oci-layout://a@b", "a@b", Some("latest"), false),
        ] {
            let parsed = LayoutRef::parse(text).unwrap();
            assert_eq!(
                (parsed.path.as_str(), parsed.tag.as_deref()),
                (path, tag),
                "{text}"
            );
            assert_eq!(parsed.digest.is_some(), with_digest, "{text}");
        }
        assert!(LayoutRef::parse("docker-image://x").is_none());
        let tagged = LayoutRef::parse("oci-layout://y:t").unwrap();
        let expected = format!("oci-layout://store:t@{}", a.as_str());
        assert_eq!(tagged.for_store("store", &a), expected);
    }

    #[test]
    fn the_index_tells_the_digest() {
        let dir = tempfile::tempdir().unwrap();
        let write = |manifests: &str| {
            let index = format!(r#"{{"schemaVersion":2,"manifests":[{manifests}]}}"#);
            fs::write(dir.path().join("index.json"), index).unwrap();
        };
        let one = |name: &str, key: &str| {
            let digest = digest(name);
            format!(
                r#"{{"digest":"{}","annotations":{{"{key}":"{name}"}}}}"#,
                digest.as_str()
            )
        };
        let resolve = |text: &str| LayoutRef::parse(text).unwrap().resolve(dir.path());
        assert!(matches!(
            resolve("oci-layout://x"),
            Err(LayoutError::Read { .. })
        ));
        write(&[one("v1", REF_NAME), one("r.io/a:v2", IMAGE_NAME)].join(","));
        assert_eq!(resolve("oci-layout://x:v1").unwrap(), digest("v1"));
        assert!(matches!(
            resolve("oci-layout://x"),
            Err(LayoutError::NotFound(_))
        ));
        write(&one("v1", REF_NAME));
        assert_eq!(resolve("oci-layout://x:other").unwrap(), digest("v1"));
        write("17");
        assert!(matches!(
            resolve("oci-layout://x"),
            Err(LayoutError::Json(_))
        ));
    }

    #[tokio::test]
    async fn blobs_are_read_from_any_place() {
        let dir = tempfile::tempdir().unwrap();
        let data = "0123456789".repeat(100_000);
        let blob = digest(&data);
        let store = LayoutStore::new(dir.path().to_owned());
        assert!(matches!(
            store.size(&blob).await,
            Err(StoreError::NotFound(_))
        ));
        fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
        fs::write(store.blob(&blob), &data).unwrap();
        assert_eq!(store.size(&blob).await.unwrap(), 1_000_000);
        let read = async |offset, size| {
            let mut pieces = store.read(&blob, offset, size).await.unwrap();
            let mut all = Vec::new();
            while let Some(piece) = pieces.next().await {
                all.extend_from_slice(&piece.unwrap());
            }
            all
        };
        assert!(read(0, None).await == data.as_bytes());
        assert_eq!(read(999_995, Some(3)).await, b"567");
        assert!(read(2_000_000, None).await.is_empty());
    }
}
