//! `--context-mode=git`: which permissions the files of a context have in a build.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::sync::Weak;

use fs_err as fs;
use parking_lot::Mutex;
use tempfile::TempDir;

use crate::scope::{Place, assert_says, build};
use crate::support::bench::{Bench, Shared};
use crate::support::counter::Counter;
use crate::support::rig::{Rig, context, text, unique};

static SHARED: Shared = Mutex::new(Weak::new());

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_commit_is_the_same_under_every_umask_where_only_git_counts() {
    let bench = Bench::new();
    let counter = Counter::start();
    let Place { cache, .. } = Place::new("it/modes");
    let seed = unique("modes");
    // A checkout under a umask: permissions of files and folders follow from it.
    let checkout = |umask: u32| {
        let dockerfile = format!(
            "FROM {}\nRUN echo {seed}\nCOPY src /src\nRUN {} && stat -c '%a %n' /src/* /src\n",
            Rig::get().busybox,
            counter.tell("after"),
        );
        let folder = context(&[
            ("Dockerfile", &dockerfile),
            ("src/plain", "1"),
            ("src/script", "2"),
        ]);
        let set = |path: &str, mode: u32| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode & !umask);
            fs::set_permissions(folder.path().join(path), mode).expect("permissions");
        };
        set("src/plain", 0o666);
        set("src/script", 0o777);
        set("src", 0o777);
        folder
    };
    let (wide, usual) = (checkout(0o002), checkout(0o022));
    let vars = [("CACHEX_BRANCH", "main")];
    let ran = |cache: &str, more: &[&str], folder: &TempDir| {
        bench.prune();
        let args = [&["--cache", cache], more].concat();
        let progress = build(&bench, &vars, &args, folder.path());
        (counter.take().len(), progress)
    };

    let as_is = format!("{cache},scope=as-is");
    assert_eq!(ran(&as_is, &[], &wide).0, 1);
    let (count, progress) = ran(&as_is, &[], &usual);
    assert_eq!(count, 1, "the permissions differ");
    assert_says(
        &progress,
        "3 files and folders differ only in their permissions, such as src/plain (0644, was 0664); --context-mode=git ignores that",
    );

    let git = format!("{cache},scope=git,context-mode=git");
    let (count, progress) = ran(&git, &[], &wide);
    assert_eq!(count, 1);
    for line in ["644 /src/plain", "755 /src/script", "755 /src"] {
        assert_says(&progress, line);
    }
    assert_eq!(ran(&git, &[], &usual).0, 0, "the same commit");
    // The flag does the same, and wins.
    let flag = format!("{cache},scope=git");
    assert_eq!(ran(&flag, &["--context-mode=git"], &wide).0, 0);
    assert_eq!(ran(&git, &["--context-mode=as-is"], &wide).0, 1);
}

/// The lines `MODE NAME` of every entry that a step shows.
const SHOW: &str = "find /seen -mindepth 1 -exec stat -c 'mode %a %n' {} +";

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn links_special_bits_and_named_contexts_are_as_git_has_them() {
    let bench = Bench::shared(&SHARED);
    let base = &Rig::get().busybox;
    let dockerfile =
        format!("FROM {base}\nCOPY src /seen/\nCOPY --from=more / /seen/more/\nRUN {SHOW}\n");
    let seed = unique("modes");
    let folder = context(&[
        ("Dockerfile", &dockerfile),
        ("src/suid", &seed),
        ("src/plain", "1"),
    ]);
    let more = context(&[("file", "2"), ("sub/script", "3")]);
    let set = |folder: &TempDir, path: &str, mode| {
        let mode = std::fs::Permissions::from_mode(mode);
        fs::set_permissions(folder.path().join(path), mode).expect("permissions");
    };
    set(&folder, "src/suid", 0o6775);
    set(&folder, "src/plain", 0o600);
    std::os::unix::fs::symlink("plain", folder.path().join("src/link")).expect("a link");
    std::os::unix::fs::symlink("nowhere", folder.path().join("src/dangling")).expect("a link");
    set(&more, "file", 0o666);
    set(&more, "sub/script", 0o711);
    set(&more, "sub", 0o1777);
    let named = format!("--build-context=more={}", more.path().display());
    let args = ["--context-mode=git", &named];
    let progress = build(&bench, &[], &args, folder.path());
    for line in [
        "mode 755 /seen/suid",
        "mode 644 /seen/plain",
        "mode 777 /seen/link",
        "mode 777 /seen/dangling",
        "mode 644 /seen/more/file",
        "mode 755 /seen/more/sub",
        "mode 755 /seen/more/sub/script",
    ] {
        assert_says(&progress, line);
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_tar_on_standard_input_is_as_it_is() {
    let bench = Bench::shared(&SHARED);
    let dockerfile = format!(
        "FROM {}\nCOPY file /seen/\nRUN {SHOW}\n",
        Rig::get().busybox
    );
    let mut tar = tar::Builder::new(Vec::new());
    for (name, text, mode) in [
        ("Dockerfile", &dockerfile, 0o644),
        ("file", &unique("tar"), 0o664),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len().try_into().expect("a size"));
        header.set_mode(mode);
        tar.append_data(&mut header, name, text.as_bytes())
            .expect("an entry");
    }
    let tar = tar.into_inner().expect("a tar");
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("context.tar"), tar).expect("a file");
    let file = fs::File::open(folder.path().join("context.tar")).expect("a file");
    let args = [
        "cachex",
        "build",
        "--progress=plain",
        "--context-mode=git",
        "-",
    ];
    let mut command = bench.client.command(&args);
    let output = command.stdin(Stdio::from(file.into_parts().0)).output();
    let output = output.expect("docker");
    let progress = text(&output.stderr);
    assert!(output.status.success(), "{progress}");
    assert_says(&progress, "mode 664 /seen/file");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_folder_without_its_repository_is_the_same() {
    let bench = Bench::new();
    let counter = Counter::start();
    let cache = format!(
        "{}/{},context-mode=git",
        Rig::get().registry.host(),
        unique("it/archive")
    );
    let dockerfile = format!(
        "FROM {}\nCOPY src /src\nRUN {} && cat /src/file\n",
        Rig::get().busybox,
        counter.tell("after"),
    );
    let seed = unique("archive");
    let files = [
        ("Dockerfile", dockerfile.as_str()),
        ("src/file", seed.as_str()),
    ];
    // One is a work tree of git, the other was unpacked from an archive of it.
    let (tree, plain) = (context(&files), context(&files));
    for args in [&["init", "-q"][..], &["add", "."]] {
        let mut git = std::process::Command::new("git");
        let done = git.arg("-C").arg(tree.path()).args(args).status();
        assert!(done.expect("git").success());
    }
    let mode = std::fs::Permissions::from_mode(0o640);
    fs::set_permissions(plain.path().join("src/file"), mode).expect("permissions");
    let flag = format!("--cache={cache}");
    for (folder, ran) in [(&tree, 1), (&plain, 0)] {
        bench.prune();
        build(
            &bench,
            &[("CACHEX_BRANCH", "main")],
            &[&flag],
            folder.path(),
        );
        assert_eq!(counter.take().len(), ran);
    }
}
