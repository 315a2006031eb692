//! The report of a build in each form, and the summary of a job.

use std::path::Path;
use std::process::Output;
use std::sync::Weak;

use fs_err as fs;
use parking_lot::Mutex;
use serde_json::Value;
use tempfile::TempDir;

use crate::nodes::TwoNodes;
use crate::support::bench::{Bench, Shared};
use crate::support::caches;
use crate::support::rig::{Rig, context, text};

static BENCH: Shared = Mutex::new(Weak::new());

fn project() -> TempDir {
    let base = &Rig::get().busybox;
    let dockerfile = format!(
        "FROM {base} AS build\nWORKDIR /w\nCOPY src src\nRUN cat src/a | tee /out\n\
         FROM {base}\nCOPY b.txt /\nCOPY --from=build /out /out\n"
    );
    context(&[
        ("Dockerfile", &dockerfile),
        (".dockerignore", "report*\n"),
        ("b.txt", "b\n"),
        ("src/a", "a\n"),
    ])
}

pub(crate) fn report(folder: &Path, format: &str) -> (String, std::path::PathBuf) {
    let file = folder.join(format!("report.{format}"));
    (format!("--report={format}={}", file.display()), file)
}

fn read_json(file: &Path) -> Value {
    let report: Value = serde_json::from_slice(&fs::read(file).expect("a report")).expect("JSON");
    assert_eq!(report["schema"], 1, "{report}");
    report
}

/// Returns what became of the steps that make layers, by the line of the Dockerfile.
fn statuses(report: &Value) -> Vec<(u64, String)> {
    let steps = report["steps"].as_array().expect("steps");
    let counted = steps.iter().filter(|step| step["counted"] == true);
    let status = |step: &Value| {
        let line = step["line"].as_u64().expect("a line");
        (line, step["status"].as_str().expect("a status").to_owned())
    };
    counted.map(status).collect()
}

fn all(status: &str, lines: &[u64]) -> Vec<(u64, String)> {
    let lines = lines.iter();
    lines.map(|line| (*line, status.to_owned())).collect()
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_build_and_its_repetition_are_reported_in_every_form() {
    let bench = Bench::new();
    let folder = project();
    let reference = caches::reference("it/report");
    let to = caches::export(&reference, "mode=max,via=client");
    let from = caches::import(&reference);
    let reports = ["md", "json", "html"].map(|format| report(folder.path(), format));
    let [md, json, html] = &reports;
    let build = |args: &[&str]| {
        let flags = [&md.0, &json.0, &html.0].map(String::as_str);
        bench.build("cachex", &[args, &flags].concat(), folder.path());
        let read = |file: &Path| fs::read_to_string(file).expect("a report");
        (read_json(&json.1), read(&md.1), read(&html.1))
    };
    let lines = [2, 3, 4, 6, 7];
    let (first, text, page) = build(&[&to]);
    assert_eq!(first["result"], "succeeded");
    assert_eq!(statuses(&first), all("ran", &lines), "{first:#}");
    assert_eq!(first["totals"]["savedMs"], Value::Null);
    let written = &first["caches"]["written"][0];
    assert_eq!(
        (&written["name"], &written["status"]),
        (&reference.as_str().into(), &"written".into())
    );
    let exports = first["exports"].as_array().expect("exports");
    assert!(
        exports.iter().any(|export| export["kind"] == "cache"),
        "{first:#}"
    );
    assert!(
        text.starts_with("### docker cachex: ") && text.contains("0 of 5 steps from the cache"),
        "{text}"
    );
    assert!(
        page.starts_with("<!DOCTYPE html>") && page.contains("Dockerfile"),
        "{page}"
    );

    // On an empty builder everything comes out of the cache.
    bench.prune();
    let (again, text, _) = build(&[&from]);
    assert_eq!(statuses(&again), all("cached", &lines), "{again:#}");
    assert_eq!(again["totals"]["hitRate"], 100.0);
    assert!(again["totals"]["savedMs"].is_u64(), "{again:#}");
    let read = &again["caches"]["read"][0];
    assert_eq!(
        (&read["status"], &read["hits"]),
        (&"read".into(), &5.into()),
        "{again:#}"
    );
    assert!(text.contains("5 of 5 steps from the cache"), "{text}");

    // One file is another one.
    bench.prune();
    fs::write(folder.path().join("src/a"), "other\n").expect("a file");
    let (changed, text, page) = build(&[&from]);
    let steps = changed["steps"].as_array().expect("steps");
    let of_line = |line: u64| {
        steps
            .iter()
            .find(|step| step["line"] == line)
            .expect("a step")
    };
    let cause = &of_line(3)["cause"];
    assert_eq!(cause["code"], "files", "{changed:#}");
    let why = cause["text"].as_str().expect("words");
    assert_eq!(why, "1 of 1 file differs: src/a (content)");
    assert_eq!(of_line(4)["follows"], of_line(3)["id"], "{changed:#}");
    assert_eq!(of_line(6)["status"], "cached", "{changed:#}");
    assert!(text.contains("src/a"), "{text}");
    assert!(page.contains("src/a (content)"), "{page}");
    // Nothing is said of it where nothing is asked for.
    bench.prune();
    let progress = bench.build("cachex", &[&from, &json.0, "--explain=off"], folder.path());
    assert!(
        !progress.lines().any(|line| line.starts_with("why ")),
        "{progress}"
    );
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_failed_build_has_a_report_and_its_own_exit_code() {
    let bench = Bench::shared(&BENCH);
    let base = &Rig::get().busybox;
    let dockerfile =
        format!("FROM {base}\nARG TOKEN\nRUN echo $TOKEN > /a\nRUN cat /none/$TOKEN\nRUN true\n");
    let folder = context(&[("Dockerfile", &dockerfile)]);
    let (json, json_file) = report(folder.path(), "json");
    let (md, md_file) = report(folder.path(), "md");
    bench.fails(1, &[&json, &md, "--build-arg=TOKEN=hunter2"], folder.path());
    let failed = read_json(&json_file);
    assert_eq!(failed["result"], "failed");
    let expected = [(3, "ran"), (4, "failed"), (5, "canceled")];
    let expected = expected.map(|(line, status)| (line, status.to_owned()));
    assert_eq!(statuses(&failed), expected, "{failed:#}");
    let names: Vec<_> = failed["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .map(|step| step["name"].to_string())
        .collect();
    assert!(!names.concat().contains("hunter2"), "{names:?}");
    let text = fs::read_to_string(&md_file).expect("a report");
    assert!(
        text.contains("failed after") && text.contains("Failed: <code>"),
        "{text}"
    );

    // One that does not come to any step.
    fs::write(folder.path().join("Dockerfile"), "FROM scratch\nNONSENSE\n").expect("a file");
    bench.fails(1, &[&json], folder.path());
    let broken = read_json(&json_file);
    assert_eq!(broken["result"], "failed");
    let error = broken["error"].as_str().expect("an error");
    assert!(error.contains("NONSENSE"), "{error}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_build_on_several_nodes_has_one_report() {
    let client = Rig::get().client();
    let builder = TwoNodes::new(&client);
    let folder = context(&[
        (
            "Dockerfile",
            "FROM scratch\nARG TARGETARCH\nCOPY ${TARGETARCH} /arch\n",
        ),
        ("amd64", "6"),
        ("386", "3"),
    ]);
    let (json, file) = report(folder.path(), "json");
    let path = folder.path().to_str().expect("a path in UTF-8");
    let name = format!("--builder={}", builder.name);
    let platforms = "--platform=linux/amd64,linux/386";
    client.docker_ok(&["cachex", "build", &name, platforms, &json, path]);
    let report = read_json(&file);
    assert_eq!(report["totals"]["steps"], 2, "{report:#}");
    let steps = report["steps"].as_array().expect("steps");
    let copies: Vec<&Value> = steps
        .iter()
        .filter(|step| step["counted"] == true)
        .collect();
    let [first, second] = &copies[..] else {
        panic!("{report:#}")
    };
    assert!(
        first["node"].is_string() && first["node"] != second["node"],
        "{report:#}"
    );
    // The value of a variable is in no name.
    for copy in &copies {
        let name = copy["name"].as_str().expect("a name");
        assert!(name.ends_with(" 1/1] COPY ${TARGETARCH} /arch"), "{name}");
    }
    let mut platforms: Vec<_> = copies
        .iter()
        .map(|step| step["platform"].to_string())
        .collect();
    platforms.sort();
    assert_eq!(platforms, ["\"linux/386\"", "\"linux/amd64\""]);
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn what_cannot_be_a_report_is_refused_before_the_build() {
    let bench = Bench::shared(&BENCH);
    let folder = project();
    let nowhere = folder.path().join("none/report.json");
    let nowhere = format!("--report=json={}", nowhere.display());
    let directory = format!("--report=md={}", folder.path().display());
    let twice = ["--report=md=x", "--report=html=x"];
    for (args, error) in [
        (&[nowhere.as_str()][..], "cannot write the report"),
        (&["--report=html=/proc/x"], "no file can be made in /proc"),
        (&["--metadata-file=/proc/x"], "no file can be made in /proc"),
        (&["--iidfile=/proc/x"], "no file can be made in /proc"),
        (&[directory.as_str()], "is a directory, not a regular file"),
        (&["--report=htm"], "did you mean \"html\"?"),
        (&["--report=md="], "names no file"),
        (&twice, "two reports go to the same place"),
        (
            &["--report=md=-", "--output=type=tar,dest=-"],
            "both go to standard output",
        ),
        (&["--report=md", "--call=outline"], "--report is for builds"),
    ] {
        let progress = bench.fails(1, args, folder.path());
        assert!(progress.contains(error), "{args:?}\n{progress}");
        assert!(!progress.contains("[internal]"), "{args:?}\n{progress}");
    }
    let output = bench.try_build("cachex", &["--report=md=-"], folder.path());
    assert!(output.status.success());
    let stdout = text(&output.stdout);
    assert!(stdout.starts_with("### docker cachex: "), "{stdout}");
    // Without a name it has one of its own in the working folder.
    let mut command = bench.command("cachex", &["--report", "json"], folder.path());
    let output = command
        .current_dir(folder.path())
        .output()
        .expect("the docker CLI");
    assert!(output.status.success(), "{}", text(&output.stderr));
    read_json(&folder.path().join("cachex-report.json"));
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn the_summary_of_a_job_is_added_to() {
    let bench = Bench::shared(&BENCH);
    let folder = project();
    let summary = folder.path().join("report-summary");
    let build = |summary: &Path, more: &[(&str, &str)]| -> Output {
        let mut command = bench.command("cachex", &[], folder.path());
        command
            .env("GITHUB_ACTIONS", "true")
            .env("GITHUB_STEP_SUMMARY", summary);
        command.envs(more.iter().copied());
        let output = command.output().expect("the docker CLI");
        assert!(output.status.success(), "{}", text(&output.stderr));
        output
    };
    fs::write(&summary, "what was there").expect("a file");
    build(&summary, &[]);
    build(&summary, &[]);
    build(&summary, &[("CACHEX_SUMMARY", "0")]);
    build(&summary, &[("GITHUB_ACTIONS", "")]);
    let written = fs::read_to_string(&summary).expect("a summary");
    assert!(written.starts_with("what was there\n"), "{written}");
    assert_eq!(
        written.matches("\n### docker cachex: ").count(),
        2,
        "{written}"
    );
    // One that cannot be written is a remark.
    let output = build(folder.path(), &[]);
    let errors = text(&output.stderr);
    assert_eq!(
        errors
            .matches("the report is not in the job's summary")
            .count(),
        1,
        "{errors}"
    );
}
