//! The cache config: read, write, compare and merge.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use docker_cachex::for_tests::cache::config::CacheConfig;
use docker_cachex::for_tests::cache::merge::Contents;

use crate::data;

/// Parsing, writing, `covers`, which runs after every export, and the union of two branches' caches, with 400 and 4,000 records.
pub(crate) fn all(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("config");
    for records in [400, 4_000] {
        let config = data::cache(records, "one");
        let bytes = config.to_bytes().expect("the made config is valid");
        let [ours, theirs] = ["one", "two"].map(|branch| contents(&data::cache(records, branch)));
        group.throughput(Throughput::Elements(records as u64));
        group.bench_with_input(
            BenchmarkId::new("parse", records),
            &bytes,
            |bencher, bytes| {
                bencher.iter(|| {
                    CacheConfig::parse(black_box(bytes)).expect("the made config is valid")
                });
            },
        );
        group.bench_with_input(
            BenchmarkId::new("write", records),
            &config,
            |bencher, config| {
                bencher.iter(|| {
                    black_box(config)
                        .to_bytes()
                        .expect("the made config is valid")
                });
            },
        );
        group.bench_with_input(
            BenchmarkId::new("covers", records),
            &config,
            |bencher, config| {
                bencher.iter(|| assert!(black_box(config).is_superset_of(black_box(config))));
            },
        );
        group.bench_function(BenchmarkId::new("merge", records), |bencher| {
            bencher.iter_batched_ref(
                || ours.clone(),
                |ours| ours.merge(black_box(&theirs)),
                BatchSize::SmallInput,
            );
        });
        group.bench_function(BenchmarkId::new("to_parts", records), |bencher| {
            bencher.iter(|| {
                black_box(&ours)
                    .to_parts()
                    .expect("the made cache can be written")
            });
        });
    }
    group.finish();
}

fn contents(config: &CacheConfig) -> Contents {
    Contents::new(&data::manifest(config), config).expect("the made config is valid")
}
