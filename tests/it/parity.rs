//! Every flag of `build` and `create` against the same flag of buildx: the same command line for both tools on one
//! builder, and everything that comes of it compared. `flags.rs` looks that no flag is missing in these tables.

mod cases;
mod create;
mod git;
mod history;
mod seen;

use std::collections::BTreeSet;
use std::os::unix::net::UnixListener;

use tempfile::TempDir;

use crate::support::bench::{Bench, TOOLS};
use crate::support::rig::{Rig, context, unique};

use self::cases::{Case, Errors, OTHERS, RESULTS, STEPS};
use self::seen::{Run, Seen};

/// Flags of a command that are in these tables, by their long names.
pub(crate) fn compared(command: &str) -> BTreeSet<&'static str> {
    let args: Vec<&'static str> = match command {
        "create" => create::arguments().collect(),
        _ => [&STEPS[..], &RESULTS, &OTHERS]
            .concat()
            .into_iter()
            .flat_map(|(_, args, _)| args.split(' '))
            .collect(),
    };
    let long = |arg: &'static str| match arg {
        "-D" => Some("debug"),
        "-f" => Some("file"),
        "-o" => Some("output"),
        "-q" => Some("quiet"),
        "-t" => Some("tag"),
        arg => arg.strip_prefix("--")?.split('=').next(),
    };
    args.into_iter().filter_map(long).collect()
}

/// Flags that an older buildx does not have: compared with one that has them, and taken by cachex beside any other.
const NEWER: [&str; 3] = ["--policy", "--resource", "--timeout"];

/// Returns the tools whose command has the flags of these arguments: both, or cachex alone.
fn tools_for(command: &str, args: &str) -> &'static [&'static str] {
    let mut newer = NEWER.iter().filter(|flag| args.contains(*flag)).peekable();
    if newer.peek().is_none() {
        return &TOOLS;
    }
    let (help, _) = Rig::get()
        .client()
        .docker_ok(&[TOOLS[0], command, "--help"]);
    if newer.all(|flag| help.contains(flag)) {
        &TOOLS
    } else {
        &TOOLS[1..]
    }
}

/// The folder that both tools build.
fn sources(dockerfile: &str) -> TempDir {
    let with_base = |text: &str| text.replace("BUSYBOX", &Rig::get().busybox);
    context(&[
        ("Dockerfile", &with_base(dockerfile)),
        (
            "other.Dockerfile",
            &with_base("FROM BUSYBOX\nRUN echo SAID of other\n"),
        ),
        // No case finds the steps of another.
        ("file", &unique("file")),
        ("more/f", "of more"),
    ])
}

fn compare(cases: &[Case]) {
    // A builder of its own: builds at the same time share base images, whose names and states are those of the first.
    let bench = Bench::new();
    let mut wrong = Vec::new();
    for (dockerfile, args, errors) in cases {
        let tools = tools_for("build", args);
        let folder = sources(dockerfile);
        let _agent = UnixListener::bind(folder.path().join("agent")).expect("a socket");
        let run = Run {
            bench: &bench,
            folder: folder.path(),
            args,
        };
        // What does not depend on the tool is in the builder before, so that both find the same.
        run.look(tools[0]);
        let mut seen: Vec<Seen> = tools.iter().map(|tool| run.look(tool)).collect();
        if *errors == Errors::OwnWords {
            seen.iter_mut().for_each(Seen::forget_words);
        }
        match &seen[..] {
            [theirs, ours] if theirs != ours => wrong.push(format!(
                "{args:?} of {dockerfile}: {}",
                theirs.difference(ours)
            )),
            [alone] if !alone.succeeded() => {
                wrong.push(format!("{args:?} of {dockerfile}: {alone:#?}"));
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn steps_run_as_with_buildx() {
    compare(&STEPS);
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn results_are_those_of_buildx() {
    compare(&RESULTS);
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn caches_calls_and_displays_are_those_of_buildx() {
    compare(&OTHERS);
}
