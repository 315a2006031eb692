//! The cache mounts of a build's steps (`RUN --mount=type=cache`), taken out of caches and into them.
//!
//! | file | holds |
//! |---|---|
//! | [`uses`] | the mounts that the definitions name, with what a container needs to open one |
//! | [`watch`] | what is heard of a build: its definitions, and which steps ran |
//! | [`restore`] | mounts put in a builder that lacks them, before the steps begin |
//! | `fill` | one on its way in: packs made the tar stream that the script reads |
//! | [`save`] | mounts taken out of the builder |
//! | `take` | one on its way out: the tar stream that the script writes, packed and stored |
//! | [`beside`] | when mounts are saved: as soon as their steps have run, or at the end |
//! | `script` | what runs in the container |
//! | `held` | which mounts a builder has, which are in use, and which are known to be whole |
//! | `errors` | why a mount is not saved or restored |
//!
//! A mount is opened in a container on the base image of a step that uses it: what a cache mount holds is nowhere else to
//! be had, and an image that builds something mostly has a `tar`; else the user names one (`mounts-helper=`). The builder knows
//! a mount by its id, and by the result of the step that it begins with where there is one: so the container has the very
//! same inputs.
//!
//! Nothing here makes a build fail: what does not work is left out, with a remark.

pub mod beside;
mod errors;
mod fill;
mod held;
pub mod restore;
pub mod save;
mod script;
mod take;
pub mod uses;
pub mod watch;

/// Where a mount lies in the container.
const DEST: &str = "/.docker-cachex-mount";
/// What is shown while one is on its way.
const FILES: &str = "its files";
