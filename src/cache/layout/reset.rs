//! `reset=true` of a local cache: blobs that no tag leads to go.

use std::collections::HashSet;

use fs_err as fs;

use super::{Layout, LayoutError};
use crate::cache::descriptor::Descriptor;
use crate::cache::manifest::CacheManifest;
use crate::cache::media::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use crate::digest::Digest;

impl Layout {
    /// Removes every blob that no entry of the index leads to, and returns how many.
    ///
    /// # Errors
    ///
    /// Fails, and removes nothing, where a manifest cannot be read; fails if a blob cannot be
    /// removed.
    pub fn remove_unreferenced(&self) -> Result<usize, LayoutError> {
        let _lock = self.lock()?;
        let kept = self.referenced()?;
        let mut removed = 0;
        for folder in fs::read_dir(self.root.join("blobs"))? {
            let folder = folder?;
            if !folder.file_type()?.is_dir() {
                continue;
            }
            let algorithm = folder.file_name();
            for blob in fs::read_dir(folder.path())? {
                let blob = blob?;
                let name = format!(
                    "{}:{}",
                    algorithm.to_string_lossy(),
                    blob.file_name().to_string_lossy()
                );
                // A file that is not a blob is somebody else's.
                let digest = name.parse::<Digest>();
                if digest.is_ok_and(|digest| !kept.contains(&digest)) {
                    fs::remove_file(blob.path())?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }

    fn referenced(&self) -> Result<HashSet<Digest>, LayoutError> {
        let mut found = HashSet::new();
        let mut open = self.entries()?;
        while let Some(descriptor) = open.pop() {
            if !found.insert(descriptor.digest.clone()) {
                continue;
            }
            if is_manifest(&descriptor) {
                open.extend(self.children(&descriptor)?);
            }
        }
        Ok(found)
    }

    fn children(&self, descriptor: &Descriptor) -> Result<Vec<Descriptor>, LayoutError> {
        let digest = &descriptor.digest;
        let bytes = self
            .read_blob(digest, CacheManifest::MAX_BYTES as u64)?
            .ok_or_else(|| LayoutError::Missing(digest.clone()))?;
        let manifest = CacheManifest::parse(&bytes, &descriptor.media_type)
            .map_err(|_| LayoutError::Corrupt(digest.clone()))?;
        let mut children = manifest.layers;
        children.extend(manifest.config);
        Ok(children)
    }
}

fn is_manifest(descriptor: &Descriptor) -> bool {
    [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST]
        .contains(&descriptor.media_type.as_str())
}
