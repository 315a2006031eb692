//! What is said of one change after another, against a cache that this program wrote: the lines, and the codes of the
//! report.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use fs_err as fs;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::bench::Bench;
use crate::support::caches::{export, import, reference};
use crate::support::rig::{Rig, context, unique};

/// What is said of a build.
#[derive(Debug)]
pub(crate) struct Told {
    /// The lines below the summary, without the indentation.
    lines: Vec<String>,
    /// The line of the Dockerfile and the code of each cause.
    codes: Vec<(u64, String)>,
    /// The whole progress.
    pub(crate) progress: String,
}

impl Told {
    /// Checks the cause of the step in one line of the Dockerfile: the words begin with these.
    fn assert_cause(&self, line: u64, step: &str, words: &str, code: &str) {
        let head = |told: &&String| {
            told.split_once("  ").is_some_and(|(place, name)| {
                place.ends_with(&format!(":{line}")) && name.contains(step)
            })
        };
        let at = self.lines.iter().position(|told| head(&told));
        let at = at.unwrap_or_else(|| panic!("{line} {step}: {self:#?}"));
        let found = self.lines.get(at + 1).map_or("", String::as_str);
        assert!(found.starts_with(words), "{words}: {self:#?}");
        assert!(
            self.codes.contains(&(line, code.to_owned())),
            "{code}: {self:#?}"
        );
    }

    pub(crate) fn assert_causes(&self, count: usize) {
        assert_eq!(self.codes.len(), count, "{self:#?}");
    }
}

/// A step of each kind, of which the first reads everything.
pub(crate) fn project() -> TempDir {
    let base = &Rig::get().busybox;
    let seed = unique("s");
    let dockerfile = format!(
        "FROM {base}\nWORKDIR /w\nCOPY . .\nARG COMMIT\nARG USED=1\nENV MODE=fast OTHER=x\n\
         RUN echo {seed} > /first\nRUN echo $USED > /second\nRUN ls > /third\n"
    );
    let folder = context(&[
        ("Dockerfile", &dockerfile),
        (".dockerignore", "Dockerfile\n"),
        ("src/a.ts", "a\n"),
        ("src/b.ts", "b\n"),
        ("notes.md", "n\n"),
    ]);
    for file in ["src/a.ts", "src/b.ts", "notes.md"] {
        set_mode(&folder.path().join(file), 0o644);
    }
    folder
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("permissions");
}

pub(crate) fn edit(folder: &Path, from: &str, to: &str) {
    let path = folder.join("Dockerfile");
    let text = fs::read_to_string(&path).expect("a file");
    assert!(text.contains(from), "{from} in {text}");
    fs::write(path, text.replace(from, to)).expect("a file");
}

/// Builds, writes a cache, changes something, and builds with that cache on an emptied builder.
fn after(
    bench: &Bench,
    before: &[&str],
    folder: &Path,
    change: impl FnOnce(&Path),
    args: &[&str],
) -> Told {
    let cache = reference("it/changes");
    let to = export(&cache, "mode=max");
    bench.build("cachex", &[before, &[&to]].concat(), folder);
    change(folder);
    read(bench, &cache, folder, args)
}

/// Builds with a cache on an emptied builder.
pub(crate) fn read(bench: &Bench, cache: &str, folder: &Path, args: &[&str]) -> Told {
    bench.prune();
    let reports = TempDir::new().expect("a folder");
    let file = reports.path().join("report.json");
    let report = format!("--report=json={}", file.display());
    let from = import(cache);
    let progress = bench.build("cachex", &[args, &[&from, &report]].concat(), folder);
    let report: Value = serde_json::from_slice(&fs::read(file).expect("a report")).expect("JSON");
    let steps = report["steps"].as_array().expect("steps").iter();
    let codes = steps.filter_map(|step| {
        let code = step["cause"]["code"].as_str()?;
        Some((step["line"].as_u64()?, code.to_owned()))
    });
    let lines = progress
        .lines()
        .skip_while(|line| !line.starts_with("why "));
    Told {
        lines: lines.map(|line| line.trim().to_owned()).collect(),
        codes: codes.collect(),
        progress,
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_dockerfile_that_its_own_build_copies_is_told_with_the_way_out() {
    let bench = Bench::new();
    let folder = project();
    fs::remove_file(folder.path().join(".dockerignore")).expect("a file");
    let told = after(
        &bench,
        &[],
        folder.path(),
        |folder| edit(folder, "RUN ls >", "RUN ls -l >"),
        &[],
    );
    told.assert_cause(
        3,
        "COPY . .",
        "1 of 4 files differs: Dockerfile (content); it is copied too: list it in .dockerignore",
        "files",
    );
    told.assert_cause(9, "RUN ls -l", "its command differs", "command");
    told.assert_causes(2);
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_dockerignore_that_changes_the_files_is_told() {
    let bench = Bench::new();
    let folder = project();
    let ignore = |text: &'static str| {
        move |folder: &Path| fs::write(folder.join(".dockerignore"), text).expect("a file")
    };
    let told = after(
        &bench,
        &[],
        folder.path(),
        ignore("Dockerfile\nnotes.md\n"),
        &[],
    );
    told.assert_cause(
        3,
        "COPY . .",
        "2 of 3 files differ: .dockerignore (content), notes.md (now ignored)",
        "files",
    );
    told.assert_causes(1);
    // What was left out before is new.
    let folder = project();
    ignore("Dockerfile\nnotes.md\n")(folder.path());
    let told = after(&bench, &[], folder.path(), ignore("Dockerfile\n"), &[]);
    told.assert_cause(
        3,
        "COPY . .",
        "2 of 4 files differ: .dockerignore (content), notes.md (new)",
        "files",
    );
    // One that is gone is not told as ignored.
    let folder = project();
    let remove = |folder: &Path| fs::remove_file(folder.join("notes.md")).expect("a file");
    let told = after(&bench, &[], folder.path(), remove, &[]);
    told.assert_cause(
        3,
        "COPY . .",
        "1 of 3 files differs: notes.md (removed)",
        "files",
    );
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn steps_that_were_asked_to_run_are_told_with_the_flag() {
    let bench = Bench::new();
    let folder = project();
    let told = after(&bench, &[], folder.path(), |_| {}, &["--no-cache"]);
    told.assert_cause(3, "COPY . .", "--no-cache was given", "asked");
    told.assert_causes(1);
    assert!(told.lines[2].starts_with("--no-cache"), "{told:#?}");
    assert!(
        told.lines[3].starts_with("3 steps follow from it: "),
        "{told:#?}"
    );
    let folder = project();
    edit(folder.path(), "FROM ", "FROM scratch AS other\nFROM ");
    let name = |folder: &Path| edit(folder, "busybox:latest\n", "busybox:latest AS app\n");
    name(folder.path());
    let filter = ["--no-cache-filter=app"];
    let told = after(&bench, &[], folder.path(), |_| {}, &filter);
    told.assert_cause(4, "COPY . .", "--no-cache-filter app was given", "asked");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn build_arguments_are_told_with_a_hint_only_where_it_helps() {
    let bench = Bench::new();
    let unused = "build argument COMMIT has another value; the command does not use it: declare ARG COMMIT below this step";
    let folder = project();
    let (one, two) = ("--build-arg=COMMIT=one", "--build-arg=COMMIT=two");
    let told = after(&bench, &[one], folder.path(), |_| {}, &[two]);
    told.assert_cause(7, "RUN echo", unused, "arg");
    told.assert_causes(1);

    // The first command that has it in its environment does not use it; without that one, the hint would be wrong.
    let folder = project();
    let first = fs::read_to_string(folder.path().join("Dockerfile")).expect("a file");
    let first = first.lines().nth(6).expect("a line").to_owned();
    edit(folder.path(), &format!("{first}\n"), "");
    let used = ["--build-arg=USED=2"];
    let told = after(&bench, &[], folder.path(), |_| {}, &used);
    told.assert_cause(
        7,
        "RUN echo",
        "build argument USED has another value",
        "arg",
    );
    assert!(
        !told.lines.iter().any(|line| line.contains("declare ARG")),
        "{told:#?}"
    );
    told.assert_causes(1);

    // Another default is an argument, too.
    let folder = project();
    let default = |folder: &Path| edit(folder, "USED=1", "USED=3");
    let told = after(&bench, &[], folder.path(), default, &[]);
    told.assert_cause(
        7,
        "RUN echo",
        "build argument USED has another value; the command does not use it",
        "arg",
    );
    // One that is not given any more, and one that is given for the first time.
    let folder = project();
    let told = after(&bench, &[one], folder.path(), |_| {}, &[]);
    told.assert_cause(7, "RUN echo", "build argument COMMIT is gone", "arg");
    assert!(
        !told.lines.iter().any(|line| line.contains("declare ARG")),
        "{told:#?}"
    );
    let folder = project();
    let told = after(&bench, &[], folder.path(), |_| {}, &[one]);
    told.assert_cause(
        7,
        "RUN echo",
        "build argument COMMIT is new; the command does not use it: declare ARG COMMIT below this step",
        "arg",
    );
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn environment_variables_are_told_however_they_differ() {
    let bench = Bench::new();
    for (to, words) in [
        (
            "MODE=slow OTHER=x",
            "environment variable MODE has another value",
        ),
        (
            "MODE=fast OTHER=x MORE=1",
            "environment variable MORE is new",
        ),
        ("MODE=fast", "environment variable OTHER is gone"),
        (
            "OTHER=x MODE=fast",
            "the same environment variables are set in another order",
        ),
    ] {
        let folder = project();
        let change = |folder: &Path| edit(folder, "MODE=fast OTHER=x", to);
        let told = after(&bench, &[], folder.path(), change, &[]);
        told.assert_cause(7, "RUN echo", words, "env");
        told.assert_causes(1);
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn options_of_a_command_are_told_by_name() {
    let bench = Bench::new();
    for (from, to, line, words, code) in [
        (
            "RUN ls >",
            "RUN --network=none ls >",
            9,
            "its network mode (--network) differs",
            "options",
        ),
        (
            "RUN ls >",
            "RUN --mount=type=tmpfs,target=/t ls >",
            9,
            "its mounts differ",
            "mounts",
        ),
        (
            "RUN ls >",
            "USER root\nRUN ls >",
            10,
            "its user (USER) differs",
            "options",
        ),
        (
            "COPY .",
            "COPY --chown=1:1 .",
            3,
            "its text in the Dockerfile differs",
            "command",
        ),
        // All that is below it follows.
        (
            "WORKDIR /w",
            "WORKDIR /v",
            2,
            "its text in the Dockerfile differs",
            "command",
        ),
    ] {
        let folder = project();
        let told = after(
            &bench,
            &[],
            folder.path(),
            |folder| edit(folder, from, to),
            &[],
        );
        told.assert_cause(line, "", words, code);
        told.assert_causes(1);
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_new_step_is_told_from_one_that_moved_and_has_other_mounts() {
    let bench = Bench::new();
    let folder = project();
    let change = |folder: &Path| {
        let more = "RUN echo more\nRUN --mount=type=cache,target=/t ls >";
        edit(folder, "RUN ls >", more);
    };
    let told = after(&bench, &[], folder.path(), change, &[]);
    let new = "not in the cache: no earlier build had a step like it";
    told.assert_cause(9, "RUN echo more", new, "new");
    told.assert_cause(10, "ls", "its mounts differ", "mounts");
    told.assert_causes(2);
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_time_for_all_files_is_told() {
    let bench = Bench::new();
    let epoch = ["--build-arg=SOURCE_DATE_EPOCH=1700000000"];
    let folder = project();
    let told = after(&bench, &[], folder.path(), |_| {}, &epoch);
    told.assert_cause(2, "WORKDIR /w", "SOURCE_DATE_EPOCH differs", "timestamp");
    told.assert_causes(1);
    // From one to another.
    let folder = project();
    let other = ["--build-arg=SOURCE_DATE_EPOCH=1700000001"];
    let told = after(&bench, &epoch, folder.path(), |_| {}, &other);
    told.assert_cause(2, "WORKDIR /w", "SOURCE_DATE_EPOCH differs", "timestamp");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn permissions_are_told_apart_from_contents() {
    let bench = Bench::new();
    let folder = project();
    let change = |folder: &Path| set_mode(&folder.join("src/a.ts"), 0o664);
    let told = after(&bench, &[], folder.path(), change, &[]);
    told.assert_cause(
        3,
        "COPY . .",
        "1 of 4 files differs only in its permissions: src/a.ts (0664, was 0644); --context-mode=git ignores that",
        "permissions",
    );
    let folder = project();
    let change = |folder: &Path| {
        for file in ["src/a.ts", "src/b.ts"] {
            set_mode(&folder.join(file), 0o755);
        }
        fs::write(folder.join("src/new.ts"), "new").expect("a file");
    };
    let told = after(&bench, &[], folder.path(), change, &[]);
    told.assert_cause(
        3,
        "COPY . .",
        "1 of 5 files differs: src/new.ts (new)",
        "files",
    );
    assert!(
        told.lines.contains(
            &"2 of 5 files differ only in their permissions, such as src/a.ts (0755, was 0644)"
                .to_owned()
        ),
        "{told:#?}"
    );
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_cache_of_another_platform_is_told_in_a_build() {
    let bench = Bench::new();
    let folder = project();
    let before = ["--platform=linux/386"];
    let told = after(
        &bench,
        &before,
        folder.path(),
        |_| {},
        &["--platform=linux/amd64"],
    );
    told.assert_cause(
        7,
        "RUN echo",
        "the cache has this step for linux/386 only",
        "platform",
    );
    told.assert_causes(1);
}
