//! Integration tests: the docker CLI with its plugins, a real engine, builder and registry. `scripts/test` sets them up.

mod build;
mod builders;
mod cache_registry;
mod call;
mod cancel;
mod context;
mod engine;
mod errors;
mod help;
mod login;
mod metadata;
mod progress;
mod proto;
mod registry;
mod rig;
mod sharing;
mod support;
mod tls;
