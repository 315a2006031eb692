//! A store of the session whose content is decided later.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::buildkit::session::content::{ContentStore, NewBlob, Pieces, StoreError, Write};
use crate::digest::Digest;

/// Stands for another store. The stores of a session are fixed when it begins, and whether a cache has
/// to be served through it may show only when BuildKit cannot read it.
#[derive(Default)]
pub(super) struct Standby(Mutex<Option<Arc<dyn ContentStore>>>);

impl fmt::Debug for Standby {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Standby")
            .field(&self.get().is_some())
            .finish()
    }
}

impl Standby {
    /// Sets the store.
    pub(super) fn set(&self, store: Arc<dyn ContentStore>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(store);
    }

    fn get(&self) -> Option<Arc<dyn ContentStore>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn has(&self, digest: &Digest) -> Result<Arc<dyn ContentStore>, StoreError> {
        self.get()
            .ok_or_else(|| StoreError::NotFound(digest.clone()))
    }
}

#[tonic::async_trait]
impl ContentStore for Standby {
    async fn size(&self, digest: &Digest) -> Result<u64, StoreError> {
        self.has(digest)?.size(digest).await
    }

    async fn read(
        &self,
        digest: &Digest,
        offset: u64,
        size: Option<u64>,
    ) -> Result<Pieces, StoreError> {
        self.has(digest)?.read(digest, offset, size).await
    }

    async fn write(&self, _blob: NewBlob) -> Result<Write, StoreError> {
        Err(StoreError::Failed("this cache is only read".to_owned()))
    }
}
