//! Media types of layers, in OCI's and in Docker's spelling.

use crate::compress::Algorithm;

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
