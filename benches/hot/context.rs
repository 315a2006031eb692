//! A build context: which files belong to it, and how it is offered to the builder.

use std::convert::Infallible;
use std::hint::black_box;
use std::path::{Path, PathBuf};

use criterion::{Criterion, Throughput};
use docker_cachex::for_tests::fsutil::wire::{Packet, PacketType};
use docker_cachex::for_tests::fsutil::{Attributes, Filter, Matcher, SendStats, send};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

const FILES: u32 = 20_000;
const FOLDERS: u32 = 400;

/// A large `.dockerignore` on the paths of a large context.
pub(crate) fn matcher(criterion: &mut Criterion) {
    let patterns = ignore_file();
    let paths: Vec<String> = (0..FILES)
        .map(|file| path(file).display().to_string())
        .collect();
    let matcher = Matcher::new(&patterns).expect("the patterns are valid");
    let mut group = criterion.benchmark_group("matcher");
    group.sample_size(20);
    group.bench_function("parse", |bencher| {
        bencher.iter(|| Matcher::new(black_box(&patterns)).expect("the patterns are valid"));
    });
    group.throughput(Throughput::Elements(u64::from(FILES)));
    group.bench_function("match", |bencher| {
        bencher.iter(|| {
            paths
                .iter()
                .filter(|path| matcher.matches(black_box(path)) == Ok(true))
                .count()
        });
    });
    group.finish();
}

/// 20,000 files offered to a builder that has all of them: walk, STAT packets, no contents.
pub(crate) fn walk(criterion: &mut Criterion) {
    let tree = tree();
    let runtime = Runtime::new().expect("the system gives threads");
    let mut group = criterion.benchmark_group("walk");
    group
        .throughput(Throughput::Elements(u64::from(FILES)))
        .sample_size(20);
    let cases = [("everything", Vec::new()), ("dockerignore", ignore_file())];
    for (name, exclude) in cases {
        let filter = Filter {
            exclude,
            ..Filter::default()
        };
        group.bench_function(name, |bencher| {
            bencher.iter(|| runtime.block_on(offer(tree.path(), filter.clone())));
        });
    }
    group.finish();
}

/// 100 patterns of every kind; none of them leaves out a file of the tree, so all are tried on each.
fn ignore_file() -> Vec<String> {
    let mut patterns: Vec<String> = [
        "**/node_modules",
        "**/.git",
        "*.log",
        "build/**/*.o",
        "docs/**",
        "!docs/README.md",
    ]
    .map(str::to_owned)
    .into();
    for number in 0..94 {
        patterns.push(match number % 4 {
            0 => format!("target-{number}"),
            1 => format!("**/cache-{number}/*.tmp"),
            2 => format!("out/{number}/**"),
            _ => format!("*.suffix{number}"),
        });
    }
    patterns
}

fn path(file: u32) -> PathBuf {
    format!("src/package-{}/module/file-{file}.rs", file % FOLDERS).into()
}

fn tree() -> TempDir {
    let tree = TempDir::new().expect("a temporary folder can be made");
    for file in 0..FILES {
        let path = tree.path().join(path(file));
        if let Some(folder) = path.parent().filter(|_| file < FOLDERS) {
            fs_err::create_dir_all(folder).expect("a temporary folder can be written");
        }
        fs_err::write(&path, file.to_le_bytes()).expect("a temporary folder can be written");
    }
    tree
}

async fn offer(tree: &Path, filter: Filter) -> SendStats {
    let (to_sender, inbound) = mpsc::channel(4);
    let (outbound, mut offered) = mpsc::channel(16);
    let inbound = ReceiverStream::new(inbound);
    let peer = async move {
        while let Some(packet) = offered.recv().await {
            let packet: Packet = packet;
            if packet.packet_type() == Some(PacketType::PacketStat) && packet.stat.is_none() {
                to_sender
                    .send(Ok::<_, Infallible>(Packet::fin()))
                    .await
                    .expect("the sender waits for the end");
            }
        }
    };
    let (sent, ()) = tokio::join!(
        send(tree, filter, Attributes::OfRoot, inbound, outbound),
        peer
    );
    sent.expect("the tree can be read")
}
