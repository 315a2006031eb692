//! Integration tests: the docker CLI with its plugins, a real engine, builder and registry. `scripts/test` sets them up.

mod builders;
mod engine;
mod help;
mod registry;
mod rig;
mod support;
mod tls;
