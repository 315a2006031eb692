//! Both sides against each other, and each against a peer that misbehaves.

mod receiving;
mod sending;
mod trees;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt as _;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::filter::FilterError;
use super::receive::ReceiveStats;
use super::wire::{Packet, PacketType};
use super::*;
use crate::platform::files;

type Inbound =
    std::pin::Pin<Box<dyn futures_util::Stream<Item = Result<Packet, Infallible>> + Send>>;

fn channel() -> (mpsc::Sender<Packet>, Inbound) {
    let (sender, receiver) = mpsc::channel(4);
    (sender, ReceiverStream::new(receiver).map(Ok).boxed())
}

fn run<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(20), future)
            .await
            .unwrap()
    })
}

fn copy_filtered(
    root: &Path,
    filter: Filter,
    dest: &Path,
    options: ReceiveOptions,
) -> (
    Result<SendStats, SendError>,
    Result<ReceiveStats, ReceiveError>,
) {
    let (to_receiver, from_sender) = channel();
    let (to_sender, from_receiver) = channel();
    run(async {
        // Each side owns its end of the connection, so that it is closed when the side ends.
        let sender = async move {
            send(
                root,
                filter,
                Attributes::AsTheyAre,
                from_receiver,
                to_receiver,
            )
            .await
        };
        let receiver = async move { receive(dest, options, from_sender, to_sender).await };
        tokio::join!(sender, receiver)
    })
}

fn copy(root: &Path, dest: &Path, options: ReceiveOptions) -> (SendStats, ReceiveStats) {
    let (sent, received) = copy_filtered(root, Filter::default(), dest, options);
    (sent.unwrap(), received.unwrap())
}

/// All that must be the same on both sides, except that hard links are compared by group.
fn snapshot(root: &Path) -> BTreeMap<PathBuf, String> {
    fn below(root: &Path, dir: &Path, out: &mut BTreeMap<PathBuf, String>) {
        for entry in fs_err::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs_err::symlink_metadata(&path).unwrap();
            let mut links = stat::HardLinks::default();
            let mut stat = stat::stat(&path, Vec::new(), &metadata, &mut links).unwrap();
            stat.xattrs.sort_by(|one, other| one.name.cmp(&other.name));
            let content = if metadata.is_file() {
                fs_err::read(&path).unwrap()
            } else {
                Vec::new()
            };
            let name = path.strip_prefix(root).unwrap().to_path_buf();
            out.insert(name, format!("{stat:?} {} {content:?}", metadata.nlink()));
            if metadata.is_dir() {
                below(root, &path, out);
            }
        }
    }
    let mut out = BTreeMap::new();
    below(root, root, &mut out);
    out
}

fn put(root: &Path, path: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let full = root.join(path);
    fs_err::create_dir_all(full.parent().unwrap()).unwrap();
    fs_err::write(&full, content).unwrap();
    full
}

#[test]
fn merge_replaces_and_keeps_the_rest() {
    let (root, dest) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    put(root.path(), "a/was-dir", "new");
    put(root.path(), "was-file/in", "new");
    put(root.path(), "was-link/in", "new");
    symlink("target", root.path().join("was-full-dir")).unwrap();
    put(dest.path(), "a/was-dir/deep/file", "old");
    put(dest.path(), "a/keep", "old");
    put(dest.path(), "was-file", "old");
    put(dest.path(), "was-full-dir/x/y", "old");
    let outside = TempDir::new().unwrap();
    symlink(outside.path(), dest.path().join("was-link")).unwrap();
    copy(root.path(), dest.path(), ReceiveOptions::default());
    for path in ["a/was-dir", "was-file/in", "was-link/in"] {
        assert_eq!(
            fs_err::read_to_string(dest.path().join(path)).unwrap(),
            "new",
            "{path}"
        );
    }
    assert_eq!(
        fs_err::read_to_string(dest.path().join("a/keep")).unwrap(),
        "old"
    );
    assert_eq!(
        fs_err::read_link(dest.path().join("was-full-dir")).unwrap(),
        Path::new("target")
    );
    assert_eq!(fs_err::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn several_receivers_share_a_destination() {
    let roots: Vec<TempDir> = (0..3).map(|_| TempDir::new().unwrap()).collect();
    let dest = TempDir::new().unwrap();
    for (index, root) in roots.iter().enumerate() {
        for file in 0..60 {
            put(
                root.path(),
                &format!("shared/d{}/f{file}", file % 7),
                "same",
            );
        }
        put(root.path(), &format!("own{index}"), "x");
    }
    run(async {
        let copies = roots.iter().map(|root| {
            let (to_receiver, from_sender) = channel();
            let (to_sender, from_receiver) = channel();
            let dest = dest.path();
            async move {
                let sender = send(
                    root.path(),
                    Filter::default(),
                    Attributes::AsTheyAre,
                    from_receiver,
                    to_receiver,
                );
                let receiver = receive(dest, ReceiveOptions::default(), from_sender, to_sender);
                let (sending, receiving) = tokio::join!(sender, receiver);
                sending.unwrap();
                receiving.unwrap();
            }
        });
        futures_util::future::join_all(copies).await;
    });
    let found = snapshot(dest.path());
    assert_eq!(found.len(), 1 + 7 + 60 + 3);
    assert!(
        found
            .keys()
            .all(|name| !name.to_string_lossy().contains(".tmp."))
    );
}

fn types(packets: &[Packet]) -> Vec<PacketType> {
    packets.iter().filter_map(Packet::packet_type).collect()
}

#[test]
fn pseudo_files_are_read_to_their_end() {
    // Its size is said to be zero.
    let filter = Filter {
        include: vec!["version".to_owned()],
        ..Filter::default()
    };
    let dest = TempDir::new().unwrap();
    let own = fs_err::metadata(dest.path()).unwrap();
    let options = ReceiveOptions {
        owner: Some(files::owner(&own)),
        ..ReceiveOptions::default()
    };
    let (sent, received) = copy_filtered(Path::new("/proc"), filter, dest.path(), options);
    sent.unwrap();
    assert_eq!(received.unwrap().files, 1);
    let found = fs_err::read(dest.path().join("version")).unwrap();
    assert_eq!(found, fs_err::read("/proc/version").unwrap());
}

#[test]
fn file_that_cannot_be_read_is_named_on_both_sides() {
    // It can be opened, but nothing is mapped at its start.
    let root = PathBuf::from(format!("/proc/{}", std::process::id()));
    let filter = Filter {
        include: vec!["mem".to_owned()],
        ..Filter::default()
    };
    let dest = TempDir::new().unwrap();
    let (sent, received) = copy_filtered(&root, filter, dest.path(), ReceiveOptions::default());
    assert!(matches!(sent, Err(SendError::Read { path, .. }) if path == root.join("mem")));
    assert!(matches!(received, Err(ReceiveError::Peer { message }) if message.contains("/mem: ")));
    assert_eq!(fs_err::read_dir(dest.path()).unwrap().count(), 0);
}

#[test]
fn owner_can_be_overridden() {
    let (root, dest) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    put(root.path(), "dir/file", "x");
    let own = fs_err::metadata(dest.path()).unwrap();
    let owner = Some(files::owner(&own));
    copy(
        root.path(),
        dest.path(),
        ReceiveOptions {
            owner,
            ..ReceiveOptions::default()
        },
    );
    let found = fs_err::metadata(dest.path().join("dir/file")).unwrap();
    assert_eq!(Some(files::owner(&found)), owner);
}
