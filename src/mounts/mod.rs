//! The tree of a cache mount as blobs of a registry: a tar stream goes in, packs and an index come out, and the reverse.
//! Nothing here knows a builder or a registry.
//!
//! | file | holds |
//! |---|---|
//! | [`index`] | what is in a mount, file by file, and where its bytes are; a hostile one is refused |
//! | `entries` | the entries of a tar stream, read |
//! | [`tree`] | the entries of a tar stream as they stand in an index |
//! | [`pack`] | a tar stream made packs and an index: bytes that are in an older one's packs are not packed again |
//! | [`unpack`] | an index and its packs made a tar stream |
//! | `write` | a tar stream, written |
//! | `holes` | where a file needs no disk |
//! | [`pipe`] | a stream between asynchronous code and a thread |
//!
//! Files are cut where their content says so (`FastCDC`), so that what is inserted in a file changes the chunks around it
//! and no others. Chunks stand in packs of [`PACK`] bytes, each one blob of zstd. The index names packs and chunks by their
//! digests; it is the same for the same tree and the same packs, so a mount that has not changed is known by its digest.

mod entries;
mod holes;
pub mod index;
pub mod pack;
pub mod pipe;
pub mod tree;
pub mod unpack;
mod write;

pub use index::Index;

/// Folder in a mount that holds what is being restored. Where a restore was broken off, what lies beside it is whole.
pub const RESTORING: &str = ".docker-cachex-restoring";
/// What the folder is called while its files are put in place: what lies beside it may be half of a mount.
pub const MOVING: &str = ".docker-cachex-moving";
/// The last entry of a tar stream that is restored: without it the stream was cut off.
pub const END: &str = ".docker-cachex-end";
/// Bytes of a pack before compression. One that is full holds as much, and up to a chunk more.
pub const PACK: usize = 8 << 20;
/// The sizes of chunks in bytes: the smallest (but for the last of a file), the usual one, the largest.
const CHUNK: (usize, usize, usize) = (16 << 10, 64 << 10, 256 << 10);
