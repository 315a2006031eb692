//! Builds that are killed, cancelled or lose their builder while a cache mount goes out or comes in.

use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process_group};
use tokio::runtime::Runtime;

use crate::support::bench::Bench;
use crate::support::caches::{export, import};
use crate::support::relay::Relay;
use crate::support::rig::{Rig, unique};
use crate::support::running::{LIMIT, Running, folder};
use crate::support::scripted_registry::{Fault, ScriptedRegistry};

/// Makes files that fill several packs, with a sum of each.
const MAKE: &str =
    "for n in 1 2 3; do head -c 9000000 /dev/urandom > /c/$n; done; cd /c && sha256sum * > sums";
/// Tells whether a mount is whole, or empty, as steps see it.
const LOOK: &str = "cd /c; if [ -e sums ] && [ $(ls | wc -l) = 4 ] && sha256sum -c sums; then echo it is whole; \
                    elif [ -z \"$(ls)\" ]; then echo it is empty; else echo it is half; ls -lA; fi";

const SAVING: &str = "saving cache mount";
const RESTORING: &str = "restoring cache mount";

/// How a build is broken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Signal(Signal),
    /// The builder dies, and is started again.
    Builder,
    /// The connection to the builder breaks.
    Connection,
}

const WAYS: [Way; 5] = [
    Way::Signal(Signal::KILL),
    Way::Signal(Signal::INT),
    Way::Signal(Signal::TERM),
    Way::Builder,
    Way::Connection,
];

/// A registry that stops where it is told to, and a cache in it.
struct Place {
    _runtime: Runtime,
    registry: ScriptedRegistry,
    repository: String,
}

impl Place {
    fn new() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        Self {
            registry: runtime.block_on(ScriptedRegistry::start()),
            _runtime: runtime,
            repository: unique("mounts"),
        }
    }

    fn reference(&self) -> String {
        format!("{}/{}:c", self.registry.host(), self.repository)
    }

    fn to(&self) -> String {
        export(&self.reference(), "mode=max,via=client,mounts=all")
    }

    fn from(&self) -> String {
        format!("{},via=client", import(&self.reference()))
    }

    /// The digests of the packs of the only mount, in order.
    fn packs(&self) -> Vec<String> {
        let manifest = self.registry.manifest(&self.repository, "c");
        let manifest: serde_json::Value =
            serde_json::from_slice(&manifest.expect("a cache")).expect("JSON");
        let entries = manifest["layers"].as_array().expect("layers").iter();
        let packs = entries.filter(|entry| {
            let annotations = &entry["annotations"];
            annotations["dev.docker-cachex.mount"].is_string()
                && annotations["dev.docker-cachex.mount.id"].is_null()
        });
        let digests = packs.map(|pack| pack["digest"].as_str().expect("a digest").to_owned());
        digests.collect()
    }
}

/// Builders that are broken, each with the flag that names it.
struct Victim {
    bench: Bench,
    relay: Option<(Relay, String)>,
}

impl Victim {
    fn new(way: Way) -> Self {
        let bench = Bench::new();
        let relay = (way == Way::Connection).then(|| {
            let (relay, name) = (Relay::start(&bench.container()), unique("relay"));
            let (name_flag, address) = (format!("--name={name}"), relay.address());
            let create = ["cachex", "create", &name_flag, "--driver=remote", &address];
            bench.client.docker_ok(&create);
            (relay, format!("--builder={name}"))
        });
        Self { bench, relay }
    }

    /// Starts a build, and waits for a text in its progress.
    fn start(&self, cache: &str, dockerfile: &str, until: &str) -> Running {
        let relayed = self.relay.iter().map(|(_, flag)| flag.as_str());
        let args: Vec<&str> = relayed.chain([cache]).collect();
        Running::start(&self.bench, &args, dockerfile, until)
    }

    /// Breaks the build off, and waits until nothing of it is left in the builder.
    fn break_off(&self, way: Way, mut running: Running) {
        match way {
            Way::Signal(signal) => kill_process_group(running.pid(), signal).expect("a signal"),
            Way::Builder => drop(
                self.bench
                    .client
                    .docker_ok(&["kill", &self.bench.container()]),
            ),
            Way::Connection => {
                if let Some((relay, _)) = &self.relay {
                    relay.break_connections();
                }
            }
        }
        running.ends();
        let progress = running.progress();
        assert!(!progress.contains("panicked"), "{way:?}\n{progress}");
        if way == Way::Builder {
            self.bench
                .client
                .docker_ok(&["start", &self.bench.container()]);
            return;
        }
        let end = Instant::now() + LIMIT;
        loop {
            let processes = self.bench.inside(&["ps", "-eo", "args"]);
            if !processes.contains("docker-cachex") {
                break;
            }
            assert!(Instant::now() < end, "{way:?}: it is left\n{processes}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn wait_for(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < end, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn dockerfile(seed: &str, command: &str) -> String {
    let base = &Rig::get().base;
    format!("FROM {base}\nRUN --mount=type=cache,target=/c : '{seed}'; {command}\n")
}

/// Builds something that restores the mount, and breaks it off when the files of the first pack are on their way.
fn cut_restore(place: &Place, way: Way, dockerfile: &str) -> Victim {
    let victim = Victim::new(way);
    let second = format!("/blobs/{}", place.packs()[1]);
    let stall = Fault::StallAnswer(1_000_000);
    place.registry.fault("GET", &second, (0, usize::MAX), stall);
    let asked = place.registry.count("GET", &second);
    let running = victim.start(&place.from(), dockerfile, RESTORING);
    wait_for("the second pack", || {
        place.registry.count("GET", &second) > asked
    });
    assert!(
        !running.progress().contains("it is "),
        "{}",
        running.progress()
    );
    victim.break_off(way, running);
    place.registry.clear("GET");
    victim
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_restore_that_is_broken_off_leaves_no_half_mount() {
    let (place, seed) = (Place::new(), unique("mounts"));
    let first = Bench::new();
    let make = dockerfile(&seed, MAKE);
    first.build("cachex", &[&place.to()], folder(&make).path());
    assert!(place.packs().len() > 2);
    for way in WAYS {
        let look = |more: &str| dockerfile(&format!("{seed} {way:?} {more}"), LOOK);
        let victim = cut_restore(&place, way, &look("one"));
        // BuildKit counts that as a use of what it has.
        for _ in 0..3 {
            victim.bench.client.docker_ok(&["buildx", "du"]);
        }
        let again = folder(&look("again"));
        let progress = victim.bench.build("cachex", &[&place.from()], again.path());
        assert!(progress.contains(RESTORING), "{way:?}\n{progress}");
        assert!(progress.contains("it is whole"), "{way:?}\n{progress}");
        // Whoever knows nothing of it finds it empty, and what is made then stays.
        let victim = cut_restore(&place, way, &look("two"));
        let other = dockerfile(&seed, &format!("{LOOK}; echo made > /c/made"));
        let progress = victim.bench.build("buildx", &[], folder(&other).path());
        assert!(progress.contains("it is empty"), "{way:?}\n{progress}");
        let look = dockerfile(&format!("{seed} {way:?}"), "ls /c | sed 's/^/there: /'");
        let progress = victim
            .bench
            .build("cachex", &[&place.from()], folder(&look).path());
        let there = progress.matches(" there: ").count();
        assert!(
            progress.contains("there: made") && there == 1,
            "{way:?}\n{progress}"
        );
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_save_that_is_broken_off_leaves_no_half_mount() {
    for way in WAYS {
        let (place, seed) = (Place::new(), unique("mounts"));
        let victim = Victim::new(way);
        // A pack is larger than anything else.
        let stall = Fault::StallInBody(4_000_000);
        place
            .registry
            .fault("PUT", "/uploads/", (1, usize::MAX), stall);
        let running = victim.start(&place.to(), &dockerfile(&seed, MAKE), SAVING);
        wait_for("a pack", || {
            let seen = place.registry.seen();
            seen.iter().any(|request| request.body == 4_000_000)
        });
        victim.break_off(way, running);
        place.registry.clear("PUT");
        if place.registry.manifest(&place.repository, "c").is_some() {
            assert!(place.packs().is_empty(), "{way:?}");
        }
        let add = dockerfile(
            &format!("{seed} next"),
            &format!("{LOOK}; echo x > /c/more"),
        );
        let progress = victim
            .bench
            .build("cachex", &[&place.to()], folder(&add).path());
        assert!(progress.contains("it is whole"), "{way:?}\n{progress}");
        assert!(!progress.contains("is not saved"), "{way:?}\n{progress}");
        let look = dockerfile(&format!("{seed} fresh"), &format!("rm /c/more && {LOOK}"));
        let fresh = Bench::new();
        let progress = fresh.build("cachex", &[&place.from()], folder(&look).path());
        assert!(progress.contains("it is whole"), "{way:?}\n{progress}");
    }
}
