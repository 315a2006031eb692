//! Layers on their way to the registry: digests and compression with both digests.

use std::hint::black_box;
use std::num::NonZeroUsize;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use docker_cachex::for_tests::compress::{Algorithm, Digests, Encoder, Error, Level, Workers};
use docker_cachex::for_tests::digest::Digest;
use futures_util::StreamExt as _;
use tokio::runtime::Runtime;

use crate::sample;

const SIZE: usize = 16 << 20;
/// What one read of a layer brings.
const PIECE: usize = 32 << 10;

/// The digest of a layer.
pub(crate) fn digest(criterion: &mut Criterion) {
    let layer = sample::layer(SIZE);
    let mut group = criterion.benchmark_group("digest");
    group.throughput(Throughput::Bytes(SIZE as u64));
    group.bench_function("sha256", |bencher| {
        bencher.iter(|| Digest::of(black_box(&layer)));
    });
    group.finish();
}

/// Each compression at its own level, on one thread.
pub(crate) fn encoders(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("the system gives threads");
    let workers = Workers::new(NonZeroUsize::MIN);
    let layer = Bytes::from(sample::layer(SIZE));
    let mut group = criterion.benchmark_group("compress");
    group
        .throughput(Throughput::Bytes(SIZE as u64))
        .sample_size(10);
    for algorithm in [Algorithm::Gzip, Algorithm::Zstd, Algorithm::Uncompressed] {
        let level = Level::new(algorithm, None).expect("every algorithm has a level of its own");
        let encode = || runtime.block_on(encode(level, &workers, layer.clone()));
        group.bench_function(BenchmarkId::new("encode", algorithm), |bencher| {
            bencher.iter(|| encode().expect("memory holds what was written"));
        });
    }
    group.finish();
}

async fn encode(
    level: Level,
    workers: &Workers,
    mut layer: Bytes,
) -> Result<(Vec<Bytes>, Digests), Error> {
    let (mut encoder, mut output) = Encoder::new(level, workers);
    let write = async move {
        while !layer.is_empty() {
            encoder
                .write(layer.split_to(PIECE.min(layer.len())))
                .await?;
        }
        encoder.finish().await
    };
    let take = async move {
        let mut blob = Vec::new();
        while let Some(piece) = output.next().await {
            blob.push(piece?);
        }
        Ok(blob)
    };
    let (digests, blob) = tokio::try_join!(write, take)?;
    Ok((blob, digests))
}
