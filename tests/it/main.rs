//! Integration tests: the docker CLI with its plugins, a real engine, builder and registry. `scripts/test` sets them up.

mod builders;
mod call;
mod disk;
mod engine;
mod environment;
mod flags;
mod help;
mod kubernetes;
mod metadata;
mod nodes;
mod proto;
mod registry;
mod remote;
mod rig;
mod support;
mod tls;
