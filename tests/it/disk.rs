//! `du`, `prune` and `dial-stdio` beside the peer's on the same builders.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Output, Stdio};

use docker_cachex::for_tests::buildkit::Client as BuildKit;
use serde_json::Value;

use crate::support::rig::{Builder, Client, Rig, context, text};

/// Builds something with several records: sources, layers and a cache mount.
fn fill(builder: &Builder<'_>) {
    let dockerfile = format!(
        "FROM {}\nCOPY file /file\nRUN --mount=type=cache,target=/c echo x > /c/y && echo a > /a\nRUN head -c 300000 /dev/zero > /b\n",
        Rig::get().busybox
    );
    let folder = context(&[("Dockerfile", &dockerfile), ("file", "content\n")]);
    builder.build("cachex", &[], folder.path());
}

/// The lines of a list; the order of equal records and the time since the last use are left out.
fn lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| match line.rsplit_once("  ") {
            Some((before, time)) if time.ends_with(" ago") => before.trim_end().to_owned(),
            _ => line.trim_end().to_owned(),
        })
        .collect();
    lines.sort_unstable();
    lines
}

fn json(text: &str) -> Vec<Value> {
    let mut records: Vec<Value> = text
        .lines()
        .map(|line| {
            let mut record: Value = serde_json::from_str(line).expect("JSON");
            let fields = record.as_object_mut().expect("an object");
            assert!(fields.remove("LastUsedAt").is_some());
            record
        })
        .collect();
    records.sort_unstable_by_key(|record| record["ID"].to_string());
    records
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn both_tools_show_the_same_records_and_totals() {
    let client = Rig::get().client();
    let builder = client.builder("cachex");
    fill(&builder);
    // Sizes are worked out when they are first asked for, which counts as a use.
    left(&client, &builder);
    let du = |tool: &str, more: &[&str]| {
        let mut args = vec![tool, "du", "--builder", &builder.name];
        args.extend(more);
        client.docker_ok(&args).0
    };
    let ours = json(&du("cachex", &["--format", "json"]));
    assert!(ours.len() > 4, "{ours:?}");
    assert_eq!(ours, json(&du("buildx", &["--format", "json"])));
    for more in [
        &[][..],
        &["--verbose"],
        &["--format", "pretty"],
        &["--format", "table"],
        &["--format", "table {{.ID}}\\t{{.Type}}\\t{{.Mutable}}"],
        &["--format", "{{.ID}} {{.Size}} {{.Shared}} {{.Description}}"],
        &["--format", "{{.ID}}{{range .Parents}} <{{.}}>{{end}}"],
        &["--filter", "type=regular"],
        &["--filter", "type!=regular", "--filter", "inuse=false"],
        &["--filter", "description~=file", "--verbose"],
        &["--filter", "id=none"],
    ] {
        assert_eq!(
            lines(&du("cachex", more)),
            lines(&du("buildx", more)),
            "{more:?}"
        );
    }
    let totals = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.contains(":\t"));
        lines.map(str::to_owned).collect()
    };
    let ours = totals(&du("cachex", &[]));
    assert!(
        ours.iter().any(|line| line.starts_with("Total:")),
        "{ours:?}"
    );
    assert_eq!(ours, totals(&du("buildx", &[])));
}

/// The functions that docker gives to templates, and what JSON does with characters of HTML.
#[test]
#[ignore = "needs the test rig: scripts/test"]
fn templates_and_json_are_byte_for_byte_those_of_docker() {
    let client = Rig::get().client();
    let builder = client.builder("cachex");
    let dockerfile = format!(
        "FROM {}\nRUN echo 'a > b && <c>' > /a-b\n",
        Rig::get().busybox
    );
    let folder = context(&[("Dockerfile", &dockerfile)]);
    builder.build("cachex", &[], folder.path());
    left(&client, &builder);
    let show = |tool: &str, command: &[&str], format: &str| {
        let args = [&[tool], command, &["--builder", &builder.name]].concat();
        let mut lines: Vec<String> = client
            .docker_ok(&[&args[..], &["--format", format]].concat())
            .0
            .lines()
            .map(str::to_owned)
            .collect();
        lines.sort_unstable();
        lines
    };
    for format in [
        "{{json .Description}} {{json .Parents}} {{json .Mutable}} {{json .UsageCount}}",
        "{{title .Type}} {{upper .Type | lower}} {{pad .Size 2 3}}| {{truncate .ID 5}}",
        "{{join .Parents \"+\"}} {{split .Type \".\"}} {{len .Parents}} {{len .ID}}",
        "{{printf \"%-12s|%9s|%q|%v|%05d\" .Type .Size .Size .Parents .UsageCount}}",
        "{{print .ID .UsageCount .Mutable .Shared}} {{println .Type .Size}}",
        "{{if and .Mutable (not .Shared)}}m{{else if eq .Type \"regular\" \"frontend\"}}r{{else}}-{{end}}{{.ID}}",
        "{{with .Parents}}{{range $i, $p := .}}{{$i}}:{{$p}},{{end}}{{else}}none{{end}} {{$.ID}}",
        "{{$id := .ID}}{{- /* a note */ -}} {{slice $id 0 3}} {{index (split .Type \".\") 0}}",
        "table {{title .Type}}\\t{{pad .ID 2 2}}\\t{{truncate .ID 5}}\\t{{join .Parents \",\"}}\\t{{printf \"%-9s|\" .ID}}",
        "table {{.Type}}\\t{{split .Type \".\"}}\\t{{json .Size}}\\t{{lower .ID}}",
    ] {
        let du = |tool| show(tool, &["du"], format);
        assert_eq!(du("cachex"), du("buildx"), "{format}");
    }
    for format in ["json", "{{json .}}"] {
        let du = |tool| -> Vec<String> {
            let lines = show(tool, &["du", "--filter", "type=regular"], format);
            // The time since the last use goes on.
            let cut = |line: &String| {
                let (before, after) = line.split_once("\"LastUsedAt\":")?;
                Some(before.to_owned() + after.split_once(',')?.1)
            };
            lines.iter().filter_map(cut).collect()
        };
        let ours = du("cachex");
        assert!(ours.join("").contains("\\u003e b \\u0026"), "{ours:?}");
        assert_eq!(ours, du("buildx"), "{format}");
    }
    let ls = |tool, format| show(tool, &["ls"], format);
    for format in [
        "{{title .DriverEndpoint}} {{.Name}} {{.Builder.Name}} {{.Builder.Driver}}",
        "{{json .DriverEndpoint}} {{.Status | printf \"%9s\"}} {{.Builder.Current}}",
        "table {{.Name}}\\t{{title .DriverEndpoint}}\\t{{.Error}}",
    ] {
        assert_eq!(ls("cachex", format), ls("buildx", format), "{format}");
    }
}

/// What a prune says, without the identifiers of the records and the times of their use.
fn pruned(output: &str) -> Vec<String> {
    let mut rows: Vec<String> = output
        .lines()
        .map(|line| {
            let cells: Vec<&str> = line.split('\t').map(str::trim).collect();
            match cells.as_slice() {
                [id, more @ ..] if id.len() == 25 || id.len() == 26 => {
                    let more: Vec<&&str> = more.iter().filter(|cell| !cell.is_empty()).collect();
                    format!("row {:?}", &more[..more.len().min(2)])
                }
                _ => line.to_owned(),
            }
        })
        .collect();
    rows.sort_unstable();
    rows
}

/// Sizes and types of the records that are left.
fn left(client: &Client, builder: &Builder<'_>) -> Vec<String> {
    let format = "{{.Type}} {{.Size}} {{.Mutable}} {{.Shared}}";
    let args = [
        "buildx",
        "du",
        "--builder",
        &builder.name,
        "--format",
        format,
    ];
    let mut records: Vec<String> = client
        .docker_ok(&args)
        .0
        .lines()
        .map(str::to_owned)
        .collect();
    records.sort_unstable();
    records
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn both_tools_prune_the_same() {
    let client = Rig::get().client();
    let (ours, peers) = (client.builder("cachex"), client.builder("buildx"));
    let prune = |tool: &str, builder: &Builder<'_>, more: &[&str]| {
        let mut args = vec![tool, "prune", "--force", "--builder", &builder.name];
        args.extend(more);
        client.docker_ok(&args)
    };
    fill(&ours);
    fill(&peers);
    assert_eq!(left(&client, &ours), left(&client, &peers));
    for more in [
        &["--filter", "until=1h"][..],
        &["--max-used-space", "20gb", "--min-free-space", "1b"],
        &["--keep-storage", "10gb"],
        &["--filter", "type=exec.cachemount"],
        &["--filter", "type=regular", "--verbose"],
        &["--all"],
    ] {
        let before = left(&client, &ours);
        let (shown, complaint) = prune("cachex", &ours, more);
        let (peer_shown, peer_complaint) = prune("buildx", &peers, more);
        // The peer tells of an old flag on standard output.
        let (shown, peer_shown) = (shown + &complaint, peer_shown + &peer_complaint);
        if more.contains(&"--verbose") {
            let names = |text: &str| -> Vec<String> {
                let lines = text.lines().filter_map(|line| line.split(':').next());
                lines
                    .map(str::to_owned)
                    .collect::<BTreeSet<_>>()
                    .into_iter()
                    .collect()
            };
            assert_eq!(names(&shown), names(&peer_shown), "{more:?}");
        } else {
            assert_eq!(
                pruned(&shown),
                pruned(&peer_shown),
                "{more:?}\n{shown}\n{peer_shown}"
            );
        }
        let after = left(&client, &ours);
        assert_eq!(after, left(&client, &peers), "{more:?}");
        let frees =
            !matches!(more[0], "--max-used-space" | "--keep-storage") && more[1..] != ["until=1h"];
        assert_eq!(before != after, frees, "{more:?}: {before:?}");
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn prune_asks_first() {
    let client = Rig::get().client();
    let builder = client.builder("cachex");
    fill(&builder);
    let answer = |tool: &str, answer: &str, more: &[&str]| {
        let mut args = vec![tool, "prune", "--builder", &builder.name];
        args.extend(more);
        let mut command = client.command(&args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the docker CLI");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(answer.as_bytes()).expect("an answer");
        drop(stdin);
        let output = child.wait_with_output().expect("an end");
        assert!(output.status.success());
        text(&output.stdout)
    };
    let before = left(&client, &builder);
    for (reply, more) in [("n\n", &[][..]), ("", &[]), ("yes\n", &["--all"])] {
        assert_eq!(answer("cachex", reply, more), answer("buildx", reply, more));
    }
    assert_eq!(left(&client, &builder), before);
    let shown = answer("cachex", "Y\n", &["--all"]);
    assert!(
        shown.starts_with("WARNING! This will remove all build cache."),
        "{shown}"
    );
    assert!(shown.contains("Total:\t"), "{shown}");
    assert_ne!(left(&client, &builder), before);
}

fn failure(output: &Output) -> String {
    let (shown, error) = (text(&output.stdout), text(&output.stderr));
    assert!(!output.status.success(), "{shown}\n{error}");
    error
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn wrong_arguments_and_stopped_builders_are_told() {
    let client = Rig::get().client();
    let builder = client.builder("cachex");
    // A template is tried with the first record.
    fill(&builder);
    for (args, code, want) in [
        (
            &["du", "--format", "json", "--verbose"][..],
            1,
            "cannot be used together",
        ),
        (
            &["du", "--filter", "type"],
            125,
            "bad format of filter (expected name=value)",
        ),
        (&["du", "--format", "{{.Nothing}}"], 1, "Nothing"),
        (
            &["prune", "-f", "--filter", "until=soon"],
            1,
            "expects a duration",
        ),
        (
            &[
                "prune",
                "-f",
                "--filter",
                "until=1h",
                "--filter",
                "unused-for=1h",
            ],
            1,
            "conflicting filters",
        ),
        (&["prune", "-f", "--max-used-space", "much"], 125, "much"),
    ] {
        let run = |tool: &str| {
            let mut all = vec![tool];
            all.extend(args);
            all.extend(["--builder", &builder.name]);
            client.docker(&all)
        };
        let (ours, peers) = (run("cachex"), run("buildx"));
        let error = failure(&ours);
        assert!(error.contains(want), "{args:?}: {error}");
        assert_eq!(ours.status.code(), Some(code), "{args:?}: {error}");
        assert_eq!(ours.status.code(), peers.status.code(), "{args:?}");
    }
    client.docker_ok(&["cachex", "stop", &builder.name]);
    for args in [&["du"][..], &["prune", "--force"]] {
        let mut all = vec!["cachex"];
        all.extend(args);
        all.extend(["--builder", &builder.name]);
        let error = failure(&client.docker(&all));
        assert!(error.contains("is not running"), "{error}");
        assert!(error.contains("hint: boot it with"), "{error}");
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn the_engines_own_builder_is_served() {
    let client = Rig::get().client();
    let du = |tool: &str| client.docker_ok(&[tool, "du", "--filter", "id=none"]).0;
    assert_eq!(du("cachex"), du("buildx"));
    let prune = |tool: &str| {
        client
            .docker_ok(&[tool, "prune", "-f", "--filter", "id=none"])
            .0
    };
    assert_eq!(prune("cachex"), prune("buildx"));
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn dial_stdio_is_a_connection_to_buildkit() {
    let client = Rig::get().client();
    let builder = client.builder("cachex");
    // It boots the builder.
    client.docker_ok(&["cachex", "stop", &builder.name]);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let workers = |tool: &str, more: &[&str]| {
        let mut args = vec![tool, "dial-stdio", "--builder", &builder.name];
        args.extend(more);
        let mut command = client.command(&args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        runtime.block_on(async {
            let mut command = tokio::process::Command::from(command);
            let mut child = command.kill_on_drop(true).spawn().expect("the docker CLI");
            let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
            let stream = tokio::io::join(stdout.expect("a pipe"), stdin.expect("a pipe"));
            let buildkit = BuildKit::connect(stream).await.expect("BuildKit");
            let workers = buildkit.list_workers().await.expect("workers");
            drop(buildkit);
            // A peer that cannot write its last words ends with an error.
            let status = child.wait().await.expect("an end");
            assert!(tool == "buildx" || status.success(), "{tool}: {status}");
            workers
                .into_iter()
                .map(|worker| worker.id)
                .collect::<Vec<_>>()
        })
    };
    let ours = workers("cachex", &[]);
    assert_eq!(ours.len(), 1);
    assert_eq!(ours, workers("buildx", &[]));
    assert_eq!(
        ours,
        workers("cachex", &["--platform", "linux/amd64", "--progress=plain"])
    );

    let none = [
        "cachex",
        "dial-stdio",
        "--builder",
        &builder.name,
        "--platform",
        "linux/mips",
    ];
    let error = failure(&client.docker(&none));
    assert!(error.contains("builds for linux/mips"), "{error}");
}
