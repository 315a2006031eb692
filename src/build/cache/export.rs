//! The caches that a build writes.
//!
//! | file | holds |
//! |---|---|
//! | `targets` | each cache, resolved once: who stores it, when, what BuildKit is told |
//! | `registry`, `layout` | one cache that this program stores |
//! | `set` | all of them: opened before the solve, published after it |

mod layout;
mod registry;
mod set;
mod targets;

pub use layout::{LayoutExport, LayoutExportError};
pub use registry::{CacheReport, RegistryExport, RegistryExportError};
pub use set::{CacheSet, CacheSetError};
pub use targets::{
    CacheContext, CacheTarget, Carrier, EarlyExport, LayoutTarget, Lookup, RegistryTarget,
    session_entry, targets,
};

#[cfg(test)]
mod tests;
