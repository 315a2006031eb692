//! Builds of cachex in `docker buildx history`, beside those of buildx itself.

use std::path::Path;

use serde_json::Value;

use crate::support::bench::Bench;
use crate::support::compare::paths;
use crate::support::rig::{Rig, context, unique};

use super::TOOLS;

/// The newest record of the builder.
fn newest(bench: &Bench) -> (String, Value) {
    let (list, _) = bench
        .client
        .docker_ok(&["buildx", "history", "ls", "--format=json"]);
    let records = list
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let record = records
        .max_by_key(|record| record["created_at"].as_str().unwrap_or_default().to_owned())
        .expect("a record");
    let id = record["ref"].as_str().expect("an identifier");
    let id = id.rsplit('/').next().expect("a part").to_owned();
    (id, record)
}

/// What `history` shows of a build.
fn shown(bench: &Bench, tool: &str, args: &[&str], folder: &Path) -> [Value; 3] {
    bench.try_build(tool, args, folder);
    let (id, record) = newest(bench);
    let text = |args: &[&str]| {
        let (text, _) = bench
            .client
            .docker_ok(&[&["buildx", "history"], args].concat());
        text
    };
    let inspected: Value =
        serde_json::from_str(&text(&["inspect", "--format=json", &id])).expect("JSON");
    let mut keys = Vec::new();
    paths(&inspected, "", &mut keys);
    keys.sort();
    keys.dedup();
    let of = |value: &Value, names: &[&str]| -> Value {
        names.iter().map(|name| value[*name].clone()).collect()
    };
    let listed = of(
        &record,
        &[
            "name",
            "status",
            "total_steps",
            "completed_steps",
            "cached_steps",
        ],
    );
    let facts = of(
        &inspected,
        &[
            "Name",
            "Context",
            "Dockerfile",
            "Target",
            "Status",
            "Platform",
            "Config",
            "BuildArgs",
            "Labels",
        ],
    );
    let (_, logs) = bench
        .client
        .docker_ok(&["buildx", "history", "logs", "--progress=plain", &id]);
    let mut names: Vec<&str> = logs
        .lines()
        .filter_map(|line| {
            line.split_once(' ')?
                .1
                .starts_with('[')
                .then_some(line.split_once(' ')?.1)
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    [listed, Value::Array(vec![facts, keys.into()]), names.into()]
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn history_shows_builds_as_those_of_buildx() {
    let bench = Bench::new();
    let dockerfile = format!(
        "FROM {} AS one\nARG A=b\nRUN echo {}\nFROM one AS two\nCOPY file /\n",
        Rig::get().busybox,
        unique("history")
    );
    let folder = context(&[
        ("Dockerfile", &dockerfile),
        ("sub/Other", "FROM scratch\nCOPY nosuch /\n"),
        ("file", "x"),
    ]);
    let other = folder.path().join("sub/Other").display().to_string();
    for args in [
        &[][..],
        &["--target=one", "--build-arg=A=c", "--label=l=m"],
        &["-f", &other],
        &[
            "--platform=linux/amd64",
            "--no-cache",
            "-o",
            "type=cacheonly",
        ],
    ] {
        // The steps are in the builder before both.
        bench.try_build("buildx", args, folder.path());
        let shown = TOOLS.map(|tool| shown(&bench, tool, args, folder.path()));
        assert_eq!(shown[0], shown[1], "{args:?}");
        let [listed, facts, steps] = &shown[1];
        assert!(
            listed[0].is_string() && facts[0][1].is_string(),
            "{shown:#?}"
        );
        assert!(!steps.as_array().expect("a list").is_empty(), "{shown:#?}");
    }
}
