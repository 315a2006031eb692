//! Builds that are run again without a cache that cannot be read: what they export, and what cannot be sent twice.

use std::io::Write as _;
use std::process::{Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fs_err as fs;
use tempfile::TempDir;

use crate::support::bench::{Bench, assert_all_cached};
use crate::support::caches::export;
use crate::support::large::enlarge;
use crate::support::own_registry::OwnRegistry;
use crate::support::registry::Registry;
use crate::support::rig::{Rig, context, text, unique};
use crate::support::scripted_registry::{Fault, ScriptedRegistry};

const REPOSITORY: &str = "team/cache";

/// Three steps with layers that do not compress; the last one says its word.
fn project(seed: &str, last: &str) -> TempDir {
    let dockerfile = format!(
        "FROM {}\n\
         RUN echo {seed} && head -c 300000 /dev/urandom > /a\n\
         RUN echo {seed} && head -c 300000 /dev/urandom > /b\n\
         RUN echo {seed}-{last} && cat /a /b > /c\n",
        Rig::get().busybox
    );
    context(&[("Dockerfile", &dockerfile)])
}

/// A cache of the project that has lost a layer: the base image's is number 0.
struct Broken {
    registry: OwnRegistry,
    from: String,
    lost: String,
}

fn broken(bench: &Bench, seed: &str, layer: usize) -> Broken {
    let mut registry = OwnRegistry::new();
    registry.start();
    let place = format!("type=registry,ref={}/{REPOSITORY}:c", registry.host);
    let to = format!("--cache-to={place},mode=max");
    bench.build("buildx", &[&to], project(seed, "old").path());
    let lost = registry.layers(REPOSITORY, "c").remove(layer);
    fs::remove_file(registry.data(&lost)).expect("the blob");
    bench.prune();
    Broken {
        registry,
        from: format!("--cache-from={place}"),
        lost,
    }
}

fn assert_ran_again(progress: &str, broken: &Broken) {
    assert!(
        progress.contains("WARNING: a cache could not be read and the build was run again"),
        "{progress}"
    );
    assert!(progress.contains(&broken.lost), "{progress}");
    let errors = progress.lines().filter(|line| line.contains("ERROR"));
    let other = errors.filter(|line| !line.contains("127.0.0.1:9/"));
    assert_eq!(other.count(), 0, "{progress}");
}

/// A token as the cache of GitHub's actions has it, whose signature nobody looks at.
fn actions_token() -> String {
    let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
    let scopes =
        r#"{"ac":"[{\"Scope\":\"refs/heads/main\",\"Permission\":3}]","exp":99999999999,"nbf":1}"#;
    let head = r#"{"alg":"HS256","typ":"JWT"}"#;
    format!("{}.{}.{}", part(head), part(scopes), part("none"))
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn the_second_run_exports_all_caches() {
    let bench = Bench::new();
    let seed = unique("again");
    let folder = project(&seed, "new");
    for via in ["client", "builder"] {
        let broken = broken(&bench, &seed, 2);
        let host = Rig::get().registry.host();
        let image = format!("{host}/{}:1", unique("it/again"));
        let cache = format!("{host}/{}:c", unique("it/again"));
        let to = export(&cache, &format!("mode=max,via={via}"));
        // Nobody listens there: these two are not read and not written, and no reason to fail.
        let actions = format!("url=http://127.0.0.1:9/,token={}", actions_token());
        let from_actions = format!("--cache-from=type=gha,{actions}");
        let to_actions = format!("--cache-to=type=gha,{actions},ignore-error=true,timeout=1s");
        let args = [
            &broken.from,
            &from_actions,
            &to,
            &to_actions,
            "--cache-to=type=inline",
            "--push",
            "-t",
            &image,
        ];
        let progress = bench.build("cachex", &args, folder.path());
        assert_ran_again(&progress, &broken);
        assert!(
            progress.contains("importing cache manifest from gha"),
            "{progress}"
        );
        for from in [&cache, &image] {
            bench.prune();
            let args = ["--cache-from", from];
            let progress = bench.build("buildx", &args, folder.path());
            assert_all_cached(&progress, 3);
        }
        bench.prune();
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn an_image_with_an_inline_cache_that_lost_a_layer_is_given_up() {
    let bench = Bench::new();
    let mut registry = OwnRegistry::new();
    registry.start();
    let seed = unique("inline");
    let image = format!("{}/{REPOSITORY}:c", registry.host);
    let args = [
        "--push",
        "-t",
        &image,
        "--cache-to=type=inline",
        "--provenance=false",
    ];
    bench.build("buildx", &args, project(&seed, "old").path());
    let client = Registry::new(&registry.host);
    let manifest = client.manifest(REPOSITORY, "c").expect("an image");
    let lost = manifest.json["layers"][2]["digest"]
        .as_str()
        .expect("a digest");
    fs::remove_file(registry.data(lost)).expect("the blob");
    // The engine of the stand-in builder keeps what it has pushed.
    let fresh = Bench::new();
    let folder = project(&seed, "new");
    let progress = fresh.build("cachex", &["--cache-from", &image], folder.path());
    assert!(progress.contains("the build was run again"), "{progress}");
    assert!(progress.contains(&image), "{progress}");
}

/// Runs a build whose result goes to standard output.
fn to_stdout(bench: &Bench, args: &[&str], folder: &TempDir) -> Output {
    let mut command = bench.command("cachex", args, folder.path());
    command
        .stdout(Stdio::piped())
        .output()
        .expect("the docker CLI")
}

/// The files of a tar stream and how many bytes each has.
fn files(tar: &[u8]) -> Vec<(String, u64)> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().expect("an archive");
    let entries = entries.map(|entry| {
        let entry = entry.expect("an entry");
        let path = entry.path().expect("a path").display().to_string();
        (path, entry.size())
    });
    entries.collect()
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_result_goes_to_standard_output_once() {
    let bench = Bench::new();
    let seed = unique("stdout");
    for (kind, layer) in [("tar", 2), ("tar", 3), ("oci", 2), ("docker", 3)] {
        let broken = broken(&bench, &seed, layer);
        let output = format!("--output=type={kind},dest=-");
        // The last step is in the cache, too: nothing needs its layers before the result is sent.
        let folder = project(&seed, "old");
        let result = to_stdout(&bench, &[&broken.from, &output], &folder);
        let progress = text(&result.stderr);
        assert!(result.status.success(), "{kind}\n{progress}");
        assert_ran_again(&progress, &broken);
        // Whole, and nothing of the first run before it.
        let files = files(&result.stdout);
        if kind == "tar" {
            let c = files.iter().find(|(path, _)| path == "c");
            assert_eq!(c.map(|(_, size)| *size), Some(600_000), "{files:?}");
        } else {
            let manifests = files.iter().filter(|(path, _)| path == "index.json");
            assert_eq!(manifests.count(), 1, "{files:?}");
        }
        bench.prune();
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_context_from_standard_input_is_spent() {
    let bench = Bench::new();
    let seed = unique("stdin");
    let broken = broken(&bench, &seed, 2);
    let folder = project(&seed, "new");
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_path_with_name(folder.path().join("Dockerfile"), "Dockerfile")
        .expect("a file");
    let tar = tar.into_inner().expect("an archive");
    let mut command = bench
        .client
        .command(&["cachex", "build", "--progress=plain"]);
    let mut child = command
        .args([&broken.from, "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the docker CLI");
    let mut stdin = child.stdin.take().expect("stdin");
    stdin.write_all(&tar).expect("the context");
    drop(stdin);
    let output = child.wait_with_output().expect("an end");
    let progress = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{progress}");
    assert!(progress.contains(&broken.lost), "{progress}");
    assert!(
        progress.contains("came by standard input and is spent"),
        "{progress}"
    );
    drop(broken.registry);
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_large_config_that_does_not_come_is_done_without() {
    let bench = Bench::new();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let registry = runtime.block_on(ScriptedRegistry::start());
    let folder = project(&unique("slow"), "all");
    let place = format!("type=registry,ref={}/{REPOSITORY}:c", registry.host());
    // BuildKit does not speak to it, as it has no TLS; nor is it to.
    let to = format!("--cache-to={place},mode=max,via=client");
    bench.build("cachex", &[&to], folder.path());
    let config = enlarge(&registry.host(), REPOSITORY);
    registry.fault("GET", &config, (0, 1000), Fault::StallAnswer(1000));
    bench.prune();
    let (from, client) = (
        format!("--cache-from={place}"),
        format!("--cache-from={place},via=client"),
    );
    let progress = bench.build("cachex", &[&from, &client], folder.path());
    let warnings: Vec<_> = progress
        .lines()
        .filter(|line| line.starts_with("WARNING: cannot read the cache"))
        .collect();
    assert_eq!(warnings.len(), 2, "{progress}");
    assert!(
        warnings
            .iter()
            .all(|w| w.contains("did not come within 10 s")),
        "{warnings:?}"
    );
}
