//! The caches that a build reads.
//!
//! | file | holds |
//! |---|---|
//! | `sources` | each cache, resolved: who reads it, what BuildKit is told |
//! | `probe` | what the registries say about them, asked first |
//! | `set` | all of them: opened before the solve |
//! | `beside` | caches that another one has taken in |
//! | `choose` | large caches cut down to what the build can use, and caches of no use left out |
//! | `recover`, `unreadable` | a build that fails because of one is run again without what could not be read |
//! | `ahead` | what steps will need is loaded while others run |
//! | `found` | what they turned out to be |
//! | `ended` | which of them were read in the end |
//! | `watch`, `origin`, [`missing`] | what the reports of a solve say about them |

pub mod ahead;
mod beside;
pub mod choose;
mod ended;
pub mod found;
pub mod missing;
pub mod origin;
mod probe;
mod recover;
mod set;
pub mod sources;
mod unreadable;
mod watch;

pub use origin::Origins;
pub use probe::{Age, Holding, Probes};
pub use set::{Imports, open};
pub use sources::{CacheImport, imports};
pub use unreadable::is_of_a_program;
pub use watch::Watch;
