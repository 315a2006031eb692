//! Why steps ran: what a build that read a cache says of them, and what is said of one that has not run.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Weak;

use fs_err as fs;
use parking_lot::Mutex;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::bench::{Bench, Shared};
use crate::support::caches;
use crate::support::own_registry::OwnRegistry;
use crate::support::registry::Registry;
use crate::support::rig::{Rig, context, text};

/// Writes caches.
static WRITER: Shared = Mutex::new(Weak::new());

fn dockerfile(base: &str) -> String {
    format!(
        "FROM {base} AS build\nWORKDIR /w\nCOPY package.json .\n\nRUN cp package.json installed\n\n\
         ARG VERSION=1\nENV MODE=fast\nCOPY src src\nRUN mkdir /out && ls src > /out/list\n\
         FROM {base}\nCOPY b.txt /\nCOPY --from=build /out /out\nRUN ls /out > /list\n"
    )
}

fn project(base: &str) -> TempDir {
    context(&[
        ("Dockerfile", &dockerfile(base)),
        (".dockerignore", "ignored\n"),
        ("package.json", "{}\n"),
        ("b.txt", "b\n"),
        ("src/main.js", "main\n"),
        ("src/other.js", "other\n"),
    ])
}

/// Builds with a tool that writes its cache, and returns where to.
fn cache_of(tool: &str, folder: &Path, keys: &str) -> String {
    let reference = caches::reference("it/explain");
    let to = caches::export(&reference, keys);
    Bench::shared(&WRITER).build(tool, &[&to], folder);
    reference
}

/// Returns what a build says about its steps, without the name and the age of the cache.
fn told(progress: &str) -> Vec<String> {
    let lines = progress.lines().skip_while(|line| {
        !line.starts_with("why ") && !line.starts_with("  ") && !line.starts_with("no cache could")
    });
    let lines = lines.take_while(|line| !line.starts_with("ERROR"));
    let lines = lines.map(|line| match line.split_once(" (compared with ") {
        Some((why, cache)) => {
            assert!(cache.ends_with(" old):"), "{line}");
            format!("{why}:")
        }
        None => line.to_owned(),
    });
    lines.collect()
}

/// Builds on an empty builder with this cache, and returns what is said.
fn rebuilt(bench: &Bench, reference: &str, args: &[&str], folder: &Path) -> Vec<String> {
    bench.prune();
    let from = caches::import(reference);
    let args = [args, &[from.as_str()]].concat();
    told(&bench.build("cachex", &args, folder))
}

fn replace(folder: &Path, from: &str, to: &str) {
    let path = folder.join("Dockerfile");
    let text = fs::read_to_string(&path).expect("a file");
    assert!(text.contains(from));
    fs::write(path, text.replace(from, to)).expect("a file");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn each_change_is_told_with_a_cache_that_buildx_wrote() {
    let base = &Rig::get().busybox;
    let reference = cache_of(
        "buildx",
        project(base).path(),
        "mode=max,image-manifest=true",
    );
    let bench = Bench::new();
    let check = |what: &str, args: &[&str], change: &dyn Fn(&Path), lines: &[&str]| {
        let folder = project(base);
        change(folder.path());
        let told = rebuilt(&bench, &reference, args, folder.path());
        assert_eq!(told, lines, "{what}");
    };
    let write = |path: &'static str, text: &'static str| {
        move |folder: &Path| fs::write(folder.join(path), text).expect("a file")
    };
    let edit =
        |from: &'static str, to: &'static str| move |folder: &Path| replace(folder, from, to);

    check("nothing", &[], &|_| {}, &[]);
    let touch = |folder: &Path| {
        let file = fs::File::options()
            .append(true)
            .open(folder.join("src/main.js"));
        let time = std::time::SystemTime::UNIX_EPOCH;
        file.expect("a file").set_modified(time).expect("a time");
    };
    check("a time", &[], &touch, &[]);
    check("an ignored file", &[], &write("ignored", "x\n"), &[]);
    // The list of files stays the same.
    check(
        "a file",
        &[],
        &write("src/main.js", "changed\n"),
        &[
            "why 2 steps ran:",
            "  Dockerfile:9  [build 5/6] COPY src src",
            "                files that it reads differ",
            "                1 step follows from it: [build 6/6] RUN mkdir /out && ls src > /out/list",
            "  [stage-1 3/4] COPY --from=build /out /out: taken from the cache although [build 6/6] ran, since that made \
         the same files again",
        ],
    );
    let followers = "                3 steps follow from it: [build 6/6] RUN mkdir /out && ls src > /out/list, \
                     [stage-1 3/4] COPY --from=build /out /out, [stage-1 4/4] RUN ls /out > /list";
    check(
        "a new file",
        &[],
        &write("src/new.js", "new\n"),
        &[
            "why 4 steps ran:",
            "  Dockerfile:9  [build 5/6] COPY src src",
            "                files that it reads differ",
            followers,
        ],
    );
    let permissions = |folder: &Path| {
        let mode = std::fs::Permissions::from_mode(0o600);
        fs::set_permissions(folder.join("b.txt"), mode).expect("permissions");
    };
    check(
        "permissions",
        &[],
        &permissions,
        &[
            "why 3 steps ran:",
            "  Dockerfile:12  [stage-1 2/4] COPY b.txt /",
            "                 files that it reads differ",
            "                 2 steps follow from it: [stage-1 3/4] COPY --from=build /out /out, [stage-1 4/4] RUN ls /out \
         > /list",
        ],
    );
    check(
        "a command",
        &[],
        &edit("ls /out >", "ls -l /out >"),
        &[
            "why 1 step ran:",
            "  Dockerfile:14  [stage-1 4/4] RUN ls -l /out > /list",
            "                 not in the cache: the step is new, or was changed",
        ],
    );
    let argument = edit("\n\nRUN cp", "\nARG COMMIT\nRUN cp");
    check(
        "an argument",
        &["--build-arg=COMMIT=hunter2"],
        &argument,
        &[
            "why 3 steps ran:",
            "  Dockerfile:5  [build 4/6] RUN cp package.json installed",
            "                build argument COMMIT is new; the command does not use it: declare ARG COMMIT below this step",
            "                2 steps follow from it: [build 5/6] COPY src src, [build 6/6] RUN mkdir /out && ls src > \
         /out/list",
            "  [stage-1 3/4] COPY --from=build /out /out: taken from the cache although [build 6/6] ran, since that made \
         the same files again",
        ],
    );
    check(
        "a variable",
        &[],
        &edit("COPY src src", "ENV X=1\nCOPY src src"),
        &[
            "why 1 step ran:",
            "  Dockerfile:11  [build 6/6] RUN mkdir /out && ls src > /out/list",
            "                 environment variable X is new",
            "  [stage-1 3/4] COPY --from=build /out /out: taken from the cache although [build 6/6] ran, since that made \
         the same files again",
        ],
    );
    check(
        "no cache",
        &["--no-cache-filter=build"],
        &|_| {},
        &[
            "why 4 steps ran:",
            "  Dockerfile:3  [build 3/6] COPY package.json .",
            "                --no-cache-filter build was given",
            "                3 steps follow from it: [build 4/6] RUN cp package.json installed, [build 5/6] COPY src src, \
             [build 6/6] RUN mkdir /out && ls src > /out/list",
        ],
    );
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn caches_of_this_program_and_those_without_layers_are_explained() {
    let base = &Rig::get().busybox;
    let folder = project(base);
    // The files are told where the steps that read them ran.
    let max = caches::reference("it/explain");
    let to = caches::export(&max, "mode=max,via=client");
    Bench::new().build("cachex", &[&to], folder.path());
    // A builder that has the layers of all steps as blobs puts them also into such a cache.
    let bench = Bench::new();
    let min = caches::reference("it/explain");
    let to = caches::export(&min, "mode=min,image-manifest=true");
    bench.build("buildx", &[&to], folder.path());
    assert_eq!(rebuilt(&bench, &max, &[], folder.path()), [""; 0]);
    fs::write(folder.path().join("b.txt"), "other\n").expect("a file");
    let told = rebuilt(&bench, &max, &[], folder.path());
    let own = [
        "  Dockerfile:12  [stage-1 2/4] COPY b.txt /",
        "                 1 of 1 file differs: b.txt (content)",
    ];
    assert_eq!(told[1..3], own);
    // What the builder exports holds the keys of the steps: nothing else is told with it.
    for keys in [
        "mode=max,via=client",
        "mode=max",
        "mode=min",
        "mode=max,merge=true",
    ] {
        let to = caches::export(&caches::reference("it/explain"), keys);
        assert_eq!(rebuilt(&bench, &max, &[&to], folder.path()), told, "{keys}");
    }
    let told = rebuilt(&bench, &min, &[], folder.path());
    assert_eq!(told[0], "why 8 steps ran:");
    let no_layer = [
        "  Dockerfile:2   [build 2/6] WORKDIR /w",
        "                 in the cache without its layer: mode=min keeps only layers of the final image, mode=max keeps all",
    ];
    assert_eq!(told[1..3], no_layer);
    assert!(told.iter().any(|line| line == own[0]), "{told:?}");

    // Of two caches the one counts that knows most, and one that is missing does not matter.
    let nowhere = caches::reference("it/explain");
    bench.prune();
    let from = [&nowhere, &min, &max].map(|reference| caches::import(reference));
    let from: Vec<&str> = from.iter().map(String::as_str).collect();
    let progress = bench.build("cachex", &from, folder.path());
    // Where a build reads several caches BuildKit may pass over a step that one of them has; then that is told.
    assert!(
        progress.contains("why 3 steps ran") || progress.contains("moby/buildkit#4674"),
        "{progress}"
    );
    assert!(
        progress.contains(&format!(" ran (compared with {max}, ")),
        "{progress}"
    );

    bench.prune();
    let progress = bench.build("cachex", &[&caches::import(&nowhere)], folder.path());
    let expected = format!("no cache could be read: {nowhere} does not exist");
    assert_eq!(self::told(&progress), [expected]);
    bench.prune();
    for args in [
        &["--explain=off"][..],
        &["--progress=rawjson"],
        &["--progress=quiet"],
    ] {
        let from = caches::import(&max);
        let args = [args, &[from.as_str()]].concat();
        let output = bench.try_build("cachex", &args, folder.path());
        let progress = text(&output.stderr);
        assert!(
            output.status.success() && told_nothing(&progress),
            "{args:?}\n{progress}"
        );
    }
}

fn told_nothing(progress: &str) -> bool {
    let mut lines = progress.lines();
    !lines.any(|line| line.starts_with("why ") || line.starts_with("no cache could"))
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_base_image_that_moved_is_told_unless_its_layers_are_the_same() {
    let rig = Rig::get();
    let name = caches::reference("it/base").replace(":cache", ":1");
    let writer = Bench::shared(&WRITER);
    let push = |more: &str| {
        let folder = context(&[("Dockerfile", &format!("FROM {}\n{more}", rig.busybox))]);
        let output = format!("--output=type=image,name={name},push=true,registry.insecure=true");
        writer.build("buildx", &[&output, "--provenance=false"], folder.path());
    };
    push("RUN echo one > /one\n");
    let folder = project(&name);
    let reference = cache_of("buildx", folder.path(), "mode=max,image-manifest=true");
    let bench = Bench::new();
    // Another image of the same layers.
    push("RUN echo one > /one\nLABEL a=b\n");
    fs::write(folder.path().join("b.txt"), "other\n").expect("a file");
    let told = rebuilt(&bench, &reference, &["--pull"], folder.path());
    assert_eq!(
        told[1], "  Dockerfile:12  [stage-1 2/4] COPY b.txt /",
        "{told:?}"
    );
    assert_eq!(told[2], "                 files that it reads differ");
    push("RUN echo two > /two\n");
    let told = rebuilt(&bench, &reference, &["--pull"], folder.path());
    assert!(
        told[1].starts_with(&format!("  Dockerfile:1   [build 1/6] FROM {name}")),
        "{told:?}"
    );
    let moved = &told[2];
    assert!(
        moved.starts_with("                 base image moved to sha256:")
            && moved.ends_with(" steps follow from it"),
        "{told:?}"
    );
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_lost_layer_is_told() {
    let mut registry = OwnRegistry::new();
    registry.start();
    let folder = project(&Rig::get().busybox);
    let reference = format!("{}/team/cache:1", registry.host);
    let to = caches::export(&reference, "mode=max,image-manifest=true");
    Bench::shared(&WRITER).build("cachex", &[&to], folder.path());
    let client = Registry::new(&registry.host);
    let manifest = client.manifest("team/cache", "1").expect("a cache");
    let config = client.config("team/cache", &manifest);
    let layers = config["layers"].as_array().expect("layers");
    let last = config["records"].as_array().expect("records");
    // The result that the most layers lie under is that of the last step.
    let depth = |mut at: i64| {
        let mut depth = 0;
        while let Ok(index) = usize::try_from(at) {
            depth += 1;
            at = layers[index]["parent"].as_i64().unwrap_or(0);
        }
        depth
    };
    let results = last.iter().filter_map(|record| {
        Some(record["layers"][0]["layer"].as_i64().unwrap_or(0))
            .filter(|_| record["layers"].is_array())
    });
    let deepest = results.max_by_key(|at| depth(*at)).expect("a result");
    let deepest = usize::try_from(deepest).expect("an index");
    let blob = layers[deepest]["blob"].as_str().expect("a blob");
    fs::remove_file(registry.data(blob)).expect("a blob");
    registry.kill();
    registry.start();
    let bench = Bench::new();
    let output = folder.path().join("out");
    let output = format!("--output=type=tar,dest={}", output.display());
    let told = rebuilt(&bench, &reference, &[&output], folder.path());
    let lost = told
        .iter()
        .any(|line| line.contains("in the cache, but the registry has lost its layer sha256:"));
    assert!(lost, "{told:?}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn named_contexts_and_a_dockerfile_from_standard_input_are_explained() {
    let base = &Rig::get().busybox;
    let folder = context(&[("a.txt", "a\n"), ("named/x.txt", "x\n")]);
    let dockerfile = format!(
        "FROM {base}\nCOPY a.txt /\nCOPY --from=named x.txt /\nFROM scratch\nCOPY --from=0 / /\n"
    );
    let named = format!(
        "--build-context=named={}",
        folder.path().join("named").display()
    );
    let build = |bench: &Bench, args: &[&str]| {
        let args = [args, &["--file=-", &named]].concat();
        let mut child = bench.command("cachex", &args, folder.path());
        let mut child = child
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the docker CLI");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(dockerfile.as_bytes()).expect("a pipe");
        drop(stdin);
        let output = child.wait_with_output().expect("the docker CLI");
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    let reference = caches::reference("it/explain");
    let to = caches::export(&reference, "mode=max");
    build(&Bench::shared(&WRITER), &[&to]);
    fs::write(folder.path().join("named/x.txt"), "other\n").expect("a file");
    let bench = Bench::new();
    let told = told(&build(&bench, &[&caches::import(&reference)]));
    assert_eq!(told[0], "why 2 steps ran:");
    assert!(
        told[1].ends_with(":3  [stage-0 3/3] COPY --from=named x.txt /"),
        "{told:?}"
    );
    assert_eq!(told[2].trim_start(), "1 of 1 file differs: x.txt (content)");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_build_that_must_be_cached_ends_at_the_first_step() {
    let folder = project(&Rig::get().busybox);
    let reference = cache_of("cachex", folder.path(), "mode=max");
    let bench = Bench::new();
    let from = caches::import(&reference);
    bench.build(
        "cachex",
        &["--require-cached", "--min-hit-rate=100%", &from],
        folder.path(),
    );
    replace(folder.path(), "RUN mkdir /out", "RUN sleep 600; mkdir /out");
    bench.prune();
    let error = bench.fails(3, &["--require-cached", &from], folder.path());
    let expected = "ERROR: failed to build: no step may run (--require-cached), but [build 6/6] RUN sleep 600; mkdir \
                    /out && ls src > /out/list had to: its command differs";
    assert!(error.contains(expected), "{error}");
    let processes = bench.inside(&["ps", "-o", "args"]);
    assert!(!processes.contains("sleep 600"), "{processes}");

    replace(folder.path(), "sleep 600; ", "true; ");
    let rate = |rate: &str| format!("--min-hit-rate={rate}");
    bench.build("cachex", &[&rate("80%"), &from], folder.path());
    bench.prune();
    let error = bench.fails(3, &[&rate("90%"), &from], folder.path());
    let expected = "ERROR: 7 of 8 steps came out of caches (87%), and --min-hit-rate asks for 90%: [build 6/6] RUN \
                    true; mkdir /out";
    assert!(error.contains(expected), "{error}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn forecasts_are_a_table_or_json() {
    let folder = project(&Rig::get().busybox);
    let reference = cache_of("buildx", folder.path(), "mode=max,image-manifest=true");
    let writer = Bench::shared(&WRITER);
    let explain = |args: &[&str]| {
        let from = caches::import(&reference);
        let path = folder.path().to_str().expect("UTF-8");
        let args = [
            &["cachex", "cache", "explain", from.as_str()],
            args,
            &[path],
        ]
        .concat();
        let output = writer.client.docker(&args);
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let (code, table, _) = explain(&["--exit-code"]);
    assert_eq!(code, Some(0), "{table}");
    assert_eq!(table.lines().count(), 9);
    fs::write(folder.path().join("src/main.js"), "changed\n").expect("a file");
    let (code, table, error) = explain(&["--exit-code"]);
    let width = reference.chars().count() + "perhaps ".len();
    let row = |step: &str, cache: &str, why: &str| {
        format!("{step:<50}  {cache:<width$}  {why}")
            .trim_end()
            .to_owned()
    };
    let expected = [
        row("STEP", "CACHE", "WHY"),
        row("[build 2/6] WORKDIR /w", &reference, ""),
        row("[build 3/6] COPY package.json .", &reference, ""),
        row("[build 4/6] RUN cp package.json installed", &reference, ""),
        row(
            "[build 5/6] COPY src src",
            "-",
            "files that it reads differ",
        ),
        row(
            "[build 6/6] RUN mkdir /out && ls src > /out/list",
            "-",
            "follows from [build 5/6]",
        ),
        row("[stage-1 2/4] COPY b.txt /", &reference, ""),
        row(
            "[stage-1 3/4] COPY --from=build /out /out",
            &format!("perhaps {reference}"),
            "if the files of [build 6/6] come out the same",
        ),
        row(
            "[stage-1 4/4] RUN ls /out > /list",
            &format!("perhaps {reference}"),
            "if the files of [stage-1 3/4] come out the same",
        ),
    ];
    let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = table.lines().map(squeezed).collect();
    let expected: Vec<String> = expected.iter().map(|line| squeezed(line)).collect();
    assert_eq!(lines, expected, "{error}");
    assert_eq!(code, Some(3));

    // The command of another platform is not run, and no image of it is needed.
    let (code, json, error) = explain(&["--format=json", "--platform=linux/arm64"]);
    assert_eq!(code, Some(0), "{error}");
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let steps = json["steps"].as_array().expect("steps");
    let run = steps.iter().find(|step| {
        step["step"]
            .as_str()
            .is_some_and(|name| name.contains("RUN cp"))
    });
    let run = run.expect("the step");
    assert_eq!(run["cause"], "platform", "{json:#}");
    assert_eq!(run["why"], "the cache has this step for linux/amd64 only");
    assert_eq!(
        (&run["line"], &run["dockerfile"]),
        (&Value::from(5), &Value::from("Dockerfile"))
    );

    // A time for all files, where the cache has none.
    let (_, json, error) = explain(&["--format=json", "--build-arg=SOURCE_DATE_EPOCH=1700000000"]);
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let steps = json["steps"].as_array().expect("steps");
    assert!(
        steps.iter().any(|step| step["cause"] == "timestamp"),
        "{error}\n{json:#}"
    );
}
