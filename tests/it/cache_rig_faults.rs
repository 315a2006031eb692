//! What becomes of a cache when the registry, the builder or the program itself goes away in the middle: whole
//! programs, real BuildKit, real registry.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use base64::Engine as _;
use fs_err as fs;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::own_registry::OwnRegistry;
use crate::support::registry::Registry;
use crate::support::rig::{Builder, Client, Rig, context, text, unique};
use crate::support::scripted_registry::{Login, ScriptedRegistry, TokenServer};

/// A build that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// The plugin itself, without the docker CLI in front: a signal is for it alone.
fn plugin(client: &Client, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_docker-cachex"));
    command
        .arg("cachex")
        .args(args)
        .env("DOCKER_CONFIG", client.config())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// Waits for the end; fails the test if there is none.
fn end(child: &mut Child) -> ExitStatus {
    let limit = Instant::now() + LIMIT;
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status;
        }
        let hangs = Instant::now() > limit;
        if hangs {
            let _gone = child.kill();
        }
        assert!(!hangs, "the build hangs");
        sleep(Duration::from_millis(20));
    }
}

/// Reads standard error until a line has the text, then on in the background.
fn wait_for(child: &mut Child, wanted: &str) -> thread::JoinHandle<String> {
    let mut lines = BufReader::new(child.stderr.take().expect("stderr"));
    let mut log = String::new();
    while !log.contains(wanted) {
        let read = lines.read_line(&mut log).expect("a line");
        assert!(read > 0, "the build ended before {wanted:?}:\n{log}");
    }
    thread::spawn(move || {
        let mut rest = Vec::new();
        let _all = lines.read_to_end(&mut rest);
        log + &text(&rest)
    })
}

/// The cache under a tag is whole: every blob is there and has its digest.
fn whole(registry: &Registry, repository: &str) -> String {
    let manifest = registry.manifest(repository, "c").expect("a cache");
    let config = registry.config(repository, &manifest);
    let layers = manifest.json["layers"].as_array().expect("layers");
    let digest = |entry: &Value| entry["digest"].as_str().expect("a digest").to_owned();
    let digests: Vec<String> = layers.iter().map(digest).collect();
    for digest in &digests {
        registry.blob(repository, digest);
    }
    for layer in config["layers"].as_array().expect("layers") {
        let blob = layer["blob"].as_str().expect("a blob").to_owned();
        assert!(digests.contains(&blob), "{blob}");
    }
    manifest.digest
}

fn to(host: &str, repository: &str, compressor: &str) -> String {
    format!(
        "type=registry,ref={host}/{repository}:c,mode=max,via=client,compressor={compressor},compression=zstd"
    )
}

/// Layers of so many MB each; the seed makes them new.
fn steps(seed: &str, sizes: &[u32]) -> TempDir {
    let mut dockerfile = format!("FROM {}\n", Rig::get().busybox);
    for (n, size) in sizes.iter().enumerate() {
        let step = format!("RUN echo {seed}{n} && head -c {size}000000 /dev/urandom > /f{n}\n");
        dockerfile.push_str(&step);
    }
    context(&[("Dockerfile", &dockerfile)])
}

fn path(folder: &TempDir) -> &str {
    folder.path().to_str().expect("a path")
}

fn args<'a>(builder: &'a Builder<'_>, to: &'a str, folder: &'a TempDir) -> Vec<&'a str> {
    vec![
        "build",
        "--progress=plain",
        "--builder",
        &builder.name,
        "--cache-to",
        to,
        path(folder),
    ]
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_registry_that_is_killed_and_started_again_gets_the_whole_cache() {
    let client = Rig::get().client();
    let builder = client.builder("cachex");
    for compressor in ["builder", "client"] {
        let mut registry = OwnRegistry::new();
        registry.start();
        let to = to(&registry.host, "cache", compressor);
        let folder = steps(&unique("s"), &[60, 60, 1]);
        let mut child = plugin(&client, &args(&builder, &to, &folder))
            .spawn()
            .expect("the plugin");
        let log = wait_for(&mut child, "exporting cache");
        let limit = Instant::now() + LIMIT;
        while registry.uploading() < 2_000_000 && child.try_wait().expect("a child").is_none() {
            assert!(Instant::now() < limit, "nothing is uploaded");
            sleep(Duration::from_millis(1));
        }
        registry.kill();
        sleep(Duration::from_secs(1));
        registry.start();
        let status = end(&mut child);
        assert!(status.success(), "{}", log.join().expect("a log"));
        whole(&Registry::new(&registry.host), "cache");
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_builder_that_is_killed_is_an_error_and_the_old_cache_is_not_lost() {
    let rig = Rig::get();
    let client = rig.client();
    let builder = client.builder("cachex");
    let (repository, seed) = (unique("it/killed"), unique("s"));
    let to = to(rig.registry.host(), &repository, "client");
    builder.build("cachex", &["--cache-to", &to], steps(&seed, &[1]).path());
    whole(&rig.registry, &repository);

    let folder = steps(&seed, &[1, 200, 200]);
    let mut child = plugin(&client, &args(&builder, &to, &folder))
        .spawn()
        .expect("the plugin");
    let log = wait_for(&mut child, "writing layer");
    client.docker_ok(&["kill", &builder.container()]);
    let status = end(&mut child);
    let log = log.join().expect("a log");
    assert!(!status.success(), "{log}");
    assert!(log.contains("ERROR: "), "{log}");
    // What had been sent may have been added to it.
    whole(&rig.registry, &repository);
    let fresh = client.builder("cachex");
    let from = format!("type=registry,ref={}/{repository}:c", rig.registry.host());
    let progress = fresh.build(
        "buildx",
        &["--cache-from", &from],
        steps(&seed, &[1]).path(),
    );
    assert!(progress.contains(" CACHED"), "{progress}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_program_that_is_killed_at_any_moment_breaks_no_cache() {
    let rig = Rig::get();
    let client = rig.client();
    let builder = client.builder("cachex");
    let (repository, seed) = (unique("it/kill9"), unique("s"));
    let to = to(rig.registry.host(), &repository, "client");
    builder.build("cachex", &["--cache-to", &to], steps(&seed, &[1]).path());
    let mut last = whole(&rig.registry, &repository);
    let (mut killed, mut changed) = (0, 0);
    for round in 0..10_u64 {
        // All three layers are new each time.
        let folder = steps(&unique("s"), &[3, 3, 3]);
        let mut child = plugin(&client, &args(&builder, &to, &folder))
            .spawn()
            .expect("the plugin");
        let log = wait_for(&mut child, "exporting cache");
        sleep(Duration::from_millis(round * 90));
        child.kill().expect("a kill");
        let status = child.wait().expect("a child");
        killed += u32::from(!status.success());
        let _log = log.join();
        let now = whole(&rig.registry, &repository);
        changed += u32::from(now != last);
        last = now;
    }
    eprintln!("killed {killed} of 10 exports, {changed} had published");
    assert!(killed > 0, "no export was killed");
    // And the next one is as if nothing had been.
    let folder = steps(&unique("s"), &[1, 1]);
    builder.build("cachex", &["--cache-to", &to], folder.path());
    whole(&rig.registry, &repository);
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_registry_that_is_down_costs_the_cache_and_not_the_image() {
    let rig = Rig::get();
    let client = rig.client();
    let builder = client.builder("cachex");
    // Nobody listens at the discard port.
    let run = |ignore: bool| {
        let image = unique("it/down");
        let name = format!("{}/{image}:i", rig.registry.host());
        let mut to = to("127.0.0.1:9", "cache", "builder");
        if ignore {
            to.push_str(",ignore-error=true");
        }
        let folder = steps(&unique("s"), &[1]);
        let mut arguments = args(&builder, &to, &folder);
        arguments.extend(["--push", "-t", &name]);
        let output = plugin(&client, &arguments).output().expect("the plugin");
        assert!(
            rig.registry.manifest(&image, "i").is_some(),
            "the image comes first"
        );
        (output.status.code(), text(&output.stderr))
    };
    let (ignored, told) = thread::scope(|scope| {
        let ignored = scope.spawn(|| run(true));
        let told = scope.spawn(|| run(false));
        (ignored.join().expect("a run"), told.join().expect("a run"))
    });
    assert_eq!(ignored.0, Some(0), "{}", ignored.1);
    assert!(
        ignored
            .1
            .contains("WARNING: failed to export the cache to 127.0.0.1:9"),
        "{}",
        ignored.1
    );
    assert_eq!(told.0, Some(1), "{}", told.1);
    assert!(
        told.1.contains("failed to export the cache to 127.0.0.1:9"),
        "{}",
        told.1
    );
    for log in [ignored.1, told.1] {
        assert!(log.contains("onnection refused"), "{log}");
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn blobs_that_the_registry_has_lost_come_from_the_builder_again() {
    let rig = Rig::get();
    let client = rig.client();
    let builder = client.builder("cachex");
    let (repository, seed) = (unique("it/lost"), unique("s"));
    let to = to(rig.registry.host(), &repository, "client");
    builder.build("cachex", &["--cache-to", &to], steps(&seed, &[1, 2]).path());
    let manifest = rig.registry.manifest(&repository, "c").expect("a cache");
    let layers = manifest.json["layers"].as_array().expect("layers");
    for layer in layers {
        let url = format!(
            "/v2/{repository}/blobs/{}",
            layer["digest"].as_str().expect("a digest")
        );
        assert_eq!(rig.registry.delete(&url), 202);
    }
    let log = builder.build(
        "cachex",
        &["--cache-to", &to],
        steps(&seed, &[1, 2, 1]).path(),
    );
    assert!(log.contains("sent 4 of 4 layers"), "{log}");
    whole(&rig.registry, &repository);
}

/// Everything that must not be seen, in all its forms.
fn assert_secret(log: &str, secrets: &[&str]) {
    for secret in secrets {
        let encoded = base64::engine::general_purpose::STANDARD.encode(secret);
        for form in [*secret, &encoded] {
            assert!(!log.contains(form), "{form} is in the log:\n{log}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs the test rig: scripts/test"]
async fn no_log_has_a_credential() {
    let (user, password) = ("cache-user", "pass-w0rd-of-cache");
    let server = TokenServer {
        user: Some((user, password)),
        uses: Some(3),
        ..TokenServer::default()
    };
    let client = Rig::get().client();
    let builder = client.builder("cachex");
    for login in [Login::Basic(user, password), Login::Token(server)] {
        let registry = ScriptedRegistry::start().await;
        registry.login(login);
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let config = format!(
            r#"{{"auths":{{"{}":{{"auth":"{pair}"}}}}}}"#,
            registry.host()
        );
        fs::write(client.config().join("config.json"), config).expect("a file");
        for compressor in ["builder", "client"] {
            let to = to(&registry.host(), "cache", compressor);
            let folder = steps(&unique("s"), &[1, 1]);
            let mut all = vec!["--debug"];
            all.extend(args(&builder, &to, &folder));
            let output = plugin(&client, &all).output().expect("the plugin");
            let log = text(&output.stderr);
            assert!(output.status.success(), "{log}");
            assert!(log.contains("DEBUG"), "nothing was logged: {log}");
            let pair = format!("{user}:{password}");
            assert_secret(
                &log,
                &[
                    password,
                    &pair,
                    "secret-token",
                    "secret-state",
                    "secret-next",
                ],
            );
        }
        assert!(registry.count("PUT", "/manifests/c") >= 2);
    }
}
