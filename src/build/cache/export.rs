//! The caches that a build writes.
//!
//! | file | holds |
//! |---|---|
//! | `targets` | each cache, resolved once: who stores it, when, what BuildKit is told |
//! | `pushes` | whether the login may push, asked first |
//! | `registry`, `layout` | one cache that this program stores |
//! | `before` | the record of a cache that BuildKit is about to write anew |
//! | `set` | all of them: opened before the solve, published after it |

mod before;
mod layout;
mod pushes;
mod registry;
mod set;
pub mod targets;

pub use layout::LayoutExportError;
pub use pushes::Pushes;
pub use registry::{CacheReport, RegistryExport, RegistryExportError};
pub use set::{CacheSet, CacheSetError};
pub use targets::{CacheContext, CacheTarget, EarlyExport, session_entry, targets};

#[cfg(test)]
mod tests;
