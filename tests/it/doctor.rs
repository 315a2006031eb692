//! `doctor`: what it says of a machine, a builder and registries is what they do.

use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use fs_err as fs;
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

/// A line as a whole.
fn line<'a>(report: &'a Value, check: &str) -> &'a Value {
    let lines = report["checks"].as_array().expect("lines");
    let line = lines.iter().find(|line| line["check"] == check);
    line.unwrap_or_else(|| panic!("no line {check}: {report:#}"))
}

/// Says that a line is no, for this reason and with this advice.
fn says_no(report: &Value, check: &str, reason: &str, advice: &str) {
    let line = line(report, check);
    let has = |field: &str, text: &str| line[field].as_str().is_some_and(|it| it.contains(text));
    assert_eq!(line["answer"], "no", "{line:#}");
    assert!(has("reason", reason), "{reason}: {line:#}");
    assert!(has("advice", advice), "{advice}: {line:#}");
}

/// The answer of a line.
fn answer<'a>(report: &'a Value, check: &str) -> &'a str {
    line(report, check)["answer"].as_str().expect("an answer")
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
    assert_eq!(wrong.status.code(), Some(1), "{wrong:?}");
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

/// Each thing that can be wrong on a machine has its own reason and its own way out.
#[test]
#[ignore = "needs the test rig: scripts/test"]
fn what_is_wrong_on_a_machine_is_told_with_a_way_out() {
    let client = Rig::get().client();
    let config = client.config().join("config.json");
    let kept = fs::read_to_string(&config).expect("docker's settings");
    // docker itself complains about such a file, too.
    let with_config = |text: &str| -> (Option<i32>, Value) {
        fs::write(&config, text).expect("docker's settings");
        let output = client.docker(&["cachex", "doctor", "--format=json"]);
        fs::write(&config, &kept).expect("docker's settings");
        let report = serde_json::from_slice(&output.stdout).expect("a report");
        (output.status.code(), report)
    };

    // No engine: neither a builder to remove, nor an engine on another machine.
    let nowhere = "unix:///nowhere/docker.sock";
    let (_, report) = doctor(&client, &["-H", nowhere]);
    says_no(
        &report,
        "engine",
        "nowhere/docker.sock",
        "docker context ls",
    );
    says_no(
        &report,
        "builder",
        "the engine cannot be asked",
        "docker context ls",
    );
    assert!(
        !report.to_string().contains("docker cachex rm"),
        "{report:#}"
    );
    assert_eq!(answer(&report, "direct path"), "untried");

    for (text, reason) in [
        ("{\"auths\":", "is broken"),
        ("{\"auths\": []}", "is broken"),
        (
            "{\"credsStore\": \"not-there\"}",
            "docker-credential-not-there is not in PATH",
        ),
    ] {
        let (code, report) = with_config(text);
        assert_eq!(code, Some(1), "{report:#}");
        says_no(&report, "credentials", reason, "config.json");
    }
    let (_, report) = with_config("{\"credHelpers\": {\"r.example\": \"not-there\"}}");
    says_no(&report, "credentials", "not-there", "r.example");
    assert_eq!(line(&report, "credentials")["needed"], false);

    // Folders that cannot be made.
    for (folder, reason) in [
        ("/proc/x", "cannot be written"),
        ("/dev/null/x", "Not a directory"),
    ] {
        let mut command = client.command(&["cachex", "doctor", "--format=json"]);
        let output = command.env("BUILDX_CONFIG", folder).output();
        let output = output.expect("docker");
        let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
        says_no(&report, "builder store", reason, "BUILDX_CONFIG");
    }

    // A builder whose engine is gone, one that is paused, and one of another driver.
    let stored = |name: &str, driver: &str, endpoint: &str| {
        let instances = client.config().join("buildx/instances");
        fs::create_dir_all(&instances).expect("the store");
        let json = serde_json::json!({
            "Name": name, "Driver": driver, "Dynamic": false,
            "Nodes": [{"Name": format!("{name}0"), "Endpoint": endpoint, "DriverOpts": {}}],
        });
        fs::write(instances.join(name), json.to_string()).expect("a builder");
    };
    stored("gone", "docker-container", nowhere);
    stored("kube", "kubernetes", "kubernetes:///kube");
    stored("far", "remote", "tcp://127.0.0.1:1");
    let (_, report) = doctor(&client, &["--builder", "gone"]);
    says_no(
        &report,
        "BuildKit",
        "nowhere/docker.sock",
        "docker context ls",
    );
    let (_, report) = doctor(&client, &["--builder", "kube"]);
    says_no(
        &report,
        "builder",
        "kube (kubernetes)",
        "docker cachex create --use",
    );
    let (_, report) = doctor(&client, &["--builder", "far"]);
    says_no(&report, "BuildKit", "refused", "is buildkitd running");

    let bench = Bench::new();
    client.docker_ok(&["stop", &bench.container()]);
    let (code, report) = doctor(&bench.client, &[]);
    assert_eq!(
        (code, answer(&report, "BuildKit")),
        (Some(0), "yes"),
        "{report:#}"
    );
    client.docker_ok(&["start", &bench.container()]);
    client.docker_ok(&["pause", &bench.container()]);
    let (_, report) = doctor(&bench.client, &[]);
    client.docker_ok(&["unpause", &bench.container()]);
    says_no(&report, "BuildKit", "is paused", "docker unpause");
}

/// Each answer of a registry has its own way out: nobody is told to log in where that is no help.
#[test]
#[ignore = "needs the test rig: scripts/test"]
fn what_is_wrong_with_a_registry_is_told_with_a_way_out() {
    let client = Rig::get().client();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for (status, reads, pushes) in [
        (
            401,
            "as somebody who may read a/b",
            "as somebody who may push to a/b",
        ),
        (
            403,
            "as somebody who may read a/b",
            "as somebody who may push to a/b",
        ),
        (405, "is it a mirror", "is it a mirror"),
        (429, "limits the rate", "limits the rate"),
        (500, "is at fault", "is at fault"),
        (503, "is at fault", "is at fault"),
        (418, "is 127.0.0.1:", "is 127.0.0.1:"),
    ] {
        let challenge = ("www-authenticate", "Basic realm=\"r\"".to_owned());
        let headers = (status == 401).then_some(challenge).into_iter().collect();
        let fault = Fault::Status(status, headers, "");
        for (method, part, check, advice) in [
            ("GET", "/manifests/", "pull", reads),
            ("POST", "/blobs/uploads/", "push", pushes),
        ] {
            let registry = runtime.block_on(ScriptedRegistry::start());
            registry.fault(method, part, (0, 99), fault.clone());
            let (_, report) = doctor(&client, &[&format!("{}/a/b", registry.host())]);
            says_no(&report, check, &status.to_string(), advice);
        }
    }
    let (_, report) = doctor(&client, &["127.0.0.1:1/a"]);
    says_no(
        &report,
        "registry",
        "refused",
        "check the name of the registry",
    );
    let (_, report) = doctor(&client, &["registry.invalid/a"]);
    says_no(
        &report,
        "registry",
        "registry.invalid",
        "check the name of the registry",
    );

    // A helper that fails is not the registry's fault.
    let registry = runtime.block_on(ScriptedRegistry::start());
    registry.login(Login::Basic("user", "password"));
    let folder = context(&[(
        "docker-credential-broken",
        "#!/bin/sh\necho locked >&2\nexit 1\n",
    )]);
    let helper = folder.path().join("docker-credential-broken");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(helper, mode).expect("a program");
    let config = client.config().join("config.json");
    let kept = fs::read_to_string(&config).expect("docker's settings");
    let mut settings: Value = serde_json::from_str(&kept).expect("JSON");
    settings["credsStore"] = "broken".into();
    fs::write(&config, settings.to_string()).expect("docker's settings");
    let path = std::env::var("PATH").expect("a path");
    let path = format!("{}:{path}", folder.path().display());
    let repository = format!("{}/a/b", registry.host());
    let mut command = client.command(&["cachex", "doctor", "--format=json", &repository]);
    let output = command.env("PATH", path).output().expect("docker");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    says_no(&report, "login", "locked", "docker-credential-broken get");
}
