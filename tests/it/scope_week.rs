//! A week of CI with `--cache REPO`: every job has a builder of its own, two run at a time. Each hit that can be is there, none
//! that must not be, and the registry holds in the end what the scopes hold.

use std::collections::{BTreeMap, BTreeSet};

use tempfile::TempDir;

use crate::scope::command;
use crate::support::bench::{Bench, assert_all_cached, steps};
use crate::support::own_registry::OwnRegistry;
use crate::support::registry::Registry;
use crate::support::rig::{Rig, context, text, unique};

const REPOSITORY: &str = "team/cache";

/// What CI says of a job.
type Vars<'a> = &'a [(&'a str, &'a str)];

/// One job: what CI says of it, what it reads and writes by that, and the files that it builds.
#[derive(Clone, Copy)]
struct Job<'a> {
    vars: Vars<'a>,
    reads: &'a [&'a str],
    writes: Option<&'a str>,
    deps: &'a str,
    src: &'a str,
}

/// What a scope holds, as the test reckons.
#[derive(Debug, Default)]
struct Held {
    steps: BTreeSet<String>,
    /// The other scopes that it has taken in, with the manifests that they had then.
    taken_in: BTreeMap<String, String>,
}

/// A job that is about to run: the steps that must run, and whether no other may.
struct Expected {
    must_run: BTreeSet<String>,
    is_exact: bool,
    /// The manifests of the scopes that it reads.
    read: BTreeMap<String, String>,
}

struct Week {
    lanes: [Bench; 2],
    registry: OwnRegistry,
    client: Registry,
    seed: String,
    scopes: BTreeMap<String, Held>,
}

/// The steps of a build of these files.
fn keys(job: &Job<'_>) -> BTreeSet<String> {
    let Job { deps, src, .. } = job;
    let keys = [
        format!("deps {deps}"),
        format!("build {deps} {src}"),
        format!("last {deps} {src}"),
    ];
    keys.into()
}

impl Week {
    fn begin() -> Self {
        let mut registry = OwnRegistry::new();
        registry.start();
        Self {
            lanes: [Bench::new(), Bench::new()],
            client: Registry::new(&registry.host),
            registry,
            seed: unique("week"),
            scopes: BTreeMap::new(),
        }
    }

    fn folder(&self, job: &Job<'_>) -> TempDir {
        let (base, seed) = (&Rig::get().busybox, &self.seed);
        let dockerfile = format!(
            "FROM {base} AS deps\nCOPY deps /deps\nRUN echo deps {seed} && cat /deps > /made\n\
             FROM {base} AS build\nCOPY --from=deps /made /deps\nCOPY src /src\n\
             RUN echo build && cat /deps /src > /out\n\
             FROM {base}\nCOPY --from=build /out /out\nRUN echo last && cat /out > /last\n"
        );
        context(&[
            ("Dockerfile", &dockerfile),
            ("deps", job.deps),
            ("src", job.src),
        ])
    }

    fn digest(&self, scope: &str) -> Option<String> {
        let manifest = self.client.manifest(REPOSITORY, scope)?;
        Some(manifest.digest)
    }

    fn expected(&self, job: &Job<'_>) -> Expected {
        let found = job.reads.iter();
        let found: Vec<(&str, &Held)> = found
            .filter_map(|scope| Some((*scope, self.scopes.get(*scope)?)))
            .collect();
        let read: BTreeMap<String, String> = found
            .iter()
            .map(|(scope, _)| ((*scope).to_owned(), self.digest(scope).expect("a scope")))
            .collect();
        let all: BTreeSet<&String> = found.iter().flat_map(|(_, held)| &held.steps).collect();
        let must_run = keys(job).into_iter().filter(|key| !all.contains(key));
        // BuildKit loses hits where it reads two caches (moby/buildkit#4674).
        let has_others = |(own, held): &(&str, &Held)| {
            let mut others = read.iter().filter(|(scope, _)| scope != own);
            others.all(|(scope, digest)| held.taken_in.get(scope) == Some(digest))
        };
        Expected {
            must_run: must_run.collect(),
            is_exact: found.is_empty() || found.iter().any(has_others),
            read,
        }
    }

    /// Builds on an empty builder; gives the steps that ran.
    fn run(&self, lane: usize, job: &Job<'_>) -> BTreeSet<String> {
        let bench = &self.lanes[lane];
        bench.prune();
        let flag = format!("--cache={}/{REPOSITORY},clean=1ms", self.registry.host);
        let folder = self.folder(job);
        let output = command(bench, job.vars, &[&flag], folder.path()).output();
        let output = output.expect("docker");
        let progress = text(&output.stderr);
        assert!(output.status.success(), "{:?}\n{progress}", job.vars);
        let names = steps(&progress).into_iter();
        let ran = names.filter(|(_, is_cached)| !is_cached);
        let ran: Vec<String> = ran.map(|(name, _)| name).collect();
        let has_run = |key: &String| {
            let word = key.split(' ').next().unwrap_or_default();
            let step = format!("RUN echo {word}");
            ran.iter().any(|name| name.contains(&step))
        };
        keys(job).into_iter().filter(has_run).collect()
    }

    /// Runs jobs at the same time, none of which reads what another one writes.
    fn hour(&mut self, jobs: &[Job<'_>]) {
        let expected: Vec<Expected> = jobs.iter().map(|job| self.expected(job)).collect();
        let this = &*self;
        let ran: Vec<BTreeSet<String>> = std::thread::scope(|scope| {
            let started = jobs.iter().enumerate();
            let started = started.map(|(lane, job)| scope.spawn(move || this.run(lane, job)));
            let started: Vec<_> = started.collect();
            let ended = started.into_iter().map(|job| job.join().expect("a job"));
            ended.collect()
        });
        for ((job, expected), ran) in jobs.iter().zip(expected).zip(ran) {
            let Expected { must_run, .. } = &expected;
            assert!(
                must_run.is_subset(&ran),
                "{:?}: {ran:?}, not {must_run:?}",
                job.vars
            );
            if expected.is_exact {
                assert_eq!(ran, *must_run, "{:?}", job.vars);
            }
            self.write(job, &expected.read);
        }
    }

    /// Notes what a job has written.
    fn write(&mut self, job: &Job<'_>, read: &BTreeMap<String, String>) {
        let Some(own) = job.writes else { return };
        let mut steps = keys(job);
        for scope in read.keys() {
            steps.extend(self.scopes[scope].steps.iter().cloned());
        }
        let held = self.scopes.entry(own.to_owned()).or_default();
        held.steps.extend(steps);
        let others = read.iter().filter(|(scope, _)| *scope != own);
        held.taken_in = others.map(|(s, d)| (s.clone(), d.clone())).collect();
    }

    /// The blobs and manifests that the scopes hold.
    fn reachable(&self) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for scope in self.scopes.keys() {
            let manifest = self.client.manifest(REPOSITORY, scope).expect("a scope");
            let blobs = manifest.json["layers"].as_array().expect("layers");
            let blobs = blobs.iter().chain([&manifest.json["config"]]);
            all.extend(blobs.filter_map(|blob| Some(blob["digest"].as_str()?.to_owned())));
            all.insert(manifest.digest);
        }
        all
    }
}

fn branch<'a>(vars: Vars<'a>, reads: &'a [&'a str], deps: &'a str, src: &'a str) -> Job<'a> {
    Job {
        vars,
        reads,
        writes: Some(reads[0]),
        deps,
        src,
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_week_of_ci() {
    let main: Vars<'_> = &[("CACHEX_BRANCH", "main")];
    let feature: Vars<'_> = &[("CACHEX_BRANCH", "feature-a")];
    let other: Vars<'_> = &[("CACHEX_BRANCH", "other")];
    let release: Vars<'_> = &[("CACHEX_BRANCH", "release")];
    let pull_1: Vars<'_> = &[("CACHEX_PR", "1"), ("CACHEX_BASE", "main")];
    let pull_2: Vars<'_> = &[("CACHEX_PR", "2"), ("CACHEX_BASE", "main")];
    let of_main = &["b-main"][..];
    let on_main = |deps, src| branch(main, of_main, deps, src);
    let on_feature = |src| branch(feature, &["b-feature-a", "b-main"], "d1", src);
    let on_1 = |src| branch(pull_1, &["pr-1", "b-main"], "d1", src);
    let on_2 = |deps, src| branch(pull_2, &["pr-2", "b-main"], deps, src);
    let unwritten = |vars, deps, src| Job {
        writes: None,
        ..branch(vars, of_main, deps, src)
    };
    let fork: Vars<'_> = &[
        ("JENKINS_URL", "https://ci.example.com"),
        ("CHANGE_ID", "3"),
        ("CHANGE_TARGET", "main"),
        ("CHANGE_FORK", "someone"),
    ];
    let queue: Vars<'_> = &[
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_EVENT_NAME", "merge_group"),
        ("GITHUB_REF", "refs/heads/gh-readonly-queue/main/pr-1-0123"),
    ];
    let release_tag: Vars<'_> = &[("CACHEX_TAG", "v1")];
    let mut week = Week::begin();

    // Three branches begin on main's work, and pull requests with changes of their own.
    week.hour(&[on_main("d1", "s1")]);
    week.hour(&[on_feature("sa"), on_1("sb")]);
    week.hour(&[on_1("sb2"), on_2("d2", "s1")]);
    week.hour(&[
        branch(other, &["b-other", "b-main"], "d1", "so"),
        branch(release, &["b-release", "b-main"], "d1", "s1"),
    ]);
    // A fork writes nothing, so its second push runs what its first ran. A queue does not trust the pull request.
    week.hour(&[unwritten(fork, "d1", "sf"), unwritten(queue, "d1", "sb2")]);
    week.hour(&[unwritten(fork, "d1", "sf"), on_1("sb2")]);
    // Main after the merge does not trust it either.
    week.hour(&[on_main("d1", "sb2")]);
    // Main has moved: those who read both may lose hits once, and then not again.
    week.hour(&[on_2("d2", "s1"), on_feature("sa2")]);
    week.hour(&[on_2("d2", "s1"), on_feature("sa2")]);
    week.hour(&[unwritten(release_tag, "d1", "sb2"), on_2("d2", "s3")]);
    week.hour(&[on_main("d2", "s3")]);

    let bench = &week.lanes[0];
    let cache = format!("{}/{REPOSITORY}", week.registry.host);
    bench.prune();
    let from = format!("--cache-from=type=registry,ref={cache}:b-main");
    let folder = week.folder(&on_main("d2", "s3"));
    assert_all_cached(&bench.build("buildx", &[&from], folder.path()), 7);

    // What the scopes have held before goes, and with it all that only that needed.
    let prune = [
        "cachex",
        "cache",
        "prune",
        &cache,
        "--orphans",
        "--older-than=0s",
        "--keep=99",
        "--yes",
    ];
    bench.client.docker_ok(&prune);
    let reachable = week.reachable();
    week.registry.kill();
    week.registry.collect_deleted();
    let left = week.registry.blobs();
    let extra: Vec<_> = left.difference(&reachable).collect();
    assert!(
        extra.is_empty() && left.len() == reachable.len(),
        "{extra:?}"
    );
}
