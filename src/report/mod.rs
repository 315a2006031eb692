//! The report of a build: what its steps did, why, what caches had to do with it, and when.
//!
//! | file | holds |
//! |---|---|
//! | [`model`] | the report; its JSON form is an interface |
//! | [`known`] | what is known of the steps beside their progress |
//! | [`mod@collect`] | a report made of progress and knowledge |
//! | `facts` | what it is made of |
//! | `step` | one step of it |
//! | `caches`, `sums` | the caches of it, and its sums |
//! | `critical` | the steps that the build had to wait for |
//! | `words` | figures in words |
//! | [`json`], [`md`], [`html`] | one form each |
//!
//! Everything here is pure. Names that others wrote are shortened, stripped of what is not seen, and escaped in each form;
//! the values of variables that a frontend puts into the names of steps are not in it.

mod caches;
pub mod collect;
mod critical;
mod facts;
pub mod html;
pub mod json;
pub mod known;
pub mod md;
pub mod model;
mod step;
mod sums;
mod words;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use self::collect::collect;
pub use self::facts::{BuildFacts, Ending, NodeFacts, WrittenCache};
pub use self::known::{Known, KnownCache};
pub use self::model::Report;
