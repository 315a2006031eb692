//! Any tree comes out as it went in.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;

use proptest::prelude::*;

use super::*;

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
