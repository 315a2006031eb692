//! The encoder, against the plain libraries.

mod sample;

use std::io::Read as _;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::read::{GzDecoder, MultiGzDecoder};
use futures_util::StreamExt as _;
use proptest::prelude::*;

use super::*;

/// More than two blocks of each format, with all kinds of data in it, the same at each call.
const LARGE: usize = 9 << 20;

fn workers(threads: usize) -> Workers {
    Workers::new(NonZeroUsize::new(threads).unwrap())
}

async fn encode(
    level: Level,
    workers: &Workers,
    data: &[u8],
    cuts: &[usize],
) -> (Vec<u8>, Digests) {
    let (mut encoder, output) = Encoder::new(level, workers);
    let writer = async move {
        let mut rest = data;
        let mut cuts = cuts.iter().copied().cycle();
        while !rest.is_empty() {
            let cut = cuts.next().unwrap_or(rest.len()).clamp(1, rest.len());
            encoder.write(Bytes::copy_from_slice(&rest[..cut])).await?;
            rest = &rest[cut..];
        }
        encoder.finish().await
    };
    let (digests, blob) = tokio::join!(writer, collect(output));
    (blob.unwrap(), digests.unwrap())
}

async fn collect(mut output: Output) -> Result<Vec<u8>, Error> {
    let mut blob = Vec::new();
    while let Some(piece) = output.next().await {
        blob.extend_from_slice(&piece?);
    }
    Ok(blob)
}

/// Decodes with the plain libraries, by one member for gzip.
fn independent(algorithm: Algorithm, blob: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    match algorithm {
        Algorithm::Gzip => {
            GzDecoder::new(blob).read_to_end(&mut content).unwrap();
            let mut all = Vec::new();
            MultiGzDecoder::new(blob).read_to_end(&mut all).unwrap();
            assert!(all == content, "one member only");
        }
        Algorithm::Zstd => content = ::zstd::decode_all(blob).unwrap(),
        Algorithm::Uncompressed => content.extend_from_slice(blob),
    }
    content
}

fn assert_digests(digests: &Digests, content: &[u8], blob: &[u8]) {
    assert_eq!(
        *digests,
        Digests {
            uncompressed: Digest::of(content),
            compressed: Digest::of(blob),
            uncompressed_size: content.len() as u64,
            compressed_size: blob.len() as u64,
        }
    );
}

fn level(algorithm: Algorithm, number: i32) -> Level {
    Level::new(algorithm, Some(number)).unwrap()
}

#[tokio::test]
async fn every_level_comes_back() {
    let workers = workers(2);
    let data = sample::layer(1_300_000);
    let gzip = (-1..=9).map(|number| level(Algorithm::Gzip, number));
    let zstd = (0..=22).map(|number| level(Algorithm::Zstd, number));
    for level in gzip.chain(zstd).chain([Algorithm::Uncompressed.into()]) {
        let (blob, digests) = encode(level, &workers, &data, &[100_000]).await;
        assert!(independent(level.algorithm(), &blob) == data, "{level:?}");
        assert_digests(&digests, &data, &blob);
        let plain = level.algorithm() == Algorithm::Uncompressed
            || level == self::level(Algorithm::Gzip, 0);
        assert!(
            plain || blob.len() < data.len() / 2,
            "{level:?}: {}",
            blob.len()
        );
    }
}

#[tokio::test]
async fn nothing_is_a_valid_blob() {
    let workers = workers(1);
    for algorithm in [Algorithm::Gzip, Algorithm::Zstd, Algorithm::Uncompressed] {
        let (blob, digests) = encode(algorithm.into(), &workers, b"", &[]).await;
        assert!(independent(algorithm, &blob).is_empty());
        assert_digests(&digests, b"", &blob);
        assert_eq!(blob.is_empty(), algorithm == Algorithm::Uncompressed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_on_any_number_of_threads() {
    let data = sample::layer(LARGE);
    for level in [
        level(Algorithm::Gzip, 1),
        level(Algorithm::Gzip, 6),
        level(Algorithm::Zstd, 1),
        level(Algorithm::Zstd, 3),
        level(Algorithm::Zstd, 7),
    ] {
        let first = encode(level, &workers(1), &data, &[]).await;
        assert!(independent(level.algorithm(), &first.0) == data);
        for threads in [2, 5] {
            let other = encode(level, &workers(threads), &data, &[32 << 10, 1, 3 << 20]).await;
            assert!(first == other, "{level:?} on {threads}");
        }
    }
}

#[tokio::test]
async fn the_header_of_gzip_says_nothing_of_time_and_place() {
    let (blob, _) = encode(Algorithm::Gzip.into(), &workers(1), b"x", &[]).await;
    assert_eq!(blob[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
}

#[tokio::test]
async fn each_frame_of_zstd_has_size_and_checksum() {
    let (blob, _) = encode(
        Algorithm::Zstd.into(),
        &workers(1),
        &sample::layer(3000),
        &[],
    )
    .await;
    // Frame header descriptor (RFC 8878): size flag 1 (2 bytes), single segment, checksum.
    assert_eq!(blob[4] & 0b1110_0100, 0b0110_0100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_output_holds_the_writer() {
    for algorithm in [Algorithm::Gzip, Algorithm::Zstd, Algorithm::Uncompressed] {
        let workers = workers(2);
        let (mut encoder, mut output) = Encoder::new(algorithm.into(), &workers);
        let mut written = 0;
        let piece = Bytes::from(vec![7; 1 << 20]);
        while tokio::time::timeout(Duration::from_millis(500), encoder.write(piece.clone()))
            .await
            .is_ok_and(|result| result.is_ok())
        {
            written += 1;
            assert!(written < 100, "{algorithm}: nothing holds the writer");
        }
        // The cut write has lost bytes: the encoder must not go on as if it had not.
        assert!(matches!(
            encoder.write(piece).await,
            Err(Error::Interrupted)
        ));
        assert!(matches!(encoder.finish().await, Err(Error::Interrupted)));
        let mut last = None;
        while let Some(piece) = output.next().await {
            last = Some(piece);
        }
        assert!(matches!(last, Some(Err(Error::Abandoned))), "{algorithm}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encoders_do_not_starve_each_other() {
    let workers = workers(2);
    let data = sample::layer(LARGE);
    // These fill all spare places and are never read.
    let mut stuck = Vec::new();
    for _ in 0..3 {
        let (mut encoder, output) = Encoder::new(Algorithm::Gzip.into(), &workers);
        let writes = async {
            while encoder
                .write(Bytes::copy_from_slice(&data[..1 << 20]))
                .await
                .is_ok()
            {}
        };
        let _held = tokio::time::timeout(Duration::from_millis(300), writes).await;
        stuck.push((encoder, output));
    }
    let encoded = encode(Algorithm::Gzip.into(), &workers, &data, &[65536]);
    let (blob, digests) = tokio::time::timeout(Duration::from_secs(60), encoded)
        .await
        .unwrap();
    assert_digests(&digests, &data, &blob);
}

#[tokio::test]
async fn a_dropped_output_stops_the_writer() {
    for algorithm in [Algorithm::Gzip, Algorithm::Zstd, Algorithm::Uncompressed] {
        let (mut encoder, output) = Encoder::new(algorithm.into(), &workers(1));
        drop(output);
        let piece = Bytes::from(sample::layer(1 << 20));
        let error = loop {
            if let Err(error) = encoder.write(piece.clone()).await {
                break error;
            }
        };
        assert!(matches!(error, Error::OutputClosed), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_all_ends_the_threads() {
    let workers = workers(3);
    let alive = workers.watch();
    let (mut encoder, mut output) = Encoder::new(Algorithm::Gzip.into(), &workers);
    let reader = tokio::spawn(async move {
        let mut pieces = 0;
        while let Some(Ok(_)) = output.next().await {
            pieces += 1;
        }
        pieces
    });
    encoder.write(sample::layer(LARGE).into()).await.unwrap();
    drop(workers);
    assert!(alive(), "the encoder still needs them");
    drop(encoder);
    assert!(reader.await.unwrap() > 0);
    let start = Instant::now();
    while alive() {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "threads are left"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_panic_is_an_error_and_the_pool_lives_on() {
    use super::workers::Urgency;
    let workers = workers(1);
    let lost = workers.submit(Urgency::Normal, |_| {
        assert!(std::hint::black_box(false), "meant");
    });
    assert!(matches!(lost.unwrap().wait().await, Err(Error::Panicked)));
    let (blob, digests) = encode(Algorithm::Gzip.into(), &workers, b"still here", &[]).await;
    assert_digests(&digests, b"still here", &blob);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_content_in_any_writes(
        size in 0usize..3_000_000,
        cuts in proptest::collection::vec(1usize..400_000, 1..8),
        threads in 1usize..4,
        gzip in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let algorithm = if gzip { Algorithm::Gzip } else { Algorithm::Zstd };
        let data = sample::layer(size);
        runtime.block_on(async {
            let workers = workers(threads);
            let (blob, digests) = encode(level(algorithm, 1), &workers, &data, &cuts).await;
            assert!(independent(algorithm, &blob) == data);
            assert_digests(&digests, &data, &blob);
        });
    }
}
