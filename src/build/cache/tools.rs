//! What exports and imports of caches need besides the build's own request.

use std::sync::Arc;

use crate::cache::export::ExportProgress;
use crate::cache::extras::refusals::Refusals;
use crate::cache::registries::Registries;
use crate::cache::sign::keyring::Keyring;
use crate::compress::Workers;
use crate::registry::SpoolDir;

/// Shows what becomes of the caches.
pub trait CacheObserver: Send + Sync {
    /// Begins to show the export to a reference.
    fn export(&self, reference: &str) -> Arc<dyn ExportProgress>;
    /// Begins to show how a cache is opened that this program reads.
    fn import(&self, reference: &str) -> Arc<dyn ExportProgress>;
    /// Begins to show what becomes of a cache mount.
    fn mount(&self, what: &str) -> Arc<dyn ExportProgress>;
    /// So many bytes of layers were sent to caches.
    fn sent(&self, bytes: u64);
    /// So many bytes of layers were received from caches.
    fn received(&self, bytes: u64);
    /// So many bytes of cache mounts were sent to caches, and received from them. Who shows no sums takes none.
    fn mounts(&self, _sent: Option<u64>, _received: Option<u64>) {}
    /// The result of the step with that digest came from these caches.
    fn origin(&self, vertex: &str, caches: &str);
}

/// What exports and imports need besides the build's own request.
#[derive(Clone)]
pub struct CacheTools {
    /// Registry clients.
    pub registries: Arc<Registries>,
    /// Threads for compression.
    pub workers: Workers,
    /// Where spool files are.
    pub spool_dir: SpoolDir,
    /// The keys that sign and verify caches.
    pub keyring: Arc<Keyring>,
    /// What registries have refused.
    pub refusals: Refusals,
    /// Shows exports.
    pub observer: Arc<dyn CacheObserver>,
}

impl std::fmt::Debug for CacheTools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CacheTools")
            .field("spool_dir", &self.spool_dir)
            .finish_non_exhaustive()
    }
}
