//! What steps need is loaded from a cache while the steps before them run.

use std::collections::BTreeMap;

use fs_err as fs;
use serde_json::Value;

use crate::support::bench::Bench;
use crate::support::caches;
use crate::support::rig::{Rig, context, text};

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn layers_of_a_later_stage_come_while_an_earlier_one_runs() {
    let bench = Bench::new();
    let busybox = &Rig::get().busybox;
    let dockerfile = format!(
        "FROM {busybox} AS tool\nCOPY tool /tool\n\
         FROM {busybox} AS made\nCOPY src /src\nRUN sleep 8; cat /src > /made\n\
         FROM {busybox}\nCOPY --from=tool /tool /other\nCOPY --from=made /made /made\n"
    );
    let folder = context(&[
        ("Dockerfile", &dockerfile),
        ("src", "old"),
        ("tool", "tool"),
    ]);
    let reference = caches::reference("it/ahead");
    bench.build(
        "buildx",
        &[&caches::export(&reference, "mode=max")],
        folder.path(),
    );
    fs::write(folder.path().join("src"), "new").expect("a file");

    for tool in ["cachex", "buildx"] {
        bench.prune();
        let args = ["--progress=rawjson", &caches::import(&reference)];
        let output = bench.try_build(tool, &args, folder.path());
        let progress = text(&output.stderr);
        assert!(output.status.success(), "{progress}");
        let (ran, unpacked) = (
            ended(&progress, "RUN sleep", None),
            ended(&progress, "COPY --from=tool", Some("extracting ")),
        );
        assert_eq!(unpacked < ran, tool == "cachex", "{tool}: {progress}");
    }
}

/// When a step of a rawjson progress ended, or what was shown of it whose name begins so.
fn ended(progress: &str, step: &str, part: Option<&str>) -> String {
    let reports = progress
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let (mut digest, mut ends) = (None, BTreeMap::new());
    for report in reports {
        let of = |key: &str| report[key].as_array().cloned().unwrap_or_default();
        for vertex in of("vertexes") {
            let name = vertex["name"].as_str().unwrap_or_default();
            if name.contains(step) {
                digest = vertex["digest"].as_str().map(str::to_owned);
            }
            note(&mut ends, (&vertex["digest"], ""), &vertex["completed"]);
        }
        for status in of("statuses") {
            let id = status["id"].as_str().unwrap_or_default();
            if part.is_some_and(|part| id.starts_with(part)) {
                note(&mut ends, (&status["vertex"], "part"), &status["completed"]);
            }
        }
    }
    let key = (
        digest.expect("the step"),
        if part.is_some() { "part" } else { "" },
    );
    ends.remove(&key)
        .unwrap_or_else(|| panic!("{step} never ends: {progress}"))
}

fn note(
    ends: &mut BTreeMap<(String, &str), String>,
    (vertex, part): (&Value, &'static str),
    completed: &Value,
) {
    if let (Some(vertex), Some(completed)) = (vertex.as_str(), completed.as_str()) {
        ends.insert((vertex.to_owned(), part), completed.to_owned());
    }
}
