//! `--cache REPO`: caches by branch and pull request, and what their layers are.

use std::path::Path;
use std::process::Command;
use std::sync::Weak;

use fs_err as fs;
use parking_lot::Mutex;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::bench::{Bench, Shared, assert_all_cached};
use crate::support::counter::Counter;
use crate::support::registry::{Compression, Registry};
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

/// A folder whose first step is as `base` says and whose last one is as `last` says.
fn project(base: &str, last: &str) -> TempDir {
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
fn build(bench: &Bench, vars: &[(&str, &str)], args: &[&str], folder: &Path) -> String {
    let output = command(bench, vars, args, folder).output().expect("docker");
    let progress = text(&output.stderr);
    assert!(output.status.success(), "{vars:?} {args:?}\n{progress}");
    progress
}

/// The digest of a scope.
fn digest(repository: &str, scope: &str) -> Option<String> {
    let manifest = Rig::get().registry.manifest(repository, scope)?;
    Some(manifest.digest)
}

fn assert_says(progress: &str, line: &str) {
    assert!(progress.contains(line), "{line:?} in\n{progress}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn pull_requests_read_their_base_and_write_their_own() {
    let bench = Bench::new();
    let counter = Counter::start();
    let name = unique("it/scope");
    let cache = format!("{}/{name}", Rig::get().registry.host());
    let seed = unique("scope");
    let flag = format!("--cache={cache}");
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
    let name = unique("it/scope");
    let cache = format!("{}/{name}", Rig::get().registry.host());
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
    let name = unique("it/scope");
    let cache = format!("{}/{name}", Rig::get().registry.host());
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
    let name = unique("it/scope");
    let cache = format!("{}/{name}", Rig::get().registry.host());
    let flag = format!("--cache={cache}");
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
    let name = unique("it/used");
    let cache = format!("{}/{name}", Rig::get().registry.host());
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

/// A stage of its own that nothing is taken from but one file, and a result on another one's steps.
fn stages(seed: &str) -> TempDir {
    let base = &Rig::get().busybox;
    let fill = "head -c 300000 /dev/urandom | od -x > ";
    let dockerfile = format!(
        "FROM {base} AS common\nRUN echo {seed} > /seed; {fill} /common\n\
         FROM common AS tool\nRUN {fill} /tool; sleep 1.2\n\
         FROM common AS last\nRUN {fill} /last; sleep 1.2\nCOPY --from=tool /tool /tool\n"
    );
    context(&[("Dockerfile", &dockerfile)])
}

/// The compressions of a cache's or an image's own layers: without those of the base.
fn own_layers(registry: &Registry, name: &str, tag: &str) -> Vec<Compression> {
    let manifest = registry.manifest(name, tag).expect("a manifest");
    let manifest = match manifest.json["manifests"].as_array() {
        // The index of an image with its attestation.
        Some(list) => {
            let first = list[0]["digest"].as_str().expect("a digest");
            registry.manifest(name, first).expect("the image")
        }
        None => manifest,
    };
    registry.compressions(name, &manifest)
}

fn assert_gzip(layers: &[Compression], what: &str) {
    assert!(
        layers.iter().all(|layer| *layer == Compression::Gzip),
        "{what}: {layers:?}"
    );
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn only_layers_that_no_image_has_are_zstd() {
    let bench = Bench::new();
    let registry = &Rig::get().registry;
    let name = unique("it/auto");
    let place = |tag: &str| format!("{}/{name}:{tag}", registry.host());
    let folder = stages(&unique("auto"));
    let vars = [("CACHEX_BRANCH", "main")];
    let build = |args: &[&str]| build(&bench, &vars, args, folder.path());
    let of = |tag: &str| own_layers(registry, &name, tag);
    let cache = format!("--cache={}/{name}", registry.host());
    build(&[&cache, "--push", "-t", &place("image")]);
    assert_gzip(&of("image"), "the image of the build");
    let mut written = of("b-main");
    written.sort_unstable();
    let zstd = written
        .iter()
        .filter(|layer| **layer == Compression::Zstd)
        .count();
    assert_eq!(zstd, 1, "the tool's own layer, and no other: {written:?}");

    // Later images of the intermediate stage: on the same builder, and on one that has the cache alone.
    let target = |tag: &str| {
        [
            "--target=tool".into(),
            "--push".into(),
            "-t".into(),
            place(tag),
        ]
    };
    let push = |tag: &str, more: &[&str]| {
        let args = target(tag);
        let args: Vec<&str> = args
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied())
            .collect();
        build(&args);
        assert_gzip(&of(tag), tag);
    };
    push("same-builder", &["--cache=off"]);
    bench.prune();
    push("from-cache", &[&cache]);
    bench.prune();
    push(
        "docker-types",
        &[
            "--cache-from",
            &place("b-main"),
            // Docker's media types have no place for attestations.
            "--provenance=false",
            "--output=type=image,oci-mediatypes=false,push=true",
        ],
    );
    bench.prune();
    let oci = folder.path().join("oci");
    let out = format!("--output=type=oci,tar=false,dest={}", oci.display());
    build(&[&cache, "--target=tool", &out]);
    assert_layout_is_gzip(&oci);
    bench.prune();
    let out = format!(
        "--output=type=docker,tar=false,dest={}-docker",
        oci.display()
    );
    build(&[&cache, "--target=tool", &out]);
    assert_layout_is_gzip(Path::new(&format!("{}-docker", oci.display())));
    bench.prune();
    let loaded = unique("it-auto-loaded");
    build(&[&cache, "--target=tool", "--load", "-t", &loaded]);
    bench.client.docker_ok(&["image", "rm", &loaded]);

    // One that the user asked for is one.
    bench.prune();
    build(&[
        &cache,
        "--target=tool",
        "--output",
        &format!(
            "type=registry,compression=zstd,force-compression=true,name={}",
            place("asked")
        ),
    ]);
    let asked = of("asked");
    assert!(asked.contains(&Compression::Zstd), "{asked:?}");

    // Of a cache with Docker's media types all is gzip.
    let docker = unique("it/auto-docker");
    let to = format!(
        "--cache-to=type=registry,ref={}/{docker}:c,mode=max,compression=auto,oci-mediatypes=false,via=client",
        registry.host()
    );
    let fresh = stages(&unique("auto-docker"));
    let image = format!("{}/{docker}:i", registry.host());
    crate::scope::build(&bench, &vars, &[&to, "--push", "-t", &image], fresh.path());
    let manifest = registry.manifest(&docker, "c").expect("a cache");
    let blobs = manifest.json["manifests"].as_array().expect("a list");
    for blob in blobs {
        let media_type = blob["mediaType"].as_str().expect("a type");
        assert!(!media_type.contains("zstd"), "{media_type}");
    }
}

/// Checks the blobs of a layout folder.
fn assert_layout_is_gzip(layout: &Path) {
    let blobs = fs::read_dir(layout.join("blobs/sha256")).expect("a layout");
    let blobs = blobs.map(|blob| fs::read(blob.expect("an entry").path()).expect("a blob"));
    let layers: Vec<Compression> = blobs
        .filter(|blob| serde_json::from_slice::<Value>(blob).is_err())
        .map(|blob| Compression::of(&blob))
        .collect();
    assert!(!layers.is_empty());
    assert_gzip(&layers, "a layout");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn caches_of_a_repository_are_listed_and_removed_alone() {
    let bench = Bench::shared(&SHARED);
    let name = unique("it/house");
    let cache = format!("{}/{name}", Rig::get().registry.host());
    let flag = format!("--cache={cache}");
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
    assert_eq!(code, Some(125));

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

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_commit_is_the_same_under_every_umask_where_only_git_counts() {
    let bench = Bench::new();
    let counter = Counter::start();
    let name = unique("it/modes");
    let cache = format!("{}/{name}", Rig::get().registry.host());
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
    assert_says(&progress, "have the same bytes and other permissions");
    assert_says(&progress, "; with --context-mode=git they do not count");

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
    let name = unique("it/clean");
    let cache = format!("{}/{name}", Rig::get().registry.host());
    // Each build writes another cache.
    let write = |clean: &str| {
        let flag = format!("--cache={cache},clean={clean}");
        let folder = project(&unique("clean"), "x");
        build(
            &bench,
            &[("CACHEX_BRANCH", "main")],
            &[&flag],
            folder.path(),
        );
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
    let vars = [("CACHEX_BRANCH", "main")];
    let output = command(&bench, &vars, &[&flag], folder.path()).output();
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
    let name = unique("it/closed");
    let cache = format!("{}/{name}", registry.host());
    let flag = format!("--cache={cache},clean=1h");
    let main = [("CACHEX_BRANCH", "main")];
    let old: Vec<String> = (0..2)
        .map(|_| {
            build(&bench, &main, &[&flag], project(&unique("old"), "x").path());
            digest(&name, "b-main").expect("a scope")
        })
        .collect();
    for scope in ["b-gone", "pr-1", "pr-2", "pr-3", "s-front", "latest"] {
        tag(&cache, "b-main", scope);
    }
    // A repository as GitHub shows it: the second pull request is open, and there is no third.
    let remote = tempfile::tempdir().expect("a folder");
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        command.arg("-C").arg(remote.path()).args(args);
        let output = command.output().expect("git");
        assert!(output.status.success(), "{args:?} {}", text(&output.stderr));
        text(&output.stdout).trim().to_owned()
    };
    git(&["init", "-q", "--bare"]);
    let who = ["-c", "user.name=x", "-c", "user.email=x@example.com"];
    let tree = git(&["hash-object", "-w", "-t", "tree", "/dev/null"]);
    let commit = git(&[&who[..], &["commit-tree", "-m", "x", &tree]].concat());
    for name in ["heads/main", "pull/1/head", "pull/2/head", "pull/2/merge"] {
        git(&["update-ref", &format!("refs/{name}"), &commit]);
    }
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
    build(
        &bench,
        &[("CACHEX_BRANCH", "main")],
        &[&flag],
        folder.path(),
    );
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
