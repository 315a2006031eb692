//! `--cache REPO`: what the last line says came of it, and what is sent again or tried again.

use std::net::TcpListener;
use std::sync::Weak;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;

use crate::scope::{Place, assert_says, build, command, project};
use crate::support::bench::{Bench, Shared};
use crate::support::rig::{Rig, context, text, unique};
use crate::support::scripted_registry::{Fault, ScriptedRegistry};

static SHARED: Shared = Mutex::new(Weak::new());

const MAIN: [(&str, &str); 1] = [("CACHEX_BRANCH", "main")];
const PULL: [(&str, &str); 2] = [("CACHEX_PR", "7"), ("CACHEX_BASE", "main")];

/// The last line about a cache.
fn last(progress: &str, cache: &str) -> String {
    let start = format!("cache {cache}: ");
    let mut lines = progress.lines().filter(|line| line.starts_with(&start));
    lines.next_back().expect("a line").replace(&start, "")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the test rig: scripts/test"]
async fn layers_of_another_scope_are_not_sent_again() {
    let bench = Bench::new();
    let registry = ScriptedRegistry::start().await;
    let cache = format!("{}/team/cache", registry.host());
    let flag = format!("--cache={cache}");
    let seed = unique("again");
    let folder = |last: &str| {
        let base = &Rig::get().busybox;
        let fill = "head -c 400000 /dev/urandom";
        let dockerfile = format!(
            "FROM {base}\nRUN echo {seed}; {fill} > /base\nCOPY last /last\nRUN cat /last > /made\n"
        );
        context(&[("Dockerfile", &dockerfile), ("last", last)])
    };
    build(&bench, &MAIN, &[&flag], folder("main").path());
    let sent = || -> usize {
        let writes = registry
            .seen()
            .into_iter()
            .filter(|seen| seen.method != "GET");
        writes.map(|seen| seen.body).sum()
    };
    let of_main = sent();
    assert!(of_main > 400_000, "{of_main}");
    // On the builder that has the layers, and on one that has them from the other scope alone.
    for (at, prune) in [(7, false), (8, true)] {
        if prune {
            bench.prune();
        }
        let before = sent();
        let number = at.to_string();
        let vars = [("CACHEX_PR", number.as_str()), ("CACHEX_BASE", "main")];
        let progress = build(&bench, &vars, &[&flag], folder(&number).path());
        let ours = sent() - before;
        assert!(ours < 100_000, "{ours} bytes were sent: {progress}");
        let told = last(&progress, &cache);
        assert!(
            told.starts_with(&format!("read b-main; wrote pr-{at}: ")),
            "{told}"
        );
        let told = told.rsplit(", ").next().expect("a figure");
        assert!(told.ends_with("B sent") && !told.contains("MB"), "{told}");
    }
    // The scope is whole without the other one.
    bench.prune();
    let from = format!("--cache-from=type=registry,ref={cache}:pr-8");
    let progress = bench.build("buildx", &[&from], folder("8").path());
    crate::support::bench::assert_all_cached(&progress, 3);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the test rig: scripts/test"]
async fn the_last_line_names_what_was_not_read() {
    let bench = Bench::shared(&SHARED);
    let registry = ScriptedRegistry::start().await;
    let cache = format!("{}/team/cache", registry.host());
    let flag = format!("--cache={cache}");
    let folder = project(&unique("unread"), "x");
    build(&bench, &MAIN, &[&flag], folder.path());
    let refused = Fault::Status(403, Vec::new(), r#"{"errors":[{"code":"DENIED"}]}"#);
    registry.fault("GET", "/manifests/b-main", (0, usize::MAX), refused.clone());
    registry.fault("HEAD", "/manifests/b-main", (0, usize::MAX), refused);
    let progress = build(&bench, &PULL, &[&flag], folder.path());
    assert!(
        last(&progress, &cache).starts_with("could not read b-main; wrote pr-7: "),
        "{progress}"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the test rig: scripts/test"]
async fn a_build_that_fails_says_what_came_of_its_caches() {
    let bench = Bench::shared(&SHARED);
    let registry = ScriptedRegistry::start().await;
    let cache = format!("{}/team/cache", registry.host());
    let flag = format!("--cache={cache}");
    let dockerfile = |seed: &str| {
        format!(
            "FROM {}\nRUN echo {seed} > /base\nRUN test -z {seed}\n",
            Rig::get().busybox
        )
    };
    let fails = |flag: &str| {
        let folder = context(&[("Dockerfile", &dockerfile(&unique("fails")))]);
        let output = command(&bench, &MAIN, &[flag], folder.path()).output();
        let output = output.expect("docker");
        assert_eq!(output.status.code(), Some(1));
        text(&output.stderr)
    };
    let progress = fails(&flag);
    assert!(
        last(&progress, &cache)
            .starts_with("found nothing to read; wrote b-main, what had finished: "),
        "{progress}"
    );
    assert!(registry.manifest("team/cache", "b-main").is_some());
    let progress = fails(&format!("{flag},on-failure=skip"));
    assert_eq!(
        last(&progress, &cache),
        "read b-main; wrote nothing",
        "{progress}"
    );
    // One that does not come to its steps.
    let folder = context(&[("Dockerfile", "FRM x\n")]);
    let output = command(&bench, &MAIN, &[&flag], folder.path()).output();
    let progress = text(&output.expect("docker").stderr);
    let told = last(&progress, &cache);
    assert!(told.ends_with("wrote nothing"), "{progress}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_registry_that_is_not_there_is_not_asked_again_and_again() {
    let bench = Bench::shared(&SHARED);
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let dead = free.local_addr().expect("an address");
    drop(free);
    let folder = project(&unique("dead"), "x");
    for host in [dead.to_string(), "registry.invalid".to_owned()] {
        let cache = format!("{host}/team/cache");
        let scoped = build(&bench, &MAIN, &[&format!("--cache={cache}")], folder.path());
        assert_eq!(
            last(&scoped, &cache),
            "could not read b-main; could not write b-main",
            "{scoped}"
        );
        // Without a cache to read nothing has been asked before, and the error is the build's.
        let to = format!("--cache-to=type=registry,ref={cache}:c,mode=max,via=client");
        let output = command(&bench, &[], &[&to], folder.path()).output();
        let plain = output.expect("docker");
        assert_eq!(plain.status.code(), Some(1), "{}", text(&plain.stderr));
        let plain = text(&plain.stderr);
        assert_says(&plain, "cannot connect");
        for progress in [&scoped, &plain] {
            for attempts in 5..=8 {
                let said = format!("gave up after {attempts} attempts");
                assert!(!progress.contains(&said), "{progress}");
            }
        }
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn values_that_mean_nothing_are_errors() {
    let bench = Bench::shared(&SHARED);
    let folder = project("values", "x");
    let fails = |vars: &[(&str, &str)], flag: &str| {
        let output = command(&bench, vars, &[flag], folder.path()).output();
        let output = output.expect("docker");
        assert!(!output.status.success(), "{vars:?} {flag}");
        text(&output.stderr)
    };
    for (flag, expected) in [
        ("--cache=off,write=true", "takes no keys"),
        ("--cache=cache", "no place of yours"),
        ("--cache=r.io/c,scope=", "scope names no scope"),
        ("--cache=r.io/c,also=", "also names no scope"),
        (
            "--cache=r.io/c,via=builder,merge=true",
            "merge=true needs via=client",
        ),
        ("--cache=r.io/c,via=builder,max-age=1h", "need via=client"),
    ] {
        assert_says(&fails(&MAIN, flag), expected);
    }
    for value in ["12/merge", "0"] {
        let error = fails(&[("CACHEX_PR", value)], "--cache=r.io/c");
        assert_says(
            &error,
            &format!("CACHEX_PR={value:?} is not the number of a pull request"),
        );
    }
    let progress = build(&bench, &MAIN, &["--cache=false"], folder.path());
    assert!(!progress.contains("cache false"), "{progress}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn what_is_not_there_yet_is_nothing_to_warn_of() {
    let bench = Bench::shared(&SHARED);
    let Place { cache, flag, .. } = Place::new("it/explain");
    let folder = project(&unique("explain"), "x");
    build(&bench, &MAIN, &[&flag], folder.path());
    let explain = |args: &[&str]| {
        let mut command = bench.client.command(&["cachex", "cache", "explain"]);
        command.args(args).arg(folder.path()).envs(PULL);
        let output = command.output().expect("docker");
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    let said = explain(&[&flag]);
    assert!(!said.contains("cannot read the cache"), "{said}");
    // One that the user names is.
    let named = format!("--cache-from=type=registry,ref={cache}:none");
    let said = explain(&[&flag, &named]);
    assert_says(
        &said,
        &format!("cannot read the cache {cache}:none: it does not exist"),
    );
    assert!(!said.contains("pr-7"), "{said}");
}

/// A time in whole seconds.
fn seconds(time: &Value) -> String {
    let time = time.as_str().expect("a time");
    time[.."2026-01-02T03:04:05".len()].to_owned()
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn ages_are_those_of_the_last_write() {
    let bench = Bench::new();
    let registry = &Rig::get().registry;
    let Place { name, cache, flag } = Place::new("it/age");
    let seed = unique("age");
    let written = || {
        let manifest = registry.manifest(&name, "b-main").expect("a scope");
        let written = &manifest.json["annotations"]["dev.docker-cachex.written"];
        seconds(written)
    };
    build(&bench, &MAIN, &[&flag], project(&seed, "x").path());
    let first = written();
    let last_used = || {
        let ls = ["cachex", "cache", "ls", &cache, "--format=json"];
        let json = bench.client.docker_ok(&ls).0;
        let json: Value = serde_json::from_str(json.lines().next().expect("a line")).expect("JSON");
        seconds(&json["LastUsed"])
    };
    assert!(last_used() >= first);
    // A later write that makes nothing new of what is old.
    std::thread::sleep(Duration::from_millis(1100));
    build(&bench, &MAIN, &[&flag], project(&seed, "y").path());
    assert!(written() > first && last_used() >= written());
    let folder = project(&seed, "y");
    let progress = build(&bench, &PULL, &[&flag], folder.path());
    assert!(
        progress.contains(", b-main (") && !progress.contains("newest layer"),
        "{progress}"
    );
    // One that nobody has noted the time in.
    let to = format!("--cache-to=type=registry,ref={cache}:b-main,mode=max");
    bench.build("buildx", &[&to], folder.path());
    let progress = build(&bench, &PULL, &[&flag], folder.path());
    assert_says(&progress, ", b-main (newest layer ");
}
