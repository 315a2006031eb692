//! The cache mounts of a build's steps (`RUN --mount=type=cache`), taken out of caches and into them.
//!
//! | file | holds |
//! |---|---|
//! | [`uses`] | the mounts that the definitions name, with what a container needs to open one |
//! | [`watch`] | what is heard of a build: its definitions, and which steps ran |
//! | [`restore`] | mounts put in a builder that lacks them, before the steps begin |
//! | [`save`] | a mount taken out of the builder, packed and stored |
//! | [`beside`] | when mounts are saved: as soon as their steps have run, or at the end |
//! | `script` | what runs in the container |
//! | `held` | which mounts a builder has, and which are in use |
//!
//! A mount is opened in a container on the base image of a step that uses it: what a cache mount holds is nowhere else to
//! be had, and an image that builds something mostly has a `tar`; else the user names one (`mounts-helper=`). The builder knows
//! a mount by its id, and by the result of the step that it begins with where there is one: so the container has the very
//! same inputs.
//!
//! Nothing here makes a build fail: what does not work is left out, with a remark.

pub mod beside;
mod held;
pub mod restore;
pub mod save;
mod script;
pub mod uses;
pub mod watch;

use crate::buildkit::RpcError;
use crate::buildkit::container::NO_SHELL;

/// Returns whether an error says that the image of a container has no shell.
fn lacks_shell(error: &RpcError) -> bool {
    crate::error::chain(error).contains(NO_SHELL)
}

/// Where a mount lies in the container.
const DEST: &str = "/.docker-cachex-mount";
