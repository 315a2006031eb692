//! Caches are sent while the build runs, but only when the builder has a core to spare.

use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::support::bench::Bench;
use crate::support::caches::export;
use crate::support::counter::Counter;
use crate::support::recorder::Recorder;
use crate::support::rig::{Rig, unique};
use crate::support::running::{LIMIT, Running};

/// A step that makes a layer of 3 MB, and one that does some work until it is told to go on.
fn layer_and(counter: &Counter, work: &str) -> String {
    let base = &Rig::get().busybox;
    let seed = unique("seed");
    format!(
        "FROM {base}\n\
         RUN echo {seed} && head -c 3000000 /dev/urandom > /data && sleep 1.1\n\
         RUN echo {seed} waits && {{ {work} until {}; do sleep 0.1; done; rm -f /work; }}\n",
        counter.tell("go")
    )
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn layers_are_sent_while_the_build_runs() {
    let bench = Bench::remote();
    for (keys, early) in [
        ("mode=max,via=client", true),
        ("mode=max,via=client,alongside=false", false),
    ] {
        let (counter, registry) = (
            Counter::closed(),
            Recorder::start(Rig::get().registry.host()),
        );
        let reference = format!("{}/{}:cache", registry.host(), unique("early"));
        let build = Running::start(
            &bench,
            &[&export(&reference, keys)],
            &layer_and(&counter, ""),
            " waits\n",
        );
        let mut sent = 0;
        let end = Instant::now() + if early { LIMIT } else { Duration::from_secs(3) };
        while sent < 2_000_000 && Instant::now() < end {
            sleep(Duration::from_millis(100));
            sent = registry.bytes();
        }
        assert_eq!(
            sent > 2_000_000,
            early,
            "{keys}: {sent}\n{}",
            build.progress()
        );
        assert!(!build.progress().contains("exporting cache to registry"));
        counter.open();
        build.succeeds();
        let after = registry.bytes() - sent;
        assert_eq!(after > 2_000_000, !early, "{keys}: {after}");
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn steps_that_need_every_core_keep_them() {
    let bench = Bench::new();
    let (counter, registry) = (
        Counter::closed(),
        Recorder::start(Rig::get().registry.host()),
    );
    let reference = format!("{}/{}:cache", registry.host(), unique("busy"));
    let cores = thread::available_parallelism().expect("cores");
    let work =
        format!("touch /work; for n in $(seq {cores}); do while [ -e /work ]; do :; done & done;");
    let build = Running::start(
        &bench,
        &[&export(&reference, "mode=max,via=client")],
        &layer_and(&counter, &work),
        " waits\n",
    );
    sleep(Duration::from_secs(4));
    let sent = registry.bytes();
    assert!(sent < 2_000_000, "{sent}\n{}", build.progress());
    counter.open();
    build.succeeds();
    let after = registry.bytes();
    assert!(after > 2_000_000, "{after}");
}
