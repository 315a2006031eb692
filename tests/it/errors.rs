//! Bad input: a clear message, the documented exit code, and nothing left behind.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Output;
use std::sync::Weak;

use fs_err as fs;
use parking_lot::Mutex;
use tempfile::TempDir;

use crate::support::bench::{Bench, Shared};
use crate::support::rig::{Client, Rig, context, text, unique};

static SHARED: Shared = Mutex::new(Weak::new());

/// What old and new builders say of a folder in a Dockerfile's place.
const FOLDER: &str = "is a directory|is not a regular file";

/// Runs `docker cachex build` in a folder of its own, in which nothing may be left.
fn build_in(client: &Client, folder: &Path, args: &[&str]) -> Output {
    let before = listing(folder);
    let output = client
        .command(&["cachex", "build", "--progress=plain"])
        .args(args)
        .current_dir(folder)
        .output()
        .expect("the docker CLI");
    assert_eq!(listing(folder), before, "{args:?}");
    let error = text(&output.stderr);
    assert!(!error.contains("panicked"), "{args:?}: {error}");
    output
}

fn listing(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path().display().to_string())
        .collect();
    names.sort();
    names
}

/// The only line that tells the error.
fn message(output: &Output) -> String {
    let stderr = text(&output.stderr);
    let mut lines: Vec<_> = stderr
        .lines()
        .filter(|l| l.starts_with("ERROR: "))
        .collect();
    assert_eq!(lines.len(), 1, "{stderr}");
    lines.remove(0).to_owned()
}

/// A flag's value, what the message must contain; exit code 1 without a builder being asked.
const VALUES: &[(&[&str], &str)] = &[
    (&["--platform=linux/amd64/v1/x/y"], "invalid --platform: "),
    (&["--platform=li nux"], "invalid --platform: "),
    (&["-t", "x/UPPER"], "invalid --tag: "),
    (&["-t", "a:b:c"], "invalid --tag: "),
    (&["-t", "a:-b"], "invalid --tag: "),
    (&["-o", "type=nope"], "invalid --output: "),
    (&["-o", "type=local,dst=x"], "invalid --output: "),
    (&["-o", "type=local"], "invalid --output: "),
    (
        &["-o", "type=image,push=perhaps"],
        "non-bool value specified for push",
    ),
    (&["--secret=src=x"], "invalid --secret: "),
    (&["--secret=id=a,sorce=x"], "invalid --secret: "),
    (&["--secret=id=a,type=file,env=X"], "invalid --secret: "),
    (&["--add-host=here"], "invalid --add-host: "),
    (&["--add-host=here:nowhere"], "invalid --add-host: "),
    (&["--build-context=x"], "invalid --build-context: "),
    (&["--allow=everything"], "invalid --allow: "),
    (&["--annotation=x"], "invalid --annotation: "),
    (&["--annotation=nope:a=b"], "invalid --annotation: "),
    (&["--attest=x"], "invalid --attest: "),
    (&["--attest=type=nope"], "invalid --attest: "),
    (&["--provenance=foo"], "invalid --provenance: "),
    (
        &["--allow=buildx.local.delete=1"],
        "does not accept a value",
    ),
    (&["--network=bridge"], "network mode \"bridge\""),
    (&["--progress=pretty"], "pretty"),
    (&["--no-cache", "--no-cache-filter=a"], "together"),
    (&["--iidfile=x", "-o", "out"], "incompatible"),
];

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn wrong_values_are_named_with_their_flag() {
    let bench = Bench::shared(&SHARED);
    let folder = context(&[("Dockerfile", "FROM scratch\n")]);
    let mut wrong = Vec::new();
    for (args, expected) in VALUES {
        let mut all = args.to_vec();
        all.push(".");
        let output = build_in(&bench.client, folder.path(), &all);
        let stderr = text(&output.stderr);
        if output.status.code() != Some(1) || !stderr.contains(expected) || stderr.contains("\n#1 ")
        {
            wrong.push(format!("{args:?}: {:?}: {stderr}", output.status.code()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn wrong_flags_and_arguments_have_dockers_codes() {
    let client = Rig::get().client();
    let folder = context(&[("Dockerfile", "FROM scratch\n")]);
    for (args, code, expected) in [
        (
            &["--no-such-flag", "."][..],
            125,
            "unknown flag: --no-such-flag",
        ),
        (&["--cache-too=x", "."], 125, "--cache-to"),
        (&["-Z", "."], 125, "-Z"),
        (&["--push=perhaps", "."], 125, "push"),
        (&["--rm=foo", "."], 125, "invalid value \"foo\" for --rm"),
        (&["--ulimit=nofile", "."], 125, "invalid --ulimit: "),
        (&["--ulimit=nofile=5:3", "."], 125, "invalid --ulimit: "),
        (&["--ulimit=nosuch=1", "."], 125, "invalid --ulimit: "),
        (&["--shm-size=lots", "."], 125, "invalid --shm-size: "),
        (&[".", "--tag"], 125, "--tag"),
        (&[], 1, "argument"),
        (&[".", "."], 1, "argument"),
        (&[""], 1, "build context"),
    ] {
        let output = build_in(&client, folder.path(), args);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
        assert!(message(&output).contains(expected), "{args:?}: {error}");
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn contexts_and_dockerfiles_that_are_not_there() {
    let bench = Bench::shared(&SHARED);
    let folder = context(&[
        ("file", "no folder"),
        ("good/Dockerfile", "FROM scratch\n"),
        ("empty/x", ""),
        ("folder/Dockerfile/x", ""),
        ("blank/Dockerfile", ""),
        ("syntax/Dockerfile", "FROM scratch\nNONSENSE x\n"),
        ("target/Dockerfile", "FROM scratch AS a\n"),
        ("base/Dockerfile", "FROM 127.0.0.1:1/none\n"),
        ("missing/Dockerfile", "FROM scratch\nCOPY nowhere /\n"),
    ]);
    symlink("nowhere", folder.path().join("dangling")).expect("a link");
    symlink("loop", folder.path().join("loop")).expect("a link");
    for (args, code, expected) in [
        (&["nowhere"][..], 1, "path \"nowhere\" not found"),
        (&["file"], 1, "\"file\" is not a directory"),
        (&["dangling"], 1, "\"dangling\" not found"),
        (&["loop"], 1, "loop"),
        (
            &["empty"],
            1,
            "failed to read dockerfile: open Dockerfile: no such file",
        ),
        (&["-f", "nowhere/Dockerfile", "good"], 1, "nowhere"),
        (&["-f", "good/none", "good"], 1, "open none: no such file"),
        (&["-f", "folder/Dockerfile", "good"], 1, FOLDER),
        (&["folder"], 1, FOLDER),
        (&["blank"], 1, "the Dockerfile cannot be empty"),
        (&["syntax"], 1, "unknown instruction: NONSENSE"),
        (
            &["--target=b", "target"],
            1,
            "target stage \"b\" could not be found",
        ),
        (&["base"], 1, "127.0.0.1:1"),
        (&["missing"], 1, "\"/nowhere\": not found"),
        (&["--secret=id=a,src=nowhere", "good"], 1, "nowhere"),
        (
            &["--secret=id=NOT_SET_AT_ALL", "good"],
            1,
            "the environment variable NOT_SET_AT_ALL is not set",
        ),
        (&["--ssh=default=nowhere", "good"], 1, "nowhere"),
        (&["--build-context=x=nowhere", "good"], 1, "nowhere"),
        (&["-o", "type=local,dest=file", "good"], 1, "is a file"),
        (&["-o", "type=tar,dest=good", "good"], 1, "is a directory"),
        (&["--iidfile=nowhere/x", "good"], 1, "nowhere"),
        (&["--metadata-file=nowhere/x", "good"], 1, "nowhere"),
        (&["--push", "good"], 1, "tag is needed"),
        (
            &["--push", "-t", "127.0.0.1:1/x", "target"],
            1,
            "127.0.0.1:1",
        ),
        (&["https://127.0.0.1:1/context.tar"], 1, "127.0.0.1:1"),
        (
            &["--builder=no-such-builder", "good"],
            1,
            "no builder \"no-such-builder\" found",
        ),
    ] {
        let output = build_in(&bench.client, folder.path(), args);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
        let said = message(&output);
        assert!(
            expected.split('|').any(|text| said.contains(text)),
            "{args:?}: {error}"
        );
    }
}

/// Every bad Dockerfile and context is refused with the exit code of the peer.
#[test]
#[ignore = "needs the test rig: scripts/test"]
fn exit_codes_are_those_of_the_peer() {
    let bench = Bench::shared(&SHARED);
    let busybox = &Rig::get().busybox;
    for dockerfile in [
        "",
        "FROM\n",
        "FROM scratch\nRUN true\n",
        "FROM nope:nope:nope\n",
        &format!("FROM {busybox}\nRUN exit 1\n"),
        &format!("FROM {busybox}\nRUN exit 42\n"),
        &format!("FROM {busybox}\nRUN --mount=type=secret,id=x,required=true true\n"),
        &format!("FROM {busybox}\nRUN --mount=type=ssh,required=true true\n"),
        &format!("FROM {busybox}\nRUN --security=insecure true\n"),
        &format!("FROM {busybox}\nCOPY --from=nope /a /b\n"),
        &format!("FROM {busybox} AS a\nFROM b\nFROM a AS b\nCOPY --from=b / /\n"),
    ] {
        let folder = context(&[("Dockerfile", dockerfile)]);
        let peer = bench.try_build("buildx", &[], folder.path());
        let code = peer.status.code().expect("an exit code");
        let ours = bench.fails(code, &[], folder.path());
        assert_ne!(code, 0, "{dockerfile}");
        let last = |text: &str| {
            let line = text.lines().rfind(|line| line.starts_with("ERROR: "));
            // The peer puts the name of some gRPC codes before.
            line.expect("an error")
                .replace("failed to solve: Internal: ", "failed to solve: ")
        };
        assert_eq!(last(&ours), last(&text(&peer.stderr)), "{dockerfile}");
    }
}

/// What an earlier build left is not touched where a build fails before it has something better.
#[test]
#[ignore = "needs the test rig: scripts/test"]
fn what_was_there_stays() {
    let bench = Bench::shared(&SHARED);
    let dockerfile = format!(
        "FROM {}\nRUN exit 1 # {}\n",
        Rig::get().busybox,
        unique("x")
    );
    let folder = context(&[("Dockerfile", &dockerfile)]);
    let out = TempDir::new().expect("a temporary folder");
    let path = |name: &str| out.path().join(name);
    for name in ["meta", "out.tar", "image.tar"] {
        fs::write(path(name), "old").expect("a file");
    }
    fs::create_dir(path("folder")).expect("a folder");
    fs::write(path("folder/old"), "old").expect("a file");
    let args = [
        format!("--metadata-file={}", path("meta").display()),
        format!("--output=type=tar,dest={}", path("out.tar").display()),
        format!("--output=type=oci,dest={}", path("image.tar").display()),
        format!("--output=type=local,dest={}", path("folder").display()),
    ];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    bench.fails(1, &args, folder.path());
    for name in ["meta", "out.tar", "image.tar", "folder/old"] {
        assert_eq!(
            fs::read_to_string(path(name)).expect("a file"),
            "old",
            "{name}"
        );
    }
    assert_eq!(listing(out.path()).len(), 4);
    assert_eq!(listing(&path("folder")).len(), 1);
}
