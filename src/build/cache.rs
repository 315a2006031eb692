//! What a build does about caches: it writes them, reads them, and exports finished steps early.
//!
//! | room | holds |
//! |---|---|
//! | [`export`] | the caches to write |
//! | [`import`] | the caches to read |
//! | [`early`] | exports of finished steps while the build runs, and after it has failed |
//! | `ends` | what became of them, however the build ended |
//! | `tools`, `cancellation`, `error`, `store_id`, `unsupported` | what these have in common |

mod cancellation;
pub mod early;
mod ends;
mod error;
pub mod export;
pub mod import;
mod store_id;
mod tools;
mod unsupported;

pub use cancellation::{Cancellation, before_publishing};
pub use ends::{CacheEnds, ReadEnd, WriteEnd};
pub use error::CacheError;
pub use export::{CacheReport, CacheTarget};
pub use import::CacheImport;
pub use tools::{CacheObserver, CacheTools};
pub use unsupported::UnsupportedBackends;
