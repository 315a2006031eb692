//! What a person and a script see: plain progress as `docker buildx` prints it, errors and warnings.

use std::num::NonZeroU16;
use std::path::Path;
use std::process::Command;
use std::sync::Weak;

use parking_lot::Mutex;
use regex::Regex;
use serde_json::Value;

use crate::support::bench::{Bench, Shared, TOOLS};
use crate::support::rig::{Builder, Client, Rig, context, text, unique};

static SHARED: Shared = Mutex::new(Weak::new());

/// A plain progress without what differs between two builds: times, sizes on the wire, colours, and the order in which
/// steps that run side by side begin.
fn shape(progress: &str) -> Vec<String> {
    let rules = [
        (r"\x1b\[[0-9;]*m", ""),
        (r"^#\d+ ", "# "),
        (r"^# \d+\.\d+ ", "# T "),
        (r"^\d+\.\d+ ", "T "),
        (r" \d+\.\d+s", " T"),
        (r"(transferring \w+:) \S+", "$1 N"),
        (r" T done$", " done"),
        (r"DONE T$", "DONE"),
        (r"\bn-[0-9a-f]+-[0-9a-f]+-\d+", "NEW"),
        // Two stages have one base; which of them names the step is chance.
        (r"\[[^]]*1/\d\] FROM", "[base] FROM"),
    ]
    .map(|(pattern, new)| (Regex::new(pattern).expect("a pattern"), new));
    let mut lines: Vec<String> = progress
        .lines()
        .map(|line| {
            rules.iter().fold(line.to_owned(), |line, (rule, new)| {
                rule.replace_all(&line, *new).into_owned()
            })
        })
        // Unfinished states, and the switch from one step to another, are printed as time will have it.
        .filter(|line| {
            let passing = [
                "# transferring ",
                "# resolve ",
                "# sha256:",
                "# extracting ",
            ];
            let passing = passing.iter().any(|start| line.starts_with(start));
            !line.is_empty() && line != "# ..." && (!passing || line.ends_with(" done"))
        })
        .collect();
    lines.sort();
    lines.dedup();
    lines
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn plain_progress_has_the_forms_of_the_peer() {
    let bench = Bench::shared(&SHARED);
    let busybox = &Rig::get().busybox;
    let dockerfile = format!(
        "FROM {busybox} AS one\nARG NEW\nRUN echo said; echo wrong >&2; printf 'a\\rb\\n'; echo $NEW >/new\nFROM {busybox}\nWORKDIR /w\n\
         COPY --from=one /new .\nCOPY Dockerfile .\nRUN --mount=type=tmpfs,target=/t echo last\n"
    );
    let folder = context(&[("Dockerfile", &dockerfile)]);
    // The base and the folder are known to the builder before, so that both see the same.
    bench.build("buildx", &["--build-arg=NEW=0"], folder.path());
    let shapes = TOOLS.map(|tool| {
        let new = format!("--build-arg=NEW={}", unique("n"));
        shape(&bench.build(tool, &[&new], folder.path()))
    });
    assert_eq!(shapes[0], shapes[1]);
    // And with all in the cache.
    let shapes = TOOLS.map(|tool| shape(&bench.build(tool, &["--build-arg=NEW=0"], folder.path())));
    assert_eq!(shapes[0], shapes[1]);
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_failing_step_shows_its_lines() {
    let bench = Bench::shared(&SHARED);
    let dockerfile = format!(
        "FROM {} as base\nENV FOO bar\nRUN echo before\nRUN echo one && \\\n    echo two >&2 && \\\n    exit 3\nRUN echo never\n",
        Rig::get().busybox
    );
    let folder = context(&[("Dockerfile", &dockerfile)]);
    bench.try_build("buildx", &[], folder.path());
    let peer = bench.try_build("buildx", &[], folder.path());
    let ours = bench.fails(1, &[], folder.path());
    assert_eq!(peer.status.code(), Some(1));
    // A build that fails ends its status stream: a warning that comes last stands in the block at the end alone.
    let settled = |progress: &str| {
        let mut lines = shape(progress);
        lines.retain(|line| !line.starts_with("# WARN: "));
        lines
    };
    assert_eq!(settled(&text(&peer.stderr)), settled(&ours));
    let excerpt = "Dockerfile:4\n--------------------\n   2 |     ENV FOO bar\n   3 |     RUN echo before\n   4 | >>> RUN echo one && \\\n   5 | >>>     echo two >&2 && \\\n   6 | >>>     exit 3\n   7 |     RUN echo never\n   8 |     \n--------------------\nERROR: failed to build: failed to solve: process \"/bin/sh -c echo one &&     echo two >&2 &&     exit 3\" did not complete successfully: exit code: 3\n";
    let tail = |progress: &str| {
        let at = progress.find("Dockerfile:4\n").expect("an excerpt");
        progress[at..].to_owned()
    };
    assert_eq!(tail(&ours), tail(&text(&peer.stderr)));
    assert_eq!(tail(&ours).lines().last(), excerpt.lines().last());
    // The end of the step's output is shown again.
    let again = ours.split("------\n > ").nth(1).expect("the step again");
    assert!(
        again.contains(" one\n") && again.contains(" two\n"),
        "{ours}"
    );
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn warnings_come_at_the_end() {
    let bench = Bench::shared(&SHARED);
    let dockerfile = format!(
        "FROM {} as base\nENV FOO bar\nRUN echo {}\n",
        Rig::get().busybox,
        unique("x")
    );
    let folder = context(&[("Dockerfile", &dockerfile)]);
    let progress = bench.build("cachex", &[], folder.path());
    let block = progress
        .find("\n 2 warnings found (use docker --debug to expand):\n - FromAsCasing: ")
        .expect("the block of warnings");
    assert!(block > progress.rfind("\n#").expect("steps"), "{progress}");
    let expanded = {
        let output = bench.client.docker(&[
            "-D",
            "cachex",
            "build",
            "--progress=plain",
            folder.path().to_str().expect("UTF-8"),
        ]);
        text(&output.stderr)
    };
    assert!(
        expanded.contains("Dockerfile:1\n--------------------\n"),
        "{expanded}"
    );
    assert!(expanded.contains("More info: "), "{expanded}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn quiet_prints_the_image_and_nothing_else() {
    let bench = Bench::shared(&SHARED);
    let dockerfile = format!("FROM {}\nRUN echo {}\n", Rig::get().busybox, unique("x"));
    let folder = context(&[("Dockerfile", &dockerfile)]);
    let printed = |tool: &str, args: &[&str]| {
        let folder = folder.path().to_str().expect("UTF-8");
        let mut all = vec![tool, "build", folder];
        all.extend(args);
        let output = bench.client.docker(&all);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(text(&output.stderr), "", "{tool}");
        text(&output.stdout)
    };
    let peer = printed("buildx", &["-q", "-o", "type=image"]);
    let ours = printed("cachex", &["-q", "-o", "type=image"]);
    let form = Regex::new("^sha256:[0-9a-f]{64}\n$").expect("a pattern");
    assert!(
        form.is_match(&peer) && form.is_match(&ours),
        "{peer} {ours}"
    );
    let broken = context(&[("Dockerfile", "FROM scratch\nRUN nope\n")]);
    let output = bench.client.docker(&[
        "cachex",
        "build",
        "-q",
        broken.path().to_str().expect("UTF-8"),
    ]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("ERROR: failed to build: "), "{error}");
    assert_eq!(text(&output.stdout), "");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn rawjson_is_one_document_a_line() {
    let bench = Bench::shared(&SHARED);
    let dockerfile = format!(
        "FROM {} as a\nRUN echo {}\n",
        Rig::get().busybox,
        unique("x")
    );
    let folder = context(&[("Dockerfile", &dockerfile)]);
    let keys = |tool: &str| {
        let dir = folder.path().to_str().expect("UTF-8");
        let output = bench
            .client
            .docker(&[tool, "build", "--no-cache", "--progress=rawjson", dir]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let mut keys: Vec<String> = Vec::new();
        for line in text(&output.stderr)
            .lines()
            .filter(|line| !line.starts_with("WARNING:"))
        {
            let document: Value = serde_json::from_str(line).expect("a JSON document");
            for (kind, list) in document.as_object().expect("an object") {
                for entry in list.as_array().expect("a list") {
                    let entry = entry.as_object().expect("an object");
                    keys.extend(entry.keys().map(|key| format!("{kind}.{key}")));
                }
            }
        }
        // These are left out where they are zero or false.
        keys.retain(|key| {
            !["vertexes.cached", "statuses.total", "statuses.current"].contains(&&**key)
        });
        keys.sort();
        keys.dedup();
        keys
    };
    assert_eq!(keys("buildx"), keys("cachex"));
}

/// Builds in a terminal of 110 columns and gives the rows of the last picture.
fn in_a_terminal(builder: &Builder<'_>, client: &Client, args: &str, folder: &Path) -> Vec<String> {
    let name = &builder.name;
    let folder = folder.display();
    let line =
        format!("stty cols 110 rows 40; docker cachex build --builder {name} {args} {folder}");
    let mut terminal = Command::new("script");
    terminal.args(["-qec", &line, "/dev/null"]);
    terminal.env("DOCKER_CONFIG", client.config());
    // With it the display would be the plain one.
    terminal.env_remove("CI");
    let output = terminal.output().expect("script");
    let (rows, columns) = (NonZeroU16::new(40), NonZeroU16::new(110));
    let mut screen = vt100::Parser::new(rows.expect("some"), columns.expect("some"), 0);
    screen.process(&output.stdout);
    let contents = screen.screen().contents();
    assert!(output.status.success(), "{contents}");
    contents
        .lines()
        .map(|row| row.trim_end().to_owned())
        .collect()
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_terminal_shows_which_cache_a_step_came_from_and_ends_with_a_summary() {
    let rig = Rig::get();
    let client = rig.client();
    let seed = unique("x");
    let dockerfile = format!(
        "FROM {} AS a\nRUN echo {seed} > /a\nRUN head -c 300000 /dev/urandom > /b\nFROM scratch\nCOPY --from=a /b /\n",
        rig.busybox
    );
    let folder = context(&[("Dockerfile", &dockerfile)]);
    let name = format!("{}/{}", rig.registry.host(), unique("it/shown"));
    let summary = |rows: &[String], pattern: &str| {
        let last = rows.last().expect("rows");
        let pattern = Regex::new(&format!("^{pattern}$")).expect("a pattern");
        assert!(pattern.is_match(last), "{rows:#?}");
    };
    let writer = client.builder("cachex");
    let to = format!("-o type=cacheonly --cache-to type=registry,ref={name}:c,mode=max,via=client");
    let rows = in_a_terminal(&writer, &client, &to, folder.path());
    summary(
        &rows,
        r"3 steps, 0 cached, \d+\.\ds; cache: sent \d\.\d\dMB",
    );
    let other = context(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
    let to = format!("type=registry,ref={name}:other");
    writer.build("cachex", &["--cache-to", &to], other.path());

    for via in ["auto", "client"] {
        let reader = client.builder("cachex");
        // A file needs the layer's content, as a push to the same registry may not.
        let file = folder.path().join(format!("{via}.tar"));
        let from = format!(
            "-o type=tar,dest={} --cache-from {name}:other --cache-from type=registry,ref={name}:c,via={via}",
            file.display()
        );
        let rows = in_a_terminal(&reader, &client, &from, folder.path());
        summary(
            &rows,
            r"3 steps, 3 cached, \d+\.\ds; cache: received \d{3}\.\d\dkB",
        );
        let copied = rows
            .iter()
            .find(|row| row.contains("COPY --from=a"))
            .expect("a row");
        assert!(
            copied.starts_with(" => CACHED [stage-1 1/1] COPY")
                && copied.contains(&format!("(from {name}:c)")),
            "{rows:#?}"
        );
        // All is in the builder now, and there is nothing to fetch.
        let rows = in_a_terminal(&reader, &client, &from, folder.path());
        summary(&rows, r"3 steps, 3 cached, \d+\.\ds");
        assert!(!rows.iter().any(|row| row.contains("(from")), "{rows:#?}");
    }
}
