//! A builder of an engine on this machine is reached past the engine, and through it where that is wanted or needed.

use std::time::SystemTime;

use crate::support::bench::Bench;
use crate::support::rig::{Rig, text, unique};
use crate::support::running::{Running, folder};

const SOCKET: &str = "/run/buildkit/buildkitd.sock";
const THROUGH_THE_ENGINE: &str = "the engine connects to the builder";

fn dockerfile() -> String {
    let base = &Rig::get().busybox;
    format!("FROM {base}\nRUN echo {}\n", unique("direct"))
}

/// Seconds since 1970, as docker takes times.
fn now() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.expect("a clock").as_secs_f64().to_string()
}

/// Builds, and tells how many programs the engine was asked to run in the builder's container meanwhile.
fn programs(bench: &Bench, direct: Option<&str>) -> (usize, String) {
    let folder = folder(&dockerfile());
    let begin = now();
    let mut build = bench.command("cachex", &["--debug"], folder.path());
    build.envs(direct.map(|value| ("CACHEX_DIRECT", value)));
    let output = build.output().expect("the docker CLI");
    let progress = text(&output.stderr);
    assert!(output.status.success(), "{direct:?}\n{progress}");
    let container = format!("container={}", bench.container());
    let events = [
        "events",
        "--since",
        &begin,
        "--until",
        &now(),
        "--filter",
        &container,
        "--filter",
        "event=exec_create",
    ];
    (bench.client.docker_ok(&events).0.lines().count(), progress)
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn the_socket_is_opened_and_the_engine_runs_nothing() {
    let bench = Bench::new();
    let (count, progress) = programs(&bench, None);
    assert_eq!(count, 0, "{progress}");
    let (count, progress) = programs(&bench, Some("0"));
    assert_eq!(count, 1, "{progress}");

    // Links are followed inside the container.
    let moved = format!("mv {SOCKET} /run/moved && ln -s /run/moved {SOCKET}");
    bench.inside(&["sh", "-c", &moved]);
    let (count, progress) = programs(&bench, None);
    assert_eq!(count, 0, "{progress}");

    // A link that only the kernel can follow is left to a program in the container.
    let hidden = format!("ln -sfn /proc/self/root/run/moved {SOCKET}");
    bench.inside(&["sh", "-c", &hidden]);
    let (count, progress) = programs(&bench, None);
    assert_eq!(count, 1, "{progress}");
    assert!(progress.contains(THROUGH_THE_ENGINE), "{progress}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_builder_that_dies_is_told_of_in_one_way() {
    let bench = Bench::new();
    for direct in ["1", "0"] {
        let wait = format!("{}RUN sleep 30\n", dockerfile());
        let mut running = Running::start_with(
            &bench,
            &[("CACHEX_DIRECT", direct)],
            &[],
            &wait,
            "RUN sleep 30",
        );
        bench.client.docker_ok(&["kill", &bench.container()]);
        let status = running.ends();
        let progress = running.progress();
        assert_eq!(status.code(), Some(1), "{direct}\n{progress}");
        assert!(
            progress.contains("the connection to the builder broke"),
            "{direct}\n{progress}"
        );
        let hint = format!("hint: docker logs {}", bench.container());
        assert!(progress.contains(&hint), "{direct}\n{progress}");
        bench
            .client
            .docker_ok(&["cachex", "inspect", "--bootstrap"]);
    }
}
