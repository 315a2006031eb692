//! What the integration tests share.

pub(crate) mod bench;
pub(crate) mod caches;
pub(crate) mod compare;
pub(crate) mod counter;
pub(crate) mod exporter;
pub(crate) mod generated;
pub(crate) mod git;
pub(crate) mod large;
pub(crate) mod locked;
pub(crate) mod memory;
pub(crate) mod noise;
pub(crate) mod own_registry;
pub(crate) mod recorder;
pub(crate) mod registry;
pub(crate) mod relay;
pub(crate) mod rig;
pub(crate) mod running;
#[cfg(test)]
#[expect(
    dead_code,
    reason = "the unit tests of the registry client use the rest"
)]
pub(crate) mod scripted_registry;
pub(crate) mod signing;
