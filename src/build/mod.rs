//! A build, from the typed request to its results.
//!
//! | file | holds |
//! |---|---|
//! | [`request`] | what the user asked for; it never changes |
//! | [`plan`] | pure: request, facts and inputs become all that BuildKit is told |
//! | [`inputs`], [`stdin`], [`vcs`] | where files come from, and the commit they stand at |
//! | [`dockerfile_url`] | a Dockerfile given by URL |
//! | [`source_policy`], [`policy`] | a policy for sources that BuildKit enforces; those that are refused |
//! | [`local_delete`] | what a local output may delete |
//! | [`exports`] | exporters and where their bytes go |
//! | [`cache`] | caches to write and to read, checked |
//! | `caches`, [`client_cache`] | the caches of a build that go through this program; one that it stores |
//! | [`alongside`] | exports of finished steps while the build runs, and after it has failed |
//! | [`imports`], [`layout_cache`] | caches that this program serves to the builder; caches in layout folders |
//! | [`session`], [`load`] | what the session serves; images into an engine |
//! | [`run`] | one build on one connected builder |
//! | [`join`] | the results of several nodes as one index |
//! | [`quiet_import`] | a missing cache as one quiet line |
//! | [`provenance`] | what the metadata file tells about how the image was made |
//! | [`metadata`] | image identifier and metadata file |

pub mod alongside;
pub mod cache;
mod cache_kinds;
mod caches;
pub mod client_cache;
pub mod dockerfile_url;
pub mod exports;
pub mod imports;
pub mod inputs;
pub mod join;
mod later;
pub mod layout_cache;
pub mod load;
pub mod local_delete;
pub mod metadata;
pub mod plan;
pub mod policy;
pub mod provenance;
pub mod quiet_import;
pub mod request;
pub mod run;
pub mod session;
pub mod source_policy;
pub mod stdin;
pub mod vcs;

pub use request::BuildRequest;
