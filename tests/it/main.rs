//! Integration tests: the docker CLI with its plugins, a real engine, builder and registry. `scripts/test` sets them up.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::similar_names,
    clippy::too_many_lines,
    clippy::type_complexity,
    reason = "a test tells a story, and fails loudly"
)]

mod alongside;
mod bad_values;
mod build;
mod build_steps;
mod builders;
mod buildx_name;
mod cache_again;
mod cache_ahead;
mod cache_bounds;
mod cache_client;
mod cache_faults;
mod cache_forecast;
mod cache_heal;
mod cache_hostile;
mod cache_import;
mod cache_inspect;
mod cache_keys;
mod cache_layout;
mod cache_limits;
mod cache_merge;
mod cache_record;
mod cache_refused;
mod cache_registry;
mod cache_rig_faults;
mod cache_tree;
mod cache_trips;
mod call;
mod cancel;
mod completion;
mod context;
mod direct;
mod disk;
mod doctor;
mod engine;
mod environment;
mod errors;
mod explain;
mod explain_changes;
mod explain_contexts;
mod explain_mended;
mod explain_values;
mod flags;
mod frontend;
mod help;
mod inputs;
mod install;
mod kubernetes;
mod layout_output;
mod login;
mod lost;
mod metadata;
mod mounts;
mod mounts_broken;
mod mounts_cut;
mod mounts_edges;
mod mounts_memory;
mod mounts_tools;
mod nodes;
mod parity;
mod policy;
mod progress;
mod proto;
mod registry;
mod remote;
mod report;
mod report_page;
mod rig;
mod scope;
mod scope_ends;
mod scope_layers;
mod scope_modes;
mod scope_prune;
mod scope_week;
mod sharing;
mod signed;
mod signed_claims;
mod signed_cosign;
mod signed_keys;
mod signed_poison;
mod signed_read;
mod signed_trust;
mod spare;
mod starting;
mod support;
mod tls;
