//! Builds that lose their connection, or nothing but their session, while builder and registry go on.

use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::support::bench::Bench;
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

/// Starts a build over a relay, and waits until its last step runs and the first one has been exported.
fn start(bench: &Bench, name: &str, seed: &str, export: &str) -> Running {
    let counter = Counter::start();
    let dockerfile = steps(seed, &format!("{}; sleep 12", counter.tell("last")));
    let running = Running::start(bench, &["--builder", name, export], &dockerfile, "#1 ");
    counter.wait_for("/last");
    // The first step is sent within this time, as another test shows.
    sleep(Duration::from_secs(4));
    running
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

    fn export(&self, keys: &str) -> String {
        format!("--cache-to=type=registry,ref={},{keys}", self.reference)
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
        let from = format!("--cache-from=type=registry,ref={}", self.reference);
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
fn a_connection_that_breaks_keeps_what_was_sent() {
    let bench = Bench::new();
    for keys in ["mode=max,via=client", "mode=max,via=builder"] {
        let (relay, name) = remote(&bench);
        let (seed, place) = (unique("broken"), Place::new("broken"));
        let mut running = start(&bench, &name, &seed, &place.export(keys));
        relay.break_connections();
        let status = running.ends();
        let progress = running.progress();
        assert_eq!(status.code(), Some(1), "{keys}\n{progress}");
        assert!(
            progress.contains("the connection to the builder broke"),
            "{keys}\n{progress}"
        );
        assert!(!progress.contains("panicked"), "{progress}");
        if keys.contains("client") {
            assert!(progress.contains("kept what has finished"), "{progress}");
            place.assert_has_first(&seed);
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
fn a_session_that_breaks_alone_breaks_no_cache() {
    let bench = Bench::new();
    for keys in ["mode=max,via=client", "mode=max,via=builder"] {
        let (relay, name) = remote(&bench);
        let (seed, place) = (unique("session"), Place::new("session"));
        let mut running = start(&bench, &name, &seed, &place.export(keys));
        assert_eq!(relay.break_sessions(), 1, "{}", running.progress());
        let status = running.ends();
        let progress = running.progress();
        assert!(!progress.contains("panicked"), "{progress}");
        if keys.contains("client") {
            // The cache can no longer be handed over. Nobody has cancelled.
            assert_eq!(status.code(), Some(1), "{keys}\n{progress}");
            assert!(
                progress.contains("the session with the builder broke"),
                "{progress}"
            );
            assert!(progress.contains("kept what has finished"), "{progress}");
        } else {
            // Nothing of this side was needed any more.
            assert_eq!(status.code(), Some(0), "{keys}\n{progress}");
        }
        place.assert_has_first(&seed);
        assert_lives(&bench);
    }
}
