//! `--cache REPO`: caches by branch and pull request.

use std::path::Path;
use std::process::Command;
use std::sync::Weak;

use parking_lot::Mutex;
use tempfile::TempDir;

use crate::support::bench::{Bench, Shared, assert_all_cached};
use crate::support::counter::Counter;
use crate::support::rig::{Rig, context, text, unique};
use crate::support::scripted_registry::{Fault, ScriptedRegistry};

static SHARED: Shared = Mutex::new(Weak::new());

/// Variables of a build that a CI may have set where the tests run.
const OTHERS: [&str; 6] = [
    "CI",
    "GITHUB_ACTIONS",
    "GITHUB_REF",
    "GITHUB_EVENT_NAME",
    "GITHUB_EVENT_PATH",
    "GITLAB_CI",
];

/// A repository of the rig's registry that no other test has.
pub(crate) struct Place {
    /// Its path.
    pub(crate) name: String,
    /// The same with the registry.
    pub(crate) cache: String,
    /// The flag of a build that has its caches there.
    pub(crate) flag: String,
}

impl Place {
    pub(crate) fn new(what: &str) -> Self {
        let name = unique(what);
        let cache = format!("{}/{name}", Rig::get().registry.host());
        let flag = format!("--cache={cache}");
        Self { name, cache, flag }
    }
}

/// A folder whose first step is as `base` says and whose last one is as `last` says.
pub(crate) fn project(base: &str, last: &str) -> TempDir {
    let dockerfile = format!(
        "FROM {}\nRUN echo {base} > /base\nCOPY last /last\nRUN cat /last > /made\n",
        Rig::get().busybox
    );
    context(&[("Dockerfile", &dockerfile), ("last", last)])
}

pub(crate) fn command(
    bench: &Bench,
    vars: &[(&str, &str)],
    args: &[&str],
    folder: &Path,
) -> Command {
    let mut command = bench.command("cachex", args, folder);
    for name in OTHERS {
        command.env_remove(name);
    }
    command.env("CACHEX_DEFAULT_BRANCH", "main");
    command.envs(vars.iter().copied());
    command
}

/// Builds with these variables, and gives the progress.
pub(crate) fn build(bench: &Bench, vars: &[(&str, &str)], args: &[&str], folder: &Path) -> String {
    let output = command(bench, vars, args, folder).output().expect("docker");
    let progress = text(&output.stderr);
    assert!(output.status.success(), "{vars:?} {args:?}\n{progress}");
    progress
}

/// The digest of a scope.
pub(crate) fn digest(repository: &str, scope: &str) -> Option<String> {
    let manifest = Rig::get().registry.manifest(repository, scope)?;
    Some(manifest.digest)
}

pub(crate) fn assert_says(progress: &str, line: &str) {
    assert!(progress.contains(line), "{line:?} in\n{progress}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn pull_requests_read_their_base_and_write_their_own() {
    let bench = Bench::new();
    let counter = Counter::start();
    let Place { name, cache, flag } = Place::new("it/scope");
    let seed = unique("scope");
    // What is built, with the steps that run.
    let ran = |vars: &[(&str, &str)], folder: &TempDir| {
        bench.prune();
        let progress = build(&bench, vars, &[&flag], folder.path());
        let ran: Vec<String> = counter.take().into_keys().collect();
        (progress, ran.join(" "))
    };
    let project = |word: &str| {
        let dockerfile = format!(
            "FROM {}\nRUN echo {seed}; {}\nCOPY last /last\nRUN {} && cat /last > /made\n",
            Rig::get().busybox,
            counter.tell("base"),
            counter.tell("made"),
        );
        context(&[("Dockerfile", &dockerfile), ("last", word)])
    };
    let main = project("main");
    let branch = [("CACHEX_BRANCH", "main")];
    let (progress, all) = ran(&branch, &main);
    assert_eq!(all, "/base /made");
    let line = format!("cache {cache}: branch main → reads and writes b-main (none yet)");
    assert_says(&progress, &line);
    let line = format!("cache {cache}: found nothing to read; wrote b-main: ");
    assert_says(&progress, &line);
    let of_main = digest(&name, "b-main").expect("the branch's scope");

    // The pull request has what main has; only its own steps run.
    let pull = [("CACHEX_PR", "7"), ("CACHEX_BASE", "main")];
    let ours = project("pull");
    let (progress, own) = ran(&pull, &ours);
    assert_eq!(own, "/made");
    assert_says(
        &progress,
        "pull request 7 → reads pr-7 (none yet), b-main (",
    );
    assert_says(&progress, "; writes pr-7");
    assert_says(&progress, "read b-main; wrote pr-7: ");
    assert_eq!(digest(&name, "b-main"), Some(of_main), "untouched");

    // The second push finds the first.
    let (progress, none) = ran(&pull, &ours);
    assert_eq!(none, "");
    assert_says(&progress, "read pr-7, b-main; pr-7 was up to date");

    // A queue builds the same for the branch, and does not trust it; a fork neither.
    let queue = [
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_EVENT_NAME", "merge_group"),
        ("GITHUB_REF", "refs/heads/gh-readonly-queue/main/pr-7-0123"),
    ];
    let fork = [
        ("JENKINS_URL", "https://ci.example.com"),
        ("CHANGE_ID", "7"),
        ("CHANGE_TARGET", "main"),
        ("CHANGE_FORK", "someone"),
    ];
    for (vars, what) in [
        (&queue[..], "merge queue of main → reads b-main ("),
        (&fork[..], "pull request 7 of a fork → reads b-main ("),
    ] {
        let (progress, own) = ran(vars, &ours);
        assert_eq!(own, "/made", "{what}");
        assert_says(&progress, what);
        assert!(!progress.contains("pr-7"), "{progress}");
    }

    // Main after the merge neither.
    let (progress, own) = ran(&branch, &ours);
    assert_eq!(own, "/made");
    assert!(!progress.contains("pr-7"), "{progress}");

    // What main wrote is one cache, and docker buildx reads it.
    for folder in [&main, &ours] {
        bench.prune();
        let from = format!("--cache-from=type=registry,ref={cache}:b-main");
        bench.build("buildx", &[&from], folder.path());
        assert!(counter.take().is_empty(), "a step ran");
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn the_variable_is_the_flag_of_every_build() {
    let bench = Bench::shared(&SHARED);
    let Place { name, cache, .. } = Place::new("it/scope");
    let folder = project(&unique("variable"), "x");
    let vars = [
        ("CACHEX_CACHE", cache.as_str()),
        ("CACHEX_BRANCH", "feature/login"),
    ];
    let progress = build(&bench, &vars, &["--cache=off"], folder.path());
    assert!(!progress.contains(&cache), "{progress}");
    let scope = "b-feature-login-df7c7aeb";
    let own = format!("--cache-to=type=registry,ref={cache}:own");
    let progress = build(&bench, &vars, &[&own], folder.path());
    assert_says(&progress, "writes nothing (--cache-to is given)");
    assert!(digest(&name, "own").is_some() && digest(&name, scope).is_none());
    let progress = build(&bench, &vars, &[], folder.path());
    assert_says(&progress, &format!("writes {scope}"));
    assert!(digest(&name, scope).is_some());
    // Outside of a CI nothing is written unless the user says so.
    let Place { cache, .. } = Place::new("it/scope");
    let progress = build(&bench, &[("CACHEX_CACHE", &cache)], &[], folder.path());
    assert_says(&progress, "writes nothing (not in CI; write=true does)");
    let output = command(&bench, &[], &["--cache", "r.io/c,scpe=x"], folder.path()).output();
    let error = text(&output.expect("docker").stderr);
    assert_says(&error, "invalid --cache: ");
    assert_says(&error, "did you mean \"scope\"?");
    // Nothing of it is in what programs read.
    for arg in ["--progress=rawjson", "--progress=quiet"] {
        let output = command(&bench, &vars, &[arg], folder.path()).output();
        let output = output.expect("docker");
        assert!(output.status.success(), "{}", text(&output.stderr));
        let stdout = text(&output.stdout);
        assert!(!stdout.contains("cache "), "{arg}: {stdout}");
        let lines = text(&output.stderr);
        let plain = lines.lines().filter(|line| line.starts_with("cache "));
        assert_eq!(plain.count(), 0, "{arg}: {lines}");
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn jobs_of_a_pull_request_at_the_same_time_are_both_kept() {
    let bench = Bench::shared(&SHARED);
    let Place { flag, .. } = Place::new("it/scope");
    let projects = ["one", "two"].map(|word| project(&unique("jobs"), word));
    let vars = [("CACHEX_PR", "9"), ("CACHEX_BASE", "main")];
    std::thread::scope(|scope| {
        for folder in &projects {
            scope.spawn(|| build(&bench, &vars, &[&flag], folder.path()));
        }
    });
    let fresh = Bench::new();
    for folder in &projects {
        assert_all_cached(&build(&fresh, &vars, &[&flag], folder.path()), 3);
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn jobs_for_two_platforms_at_the_same_time_are_both_kept() {
    let benches = [Bench::new(), Bench::new()];
    let name = unique("it/platforms");
    let flag = format!("--cache={}/{name}", Rig::get().registry.host());
    let dockerfile = "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /file\nCOPY both /both\n";
    let seed = unique("platforms");
    let folder = context(&[
        ("Dockerfile", dockerfile),
        ("amd64", &seed),
        ("arm64", &seed),
        ("both", &seed),
    ]);
    let vars = [("CACHEX_PR", "4"), ("CACHEX_BASE", "main")];
    let platforms = ["linux/amd64", "linux/arm64"];
    std::thread::scope(|scope| {
        for (bench, platform) in benches.iter().zip(platforms) {
            let args = [flag.as_str(), "--platform", platform];
            let folder = folder.path();
            scope.spawn(move || build(bench, &vars, &args, folder));
        }
    });
    benches[0].prune();
    let both = platforms.join(",");
    let args = [flag.as_str(), "--platform", both.as_str()];
    let progress = build(&benches[0], &vars, &args, folder.path());
    assert_all_cached(&progress, 4);
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn what_a_build_has_just_used_is_not_too_old() {
    let bench = Bench::new();
    let Place { cache, .. } = Place::new("it/used");
    let flag = format!("--cache={cache},max-age=1s");
    let vars = [("CACHEX_BRANCH", "main")];
    let folder = project(&unique("used"), "x");
    build(&bench, &vars, &[&flag], folder.path());
    for _ in 0..2 {
        // All of it is too old by now, but for the build that uses it.
        std::thread::sleep(std::time::Duration::from_millis(1500));
        bench.prune();
        assert_all_cached(&build(&bench, &vars, &[&flag], folder.path()), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the test rig: scripts/test"]
async fn a_login_that_may_not_push_costs_a_remark() {
    let bench = Bench::shared(&SHARED);
    let registry = ScriptedRegistry::start().await;
    let refused = Fault::Status(403, Vec::new(), "{}");
    registry.fault("POST", "/blobs/uploads/", (0, usize::MAX), refused);
    let cache = format!("{}/team/cache", registry.host());
    let folder = project(&unique("refused"), "x");
    let plain = format!("--cache-to=type=registry,ref={cache}:c,mode=max,ignore-error=true");
    let scoped = format!("--cache={cache}");
    for flag in [&scoped, &plain] {
        let vars = [("CACHEX_BRANCH", "main")];
        let progress = build(&bench, &vars, &[flag], folder.path());
        let remarks = progress
            .matches("is not written, the login may not push")
            .count();
        assert_eq!(remarks, 1, "{progress}");
        assert!(!progress.contains("exporting cache"), "{progress}");
    }
    // Only the question was asked, and no layer was sent.
    let sent = registry.seen().into_iter().filter(|seen| seen.body > 0);
    assert_eq!(sent.count(), 0);
}
