//! Which caches of one repository a build reads and writes: `--cache REPO`.
//!
//! Each branch and each pull request has a tag of its own in the repository, its *scope*. Who may push
//! decides what a build may write; the names decide who ever reads it. A pull request reads what its base
//! branch wrote and writes only its own scope, so nothing that it builds can get into a build of the branch.
//!
//! | file | holds |
//! |---|---|
//! | `address` | where a repository is, by its URL |
//! | `facts` | what is built, and on whose behalf, as values |
//! | `ci` | the facts by the variables of each CI, one file a vendor |
//! | `slug` | names of branches as tags |
//! | `nearest` | the branch that a work tree has begun from, by what git lists |
//! | `plan` | the rules: from facts to what is read and written |
//! | `line` | a plan in one line |
//! | `closed` | scopes of what is no more, by what `git ls-remote` says |
//!
//! All of it is pure: variables, the event's file and what git says are passed in.

mod address;
mod ci;
mod closed;
mod facts;
mod line;
mod nearest;
mod plan;
mod slug;

pub use address::address;
pub use ci::{BadVariable, commit, facts};
pub use closed::{Remote, Standing};
pub use facts::{Event, Facts, GitFacts};
pub use line::{Held, line};
pub use nearest::{COUNTED, MERGED, nearest};
pub use plan::{Plan, Wishes, Write, plan};
pub use slug::is_scope;

#[cfg(test)]
mod tests;
