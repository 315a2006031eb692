//! Builds that lose their connection, or nothing but their session, while builder and registry go on.

use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::support::bench::Bench;
use crate::support::caches::{export, import};
use crate::support::counter::Counter;
use crate::support::registry::Registry;
use crate::support::relay::Relay;
use crate::support::rig::{Rig, unique};
use crate::support::running::{Running, folder, ran};

/// Two steps that finish, and one that does its work.
fn steps(seed: &str, work: &str) -> String {
    let base = &Rig::get().busybox;
    format!(
        "FROM {base}\n\
         RUN echo first; echo {seed} > /first && head -c 500000 /dev/urandom > /data && sleep 1.1\n\
         RUN echo second; echo {seed} > /second\n\
         RUN echo last; echo {seed} > /last; {work}\n"
    )
}

/// A cache in the rig's registry.
struct Place {
    repository: String,
    reference: String,
}

impl Place {
    fn new(what: &str) -> Self {
        let repository = unique(what);
        let reference = format!("{}/{repository}:c", Rig::get().registry.host());
        Self {
            repository,
            reference,
        }
    }

    /// Every blob is there, and what the config says is listed.
    fn assert_whole(&self) {
        let registry = Registry::new(Rig::get().registry.host());
        let manifest = registry.manifest(&self.repository, "c").expect("a cache");
        let config = registry.config(&self.repository, &manifest);
        let layers = manifest.json["layers"].as_array().expect("layers");
        let digest = |layer: &Value| layer["digest"].as_str().expect("a digest").to_owned();
        let digests: Vec<String> = layers.iter().map(digest).collect();
        for digest in &digests {
            registry.blob(&self.repository, digest);
        }
        for layer in config["layers"].as_array().expect("layers") {
            let blob = layer["blob"].as_str().expect("a blob").to_owned();
            assert!(digests.contains(&blob), "{blob}");
        }
    }

    /// The first step is in the cache, by a builder that has never seen it.
    fn assert_has_first(&self, seed: &str) {
        self.assert_whole();
        let from = import(&self.reference);
        let fresh = Bench::new();
        let progress = fresh.build("buildx", &[&from], folder(&steps(seed, "true")).path());
        assert!(
            !ran(&progress, "first") && ran(&progress, "last"),
            "{progress}"
        );
    }
}

/// A remote builder whose connections go through a relay; the builder itself outlives it.
fn remote(bench: &Bench) -> (Relay, String) {
    let relay = Relay::start(&bench.container());
    let name = unique("relay");
    let address = relay.address();
    let create = ["cachex", "create", "--name", &name, "--driver", "remote"];
    let create = [&create[..], &[address.as_str()]].concat();
    bench.client.docker_ok(&create);
    (relay, name)
}

/// A build that has ended because something broke.
struct Broken {
    seed: String,
    place: Place,
    code: Option<i32>,
    progress: String,
    _relay: Relay,
}

impl Broken {
    /// Builds over a relay, which breaks something when the last step runs and the first one has been exported.
    fn build(bench: &Bench, keys: &str, break_off: impl FnOnce(&Relay, &Running)) -> Self {
        let (relay, name) = remote(bench);
        let (seed, place) = (unique("broken"), Place::new("broken"));
        let counter = Counter::start();
        let dockerfile = steps(&seed, &format!("{}; sleep 12", counter.tell("last")));
        let args = ["--builder", &name, &export(&place.reference, keys)];
        let mut running = Running::start(bench, &args, &dockerfile, "#1 ");
        counter.wait_for("/last");
        // The first step is sent within this time, as another test shows.
        sleep(Duration::from_secs(4));
        break_off(&relay, &running);
        let code = running.ends().code();
        let progress = running.progress();
        assert!(!progress.contains("panicked"), "{progress}");
        Self {
            seed,
            place,
            code,
            progress,
            _relay: relay,
        }
    }
}

/// The builder is as good as before.
fn assert_lives(bench: &Bench) {
    let dockerfile = format!(
        "FROM {}\nRUN echo {}\n",
        Rig::get().busybox,
        unique("lives")
    );
    bench.build("cachex", &[], folder(&dockerfile).path());
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_connection_that_breaks_keeps_what_was_sent() {
    let bench = Bench::new();
    for keys in ["mode=max,via=client", "mode=max,via=builder"] {
        let broken = Broken::build(&bench, keys, |relay, _| relay.break_connections());
        let (place, progress) = (&broken.place, &broken.progress);
        assert_eq!(broken.code, Some(1), "{keys}\n{progress}");
        assert!(
            progress.contains("the connection to the builder broke"),
            "{keys}\n{progress}"
        );
        if keys.contains("client") {
            assert!(progress.contains("kept what has finished"), "{progress}");
            place.assert_has_first(&broken.seed);
        } else {
            // The layers are in the builder, which cannot be asked for them any more.
            let registry = &Rig::get().registry;
            let left = registry.manifest(&place.repository, "c");
            assert!(left.is_none(), "{left:?}");
        }
        // Nobody waits for the step any more.
        let left = bench.inside(&["ps", "-eo", "args"]);
        assert!(!left.contains("sleep 12"), "{left}");
        assert_lives(&bench);
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_session_that_breaks_alone_breaks_no_cache() {
    let bench = Bench::new();
    for keys in ["mode=max,via=client", "mode=max,via=builder"] {
        let broken = Broken::build(&bench, keys, |relay, running| {
            assert_eq!(relay.break_sessions(), 1, "{}", running.progress());
        });
        let progress = &broken.progress;
        if keys.contains("client") {
            // The cache can no longer be handed over. Nobody has cancelled.
            assert_eq!(broken.code, Some(1), "{keys}\n{progress}");
            assert!(
                progress.contains("the session with the builder broke"),
                "{progress}"
            );
            assert!(progress.contains("kept what has finished"), "{progress}");
        } else {
            // Nothing of this side was needed any more.
            assert_eq!(broken.code, Some(0), "{keys}\n{progress}");
        }
        broken.place.assert_has_first(&broken.seed);
        assert_lives(&bench);
    }
}
