//! Builders that both tools share: made by one, used by the other, and what becomes of broken ones.

use std::path::Path;
use std::process::Output;
use std::thread;

use fs_err as fs;
use serde_json::Value;

use crate::support::rig::{Client, Rig, context, text, unique};

/// Removes a builder's container and volume when the test ends.
struct Guard<'a> {
    client: &'a Client,
    name: String,
}

impl<'a> Guard<'a> {
    fn new(client: &'a Client, what: &str) -> Self {
        Self {
            client,
            name: unique(what),
        }
    }

    fn container(&self) -> String {
        format!("buildx_buildkit_{}0", self.name)
    }

    fn volume(&self) -> String {
        format!("{}_state", self.container())
    }

    /// Creates the builder with `docker TOOL create` and more arguments.
    fn create(&self, tool: &str, more: &[&str]) -> (String, String) {
        self.client.create(tool, &self.name, "network=host", more)
    }

    /// Creates the builder's container by hand, not started, from another image.
    fn fake_container(&self, command: &str, more: &[&str]) {
        let container = self.container();
        let mut args = vec!["create", "--name", &container];
        args.extend(more);
        args.extend([
            Rig::get().busybox.as_str(),
            "/bin/busybox",
            "sh",
            "-c",
            command,
        ]);
        self.client.docker_ok(&args);
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.client
            .docker(&["rm", "--force", "--volumes", &self.container()]);
        self.client
            .docker(&["volume", "rm", "--force", &self.volume()]);
    }
}

fn failure(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    text(&output.stderr)
}

/// The container as the engine describes it, without what differs between any two containers.
fn container(client: &Client, guard: &Guard<'_>) -> Value {
    let (json, _) = client.docker_ok(&["container", "inspect", &guard.container()]);
    let json = json.replace(&guard.name, "NAME");
    let mut all: Value = serde_json::from_str(&json).expect("JSON");
    let mut found = all[0].take();
    let map = found.as_object_mut().expect("an object");
    for own in [
        "Id",
        "Created",
        "State",
        "ResolvConfPath",
        "HostnamePath",
        "HostsPath",
        "LogPath",
        "NetworkSettings",
    ] {
        assert!(map.remove(own).is_some(), "{own}");
    }
    if let Some(config) = map.get_mut("Config").and_then(Value::as_object_mut) {
        config.remove("Hostname");
    }
    found
}

fn instance(client: &Client, guard: &Guard<'_>) -> Value {
    let path = client.config().join("buildx/instances").join(&guard.name);
    let json = fs::read_to_string(path).expect("the builder's file");
    serde_json::from_str(&json.replace(&guard.name, "NAME")).expect("JSON")
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn both_tools_make_the_same_builder() {
    let client = Rig::get().client();
    let config = client.config().join("bk.toml");
    fs::write(&config, "debug = true\n").expect("a file");
    let config = config.to_str().expect("UTF-8");
    let more = [
        "--driver-opt",
        "memory=2g,env.FOO=bar=baz",
        "--driver-opt",
        "cpu-shares=512,restart-policy=on-failure:3",
        "--buildkitd-config",
        config,
        "--buildkitd-flags",
        "--debug --oci-worker-gc",
        "--platform",
        "linux/amd64,linux/arm64",
        "--bootstrap",
    ];
    let peer = Guard::new(&client, "peer");
    peer.create("buildx", &more);
    let ours = Guard::new(&client, "ours");
    let (name, _) = ours.create("cachex", &more);
    assert_eq!(name, format!("{}\n", ours.name));

    let mut instances = [instance(&client, &peer), instance(&client, &ours)];
    for instance in &mut instances {
        // The peer writes the configuration again, with other spaces.
        let file = instance["Nodes"][0]["Files"]["buildkitd.toml"].take();
        assert!(file.is_string());
    }
    assert_eq!(instances[0], instances[1]);
    assert_eq!(container(&client, &peer), container(&client, &ours));
    let (files, _) = client.docker_ok(&[
        "exec",
        &ours.container(),
        "cat",
        "/etc/buildkit/buildkitd.toml",
    ]);
    assert_eq!(files, "debug = true\n");

    // Both lists and both texts are the same, whoever made the builder.
    let json = |tool| client.docker_ok(&[tool, "ls", "--format", "json"]).0;
    assert_eq!(json("cachex"), json("buildx"));
    let table = |tool| client.docker_ok(&[tool, "ls"]).0;
    assert_eq!(table("cachex"), table("buildx"));
    for guard in [&peer, &ours] {
        let inspect = |tool| {
            let (text, _) = client.docker_ok(&[tool, "inspect", &guard.name]);
            // The peer shows the driver options in any order.
            text.lines()
                .filter(|line| !line.starts_with("Driver Options:"))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(inspect("cachex"), inspect("buildx"));
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_builder_of_ours_builds_for_the_peer() {
    let rig = Rig::get();
    let client = rig.client();
    let dockerfile = format!("FROM {}\nRUN echo hello > /said\n", rig.busybox);
    let folder = context(&[("Dockerfile", &dockerfile)]);
    let folder = folder.path().to_str().expect("UTF-8");
    let ours = Guard::new(&client, "used");
    ours.create("cachex", &["--use"]);
    // The peer boots it, being the current builder.
    client.docker_ok(&["buildx", "build", "--progress=plain", folder]);
    let (list, _) = client.docker_ok(&["cachex", "ls"]);
    assert!(list.contains(&format!("{}*", ours.name)), "{list}");

    client.docker_ok(&["cachex", "stop"]);
    let (shown, _) = client.docker_ok(&["buildx", "inspect"]);
    assert!(shown.contains("stopped"), "{shown}");
    client.docker_ok(&["buildx", "inspect", "--bootstrap"]);

    let (_, removed) = client.docker_ok(&["cachex", "rm", "--keep-state", &ours.name]);
    assert_eq!(removed, format!("{} removed\n", ours.name));
    let (volumes, _) = client.docker_ok(&["volume", "ls", "--quiet"]);
    assert!(volumes.contains(&ours.volume()));
    ours.create("buildx", &["--bootstrap"]);
    let (shown, _) = client.docker_ok(&["cachex", "inspect", &ours.name]);
    assert!(shown.contains("running"), "{shown}");
    client.docker_ok(&["cachex", "rm", &ours.name]);
    let (volumes, _) = client.docker_ok(&["volume", "ls", "--quiet"]);
    assert!(!volumes.contains(&ours.volume()));
    assert!(
        !client
            .docker(&["buildx", "inspect", &ours.name])
            .status
            .success()
    );
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn many_processes_boot_one_node() {
    let client = Rig::get().client();
    let guard = Guard::new(&client, "race");
    guard.create("cachex", &[]);
    let inspect = || client.docker(&["cachex", "inspect", "--bootstrap", &guard.name]);
    let outputs: Vec<Output> = thread::scope(|scope| {
        let threads: Vec<_> = (0..5).map(|_| scope.spawn(inspect)).collect();
        threads
            .into_iter()
            .map(|t| t.join().expect("no panic"))
            .collect()
    });
    for output in outputs {
        let shown = text(&output.stdout);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(shown.contains("running"), "{shown}");
        assert!(!shown.contains("Error:"), "{shown}");
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn broken_builders_have_clear_errors() {
    let client = Rig::get().client();
    let boot =
        |guard: &Guard<'_>| client.docker(&["cachex", "inspect", "--bootstrap", &guard.name]);

    let ends = Guard::new(&client, "ends");
    ends.create("cachex", &[]);
    ends.fake_container("echo no space left; exit 3", &[]);
    let error = failure(&boot(&ends));
    assert!(error.contains("no space left"), "{error}");
    assert!(
        error.contains("is broken: it ended with exit code 3"),
        "{error}"
    );
    assert!(
        error.contains("hint: its log may say more: docker logs"),
        "{error}"
    );
    // No advice costs a builder its state or its settings.
    assert!(!error.contains("cachex rm"), "{error}");

    let loops = Guard::new(&client, "loops");
    loops.create("cachex", &[]);
    loops.fake_container("exit 4", &["--restart", "unless-stopped"]);
    let error = failure(&boot(&loops));
    assert!(error.contains("exit code 4 again and again"), "{error}");

    let other = Guard::new(&client, "other");
    other.create("cachex", &[]);
    other.fake_container("sleep 600", &[]);
    let error = failure(&boot(&other));
    assert!(
        error.contains("which is not BuildKit: it has no buildctl"),
        "{error}"
    );
    // The list goes on past broken builders, and tells about each.
    let output = client.docker(&["cachex", "ls"]);
    assert!(output.status.success());
    let told = text(&output.stderr);
    assert!(
        told.contains(&format!("Failed to get status for {}", other.name)),
        "{told}"
    );

    client.docker_ok(&["pause", &other.container()]);
    let error = failure(&boot(&other));
    assert!(error.contains("is paused"), "{error}");
    client.docker_ok(&["unpause", &other.container()]);
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn what_cannot_be_made_leaves_nothing() {
    let client = Rig::get().client();
    let gone = Guard::new(&client, "gone");
    let create = |more: &[&str]| {
        let mut args = vec!["cachex", "create", "--name", &gone.name];
        args.extend(more);
        failure(&client.docker(&args))
    };
    for (args, expected) in [
        (
            &["--driver", "docker"][..],
            "additional instances of driver \"docker\" cannot be created",
        ),
        (&["--driver", "kubernetes"], "is not supported yet"),
        (&["--driver-opt", "cpuquota=1"], "did you mean cpu-quota?"),
        (&["--driver-opt", "network"], "expecting k=v"),
        (
            &["--buildkitd-config", "/nonexistent.toml"],
            "/nonexistent.toml",
        ),
        (&["--platform", "a/b/c/d"], "\"platform\""),
        (&["foo://bar"], "failed to parse endpoint foo://bar"),
        (
            &[
                "unix:///nonexistent/docker.sock",
                "--driver",
                "docker-container",
            ],
            "failed to initialize builder",
        ),
    ] {
        let error = create(args);
        assert!(error.contains(expected), "{args:?}: {error}");
    }
    let instances = client.config().join("buildx/instances");
    assert_eq!(fs::read_dir(instances).expect("the store").count(), 0);
    let error = failure(&client.docker(&["cachex", "rm", &gone.name]));
    assert!(
        error.contains(&format!("no builder {:?} found", gone.name)),
        "{error}"
    );
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn the_engines_own_builder_is_refused_with_the_command_that_helps() {
    let client = Rig::get().client();
    let folder = context(&[("Dockerfile", "FROM scratch\n")]);
    let folder = folder.path().to_str().expect("UTF-8");
    let error = failure(&client.docker(&["cachex", "build", folder]));
    assert!(
        error.contains("builder \"default\" uses the docker driver"),
        "{error}"
    );
    assert!(
        error.contains("hint: create a builder with: docker cachex create --use"),
        "{error}"
    );
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn nodes_are_appended_and_left() {
    let client = Rig::get().client();
    let guard = Guard::new(&client, "nodes");
    guard.create("cachex", &[]);
    let socket = std::env::var("DOCKER_HOST").expect("the rig's engine");
    // The same engine under another name: a second node for one daemon is allowed to both tools.
    let second = socket.replace("unix://", "unix:///.");
    guard.create(
        "cachex",
        &["--append", "--platform", "linux/arm64", &second],
    );
    let (list, _) =
        client.docker_ok(&["buildx", "ls", "--format", "{{.Name}} {{.DriverEndpoint}}"]);
    assert!(
        list.contains(&format!("{}1 {second}", guard.name)),
        "{list}"
    );
    let leave = |node: &str| {
        let name = format!("--name={}", guard.name);
        client.docker(&["cachex", "create", "--leave", &name, "--node", node])
    };
    let node = format!("{}1", guard.name);
    let output = leave(&node);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let (left, _) = client.docker_ok(&["buildx", "ls"]);
    assert!(!left.contains(&node), "{left}");
    let error = failure(&leave(&format!("{}0", guard.name)));
    assert!(error.contains("can not leave last node"), "{error}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn stray_files_do_not_matter() {
    let client = Rig::get().client();
    let guard = Guard::new(&client, "stray");
    guard.create("cachex", &[]);
    let store = client.config().join("buildx");
    let stray: &Path = &store.join("instances/.tmp-left123");
    fs::write(stray, "half a fi").expect("a file");
    let (list, _) = client.docker_ok(&["cachex", "ls"]);
    assert!(list.contains(&guard.name), "{list}");
    fs::remove_file(stray).expect("removed");
    // Nothing of ours stands in the way of the peer.
    client.docker_ok(&["buildx", "ls"]);
}
