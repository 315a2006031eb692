//! What is told with the record that the cache carries.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bollard_buildkit_proto::pb::file_action::Action;
use bollard_buildkit_proto::pb::{
    FileAction, FileActionMkFile, FileOp, Mount, MountType, TmpfsOpt, op,
};

use super::builds::{Setup, facts, usual};
use crate::cache::keys::compare::{Comparison, Fate, forecast};
use crate::cache::keys::testing::*;
use crate::cache::keys::{Keys, Plan};
use crate::cache::record::observe::Observed;
use crate::cache::record::{Detail, Record};
use crate::explain::phrase::Length;
use crate::explain::recorded::Recorded;
use crate::explain::*;

/// The record that a build leaves behind.
fn record(setup: &Setup) -> Record {
    let observed = Observed {
        definitions: BTreeMap::from([("linux/amd64".to_owned(), setup.definition())]),
        commit: Some("4f2a91c0ffee".to_owned()),
        trees: BTreeMap::from([("context".to_owned(), Arc::new(setup.tree()))]),
        ..Observed::default()
    };
    observed.record(Detail::Full, None, false)
}

/// Returns the lines under a build, but for the header, without what follows.
fn told(now: &Setup, before: &Setup, record: &Record, arguments: &[&str]) -> String {
    let lines = lines(now, before, record, arguments);
    let lines = lines.iter().skip(1).filter(|line| !line.contains("follow"));
    lines.map(|line| line.trim()).collect::<Vec<_>>().join("\n")
}

/// Returns the lines under a build.
fn lines(now: &Setup, before: &Setup, record: &Record, arguments: &[&str]) -> Vec<String> {
    let (plan, tree) = (Plan::of([&now.definition()]), now.tree());
    let facts = facts(&tree);
    let keys = Keys::of(&plan, &facts);
    let config = before.cache(|_| true);
    let comparison = Comparison::new(&plan, &keys, &config, &HashSet::new());
    let mut fates = forecast(&plan, std::slice::from_ref(&comparison));
    for fate in fates
        .iter_mut()
        .filter(|fate| now.is_unlike && **fate == Fate::Perhaps)
    {
        *fate = Fate::Runs;
    }
    let outcomes = Outcomes::of_forecast(&fates);
    let caches = [Cache {
        name: "r.io/cache:main".to_owned(),
        age: None,
        commit: None,
        config: &config,
        comparison,
    }];
    let arguments: Vec<String> = arguments.iter().map(|name| (*name).to_owned()).collect();
    let build = Build {
        plan: &plan,
        keys: &keys,
        facts: &facts,
        outcomes: &outcomes,
        caches: &caches,
        asked: None,
        arguments: &arguments,
        own: &now.own,
    };
    let recorded = Recorded::new(record, &build);
    let diagnosis = diagnose(&build, &recorded);
    render::lines(&diagnosis, &caches, Length::Short)
}

fn against(now: &Setup, before: &Setup) -> String {
    told(now, before, &record(before), &["COMMIT_SHA"])
}

fn with_files(files: &[(&'static str, &'static str)]) -> Setup {
    let mut setup = usual();
    setup.files = vec![("package.json", "{}"), ("src/", ""), ("src/server.ts", "1")];
    setup.files.extend(files);
    setup
}

/// A build of these steps, each on the one before: a name and what it does. Their text is this Dockerfile, of which each
/// has a line.
fn of_steps(dockerfile: &str, steps: &[(&str, op::Op)]) -> Setup {
    let mut maker = Maker::default();
    let context = maker.add("[internal] load", source("local://context"), &[]);
    let mut last = maker.add("[1/9] FROM debian", image(BASE), &[]);
    for ((name, op), line) in steps.iter().zip(2..) {
        let copies = matches!(op, op::Op::File(_));
        let inputs: &[&str] = if copies { &[&last, &context] } else { &[&last] };
        last = maker.add(name, op.clone(), inputs);
        maker.at(&last, line);
    }
    let mut definition = maker.end(&last);
    let source = definition.source.get_or_insert_default();
    for info in &mut source.infos {
        info.data = dockerfile.into();
    }
    // What a heredoc holds belongs to its instruction.
    let end = i32::try_from(dockerfile.lines().count()).unwrap();
    let locations = source.locations.values_mut().flat_map(|l| &mut l.locations);
    for range in locations.flat_map(|location| &mut location.ranges) {
        if let Some(position) = range.end.as_mut().filter(|_| dockerfile.contains("<<")) {
            position.line = end;
        }
    }
    let mut setup = usual();
    setup.other = Some(definition);
    setup.files = ["a", "b", "a-x", "b-x"].map(|name| (name, name)).to_vec();
    setup
}

fn mounted(dest: &str) -> op::Op {
    let mount = Mount {
        input: -1,
        dest: dest.to_owned(),
        output: -1,
        mount_type: MountType::Tmpfs.into(),
        tmpfs_opt: Some(TmpfsOpt::default()),
        ..Mount::default()
    };
    run("make", &[], vec![mount])
}

#[test]
fn a_step_with_the_same_command_is_found_wherever_it_stood() {
    let plain = || run("make", &[], Vec::new());
    let user = |user: &str| {
        let op::Op::Exec(mut exec) = plain() else {
            unreachable!("a command")
        };
        exec.meta.get_or_insert_default().user = user.to_owned();
        op::Op::Exec(exec)
    };
    let other = || run("other", &[], Vec::new());
    let (mounts, user_differs) = ("its mounts differ", "its user (USER) differs");
    for (before, now, words) in [
        (
            ("[2/2] RUN make", plain()),
            ("[2/2] RUN --mount=type=tmpfs,target=/t make", mounted("/t")),
            mounts,
        ),
        // A step was added, and so the numbers are others.
        (
            ("[2/2] RUN make", plain()),
            ("[3/3] RUN --mount=type=tmpfs,target=/t make", mounted("/t")),
            mounts,
        ),
        (
            ("[2/2] RUN make", mounted("/a")),
            ("[linux/amd64 3/3] RUN make", mounted("/b")),
            mounts,
        ),
        // The stage has another name.
        (
            ("[build 2/2] RUN make", plain()),
            ("[builder 2/2] RUN make", user("me")),
            user_differs,
        ),
        (
            ("[build 2/2] RUN make", plain()),
            ("[builder 2/2] RUN other", other()),
            "not in the cache: no earlier build had a step like it",
        ),
        (
            ("[build 2/2] RUN make", plain()),
            ("[build 3/3] RUN other", other()),
            "its command differs",
        ),
    ] {
        let (before, now) = (of_steps("", &[before]), of_steps("", &[now]));
        let told = against(&now, &before);
        assert!(told.ends_with(words), "{words}: {told}");
    }
}

#[test]
fn a_stage_with_another_name_is_known_by_a_step_that_is_the_same() {
    let of = |stage: &str, command: &str| {
        let names = ["2/3] RUN make", "3/3] RUN it"].map(|name| format!("[{stage} {name}"));
        let kept = run("make", &[], Vec::new());
        let changed = run(command, &[], Vec::new());
        of_steps("", &[(&names[0], kept), (&names[1], changed)])
    };
    let told = against(&of("builder", "test -v"), &of("build", "test"));
    assert!(told.ends_with("its command differs"), "{told}");
}

#[test]
fn the_variable_is_named_that_stands_in_a_copy() {
    let dockerfile = "FROM debian\nCOPY $FILE-x /\nARG FILE\n";
    let of = |dockerfile: &str, file: &str| {
        let name = format!("[2/2] COPY {file}-x /");
        of_steps(dockerfile, &[(&name, copy(&format!("/{file}-x"), "/"))])
    };
    let last = |now: &Setup, before: &Setup| {
        let told = against(now, before);
        told.lines().last().unwrap().to_owned()
    };
    let before = of(dockerfile, "a");
    let differs = "build argument FILE has another value";
    assert_eq!(last(&of(dockerfile, "b"), &before), differs);
    let env = dockerfile.replace("ARG FILE", "ENV FILE=b");
    let differs = "environment variable FILE has another value";
    assert_eq!(last(&of(&env, "b"), &before), differs);
    let other = dockerfile.replace("$FILE", "b");
    assert_eq!(
        last(&of(&other, "b"), &before),
        "its text in the Dockerfile differs"
    );
    let heredoc = |held: &str| {
        let dockerfile = format!("FROM debian\nCOPY <<E /\n{held}\nE\n");
        of_steps(&dockerfile, &[("[2/2] COPY <<E /", copy(held, "/"))])
    };
    assert_eq!(
        last(&heredoc("b"), &heredoc("a")),
        "its text in the Dockerfile differs"
    );
    let moved = |dest: &str| {
        of_steps(
            "FROM debian\nCOPY a .\n",
            &[("[2/2] COPY a .", copy("/a", dest))],
        )
    };
    let context = "its text is the same, but WORKDIR or a variable in it differs";
    assert_eq!(last(&moved("/b/"), &moved("/a/")), context);
    let syntax = of_steps(
        "# syntax=other:2\nCOPY a .\n",
        &[("[2/2] COPY a .", copy("/a", "/b/"))],
    );
    assert_eq!(
        last(
            &syntax,
            &of_steps(
                "# syntax=other:1\nCOPY a .\n",
                &[("[2/2] COPY a .", copy("/a", "/a/"))]
            )
        ),
        "the Dockerfile frontend moved from other:1 to other:2"
    );
}

#[test]
fn what_a_heredoc_holds_is_told_with_the_copy_that_reads_it() {
    let of = |held: &str| {
        let mut maker = Maker::default();
        let base = maker.add("[1/2] FROM debian", image(BASE), &[]);
        let file = op::Op::File(FileOp {
            actions: vec![FileAction {
                input: -1,
                secondary_input: -1,
                output: 0,
                action: Some(Action::Mkfile(FileActionMkFile {
                    path: "/EOT".to_owned(),
                    mode: 0o644,
                    data: held.into(),
                    timestamp: -1,
                    ..FileActionMkFile::default()
                })),
            }],
        });
        let held = maker.add("[internal] preparing inline document", file, &[]);
        let copied = maker.add("[2/2] COPY <<EOT /", copy("EOT", "/"), &[&base, &held]);
        maker.at(&copied, 2);
        let mut setup = usual();
        setup.other = Some(maker.end(&copied));
        setup.is_unlike = true;
        setup
    };
    let (now, before) = (of("b"), of("a"));
    let lines = lines(&now, &before, &record(&before), &[]);
    let told: Vec<&str> = lines.iter().map(|line| line.trim()).collect();
    let expected = [
        "why 1 step ran (compared with r.io/cache:main):",
        "Dockerfile:2  [2/2] COPY <<EOT /",
        "the text of its heredoc differs, or a variable in it",
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_record_without_the_text_of_copies_says_what_it_can() {
    let of =
        |name: &str, dest: &str| of_steps("FROM debian\nCOPY a .\n", &[(name, copy("/a", dest))]);
    let told = |now: &Setup, before: &Setup| {
        let mut old = record(before);
        for step in old.builds.iter_mut().flat_map(|build| &mut build.steps) {
            step.args = None;
            step.env.clear();
        }
        told(now, before, &old, &[])
    };
    let (a, b) = (of("[2/2] COPY a .", "/a/"), of("[2/2] COPY a .", "/b/"));
    assert!(told(&b, &a).ends_with("but WORKDIR or a variable in it differs"));
    let b = of("[2/2] COPY b .", "/b/");
    assert!(told(&b, &a).ends_with("its text in the Dockerfile differs"));
}

#[test]
fn files_are_named() {
    let before = with_files(&[
        ("src/gone.ts", "x"),
        ("src/link", "->a"),
        ("src/thing", "x"),
    ]);
    let mut now = with_files(&[
        ("src/health.ts", "y"),
        ("src/link", "->b"),
        ("src/thing", "->x"),
    ]);
    now.files[2].1 = "2";
    assert_eq!(
        against(&now, &before),
        "Dockerfile:9  [build 4/6] COPY . .\n\
         5 of 5 files differ: src/gone.ts (removed), src/health.ts (new), src/link (content), \
         src/server.ts (content), src/thing (another type of file)"
    );
}

#[test]
fn empty_folders_are_named() {
    let before = with_files(&[("src/gone/", ""), ("src/kept/", "")]);
    let now = with_files(&[("src/kept/", ""), ("src/new/", "")]);
    assert_eq!(
        against(&now, &before),
        "Dockerfile:9  [build 4/6] COPY . .\n\
         2 of 4 files differ: src/gone/ (removed), src/new/ (new)"
    );
}

#[test]
fn only_the_files_that_the_step_reads_are_named() {
    let mut now = with_files(&[]);
    now.files[0].1 = "{1}";
    now.files[2].1 = "2";
    assert_eq!(
        against(&now, &usual()),
        "Dockerfile:4  [build 2/6] COPY package.json ./\n\
         1 of 1 file differs: package.json (content)\n\
         Dockerfile:9  [build 4/6] COPY . .\n\
         2 of 2 files differ: package.json (content), src/server.ts (content)"
    );
}

#[test]
fn a_dockerfile_that_is_copied_is_told() {
    let before = with_files(&[("Dockerfile", "FROM a")]);
    let now = with_files(&[("Dockerfile", "FROM b")]);
    assert_eq!(
        against(&now, &before),
        "Dockerfile:9  [build 4/6] COPY . .\n\
         1 of 3 files differs: Dockerfile (content); it is copied too: list it in .dockerignore"
    );
    // Another Dockerfile is a file as any.
    let mut now = now;
    now.own.dockerfile = Some("docker/Dockerfile".to_owned());
    assert!(against(&now, &before).ends_with("Dockerfile (content)"));
}

#[test]
fn variables_are_named() {
    let mut before = usual();
    before.env.push("COMMIT_SHA=1");
    let mut now = usual();
    now.env.push("COMMIT_SHA=2");
    assert_eq!(
        against(&now, &before),
        "Dockerfile:5  [build 3/6] RUN npm ci\n\
         build argument COMMIT_SHA has another value; the command does not use it: declare ARG COMMIT_SHA \
         below this step"
    );
    assert_eq!(
        told(&now, &before, &record(&before), &[]),
        "Dockerfile:5  [build 3/6] RUN npm ci\nenvironment variable COMMIT_SHA has another value"
    );
}

#[test]
fn a_command_is_told_from_a_new_step() {
    let mut now = usual();
    now.install = "npm install";
    assert_eq!(
        against(&now, &usual()),
        "Dockerfile:5  [build 3/6] RUN npm ci\nits command differs"
    );
}

#[test]
fn an_image_has_moved_from_one_digest_to_another() {
    let mut now = usual();
    now.base = crate::digest::Digest::of(b"moved").to_string();
    let to: String = now.base.chars().take(11).collect();
    let from: String = usual().base.chars().take(11).collect();
    let told = against(&now, &usual());
    assert_eq!(
        told,
        "Dockerfile:1  [build 1/6] FROM docker.io/library/node:22-slim"
    );
    let before = usual();
    let line = lines(&now, &before, &record(&before), &[]).join("\n");
    assert!(
        line.contains(&format!("base image moved from {from}… to {to}…")),
        "{line}"
    );
}

#[test]
fn a_record_that_does_not_help_changes_nothing() {
    let mut now = usual();
    now.files[2].1 = "2";
    let rough = "Dockerfile:9  [build 4/6] COPY . .\nfiles that it reads differ";
    let mut foreign = record(&usual());
    for set in &mut foreign.sets {
        set.truncated = true;
    }
    assert_eq!(told(&now, &usual(), &foreign, &[]), rough);
    let mut foreign = record(&usual());
    foreign.builds[0].sets.insert("context".to_owned(), 99);
    assert_eq!(told(&now, &usual(), &foreign, &[]), rough);
    let mut foreign = record(&usual());
    foreign.sets[0].files[0].0 = 7;
    assert_eq!(told(&now, &usual(), &foreign, &[]), rough);
}

#[test]
fn names_of_a_record_cannot_steer_a_terminal() {
    let mut now = usual();
    now.files[2].1 = "2";
    let mut hostile = record(&usual());
    hostile.sets[0].files[0].1 = "\u{1b}[2J\nevil".to_owned();
    let told = told(&now, &usual(), &hostile, &[]);
    assert!(
        !told.contains('\u{1b}') && told.lines().count() == 2,
        "{told:?}"
    );
}
