//! The heart: the model of BuildKit's registry cache.
//!
//! | file | holds |
//! |---|---|
//! | [`config`] | the cache config (`application/vnd.buildkit.cacheconfig.v0`): layers and records |
//! | [`manifest`] | the manifest that lists the layers' blobs, in its four forms |

pub mod config;
pub mod manifest;

/// The largest manifest or config that BuildKit reads on import, in bytes: 1 MiB
/// (BuildKit `cache/remotecache/import.go`).
pub const MAX_METADATA: usize = 1 << 20;
