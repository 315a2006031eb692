//! A build, from the typed request to its results.
//!
//! | room | holds |
//! |---|---|
//! | [`request`] | what the user asked for; it never changes |
//! | [`context`] | where files come from |
//! | [`cache`] | the caches to write and to read, and early exports |
//! | [`output`] | where the results go |
//! | [`plan`] | pure: request, facts and inputs become all that BuildKit is told |
//! | [`explain`] | why the steps of a build ran, and what its caches keep of it |
//! | [`mounts`] | the cache mounts of steps, out of caches and into them |
//! | [`run`] | one build on one connected builder: session, attempts, status |
//!
//! A build goes through them in this order: `request` → `plan` → `run`, and `run` uses the others.

pub mod cache;
pub mod context;
pub mod explain;
pub mod mounts;
pub mod output;
pub mod plan;
pub mod request;
pub mod run;

pub use request::BuildRequest;
