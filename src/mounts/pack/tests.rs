use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::mounts::entries::record;
use crate::mounts::index::Attribute;
use crate::mounts::unpack::{Form, unpack};

/// Bytes that do not compress and differ by seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next)
        .flatten()
        .take(length)
        .collect()
}

/// A tar stream of files in a folder, as `tar -c .` writes it.
fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut folder = |path: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o750);
        header.set_size(0);
        builder.append_data(&mut header, path, io::empty()).unwrap();
    };
    folder("./");
    folder("./d/");
    for (path, content) in files {
        let time = [("mtime", "1764374400.5".as_bytes())];
        builder.append_pax_extensions(time).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o4755);
        header.set_uid(7);
        header.set_size(content.len() as u64);
        builder
            .append_data(&mut header, format!("./d/{path}"), *content)
            .unwrap();
    }
    builder.into_inner().unwrap()
}

/// Packs, and returns the new packs by digest.
fn packed(tar: &[u8], old: Option<&Index>) -> (Index, BTreeMap<String, Bytes>) {
    let mut packs = BTreeMap::new();
    let mut store = |pack: Pack| {
        packs.insert(pack.digest.to_string(), pack.bytes);
        true
    };
    let old = old.cloned().map(Old::of);
    let index = pack(tar, old.as_ref(), u64::MAX, &mut store).unwrap();
    let blob = index.to_blob().unwrap();
    assert_eq!(Index::from_blob(&blob).unwrap(), index);
    (index, packs)
}

fn files_of(index: &Index, packs: &BTreeMap<String, Bytes>) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut tar = Vec::new();
    let mut fetch = |pack: &PackRef| Ok(packs[pack.digest.as_str()].to_vec());
    unpack(index, &mut fetch, &mut tar, Form::Container).unwrap();
    let (again, _) = packed(&tar, None);
    let tree = |index: &Index| {
        let mut nodes = index.nodes.clone();
        nodes.retain(|node| *node.path != *crate::mounts::END.as_bytes());
        nodes
            .iter_mut()
            .flat_map(|n| &mut n.chunks)
            .for_each(|c| (c.pack, c.offset) = (0, 0));
        nodes
    };
    assert_eq!(tree(&again), tree(index));
    let mut entries = Entries::new(tar.as_slice());
    let mut files = BTreeMap::new();
    while let Some(entry) = entries.next().unwrap() {
        let mut content = Vec::new();
        entries.content().read_to_end(&mut content).unwrap();
        files.insert(entry.path(), content);
    }
    files
}

#[test]
fn a_tree_comes_back_from_its_packs() {
    let (large, small) = (noise(1, 20 << 20), noise(2, 100));
    let tar = tar_of(&[
        ("large", &large),
        ("small", &small),
        ("empty", b""),
        ("twin", &small),
    ]);
    let (index, packs) = packed(&tar, None);
    assert_eq!((index.files(), index.size()), (4, (20 << 20) + 200));
    assert_eq!(packs.len(), 3);
    let files = files_of(&index, &packs);
    assert_eq!(files[&b"d/large"[..]], large);
    assert_eq!(files[&b"d/small"[..]], small);
    let node = &index.nodes[1];
    assert_eq!(
        (node.mode, node.uid, node.seconds, node.nanos),
        (0o4755, 7, 1_764_374_400, 500_000_000)
    );
}

#[test]
fn only_what_is_new_is_packed() {
    let mut content = noise(3, 10 << 20);
    let (first, mut packs) = packed(&tar_of(&[("a", &content)]), None);
    let (same, none) = packed(&tar_of(&[("a", &content)]), Some(&first));
    assert!(same == first && none.is_empty());
    // Bytes that are inserted move all that is behind them.
    content.splice(3 << 20..3 << 20, noise(4, 1000));
    let (second, new) = packed(&tar_of(&[("a", &content), ("b", &content)]), Some(&first));
    let sent: usize = new.values().map(Bytes::len).sum();
    assert!(sent < 1 << 20, "{sent}");
    packs.extend(new);
    let files = files_of(&second, &packs);
    assert_eq!(files[&b"d/a"[..]], content);
    assert_eq!(files[&b"d/b"[..]], content);
}

#[test]
fn packs_of_which_little_is_used_are_left() {
    let (one, other) = (noise(5, 1 << 20), noise(6, 5 << 20));
    let (first, _) = packed(&tar_of(&[("a", &one), ("b", &other)]), None);
    assert_eq!(first.packs.len(), 1);
    let few = tar_of(&[("a", &one)]);
    let (second, new) = packed(&few, Some(&first));
    assert!(new.is_empty() && second.packs == first.packs);
    let (third, new) = packed(&few, Some(&second));
    assert_eq!(third.packs.len(), 1);
    assert!(new.contains_key(third.packs[0].digest.as_str()));
    let (last, new) = packed(&few, Some(&third));
    assert!(last == third && new.is_empty());
}

/// A gigabyte of zeros with some bytes in between that are none.
fn sparse() -> impl Read {
    let zeros = |count| io::repeat(0).take(count);
    let start = io::Cursor::new(noise(9, 3 << 20)).chain(zeros((1 << 29) - 77));
    let middle = start.chain(io::Cursor::new(noise(10, 77)));
    middle.chain(zeros((1 << 29) - (3 << 20)))
}

/// Compares what is written, behind a header, with what it should be.
struct Compared<R> {
    header: usize,
    expected: R,
    bytes: u64,
}

impl<R: Read> io::Write for Compared<R> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let content = &bytes[self.header.min(bytes.len())..];
        self.header -= bytes.len() - content.len();
        let mut expected = vec![0; content.len()];
        self.expected.read_exact(&mut expected)?;
        assert!(expected == content, "behind {}", self.bytes);
        self.bytes += content.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_gigabyte_that_is_mostly_a_hole_takes_little() {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o640);
    header.set_path("large").unwrap();
    header.set_size(1 << 30);
    header.set_cksum();
    let end = io::repeat(0).take(1024);
    let tar = header.as_bytes().chain(sparse()).chain(end);
    let mut packs = BTreeMap::new();
    let mut store = |pack: Pack| packs.insert(pack.digest, pack.bytes).is_none();
    let index = pack(tar, None, u64::MAX, &mut store).unwrap();
    assert_eq!((index.size(), index.packs.len()), (1 << 30, 1));
    let mut fetch = |pack: &PackRef| Ok(packs[&pack.digest].to_vec());
    let mut with_holes = Vec::new();
    unpack(&index, &mut fetch, &mut with_holes, Form::ContainerSparse).unwrap();
    assert!(with_holes.len() < 4 << 20, "{}", with_holes.len());
    let mut plain = Compared {
        header: 512,
        expected: sparse().chain(io::repeat(0)),
        bytes: 0,
    };
    unpack(&index, &mut fetch, &mut plain, Form::Plain).unwrap();
    assert_eq!(plain.bytes, (1 << 30) + 1024);
}

#[test]
fn an_index_that_calls_a_chunk_what_it_is_not_is_refused() {
    let (mut index, packs) = packed(&tar_of(&[("a", &noise(8, 1000))]), None);
    let mut chunks = index.nodes.iter_mut().flat_map(|node| &mut node.chunks);
    chunks.next().unwrap().hash = [7; 32];
    let blob = index.to_blob().unwrap();
    let lying = Index::from_blob(&blob).unwrap();
    let mut fetch = |pack: &PackRef| Ok(packs[pack.digest.as_str()].to_vec());
    let error = unpack(&lying, &mut fetch, io::sink(), Form::Plain).unwrap_err();
    assert!(error.to_string().contains("what the index says"), "{error}");
}

#[test]
fn links_stay_and_devices_do_not() {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |path: &str, kind: tar::EntryType, target: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o600);
        header.set_size(0);
        builder.append_link(&mut header, path, target).unwrap();
    };
    add("./file", tar::EntryType::Regular, "x");
    add("./hard", tar::EntryType::Link, "./file");
    add("./soft", tar::EntryType::Symlink, "../../etc/passwd");
    let long = format!("{}/x", "long".repeat(40));
    add("./to-long", tar::EntryType::Symlink, &long);
    add("./device", tar::EntryType::Char, "x");
    add("./to-device", tar::EntryType::Link, "./device");
    let left = format!("./{}", crate::mounts::RESTORING);
    add(&left, tar::EntryType::Regular, "x");
    let (index, packs) = packed(&builder.into_inner().unwrap(), None);
    let names: Vec<_> = index.nodes.iter().map(|node| &*node.path).collect();
    assert_eq!(names, [&b"file"[..], b"hard", b"soft", b"to-long"]);
    assert_eq!(*index.nodes[3].target, *long.as_bytes());
    assert_eq!(*index.nodes[1].target, *b"file");
    assert_eq!(*index.nodes[2].target, *b"../../etc/passwd");
    files_of(&index, &packs);
}

#[test]
fn the_first_name_of_a_file_is_the_file() {
    let stream = |names: [&str; 3]| {
        let mut builder = tar::Builder::new(Vec::new());
        for name in names {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o640);
            header.set_size(0);
            if name == names[0] {
                header.set_size(4);
                builder
                    .append_data(&mut header, name, &b"file"[..])
                    .unwrap();
            } else {
                header.set_entry_type(tar::EntryType::Link);
                builder.append_link(&mut header, name, names[0]).unwrap();
            }
        }
        packed(&builder.into_inner().unwrap(), None)
    };
    let (first, packs) = stream(["a", "b", "c"]);
    for other in [["b", "a", "c"], ["c", "b", "a"], ["b", "c", "a"]] {
        assert_eq!(stream(other).0, first);
    }
    assert_eq!(files_of(&first, &packs)[&b"a"[..]], b"file");
}

#[test]
fn a_tree_that_is_too_large_or_cut_off_is_not_packed() {
    let tar = tar_of(&[("a", &noise(7, 1000))]);
    let large = pack(tar.as_slice(), None, 999, &mut |_| true);
    assert!(matches!(large, Err(PackError::TooLarge(999))));
    let cut = pack(&tar[..tar.len() - 1700], None, 1000, &mut |_| true);
    assert!(matches!(cut, Err(PackError::Stream(_))), "{cut:?}");
    let refused = pack(tar.as_slice(), None, 1000, &mut |_| false);
    assert!(matches!(refused, Err(PackError::NotStored)));
}

/// An entry as GNU tar writes it in its posix format: what is long or odd stands in the extended header.
fn add_posix(stream: &mut Vec<u8>, node: &Node, content: &[u8]) {
    let mut records = [
        record(b"path", &node.path),
        record(
            b"mtime",
            format!("{}.{:09}", node.seconds, node.nanos).as_bytes(),
        ),
    ]
    .concat();
    if !node.target.is_empty() {
        records.extend(record(b"linkpath", &node.target));
    }
    for one in &node.attributes {
        records.extend(record(&[tree::XATTR, &one.name].concat(), &one.value));
    }
    let kind = match node.kind {
        Kind::File => tar::EntryType::Regular,
        Kind::Folder => tar::EntryType::Directory,
        Kind::Symlink => tar::EntryType::Symlink,
        Kind::HardLink => tar::EntryType::Link,
    };
    for (kind, content) in [
        (tar::EntryType::XHeader, records.as_slice()),
        (kind, content),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(node.mode.into());
        header.set_uid(node.uid.into());
        header.set_gid(node.gid.into());
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        header.set_cksum();
        stream.extend(header.as_bytes());
        stream.extend(content);
        stream.resize(stream.len().next_multiple_of(512), 0);
    }
}

/// A name of any bytes that a folder may have.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(b'\n'), Just(b'='), Just(b' '), 1_u8..];
    let byte = byte.prop_filter("no slash", |byte| *byte != b'/');
    let name = prop::collection::vec(byte, 1..150);
    name.prop_filter("a name", |name| !matches!(name.as_slice(), b"." | b".."))
}

/// A node below no folder, with its content.
fn node() -> impl Strategy<Value = (Node, Vec<u8>)> {
    let attribute = (
        prop::collection::vec(1_u8.., 1..20),
        prop::collection::vec(any::<u8>(), 0..90),
    );
    let attributes = prop::collection::btree_map(attribute.0, attribute.1, 0..3);
    let content = (any::<u64>(), prop_oneof![Just(0_usize), 1_usize..700_000]);
    let owner = (0_u16..0o10000, 0_u32..2_000_000, 0_u32..2_000_000);
    let time = (0_i64..4_000_000_000, 0_u32..1_000_000_000);
    (0_i32..4, name(), attributes, content, owner, time).prop_map(
        |(kind, target, attributes, (seed, size), (mode, uid, gid), (seconds, nanos))| {
            let attributes = attributes.into_iter().map(|(name, value)| Attribute {
                name: [b"user.".to_vec(), name]
                    .concat()
                    .into_iter()
                    .filter(|b| *b != b'=')
                    .collect(),
                value: value.into(),
            });
            let mut attributes: Vec<Attribute> = attributes.collect();
            attributes.sort_by(|a, b| a.name.cmp(&b.name));
            attributes.dedup_by(|a, b| a.name == b.name);
            let kind = Kind::try_from(kind).unwrap();
            let mut node = Node {
                kind,
                mode,
                uid,
                gid,
                seconds,
                nanos,
                attributes: attributes.into(),
                ..Node::default()
            };
            if node.kind == Kind::Symlink {
                (node.target, node.mode) = (target.into(), 0o777);
            }
            let size = if node.kind == Kind::File { size } else { 0 };
            (node, noise(seed, size))
        },
    )
}

/// What of a tree does not depend on its packs.
fn plain(nodes: &[Node]) -> Vec<Node> {
    let mut nodes = nodes.to_vec();
    for node in &mut nodes {
        node.chunks = Box::default();
    }
    nodes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_tree_comes_back(
        folders in prop::collection::vec(name(), 0..3),
        entries in prop::collection::btree_map(name(), node(), 1..12),
        choices in prop::collection::vec(any::<prop::sample::Index>(), 12),
    ) {
        let mut tree = BTreeMap::new();
        let mut places = vec![Vec::new()];
        for name in &folders {
            let above = places.last().cloned().unwrap_or_default();
            let path = [above, name.clone()].concat();
            let folder = Node { path: path.as_slice().into(), kind: Kind::Folder, mode: 0o1700, ..Node::default() };
            tree.insert(path.clone(), (folder, Vec::new()));
            places.push([path, b"/".to_vec()].concat());
        }
        for ((name, (node, content)), choice) in entries.into_iter().zip(&choices) {
            let path = [choice.get(&places).clone(), name].concat();
            tree.entry(path.clone()).or_insert((Node { path: path.into(), ..node }, content));
        }
        // A hard link leads to a file that comes before it, and is as that is.
        let mut file: Option<Node> = None;
        for (node, _) in tree.values_mut() {
            match (node.kind, &file) {
                (Kind::File, _) => file = Some(node.clone()),
                (Kind::HardLink, Some(to)) => {
                    let path = mem::take(&mut node.path);
                    *node = Node { path, kind: Kind::HardLink, target: to.path.clone(), ..to.clone() };
                }
                (Kind::HardLink, None) => node.kind = Kind::Folder,
                _ => {}
            }
        }
        let mut stream = Vec::new();
        for (node, content) in tree.values() {
            add_posix(&mut stream, node, content);
        }
        stream.resize(stream.len() + 1024, 0);
        let (index, packs) = packed(&stream, None);
        let expected: Vec<Node> = tree.values().map(|(node, _)| node.clone()).collect();
        prop_assert_eq!(plain(&index.nodes), expected);
        let found = files_of(&index, &packs);
        for (path, (node, content)) in &tree {
            if node.kind == Kind::File {
                prop_assert_eq!(&found[path], content);
            }
        }
    }

    #[test]
    fn no_index_is_too_odd_to_be_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        path in prop::collection::vec(any::<u8>(), 0..12),
        kind in 0_i32..4,
        target in prop::collection::vec(any::<u8>(), 0..4),
        chunk in (any::<u32>(), any::<u32>(), any::<u32>()),
    ) {
        prop_assert!(Index::from_blob(&bytes).is_err());
        let compressed = zstd::bulk::compress(&bytes, 1).unwrap();
        let _told = Index::from_blob(&compressed);
        let (pack, offset, length) = chunk;
        let chunk = Chunk { pack, offset, length, hash: [0; 32] };
        let kind = Kind::try_from(kind).unwrap();
        let (chunks, none) = ([chunk].into(), Box::default());
        for (chunks, has_content) in [(chunks, true), (none, false)] {
            let (place, target) = (path.as_slice().into(), target.as_slice().into());
            let node = Node { path: place, kind, target, chunks, ..Node::default() };
            let index = Index { nodes: vec![node], ..Index::default() };
            if Index::from_blob(&index.to_blob().unwrap()).is_ok() {
                let is_below = path.split(|b| *b == b'/').all(|name| !matches!(name, b"" | b"." | b".."));
                prop_assert!(is_below && !path.contains(&0) && !path.contains(&b'/'));
                // No pack is named.
                prop_assert!(!has_content);
            }
        }
    }
}
