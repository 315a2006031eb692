//! Media types of manifests and layers, in OCI's and in Docker's spelling.

use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE,
    OCI_IMAGE_MEDIA_TYPE,
};

use crate::compress::Algorithm;

/// Media type of an OCI image manifest.
pub const OCI_MANIFEST: &str = OCI_IMAGE_MEDIA_TYPE;
/// Media type of an OCI image index.
pub const OCI_INDEX: &str = OCI_IMAGE_INDEX_MEDIA_TYPE;
/// Media type of a Docker image manifest.
pub const DOCKER_MANIFEST: &str = IMAGE_MANIFEST_MEDIA_TYPE;
/// Media type of a Docker manifest list.
pub const DOCKER_LIST: &str = IMAGE_MANIFEST_LIST_MEDIA_TYPE;

/// The forms in which a cache manifest is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// OCI image manifest, BuildKit's default.
    OciManifest,
    /// Docker image manifest; only inline caches are found in it.
    DockerManifest,
    /// OCI image index (`image-manifest=false`).
    OciIndex,
    /// Docker manifest list (`oci-mediatypes=false`).
    DockerList,
}

impl Form {
    /// Returns the media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::OciManifest => OCI_MANIFEST,
            Self::DockerManifest => DOCKER_MANIFEST,
            Self::OciIndex => OCI_INDEX,
            Self::DockerList => DOCKER_LIST,
        }
    }

    /// Returns the form that a media type names; `None` for what is neither a manifest nor an index.
    pub(super) fn of_media_type(media_type: &str) -> Option<Self> {
        [
            Self::OciManifest,
            Self::DockerManifest,
            Self::OciIndex,
            Self::DockerList,
        ]
        .into_iter()
        .find(|form| form.media_type() == media_type)
    }

    /// Returns whether a manifest of this form may have annotations: Docker's have none.
    pub fn has_annotations(self) -> bool {
        matches!(self, Self::OciManifest | Self::OciIndex)
    }

    /// Returns whether the entries of the form are in `manifests`, the config among them.
    pub(super) fn is_index(self) -> bool {
        matches!(self, Self::OciIndex | Self::DockerList)
    }
}

/// Returns the media type of a layer.
///
/// Docker never defined one for zstd; the spelling here is BuildKit's (`util/compression`).
pub fn layer_type(algorithm: Algorithm, oci: bool) -> &'static str {
    match (oci, algorithm) {
        (true, Algorithm::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
        (true, Algorithm::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
        (true, Algorithm::Uncompressed) => "application/vnd.oci.image.layer.v1.tar",
        (false, Algorithm::Gzip) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
        (false, Algorithm::Zstd) => "application/vnd.docker.image.rootfs.diff.tar.zstd",
        (false, Algorithm::Uncompressed) => "application/vnd.docker.image.rootfs.diff.tar",
    }
}

/// Returns the compression that a layer's media type names; `None` for what is not a layer.
pub fn algorithm_of(media_type: &str) -> Option<Algorithm> {
    let is_layer = media_type.contains("image.layer.") || media_type.contains("image.rootfs.");
    if !is_layer {
        return None;
    }
    if media_type.ends_with("gzip") {
        Some(Algorithm::Gzip)
    } else if media_type.ends_with("zstd") {
        Some(Algorithm::Zstd)
    } else if media_type.ends_with("tar") {
        Some(Algorithm::Uncompressed)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_read_back() {
        for algorithm in [Algorithm::Gzip, Algorithm::Zstd, Algorithm::Uncompressed] {
            for oci in [true, false] {
                assert_eq!(algorithm_of(layer_type(algorithm, oci)), Some(algorithm));
            }
        }
        assert_eq!(
            algorithm_of("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
            Some(Algorithm::Gzip)
        );
    }

    #[test]
    fn other_types_are_no_layers() {
        for other in [
            "application/vnd.buildkit.cacheconfig.v0",
            "text/plain+gzip",
            "",
        ] {
            assert_eq!(algorithm_of(other), None);
        }
    }
}
