//! Micro-benchmarks of what takes the client's time: `cargo bench --bench hot [FILTER]`.
//!
//! They say whether a change made a function faster or slower on one machine; `scripts/bench` compares whole builds with
//! `docker buildx`.

mod compression;
mod config;
mod context;
mod data;
#[path = "../../src/compress/tests/sample.rs"]
mod sample;

use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    context::matcher(&mut criterion);
    context::walk(&mut criterion);
    config::all(&mut criterion);
    compression::digest(&mut criterion);
    compression::encoders(&mut criterion);
    criterion.final_summary();
}
