//! A registry that wants a login: where the credentials come from, and that they reach both push and cache.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fs_err as fs;
use tempfile::TempDir;

use crate::support::bench::{Bench, assert_all_cached};
use crate::support::locked::{Locked, PASSWORD, USER, auths};
use crate::support::rig::{Rig, context, text, unique};
use crate::support::scripted_registry::{Login, ScriptedRegistry, TokenServer};

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn credentials_come_from_config_helper_and_environment() {
    let locked = Locked::start();
    let bench = Bench::new();
    let app = format!("{}/{}", locked.host, unique("it/login"));
    let dockerfile = format!("FROM {}\nRUN echo {app}\n", Rig::get().busybox);
    let folder = context(&[("Dockerfile", &dockerfile)]);
    let cache = format!("type=registry,ref={app}:cache,mode=max");
    let export = ["--push", "-t", &app, "--cache-to", &cache];
    let config = bench.client.config().join("config.json");

    let error = bench.fails(1, &export, folder.path());
    assert!(error.contains(&locked.host), "{error}");
    assert!(
        error.contains("401")
            || error.contains("authorization failed")
            || error.contains("no basic auth"),
        "{error}"
    );

    // A file of docker login.
    fs::write(&config, auths(&locked.host)).expect("the config");
    let progress = bench.build("cachex", &export, folder.path());
    assert!(!progress.contains(PASSWORD), "{progress}");

    // A helper, found in PATH.
    let bin = TempDir::new().expect("a temporary folder");
    let helper = bin.path().join("docker-credential-it");
    let answer = format!(
        "#!/bin/sh\nread host\n[ \"$1 $host\" = \"get {}\" ] || {{ echo credentials not found in native keychain; exit 1; }}\n\
         echo '{{\"ServerURL\":\"x\",\"Username\":\"{USER}\",\"Secret\":\"{PASSWORD}\"}}'\n",
        locked.host
    );
    fs::write(&helper, answer).expect("the helper");
    fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let path = format!(
        "{}:{}",
        bin.path().display(),
        std::env::var("PATH").expect("a path")
    );
    for helpers in [
        r#"{"credsStore":"it"}"#.to_owned(),
        format!(r#"{{"credHelpers":{{"{}":"it"}}}}"#, locked.host),
    ] {
        fs::write(&config, helpers).expect("the config");
        import(&bench, folder.path(), &cache, |command| {
            command.env("PATH", &path);
        });
    }

    // The environment.
    fs::write(&config, "{}").expect("the config");
    import(&bench, folder.path(), &cache, |command| {
        command.env("DOCKER_AUTH_CONFIG", auths(&locked.host));
    });
    // Without any of them the cache is a warning, and the build is not stopped.
    bench.prune();
    let progress = bench.build("cachex", &["--cache-from", &cache], folder.path());
    assert!(progress.contains("ERROR: "), "{progress}");
    // A wrong password.
    let wrong = auths(&locked.host).replace(
        &STANDARD.encode(format!("{USER}:{PASSWORD}")),
        &STANDARD.encode("someone:wrong"),
    );
    fs::write(&config, wrong).expect("the config");
    let error = bench.fails(1, &export, folder.path());
    assert!(
        error.contains(&locked.host) && !error.contains("wrong"),
        "{error}"
    );
}

/// Reads the cache on the emptied builder; all must come from there.
fn import(bench: &Bench, folder: &std::path::Path, cache: &str, set: impl Fn(&mut Command)) {
    bench.prune();
    let mut command = bench.command("cachex", &["--cache-from", cache], folder);
    set(&mut command);
    let output = command.output().expect("the docker CLI");
    let progress = text(&output.stderr);
    assert!(output.status.success(), "{progress}");
    assert_all_cached(&progress, 1);
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn one_token_serves_the_program_and_the_builder() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let registry = runtime.block_on(ScriptedRegistry::start());
    registry.login(Login::Token(TokenServer {
        user: Some((USER, PASSWORD)),
        ..TokenServer::default()
    }));
    let host = registry.host();
    let bench = Bench::new();
    fs::write(bench.client.config().join("config.json"), auths(&host)).expect("the config");
    let dockerfile = format!("FROM {}\nRUN echo {}\n", Rig::get().busybox, unique("one"));
    let folder = context(&[("Dockerfile", &dockerfile)]);
    let cache = format!("type=registry,ref={host}/team/cache:c");
    let to = format!("{cache},mode=max");
    bench.build("cachex", &["--cache-to", &to], folder.path());
    bench.prune();

    let before = registry.count("GET", "/token");
    let progress = bench.build("cachex", &["--cache-from", &cache], folder.path());
    assert_all_cached(&progress, 1);
    assert_eq!(registry.count("GET", "/token") - before, 1, "{progress}");
    // Each has asked for the cache on its own.
    let manifests = registry.seen().into_iter().rev();
    let manifests = manifests.filter(|seen| seen.path.ends_with("/manifests/c"));
    let methods: Vec<String> = manifests.map(|seen| seen.method).take(2).collect();
    assert!(methods.contains(&"HEAD".to_owned()), "{methods:?}");
    assert_eq!(registry.count("POST", "/token"), 0);
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_token_server_on_this_machine_is_asked_without_a_proxy() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let registry = runtime.block_on(ScriptedRegistry::start());
    registry.login(Login::Token(TokenServer {
        user: Some((USER, PASSWORD)),
        ..TokenServer::default()
    }));
    let host = registry.host();
    let bench = Bench::new();
    fs::write(bench.client.config().join("config.json"), auths(&host)).expect("the config");
    let folder = context(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
    let to = format!("type=registry,ref={host}/team/proxy:c,via=builder");
    let mut command = bench.command("cachex", &["--cache-to", &to], folder.path());
    // Nothing listens there.
    command.env("HTTP_PROXY", "http://127.0.0.1:9");
    let output = command.output().expect("the docker CLI");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(registry.count("GET", "/token") > 0);
}
