//! The descriptor of a blob: how a manifest names it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::unknown::{Unknown, keeps_unknown, null_is_empty};
use crate::digest::Digest;

/// Annotation of a layer: digest of its uncompressed content (containerd `labels`).
pub const UNCOMPRESSED: &str = "containerd.io/uncompressed";
/// Annotation of a layer: time it was made (BuildKit).
pub const CREATED_AT: &str = "buildkit/createdat";

/// Descriptor of a blob as OCI defines it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Descriptor {
    /// Media type of the blob.
    #[serde(rename = "mediaType", default)]
    pub media_type: String,
    /// Digest of the blob.
    pub digest: Digest,
    /// Size of the blob in bytes.
    #[serde(default)]
    pub size: u64,
    /// Annotations, in the order they came.
    #[serde(
        default,
        skip_serializing_if = "Map::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub annotations: Map<String, Value>,
    /// Other fields, such as `platform`.
    #[serde(flatten, skip_deserializing)]
    pub other: Unknown,
}

impl Descriptor {
    /// Creates a descriptor with nothing but what every one has.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            annotations: Map::new(),
            other: Unknown::default(),
        }
    }

    /// Creates the descriptor of a blob.
    pub fn of(media_type: impl Into<String>, blob: &[u8]) -> Self {
        Self::new(media_type, Digest::of(blob), blob.len() as u64)
    }

    /// Returns an annotation that is a text.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name).and_then(Value::as_str)
    }

    /// Returns the digest of the uncompressed content, if an annotation names it.
    pub fn diff_id(&self) -> Option<Digest> {
        self.annotation(UNCOMPRESSED)?.parse().ok()
    }
}

keeps_unknown!(Descriptor);
