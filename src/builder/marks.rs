//! Marks that this program sets on builders, in a folder of its own in the store. buildx does not look
//! there.

use std::io;
use std::path::PathBuf;

use super::store::{Store, StoreError};

/// Folders of the marks below the store's folder.
const UNCOMPRESSED: &str = "cachex/uncompressed";
const ZSTD: &str = "cachex/zstd";

impl Store {
    /// Notes that layers were taken uncompressed out of a node's BuildKit. BuildKit keeps the first
    /// blob that it makes of a layer, so such layers would be pushed uncompressed in an image; builds
    /// that make one ask for compression then.
    ///
    /// # Errors
    ///
    /// Fails if the store cannot be written.
    pub fn mark_uncompressed(&self, builder: &str, node: &str) -> Result<(), StoreError> {
        self.mark(UNCOMPRESSED, builder, node)
    }

    /// Notes that layers were taken as zstd out of a node's `BuildKit`, which is to images what
    /// [uncompressed ones](Self::mark_uncompressed) are.
    ///
    /// # Errors
    ///
    /// Fails if the store cannot be written.
    pub fn mark_zstd(&self, builder: &str, node: &str) -> Result<(), StoreError> {
        self.mark(ZSTD, builder, node)
    }

    fn mark(&self, kind: &str, builder: &str, node: &str) -> Result<(), StoreError> {
        let path = PathBuf::from(kind).join(builder);
        self.make_dir(&path)?;
        self.write(&path.join(node), b"")
    }

    /// Returns whether layers were ever taken uncompressed out of a node.
    pub fn is_marked_uncompressed(&self, builder: &str, node: &str) -> bool {
        self.is_marked(UNCOMPRESSED, builder, node)
    }

    /// Returns whether layers were ever taken as zstd out of a node.
    pub fn is_marked_zstd(&self, builder: &str, node: &str) -> bool {
        self.is_marked(ZSTD, builder, node)
    }

    fn is_marked(&self, kind: &str, builder: &str, node: &str) -> bool {
        self.dir().join(kind).join(builder).join(node).exists()
    }

    /// Forgets the marks of a builder whose state is gone.
    ///
    /// # Errors
    ///
    /// Fails if the folder is there and cannot be removed.
    pub fn clear_marks(&self, builder: &str) -> io::Result<()> {
        for kind in [UNCOMPRESSED, ZSTD] {
            match fs_err::remove_dir_all(self.dir().join(kind).join(builder)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_for_one_node_until_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().join("buildx"), None);
        assert!(!store.is_marked_uncompressed("b", "b0"));
        store.mark_uncompressed("b", "b0").unwrap();
        assert!(store.is_marked_uncompressed("b", "b0"));
        assert!(!store.is_marked_uncompressed("b", "b1"));
        assert!(!store.is_marked_zstd("b", "b0"));
        store.mark_zstd("b", "b0").unwrap();
        assert!(store.is_marked_zstd("b", "b0"));
        store.clear_marks("b").unwrap();
        assert!(!store.is_marked_uncompressed("b", "b0"));
        assert!(!store.is_marked_zstd("b", "b0"));
        store.clear_marks("b").unwrap();
    }
}
