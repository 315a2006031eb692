//! Keys of the files that steps read.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::cache::keys::content::{self, Selector};
use crate::cache::keys::header::{FileHash, Sum};
use crate::cache::keys::testing::tree;
use crate::cache::keys::{Tree, Unknown, record};
use crate::digest::Digest;
use crate::fsutil::wire::{self, Stat};

#[test]
fn a_file_has_the_checksum_of_buildkit() {
    let stat = Stat {
        mode: 0o644,
        size: 2,
        ..Stat::default()
    };
    let mut hash = FileHash::new(&stat);
    hash.update(b"a\n");
    assert_eq!(
        Digest::from_sha256(hash.finish().file).as_str(),
        "sha256:90419ce2f049678816ec651294eafae1333065bf516a763506e0965a9979d469"
    );
}

#[test]
fn a_folder_has_the_checksum_of_buildkit() {
    let tree = tree(&[
        ("other", "x"),
        ("sub/", ""),
        ("sub/c.js", "c\n"),
        ("sub/deep/", ""),
        ("sub/deep/d.js", "d\n"),
        ("sub-b", "y"),
    ]);
    assert_eq!(
        tree.checksum(b"/sub", false).unwrap(),
        "sha256:7b5933f4f3e25e5ff5f24361db89471c1c20c8eb703c079e9ee474d33b6b8ad9"
    );
    let sub = Selector {
        path: "/sub".to_owned(),
        ..Selector::default()
    };
    let keys = content::keys(&tree, &[sub]).unwrap();
    assert_eq!(keys.len(), 1);
    assert_eq!(
        keys[0].as_str(),
        "sha256:0635615d875d12491abac6e99e0c78ce751ce6ab8fe396fb1a1134307792dc2e"
    );
}

fn pattern(path: &str, include: &[&str], exclude: &[&str]) -> Selector {
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    Selector {
        path: path.to_owned(),
        wildcard: content::has_wildcard(path),
        follow_links: true,
        include: texts(include),
        exclude: texts(exclude),
        ..Selector::default()
    }
}

fn example_tree() -> Tree {
    tree(&[
        ("a.txt", "a"),
        ("b.txt", "b"),
        ("c.md", "c"),
        ("dir/", ""),
        ("dir/d.txt", "d"),
        ("dir/deep/", ""),
        ("dir/deep/e.txt", "e"),
        ("dir/deep/f.md", "f"),
        ("link", "->dir/deep"),
        ("loop", "->loop"),
        ("up", "->../../dir"),
    ])
}

fn found(selector: &Selector) -> Vec<String> {
    content::found(&example_tree(), selector)
        .unwrap()
        .into_iter()
        .collect()
}

#[test]
fn patterns_find_what_buildkit_finds() {
    assert_eq!(found(&pattern("/*.txt", &[], &[])), ["/a.txt", "/b.txt"]);
    assert_eq!(
        found(&pattern("/d*", &[], &[])),
        [
            "/dir",
            "/dir/d.txt",
            "/dir/deep",
            "/dir/deep/e.txt",
            "/dir/deep/f.md"
        ]
    );
    assert_eq!(
        found(&pattern("/", &["**/*.md"], &[])),
        ["/c.md", "/dir", "/dir/deep", "/dir/deep/f.md"]
    );
    assert_eq!(
        found(&pattern("/dir", &[], &["deep/*.txt"])),
        ["/dir", "/dir/d.txt", "/dir/deep", "/dir/deep/f.md"]
    );
    assert_eq!(found(&pattern("/dir/*.x", &[], &[])), [""; 0]);
    assert_eq!(
        found(&pattern("/link/*", &[], &[])),
        ["/link/e.txt", "/link/f.md"]
    );
}

#[test]
fn both_forms_of_a_patterns_key_are_computed() {
    let tree = example_tree();
    let sum = |path: &str| tree.checksum(path.as_bytes(), false).unwrap();
    let keys = content::keys(&tree, &[pattern("/*.txt", &[], &[])]).unwrap();
    let of = |text: String| {
        record(
            &content::joined(&[Digest::of(text.as_bytes()).as_str()]),
            -1,
        )
    };
    let paths = format!("\0a.txt{}\0b.txt{}", sum("/a.txt"), sum("/b.txt"));
    let names = format!("a.txt{}\0b.txt{}", sum("/a.txt"), sum("/b.txt"));
    assert_eq!(keys, [of(paths), of(names)]);
    // One file of the same name counts by itself, and nothing as nothing.
    let one = content::keys(&tree, &[pattern("/a.txt", &["*"], &[])]).unwrap();
    assert_eq!(one.len(), 1);
    let none = content::keys(&tree, &[pattern("/*.x", &[], &[])]).unwrap();
    assert_eq!(none, [of(String::new())]);
}

#[test]
fn links_are_followed_inside_the_tree() {
    let tree = example_tree();
    let deep = tree.checksum(b"/dir/deep", false).unwrap();
    assert_eq!(tree.checksum(b"/link", true).unwrap(), deep);
    assert_ne!(tree.checksum(b"/link", false).unwrap(), deep);
    assert_eq!(
        tree.checksum(b"/up/deep/e.txt", false),
        tree.checksum(b"/dir/deep/e.txt", false)
    );
    assert_eq!(tree.checksum(b"/loop", true), Err(Unknown::Links));
    assert_eq!(tree.checksum(b"/none", true), Err(Unknown::NoFile));
    let required = Selector {
        required: vec!["/none".to_owned()],
        ..pattern("/", &["*"], &[])
    };
    assert_eq!(content::keys(&tree, &[required]), Err(Unknown::NoFile));
}

#[test]
fn a_second_name_of_a_file_counts_as_the_first() {
    let stat = |path: &str, first: &str| Stat {
        path: path.as_bytes().to_vec(),
        linkname: first.as_bytes().to_vec(),
        mode: 0o600,
        size: 1,
        ..Stat::default()
    };
    let sum = Some(Sum {
        file: [7; 32],
        content: 7,
    });
    let tree = Tree::of([(stat("b", "a"), None), (stat("a", ""), sum)]);
    assert_eq!(tree.checksum(b"/b", false), tree.checksum(b"/a", false));
    let tree = Tree::of([(stat("b", "gone"), None)]);
    assert_eq!(tree.checksum(b"/b", false), Err(Unknown::NotRead));
}

#[test]
fn entries_are_files_and_links_with_what_they_hold() {
    let tree = tree(&[("a/", ""), ("a/f", "x"), ("a/l", "->f"), ("b", "y")]);
    let entries: Vec<_> = tree.entries().collect();
    let paths: Vec<_> = entries.iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(paths, ["a/f", "a/l", "b"]);
    assert_eq!((entries[0].mode, entries[0].size), (0o644, 1));
    assert_ne!(entries[0].content, entries[2].content);
    assert_eq!(entries[1].target.as_deref(), Some("f"));
    assert_eq!(tree.entry(b"a/f"), Some(entries[0].clone()));
    assert_eq!(tree.entry(b"a"), None);
    let selected = |path: &str| {
        let selector = Selector {
            path: path.to_owned(),
            ..Selector::default()
        };
        let paths = content::selected(&tree, &[selector]).into_iter();
        paths
            .map(|path| String::from_utf8(path).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(selected("/a"), ["a/f", "a/l"]);
    assert_eq!(selected("/"), ["a/f", "a/l", "b"]);
}

#[test]
fn folders_are_found_with_what_is_in_them() {
    let tree = tree(&[
        ("a/", ""),
        ("a/b/", ""),
        ("a/b/f", "x"),
        ("a/c/", ""),
        ("d/", ""),
    ]);
    let folders: Vec<_> = tree.folders().collect();
    let told: Vec<_> = folders
        .iter()
        .map(|f| (f.path.as_str(), f.is_empty))
        .collect();
    assert_eq!(
        told,
        [("a", false), ("a/b", false), ("a/c", true), ("d", true)]
    );
    assert_eq!(tree.folder(b"a/c/"), Some(folders[2].clone()));
    assert_eq!((tree.folder(b"a/b/f"), tree.folder(b"x")), (None, None));
    let selected = |path: &str, wildcard| {
        let selector = Selector {
            path: path.to_owned(),
            wildcard,
            ..Selector::default()
        };
        let paths = content::folders(&tree, &[selector]).into_iter();
        paths
            .map(|path| String::from_utf8(path).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(selected("/", false), ["a/", "a/b/", "a/c/", "d/"]);
    assert_eq!(selected("/a/b", false), ["a/b/"]);
    assert_eq!(selected("/a/[bc]", true), ["a/b/", "a/c/"]);
    assert!(selected("/a/b/f", false).is_empty());
}

#[test]
fn permissions_leave_the_content_as_it_is() {
    let sum = |mode| {
        let stat = Stat {
            mode,
            size: 1,
            ..Stat::default()
        };
        let mut hash = FileHash::new(&stat);
        hash.update(b"x");
        hash.finish()
    };
    assert_eq!(sum(0o644).content, sum(0o600).content);
    assert_ne!(sum(0o644).file, sum(0o600).file);
}

#[test]
fn what_a_file_is_counts_but_for_name_and_time() {
    let hash = |change: fn(&mut Stat)| {
        let mut stat = Stat {
            mode: 0o644,
            ..Stat::default()
        };
        change(&mut stat);
        FileHash::new(&stat).finish()
    };
    let plain = hash(|_| {});
    assert_eq!(hash(|stat| stat.mod_time = 7), plain);
    assert_eq!(hash(|stat| stat.path = b"x".to_vec()), plain);
    let xattr = |name: &str| wire::Xattr {
        name: name.as_bytes().to_vec(),
        value: b"v".to_vec(),
    };
    let selinux = {
        let mut stat = Stat {
            mode: 0o644,
            ..Stat::default()
        };
        stat.xattrs.push(xattr("security.selinux"));
        stat
    };
    assert_eq!(FileHash::new(&selinux).finish(), plain);
    let mut user = selinux;
    user.xattrs.push(xattr("user.a"));
    assert_ne!(FileHash::new(&user).finish(), plain);
    assert_ne!(hash(|stat| stat.mode |= wire::MODE_SETUID), plain);
    assert_ne!(hash(|stat| stat.mode |= wire::MODE_FIFO), plain);
    assert_ne!(hash(|stat| stat.uid = 1), plain);
}

#[test]
fn only_files_that_count_are_read() {
    let tree = example_tree();
    let read = |selector: Selector| -> Vec<String> {
        let read = content::read_by(&tree, &[selector]).into_iter();
        read.map(|path| String::from_utf8(path).unwrap()).collect()
    };
    let plain = |path: &str| Selector {
        follow_links: true,
        ..pattern(path, &[], &[])
    };
    let deep = ["dir/deep/e.txt", "dir/deep/f.md"];
    assert_eq!(read(plain("/dir/deep")), deep);
    assert_eq!(read(plain("/link")), deep);
    assert_eq!(read(plain("/a.txt")), ["a.txt"]);
    assert_eq!(read(plain("/none")), [""; 0]);
    assert_eq!(read(plain("/*.txt")), ["a.txt", "b.txt"]);
    assert_eq!(
        read(pattern("/", &["**/*.md"], &[])),
        ["c.md", "dir/deep/f.md"]
    );
    assert_eq!(content::read_by(&tree, &[]).len(), 6);
}

fn names() -> impl Strategy<Value = Vec<(String, String)>> {
    let path = proptest::collection::vec("[ab][ab.\\-]?", 1..4).prop_map(|parts| parts.join("/"));
    proptest::collection::vec((path, "[xy]{0,2}"), 0..12)
}

fn tree_of(files: &[(String, String)]) -> Tree {
    let files: Vec<_> = files
        .iter()
        .map(|(p, c)| (p.as_str(), c.as_str()))
        .collect();
    tree(&files)
}

proptest! {
    #[test]
    fn the_order_of_entries_does_not_matter(files in names()) {
        let unique: BTreeMap<_, _> = files.into_iter().collect();
        let mut files: Vec<_> = unique.into_iter().collect();
        let forward = tree_of(&files).checksum(b"/", false);
        files.reverse();
        prop_assert_eq!(tree_of(&files).checksum(b"/", false), forward);
    }

    #[test]
    fn any_change_of_content_changes_the_root(files in names(), at in any::<prop::sample::Index>()) {
        let unique: BTreeMap<_, _> = files.into_iter().collect();
        let mut files: Vec<_> = unique.into_iter().collect();
        prop_assume!(!files.is_empty());
        let before = tree_of(&files).checksum(b"/", false);
        let index = at.index(files.len());
        files[index].1.push('z');
        prop_assert_ne!(tree_of(&files).checksum(b"/", false), before);
    }

    #[test]
    fn what_is_read_is_all_that_is_needed(
        path in "(/|/[ab]|/[ab]\\*|/\\*)",
        include in prop::option::of("[ab]\\*{0,2}"),
        files in names(),
    ) {
        let include: Vec<&str> = include.as_deref().into_iter().collect();
        let selector = pattern(&path, &include, &[]);
        let unique: BTreeMap<_, _> = files.into_iter().collect();
        let files: Vec<_> = unique.into_iter().collect();
        let all = content::keys(&tree_of(&files), std::slice::from_ref(&selector));
        let read = content::read_by(&tree_of(&files), std::slice::from_ref(&selector));
        let stat = |(path, content): &(String, String)| {
            let stat = Stat {
                path: path.clone().into_bytes(),
                mode: 0o644,
                size: i64::try_from(content.len()).unwrap(),
                ..Stat::default()
            };
            let mut hash = FileHash::new(&stat);
            hash.update(content.as_bytes());
            let sum = read.contains(path.as_bytes()).then(|| hash.finish());
            (stat, sum)
        };
        let partly = Tree::of(files.iter().map(stat));
        prop_assert_eq!(content::keys(&partly, &[selector]), all);
    }

    #[test]
    fn no_selector_panics(path in "[/a.*?\\[\\]\\\\-]{0,6}", include in "[!/a.*]{0,4}", files in names()) {
        let mut selector = pattern(&path, &[], &[]);
        selector.include = vec![include];
        let _ = content::keys(&tree_of(&files), &[selector.clone()]);
        let _ = content::found(&tree_of(&files), &selector);
    }
}
