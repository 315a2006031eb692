//! A build that is cancelled ends at once, here and in the builder.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::Weak;
use std::thread::sleep;
use std::time::{Duration, Instant};

use fs_err as fs;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;

use crate::support::bench::{Bench, Shared};
use crate::support::rig::{Rig, context, plugin, unique};
use crate::support::running::{Running, folder};
use crate::support::scripted_registry::{Login, ScriptedRegistry};

static SHARED: Shared = Mutex::new(Weak::new());

/// What takes longer to end hangs. On a machine with nothing else to do it is well under two seconds.
const LIMIT: Duration = Duration::from_secs(8);
/// How long the builder's word of what it has stopped is waited for, before the build ends without.
const GRACE: Duration = Duration::from_millis(800);
/// How many more builds are cancelled until the builder is fast enough to tell in time.
const TRIES: usize = 8;
/// How long the builder may take to clean up behind it.
const CLEANUP: Duration = Duration::from_secs(5);

/// A build in the middle of a long RUN.
struct Sleeping<'a> {
    bench: &'a Bench,
    build: Running,
    /// Marks the processes of the step in the builder.
    mark: String,
}

impl<'a> Sleeping<'a> {
    /// Starts it and waits until the step runs. The command gets the folder as its last argument.
    fn start(bench: &'a Bench, mut command: Command) -> Self {
        let mark = unique("sleeper");
        let dockerfile = format!(
            "FROM {}\nRUN echo {mark} begins; sleep 30; echo {mark}\n",
            Rig::get().busybox
        );
        let folder = folder(&dockerfile);
        command.arg(folder.path());
        let build = Running::spawn(command, folder, &format!(" {mark} begins\n"));
        let sleeping = Self { bench, build, mark };
        assert!(sleeping.step_runs());
        sleeping
    }

    fn progress(&self) -> String {
        self.build.progress()
    }

    fn pid(&self) -> Pid {
        self.build.pid()
    }

    fn processes(&self) -> String {
        self.bench.inside(&["ps", "-eo", "args"])
    }

    fn step_runs(&self) -> bool {
        self.processes().contains(&self.mark)
    }

    fn wait_until(&self, limit: Duration, what: &str, done: impl Fn(&Self) -> bool) {
        let end = Instant::now() + limit;
        while !done(self) {
            assert!(
                Instant::now() < end,
                "{what}: not in time\n{}\n{}",
                self.progress(),
                self.processes()
            );
            sleep(Duration::from_millis(50));
        }
    }

    /// The end of the started process, which must come in time.
    fn ends(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.build.child.try_wait().expect("a child") {
                return status;
            }
            assert!(start.elapsed() < LIMIT, "too slow:\n{}", self.progress());
            sleep(Duration::from_millis(10));
        }
    }

    /// Nothing is left of the build in the builder, and the builder builds on.
    fn assert_gone(&self) {
        self.wait_until(CLEANUP, "the step is gone", |r| !r.step_runs());
        self.wait_until(CLEANUP, "the connection is gone", |r| {
            !r.processes().contains("dial-stdio")
        });
        let progress = self.progress();
        assert!(!progress.contains("panicked"), "{progress}");
    }
}

fn docker(bench: &Bench) -> Command {
    bench
        .client
        .command(&["cachex", "build", "--progress=plain"])
}

/// The plugin without the docker CLI. Tests may be run by `nohup`, whose programs ignore SIGHUP, as the plugin does then.
fn alone(bench: &Bench) -> Command {
    let mut command = Command::new("env");
    command
        .arg("--default-signal=HUP")
        .arg(plugin())
        .env("DOCKER_CONFIG", bench.client.config())
        .args(["build", "--progress=plain"]);
    command
}

/// A way to cancel a build.
struct Way {
    what: &'static str,
    /// Creates the command of a build.
    command: fn(&Bench) -> Command,
    /// Cancels it while it runs.
    cancel: fn(&Sleeping<'_>),
}

const WAYS: [Way; 5] = [
    Way {
        what: "Ctrl-C",
        command: docker,
        cancel: |r| kill_process_group(r.pid(), Signal::INT).expect("the group"),
    },
    Way {
        what: "TERM to docker",
        command: docker,
        cancel: |r| kill_process(r.pid(), Signal::TERM).expect("docker"),
    },
    Way {
        what: "INT to the plugin",
        command: alone,
        cancel: |r| kill_process(r.pid(), Signal::INT).expect("the plugin"),
    },
    Way {
        what: "TERM to the plugin",
        command: alone,
        cancel: |r| kill_process(r.pid(), Signal::TERM).expect("the plugin"),
    },
    Way {
        what: "HUP to the plugin",
        command: alone,
        cancel: |r| kill_process(r.pid(), Signal::HUP).expect("the plugin"),
    },
];

impl Way {
    /// Cancels a build, and returns whether the builder's word of it was shown.
    fn is_told(&self, bench: &Bench) -> bool {
        let what = self.what;
        let mut running = Sleeping::start(bench, (self.command)(bench));
        let begin = Instant::now();
        (self.cancel)(&running);
        let status = running.ends();
        let took = begin.elapsed();
        let progress = running.progress();
        assert_eq!(status.code(), Some(130), "{what}\n{progress}");
        assert_eq!(progress.matches("ERROR: ").count(), 1, "{what}\n{progress}");
        let is_told = progress.contains("CANCELED");
        // A busy builder may tell too late; then it was waited for.
        assert!(
            is_told || took >= GRACE,
            "{what} after {took:?}\n{progress}"
        );
        running.assert_gone();
        is_told
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn signals_end_a_build() {
    // Each has a builder of its own, so that no other build's processes are in it.
    let bench = Bench::new();
    let told = WAYS.map(|way| way.is_told(&bench));
    let mut tries = WAYS.iter().cycle().take(TRIES);
    assert!(
        told.contains(&true) || tries.any(|way| way.is_told(&bench)),
        "the builder's word is never shown"
    );
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn the_end_of_docker_ends_the_plugin() {
    let bench = Bench::new();
    let mut running = Sleeping::start(&bench, docker(&bench));
    kill_process(running.pid(), Signal::KILL).expect("docker");
    let status = running.ends();
    assert_eq!(status.code(), None);
    running.assert_gone();
    // The group is empty: the plugin is gone, too.
    running.wait_until(LIMIT, "the plugin is gone", |r| {
        kill_process_group(r.pid(), Signal::CONT).is_err()
    });
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn what_is_cancelled_writes_no_files() {
    let bench = Bench::new();
    let out = TempDir::new().expect("a temporary folder");
    let mut command = docker(&bench);
    for (flag, name) in [
        ("--metadata-file=", "meta"),
        ("--output=type=tar,dest=", "tar"),
    ] {
        command.arg(format!("{flag}{}", out.path().join(name).display()));
    }
    let mut running = Sleeping::start(&bench, command);
    kill_process_group(running.pid(), Signal::INT).expect("the group");
    assert_eq!(running.ends().code(), Some(130));
    let left: Vec<_> = fs::read_dir(out.path())
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_cancelled_build_can_be_done_again() {
    let bench = Bench::shared(&SHARED);
    let mut running = Sleeping::start(&bench, docker(&bench));
    kill_process_group(running.pid(), Signal::INT).expect("the group");
    assert_eq!(running.ends().code(), Some(130));
    let dockerfile = format!("FROM {}\nRUN echo {}\n", Rig::get().busybox, unique("x"));
    let folder = context(&[("Dockerfile", &dockerfile)]);
    bench.build("cachex", &[], folder.path());
}

/// A command that is stuck in a call that blocks, before there is anything to end in order.
fn assert_interrupted(what: &str, mut command: Command) {
    use std::os::unix::process::CommandExt as _;
    let mut child = command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .process_group(0)
        .spawn()
        .expect("the plugin");
    // Standard input stays open and says nothing.
    let _stdin = child.stdin.take();
    sleep(Duration::from_secs(1));
    assert!(
        child.try_wait().expect("a child").is_none(),
        "{what}: it waits for nothing"
    );
    kill_process(Pid::from_child(&child), Signal::INT).expect("the plugin");
    let start = Instant::now();
    while start.elapsed() < LIMIT {
        if let Some(status) = child.try_wait().expect("a child") {
            assert_eq!(status.code(), Some(130), "{what}");
            return;
        }
        sleep(Duration::from_millis(20));
    }
    child.kill().expect("the plugin");
    panic!("{what}: not in time");
}

/// A program that never answers, first in the search path.
fn silent_program(folder: &Path, name: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let program = folder.join(name);
    fs::write(&program, "#!/bin/sh\nexec sleep 30\n").expect("a program");
    let mode = std::fs::Permissions::from_mode(0o755);
    fs::set_permissions(&program, mode).expect("a mode");
    let path = std::env::var("PATH").expect("a search path");
    format!("{}:{path}", folder.display())
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_signal_ends_what_waits_before_the_build() {
    let bench = Bench::shared(&SHARED);
    let temporary = TempDir::new().expect("a temporary folder");
    let plugin = |args: &[&str]| {
        let mut command = Command::new(plugin());
        command
            .env("DOCKER_CONFIG", bench.client.config())
            .env("TMPDIR", temporary.path())
            .args(args);
        command
    };
    assert_interrupted("a context from stdin", plugin(&["build", "-"]));
    let folder = folder("FROM scratch\n");
    let path = folder.path().to_str().expect("UTF-8");
    assert_interrupted(
        "a Dockerfile from stdin",
        plugin(&["build", "-f", "-", path]),
    );

    let programs = TempDir::new().expect("a folder");
    let search = silent_program(programs.path(), "git");
    fs::create_dir(folder.path().join(".git")).expect("a work tree");
    let mut command = plugin(&["build", path]);
    command.env("PATH", search);
    assert_interrupted("git", command);

    let left = fs::read_dir(temporary.path()).expect("a folder").count();
    assert_eq!(left, 0, "temporary files are left");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_signal_ends_the_boot_of_a_builder() {
    let client = Rig::get().client();
    // The engine pulls the image from a registry that takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let image = format!("{}/builder:x", silent.local_addr().expect("an address"));
    let option = format!("--driver-opt=image={image}");
    client.docker_ok(&[
        "cachex",
        "create",
        "--name=booting",
        "--driver=docker-container",
        &option,
    ]);
    let folder = folder("FROM scratch\n");
    for command in [
        &[
            "build",
            "--builder=booting",
            folder.path().to_str().expect("UTF-8"),
        ][..],
        &["inspect", "--bootstrap", "booting"],
    ] {
        let mut plugin = Command::new(plugin());
        plugin.env("DOCKER_CONFIG", client.config()).args(command);
        assert_interrupted("a builder's boot", plugin);
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_signal_ends_the_wait_for_a_credential_helper() {
    let bench = Bench::new();
    let programs = TempDir::new().expect("a folder");
    let search = silent_program(programs.path(), "docker-credential-silent");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let registry = runtime.block_on(ScriptedRegistry::start());
    registry.login(Login::Basic("user", "password"));
    let host = registry.host();
    let config = bench.client.config().join("config.json");
    let text = fs::read(&config).unwrap_or_else(|_| b"{}".to_vec());
    let mut json: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    json["credHelpers"] = serde_json::json!({ host.as_str(): "silent" });
    fs::write(&config, json.to_string()).expect("written");
    let folder = folder("FROM scratch\n");
    let cache = format!("--cache-from={host}/{}:c", unique("silent"));
    let mut command = alone(&bench);
    command.arg(cache).arg(folder.path()).env("PATH", search);
    assert_interrupted("a credential helper", command);
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_signal_ends_the_wait_for_the_store_of_builders() {
    let bench = Bench::new();
    let lock = bench.client.config().join("buildx/.lock");
    let lock = fs::File::create(lock).expect("the lock");
    lock.file().lock().expect("locked");
    let mut command = Command::new(plugin());
    command
        .env("DOCKER_CONFIG", bench.client.config())
        .args(["use", "default"]);
    assert_interrupted("the store of builders", command);
}
