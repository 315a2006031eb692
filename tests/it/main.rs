//! Integration tests: the docker CLI with its plugins, a real engine, builder and registry. `scripts/test` sets them up.

mod build;
mod builders;
mod cache_client;
mod cache_limits;
mod cache_registry;
mod call;
mod cancel;
mod context;
mod disk;
mod engine;
mod environment;
mod errors;
mod flags;
mod help;
mod kubernetes;
mod login;
mod metadata;
mod nodes;
mod progress;
mod proto;
mod registry;
mod remote;
mod rig;
mod sharing;
mod support;
mod tls;
