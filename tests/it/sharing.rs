//! Both tools on one builder: what one built is in the cache for the other, whatever the context looks like.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Weak;

use fs_err as fs;
use parking_lot::Mutex;
use tempfile::TempDir;

use crate::support::bench::{Bench, Shared, assert_all_cached, is_cached, sent};
use crate::support::rig::{Rig, context, unique};

static SHARED: Shared = Mutex::new(Weak::new());

/// Names that a shell, a pattern or a protocol may stumble over.
const ODD_NAMES: [&str; 14] = [
    "with space",
    " leading",
    "trailing ",
    "ünïcödé-e\u{301}-日本語-🚢",
    "new\nline",
    "tab\there",
    "star*[x]?",
    "back\\slash",
    "quote\"'`$HOME",
    "-dash",
    ".hidden",
    "..two",
    "a.b",
    "#hash,comma;semi",
];

/// A context with all that a file system can hold, with content that no other has.
fn odd_context() -> TempDir {
    let dockerfile = format!(
        "FROM {}\nCOPY . /ctx\nRUN ls -laR /ctx && ! test -e /ctx/ignored/x && test -e /ctx/ignored/kept\n",
        Rig::get().busybox
    );
    let folder = context(&[
        ("Dockerfile", &dockerfile),
        (
            ".dockerignore",
            "# comment\nignored/*\n!ignored/kept\n**/*.tmp\n!important.tmp\n",
        ),
        ("ignored/x", "x"),
        ("ignored/kept", "kept"),
        ("some.tmp", "x"),
        ("important.tmp", "x"),
        ("new", &unique("content")),
        ("deep/a/b/c/d/file", "deep"),
        ("a/x", "order"),
        ("a-b/x", "order"),
    ]);
    let root = folder.path();
    for name in ODD_NAMES {
        fs::write(root.join(name), name).expect("a file with an odd name");
        fs::create_dir_all(root.join("dir").join(name)).expect("a folder with an odd name");
    }
    links(root);
    modes(root);
    folder
}

fn links(root: &Path) {
    symlink("new", root.join("link")).expect("a link");
    symlink("nowhere/at all", root.join("dangling")).expect("a link");
    symlink("/etc/passwd", root.join("absolute")).expect("a link");
    symlink("../../../outside", root.join("up")).expect("a link");
    symlink("loop", root.join("loop")).expect("a link");
    symlink("deep/a", root.join("to-folder")).expect("a link");
    fs::write(root.join("deep/first"), "hard").expect("a file");
    fs::hard_link(root.join("deep/first"), root.join("deep/second")).expect("a hard link");
    fs::hard_link(root.join("deep/first"), root.join("another")).expect("a hard link");
}

fn modes(root: &Path) {
    for mode in [0o000, 0o400, 0o644, 0o755, 0o777, 0o4755, 0o2755, 0o1644] {
        let path = root.join(format!("mode-{mode:o}"));
        fs::write(&path, "mode").expect("a file");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("a mode");
    }
    let sticky = root.join("sticky");
    fs::create_dir(&sticky).expect("a folder");
    fs::set_permissions(&sticky, Permissions::from_mode(0o1777)).expect("a mode");
    fs::create_dir(root.join("empty")).expect("a folder");
    fs::write(root.join("xattr"), "x").expect("a file");
    let value = rustix::fs::setxattr(
        root.join("xattr"),
        "user.odd",
        b"\0binary\xff",
        rustix::fs::XattrFlags::empty(),
    );
    // Not every file system has them.
    assert!(
        matches!(value, Ok(()) | Err(rustix::io::Errno::OPNOTSUPP)),
        "{value:?}"
    );
}

/// An exact copy under another name, for which a builder has nothing to compare with.
fn copy_of(folder: &Path) -> TempDir {
    let copy = TempDir::new().expect("a temporary folder");
    let status = Command::new("cp")
        .arg("-a")
        .arg(folder.join("."))
        .arg(copy.path())
        .status()
        .expect("cp");
    assert!(status.success());
    copy
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn what_one_tool_built_the_other_has() {
    let bench = Bench::shared(&SHARED);
    for (first, second) in [("buildx", "cachex"), ("cachex", "buildx")] {
        let folder = odd_context();
        let progress = bench.build(first, &[], folder.path());
        assert!(!is_cached(&progress, "COPY . /ctx"), "{progress}");
        let again = bench.build(second, &[], folder.path());
        assert_all_cached(&again, 2);
        // The builder knows the folder from the other tool: next to nothing is sent.
        assert!(sent(&again) < 4096, "{again}");
        // All of a copy is sent, and is the same.
        let copy = copy_of(folder.path());
        let of_copy = bench.build(second, &[], copy.path());
        assert_all_cached(&of_copy, 2);
        let back = bench.build(first, &[], copy.path());
        assert_all_cached(&back, 2);
        // A change is seen.
        fs::write(copy.path().join("deep/a/b/c/d/file"), "changed").expect("a file");
        let changed = bench.build(second, &[], copy.path());
        assert!(!is_cached(&changed, "COPY . /ctx"), "{changed}");
        assert_all_cached(&bench.build(first, &[], copy.path()), 2);
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn files_outside_of_what_is_copied_do_not_matter() {
    let bench = Bench::shared(&SHARED);
    let dockerfile = format!(
        "FROM {}\nCOPY part/*.txt /one/\nCOPY --chmod=700 --chown=1:2 link /two\n",
        Rig::get().busybox
    );
    let folder = context(&[
        ("Dockerfile", &dockerfile),
        ("part/a.txt", &unique("a")),
        ("part/b.txt", "b"),
        ("part/c.bin", "c"),
        ("target", "t"),
    ]);
    symlink("target", folder.path().join("link")).expect("a link");
    bench.build("cachex", &[], folder.path());
    fs::write(folder.path().join("part/c.bin"), "other").expect("a file");
    fs::write(folder.path().join("not-copied"), "x").expect("a file");
    for tool in ["buildx", "cachex"] {
        assert_all_cached(&bench.build(tool, &[], folder.path()), 2);
    }
    fs::write(folder.path().join("target"), "through the link").expect("a file");
    let progress = bench.build("cachex", &[], folder.path());
    assert_eq!(
        crate::support::bench::steps(&progress)
            .iter()
            .filter(|(name, hit)| name.contains("COPY --chmod") && !hit)
            .count(),
        1,
        "{progress}"
    );
}

/// Names are bytes to a new `BuildKit` and text to an old one, which refuses those that are not UTF-8.
#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_name_that_is_not_utf8_is_sent_or_named() {
    use std::os::unix::ffi::OsStrExt as _;
    let bench = Bench::shared(&SHARED);
    let dockerfile = format!("FROM {}\nCOPY . /ctx\n", Rig::get().busybox);
    let folder = context(&[("Dockerfile", &dockerfile)]);
    let name = std::ffi::OsStr::from_bytes(b"odd\xff\xfename");
    fs::write(folder.path().join(name), "").expect("a file");
    let peer = bench.try_build("buildx", &[], folder.path());
    let code = peer.status.code().expect("an exit code");
    if code == 0 {
        assert_all_cached(&bench.build("cachex", &[], folder.path()), 1);
    } else {
        let error = bench.fails(code, &[], folder.path());
        assert!(error.contains("UTF-8"), "{error}");
    }
    fs::write(folder.path().join(".dockerignore"), "odd*\n").expect("a file");
    bench.build("cachex", &[], folder.path());
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn options_that_are_in_the_key_are_in_it_for_both() {
    let bench = Bench::shared(&SHARED);
    let dockerfile = format!(
        "FROM {}\nARG WHAT\nARG OTHER=x\nLABEL a=b\nRUN echo $WHAT $OTHER > /said\nWORKDIR /w\nRUN --mount=type=cache,target=/c true\n",
        Rig::get().busybox
    );
    let folder = context(&[("Dockerfile", &dockerfile)]);
    for (first, second) in [("buildx", "cachex"), ("cachex", "buildx")] {
        let what = format!("WHAT={}", unique("w"));
        let args = [
            "--build-arg",
            &what,
            "--add-host",
            "here:1.2.3.4",
            "--shm-size=70m",
            "--ulimit=nofile=1000:2000",
            "--label=l=m",
            "--network=none",
            "--platform=linux/amd64",
        ];
        bench.build(first, &args, folder.path());
        assert_all_cached(&bench.build(second, &args, folder.path()), 3);
        // A host is part of the key.
        let other = bench.build(second, &["--build-arg", &what], folder.path());
        assert!(!is_cached(&other, "RUN echo"), "{other}");
    }
}
