//! Forecasts that come true: Dockerfiles of all kinds of steps, made by chance, one change to each, and what the builder
//! then does.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use fs_err as fs;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::bench::{Bench, TOOLS};
use crate::support::caches;
use crate::support::generated::{Case, Numbers};
use crate::support::rig::{Rig, context, text, unique};

/// How many are made where nobody says otherwise: CI has time for a few.
const COUNT: u64 = 15;

/// Reads `COUNT[:FIRST]`: how many Dockerfiles, and the number of the first.
fn wanted() -> (u64, u64) {
    let Ok(text) = env::var("CACHEX_GENERATED") else {
        return (COUNT, 1);
    };
    let (count, first) = text.split_once(':').unwrap_or((&text, "1"));
    let number = |text: &str| text.parse().expect("CACHEX_GENERATED is COUNT[:FIRST]");
    (number(count), number(first))
}

/// What is said of a step that makes layers.
#[derive(Debug)]
struct Forecast {
    name: String,
    state: String,
    cause: Option<String>,
}

/// Returns what is said of each step before the build, by its label.
fn forecasts(
    bench: &Bench,
    args: &[&str],
    folder: &Path,
) -> Result<BTreeMap<String, Forecast>, String> {
    let explain = ["cachex", "cache", "explain", "--format=json"];
    let folder = folder.to_str().expect("UTF-8");
    let output = bench
        .client
        .docker(&[&explain[..], args, &[folder]].concat());
    let error = text(&output.stderr);
    let json: Value =
        serde_json::from_slice(&output.stdout).map_err(|_| format!("no forecast: {error}"))?;
    let mut forecasts = BTreeMap::new();
    for step in json["steps"].as_array().into_iter().flatten() {
        let field = |name: &str| step[name].as_str().map(str::to_owned);
        let name = field("step").expect("a name");
        let state = field("state").expect("a state");
        let cause = field("cause");
        // An image is only told where it is why steps run.
        if !name.contains("] FROM ") {
            forecasts.insert(label(&name), Forecast { name, state, cause });
        }
    }
    Ok(forecasts)
}

/// What a builder said of a step.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Told {
    started: bool,
    cached: bool,
}

/// Returns the label of a step, such as `[linux/amd64 build 2/5]`, by which it is known: a long name is cut.
fn label(name: &str) -> String {
    let end = name.find(']').map_or(name.len(), |end| end + 1);
    name[..end].to_owned()
}

/// Reads a raw progress. What was once said to be cached may be told again while its layers are loaded. A linked copy is
/// two vertices, and runs where one of them does.
fn told(progress: &str) -> BTreeMap<String, bool> {
    let mut vertices: BTreeMap<String, (String, Told)> = BTreeMap::new();
    for message in progress.lines().filter(|line| line.starts_with('{')) {
        let message: Value = serde_json::from_str(message).expect("JSON");
        for vertex in message["vertexes"].as_array().into_iter().flatten() {
            let field = |name: &str| vertex[name].as_str().expect("a text").to_owned();
            let (_, told) = vertices
                .entry(field("digest"))
                .or_insert_with(|| (field("name"), Told::default()));
            // One of two equal steps is dropped, and told as begun and cancelled in one.
            let error = vertex["error"].as_str().unwrap_or_default();
            let is_dropped = vertex["completed"].is_string() && error.ends_with("context canceled");
            told.started |= vertex["started"].is_string() && !is_dropped;
            told.cached |= vertex["cached"] == true;
        }
    }
    let mut ran = BTreeMap::new();
    let is_step = |name: &str| {
        let steps = ["RUN", "COPY", "LINK", "ADD", "WORKDIR"];
        let text = name.split_once("] ").map(|(_, text)| text);
        name.starts_with('[')
            && text.is_some_and(|text| steps.iter().any(|step| text.starts_with(step)))
    };
    let vertices = vertices.into_values();
    for (name, told) in vertices.filter(|(name, told)| told.started && is_step(name)) {
        *ran.entry(label(&name)).or_default() |= !told.cached;
    }
    ran
}

/// Returns a label without the platform: that of steps that may be the same.
fn without_platform(label: &str) -> String {
    let parts = label.trim_start_matches('[').split(' ');
    let parts = parts.filter(|part| !part.starts_with("linux/"));
    parts.collect::<Vec<_>>().join(" ")
}

/// Something that did not come true.
#[derive(Debug)]
struct Mismatch {
    /// What.
    what: String,
    /// The label of the step, if it ran although a cache has it.
    lost: Option<String>,
}

impl Mismatch {
    fn new(what: String) -> Self {
        Self { what, lost: None }
    }
}

/// Compares what was said of the steps with what the builder did.
fn compare(forecasts: &BTreeMap<String, Forecast>, told: &BTreeMap<String, bool>) -> Vec<Mismatch> {
    let mut mismatches = Vec::new();
    for (name, forecast) in forecasts {
        if let Some(cause @ ("should-have-hit" | "unknown")) = forecast.cause.as_deref() {
            mismatches.push(Mismatch::new(format!("{}: {cause}", forecast.name)));
        }
        // BuildKit makes equal steps of several platforms once. It tells one of them, or both, and then the later one as
        // cached.
        let twins = told.iter().filter(|(other, _)| {
            *other != name && without_platform(other) == without_platform(name)
        });
        let twin_ran = twins.clone().any(|(_, ran)| *ran);
        let was = told.get(name);
        let comes_true = match (forecast.state.as_str(), was) {
            ("hit", None | Some(false)) | ("run", Some(true)) | ("perhaps", _) => true,
            ("run", None | Some(false)) => twin_ran,
            _ => false,
        };
        if !comes_true {
            let is_lost = forecast.state == "hit" && was == Some(&true);
            let lost = is_lost.then(|| name.clone());
            let Forecast { name, state, cause } = forecast;
            let what = format!("{name}: {state} ({cause:?}), {was:?}");
            mismatches.push(Mismatch { what, lost });
        }
    }
    let ran = told.iter().filter(|(_, ran)| **ran);
    let unsaid = ran.filter(|(label, _)| !forecasts.contains_key(*label));
    mismatches.extend(
        unsaid.map(|(label, _)| Mismatch::new(format!("{label} ran, and nothing was said of it"))),
    );
    mismatches
}

/// Checks the causes that a build tells afterwards.
fn check_causes(report: &Path) -> Vec<Mismatch> {
    let report: Value = serde_json::from_slice(&fs::read(report).expect("a report")).expect("JSON");
    let mut mismatches = Vec::new();
    for step in report["steps"].as_array().into_iter().flatten() {
        let name = step["name"].as_str().expect("a name");
        match step["cause"]["code"].as_str() {
            Some("unknown") => {
                mismatches.push(Mismatch::new(format!("afterwards {name}: unknown")));
            }
            Some("should-have-hit") => mismatches.push(Mismatch {
                what: format!("afterwards {name}: should-have-hit"),
                lost: Some(label(name)),
            }),
            _ => {}
        }
        let is_told = step["cause"].is_object() || step["follows"].is_number();
        if step["counted"] == true && step["status"] == "ran" && !is_told {
            mismatches.push(Mismatch::new(format!("afterwards {name}: no cause")));
        }
    }
    mismatches
}

fn succeeded(bench: &Bench, tool: &str, args: &[&str], folder: &Path) -> Result<String, String> {
    let output = bench.try_build(tool, args, folder);
    let progress = text(&output.stderr);
    if output.status.success() {
        Ok(progress)
    } else {
        Err(format!("{tool} build: {}\n{progress}", output.status))
    }
}

/// Builds, changes one thing, says what will become of the steps, and builds on an empty builder.
fn run(
    writer: &Bench,
    fresh: &Bench,
    case: &mut Case,
    folder: &TempDir,
    tool: &str,
) -> Result<Ending, String> {
    let folder = folder.path();
    let reference = caches::reference("it/forecast");
    let to = caches::export(&reference, "mode=max,image-manifest=true");
    case.write(folder);
    // What a builder has made before goes into its cache, too: of a step that it made for one platform and then for two
    // there are two records then, and BuildKit, reading them, takes only one.
    writer.prune();
    let args = case.args(folder);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    succeeded(writer, tool, &[&args[..], &[&to]].concat(), folder)?;

    case.change(folder);
    let from = caches::import(&reference);
    let args = case.args(folder);
    let args: Vec<&str> = args
        .iter()
        .map(String::as_str)
        .chain([from.as_str()])
        .collect();
    fresh.prune();
    let forecasts = forecasts(fresh, &args, folder)?;
    let mut errors = Vec::new();
    let mut last = Vec::new();
    for _ in 0..case.tries() {
        last = mismatches(fresh, &args, folder, &forecasts)?;
        let error: Vec<&str> = last.iter().map(|mismatch| mismatch.what.as_str()).collect();
        match (error.is_empty(), errors.is_empty()) {
            (true, true) => return Ok(Ending::AtOnce),
            (true, false) => return Ok(Ending::Again(errors.remove(0))),
            (false, _) => errors.push(error.join("; ")),
        }
    }
    let errors = errors.join("\nand again: ");
    if case.tries() > 1 && loses_the_same(fresh, &args, folder, &last)? {
        return Ok(Ending::AsBuildx(errors));
    }
    Err(format!(
        "{errors}\nforecast: {forecasts:#?}\ncache: {reference}"
    ))
}

/// How a forecast came true.
enum Ending {
    AtOnce,
    /// BuildKit did not take what a cache has, and took it when it was asked again.
    Again(String),
    /// BuildKit does not take what a cache has, and neither does it when `docker buildx` asks for it.
    AsBuildx(String),
}

/// Builds on an empty builder, and returns what is not as it was said before.
fn mismatches(
    bench: &Bench,
    args: &[&str],
    folder: &Path,
    forecasts: &BTreeMap<String, Forecast>,
) -> Result<Vec<Mismatch>, String> {
    bench.prune();
    let reports = TempDir::new().expect("a temporary folder");
    let report = reports.path().join("report.json");
    let flag = format!("--report=json={}", report.display());
    let more = ["--progress=rawjson", &flag];
    let progress = succeeded(bench, "cachex", &[args, &more].concat(), folder)?;
    let mut mismatches = compare(forecasts, &told(&progress));
    mismatches.extend(check_causes(&report));
    Ok(mismatches)
}

/// Returns whether all that is wrong is that steps ran which a cache has, and whether `docker buildx`, reading the same
/// cache on an empty builder, makes the very same steps run: for which of two platforms is left to chance.
fn loses_the_same(
    bench: &Bench,
    args: &[&str],
    folder: &Path,
    mismatches: &[Mismatch],
) -> Result<bool, String> {
    let lost = mismatches
        .iter()
        .map(|mismatch| Some(without_platform(mismatch.lost.as_ref()?)));
    let lost: Option<BTreeSet<String>> = lost.collect();
    let Some(mut lost) = lost else {
        return Ok(false);
    };
    for _ in 0..3 {
        bench.prune();
        let args = [args, &["--progress=rawjson"]].concat();
        let told = told(&succeeded(bench, "buildx", &args, folder)?);
        let ran = told.iter().filter(|(_, ran)| **ran);
        let ran: BTreeSet<String> = ran.map(|(label, _)| without_platform(label)).collect();
        lost.retain(|label| !ran.contains(label));
        if lost.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn forecasts_of_generated_dockerfiles_come_true() {
    let (writer, fresh) = (Bench::new(), Bench::new());
    let has_parents = {
        let folder = context(&[
            ("Dockerfile", "FROM scratch\nCOPY --parents a/b.txt /\n"),
            ("a/b.txt", "b\n"),
        ]);
        writer
            .try_build("buildx", &[], folder.path())
            .status
            .success()
    };
    let (count, first) = wanted();
    let mut failures = Vec::new();
    let mut done = 0;
    for seed in first..first + count {
        let mut case = Case::new(
            Numbers::new(seed),
            &Rig::get().busybox,
            &unique("seed"),
            has_parents,
        );
        let folder = Case::folder();
        let tool = TOOLS[usize::try_from(seed % 2).expect("a small number")];
        // What goes wrong with one is told with its number, and does not hide the others.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            run(&writer, &fresh, &mut case, &folder, tool)
        }));
        let outcome = outcome.unwrap_or_else(|panic| {
            let said = panic.downcast_ref::<String>().cloned();
            Err(said.unwrap_or_else(|| "a panic".to_owned()))
        });
        let ending = match outcome {
            Ok(Ending::AtOnce) => "came true".to_owned(),
            Ok(Ending::Again(error)) => format!("came true when asked again, after {error}"),
            Ok(Ending::AsBuildx(error)) => format!("docker buildx loses the same: {error}"),
            Err(error) => {
                let what = format!("failed: {error}");
                failures.push(format!("{seed} ({tool}), {}\n{error}", case.told()));
                what
            }
        };
        done += 1;
        eprintln!("{seed} ({tool}), {}: {ending}", case.what());
    }
    assert_eq!(done, count);
    assert!(
        failures.is_empty(),
        "{} of {count} failed:\n{}",
        failures.len(),
        failures.join("\n\n")
    );
}
