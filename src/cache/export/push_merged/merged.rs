//! What came of a cache that is kept under a reference, for people.

use std::fmt;

use super::REFUSED;
use crate::cache::merge::Dropped;
use crate::digest::Digest;
use crate::text::counted;

/// A cache that the reference holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// Digest of the manifest.
    pub manifest: Digest,
    /// Everything was there already; nothing was written.
    pub unchanged: bool,
    /// Blobs of the merged cache.
    pub layers: usize,
    /// Results of the merged cache.
    pub results: usize,
    /// How many of them were there before and are not among the new ones.
    pub others: usize,
    /// What the bounds did not leave room for.
    pub dropped: Option<Dropped>,
    /// Results that were there and whose blobs the registry has lost.
    pub lost: usize,
    /// Why what the reference held before was replaced and not merged.
    pub replaced: Option<String>,
    /// The registry refuses the record, and it was left out.
    pub refused: bool,
}

impl fmt::Display for Merged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.others > 0 {
            let others = counted(self.others, "other result");
            let layers = counted(self.layers, "layer");
            write!(f, "merged with {others}, now {} in {layers}", self.results)?;
        } else {
            let results = counted(self.results, "result");
            write!(f, "{results} in {}", counted(self.layers, "layer"))?;
        }
        if let Some(why) = &self.replaced {
            write!(f, "; replaced what was there: {why}")?;
        }
        if self.lost > 0 {
            let results = counted(self.lost, "result");
            write!(f, "; left out {results} that the registry has lost")?;
        }
        if let Some(dropped) = &self.dropped {
            write!(f, "; {dropped}")?;
        }
        if self.refused {
            write!(f, "; {REFUSED}")?;
        }
        Ok(())
    }
}
