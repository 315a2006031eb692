//! The cache config: read, write, and compare.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use docker_cachex::cache::config::CacheConfig;

use crate::data;

/// Parsing, writing and `covers`, which runs after every export, with 400 and 4,000 records.
pub(crate) fn all(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("config");
    for records in [400, 4_000] {
        let config = data::cache(records);
        let bytes = config.to_bytes().expect("the made config is valid");
        group.throughput(Throughput::Elements(records as u64));
        group.bench_with_input(BenchmarkId::new("parse", records), &bytes, |bencher, bytes| {
            bencher.iter(|| CacheConfig::parse(black_box(bytes)).expect("the made config is valid"));
        });
        group.bench_with_input(BenchmarkId::new("write", records), &config, |bencher, config| {
            bencher.iter(|| black_box(config).to_bytes().expect("the made config is valid"));
        });
        group.bench_with_input(BenchmarkId::new("covers", records), &config, |bencher, config| {
            bencher.iter(|| assert!(black_box(config).covers(black_box(config))));
        });
    }
    group.finish();
}
