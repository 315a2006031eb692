//! A folder of the OCI image layout as a content store: caches of `type=local` and contexts of
//! `oci-layout://`.
//!
//! The folder is the one that BuildKit's own client writes (containerd's local content store and
//! BuildKit `client/ociindex`): blobs in `blobs/ALGORITHM/HEX`, what is being written in `ingest`,
//! `index.json` with one entry for each tag, and the file `oci-layout`.

mod index;
mod reset;

use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use fs_err as fs;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tempfile::NamedTempFile;
use thiserror::Error;

use super::config::CacheConfig;
use super::descriptor::Descriptor;
use super::manifest::CacheManifest;
use crate::buildkit::session::content::{
    BlobWriter, ContentStore, NewBlob, Pieces, StoreError, Write,
};
use crate::digest::{Digest, Hasher};
use crate::platform::files;

pub use self::index::EntryName;

/// A blob is read in pieces of this size, in bytes.
const PIECE: usize = 256 << 10;
/// How the names of this program's unfinished files begin.
const INGEST_PREFIX: &str = "cachex-";
/// Unfinished files older than this are of a program that was killed.
const INGEST_AGE: Duration = Duration::from_secs(24 * 3600);

/// Why a layout folder cannot be used.
#[derive(Debug, Error)]
pub enum LayoutError {
    /// The folder cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file is not an index.
    #[error("{path:?} is no valid OCI index")]
    Index {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Another program holds the index.
    #[error("{0:?} is locked by another program")]
    Locked(PathBuf),
    /// A blob is larger than is read at once.
    #[error("blob {digest} has {size} bytes, more than the {limit} that are read")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// The bound in bytes.
        limit: u64,
    },
    /// A blob is not what its name says.
    #[error("blob {0} is corrupt")]
    Corrupt(Digest),
    /// A blob that is referred to is not there.
    #[error("blob {0} is not in the folder")]
    Missing(Digest),
    /// Something else than a folder is there.
    #[error("{0:?} is not a folder")]
    NotFolder(PathBuf),
    /// There is no such folder.
    #[error("there is no folder {0:?}")]
    NoFolder(PathBuf),
    /// The folder is not a layout folder.
    #[error("the folder {0:?} has no index.json, so it is no OCI layout")]
    NoIndex(PathBuf),
    /// The folder has no manifest of this tag.
    #[error("no manifest has the tag {tag:?}; {}", known_tags(tags))]
    NoTag {
        /// The tag.
        tag: String,
        /// The tags that are there.
        tags: Vec<String>,
    },
}

impl LayoutError {
    /// Returns whether what was asked for is not there, as opposed to broken.
    pub fn is_missing(&self) -> bool {
        matches!(
            self,
            Self::NoFolder(_) | Self::NoIndex(_) | Self::NoTag { .. }
        )
    }
}

fn known_tags(tags: &[String]) -> String {
    if tags.is_empty() {
        "the folder has no tags".to_owned()
    } else {
        format!("the folder has {}", tags.join(", "))
    }
}

/// A layout folder.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Takes a folder that need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Returns the folder.
    #[cfg(test)]
    pub fn root(&self) -> &std::path::Path {
        &self.root
    }

    /// Returns whether there is something else than a folder.
    pub fn is_file(&self) -> bool {
        self.root.exists() && !self.root.is_dir()
    }

    /// Creates the folders for blobs, and removes what a program that was killed left unfinished.
    ///
    /// # Errors
    ///
    /// Fails if the folder cannot be written.
    pub fn create(&self) -> Result<(), LayoutError> {
        fs::create_dir_all(self.root.join("blobs/sha256"))?;
        fs::create_dir_all(self.ingest())?;
        self.remove_abandoned();
        Ok(())
    }

    fn remove_abandoned(&self) {
        let now = SystemTime::now();
        let Ok(entries) = fs::read_dir(self.ingest()) else {
            return;
        };
        for entry in entries.flatten() {
            let ours = entry
                .file_name()
                .to_str()
                .is_some_and(|name| name.starts_with(INGEST_PREFIX));
            let age = entry
                .metadata()
                .and_then(|metadata| metadata.modified())
                .ok()
                .and_then(|modified| now.duration_since(modified).ok());
            if ours && age.is_some_and(|age| age > INGEST_AGE) {
                // Another process may be faster; nothing depends on it.
                drop(fs::remove_file(entry.path()));
            }
        }
    }

    fn ingest(&self) -> PathBuf {
        self.root.join("ingest")
    }

    /// Returns where a blob is, whether it is there or not.
    pub fn path_of(&self, digest: &Digest) -> PathBuf {
        self.root
            .join("blobs")
            .join(digest.algorithm())
            .join(digest.hex())
    }

    /// Returns the size of a blob in bytes; `None` if it is not there.
    ///
    /// # Errors
    ///
    /// Fails if the folder cannot be read.
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, LayoutError> {
        match fs::metadata(self.path_of(digest)) {
            Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a small blob whole and verifies it; `None` if it is not there.
    ///
    /// # Errors
    ///
    /// Fails if it has more than `limit` bytes, is corrupt, or cannot be read.
    pub fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Option<Bytes>, LayoutError> {
        let Some(size) = self.blob_size(digest)? else {
            return Ok(None);
        };
        if size > limit {
            return Err(LayoutError::TooLarge {
                digest: digest.clone(),
                size,
                limit,
            });
        }
        let mut data = Vec::new();
        fs::File::open(self.path_of(digest))?
            .take(limit + 1)
            .read_to_end(&mut data)?;
        let mut hasher = digest.hasher();
        hasher.update(&data);
        if hasher.finish() != *digest {
            return Err(LayoutError::Corrupt(digest.clone()));
        }
        Ok(Some(data.into()))
    }

    fn begin(&self, blob: NewBlob) -> io::Result<OpenBlob> {
        let hasher = blob.digest.hasher();
        fs::create_dir_all(self.ingest())?;
        // As containerd's store: nobody changes a blob, everybody may read it.
        let file = tempfile::Builder::new()
            .prefix(INGEST_PREFIX)
            .permissions(files::permissions(0o444))
            .tempfile_in(self.ingest())?;
        Ok(OpenBlob {
            path: self.path_of(&blob.digest),
            blob,
            file,
            hasher,
            size: 0,
        })
    }

    /// Opens a blob for the session.
    fn open(&self, digest: &Digest, offset: u64) -> Result<fs::File, StoreError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::NotFound(digest.clone()),
            _ => StoreError::failed(&error),
        };
        let mut file = fs::File::open(self.path_of(digest)).map_err(failed)?;
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        Ok(file)
    }
}

/// A layout folder as the session's store. It remembers which manifests the daemon wrote.
#[derive(Debug)]
pub struct LayoutStore {
    layout: Layout,
    /// Digests of manifests and configs that were written, or found to be there, in order.
    metadata: Arc<Mutex<Vec<Digest>>>,
}

impl LayoutStore {
    /// Creates the store of a folder.
    pub fn new(layout: Layout) -> Self {
        Self {
            layout,
            metadata: Arc::default(),
        }
    }

    /// Returns the folder.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns the descriptor of the cache manifest that the daemon wrote last; `None` if it
    /// exported nothing.
    ///
    /// # Errors
    ///
    /// Fails if what was written cannot be read.
    pub fn exported(&self) -> Result<Option<Descriptor>, LayoutError> {
        let written = {
            let metadata = self.metadata.lock();
            metadata.clone()
        };
        for digest in written.iter().rev() {
            let bytes = self
                .layout
                .read_blob(digest, CacheConfig::MAX_BYTES as u64)?
                .ok_or_else(|| LayoutError::Missing(digest.clone()))?;
            let manifest = CacheManifest::parse(&bytes, "").ok();
            if let Some(manifest) = manifest.filter(CacheManifest::is_cache) {
                return Ok(Some(Descriptor::new(
                    manifest.form.media_type(),
                    digest.clone(),
                    bytes.len() as u64,
                )));
            }
        }
        Ok(None)
    }
}

#[tonic::async_trait]
impl ContentStore for LayoutStore {
    async fn size(&self, digest: &Digest) -> Result<u64, StoreError> {
        let size = self.layout.blob_size(digest);
        let size = size.map_err(|error| StoreError::failed(&error))?;
        size.ok_or_else(|| StoreError::NotFound(digest.clone()))
    }

    async fn read(
        &self,
        digest: &Digest,
        offset: u64,
        size: Option<u64>,
    ) -> Result<Pieces, StoreError> {
        let file = self.layout.open(digest, offset)?;
        let file = tokio::fs::File::from_std(file.into_parts().0);
        let limited = tokio::io::AsyncReadExt::take(file, size.unwrap_or(u64::MAX));
        let pieces = tokio_util::io::ReaderStream::with_capacity(limited, PIECE);
        let pieces = pieces.map(|piece| piece.map_err(|error| StoreError::failed(&error)));
        Ok(pieces.boxed())
    }

    async fn write(&self, blob: NewBlob) -> Result<Write, StoreError> {
        let failed = |error: LayoutError| StoreError::failed(&error);
        let metadata = blob.is_metadata().then(|| Arc::clone(&self.metadata));
        if self
            .layout
            .blob_size(&blob.digest)
            .map_err(failed)?
            .is_some()
        {
            if let Some(list) = metadata {
                note(&list, &blob.digest);
            }
            return Ok(Write::Exists);
        }
        let open = self.layout.begin(blob);
        let open = open.map_err(|error| StoreError::failed(&error))?;
        Ok(Write::Open(Box::new(LayoutWriter {
            open: Some(open),
            metadata,
        })))
    }
}

fn note(list: &Mutex<Vec<Digest>>, digest: &Digest) {
    let mut list = list.lock();
    list.push(digest.clone());
}

/// A blob on its way. The file goes when this is dropped.
#[derive(Debug)]
struct OpenBlob {
    blob: NewBlob,
    path: PathBuf,
    file: NamedTempFile,
    hasher: Hasher,
    size: u64,
}

impl OpenBlob {
    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.hasher.update(data);
        self.size += data.len() as u64;
        self.file.write_all(data)
    }

    /// Verifies the blob and gives it its name.
    fn commit(self) -> Result<Digest, StoreError> {
        let actual = self.hasher.finish();
        if actual != self.blob.digest {
            return Err(StoreError::Failed(format!(
                "the builder announced {} and sent {actual}",
                self.blob.digest
            )));
        }
        if self.blob.size.is_some_and(|size| size != self.size) {
            return Err(StoreError::Failed(format!(
                "the builder sent {} bytes of {}, which has another size",
                self.size, self.blob.digest
            )));
        }
        let store = || -> io::Result<()> {
            self.file.as_file().sync_all()?;
            if let Some(folder) = self.path.parent() {
                fs::create_dir_all(folder)?;
            }
            self.file.persist(&self.path)?;
            Ok(())
        };
        store().map_err(|error| StoreError::failed(&error))?;
        Ok(self.blob.digest)
    }
}

struct LayoutWriter {
    open: Option<OpenBlob>,
    metadata: Option<Arc<Mutex<Vec<Digest>>>>,
}

impl LayoutWriter {
    fn take(&mut self) -> Result<OpenBlob, StoreError> {
        let open = self.open.take();
        open.ok_or_else(|| StoreError::Failed("an earlier write failed".to_owned()))
    }
}

#[tonic::async_trait]
impl BlobWriter for LayoutWriter {
    async fn write(&mut self, data: Bytes) -> Result<(), StoreError> {
        let mut open = self.take()?;
        let written = tokio::task::spawn_blocking(move || open.write(&data).map(|()| open));
        let written = written.await.map_err(|error| StoreError::failed(&error))?;
        self.open = Some(written.map_err(|error| StoreError::failed(&error))?);
        Ok(())
    }

    async fn commit(mut self: Box<Self>) -> Result<(), StoreError> {
        let open = self.take()?;
        let committed = tokio::task::spawn_blocking(move || open.commit());
        let digest = committed
            .await
            .map_err(|error| StoreError::failed(&error))??;
        if let Some(list) = &self.metadata {
            note(list, &digest);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
