//! Caches that a build writes to layout folders (`--cache-to type=local`).

use std::path::Path;
use std::sync::Arc;

use thiserror::Error;

use super::targets::LayoutTarget;
use crate::build::cache::tools::CacheObserver;
use crate::buildkit::session::content::{ContentStore, ContentStores};
use crate::cache::layout::{Layout, LayoutError, LayoutStore};

/// Why a cache was not written to its folder.
#[derive(Debug, Error)]
#[error("failed to export the cache to the folder {dest:?}")]
pub struct LayoutExportError {
    /// The folder as the user wrote it.
    pub dest: String,
    /// Why.
    #[source]
    pub source: LayoutError,
}

/// One folder that is being written.
#[derive(Debug)]
pub struct LayoutExport {
    target: LayoutTarget,
    store: Arc<LayoutStore>,
}

impl LayoutExport {
    /// Creates the folder, if it is not there.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be written.
    pub fn open(target: &LayoutTarget, current_dir: &Path) -> Result<Self, LayoutExportError> {
        let layout = Layout::new(current_dir.join(&target.dest));
        layout.create().map_err(|source| LayoutExportError {
            dest: target.dest.clone(),
            source,
        })?;
        Ok(Self {
            target: target.clone(),
            store: Arc::new(LayoutStore::new(layout)),
        })
    }

    /// Offers the folder in the session.
    pub fn offer(&self, stores: &ContentStores) {
        let store: Arc<dyn ContentStore> = Arc::<LayoutStore>::clone(&self.store);
        stores.add(self.target.store.in_session(), store);
    }

    /// Writes the folder's index after the solve. With `ignore-error` a failure is only shown.
    ///
    /// # Errors
    ///
    /// Fails if the index cannot be written; it is then as it was.
    pub async fn publish(&self, observer: &dyn CacheObserver) -> Result<(), LayoutExportError> {
        let (store, target) = (Arc::clone(&self.store), self.target.clone());
        let written = tokio::task::spawn_blocking(move || write(&store, &target));
        let written = written.await.map_err(std::io::Error::other);
        let source = match written {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(source)) => source,
            Err(error) => error.into(),
        };
        if self.target.ignore_error {
            let progress = observer.export(&self.target.dest);
            progress.failed(&crate::error::chain(&source));
            return Ok(());
        }
        Err(LayoutExportError {
            dest: self.target.dest.clone(),
            source,
        })
    }
}

fn write(store: &LayoutStore, target: &LayoutTarget) -> Result<(), LayoutError> {
    let Some(manifest) = store.exported()? else {
        return Ok(());
    };
    store.layout().tag(&manifest, &target.tag)?;
    if target.reset {
        store.layout().remove_unreferenced()?;
    }
    Ok(())
}
