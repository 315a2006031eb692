//! The heart: the registry cache of BuildKit, moved and understood by this program itself.
//!
//! | file | holds |
//! |---|---|
//! | [`config`] | the cache config (`application/vnd.buildkit.cacheconfig.v0`): layers and records |
//! | [`manifest`] | the manifest that lists the layers' blobs, in its four forms |
//! | [`descriptor`] | how a manifest names a blob |
//! | [`unknown`] | fields of these that this program does not know |
//! | [`budget`] | how much of others' JSON is read |
//! | [`media`] | media types of manifests and layers, and the forms and compressions that they stand for |
//! | [`registries`] | the registry clients of a build, one for each host |
//! | [`merge`] | caches merged, cut to bounds, and without what was lost |
//! | [`copy_blobs`] | the blobs of caches copied into one repository |
//! | [`keys`] | the keys of a build's steps, and the steps looked up in a cache |
//! | [`record`] | what a cache tells about the builds that wrote it |
//! | [`extras`] | entries of this program in a cache's manifest |
//! | [`sign`] | signatures in manifests, and which keys count |
//! | [`remote_cache`] | what a cache in the registry holds already |
//! | [`export`] | a cache taken out of BuildKit through the session, stored and published |
//! | [`import`] | a cache of a registry served to BuildKit through the session |
//! | [`layout`] | a folder of the OCI image layout as the session's store |
//! | [`survey`], [`removal`], [`orphans`] | the caches of a repository, one of them removed, and what tags held before |
//! | [`source`], [`inspect`] | a cache that is looked at: where it is read from, and what is in it |
//! | [`outline`], [`difference`] | its steps under each other, and what another cache has of them |

pub mod budget;
pub mod config;
pub mod copy_blobs;
pub mod descriptor;
pub mod difference;
pub mod export;
pub mod extras;
pub mod import;
pub mod inspect;
pub mod keys;
pub mod layout;
pub mod manifest;
pub mod media;
pub mod merge;
pub mod orphans;
pub mod outline;
pub mod record;
pub mod referrers;
pub mod registries;
pub mod remote_cache;
pub mod removal;
pub mod sign;
pub mod source;
pub mod survey;
pub mod unknown;

/// The largest manifest or config that BuildKit reads on import, in bytes: 1 MiB
/// (BuildKit `cache/remotecache/import.go`).
pub const MAX_METADATA: usize = 1 << 20;
