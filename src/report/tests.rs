//! Tests of the report and its forms.

use std::collections::BTreeSet;

use bollard_buildkit_proto::moby::buildkit::v1::Vertex;
use bollard_buildkit_proto::pb::Platform;
use serde_json::Value;

use super::model::{Outcome, Report, Status};
use super::testing::{Build, cached, facts, failed, sample};
use super::{Ending, NodeFacts, collect, html, json, md};
use crate::cache::keys::testing::amd64;
use crate::explain::Cause;

/// What a name may try, in any form.
const HOSTILE: &str = "[2/2] RUN echo \"</script><script>document.title='x'</script>\" | tee `a` &amp; \u{1b}[31m\u{202e}<img src=x> | **b** <!-- @all #1";

fn of_build(build: &mut Build, ending: Ending, took: i64) -> Report {
    let known = build.known();
    let node = NodeFacts {
        name: None,
        model: &build.model,
        known: Some(&known),
    };
    collect(facts(ending, took), &[node])
}

fn hostile() -> Report {
    let mut build = Build::new();
    build.step("[1/2] FROM debian", 1, &[]);
    build.step(HOSTILE, 2, &[0]);
    build.report(0, "[1/2] FROM debian", (0, 10), Vertex::default());
    build.report(1, HOSTILE, (10, 2_000), failed(HOSTILE));
    let known = build.known();
    let mut known = known;
    let cause = Cause::Unknown(HOSTILE.to_owned());
    known.misses = vec![build.miss(&known, 1, cause, &[])];
    let node = NodeFacts {
        name: Some(HOSTILE),
        model: &build.model,
        known: Some(&known),
    };
    let mut facts = facts(Ending::Failed(HOSTILE.to_owned()), 2_000);
    facts.name = HOSTILE.to_owned();
    facts.target = Some(HOSTILE.to_owned());
    facts.builder.0 = HOSTILE.to_owned();
    facts.written[0].name = HOSTILE.to_owned();
    collect(facts, &[node])
}

/// A report of many steps.
fn large(steps: usize) -> Report {
    let mut build = Build::new();
    build.step("[1/9] FROM debian", 1, &[]);
    for at in 1..=steps {
        let line = i32::try_from(at + 1).unwrap();
        let name = format!("[stage-{} {at}/{steps}] RUN {}", at % 7, "make ".repeat(30));
        build.step(&name, line, &[at - 1]);
        let from = i64::try_from(at).unwrap() * 100;
        build.report(at, &name, (from, from + 100), Vertex::default());
    }
    let known = build.known();
    let mut known = known;
    known.misses = (1..=steps)
        .map(|at| build.miss(&known, at, Cause::SomeFiles, &[]))
        .collect();
    let node = NodeFacts {
        name: None,
        model: &build.model,
        known: Some(&known),
    };
    collect(facts(Ending::Succeeded, 200_000), &[node])
}

#[test]
fn the_json_form_is_that_of_the_golden_file() {
    insta::assert_snapshot!("json", json::render(&sample()));
}

/// Returns the names of all fields.
fn fields(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                names.insert(name.clone());
                fields(value, names);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| fields(value, names)),
        _ => {}
    }
}

#[test]
fn the_readme_has_each_field_of_the_json_form_and_no_other() {
    let mut names = BTreeSet::new();
    let json: Value = serde_json::from_str(&json::render(&sample())).unwrap();
    fields(&json, &mut names);
    let readme = include_str!("../../README.md");
    let (_, section) = readme.split_once("The JSON form is an object;").unwrap();
    let (section, _) = section.split_once("### Exit codes").unwrap();
    let words = section.split('`').skip(1).step_by(2);
    let words: BTreeSet<&str> = words.flat_map(|word| word.split('.')).collect();
    let missing: Vec<_> = names
        .iter()
        .filter(|name| !words.contains(name.as_str()))
        .collect();
    assert_eq!(missing, [""; 0]);
    // What a field may say.
    let values = [
        "succeeded",
        "failed",
        "canceled",
        "missing",
        "unreadable",
        "skipped",
        "import",
        "image",
        "mount",
        "exec",
        "file",
        "merge",
        "diff",
        "git",
        "http",
        "local",
        "internal",
        "null",
        "cache explain",
    ];
    let unknown = words
        .iter()
        .filter(|word| !names.contains(**word) && !values.contains(*word));
    assert_eq!(unknown.collect::<Vec<_>>(), [&""; 0]);
}

#[test]
fn the_markdown_form_is_that_of_the_golden_file() {
    insta::assert_snapshot!("md", md::render(&sample()));
}

#[test]
fn the_page_is_that_of_the_golden_file() {
    let page = html::render(&sample());
    // How it looks may change, and the embedded JSON has a golden file of its own.
    let (_, body) = page.split_once("<body>").unwrap();
    let (body, _) = body.split_once("<script type").unwrap();
    insta::assert_snapshot!("html", body);
}

#[test]
fn steps_are_in_order_and_connected() {
    let report = sample();
    let lines: Vec<_> = report.steps.iter().map(|step| step.line).collect();
    let line = [1, 2, 3, 4, 5, 8, 9].map(Some);
    assert_eq!(lines[..7], line);
    assert_eq!(lines[7..], [None]);
    let ids: Vec<_> = report.steps.iter().map(|step| step.id).collect();
    assert_eq!(ids, (0..8).collect::<Vec<_>>());
    let copy = &report.steps[3];
    assert_eq!(
        (copy.followers.as_slice(), copy.follows),
        (&[4, 6][..], None)
    );
    assert_eq!(report.steps[4].follows, Some(3));
    assert_eq!(copy.inputs, [2, 7]);
    let critical = report.steps.iter().filter(|step| step.critical);
    let critical: Vec<_> = critical.map(|step| step.line.unwrap_or(0)).collect();
    // The layer is loaded when the context is there; the other stage is not waited for.
    assert_eq!(critical, [3, 4, 5, 9, 0]);
}

#[test]
fn a_step_whose_layers_are_fetched_is_cached_and_loaded() {
    let report = sample();
    let [fetched, cached] = [&report.steps[2], &report.steps[1]];
    assert_eq!(fetched.status, Status::Cached);
    assert!(fetched.loading && cached.loading);
    assert_eq!(
        (fetched.duration_ms, fetched.bytes),
        (1_000, Some(41_000_000))
    );
    assert_eq!(
        fetched.cache.as_deref(),
        Some("registry.example/demo/app:cache")
    );
    assert_eq!((cached.duration_ms, cached.bytes), (60, None));
    // What they took when they ran, less the time of loading.
    assert_eq!(report.totals.saved_ms, Some(191_940));
    assert_eq!(report.totals.hit_rate, Some(33.3));
    assert_eq!(report.caches.read[0].bytes, Some(41_000_000));
    assert_eq!(report.caches.written[0].after_steps_ms, Some(2_100));
}

#[test]
fn a_build_that_failed_tells_what_was_not_reached() {
    let mut build = Build::new();
    let names = [
        "[1/4] FROM debian",
        "[2/4] RUN a",
        "[3/4] RUN b",
        "[4/4] RUN c",
    ];
    for (at, name) in names.iter().enumerate() {
        let before: &[usize] = if at == 0 { &[] } else { &[at - 1] };
        build.step(name, i32::try_from(at + 1).unwrap(), before);
    }
    build.report(0, names[0], (0, 10), Vertex::default());
    build.report(1, names[1], (10, 10), cached());
    build.report(2, names[2], (10, 500), failed("exit code: 1"));
    let digest = build.digest(3);
    let unbegun = Vertex {
        digest,
        name: names[3].to_owned(),
        ..Vertex::default()
    };
    build.unbegun(unbegun);
    let report = of_build(&mut build, Ending::Failed("no".to_owned()), 600);
    let statuses: Vec<_> = report.steps.iter().map(|step| step.status).collect();
    let expected = [
        Status::Ran,
        Status::Cached,
        Status::Failed,
        Status::Canceled,
    ];
    assert_eq!(statuses, expected);
    assert_eq!(report.result, Outcome::Failed);
    assert_eq!(report.failed_step().and_then(|step| step.line), Some(3));
    assert_eq!(report.steps[2].error.as_deref(), Some("exit code: 1"));
    assert_eq!(report.totals.saved_ms, None);
    let text = md::render(&report);
    assert!(
        text.contains("failed after 0.6s") && text.contains("<pre>no</pre>"),
        "{text}"
    );
}

#[test]
fn a_step_that_was_dropped_for_an_equal_one_is_told_with_that() {
    let mut build = Build::new();
    let context = build.step("[internal] load build context", 0, &[]);
    for arch in ["amd64", "arm64"] {
        let platform = Platform {
            architecture: arch.to_owned(),
            ..amd64()
        };
        let mut add = |name: &str, line, inputs: &[usize]| {
            let name = format!("[linux/{arch} {name}");
            build.step_for(platform.clone(), &name, line, inputs)
        };
        let base = add("1/3] FROM debian", 1, &[]);
        let copied = add("2/3] COPY . /", 2, &[base, context]);
        add("3/3] RUN make", 3, &[copied]);
    }
    let names = ["FROM debian", "COPY . /", "RUN make"];
    let name = |arch: &str, at: usize| format!("[linux/{arch} {}/3] {}", at + 1, names[at]);
    build.report(1, &name("amd64", 0), (0, 10), Vertex::default());
    build.report(2, &name("amd64", 1), (10, 50), Vertex::default());
    build.report(5, &name("arm64", 1), (10, 10), failed("context canceled"));
    build.report(3, &name("amd64", 2), (50, 90), Vertex::default());
    build.report(6, &name("arm64", 2), (60, 90), Vertex::default());
    let of = |report: &Report| {
        let steps = report.steps.iter().filter(|step| step.counted);
        steps
            .map(|step| (step.name.clone(), step.status, step.inputs.clone()))
            .collect::<Vec<_>>()
    };
    let report = of_build(&mut build, Ending::Succeeded, 100);
    let copied = report
        .steps
        .iter()
        .find(|step| step.line == Some(2))
        .unwrap()
        .id;
    let expected = [
        (name("amd64", 2), Status::Ran, vec![copied]),
        (name("arm64", 2), Status::Ran, vec![copied]),
    ];
    let mut steps = of(&report);
    steps.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(steps[1..], expected);
    assert_eq!(report.totals.canceled, 0);
}

#[test]
fn a_build_that_never_began_has_a_report() {
    let build = Build::new();
    let node = NodeFacts {
        name: None,
        model: &build.model,
        known: None,
    };
    let report = collect(facts(Ending::Canceled, 100), &[node]);
    assert_eq!(report.totals.hit_rate, None);
    assert!(md::render(&report).contains("canceled after 0.1s"));
    assert!(html::render(&report).contains("canceled after 0.1s"));
    assert!(json::render(&report).contains("\"result\": \"canceled\""));
}

#[test]
fn hostile_names_break_no_form() {
    let report = hostile();
    let page = html::render(&report);
    assert_eq!(page.matches("<script>").count(), 1, "{page}");
    assert_eq!(page.matches("</script>").count(), 2, "{page}");
    assert!(!page.contains("<img") && !page.contains("<!-- "));
    let text = md::render(&report);
    for forbidden in [
        "<script", "`", "**", "<img", "<!--", "@all", "#1 ", "\u{1b}", "\u{202e}",
    ] {
        assert!(!text.contains(forbidden), "{forbidden:?} in {text}");
        let is_html = ["\u{1b}", "\u{202e}"].contains(&forbidden);
        assert!(!is_html || !page.contains(forbidden));
    }
    // A bar in a cell would be its end.
    let rows = text.lines().filter(|line| line.starts_with("| <code>"));
    for row in rows {
        assert_eq!(row.matches('|').count(), 5, "{row}");
    }
    let json: Value = serde_json::from_str(&json::render(&report)).unwrap();
    assert!(
        json["steps"][1]["name"]
            .as_str()
            .unwrap()
            .contains("<script>")
    );
}

#[test]
fn forms_stay_small() {
    let report = large(1_000);
    let text = md::render(&report);
    assert!(text.len() <= md::MAX, "{}", text.len());
    assert!(text.contains("more causes") && text.ends_with("</details>\n"));
    assert!(html::render(&report).len() < 2_000_000);
}

#[test]
fn names_of_a_frontend_that_is_not_known_have_no_values() {
    let mut build = Build::new();
    build.vertex("x", "[2/2] RUN echo hunter2", (0, 10), Vertex::default());
    let node = NodeFacts {
        name: None,
        model: &build.model,
        known: None,
    };
    let report = collect(facts(Ending::Canceled, 100), &[node]);
    let json = json::render(&report);
    assert!(
        json.contains("[2/2] RUN\"") && !json.contains("hunter2"),
        "{json}"
    );
}
