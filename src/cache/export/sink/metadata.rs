//! Manifest and config of an export, kept in memory.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use crate::buildkit::session::content::{BlobWriter, StoreError};
use crate::cache::config::CacheConfig;
use crate::digest::Digest;

/// Manifest and config of one export, by digest.
pub(super) type Metadata = Mutex<HashMap<Digest, Bytes>>;

/// The export of a part of the build, before its end.
#[derive(Debug)]
pub struct PartExport {
    pub(super) metadata: Arc<Metadata>,
}

impl PartExport {
    /// Returns how many bytes it holds.
    pub fn size(&self) -> usize {
        self.metadata.lock().values().map(Bytes::len).sum()
    }

    /// Returns manifest and config by digest, once the export is over.
    pub fn metadata(&self) -> HashMap<Digest, Bytes> {
        self.metadata.lock().clone()
    }
}

/// Takes a manifest or a config into memory.
pub(super) struct MetadataWriter {
    pub(super) metadata: Arc<Metadata>,
    pub(super) digest: Digest,
    pub(super) data: BytesMut,
}

#[tonic::async_trait]
impl BlobWriter for MetadataWriter {
    async fn write(&mut self, data: Bytes) -> Result<(), StoreError> {
        if self.data.len() + data.len() > CacheConfig::MAX_BYTES {
            return Err(StoreError::Failed(format!(
                "the cache's config or manifest is larger than {} bytes",
                CacheConfig::MAX_BYTES
            )));
        }
        self.data.extend_from_slice(&data);
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        let data = self.data.freeze();
        let actual = Digest::of(&data);
        if actual != self.digest {
            return Err(StoreError::Failed(format!(
                "the builder announced {} and sent {actual}",
                self.digest
            )));
        }
        self.metadata.lock().insert(self.digest, data);
        Ok(())
    }
}
