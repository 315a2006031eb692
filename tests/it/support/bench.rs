//! A docker CLI and a builder that belong together, for one test or shared by those of a file that run side by side.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::rig::{Client, Rig, text, unique};

/// Where the tests of a file find the bench they share; it is made by the first and removed by the last that is busy.
pub(crate) type Shared = Mutex<Weak<Bench>>;

/// The tools that build on one: the peer, and this program.
pub(crate) const TOOLS: [&str; 2] = ["buildx", "cachex"];

/// A docker CLI with a booted builder of its own, which is the current one.
#[derive(Debug)]
pub(crate) struct Bench {
    /// The docker CLI.
    pub(crate) client: Client,
    name: String,
}

impl Bench {
    /// Boots a builder.
    pub(crate) fn new() -> Self {
        Self::with_network("host")
    }

    /// Boots a builder in a network: `host`, or `none`.
    pub(crate) fn with_network(network: &str) -> Self {
        // The guard comes first: a builder that fails to boot is removed, too.
        let bench = Self {
            client: Rig::get().client(),
            name: unique("it"),
        };
        let (network, more) = (format!("network={network}"), ["--use", "--bootstrap"]);
        bench.client.create("cachex", &bench.name, &network, &more);
        bench
    }

    /// Boots a builder that nobody can tell to be busy, whatever other tests do: one of the remote driver.
    pub(crate) fn remote() -> Self {
        let bench = Self::new();
        let address = format!("docker-container://{}", bench.container());
        let create = ["cachex", "create", "--use", "--driver", "remote", &address];
        bench.client.docker_ok(&create);
        bench
    }

    /// The bench of a file's tests. None of them may remove what is in the builder.
    pub(crate) fn shared(place: &Shared) -> Arc<Self> {
        Self::shared_as(place, Self::new)
    }

    /// The bench of a file's tests, made by `make`.
    pub(crate) fn shared_as(place: &Shared, make: fn() -> Self) -> Arc<Self> {
        let mut place = place.lock();
        place.upgrade().unwrap_or_else(|| {
            let bench = Arc::new(make());
            *place = Arc::downgrade(&bench);
            bench
        })
    }

    /// `docker TOOL build` of a folder with plain progress, to be run by the caller.
    pub(crate) fn command(&self, tool: &str, args: &[&str], folder: &Path) -> Command {
        let mut command = self.client.command(&[tool, "build", "--progress=plain"]);
        command.args(args).arg(folder);
        command
    }

    /// Runs `docker TOOL build`, whatever comes of it.
    pub(crate) fn try_build(&self, tool: &str, args: &[&str], folder: &Path) -> Output {
        self.command(tool, args, folder)
            .output()
            .expect("the docker CLI")
    }

    /// Runs `docker TOOL build`, which must succeed; gives the plain progress.
    pub(crate) fn build(&self, tool: &str, args: &[&str], folder: &Path) -> String {
        let output = self.try_build(tool, args, folder);
        let progress = text(&output.stderr);
        assert!(
            output.status.success(),
            "{tool} build {args:?}: {}\n{progress}",
            output.status
        );
        progress
    }

    /// Runs `docker cachex build`, which must fail with this exit code; gives the progress with the error.
    pub(crate) fn fails(&self, code: i32, args: &[&str], folder: &Path) -> String {
        let output = self.try_build("cachex", args, folder);
        let progress = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}\n{progress}");
        assert!(!progress.contains("panicked"), "{progress}");
        progress
    }

    /// Forgets the builder's whole cache.
    pub(crate) fn prune(&self) {
        self.client.docker_ok(&["buildx", "prune", "-af"]);
    }

    /// Runs a program in the builder's container; gives its standard output.
    pub(crate) fn inside(&self, command: &[&str]) -> String {
        let container = self.container();
        let mut args = vec!["exec", &container];
        args.extend(command);
        self.client.docker_ok(&args).0
    }

    /// The name of the builder's container.
    pub(crate) fn container(&self) -> String {
        format!("buildx_buildkit_{}0", self.name)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Nothing to do about a failure.
        self.client
            .docker(&["rm", "--force", "--volumes", &self.container()]);
        let volume = format!("{}_state", self.container());
        self.client.docker(&["volume", "rm", "--force", &volume]);
    }
}

/// How many steps of a plain progress came from the cache.
pub(crate) fn cached(progress: &str) -> usize {
    progress.matches(" CACHED\n").count()
}

/// The steps of a plain progress that are instructions of the Dockerfile (`[2/3] RUN …`), each with whether it came from
/// the cache.
pub(crate) fn steps(progress: &str) -> Vec<(String, bool)> {
    let mut steps: Vec<(String, String, bool)> = Vec::new();
    for line in progress.lines() {
        let Some((number, rest)) = line.split_once(' ').filter(|(n, _)| n.starts_with('#')) else {
            continue;
        };
        if rest == "CACHED" {
            for step in steps.iter_mut().filter(|step| step.0 == number) {
                step.2 = true;
            }
        } else if rest.starts_with('[')
            && rest.contains('/')
            && !rest.starts_with("[internal]")
            && !steps.iter().any(|step| step.0 == number)
        {
            steps.push((number.to_owned(), rest.to_owned(), false));
        }
    }
    steps
        .into_iter()
        .map(|(_, name, hit)| (name, hit))
        .collect()
}

/// Checks that every RUN, COPY and ADD of a plain progress came from the cache, and that there are some.
pub(crate) fn assert_all_cached(progress: &str, count: usize) {
    let steps = steps(progress);
    let own: Vec<_> = steps
        .iter()
        .filter(|(name, _)| !name.contains("] FROM "))
        .collect();
    assert_eq!(own.len(), count, "{progress}");
    assert!(own.iter().all(|(_, hit)| *hit), "{progress}");
}

/// Returns whether the only step whose name has the text came from the cache.
pub(crate) fn is_cached(progress: &str, text: &str) -> bool {
    let mut found = steps(progress);
    found.retain(|(name, _)| name.contains(text));
    assert_eq!(found.len(), 1, "{text} in {progress}");
    found[0].1
}

/// Bytes of the context that were sent, by the last figure that the progress shows.
pub(crate) fn sent(progress: &str) -> u64 {
    let figure = progress
        .lines()
        .filter_map(|line| line.split_once(" transferring context: "))
        .filter_map(|(_, rest)| rest.split_whitespace().next())
        .next_back()
        .expect("a figure");
    let digits = figure.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &figure[digits.len()..] {
        "B" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        other => unreachable!("unit {other:?} in {progress}"),
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a few gigabytes at most"
    )]
    let bytes = (digits.parse::<f64>().expect("a number") * unit) as u64;
    bytes
}
