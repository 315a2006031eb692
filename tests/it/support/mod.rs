//! What the integration tests share.

pub(crate) mod bench;
pub(crate) mod recorder;
pub(crate) mod registry;
pub(crate) mod rig;
