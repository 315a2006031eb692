//! The flags of `create`: what each tool writes into a store of its own.

use std::collections::BTreeMap;

use fs_err as fs;
use serde_json::Value;

use crate::support::compare::tree;
use crate::support::rig::{Client, Rig, text, unique};

use super::cases::{Errors, OwnWords, Same};
use super::{TOOLS, tools_for};

/// Calls of `create` one after the other, their arguments with blanks between them. `CONFIG` is a file for buildkitd.
type Case = (&'static [&'static str], Errors);

const CASES: [Case; 18] = [
    (&["--name=one"], Same),
    (&["--name=one --driver=docker-container --use"], Same),
    (&["--name one --use", "--name two"], Same),
    (
        &["--name=one --driver-opt=image=i:1,network=host --driver-opt env.A=b=c,\"env.D=e,f\""],
        Same,
    ),
    (
        &["--name=one --platform=linux/amd64,linux/arm64,linux/arm/v7"],
        Same,
    ),
    (&["--name=one --buildkitd-flags=--debug"], Same),
    (&["--name=one --buildkitd-config=CONFIG"], Same),
    (
        &[
            "--name=one --node=first",
            "--append --name=one --node=second --platform=linux/arm64",
        ],
        Same,
    ),
    (
        &[
            "--name=one --node=first",
            "--append --name=one --node=second",
            "--leave --name=one --node=first",
        ],
        Same,
    ),
    (
        &[
            "--name=one --node=first --driver-opt=network=host",
            "--name=one --append --node=first",
        ],
        Same,
    ),
    (&["--name=one --driver=remote tcp://127.0.0.1:1"], Same),
    (
        &[
            "-D --name=one --driver=remote --driver-opt=cacert=/a,cert=/b,key=/c,servername=s tcp://127.0.0.1:1",
        ],
        Same,
    ),
    (&["--name=one --timeout=20s"], Same),
    (&["--name=one --driver=remote"], OwnWords),
    (&["--name=one --driver=nosuch"], OwnWords),
    (&["--leave --name=one"], OwnWords),
    (&["--append"], OwnWords),
    (&["--name=no/such"], OwnWords),
];

/// The arguments in the table, and those of the test that boots.
pub(super) fn arguments() -> impl Iterator<Item = &'static str> {
    let table = CASES.iter().flat_map(|(calls, _)| *calls);
    table.flat_map(|call| call.split(' ')).chain(BOOTED)
}

/// Exit code, what was printed, and whether there was an error.
type Outcome = (Option<i32>, String, bool);

fn create(client: &Client, tool: &str, args: &str) -> Outcome {
    let config = client.config().join("bk.toml");
    fs::write(&config, "debug = true\n").expect("a file");
    let args = args
        .split(' ')
        .map(|arg| arg.replace("CONFIG", &config.display().to_string()));
    let output = client.command(&[tool, "create"]).args(args).output();
    let output = output.expect("the docker CLI");
    let is_error = text(&output.stderr).contains("ERROR: ");
    (output.status.code(), text(&output.stdout), is_error)
}

/// The files of the store. Instances are read, as their spaces do not matter; locks and times are left out.
fn store(client: &Client) -> BTreeMap<String, Value> {
    let root = client.config().join("buildx");
    let mut files = BTreeMap::new();
    if !root.exists() {
        return files;
    }
    for name in tree(&root).into_keys() {
        let path = root.join(&name);
        if path.is_dir() || name.starts_with('.') || name.starts_with("activity/") {
            continue;
        }
        let bytes = fs::read(&path).expect("a file");
        let mut value =
            serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::from(text(&bytes)));
        for node in value["Nodes"].as_array_mut().into_iter().flatten() {
            // The peer writes the configuration again, with other spaces.
            if let Some(file) = node.pointer_mut("/Files/buildkitd.toml") {
                *file = Value::from(file.is_string());
            }
        }
        // `current` names the daemon by the socket of the rig, which both have.
        files.insert(name, value);
    }
    files
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn stores_are_those_of_buildx() {
    let mut wrong = Vec::new();
    for (calls, errors) in CASES {
        let tools = tools_for("create", &calls.join(" "));
        let made = tools.iter().map(|tool| {
            let client = Rig::get().client();
            let outcomes = calls.iter().map(|args| {
                let (code, printed, is_error) = create(&client, tool, args);
                let printed = if errors == Same {
                    printed
                } else {
                    String::new()
                };
                (code, printed, is_error)
            });
            let outcomes: Vec<Outcome> = outcomes.collect();
            (outcomes, store(&client))
        });
        let made: Vec<_> = made.collect();
        let fails = |(code, ..): &Outcome| *code != Some(0);
        let differs = match &made[..] {
            [theirs, ours] => theirs != ours,
            alone => alone.iter().any(|(outcomes, _)| outcomes.iter().any(fails)),
        };
        if differs {
            wrong.push(format!("{calls:?} of {tools:?}: {made:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const BOOTED: [&str; 1] = ["--bootstrap"];

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn builders_are_booted_as_by_buildx() {
    let client = Rig::get().client();
    let states = TOOLS.map(|tool| {
        let name = unique("it");
        let container = format!("buildx_buildkit_{name}0");
        let image = format!(
            "--driver-opt=image={},network=host",
            Rig::get().builder_image
        );
        let named = format!("--name={name}");
        let args = [&[tool, "create", &named, &image][..], &BOOTED].concat();
        let (printed, _) = client.docker_ok(&args);
        let state = client.docker(&[
            "inspect",
            "--format={{.State.Status}} {{.HostConfig.NetworkMode}}",
            &container,
        ]);
        client.docker(&["rm", "--force", "--volumes", &container]);
        client.docker(&["volume", "rm", "--force", &format!("{container}_state")]);
        (printed.replace(&name, "NAME"), text(&state.stdout))
    });
    assert_eq!(states[0], states[1]);
    assert_eq!(states[1].1, "running host\n");
}
