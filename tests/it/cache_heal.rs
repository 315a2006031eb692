//! Caches that are missing, damaged, half lost or out of reach: the build does without, and says so.

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fs_err as fs;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::bench::{Bench, assert_all_cached, steps};
use crate::support::locked::{Locked, PASSWORD, USER, auths};
use crate::support::own_registry::OwnRegistry;
use crate::support::registry::Registry;
use crate::support::rig::{Rig, context, plugin, text, unique};

/// A build that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(90);
const REPOSITORY: &str = "team/cache";
const MISSING: &str = "no cache there yet, building without it";

pub(crate) fn started() -> OwnRegistry {
    let mut registry = OwnRegistry::new();
    registry.start();
    registry
}

fn reference(host: &str, tag: &str) -> String {
    format!("type=registry,ref={host}/{REPOSITORY}:{tag}")
}

/// The digests of the layers that lie so many layers above the lowest, which is the base image's.
fn layers_at(registry: &OwnRegistry, tag: &str, height: usize) -> Vec<String> {
    let client = Registry::new(&registry.host);
    let manifest = client.manifest(REPOSITORY, tag).expect("a cache");
    let config = client.config(REPOSITORY, &manifest);
    let layers = config["layers"].as_array().expect("layers");
    let parent = |layer: &Value| layer["parent"].as_i64().unwrap_or(0);
    let depth = |layer: &Value| {
        let mut depth = 0;
        let mut next = parent(layer);
        while let Ok(index) = usize::try_from(next) {
            depth += 1;
            next = parent(&layers[index]);
        }
        depth
    };
    let found = layers.iter().filter(|layer| depth(layer) == height);
    found
        .map(|layer| layer["blob"].as_str().expect("a blob").to_owned())
        .collect()
}

/// The only layer that lies so high.
pub(crate) fn layer_at(registry: &OwnRegistry, tag: &str, height: usize) -> String {
    let mut found = layers_at(registry, tag, height);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// Other bytes of the same number, so that the registry says that the blob is there.
pub(crate) fn damage(registry: &OwnRegistry, digest: &str) {
    let path = registry.data(digest);
    let mut bytes = fs::read(&path).expect("the blob");
    let half = bytes.len() / 2;
    bytes[half..].iter_mut().for_each(|byte| *byte ^= 0x55);
    fs::write(&path, bytes).expect("the blob");
    let there = Command::new("curl")
        .args(["-sfI", "-o", "/dev/null"])
        .arg(format!(
            "http://{}/v2/{REPOSITORY}/blobs/{digest}",
            registry.host
        ))
        .status()
        .expect("curl");
    assert!(there.success(), "{digest}");
}

fn warnings(progress: &str) -> Vec<&str> {
    let lines = progress.lines();
    lines
        .filter(|line| line.starts_with("WARNING: ") && !line.contains("No output specified"))
        .collect()
}

/// How often a step printed the text, which stands in its command too.
fn ran(progress: &str, text: &str) -> usize {
    let said = |line: &&str| {
        let mut words = line.split_whitespace();
        let numbered = words.next().is_some_and(|word| word.starts_with('#'));
        let timed = words.next().is_some_and(|word| word.parse::<f64>().is_ok());
        numbered && timed && words.collect::<Vec<_>>() == [text]
    };
    progress.lines().filter(said).count()
}

/// Stages `s0` to `s7`, each with a step of its own, and one that has the results of all.
fn stages(seed: &str) -> TempDir {
    let busybox = &Rig::get().busybox;
    let mut dockerfile = String::new();
    for stage in 0..8 {
        let step =
            format!("FROM {busybox} AS s{stage}\nRUN echo {seed}-{stage} && date > /f{stage}\n");
        dockerfile.push_str(&step);
    }
    dockerfile.push_str("FROM scratch\n");
    for stage in 0..8 {
        let copy = format!("COPY --from=s{stage} /f{stage} /\n");
        dockerfile.push_str(&copy);
    }
    context(&[("Dockerfile", &dockerfile)])
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn of_eleven_caches_three_are_missing_one_is_damaged_and_one_has_lost_a_layer() {
    let registry = started();
    let bench = Bench::new();
    let seed = unique("step");
    let folder = stages(&seed);
    for stage in 0..8 {
        let to = format!(
            "{},mode=max",
            reference(&registry.host, &format!("c{stage}"))
        );
        let target = format!("s{stage}");
        let args = ["--target", &target, "--cache-to", &to];
        bench.build("buildx", &args, folder.path());
    }
    let client = Registry::new(&registry.host);
    let config =
        client.manifest(REPOSITORY, "c6").expect("a cache").json["config"]["digest"].clone();
    damage(&registry, config.as_str().expect("a digest"));
    let lost = layer_at(&registry, "c7", 1);
    fs::remove_file(registry.data(&lost)).expect("the blob");

    let tags = [
        "c0", "gone0", "c1", "c2", "gone1", "c3", "c4", "c5", "gone2", "c6", "c7",
    ];
    let refs: Vec<_> = tags
        .iter()
        .map(|tag| reference(&registry.host, tag))
        .collect();
    let args: Vec<&str> = refs.iter().flat_map(|r| ["--cache-from", r]).collect();
    bench.prune();
    let peer = bench.try_build("buildx", &args, folder.path());
    assert!(!peer.status.success() && text(&peer.stderr).contains(&lost));

    bench.prune();
    let metadata = folder.path().join("metadata.json");
    let file = format!("--metadata-file={}", metadata.display());
    let all: Vec<&str> = args.iter().copied().chain([file.as_str()]).collect();
    let progress = bench.build("cachex", &all, folder.path());
    for stage in 0..6 {
        let runs = ran(&progress, &format!("{seed}-{stage}"));
        assert_eq!(runs, 0, "{stage}\n{progress}");
    }
    assert_eq!(ran(&progress, &format!("{seed}-7")), 1, "{progress}");
    // It may have been cut off with the first run of the build.
    assert!(ran(&progress, &format!("{seed}-6")) > 0, "{progress}");
    for tag in ["gone0", "gone1", "gone2"] {
        let name = format!("{REPOSITORY}:{tag}\n");
        assert!(progress.contains(&name), "{progress}");
    }
    assert!(progress.matches(MISSING).count() >= 3, "{progress}");
    let warnings = warnings(&progress);
    assert_eq!(warnings.len(), 2, "{progress}");
    let about = |tag: &str| {
        warnings
            .iter()
            .find(|w| w.contains(&format!("{REPOSITORY}:{tag}")))
    };
    assert!(
        about("c6").is_some_and(|w| w.contains("cannot read")),
        "{warnings:?}"
    );
    assert!(
        about("c7").is_some_and(|w| w.contains(&lost)),
        "{warnings:?}"
    );
    assert!(!progress.contains("failed to copy"), "{progress}");

    // The record of the build is that of the run that succeeded.
    let metadata: Value =
        serde_json::from_str(&fs::read_to_string(metadata).expect("a file")).expect("JSON");
    let build = metadata["buildx.build.ref"].as_str().expect("a reference");
    let id = build.rsplit('/').next().expect("an identifier");
    let (history, _) = bench
        .client
        .docker_ok(&["buildx", "history", "ls", "--format=json"]);
    let of_build = history
        .lines()
        .find(|line| line.contains(id))
        .unwrap_or_default();
    assert!(of_build.contains("Completed"), "{id} in {history}");
}

/// Four steps, of which the last is not in the cache.
fn chain(seed: &str, last: &str) -> TempDir {
    let mut dockerfile = format!("FROM {}\n", Rig::get().busybox);
    for step in ["a", "b", "c"] {
        let step = format!("RUN echo {seed}-{step} && head -c 300000 /dev/urandom > /{step}\n");
        dockerfile.push_str(&step);
    }
    let last = format!("RUN echo {seed}-{last} && cat /a /b /c > /d\n");
    dockerfile.push_str(&last);
    context(&[("Dockerfile", &dockerfile)])
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_build_that_dies_of_an_unreadable_blob_is_run_again() {
    let bench = Bench::new();
    for (how, via) in [("gone", ""), ("damaged", ""), ("damaged", ",via=client")] {
        let registry = started();
        let seed = unique("chain");
        let from = reference(&registry.host, "c");
        let to = format!("{from},mode=max");
        bench.build("buildx", &["--cache-to", &to], chain(&seed, "d").path());
        let blob = layer_at(&registry, "c", 2);
        match how {
            "gone" => fs::remove_file(registry.data(&blob)).expect("the blob"),
            _ => damage(&registry, &blob),
        }
        let folder = chain(&seed, "e");
        bench.prune();
        let peer = bench.try_build("buildx", &["--cache-from", &from], folder.path());
        assert!(!peer.status.success(), "{how}");

        bench.prune();
        let from = format!("{from}{via}");
        let dest = folder.path().join("result");
        let output = format!("type=local,dest={}", dest.display());
        let args = ["--cache-from", &from, "-o", &output];
        let progress = bench.build("cachex", &args, folder.path());
        let counts = ["a", "b", "c", "e"].map(|step| ran(&progress, &format!("{seed}-{step}")));
        assert_eq!(counts, [0, 1, 1, 1], "{how}{via}\n{progress}");
        let warnings = warnings(&progress);
        assert_eq!(warnings.len(), 1, "{progress}");
        for part in [&blob, &format!("{REPOSITORY}:c"), "run again"] {
            assert!(warnings[0].contains(part), "{part} in {}", warnings[0]);
        }
        assert!(!progress.contains("ERROR"), "{progress}");
        assert_eq!(fs::read(dest.join("d")).expect("the result").len(), 900_000);
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_cache_that_stays_unreadable_is_given_up() {
    let bench = Bench::new();
    let registry = started();
    let seed = unique("chain");
    let from = reference(&registry.host, "c");
    let to = format!("{from},mode=max");
    bench.build("buildx", &["--cache-to", &to], chain(&seed, "d").path());
    // The registry says of both that they are there; the first one is read first, or both at once.
    for height in [1, 2] {
        damage(&registry, &layer_at(&registry, "c", height));
    }
    bench.prune();
    let progress = bench.build("cachex", &["--cache-from", &from], chain(&seed, "e").path());
    let counts = ["a", "b", "c", "e"].map(|step| ran(&progress, &format!("{seed}-{step}")));
    assert_eq!(counts, [1; 4], "{progress}");
    assert!(progress.contains(&format!("{REPOSITORY}:c")), "{progress}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_failed_step_is_not_run_again() {
    let bench = Bench::new();
    let registry = started();
    let seed = unique("chain");
    let from = reference(&registry.host, "c");
    let good = chain(&seed, "d");
    bench.build(
        "buildx",
        &["--cache-to", &format!("{from},mode=max")],
        good.path(),
    );
    // Its text names a blob of the cache.
    let blob = layer_at(&registry, "c", 2);
    let dockerfile = fs::read_to_string(good.path().join("Dockerfile")).expect("a file");
    let failing =
        format!("{dockerfile}RUN echo {seed}-runs && : failed to copy: {blob} && exit 7\n");
    let folder = context(&[("Dockerfile", &failing)]);
    let end = |output: &Output| {
        let progress = text(&output.stderr);
        assert_eq!(ran(&progress, &format!("{seed}-runs")), 1, "{progress}");
        assert!(warnings(&progress).is_empty(), "{progress}");
        let last = progress.lines().rfind(|line| line.starts_with("ERROR: "));
        (output.status.code(), last.map(str::to_owned))
    };
    bench.prune();
    let peer = end(&bench.try_build("buildx", &["--cache-from", &from], folder.path()));
    bench.prune();
    let own = end(&bench.try_build("cachex", &["--cache-from", &from], folder.path()));
    assert_eq!(own, peer);
    assert_eq!(own.0, Some(1));
}

/// A registry that takes connections and never answers.
struct Silent {
    host: String,
    open: Arc<AtomicUsize>,
    /// How many connections were open at the same time.
    most: Arc<AtomicUsize>,
}

impl Silent {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let host = listener.local_addr().expect("an address").to_string();
        let (open, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let silent = Self {
            host,
            open: Arc::clone(&open),
            most: Arc::clone(&most),
        };
        // It ends with the test program.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (open, most) = (Arc::clone(&open), Arc::clone(&most));
                thread::spawn(move || hold(stream, &open, &most));
            }
        });
        silent
    }
}

fn hold(mut stream: TcpStream, open: &AtomicUsize, most: &AtomicUsize) {
    // A connection that is closed at once is no request.
    let mut first = [0];
    if !stream.read(&mut first).is_ok_and(|count| count > 0) {
        return;
    }
    most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
    let _rest = stream.read_to_end(&mut Vec::new());
    open.fetch_sub(1, Ordering::SeqCst);
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_silent_registry_costs_the_deadline_once() {
    let silent = Silent::start();
    let registry = started();
    let bench = Bench::new();
    let seed = unique("chain");
    let folder = chain(&seed, "d");
    let good = reference(&registry.host, "c");
    bench.build(
        "buildx",
        &["--cache-to", &format!("{good},mode=max")],
        folder.path(),
    );
    bench.prune();
    let refs: Vec<_> = ["x", "y", "z"]
        .iter()
        .map(|tag| reference(&silent.host, tag))
        .collect();
    let mut args: Vec<&str> = refs.iter().flat_map(|r| ["--cache-from", r]).collect();
    args.extend(["--cache-from", &good]);
    let progress = bench.build("cachex", &args, folder.path());
    assert_all_cached(&progress, 4);
    let warnings = warnings(&progress);
    assert_eq!(warnings.len(), 3, "{progress}");
    for tag in ["x", "y", "z"] {
        let name = format!("{}/{REPOSITORY}:{tag}", silent.host);
        let about = warnings
            .iter()
            .any(|w| w.contains(&name) && w.contains("no answer"));
        assert!(about, "{name} in {warnings:?}");
    }
    // They were waited for together.
    assert_eq!(silent.most.load(Ordering::SeqCst), 3);
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn ctrl_c_does_not_wait_for_a_registry() {
    let silent = Silent::start();
    let bench = Bench::new();
    let folder = chain(&unique("chain"), "d");
    let mut child = Command::new(plugin())
        .env("DOCKER_CONFIG", bench.client.config())
        .args(["build", "--progress=plain", "--cache-from"])
        .arg(reference(&silent.host, "x"))
        .arg(folder.path())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the plugin");
    let mut stderr = child.stderr.take().expect("stderr");
    let log = Arc::<Mutex<String>>::default();
    let reader = {
        let log = Arc::clone(&log);
        thread::spawn(move || {
            let mut all = String::new();
            let _read = stderr.read_to_string(&mut all);
            *log.lock() = all;
        })
    };
    let limit = Instant::now() + LIMIT;
    while silent.open.load(Ordering::SeqCst) == 0 {
        assert!(Instant::now() < limit, "nobody asks the registry");
        thread::sleep(Duration::from_millis(5));
    }
    kill_process(Pid::from_child(&child), Signal::INT).expect("a signal");
    let status = child.wait().expect("an end");
    reader.join().expect("the log");
    let log = log.lock().clone();
    assert_eq!(status.code(), Some(130), "{log}");
    // It ended before the registry's time was over.
    assert!(!log.contains("no answer"), "{log}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_wrong_password_is_a_warning_that_names_the_cache() {
    let locked = Locked::start();
    let bench = Bench::new();
    let config = bench.client.config().join("config.json");
    fs::write(&config, auths(&locked.host)).expect("the config");
    let folder = chain(&unique("chain"), "d");
    let cache = reference(&locked.host, "c");
    bench.build(
        "buildx",
        &["--cache-to", &format!("{cache},mode=max")],
        folder.path(),
    );
    let wrong = STANDARD.encode(format!("{USER}:not-{PASSWORD}"));
    let auths = format!(r#"{{"auths":{{"{}":{{"auth":"{wrong}"}}}}}}"#, locked.host);
    fs::write(&config, auths).expect("the config");
    let peer = bench.try_build("buildx", &["--cache-from", &cache], folder.path());
    assert!(peer.status.success(), "{}", text(&peer.stderr));
    for via in ["", ",via=client"] {
        bench.prune();
        let from = format!("{cache}{via}");
        let progress = bench.build("cachex", &["--cache-from", &from], folder.path());
        let runs: Vec<_> = steps(&progress);
        assert!(
            runs.iter().all(|(name, hit)| !name.contains("RUN") || !hit),
            "{progress}"
        );
        let warnings = warnings(&progress);
        assert_eq!(warnings.len(), 1, "{progress}");
        let name = format!("{}/{REPOSITORY}:c", locked.host);
        assert!(
            warnings[0].contains(&name) && warnings[0].contains("401"),
            "{warnings:?}"
        );
        assert!(
            !progress.contains(PASSWORD) && !progress.contains(&wrong),
            "{progress}"
        );
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn two_names_of_one_cache_are_one_import() {
    let registry = started();
    let bench = Bench::new();
    let folder = chain(&unique("chain"), "d");
    let both: Vec<_> = ["main", "branch"]
        .iter()
        .map(|tag| reference(&registry.host, tag))
        .collect();
    for cache in &both {
        let to = format!("{cache},mode=max");
        bench.build("buildx", &["--cache-to", &to], folder.path());
    }
    bench.prune();
    let args: Vec<&str> = both.iter().flat_map(|r| ["--cache-from", r]).collect();
    let progress = bench.build("cachex", &args, folder.path());
    assert_all_cached(&progress, 4);
    assert_eq!(
        progress.matches("importing cache manifest from ").count(),
        1,
        "{progress}"
    );
    assert!(
        progress.contains("the same cache as one before it"),
        "{progress}"
    );
}
