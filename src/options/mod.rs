//! The values of flags: parse, display, no I/O.
//!
//! Every type reads the text that `docker buildx` reads and means the same by it. What buildx takes
//! silently and nobody can want (an unknown key of a registry cache, an unknown output type) is an
//! [`OptionError`], which names the value, the place and what may have been meant, but not the
//! flag: the caller knows it. Nothing here reads a file or the environment; where a value comes
//! from the environment, the caller passes a lookup.

pub mod add_host;
pub mod annotation;
pub mod attest;
pub mod boolean;
pub mod build_arg;
pub mod build_context;
pub mod cache;
pub mod call;
pub mod context_mode;
pub mod cosign;
pub mod csv;
pub mod duration;
pub mod entitlement;
mod error;
pub mod explain;
pub mod label;
pub mod oci_layout;
pub mod output;
pub mod platform;
pub mod report;
pub mod resource;
pub mod secret;
pub mod secret_keys;
pub mod signing;
pub mod size;
pub mod ssh;
pub mod suggest;
pub mod tag;
pub mod ulimit;

pub use error::OptionError;
