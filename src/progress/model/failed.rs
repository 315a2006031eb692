//! What is shown again of a step that failed.

use super::vertex::Vertex;

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedStep {
    /// Digest of the vertex.
    pub digest: String,
    /// Name, such as `[2/3] RUN make`.
    pub name: String,
    /// The builder's error text.
    pub error: String,
    /// The last log lines, each with its time: `0.312 text`, without line ends.
    pub logs: Vec<Vec<u8>>,
    /// This many lines before them were not kept.
    pub dropped: usize,
}

impl FailedStep {
    pub(super) fn of(vertex: &Vertex) -> Self {
        Self {
            digest: vertex.digest.clone(),
            name: vertex.name.clone(),
            error: vertex.error.clone(),
            logs: vertex.log.tail().map(<[u8]>::to_vec).collect(),
            dropped: vertex.log.dropped(),
        }
    }
}
