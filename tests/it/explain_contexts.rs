//! Why steps ran, in builds whose files come from other places, change in other ways, or that fail.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use fs_err as fs;

use crate::support::bench::Bench;
use crate::support::caches::{export, import, reference};
use crate::support::git::GitServer;
use crate::support::rig::{Rig, context, text, unique};

/// Builds with a cache, which is written, and once more on an empty builder after a change. Returns what is said then.
fn changed(bench: &Bench, args: &[&str], folder: &Path, change: impl FnOnce()) -> Vec<String> {
    let cache = reference("it/explain");
    let to = export(&cache, "mode=max");
    bench.build("cachex", &[args, &[&to]].concat(), folder);
    change();
    bench.prune();
    let from = import(&cache);
    told(&bench.build("cachex", &[args, &[from.as_str()]].concat(), folder))
}

fn told(progress: &str) -> Vec<String> {
    let lines = progress
        .lines()
        .skip_while(|line| !line.starts_with("why "));
    lines.map(str::to_owned).collect()
}

fn has(told: &[String], text: &str) -> bool {
    told.iter().any(|line| line.contains(text))
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn new_removed_and_renamed_files_are_named() {
    let bench = Bench::new();
    let dockerfile = format!(
        "FROM {}\nCOPY src /src\nRUN echo {} && ls /src > /list\n",
        Rig::get().busybox,
        unique("s")
    );
    let folder = context(&[
        ("Dockerfile", dockerfile.as_str()),
        ("src/kept.js", "kept"),
        ("src/gone.js", "gone"),
        ("src/before.js", "moved"),
    ]);
    let path = |name: &str| folder.path().join("src").join(name);
    let told = changed(&bench, &[], folder.path(), || {
        fs::write(path("new.js"), "new").expect("a file");
        fs::remove_file(path("gone.js")).expect("a file");
        fs::rename(path("before.js"), path("after.js")).expect("a file");
    });
    for file in [
        "src/new.js (new)",
        "src/gone.js (removed)",
        "src/before.js (removed)",
        "src/after.js (new)",
    ] {
        assert!(has(&told, file), "{file}: {told:?}");
    }
    assert!(!has(&told, "kept.js"), "{told:?}");
    assert!(told[1].ends_with("[2/3] COPY src /src"), "{told:?}");
    assert!(has(&told, "1 step follows from it: [3/3] RUN"), "{told:?}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn folders_that_differ_are_named() {
    let bench = Bench::new();
    let dockerfile = format!(
        "FROM {}\nCOPY src /src\nRUN echo {} && ls /src > /list\n",
        Rig::get().busybox,
        unique("s")
    );
    let files = [("Dockerfile", dockerfile.as_str()), ("src/sub/a.js", "a")];
    let folder = context(&files);
    let src = folder.path().join("src");
    let set = |path: &Path, mode| {
        let mode = std::fs::Permissions::from_mode(mode);
        fs::set_permissions(path, mode).expect("permissions");
    };
    set(&src.join("sub"), 0o755);
    let told = changed(&bench, &[], folder.path(), || {
        set(&src.join("sub"), 0o700);
        fs::create_dir(src.join("empty")).expect("a folder");
    });
    assert!(
        has(&told, "1 of 2 files differs: src/empty/ (new)"),
        "{told:?}"
    );
    let mode = "1 of 2 files differs only in its permissions: src/sub/ (0700, was 0755)";
    assert!(has(&told, mode), "{told:?}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_linked_copy_is_one_step() {
    let bench = Bench::new();
    let dockerfile = format!(
        "FROM {}\nRUN echo {} > /said\nCOPY --link a.txt /\nRUN cat /a.txt > /read\n",
        Rig::get().busybox,
        unique("s")
    );
    let folder = context(&[("Dockerfile", dockerfile.as_str()), ("a.txt", "a")]);
    let told = changed(&bench, &[], folder.path(), || {
        fs::write(folder.path().join("a.txt"), "other").expect("a file");
    });
    assert!(told[0].starts_with("why 2 steps ran"), "{told:?}");
    assert!(!has(&told, "LINK"), "{told:?}");
    assert!(
        has(&told, "1 step follows from it: [4/4] RUN cat /a.txt"),
        "{told:?}"
    );
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_failed_build_tells_why_its_steps_ran() {
    let bench = Bench::new();
    let base = &Rig::get().busybox;
    let seed = unique("s");
    let dockerfile =
        |last: &str| format!("FROM {base}\nCOPY a.txt /\nRUN echo {seed} > /said\nRUN {last}\n");
    let folder = context(&[("Dockerfile", dockerfile("true").as_str()), ("a.txt", "a")]);
    let cache = reference("it/explain");
    bench.build("cachex", &[&export(&cache, "mode=max")], folder.path());
    fs::write(folder.path().join("a.txt"), "other").expect("a file");
    fs::write(folder.path().join("Dockerfile"), dockerfile("false")).expect("a file");
    bench.prune();
    let from = import(&cache);
    let progress = bench.fails(1, &[&from], folder.path());
    let told = told(&progress);
    assert!(has(&told, "why 3 steps ran"), "{progress}");
    assert!(has(&told, "[2/4] COPY a.txt /"), "{progress}");
    assert!(
        has(&told, "1 of 1 file differs: a.txt (content)"),
        "{progress}"
    );
    let at = |text: &str| progress.find(text).expect(text);
    assert!(
        at("why 3 steps ran") < at("ERROR: failed to build"),
        "{progress}"
    );
    // Without a word where nobody wants it.
    bench.prune();
    let progress = bench.fails(1, &[&from, "--explain=off"], folder.path());
    assert!(!progress.contains("why "), "{progress}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn two_platforms_and_nothing_below_are_explained() {
    let bench = Bench::new();
    let folder = context(&[
        ("Dockerfile", "FROM scratch\nCOPY a.txt /\nCOPY b.txt /\n"),
        ("a.txt", &unique("a")),
        ("b.txt", "b"),
    ]);
    let platforms = ["--platform=linux/amd64,linux/arm64"];
    let told = changed(&bench, &platforms, folder.path(), || {
        fs::write(folder.path().join("b.txt"), "other").expect("a file");
    });
    assert!(has(&told, "2/2] COPY b.txt /"), "{told:?}");
    assert!(
        has(&told, "1 of 1 file differs: b.txt (content)"),
        "{told:?}"
    );
    assert!(!has(&told, "COPY a.txt"), "{told:?}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_git_repository_in_the_place_of_a_folder_is_explained() {
    let bench = Bench::new();
    let folder = context(&[(
        "Dockerfile",
        &format!(
            "FROM {}\nRUN echo {} > /said\nCOPY --from=named x.txt /\n",
            Rig::get().busybox,
            unique("s")
        ),
    )]);
    let server = GitServer::start(&[("x.txt", "x")]);
    let named = format!(
        "--build-context=named=git://127.0.0.1:{}/r.git",
        server.port
    );
    let told = changed(&bench, &[&named], folder.path(), || {
        server.commit(&[("x.txt", "other")]);
    });
    assert!(
        has(&told, "[stage-0 3/3] COPY --from=named x.txt /"),
        "{told:?}"
    );
    assert!(!has(&told, "RUN echo"), "{told:?}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn files_are_named_also_where_no_step_ran_when_the_cache_was_written() {
    let bench = Bench::new();
    let dockerfile = format!("FROM {}\nCOPY src /src\n", Rig::get().busybox);
    let seed = unique("s");
    let folder = context(&[
        ("Dockerfile", dockerfile.as_str()),
        ("src/a", &seed),
        ("src/b", "b"),
    ]);
    for via in ["client", "builder"] {
        let cache = reference("it/explain");
        fs::write(folder.path().join("src/a"), &seed).expect("a file");
        bench.build("cachex", &[], folder.path());
        let to = export(&cache, &format!("mode=max,via={via}"));
        let progress = bench.build("cachex", &[&to], folder.path());
        assert!(progress.contains(" CACHED\n"), "{progress}");
        fs::write(folder.path().join("src/a"), "other").expect("a file");
        bench.prune();
        let told = told(&bench.build("cachex", &[&import(&cache)], folder.path()));
        assert!(
            has(&told, "1 of 2 files differs: src/a (content)"),
            "{via}: {told:?}"
        );
    }
}

/// Builds an archive on standard input.
fn piped(bench: &Bench, args: &[&str], folder: &Path) -> String {
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_dir_all(".", folder).expect("an archive");
    let archive = archive.into_inner().expect("an archive");
    let mut command = bench
        .client
        .command(&["cachex", "build", "--progress=plain"]);
    let mut child = command
        .args(args)
        .arg("-")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the docker CLI");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(&archive).expect("a pipe");
    drop(stdin);
    let output = child.wait_with_output().expect("the docker CLI");
    let progress = text(&output.stderr);
    assert!(output.status.success(), "{progress}");
    progress
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn an_archive_in_the_place_of_a_folder_is_explained() {
    let bench = Bench::new();
    let dockerfile = format!(
        "FROM {}\nRUN echo {} > /said\nCOPY a.txt /\nRUN cat /a.txt > /b\n",
        Rig::get().busybox,
        unique("s")
    );
    let folder = context(&[("Dockerfile", dockerfile.as_str()), ("a.txt", "a")]);
    let cache = reference("it/explain");
    piped(&bench, &[&export(&cache, "mode=max")], folder.path());
    fs::write(folder.path().join("a.txt"), "other").expect("a file");
    bench.prune();
    let told = told(&piped(&bench, &[&import(&cache)], folder.path()));
    // Unpacking it is no step of the Dockerfile.
    assert!(told[0].starts_with("why 2 steps ran"), "{told:?}");
    assert_eq!(told[1].trim(), "the build context", "{told:?}");
    assert_eq!(
        told[2].trim(),
        "the Git repository, URL or archive that it reads has changed"
    );
    assert!(
        has(
            &told,
            "2 steps follow from it: [3/4] COPY a.txt /, [4/4] RUN cat /a.txt > /b"
        ),
        "{told:?}"
    );
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_dockerfile_in_a_folder_that_is_copied_is_told_with_the_list_that_counts() {
    let bench = Bench::new();
    let dockerfile = format!(
        "FROM {}\nCOPY . /w\nRUN echo {}\n",
        Rig::get().busybox,
        unique("s")
    );
    let path = "docker/app.Dockerfile";
    let folder = context(&[(path, dockerfile.as_str()), ("a", "a")]);
    let flag = format!("--file={}", folder.path().join(path).display());
    let edit = |path: &str, more: &str| {
        let path = folder.path().join(path);
        let text = fs::read_to_string(&path).unwrap_or_default();
        fs::write(path, text + more).expect("a file");
    };
    let told = changed(&bench, &[&flag], folder.path(), || edit(path, "# more\n"));
    let copied = "1 of 2 files differs: docker/app.Dockerfile (content); it is copied too: list it in .dockerignore";
    assert!(has(&told, copied), "{told:#?}");
    let list = "docker/app.Dockerfile.dockerignore";
    edit(list, "none\n");
    let told = changed(&bench, &[&flag], folder.path(), || {
        edit(path, "# more\n");
        edit(list, "nothing\n");
    });
    let copied = "docker/app.Dockerfile and docker/app.Dockerfile.dockerignore are copied too: list them in \
                  docker/app.Dockerfile.dockerignore";
    assert!(has(&told, copied), "{told:#?}");
    // Another file of that name is a file as any.
    fs::write(folder.path().join("app.Dockerfile"), "x").expect("a file");
    let told = changed(&bench, &[&flag], folder.path(), || {
        edit("app.Dockerfile", "y");
    });
    assert!(has(&told, "app.Dockerfile (content)"), "{told:#?}");
    assert!(!has(&told, "copied too"), "{told:#?}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn the_variable_in_a_copy_is_named_and_a_heredoc_has_its_own_text() {
    let bench = Bench::new();
    let dockerfile = format!(
        "FROM {}\nARG FROM_FOLDER=a\nENV TO=/x\nCOPY $FROM_FOLDER/f ${{TO}}/\nCOPY <<EOT /text\none\nEOT\nRUN echo {}\n",
        Rig::get().busybox,
        unique("s")
    );
    let folder = context(&[
        ("Dockerfile", dockerfile.as_str()),
        ("a/f", "a"),
        ("b/f", "b"),
    ]);
    // Of another file with the same name the key is the same, and its content is not.
    let file = folder.path().join("Dockerfile");
    let write = |from: &str, to: &str| {
        fs::write(&file, dockerfile.replace(from, to)).expect("a file");
    };
    let told = changed(&bench, &[], folder.path(), || write("FOLDER=a", "FOLDER=b"));
    assert!(
        has(&told, "build argument FROM_FOLDER has another value"),
        "{told:#?}"
    );
    assert!(!has(&told, "declare ARG"), "{told:#?}");
    write("-", "-");
    let told = changed(&bench, &[], folder.path(), || write("TO=/x", "TO=/y"));
    assert!(
        has(&told, "environment variable TO has another value"),
        "{told:#?}"
    );
    write("-", "-");
    let told = changed(&bench, &[], folder.path(), || write("\none\n", "\ntwo\n"));
    assert!(told[0].starts_with("why 2 steps ran"), "{told:#?}");
    assert!(told[1].ends_with("[3/4] COPY <<EOT /text"), "{told:#?}");
    assert!(
        has(&told[2..3], "the text of its heredoc differs"),
        "{told:#?}"
    );
    assert!(
        has(&told[3..], "1 step follows from it: [4/4]"),
        "{told:#?}"
    );
}
