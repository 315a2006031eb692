//! Cache mounts of builds that fail or are cancelled, and of those that still run.

use std::process::Output;

use rustix::process::{Signal, kill_process_group};
use serde_json::Value;

use crate::support::bench::Bench;
use crate::support::caches::{export, import, reference};
use crate::support::counter::Counter;
use crate::support::rig::{Rig, context, text, unique};
use crate::support::running::Running;

fn mounts(bench: &Bench, reference: &str) -> Vec<String> {
    let args = ["cachex", "cache", "inspect", "--format=json", reference];
    let output = bench.client.docker(&args);
    if !output.status.success() {
        return Vec::new();
    }
    let inspection: Value = serde_json::from_str(&text(&output.stdout)).expect("JSON");
    let mounts = inspection["mounts"].as_array().cloned().unwrap_or_default();
    let ids = mounts.iter().map(|mount| mount["id"].as_str());
    let mut ids: Vec<String> = ids.map(|id| id.expect("an id").to_owned()).collect();
    ids.sort();
    ids
}

fn progress_of(output: &Output) -> String {
    text(&output.stderr)
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_failed_build_keeps_the_mounts_of_steps_that_have_ended() {
    let rig = Rig::get();
    let seed = unique("mounts");
    let dockerfile = |last: &str| {
        format!(
            "FROM {}\nRUN --mount=type=cache,id=good,target=/c : {seed} {last}; cat /c/*; echo it is good > /c/x\n\
             RUN --mount=type=cache,id=bad,target=/c : {seed} {last}; echo x > /c/x; {last}\n\
             RUN --mount=type=cache,id=unused,target=/c : {seed}; echo x > /c/x\n",
            rig.busybox
        )
    };
    for (keys, kept) in [
        ("mode=max,via=client,mounts=all,on-failure=export", true),
        ("mode=max,via=builder,mounts=all,on-failure=export", true),
        ("mode=max,via=client,mounts=all,on-failure=skip", false),
    ] {
        let (bench, reference) = (Bench::new(), reference("mounts"));
        let failing = context(&[("Dockerfile", &dockerfile("false"))]);
        let to = export(&reference, keys);
        let output = bench.try_build("cachex", &[&to], failing.path());
        let progress = progress_of(&output);
        assert_eq!(output.status.code(), Some(1), "{keys}\n{progress}");
        let expected: &[&str] = if kept { &["good"] } else { &[] };
        assert_eq!(mounts(&bench, &reference), expected, "{keys}\n{progress}");
        if kept {
            let again = context(&[("Dockerfile", &dockerfile("true"))]);
            let fresh = Bench::new();
            let progress = fresh.build("cachex", &[&import(&reference)], again.path());
            assert!(progress.contains("it is good"), "{keys}\n{progress}");
        }
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_mount_is_saved_while_later_steps_run() {
    let rig = Rig::get();
    let (seed, counter) = (unique("mounts"), Counter::closed());
    let dockerfile = format!(
        "FROM {}\nRUN --mount=type=cache,id=early,target=/c echo {seed} > /c/x\n\
         RUN --mount=type=cache,id=late,target=/c echo {seed} > /c/x; until {}; do sleep 0.1; done\n",
        rig.busybox,
        counter.tell("last")
    );
    for is_cancelled in [true, false] {
        let (bench, reference) = (Bench::remote(), reference("mounts"));
        let to = export(
            &reference,
            "mode=max,via=client,mounts=all,on-failure=export",
        );
        let mut running = Running::start(&bench, &[&to], &dockerfile, "saving cache mount early");
        running.shows(|progress| progress.contains(" sent "));
        assert!(!running.progress().contains("saving cache mount late"));
        let expected: &[&str] = if is_cancelled {
            kill_process_group(running.pid(), Signal::INT).expect("a signal");
            &["early"]
        } else {
            counter.open();
            &["early", "late"]
        };
        let status = running.ends();
        let progress = running.progress();
        assert_eq!(status.success(), !is_cancelled, "{progress}");
        assert_eq!(mounts(&bench, &reference), expected, "{progress}");
        let saves = progress.matches("saving cache mount early").count();
        let begun = progress.matches("] saving cache mount early").count();
        assert!(saves <= 2 && begun <= 1, "it is saved once\n{progress}");
    }
}
