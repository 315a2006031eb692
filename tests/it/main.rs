//! Integration tests: the docker CLI with its plugins, a real engine, builder and registry. `scripts/test` sets them up.

mod builders;
mod disk;
mod engine;
mod help;
mod kubernetes;
mod remote;
mod rig;
mod support;
mod tls;
