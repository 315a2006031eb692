//! Where a build gets its files from, and what may be read.
//!
//! | file | holds |
//! |---|---|
//! | [`inputs`] | context, Dockerfile and named contexts, made ready |
//! | [`stdin`] | standard input as context or Dockerfile |
//! | [`vcs`] | the commit that a context stands at |
//! | [`dockerfile_url`] | a Dockerfile given by URL |
//! | [`source_policy`], [`policy`] | policies for sources: one that BuildKit enforces, and those that are refused |

pub mod dockerfile_url;
pub mod inputs;
pub mod policy;
pub mod source_policy;
pub mod stdin;
pub mod vcs;
