//! The steps of caches: `cache tree` and `cache inspect` with a record, without one and with `--like`, and `cache diff`.

use std::collections::BTreeSet;
use std::path::Path;

use fs_err as fs;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::bench::Bench;
use crate::support::caches::{export, reference};
use crate::support::rig::{Rig, context, text, unique};

fn project(seed: &str) -> TempDir {
    let base = &Rig::get().busybox;
    let dockerfile = format!(
        "FROM {base} AS one\nARG WORD\nCOPY first.txt ./\nRUN echo {seed} $WORD > /said\n\
         FROM one AS two\nCOPY --link a.txt /\nRUN cat /a.txt > /read\n"
    );
    context(&[
        ("Dockerfile", &dockerfile),
        ("first.txt", "first"),
        ("a.txt", "a"),
    ])
}

/// Builds with this option of the cache, and returns where it is.
fn cache_of(bench: &Bench, folder: &Path, keys: &str) -> String {
    let reference = reference("tree");
    let to = export(&reference, keys);
    bench.build("cachex", &[&to, "--build-arg=WORD=x"], folder);
    reference
}

fn shown(bench: &Bench, args: &[&str]) -> String {
    let args = [&["cachex", "cache"], args].concat();
    bench.client.docker_ok(&args).0
}

fn json(bench: &Bench, args: &[&str]) -> Value {
    serde_json::from_str(&shown(bench, args)).expect("JSON")
}

/// The names in a list of objects.
fn names(list: &Value, key: &str) -> BTreeSet<String> {
    let list = list.as_array().expect("a list").iter();
    let names = list.filter_map(|one| one[key].as_str());
    names.map(str::to_owned).collect()
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn steps_have_names_from_the_record_or_from_a_build_like_it() {
    let bench = Bench::new();
    let folder = project(&unique("s"));
    let told = cache_of(&bench, folder.path(), "mode=max");
    let bare = cache_of(&bench, folder.path(), "mode=max,record=off");
    let with = json(&bench, &["tree", "--format=json", &told]);
    let expected = names(&with["steps"], "name");
    for name in [
        "[one 2/3] COPY first.txt ./",
        "[one 3/3] RUN echo",
        "[two 1/2] COPY --link a.txt /",
        "[two 2/2] RUN cat /a.txt > /read",
    ] {
        assert!(expected.iter().any(|n| n.starts_with(name)), "{with:#}");
    }
    let without = json(&bench, &["tree", "--format=json", &bare]);
    let unnamed = names(&without["steps"], "name");
    assert!(
        !unnamed.iter().any(|name| name.contains("RUN")),
        "{without:#}"
    );

    // The names of a build with the same arguments; the record is not needed.
    let path = folder.path().to_str().expect("UTF-8");
    let like = ["--like", path, "--build-arg", "WORD=x", "--target=two"];
    let args = [&["tree", "--format=json", &bare][..], &like].concat();
    let named = json(&bench, &args);
    assert_eq!(names(&named["steps"], "name"), expected, "{named:#}");
    let text = shown(&bench, &[&["tree", &bare][..], &like].concat());
    assert!(text.contains("[two 2/2] RUN cat"), "{text}");
    let args = [&["inspect", "--format=json", &bare][..], &like].concat();
    let layers = json(&bench, &args)["layers"].clone();
    let steps = names(&layers, "step");
    assert!(
        steps.iter().any(|step| step.starts_with("[one 3/3] RUN")),
        "{layers:#}"
    );
    // One with another argument has another step.
    let other = ["--like", path, "--build-arg=WORD=y"];
    let args = [&["tree", "--format=json", &bare][..], &other].concat();
    let named = names(&json(&bench, &args)["steps"], "name");
    assert!(!named.iter().any(|name| name.contains("[one 3/3]")));
    assert!(named.iter().any(|name| name.contains("[one 2/3]")));
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn arguments_that_are_none_of_a_build_are_refused() {
    let client = Rig::get().client();
    for (args, expected) in [
        (
            &["--like", ".", "--nonsense"][..],
            "unknown flag: --nonsense",
        ),
        (&["--like"], "flag needs an argument: --like"),
    ] {
        let args = [&["cachex", "cache", "tree", "./nowhere"], args].concat();
        let output = client.docker(&args);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{args:?}: {error}");
        assert!(error.contains(expected), "{args:?}: {error}");
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn caches_differ_in_the_steps_that_changed() {
    let bench = Bench::new();
    let folder = project(&unique("s"));
    let a = cache_of(&bench, folder.path(), "mode=max");
    let again = cache_of(&bench, folder.path(), "mode=max");
    fs::write(folder.path().join("a.txt"), "other").expect("a file");
    let b = cache_of(&bench, folder.path(), "mode=max");
    let diff = |one: &str, other: &str| json(&bench, &["diff", "--format=json", one, other]);
    let mut there = diff(&a, &b);
    let mut back = diff(&b, &a);
    let files = there["onlyB"]["steps"].to_string();
    assert!(files.contains(r#""files":["a.txt"]"#), "{there:#}");
    // The files are told where the changed one is.
    for side in ["onlyA", "onlyB"] {
        for steps in [&mut there[side]["steps"], &mut back[side]["steps"]] {
            for step in steps.as_array_mut().expect("steps") {
                step["files"] = Value::Null;
            }
        }
    }
    for side in [&there["onlyA"], &there["onlyB"]] {
        let names = names(&side["steps"], "name");
        assert!(!names.is_empty(), "{there:#}");
        for name in &names {
            let is_changed = name.contains("a.txt");
            assert!(is_changed, "{name}: {there:#}");
        }
    }
    assert_eq!(
        (&there["onlyA"], &there["onlyB"], &there["both"]),
        (&back["onlyB"], &back["onlyA"], &back["both"])
    );
    let diff = |one: &str, other: &str| {
        let args = ["cachex", "cache", "diff", "--exit-code", one, other];
        bench.client.docker(&args).status.code()
    };
    assert_eq!((diff(&a, &b), diff(&a, &again)), (Some(1), Some(0)));
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn names_of_steps_do_not_steer_the_terminal() {
    let bench = Bench::new();
    let base = &Rig::get().busybox;
    let seed = unique("s");
    let dockerfile = |last: &str| {
        format!(
            "FROM {base}\nRUN echo {seed} '\x1b[2J\x1b]0;title\x07\x1b[31mevil' > /a\nRUN echo {last} > /b\n"
        )
    };
    let folder = context(&[("Dockerfile", &dockerfile("one"))]);
    let cache = reference("tree");
    let to = export(&cache, "mode=max");
    bench.build("cachex", &[&to], folder.path());
    let path = folder.path().to_str().expect("UTF-8");
    for args in [
        &["tree", &cache][..],
        &["inspect", "--no-trunc", &cache],
        &["diff", &cache, &cache],
        &["tree", &cache, "--like", path],
    ] {
        let text = shown(&bench, args);
        assert!(!text.contains(['\x1b', '\x07']), "{args:?}: {text:?}");
    }
    let text = shown(&bench, &["tree", &cache]);
    assert!(text.contains("evil"), "{text}");
    // Nor in what is said of steps that ran.
    fs::write(
        folder.path().join("Dockerfile"),
        dockerfile("two").replace("evil", "worse"),
    )
    .expect("a file");
    bench.prune();
    let from = format!("--cache-from=type=registry,ref={cache}");
    let progress = bench.build("cachex", &[&from], folder.path());
    let told = progress
        .lines()
        .skip_while(|line| !line.starts_with("why "));
    let told: Vec<&str> = told.collect();
    assert!(told.iter().any(|line| line.contains("worse")), "{told:?}");
    assert!(
        !told.iter().any(|line| line.contains(['\x1b', '\x07'])),
        "{told:?}"
    );
}
