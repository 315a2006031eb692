//! Compression of layers while they are uploaded: on all cores, with bounded memory.
//!
//! | file | holds |
//! |---|---|
//! | [`encoder`] | bytes in, compressed bytes out through a bounded channel, both digests at the end |
//! | [`mod@detect`] | what a blob is, by its first or last bytes |
//! | [`level`] | levels of each algorithm |
//! | [`workers`] | the threads that all of them share |
//! | `gzip`, `deflate`, `zstd`, `hash` | the formats, block by block; running digests |
//!
//! estargz is made by BuildKit only; as input it is gzip.
//!
//! # Why these libraries and blocks
//!
//! Measured on one core with parts of Debian's `/usr` as tar (programs and text), in MB of content
//! for each second of CPU time; 146 MB/s become 123 by joining:
//!
//! | compressor | MB/s | ratio |
//! |---|---|---|
//! | gzip 6, zlib-rs, blocks with a dictionary in one member (as pigz) | 103 | .293 |
//! | gzip 6, libdeflate, a member for each MiB | 146 | .287 |
//! | gzip 6, libdeflate, joined into one member | 123 | .287 |
//! | zstd 3, libzstd's own threads | 375 | .273 |
//! | zstd 3, frames of 2 MiB | 430 | .275 |
//!
//! With both digests and all copies the encoders reach 107 MB/s a core for gzip 6 (170 for gzip 1)
//! and 330 for zstd 3. Members of 1 MiB would do for Go's gzip, but some readers stop after the
//! first one without a word (Python's `tarfile` on a stream, many programs with zlib), so the
//! blocks of libdeflate are joined into one.
//!
//! # Determinism
//!
//! Blocks begin at fixed offsets and are compressed on their own, so the output depends on input,
//! algorithm and level (and the version of this program) only: not on the number of threads, nor on
//! how the input was cut into writes.
//!
//! # Memory
//!
//! Each encoder holds the block that is being filled and one block in flight; beyond these, all
//! encoders of a build together have one block in flight for each thread. A block is 1 MiB for
//! gzip; for zstd 2 MiB under level 6, 4 MiB under level 16 and 8 MiB from there; it counts up to
//! twice, for input and output. Each thread keeps a compressor, which is small but for zstd's high
//! levels. Measured with two threads, the whole process: gzip 13 MB (4 encoders at once: 25),
//! zstd 3 24 MB (38), zstd 9 55 MB, zstd 19 210 MB.

use std::fmt;
use std::io;

use thiserror::Error;

use crate::digest::Digest;

mod deflate;
pub mod detect;
pub mod encoder;
mod gzip;
mod hash;
pub mod level;
pub mod workers;
mod zstd;

#[cfg(test)]
mod tests;

pub use detect::detect;
pub use encoder::{Encoder, Output};
pub use level::Level;
pub use workers::Workers;

/// A compression of a layer that this program makes and reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// gzip, which every registry and engine knows; estargz is one of its forms.
    Gzip,
    /// Zstandard.
    Zstd,
    /// A plain tar.
    Uncompressed,
}

impl Algorithm {
    /// Returns the name in cache options and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Uncompressed => "uncompressed",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A layer on both sides of its compression. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digests {
    /// The digest of the content: the layer's diff ID.
    pub uncompressed: Digest,
    /// The digest of the blob.
    pub compressed: Digest,
    /// The size of the content.
    pub uncompressed_size: u64,
    /// The size of the blob.
    pub compressed_size: u64,
}

/// Compressing has failed.
#[derive(Debug, Error)]
pub enum Error {
    /// The algorithm has no such level.
    #[error("{algorithm} has no compression level {number}: {least} to {most}")]
    Level {
        /// The algorithm.
        algorithm: Algorithm,
        /// What was asked for.
        number: i32,
        /// The lowest level.
        least: i32,
        /// The highest level.
        most: i32,
    },
    /// The system gives no thread.
    #[error("cannot start a thread for compression")]
    Thread {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A compression job panicked.
    #[error("a compression job was lost")]
    Panicked,
    /// The compressor refused.
    #[error("cannot compress with {algorithm}")]
    Compress {
        /// The algorithm.
        algorithm: Algorithm,
        /// What its library says.
        #[source]
        source: io::Error,
    },
    /// libdeflate's output could not be joined.
    #[error("cannot compress with gzip: unexpected deflate stream")]
    Deflate,
    /// Nobody takes the compressed bytes any more.
    #[error("the receiver of the compressed data is gone")]
    OutputClosed,
    /// The encoder was dropped before its end.
    #[error("the compressed data is incomplete, its source was given up")]
    Abandoned,
    /// An earlier call failed, or was cancelled while it waited.
    #[error("an earlier step of the compression did not end")]
    Interrupted,
}
