//! A cache taken out of BuildKit and stored in a registry by this program.
//!
//! BuildKit exports to the session's content store (its `type=local` exporter). The store
//! ([`sink`]) answers `exists` for what the registry has, and sends the rest on as it comes
//! ([`layer`]); manifest and config stay in memory. After the solve [`publish`] rewrites both for the
//! blobs as they are stored and writes config and manifest, the tag last; [`push_merged`] does so together
//! with what the tag holds.

pub mod beside;
pub mod keep;
pub mod layer;
pub mod publish;
pub mod push_merged;
pub mod sink;

use std::sync::Arc;

pub use beside::{Beside, Others};
pub use publish::{PublishError, Published, Rules};
pub use sink::{PartExport, RegistrySink};

use crate::compress::Level;

/// Observes an export, to show it.
pub trait ExportProgress: Send + Sync + 'static {
    /// A part has so many of its bytes sent; a `total` of 0 is not known.
    fn part(&self, name: &str, current: u64, total: u64);
    /// A part is done.
    fn part_done(&self, name: &str);
    /// The export is over; the summary is one line.
    fn done(&self, summary: &str);
    /// The export has failed.
    fn failed(&self, error: &str);
}

/// How layers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// As BuildKit hands them over: it compresses.
    AsGiven,
    /// BuildKit hands them over uncompressed, and they are compressed here. Layers that have another
    /// compression already stay as they are, unless `force` is set.
    Compress {
        /// How.
        level: Level,
        /// Layers of another compression are compressed again.
        force: bool,
    },
}

/// Settings of one export.
#[derive(Clone)]
pub struct ExportSettings {
    /// How layers are stored.
    pub storage: Storage,
    /// OCI media types, not Docker's.
    pub oci_types: bool,
    /// Another repository of the same host that may have the blobs, because the image is pushed
    /// there: blobs are mounted from it.
    pub mount_from: Option<String>,
    /// The image is pushed to the same repository: blobs may be there before they are sent.
    pub shares_repository: bool,
    /// Shows what goes on.
    pub progress: Arc<dyn ExportProgress>,
}

impl std::fmt::Debug for ExportSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExportSettings")
            .field("storage", &self.storage)
            .field("oci_types", &self.oci_types)
            .field("mount_from", &self.mount_from)
            .field("shares_repository", &self.shares_repository)
            .finish_non_exhaustive()
    }
}
