//! Every flag that buildx has too, with a value that is wrong: the exit code is that of buildx.

use docker_cachex::for_tests::cli;

use crate::support::rig::{Rig, text};

/// Command, wrong value of a flag. What comes behind the parse ends at a builder that is not there.
const WRONG: &[(&str, &str)] = &[
    ("build", "--add-host=a\"b"),
    ("build", "--add-host=nowhere"),
    ("build", "--allow=everything"),
    ("build", "--annotation=nope:a=b"),
    ("build", "--attest=x"),
    ("build", "--build-arg==x"),
    ("build", "--build-context=x"),
    ("build", "--builder=no/name"),
    ("build", "--cache-from=type=registry,ref"),
    ("build", "--cpu-shares=x"),
    ("build", "-cx"),
    ("build", "--cpu-period=x"),
    ("build", "--cpu-quota=1.5"),
    ("build", "--cache-to=type=registry,ref"),
    ("build", "--call=a,b"),
    ("build", "--file=nowhere"),
    ("build", "--label==x"),
    ("build", "--network=bridge"),
    ("build", "--no-cache-filter="),
    ("build", "--output=type=nope"),
    ("build", "--platform=a/b/c/d/e"),
    ("build", "--progress=pretty"),
    ("build", "--provenance=foo"),
    ("build", "--sbom=foo"),
    ("build", "--secret=src=x"),
    ("build", "--security-opt=a\"b"),
    ("build", "--shm-size=lots"),
    ("build", "--shm-size="),
    ("build", "--ssh=a=/nowhere"),
    ("build", "--tag=x/UPPER"),
    ("build", "--ulimit=nofile"),
    ("build", "--ulimit=nofile=5:3"),
    ("build", "--ulimit="),
    ("create", "--driver=nope"),
    ("create", "--timeout=soon"),
    ("create", "--timeout="),
    ("dial-stdio", "--platform=a/b/c/d/e"),
    // No filter, so the builder that is missing is what is told.
    ("du", "--filter="),
    ("du", "--filter=x"),
    ("du", "--timeout=soon"),
    ("inspect", "--timeout=soon"),
    ("ls", "--format={{"),
    ("ls", "--timeout=soon"),
    ("prune", "--filter=x"),
    ("prune", "--keep-storage=lots"),
    ("prune", "--max-used-space=lots"),
    ("prune", "--min-free-space=lots"),
    ("prune", "--reserved-space=lots"),
    ("prune", "--timeout=soon"),
    ("rm", "--timeout=soon"),
];

/// Flags of which buildx reads the values as `--resource` since it has that flag, and so refuses them later.
const RESOURCES: &[&str] = &["--cpu-shares=", "-c", "--cpu-period=", "--cpu-quota="];

/// The truth values of a command, which are many and all alike.
fn truth_values(command: &clap::Command) -> Vec<String> {
    let is_truth = |arg: &&clap::Arg| {
        arg.get_value_parser().type_id() == std::any::TypeId::of::<bool>() && !arg.is_positional()
    };
    let flags = command.get_arguments().filter(is_truth);
    let longs = flags.filter_map(|flag| flag.get_long());
    longs.map(|long| format!("--{long}=maybe")).collect()
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn wrong_values_have_the_codes_of_buildx() {
    let client = Rig::get().client();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let code = |tool: &str, name: &str, flag: &str| {
        let mut command = client.command(&[tool, name, "--builder=no-such-builder", flag]);
        command
            .current_dir(folder.path())
            .env_remove("BUILDX_BUILDER");
        if name == "build" {
            command.arg(".");
        }
        let output = command.output().expect("the docker CLI");
        (output.status.code(), text(&output.stderr))
    };
    let mut cases: Vec<(String, String)> = WRONG
        .iter()
        .map(|(name, flag)| ((*name).to_owned(), (*flag).to_owned()))
        .collect();
    let root = cli::command();
    for name in [
        "build", "create", "du", "inspect", "ls", "prune", "rm", "use",
    ] {
        let command = root.find_subcommand(name).expect("the command");
        let flags = truth_values(command).into_iter();
        cases.extend(flags.map(|flag| (name.to_owned(), flag)));
    }
    let (help, _) = client.docker_ok(&["buildx", "build", "--help"]);
    let is_old = !help.contains("--resource ");
    let mut wrong = Vec::new();
    for (name, flag) in &cases {
        let (mut theirs, _) = code("buildx", name, flag);
        if is_old && RESOURCES.iter().any(|of| flag.starts_with(of)) {
            theirs = Some(1);
        }
        let (ours, error) = code("cachex", name, flag);
        if ours != theirs || ours == Some(0) {
            wrong.push(format!("{name} {flag}: {ours:?}, not {theirs:?}: {error}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
