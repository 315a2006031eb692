//! `--call` and `--check`: what is printed, the exit code and the metadata file, as buildx has them.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::support::rig::{Client, Rig, context, text};

const WARNED: &str = "\
ARG VERSION=1
FROM scratch as base
MAINTAINER somebody
# all of it
FROM base AS prod
ARG COLOR=red
RUN --mount=type=secret,id=token,required=true --mount=type=ssh [\"/x\"]
";
const CLEAN: &str = "FROM scratch\nCOPY . /\n";
const BROKEN: &str = "FROM scratch AS a\nMAINTAINER x\nRUN --mount=type=nope [\"/x\"]\n";

fn build(client: &Client, tool: &str, builder: &str, args: &[&str], folder: &Path) -> Output {
    let folder = folder.to_str().expect("a path in UTF-8");
    let mut all = vec![tool, "build", "--builder", builder, "--progress=plain"];
    all.extend(args);
    all.push(folder);
    client.docker(&all)
}

/// What was printed; the definitions in JSON name the session, which is another one each time.
fn shown(output: &Output) -> String {
    let shown = text(&output.stdout);
    match serde_json::from_str::<Value>(&shown) {
        Ok(mut json) => {
            without_sessions(&mut json);
            json.to_string()
        }
        Err(_) => shown,
    }
}

fn without_sessions(answer: &mut Value) {
    for source in answer["sources"].as_array_mut().into_iter().flatten() {
        if let Some(source) = source.as_object_mut() {
            source.remove("definition").expect("a definition");
        }
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn calls_print_what_buildx_prints() {
    let client = Rig::get().client();
    let builder = client.builder("cachex");
    let calls: [(&str, &[&str]); 13] = [
        (WARNED, &["--check"]),
        (WARNED, &["--call=check,format=json"]),
        (WARNED, &["--call=check,ignorestatus=true"]),
        (WARNED, &["--call=outline"]),
        (
            WARNED,
            &["--call=outline", "--target=base", "--build-arg=VERSION=2"],
        ),
        (WARNED, &["--print=targets"]),
        (WARNED, &["--call=targets,format=json"]),
        (WARNED, &["--call=subrequests.describe"]),
        (WARNED, &["--call=nope"]),
        (WARNED, &["--call=outline", "--target=nope"]),
        (CLEAN, &["--call=lint"]),
        (BROKEN, &["--check"]),
        (BROKEN, &["--check", "--call=check,format=json"]),
    ];
    for (dockerfile, args) in calls {
        let folder = context(&[("Dockerfile", dockerfile), ("file", "x")]);
        let run = |tool| build(&client, tool, &builder.name, args, folder.path());
        let (ours, theirs) = (run("cachex"), run("buildx"));
        assert_eq!(shown(&ours), shown(&theirs), "{args:?}");
        let errors = text(&ours.stderr);
        assert_eq!(
            ours.status.code(),
            theirs.status.code(),
            "{args:?} {errors}"
        );
        let error = |all: &str| match all.find("ERROR: ") {
            Some(at) => {
                let text = all[at..].lines().filter(|line| !line.starts_with("hint: "));
                text.collect::<Vec<_>>().join("\n")
            }
            None => String::new(),
        };
        if args == ["--call=nope"] {
            assert!(errors.contains("hint: "), "{errors}");
        }
        let (ours, theirs) = (error(&errors), error(&text(&theirs.stderr)));
        // buildx says twice that a request is unknown.
        let same = ours == theirs || theirs == format!("{ours}: unsupported request frontend.nope");
        assert!(same, "{args:?}\n{ours}\n{theirs}");
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_call_has_a_metadata_file_and_leaves_no_history() {
    let client = Rig::get().client();
    let builder = client.builder("cachex");
    let folder = context(&[("Dockerfile", WARNED)]);
    let run = |tool: &str| -> Value {
        let file = folder.path().join(tool);
        let flag = format!("--metadata-file={}", file.display());
        build(
            &client,
            tool,
            &builder.name,
            &["--check", &flag],
            folder.path(),
        );
        let json = fs_err::read(file).expect("a metadata file");
        let mut json: Value = serde_json::from_slice(&json).expect("JSON");
        without_sessions(&mut json["result.json"]);
        json
    };
    assert_eq!(run("cachex"), run("buildx"));
    let (records, _) = client.docker_ok(&[
        "buildx",
        "--builder",
        &builder.name,
        "history",
        "ls",
        "--format=json",
    ]);
    assert_eq!(records.trim(), "");
}
