//! The heart: the registry cache of BuildKit, moved and understood by this program itself.
//!
//! | file | holds |
//! |---|---|
//! | [`config`] | the cache config (`application/vnd.buildkit.cacheconfig.v0`): layers and records |
//! | [`manifest`] | the manifest that lists the layers' blobs, in its four forms |
//! | [`media`] | media types of layers and the compressions that they stand for |
//! | [`registries`] | the registry clients of a build, one for each host |
//! | [`known`] | what a cache in the registry holds already |
//! | [`export`] | a cache taken out of BuildKit through the session, stored and published |

pub mod config;
pub mod export;
pub mod known;
pub mod manifest;
pub mod media;
pub mod registries;

/// The largest manifest or config that BuildKit reads on import, in bytes: 1 MiB
/// (BuildKit `cache/remotecache/import.go`).
pub const MAX_METADATA: usize = 1 << 20;
