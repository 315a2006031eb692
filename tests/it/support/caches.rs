//! Caches in a registry, as arguments of a build.

use super::rig::{Rig, unique};

/// A place in the rig's registry that no other test has.
pub(crate) fn reference(what: &str) -> String {
    format!("{}/{}:cache", Rig::get().registry.host(), unique(what))
}

/// The cache is written there; the keys begin with the mode.
pub(crate) fn export(reference: &str, keys: &str) -> String {
    format!("--cache-to=type=registry,ref={reference},{keys}")
}

/// The cache is read from there.
pub(crate) fn import(reference: &str) -> String {
    format!("--cache-from=type=registry,ref={reference}")
}
