//! Both sides against each other, and each against a peer that misbehaves.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt as _;
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::wire::{self, Packet, PacketType, Stat};
use super::*;

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
        let sender = async move { send(root, filter, false, from_receiver, to_receiver).await };
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

fn chmod(path: &Path, mode: u32) {
    fs_err::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[derive(Debug, Clone)]
enum Node {
    File {
        content: Vec<u8>,
        mode: u32,
        time: i64,
        xattr: Option<Vec<u8>>,
    },
    Symlink(String),
    Fifo,
    HardLink(usize),
    Dir {
        mode: u32,
        nodes: Vec<(Vec<u8>, Node)>,
    },
}

fn node() -> impl Strategy<Value = Node> {
    let mode = prop::sample::select(vec![0o600, 0o644, 0o755, 0o4755, 0o2710, 0o1777]);
    let content = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        (any::<u8>(), 130_000..300_000_usize).prop_map(|(byte, length)| vec![byte; length]),
    ];
    let time = -2_000_000_000_000_000_000_i64..4_000_000_000_000_000_000;
    let xattr = prop::option::of(prop::collection::vec(any::<u8>(), 0..20));
    let leaf = prop_oneof![
        6 => (content, mode, time, xattr)
            .prop_map(|(content, mode, time, xattr)| Node::File { content, mode, time, xattr }),
        2 => "[a-z./]{1,12}".prop_map(Node::Symlink),
        1 => Just(Node::Fifo),
        2 => any::<usize>().prop_map(Node::HardLink),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        let name = prop_oneof![
            8 => "[a-c.é -]{1,3}".prop_map(String::into_bytes),
            1 => prop::collection::vec(128..=255_u8, 1..4),
        ];
        let mode = prop::sample::select(vec![0o700, 0o755, 0o1777, 0o2755, 0o555]);
        let nodes = prop::collection::vec((name, inner), 0..6);
        (mode, nodes).prop_map(|(mode, nodes)| Node::Dir { mode, nodes })
    })
}

fn plant(dir: &Path, nodes: &[(Vec<u8>, Node)], files: &mut Vec<PathBuf>) {
    for (name, node) in nodes {
        let path = dir.join(OsStr::from_bytes(name));
        if fs_err::symlink_metadata(&path).is_ok() {
            continue;
        }
        match node {
            Node::File {
                content,
                mode,
                time,
                xattr,
            } => {
                fs_err::write(&path, content).unwrap();
                if let Some(value) = xattr {
                    let flags = rustix::fs::XattrFlags::empty();
                    match rustix::fs::setxattr(&path, "user.test", value, flags) {
                        Ok(()) | Err(rustix::io::Errno::NOTSUP) => {}
                        Err(error) => unreachable!("setxattr: {error}"),
                    }
                }
                chmod(&path, *mode);
                let last = rustix::fs::Timespec {
                    tv_sec: time.div_euclid(1_000_000_000),
                    tv_nsec: time.rem_euclid(1_000_000_000),
                };
                let times = rustix::fs::Timestamps {
                    last_access: last,
                    last_modification: last,
                };
                let flags = rustix::fs::AtFlags::empty();
                rustix::fs::utimensat(rustix::fs::CWD, &path, &times, flags).unwrap();
                files.push(path);
            }
            Node::Symlink(target) => symlink(target, &path).unwrap(),
            Node::Fifo => {
                let mode = rustix::fs::Mode::from_bits_truncate(0o640);
                rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0)
                    .unwrap();
            }
            Node::HardLink(index) if !files.is_empty() => {
                fs_err::hard_link(&files[index % files.len()], &path).unwrap();
            }
            Node::HardLink(_) => {}
            Node::Dir { mode, nodes } => {
                fs_err::create_dir(&path).unwrap();
                plant(&path, nodes, files);
                chmod(&path, *mode);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_is_reproduced(nodes in prop::collection::vec(("[a-d.]{1,2}".prop_map(String::into_bytes), node()), 0..8)) {
        let nodes: Vec<_> = nodes.into_iter().filter(|(name, _)| name != b"." && name != b"..").collect();
        let nodes = without_dots(nodes);
        let (root, dest) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        plant(root.path(), &nodes, &mut Vec::new());
        let (sent, received) = copy(root.path(), dest.path(), ReceiveOptions::default());
        prop_assert_eq!(snapshot(dest.path()), snapshot(root.path()));
        prop_assert_eq!((sent.stats, sent.files, sent.bytes), (received.stats, received.files, received.bytes));
        // Again over what is there, in both modes.
        put(dest.path(), "left over", "x");
        copy(root.path(), dest.path(), ReceiveOptions { mode: ReceiveMode::Delete, ..ReceiveOptions::default() });
        prop_assert_eq!(snapshot(dest.path()), snapshot(root.path()));
    }
}

fn without_dots(nodes: Vec<(Vec<u8>, Node)>) -> Vec<(Vec<u8>, Node)> {
    nodes
        .into_iter()
        .filter(|(name, _)| name != b"." && name != b"..")
        .map(|(name, node)| match node {
            Node::Dir { mode, nodes } => (
                name,
                Node::Dir {
                    mode,
                    nodes: without_dots(nodes),
                },
            ),
            other => (name, other),
        })
        .collect()
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
                    false,
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

/// Plays the sender towards [`receive`]: says these packets, then ends or stays silent.
fn receive_from(
    dest: &Path,
    packets: Vec<Packet>,
) -> (Result<ReceiveStats, ReceiveError>, Vec<Packet>) {
    let (to_receiver, from_sender) = channel();
    let (to_sender, from_receiver) = channel();
    run(async {
        let receiver =
            async move { receive(dest, ReceiveOptions::default(), from_sender, to_sender).await };
        let feed = async move {
            for packet in packets {
                if to_receiver.send(packet).await.is_err() {
                    break;
                }
            }
        };
        let answers = from_receiver.map(Result::unwrap).collect::<Vec<Packet>>();
        let (result, (), answers) = tokio::join!(receiver, feed, answers);
        (result, answers)
    })
}

fn stat(path: &str, mode: u32, link: &str) -> Packet {
    let owner = fs_err::metadata("/proc/self").unwrap();
    Packet::stat(Some(Stat {
        path: path.as_bytes().to_vec(),
        mode,
        uid: owner.uid(),
        gid: owner.gid(),
        linkname: link.as_bytes().to_vec(),
        ..Stat::default()
    }))
}

fn types(packets: &[Packet]) -> Vec<PacketType> {
    packets.iter().filter_map(Packet::packet_type).collect()
}

#[test]
fn bad_lists_are_refused_and_nothing_is_written_outside() {
    let base = TempDir::new().unwrap();
    let (dest, outside) = (base.path().join("dest"), base.path().join("outside"));
    fs_err::create_dir(&outside).unwrap();
    let target = outside.to_str().unwrap();
    let (dir, link) = (wire::MODE_DIR | 0o755, wire::MODE_SYMLINK | 0o777);
    for packets in [
        vec![stat("../outside/x", 0o644, "")],
        vec![stat("/tmp/x", 0o644, "")],
        vec![stat("a", dir, ""), stat("a/../../outside/x", link, "y")],
        vec![stat("b", 0o644, ""), stat("a", 0o644, "")],
        vec![stat("l", link, target), stat("l/x", link, "y")],
        vec![stat("l", link, target), stat("l", dir, "")],
        vec![stat("h", 0o644, "../outside/secret")],
        vec![stat("l", link, target), stat("m", 0o644, "l")],
        vec![stat("k", wire::MODE_IRREGULAR | 0o644, "")],
    ] {
        let (result, answers) = receive_from(&dest, packets.clone());
        assert!(
            matches!(result, Err(ReceiveError::Order(_))),
            "{packets:?}: {result:?}"
        );
        assert_eq!(
            types(&answers).last(),
            Some(&PacketType::PacketErr),
            "{packets:?}"
        );
    }
    assert_eq!(fs_err::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn link_in_the_destination_is_not_followed() {
    let base = TempDir::new().unwrap();
    let (dest, outside) = (base.path().join("dest"), base.path().join("outside"));
    fs_err::create_dir(&outside).unwrap();
    fs_err::create_dir(&dest).unwrap();
    symlink(&outside, dest.join("d")).unwrap();
    symlink(outside.join("f"), dest.join("f")).unwrap();
    let packets = vec![
        stat("d", wire::MODE_DIR | 0o755, ""),
        stat("d/x", 0o644, ""),
        stat("f", 0o644, ""),
        Packet::stat(None),
        Packet::data(1, b"one".to_vec()),
        Packet::data(2, b"two".to_vec()),
        Packet::data(2, Vec::new()),
        Packet::data(1, Vec::new()),
        Packet::fin(),
    ];
    let (result, answers) = receive_from(&dest, packets);
    assert_eq!(
        result.unwrap(),
        ReceiveStats {
            files: 2,
            bytes: 6,
            stats: 3
        }
    );
    assert_eq!(types(&answers).last(), Some(&PacketType::PacketFin));
    assert_eq!(fs_err::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(fs_err::read_to_string(dest.join("d/x")).unwrap(), "one");
    assert_eq!(fs_err::read_to_string(dest.join("f")).unwrap(), "two");
}

type Expected = fn(&ReceiveError) -> bool;

#[test]
fn broken_transfer_leaves_the_old_file_and_no_other() {
    let dest = TempDir::new().unwrap();
    put(dest.path(), "file", "old");
    let start = vec![
        stat("file", 0o644, ""),
        Packet::stat(None),
        Packet::data(0, b"half".to_vec()),
    ];
    let cases: Vec<(Vec<Packet>, Expected)> = vec![
        (vec![], |error| matches!(error, ReceiveError::Closed)),
        (
            vec![Packet::error("out of cheese")],
            |error| matches!(error, ReceiveError::Peer { message } if message == "out of cheese"),
        ),
        (vec![Packet::data(1, vec![1])], |error| {
            matches!(error, ReceiveError::UnknownFile { id: 1 })
        }),
        (vec![Packet::fin()], |error| {
            matches!(error, ReceiveError::Closed)
        }),
    ];
    for (rest, expected) in cases {
        let (result, _) = receive_from(dest.path(), [start.clone(), rest.clone()].concat());
        assert!(expected(&result.unwrap_err()), "{rest:?}");
        assert_eq!(
            fs_err::read_to_string(dest.path().join("file")).unwrap(),
            "old"
        );
        let names: Vec<_> = fs_err::read_dir(dest.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["file"]);
    }
}

/// Plays the receiver towards [`send`]: says these packets at once and takes all that comes until the end.
fn send_to(
    root: &Path,
    packets: Vec<Packet>,
    stay: bool,
) -> (Result<SendStats, SendError>, Vec<Packet>) {
    let (to_sender, from_receiver) = channel();
    let (to_receiver, from_sender) = channel();
    run(async {
        let sender =
            async move { send(root, Filter::default(), true, from_receiver, to_receiver).await };
        let peer = async move {
            let mut answers = Vec::new();
            let mut from_sender = from_sender;
            // Requests are good only for what was offered.
            while let Some(Ok(packet)) = from_sender.next().await {
                let last =
                    packet.stat.is_none() && packet.packet_type() == Some(PacketType::PacketStat);
                answers.push(packet);
                if last {
                    break;
                }
            }
            for packet in packets {
                to_sender.send(packet).await.unwrap();
            }
            let to_sender = stay.then_some(to_sender);
            while let Some(Ok(packet)) = from_sender.next().await {
                answers.push(packet);
            }
            drop(to_sender);
            answers
        };
        tokio::join!(sender, peer)
    })
}

#[test]
fn wrong_requests_are_refused() {
    let root = TempDir::new().unwrap();
    put(root.path(), "dir/file", "x");
    symlink("x", root.path().join("link")).unwrap();
    for (packets, wrong) in [
        (vec![Packet::request(9)], 9),
        (vec![Packet::request(0)], 0),
        (vec![Packet::request(2)], 2),
        (vec![Packet::request(1), Packet::request(1)], 1),
    ] {
        let (result, answers) = send_to(root.path(), packets, true);
        assert!(
            matches!(result, Err(SendError::UnknownFile { id }) if id == wrong),
            "{result:?}"
        );
        assert_eq!(types(&answers).last(), Some(&PacketType::PacketErr));
    }
}

#[test]
fn sender_ends_with_its_peer() {
    let root = TempDir::new().unwrap();
    put(root.path(), "file", vec![7; 3_000_000]);
    let (result, _) = send_to(root.path(), vec![], false);
    assert!(matches!(result, Err(SendError::Closed)), "{result:?}");
    let (result, _) = send_to(root.path(), vec![Packet::error("no space")], true);
    assert!(matches!(result, Err(SendError::Peer { message }) if message == "no space"));
    let (result, answers) = send_to(root.path(), vec![Packet::fin()], true);
    assert_eq!(
        result.unwrap(),
        SendStats {
            files: 0,
            bytes: 0,
            stats: 1
        }
    );
    assert_eq!(types(&answers).last(), Some(&PacketType::PacketFin));
    assert_eq!(
        answers[0].stat.as_ref().map(|stat| (stat.uid, stat.gid)),
        Some((0, 0))
    );
}

#[test]
fn peer_that_leaves_after_an_odd_name_is_explained() {
    let root = TempDir::new().unwrap();
    put(root.path(), "dir/plain", "x");
    fs_err::write(root.path().join(OsStr::from_bytes(b"dir/\xff")), "").unwrap();
    let (result, _) = send_to(root.path(), vec![], false);
    let odd = PathBuf::from(OsStr::from_bytes(b"dir/\xff"));
    assert!(matches!(result, Err(SendError::NotUtf8 { path }) if path == odd));
    let (result, _) = send_to(root.path(), vec![Packet::fin()], true);
    assert_eq!(result.unwrap().stats, 3);
}

#[test]
fn sender_that_nobody_reads_ends_when_dropped() {
    let root = TempDir::new().unwrap();
    for file in 0..2000 {
        put(root.path(), &format!("f{file}"), "x");
    }
    let (_to_sender, from_receiver) = channel();
    let (to_receiver, _unread) = mpsc::channel::<Packet>(1);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let sending = send(
            root.path(),
            Filter::default(),
            true,
            from_receiver,
            to_receiver,
        );
        assert!(
            tokio::time::timeout(Duration::from_millis(100), sending)
                .await
                .is_err()
        );
    });
    // Waits for the threads; hangs if one of them goes on.
    drop(runtime);
}

type Change = fn(&Path);

#[test]
fn file_that_changes_is_sent_up_to_its_offered_size() {
    let cases: [(Change, Vec<u8>); 6] = [
        (
            |path| fs_err::write(path, vec![1; 200_000]).unwrap(),
            vec![1; 150_000],
        ),
        (|path| fs_err::write(path, [1; 10]).unwrap(), vec![1; 10]),
        (|path| fs_err::write(path, []).unwrap(), vec![]),
        (|path| fs_err::remove_file(path).unwrap(), vec![]),
        (
            |path| {
                fs_err::remove_file(path).unwrap();
                symlink("/etc/passwd", path).unwrap();
            },
            vec![],
        ),
        (
            |path| {
                fs_err::remove_file(path).unwrap();
                let mode = rustix::fs::Mode::RWXU;
                rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0)
                    .unwrap();
            },
            vec![],
        ),
    ];
    for (index, (change, expected)) in cases.into_iter().enumerate() {
        let root = TempDir::new().unwrap();
        let path = put(root.path(), "file", vec![0; 150_000]);
        let (to_sender, from_receiver) = channel();
        let (to_receiver, mut from_sender) = channel();
        let content = run(async {
            let sender = async {
                send(
                    root.path(),
                    Filter::default(),
                    true,
                    from_receiver,
                    to_receiver,
                )
                .await
                .unwrap()
            };
            let peer = async move {
                while from_sender.next().await.unwrap().unwrap().stat.is_some() {}
                change(&path);
                to_sender.send(Packet::request(0)).await.unwrap();
                let mut content = Vec::new();
                loop {
                    let packet = from_sender.next().await.unwrap().unwrap();
                    assert_eq!(packet.packet_type(), Some(PacketType::PacketData));
                    if packet.data.is_empty() {
                        break;
                    }
                    content.extend(packet.data);
                }
                to_sender.send(Packet::fin()).await.unwrap();
                content
            };
            tokio::join!(sender, peer).1
        });
        assert_eq!(content, expected, "case {index}");
    }
}

#[test]
fn root_that_cannot_be_sent_is_reported() {
    let root = TempDir::new().unwrap();
    let file = put(root.path(), "file", "x");
    for bad in [file.as_path(), &root.path().join("none")] {
        let (result, answers) = send_to(bad, vec![], true);
        assert!(matches!(result, Err(SendError::Root { .. })), "{result:?}");
        assert_eq!(types(&answers), [PacketType::PacketErr]);
    }
    let (sent, received) = copy_filtered(
        root.path(),
        Filter {
            exclude: vec!["[".to_owned()],
            ..Filter::default()
        },
        &root.path().join("dest"),
        ReceiveOptions::default(),
    );
    assert!(matches!(
        sent,
        Err(SendError::Filter(FilterError::Exclude(_)))
    ));
    assert!(
        matches!(received, Err(ReceiveError::Peer { message }) if message.contains("syntax error in pattern"))
    );
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
        owner: Some((own.uid(), own.gid())),
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
    let owner = Some((own.uid(), own.gid()));
    copy(
        root.path(),
        dest.path(),
        ReceiveOptions {
            owner,
            ..ReceiveOptions::default()
        },
    );
    let found = fs_err::metadata(dest.path().join("dir/file")).unwrap();
    assert_eq!(Some((found.uid(), found.gid())), owner);
}
