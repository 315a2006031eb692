//! What the tests share.

pub(crate) mod recorder;
pub(crate) mod registry;
pub(crate) mod rig;
