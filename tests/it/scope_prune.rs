//! The caches of a repository: shown, removed, and cleaned away.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Weak;

use parking_lot::Mutex;
use tempfile::TempDir;

use crate::scope::{Place, assert_says, build, command, digest, project};
use crate::support::bench::{Bench, Shared};
use crate::support::rig::{Rig, text, unique};
use crate::support::scripted_registry::{Fault, ScriptedRegistry};

static SHARED: Shared = Mutex::new(Weak::new());

const MAIN: [(&str, &str); 1] = [("CACHEX_BRANCH", "main")];

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn caches_of_a_repository_are_listed_and_removed_alone() {
    let bench = Bench::shared(&SHARED);
    let Place { name, cache, flag } = Place::new("it/house");
    let folder = project(&unique("house"), "x");
    for branch in ["main", "old"] {
        build(
            &bench,
            &[("CACHEX_BRANCH", branch)],
            &[&flag],
            folder.path(),
        );
    }
    // A second tag of the same manifest, and an image.
    let docker = |args: &[&str]| {
        let output = bench.client.docker(args);
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let of_main = digest(&name, "b-main").expect("a scope");
    let copy = format!("{cache}:copy");
    tag(&cache, "b-main", "copy");
    bench.build(
        "cachex",
        &["--push", "-t", &format!("{cache}:image")],
        folder.path(),
    );

    let (code, list, _) = docker(&["cachex", "cache", "ls", &cache]);
    assert_eq!(code, Some(0), "{list}");
    for tag in ["b-main", "b-old", "copy"] {
        assert!(list.lines().any(|line| line.starts_with(tag)), "{list}");
    }
    assert!(
        list.contains("3 caches, ") && list.ends_with("1 other tag\n"),
        "{list}"
    );
    let (code, ..) = docker(&["cachex", "cache", "ls", &format!("{cache}:b-main")]);
    assert_eq!(code, Some(1));

    // Nothing is old, and nothing is removed without being asked for.
    let (_, text, _) = docker(&["cachex", "cache", "prune", &cache]);
    assert_eq!(text, "nothing to remove\n");
    let old = ["cachex", "cache", "prune", &cache, "--older-than=1ms"];
    let (code, text, _) = docker(&[&old[..], &["--keep=1"]].concat());
    assert!(
        code == Some(0) && text.contains("would remove 1 cache"),
        "{text}"
    );
    assert!(digest(&name, "b-main").is_some() && digest(&name, "b-old").is_some());

    // The rig's registry deletes: one of two tags with one manifest goes, the other stays.
    let (code, text, error) = docker(&["cachex", "cache", "rm", &format!("{cache}:b-main")]);
    assert_eq!(code, Some(0), "{text} {error}");
    assert_eq!(digest(&name, "b-main"), None);
    assert_eq!(digest(&name, "copy"), Some(of_main));
    bench.build("buildx", &["--cache-from", &copy], folder.path());
    let (code, _, error) = docker(&["cachex", "cache", "rm", &format!("{cache}:image")]);
    assert!(code == Some(1) && error.contains("is no cache"), "{error}");
    let (code, text, error) = docker(&[&old[..], &["--yes"]].concat());
    assert!(
        code == Some(0) && text.contains("removed 1 cache"),
        "{text} {error}"
    );
    assert_eq!(digest(&name, "b-old"), None);
    assert!(digest(&name, "copy").is_some() && digest(&name, "image").is_some());
}

/// Gives a manifest another tag.
fn tag(cache: &str, from: &str, to: &str) {
    let output = Command::new("crane")
        .args(["tag", "--insecure", &format!("{cache}:{from}"), to])
        .output()
        .expect("crane");
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn manifests_that_a_scope_held_before_go_after_a_grace() {
    let bench = Bench::shared(&SHARED);
    let Place { name, cache, .. } = Place::new("it/clean");
    // Each build writes another cache.
    let write = |clean: &str| {
        let flag = format!("--cache={cache},clean={clean}");
        let folder = project(&unique("clean"), "x");
        build(&bench, &MAIN, &[&flag], folder.path());
        digest(&name, "b-main").expect("a scope")
    };
    let is_there = |digest: &str| Rig::get().registry.manifest(&name, digest).is_some();
    let first = write("1h");
    let second = write("1h");
    tag(&cache, "b-main", "copy");
    let third = write("1h");
    let manifest = Rig::get().registry.manifest(&name, "b-main");
    let notes = manifest.expect("a scope").json["annotations"].clone();
    assert_eq!(notes["dev.docker-cachex.tag"], "b-main");
    let replaced = notes["dev.docker-cachex.replaced"].as_str();
    let replaced: Vec<&str> = replaced.expect("notes").split(' ').collect();
    assert!(replaced[0].starts_with(&first) && replaced[1].starts_with(&second));
    assert_eq!(replaced.len(), 2);
    let all = [&first, &second, &third];
    assert!(
        all.iter().all(|digest| is_there(digest)),
        "within the grace"
    );

    // Nobody waits for the deletion: it may take more than one build.
    let mut last = String::new();
    for _ in 0..20 {
        last = write("1ms");
        if !is_there(&first) && !is_there(&third) {
            break;
        }
    }
    assert!(!is_there(&first) && !is_there(&third), "after the grace");
    assert!(is_there(&last) && digest(&name, "b-main") == Some(last));
    assert_eq!(digest(&name, "copy"), Some(second), "another tag has it");
    let other = format!("--cache-from={cache}:copy");
    let progress = bench.build("buildx", &[&other], project(&unique("clean"), "x").path());
    assert!(!progress.contains("not found"), "{progress}");

    // With BuildKit's own exporter nothing is noted.
    let flag = format!("--cache={cache},clean=1h,via=builder");
    let folder = project(&unique("clean"), "x");
    let output = command(&bench, &MAIN, &[&flag], folder.path()).output();
    assert_says(
        &text(&output.expect("docker").stderr),
        "clean needs via=client",
    );
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn scopes_of_what_is_no_more_are_pruned() {
    let bench = Bench::shared(&SHARED);
    let registry = &Rig::get().registry;
    let Place { name, cache, flag } = Place::new("it/closed");
    let flag = format!("{flag},clean=1h");
    let old: Vec<String> = (0..2)
        .map(|_| {
            build(&bench, &MAIN, &[&flag], project(&unique("old"), "x").path());
            digest(&name, "b-main").expect("a scope")
        })
        .collect();
    for scope in ["b-gone", "pr-1", "pr-2", "pr-3", "s-front", "latest"] {
        tag(&cache, "b-main", scope);
    }
    // A repository as GitHub shows it: the second pull request is open, and there is no third.
    let remote = remote(&[
        ("heads/main", "main"),
        ("pull/1/head", "one"),
        ("pull/2/head", "two"),
        ("pull/2/merge", "merge"),
    ]);
    let remote = format!("--remote={}", remote.path().display());
    let prune = |args: &[&str]| {
        let args = [&["cachex", "cache", "prune", &cache][..], args].concat();
        let output = bench.client.docker(&args);
        let (told, error) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{told} {error}");
        (told, error)
    };
    let (told, error) = prune(&["--closed", &remote]);
    assert_says(&told, "the branch is gone");
    assert_says(&told, "the pull request is closed");
    assert_says(&told, "would remove 2 caches");
    assert_says(
        &error,
        "does not tell which pull requests are open: 1 scope left",
    );
    let (told, _) = prune(&["--closed", &remote, "--yes"]);
    assert_says(&told, "removed 2 caches");
    let left = ["b-main", "pr-2", "pr-3", "s-front", "latest"];
    assert!(left.iter().all(|tag| digest(&name, tag).is_some()));
    assert!(digest(&name, "b-gone").is_none() && digest(&name, "pr-1").is_none());
    assert_eq!(prune(&["--closed", &remote]).0, "nothing to remove\n");

    // The manifest that the scope held before is not old enough, and goes where that does not matter.
    assert_eq!(prune(&["--orphans"]).0, "nothing to remove\n");
    let all = ["--orphans", "--older-than=0s", "--keep=99"];
    assert_says(&prune(&all).0, "would remove 1 replaced manifest");
    prune(&[&all[..], &["--yes"]].concat());
    assert!(registry.manifest(&name, &old[0]).is_none());
    assert_eq!(digest(&name, "b-main"), Some(old[1].clone()));
    assert_eq!(prune(&all).0, "nothing to remove\n");

    let output = bench.client.docker(&[
        "cachex",
        "cache",
        "prune",
        &cache,
        "--closed",
        "--remote=/nowhere",
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert_says(&text(&output.stderr), "cannot ask the Git remote /nowhere");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the test rig: scripts/test"]
async fn a_registry_that_deletes_nothing_says_so() {
    let bench = Bench::shared(&SHARED);
    let registry = ScriptedRegistry::start().await;
    let cache = format!("{}/team/cache", registry.host());
    let folder = project(&unique("refuses"), "x");
    let flag = format!("--cache={cache}");
    build(&bench, &MAIN, &[&flag], folder.path());
    let refused = Fault::Status(405, Vec::new(), r#"{"errors":[{"code":"UNSUPPORTED"}]}"#);
    registry.fault("DELETE", "/manifests/", (0, usize::MAX), refused);
    let tags = Fault::Status(
        200,
        Vec::new(),
        r#"{"name":"team/cache","tags":["b-main"]}"#,
    );
    registry.fault("GET", "/tags/list", (0, usize::MAX), tags);
    let args = [
        "cachex",
        "cache",
        "prune",
        &cache,
        "--older-than=1ms",
        "--yes",
    ];
    let output = bench.client.docker(&args);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert_says(&error, "405");
    assert_says(&error, "hint: the registry deletes no manifests");
}

/// A bare repository with these references, each of which has the commit with that message.
fn remote(references: &[(&str, &str)]) -> TempDir {
    let remote = tempfile::tempdir().expect("a folder");
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        command.arg("-C").arg(remote.path()).args(args);
        // The same message is the same commit.
        for name in ["GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"] {
            command.env(name, "2026-11-28T12:00:00Z");
        }
        let output = command.output().expect("git");
        assert!(output.status.success(), "{args:?} {}", text(&output.stderr));
        text(&output.stdout).trim().to_owned()
    };
    git(&["init", "-q", "--bare"]);
    let who = ["-c", "user.name=x", "-c", "user.email=x@example.com"];
    let tree = git(&["hash-object", "-w", "-t", "tree", "/dev/null"]);
    for (name, message) in references {
        let commit = git(&[&who[..], &["commit-tree", "-m", message, &tree]].concat());
        git(&["update-ref", &format!("refs/{name}"), &commit]);
    }
    remote
}

/// A forge that answers every request with these pull requests as its first page.
fn forge(status: &'static str, pulls: &'static str) -> (u16, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let served = std::thread::spawn(move || {
        let mut seen = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
                request.push(byte[0]);
            }
            let request = text(&request);
            let is_first = request.contains("&page=1 ");
            let body = if is_first { pulls } else { "[]" };
            let length = body.len();
            let reply = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
            stream.write_all(reply.as_bytes()).expect("an answer");
            seen.push(request);
            if !is_first || !status.starts_with("200") {
                break;
            }
        }
        seen
    });
    (port, served)
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn the_forge_says_which_pull_requests_are_open() {
    let bench = Bench::shared(&SHARED);
    let Place { name, cache, flag } = Place::new("it/forge");
    let folder = project(&unique("forge"), "x");
    build(&bench, &MAIN, &[&flag], folder.path());
    for scope in ["pr-1", "pr-2", "pr-3", "pr-9", "b-gone"] {
        tag(&cache, "b-main", scope);
    }
    // The second one is open, and in conflict; the third one's branch stands where it was closed.
    let remote = remote(&[
        ("heads/main", "main"),
        ("heads/kept", "kept"),
        ("pull/1/head", "one"),
        ("pull/2/head", "two"),
        ("pull/3/head", "kept"),
    ]);
    let prune = |status, yes: &[&str]| {
        let (port, served) = forge(status, r#"[{"number":2,"state":"open"}]"#);
        let url = "https://github.com/acme/app";
        let args = [
            "cachex", "cache", "prune", &cache, "--closed", "--remote", url,
        ];
        let mut command = bench.client.command(&[&args[..], yes].concat());
        command.env("GIT_CONFIG_COUNT", "1");
        command.env(
            "GIT_CONFIG_KEY_0",
            format!("url.{}.insteadOf", remote.path().display()),
        );
        command.env("GIT_CONFIG_VALUE_0", url);
        command.env("GITHUB_API_URL", format!("http://127.0.0.1:{port}"));
        command.env("GITHUB_TOKEN", "t0ken").env_remove("GH_TOKEN");
        let output = command
            .env_remove("GITHUB_SERVER_URL")
            .output()
            .expect("docker");
        let (told, error) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{told} {error}");
        assert!(!error.contains("t0ken"), "{error}");
        (told, error, served.join().expect("a forge"))
    };
    // Where the forge refuses, what git shows is not enough to tell.
    let (told, error, _) = prune("403 Forbidden", &[]);
    assert_says(
        &error,
        "github.com does not say which pull requests of acme/app are open",
    );
    assert_says(
        &error,
        "does not tell which pull requests are open: 4 scopes left",
    );
    assert_says(&told, "would remove 1 cache");

    let (told, error, seen) = prune("200 OK", &["--yes"]);
    assert_says(&told, "removed 3 caches");
    assert_says(
        &error,
        "does not tell which pull requests are open: 1 scope left",
    );
    let left = ["b-main", "pr-2", "pr-9"];
    assert!(left.iter().all(|scope| digest(&name, scope).is_some()));
    let gone = ["pr-1", "pr-3", "b-gone"];
    assert!(gone.iter().all(|scope| digest(&name, scope).is_none()));
    let asked = "GET /repos/acme/app/pulls?state=open&";
    assert!(
        seen.iter().all(|request| request.starts_with(asked)),
        "{seen:?}"
    );
    assert!(
        seen.iter()
            .all(|request| request.contains("authorization: Bearer t0ken"))
    );
}
