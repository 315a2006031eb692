//! Builders that are still coming up, restarted by someone else, or silent.

use std::net::TcpListener;
use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

use fs_err as fs;

use crate::support::rig::{Builder, Client, Rig, context, text};

fn said(output: &Output) -> String {
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

fn build(client: &Client, builder: &Builder<'_>) -> Output {
    let folder = context(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
    let folder = folder.path().to_str().expect("UTF-8");
    client.docker(&["cachex", "build", "--builder", &builder.name, folder])
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn commands_wait_for_a_builder_that_was_just_started() {
    let client = Rig::get().client();
    let builder = client.builder("cachex");
    let name = builder.name.as_str();
    let container = builder.container();
    for args in [
        &["du", "--builder", name][..],
        &["prune", "--force", "--builder", name],
        &["inspect", name],
        &["dial-stdio", "--builder", name],
    ] {
        client.docker_ok(&["restart", "--time", "0", &container]);
        let output = client.docker(&[&["cachex"], args].concat());
        let said = said(&output);
        assert!(output.status.success(), "{args:?}: {said}");
        assert!(!said.to_lowercase().contains("error"), "{args:?}: {said}");
    }
    for _ in 0..4 {
        client.docker_ok(&["stop", "--time", "0", &container]);
        client.docker_ok(&["start", &container]);
        let output = build(&client, &builder);
        assert!(output.status.success(), "{}", said(&output));
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn builds_at_once_start_a_stopped_builder() {
    let client = Rig::get().client();
    let builder = client.builder("cachex");
    client.docker_ok(&["stop", "--time", "0", &builder.container()]);
    let outputs: Vec<Output> = thread::scope(|scope| {
        let build = || build(&client, &builder);
        let builds: Vec<_> = (0..4).map(|_| scope.spawn(build)).collect();
        let ends = builds.into_iter().map(|b| b.join().expect("no panic"));
        ends.collect()
    });
    for output in outputs {
        assert!(output.status.success(), "{}", said(&output));
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_silent_builder_is_waited_for_in_sight_and_not_for_ever() {
    let client = Rig::get().client();
    // The system takes the connections, and nobody answers.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("tcp://{}", listener.local_addr().expect("an address"));
    // What creates a builder wants an answer from it: the store gets one that answered once.
    let store = client.config().join("buildx/instances");
    fs::create_dir_all(&store).expect("the store");
    let node = format!(r#"{{"Name":"silent0","Endpoint":"{address}"}}"#);
    let builder = format!(r#"{{"Name":"silent","Driver":"remote","Nodes":[{node}]}}"#);
    fs::write(store.join("silent"), builder).expect("the builder");
    let folder = context(&[("Dockerfile", "FROM scratch\n")]);
    let folder = folder.path().to_str().expect("UTF-8");
    let start = Instant::now();
    let output = client.docker(&["cachex", "build", "--builder", "silent", folder]);
    let took = start.elapsed();
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(took < Duration::from_secs(50), "{took:?}: {said}");
    assert!(said.contains("waiting for BuildKit to answer"), "{said}");
    assert!(said.contains("it does not answer"), "{said}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_configuration_file_that_cannot_be_read_is_a_warning() {
    let client = Rig::get().client();
    let path = client.config().join("config.json");
    for text in ["{", r#"{"auths":{"r.example":"hunter2"}}"#] {
        fs::write(&path, text).expect("the file");
        let output = client.docker(&["cachex", "ls"]);
        let said = said(&output);
        assert!(output.status.success(), "{said}");
        assert!(said.contains("config.json is broken: "), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}
