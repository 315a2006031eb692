//! `doctor`: what it says of a machine, a builder and registries is what they do.

use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::support::bench::Bench;
use crate::support::rig::{Client, Rig, context, text, unique};
use crate::support::scripted_registry::{Fault, Login, ScriptedRegistry};

/// Runs it; gives exit code and the JSON report.
fn doctor(client: &Client, args: &[&str]) -> (Option<i32>, Value) {
    let output = client.docker(&[&["cachex", "doctor", "--format=json"], args].concat());
    let json = serde_json::from_slice(&output.stdout);
    let report: Value = json.unwrap_or_else(|_| panic!("{output:?}"));
    for line in report["checks"].as_array().expect("lines") {
        let has_advice = line["advice"] != "";
        assert_eq!(has_advice, line["answer"] == "no", "{line:#}");
    }
    assert!(text(&output.stderr).is_empty(), "{output:?}");
    (output.status.code(), report)
}

/// The answer of a line.
fn answer<'a>(report: &'a Value, check: &str) -> &'a str {
    let lines = report["checks"].as_array().expect("lines");
    let line = lines.iter().find(|line| line["check"] == check);
    line.unwrap_or_else(|| panic!("no line {check}: {report:#}"))["answer"]
        .as_str()
        .expect("an answer")
}

/// The lines with an answer, by their names.
fn with_answer<'a>(report: &'a Value, answer: &str) -> Vec<&'a str> {
    let lines = report["checks"].as_array().expect("lines").iter();
    lines
        .filter(|line| line["answer"] == answer)
        .filter_map(|line| line["check"].as_str())
        .collect()
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_machine_that_can_build_is_fine_and_one_without_a_builder_is_not() {
    let bench = Bench::new();
    let (code, report) = doctor(&bench.client, &[]);
    assert_eq!(
        (code, &report["ok"]),
        (Some(0), &Value::Bool(true)),
        "{report:#}"
    );
    for check in [
        "engine",
        "clock of the engine",
        "containerd image store",
        "builder store",
        "builder",
        "BuildKit",
    ] {
        assert_eq!(answer(&report, check), "yes", "{report:#}");
    }
    assert_eq!(answer(&report, "alias"), "no");

    let (code, report) = doctor(&bench.client, &["--builder", "default"]);
    assert_eq!(
        (code, answer(&report, "builder")),
        (Some(1), "no"),
        "{report:#}"
    );
    let table = bench
        .client
        .docker(&["cachex", "doctor", "--builder", "nothing"]);
    let said = text(&table.stdout);
    assert_eq!(table.status.code(), Some(1), "{said}");
    assert!(said.contains("no builder \"nothing\" found"), "{said}");
    assert!(said.contains("\nneeded: builder: "), "{said}");
    assert!(text(&table.stderr).is_empty(), "{table:?}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn the_rig_s_registry_takes_everything_and_keeps_nothing() {
    let rig = Rig::get();
    let bench = Bench::new();
    let name = unique("it/doctor");
    let repository = format!("{}/{name}", rig.registry.host());
    let (code, report) = doctor(&bench.client, &[&repository]);
    assert_eq!(code, Some(0), "{report:#}");
    for check in [
        "clock of the registry",
        "pull",
        "push",
        "cache as image manifest",
        "zstd layers",
        "delete by digest",
    ] {
        assert_eq!(answer(&report, check), "yes", "{report:#}");
    }
    let mut tags = Command::new(rig.tool("crane"));
    let tags = tags
        .args(["ls", "--insecure", &repository])
        .output()
        .expect("crane");
    assert!(tags.stdout.is_empty(), "{tags:?}");
}

/// Registries that refuse one thing: the line of that thing says so, and the others do not.
#[test]
#[ignore = "needs the test rig: scripts/test"]
fn what_a_registry_refuses_is_told() {
    let bench = Bench::new();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let try_it = |prepare: &dyn Fn(&ScriptedRegistry)| {
        let registry = runtime.block_on(ScriptedRegistry::start());
        prepare(&registry);
        let seen = doctor(&bench.client, &[&format!("{}/a/b", registry.host())]);
        assert_eq!(registry.open_uploads(), 0);
        seen
    };
    let status = |status: u16| Fault::Status(status, Vec::new(), "");
    let invalid = Fault::Status(
        400,
        Vec::new(),
        r#"{"errors":[{"code":"MANIFEST_INVALID","message":"no \u001b[31mindex"}]}"#,
    );

    let (code, report) = try_it(&|_| ());
    let usual = with_answer(&report, "no").join(" ");
    assert_eq!(code, Some(0), "{report:#}");

    // The index form is the second manifest.
    let (code, report) = try_it(&|r| r.fault("PUT", "/manifests/", (1, 1), invalid.clone()));
    assert_eq!(
        (code, answer(&report, "cache as index")),
        (Some(0), "no"),
        "{report:#}"
    );
    assert!(
        report.to_string().contains("MANIFEST_INVALID"),
        "{report:#}"
    );
    assert_eq!(answer(&report, "zstd layers"), "yes");

    let (code, report) = try_it(&|r| r.fault("PUT", "/manifests/", (0, 9), invalid.clone()));
    assert_eq!(
        (code, answer(&report, "cache as image manifest")),
        (Some(1), "no"),
        "{report:#}"
    );

    let (code, report) = try_it(&|r| r.fault("DELETE", "/manifests/", (0, 9), status(405)));
    assert_eq!(
        (code, answer(&report, "delete by digest")),
        (Some(0), "no"),
        "{report:#}"
    );
    assert!(report.to_string().contains("by hand"), "{report:#}");

    let (code, report) = try_it(&|r| r.fault("POST", "/blobs/uploads/", (0, 9), status(401)));
    assert_eq!(
        (code, answer(&report, "push")),
        (Some(1), "no"),
        "{report:#}"
    );
    assert_eq!(answer(&report, "pull"), "yes");
    assert_eq!(answer(&report, "zstd layers"), "untried");

    let (_, report) = try_it(&ScriptedRegistry::refuse_mounts);
    assert_eq!(answer(&report, "mount of blobs"), "no", "{report:#}");
    assert!(!usual.contains("mount"), "{usual}");

    // An hour behind, which alone keeps nobody from building.
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    let date = Fault::SetHeader("Date", httpdate::fmt_http_date(hour_ago));
    let (code, report) = try_it(&|r| r.fault("GET", "/manifests/", (0, 9), date.clone()));
    let clock = answer(&report, "clock of the registry");
    assert_eq!((code, clock), (Some(0), "no"), "{report:#}");
    assert!(
        report
            .to_string()
            .contains(" seconds behind this machine's"),
        "{report:#}"
    );

    let (code, report) = try_it(&|r| r.login(Login::Basic("user", "password")));
    assert_eq!(
        (code, answer(&report, "pull")),
        (Some(1), "no"),
        "{report:#}"
    );
    assert_eq!(answer(&report, "registry"), "yes");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_registry_that_is_not_there_is_one_line() {
    let bench = Bench::new();
    let (code, report) = doctor(&bench.client, &["127.0.0.1:1/a"]);
    assert_eq!(
        (code, answer(&report, "registry")),
        (Some(1), "no"),
        "{report:#}"
    );
    let wrong: Output = bench.client.docker(&["cachex", "doctor", "UPPER/x:y:z"]);
    assert_eq!(wrong.status.code(), Some(125), "{wrong:?}");
}

/// What every bug report begins with is there also where nothing works.
#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_machine_without_engine_or_with_broken_settings_is_told_line_by_line() {
    let client = Rig::get().client();
    let nowhere = "unix:///nowhere/docker.sock";
    let output = client.docker(&["-H", nowhere, "cachex", "doctor", "--format=json"]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert_eq!(output.status.code(), Some(1), "{report:#}");
    assert_eq!(answer(&report, "engine"), "no", "{report:#}");
    assert_eq!(answer(&report, "builder"), "no", "{report:#}");

    // A key that a build would fail at.
    let bench = Bench::new();
    let folder = context(&[(".cachex/trust.toml", "nonsense")]);
    let mut command = bench.client.command(&["cachex", "doctor"]);
    let output = command.current_dir(folder.path()).output().expect("docker");
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("\nneeded: trusted keys: "), "{said}");
    let mut command = bench.client.command(&["cachex", "doctor"]);
    let output = command
        .env("CACHEX_SIGN_KEY", "/nowhere/key")
        .output()
        .expect("docker");
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("\nneeded: key to sign with: "), "{said}");
}
