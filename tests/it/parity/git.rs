//! Git URLs with a query, as they reach the builder.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::bench::Bench;
use crate::support::git::GitServer;
use crate::support::rig::{text, unique};

use super::TOOLS;

/// Digests of the steps by name; a step's digest tells all that it is made of.
fn steps(progress: &str) -> BTreeMap<String, String> {
    let reports = progress
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let vertices = reports.filter_map(|report| report["vertexes"].as_array().cloned());
    let known = vertices.flatten().filter_map(|vertex| {
        let name = vertex["name"].as_str()?;
        let is_step = name.contains("git") || name.contains("COPY");
        is_step.then(|| Some((name.to_owned(), vertex["digest"].as_str()?.to_owned())))?
    });
    known.collect()
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn git_queries_are_sent_as_buildx_sends_them() {
    let bench = Bench::new();
    let dockerfile = format!("FROM scratch\nCOPY . /\nLABEL seed={}\n", unique("git"));
    let server = GitServer::start(&[("app/Dockerfile", &dockerfile), ("x", "")]);
    let url = |query: &str| format!("git://127.0.0.1:{}/r.git?{query}", server.port);
    let build = |tool: &str, as_input: &str, args: &[String]| {
        let mut command = bench.client.command(&[tool, "build", "--progress=rawjson"]);
        command
            .args(args)
            .env("BUILDX_SEND_GIT_QUERY_AS_INPUT", as_input);
        let output = command.output().expect("the docker CLI");
        let progress = text(&output.stderr);
        (output.status.code(), steps(&progress), progress)
    };
    let named = format!("--build-context=lib={}", url("branch=main"));
    for as_input in ["true", "false"] {
        for args in [
            vec![url("branch=main&subdir=app")],
            vec![url("ref=main&subdir=app&keep-git-dir=true")],
            vec![
                "--build-arg=BUILDKIT_CONTEXT_KEEP_GIT_DIR=1".to_owned(),
                named.clone(),
                url("subdir=app&submodules=false"),
            ],
        ] {
            let [theirs, ours] = TOOLS.map(|tool| build(tool, as_input, &args));
            assert_eq!(ours.0, theirs.0, "{args:?} {}\n{}", ours.2, theirs.2);
            assert_eq!(ours.1, theirs.1, "{as_input} {args:?} {}", ours.2);
            assert!(ours.1.len() > 1, "{}", ours.2);
        }
    }
    let [theirs, ours] = TOOLS.map(|tool| build(tool, "true", &[url("depth=1")]).0);
    assert_eq!((theirs, ours), (Some(1), Some(1)));
}
