//! Builds that differ from a cached one in one thing.

use std::collections::{BTreeMap, HashSet};

use bollard_buildkit_proto::pb::{Definition, Platform};

use crate::cache::config::CacheConfig;
use crate::cache::keys::compare::{Comparison, forecast};
use crate::cache::keys::testing::*;
use crate::cache::keys::{Facts, Keys, Plan, Tree, Vertex};
use crate::digest::Digest;
use crate::explain::phrase::Length;
use crate::explain::*;

/// What a build is made of; each test changes something of it.
pub(super) struct Setup {
    pub(super) base: String,
    pub(super) files: Vec<(&'static str, &'static str)>,
    pub(super) env: Vec<&'static str>,
    pub(super) install: &'static str,
    build: &'static str,
    platform: Platform,
    ignored: bool,
    all_ignored: bool,
    /// The files that say what is built.
    pub(super) own: OwnFiles,
    /// Another build altogether.
    pub(super) other: Option<Definition>,
    /// What may come out the same does not.
    pub(super) is_unlike: bool,
}

pub(super) fn usual() -> Setup {
    Setup {
        base: BASE.to_owned(),
        files: vec![("package.json", "{}"), ("src/", ""), ("src/server.ts", "1")],
        env: vec!["PATH=/bin"],
        install: "npm ci",
        build: "npm run build",
        platform: amd64(),
        ignored: false,
        all_ignored: false,
        own: OwnFiles {
            dockerfile: Some("Dockerfile".to_owned()),
            ..OwnFiles::default()
        },
        other: None,
        is_unlike: false,
    }
}

impl Setup {
    pub(super) fn definition(&self) -> Definition {
        if let Some(other) = &self.other {
            return other.clone();
        }
        let mut maker = Maker::default();
        let mut add = |line: i32, name: &str, kind, inputs: &[&str]| {
            let digest = maker.add_op(name, Some(kind), inputs, self.platform.clone());
            if line > 0 {
                maker.at(&digest, line);
            }
            digest
        };
        let base = add(
            1,
            "[build 1/6] FROM docker.io/library/node:22-slim",
            image(&self.base),
            &[],
        );
        let context = add(
            0,
            "[internal] load build context",
            source("local://context"),
            &[],
        );
        let name = "[build 2/6] COPY package.json ./";
        let package = add(4, name, copy("/package.json", "/src/"), &[&base, &context]);
        let command = run(self.install, &self.env, Vec::new());
        let install = add(5, "[build 3/6] RUN npm ci", command, &[&package]);
        let sources = add(
            9,
            "[build 4/6] COPY . .",
            copy("/", "/src/"),
            &[&install, &context],
        );
        let command = run(self.build, &self.env, Vec::new());
        let built = add(10, "[build 5/6] RUN npm run build", command, &[&sources]);
        let command = run("npm prune", &self.env, Vec::new());
        let pruned = add(11, "[build 6/6] RUN npm prune", command, &[&built]);
        let other = image(&Digest::of(b"alpine").to_string());
        let other = add(
            12,
            "[stage-1 1/2] FROM docker.io/library/alpine",
            other,
            &[],
        );
        let name = "[stage-1 2/2] COPY --from=build /out /app";
        let last = add(13, name, copy("/out", "/app"), &[&other, &pruned]);
        if self.ignored {
            maker.ignore_cache(&install);
        }
        if self.all_ignored {
            for step in [&package, &sources, &built, &pruned, &last] {
                maker.ignore_cache(step);
            }
        }
        maker.end(&last)
    }

    pub(super) fn tree(&self) -> Tree {
        tree(&self.files)
    }

    /// The cache that this build leaves behind.
    pub(super) fn cache(&self, layer: impl Fn(&str) -> bool) -> CacheConfig {
        let (plan, tree) = (Plan::of([&self.definition()]), self.tree());
        let keys = Keys::of(&plan, &facts(&tree));
        CacheMaker::of(&plan, &keys, |vertex| layer(&vertex.name)).config()
    }
}

pub(super) fn facts(tree: &Tree) -> Facts<'_> {
    Facts {
        trees: BTreeMap::from([("context".to_owned(), tree)]),
        ..Facts::default()
    }
}

/// What became of the steps, where that is not what the keys say.
type Statuses<'a> = Option<&'a [(&'a str, bool)]>;

/// Explains a build with caches.
fn explained<T>(
    now: &Setup,
    caches: &[CacheConfig],
    statuses: Statuses<'_>,
    look: impl Fn(&Build<'_>, &Diagnosis) -> T,
) -> T {
    let (plan, tree) = (Plan::of([&now.definition()]), now.tree());
    let facts = facts(&tree);
    let keys = Keys::of(&plan, &facts);
    let compared = |config| Comparison::new(&plan, &keys, config, &HashSet::new());
    let comparisons: Vec<Comparison> = caches.iter().map(compared).collect();
    let outcomes = match statuses {
        None => Outcomes::of_forecast(&forecast(&plan, &comparisons)),
        Some(statuses) => {
            let status = |(name, cached): &(&str, bool)| {
                let of_step = |vertex: &&Vertex| vertex.name.contains(name);
                let vertex = plan.vertices().iter().find(of_step).unwrap();
                let status = Status {
                    started: true,
                    cached: *cached,
                };
                (vertex.digest.clone(), (vertex.name.clone(), status))
            };
            Outcomes::of_build(&plan, &statuses.iter().map(status).collect())
        }
    };
    let names = [
        "ghcr.io/acme/app/cache:b-main",
        "ghcr.io/acme/app/cache:pr-12",
    ];
    let caches: Vec<Cache<'_>> = caches
        .iter()
        .zip(names)
        .zip(comparisons)
        .map(|((config, name), comparison)| Cache {
            name: name.to_owned(),
            age: Some("2 hours".to_owned()),
            commit: Some("4f2a91c0ffee".to_owned()),
            config,
            comparison,
        })
        .collect();
    let build = Build {
        plan: &plan,
        keys: &keys,
        facts: &facts,
        outcomes: &outcomes,
        caches: &caches,
        asked: Some("--no-cache-filter build"),
        arguments: &["COMMIT_SHA".to_owned()],
        own: &OwnFiles::default(),
    };
    let diagnosis = diagnose(&build, &());
    look(&build, &diagnosis)
}

/// Returns the lines under a build that ran as its keys say, against the cache of another.
fn against(before: &Setup, now: &Setup) -> String {
    let cache = before.cache(|_| true);
    explained(now, &[cache], None, shown)
}

fn shown(build: &Build<'_>, diagnosis: &Diagnosis) -> String {
    render::lines(diagnosis, build.caches, Length::Short).join("\n")
}

const HEADER: &str = "(compared with ghcr.io/acme/app/cache:b-main, 2 hours old, commit 4f2a91c):";

#[test]
fn an_unchanged_build_says_nothing() {
    assert_eq!(against(&usual(), &usual()), "");
}

#[test]
fn changed_files_are_told_with_what_follows() {
    let mut now = usual();
    now.files[2].1 = "2";
    assert_eq!(
        against(&usual(), &now),
        format!(
            "why 3 steps ran {HEADER}\n  \
             Dockerfile:9  [build 4/6] COPY . .\n                \
             files that it reads differ\n                \
             3 steps follow from it: [build 5/6] RUN npm run build, [build 6/6] RUN npm prune, \
             [stage-1 2/2] COPY --from=build /out /app"
        )
    );
}

#[test]
fn a_changed_command_is_told_once() {
    let mut now = usual();
    now.build = "npm run build:all";
    assert_eq!(
        against(&usual(), &now),
        format!(
            "why 2 steps ran {HEADER}\n  \
             Dockerfile:10  [build 5/6] RUN npm run build\n                 \
             not in the cache: the step is new, or was changed\n                 \
             2 steps follow from it: [build 6/6] RUN npm prune, \
             [stage-1 2/2] COPY --from=build /out /app"
        )
    );
}

#[test]
fn a_new_variable_is_told_at_the_first_step_it_reaches() {
    let mut now = usual();
    now.env.push("COMMIT_SHA=1");
    assert_eq!(
        against(&usual(), &now),
        format!(
            "why 5 steps ran {HEADER}\n  \
             Dockerfile:5  [build 3/6] RUN npm ci\n                \
             build argument COMMIT_SHA is new; the command does not use it: declare ARG COMMIT_SHA \
             below this step\n                \
             4 steps follow from it: [build 4/6] COPY . ., [build 5/6] RUN npm run build, \
             [build 6/6] RUN npm prune, [stage-1 2/2] COPY --from=build /out /app"
        )
        .replace("why 5", "why 4")
    );
}

#[test]
fn a_moved_image_is_told_at_its_line() {
    let mut now = usual();
    now.base = Digest::of(b"newer").to_string();
    let text = against(&usual(), &now);
    let digest: String = now.base.chars().take(11).collect();
    assert_eq!(
        text,
        format!(
            "why 5 steps ran {HEADER}\n  \
             Dockerfile:1  [build 1/6] FROM docker.io/library/node:22-slim\n                \
             base image moved to {digest}…; 6 steps follow from it"
        )
    );
}

#[test]
fn a_cache_without_layers_is_told_once() {
    let cache = usual().cache(|_| false);
    assert_eq!(
        explained(&usual(), &[cache], None, shown),
        format!(
            "why 6 steps ran {HEADER}\n  \
             Dockerfile:4  [build 2/6] COPY package.json ./\n                \
             in the cache without its layer: mode=min keeps only layers of the final image, mode=max keeps all\n                \
             5 steps follow from it: [build 3/6] RUN npm ci, [build 4/6] COPY . ., \
             [build 5/6] RUN npm run build, and 2 more"
        )
    );
}

#[test]
fn a_build_without_cache_is_told_once() {
    let mut now = usual();
    now.ignored = true;
    now.all_ignored = true;
    let text = explained(&now, &[usual().cache(|_| true)], None, shown);
    assert_eq!(
        text.matches("--no-cache-filter build was given").count(),
        1,
        "{text}"
    );
}

#[test]
fn another_platform_is_told() {
    let mut before = usual();
    before.platform = Platform {
        architecture: "arm64".to_owned(),
        ..amd64()
    };
    let text = against(&before, &usual());
    let told = "the cache has this step for linux/arm64 only";
    assert_eq!(text.matches(told).count(), 2, "{text}");
    assert!(!text.contains("base image"), "{text}");
}

#[test]
fn what_was_asked_for_comes_first() {
    let mut now = usual();
    now.ignored = true;
    let ran = [("[build 3/6]", false), ("[build 4/6]", true)];
    let cache = usual().cache(|_| true);
    assert_eq!(
        explained(&now, &[cache], Some(&ran), shown),
        format!(
            "why 1 step ran {HEADER}\n  \
             Dockerfile:5  [build 3/6] RUN npm ci\n                \
             --no-cache-filter build was given"
        )
    );
}

#[test]
fn a_step_that_should_have_hit_is_told() {
    let cache = usual().cache(|_| true);
    let ran = [("[build 5/6]", false)];
    let text = explained(&usual(), &[cache], Some(&ran), shown);
    assert!(
        text.ends_with(
            "it is in the cache with its layer, but BuildKit did not use it (a known bug, \
             moby/buildkit#4674); running the build again may help"
        ),
        "{text}"
    );
}

#[test]
fn a_step_that_ran_on_what_was_there_is_told() {
    let mut now = usual();
    now.files[2].1 = "2";
    let ran = [("[build 6/6]", true), ("[stage-1 2/2]", false)];
    let text = explained(&now, &[usual().cache(|_| true)], Some(&ran), shown);
    assert!(
        text.ends_with("the cache has this step, but only after other steps than these"),
        "{text}"
    );
}

#[test]
fn files_that_came_out_the_same_are_good_news() {
    let mut now = usual();
    now.files[2].1 = "2";
    let ran = [
        ("[build 4/6]", false),
        ("[build 5/6]", false),
        ("[build 6/6]", false),
        ("[stage-1 2/2]", true),
    ];
    let text = explained(&now, &[usual().cache(|_| true)], Some(&ran), shown);
    assert!(
        text.ends_with(
            "\n  [stage-1 2/2] COPY --from=build /out /app: taken from the cache although \
             [build 6/6] ran, since that made the same files again"
        ),
        "{text}"
    );
    assert!(text.starts_with("why 3 steps ran"), "{text}");
}

#[test]
fn of_two_caches_the_one_that_knows_more_is_compared() {
    let mut other = usual();
    other.install = "npm install";
    let mut now = usual();
    now.build = "npm run build:all";
    let caches = [other.cache(|_| true), usual().cache(|_| true)];
    let text = explained(&now, &caches, None, shown);
    assert!(
        text.contains("compared with ghcr.io/acme/app/cache:pr-12"),
        "{text}"
    );
}

#[test]
fn without_a_cache_nothing_is_made_up() {
    assert_eq!(explained(&usual(), &[], None, shown), "");
}

/// Knows that commands differ.
struct Known;

impl Details for Known {
    fn cause(&self, _vertex: usize, rough: &Cause) -> Option<Cause> {
        (*rough == Cause::NotThere).then_some(Cause::Command)
    }
}

#[test]
fn what_is_known_better_is_told() {
    let cache = usual().cache(|_| true);
    let mut now = usual();
    (now.install, now.build) = ("npm i", "npm run all");
    let text = explained(&now, &[cache], None, |build, _| {
        shown(build, &diagnose(build, &Known))
    });
    assert_eq!(text.matches("its command differs").count(), 2, "{text}");
    assert!(
        text.contains("1 step follows from it: [build 4/6] COPY . ."),
        "{text}"
    );
}

#[test]
fn a_forecast_is_a_table() {
    let mut now = usual();
    now.files[2].1 = "2";
    let text = explained(
        &now,
        &[usual().cache(|_| true)],
        None,
        |build, diagnosis| table::text(&table::rows(build, diagnosis)),
    );
    let main = "ghcr.io/acme/app/cache:b-main";
    let expected = format!(
        "STEP                                       CACHE                                  WHY\n\
         [build 2/6] COPY package.json ./           {main}\n\
         [build 3/6] RUN npm ci                     {main}\n\
         [build 4/6] COPY . .                       -                                      files that it reads differ\n\
         [build 5/6] RUN npm run build              -                                      follows from [build 4/6]\n\
         [build 6/6] RUN npm prune                  -                                      follows from [build 4/6]\n\
         [stage-1 2/2] COPY --from=build /out /app  perhaps {main}  if the files of [build 6/6] come out the same\n"
    );
    assert_eq!(text, expected);
}

#[test]
fn the_hit_rate_counts_steps_of_the_dockerfile() {
    let mut now = usual();
    now.files[2].1 = "2";
    let rate = |now: &Setup, cache: CacheConfig| {
        explained(now, &[cache], None, |build, _| {
            rate::Rate::of(build.plan, build.outcomes)
        })
    };
    let cache = || usual().cache(|_| true);
    let of_usual = rate(&usual(), cache());
    assert_eq!((of_usual.served, of_usual.all), (6, 6));
    let of_changed = rate(&now, cache());
    assert_eq!((of_changed.served, of_changed.all), (2, 6));
    assert!(of_usual.is_at_least(100.0));
    assert!(of_changed.is_at_least(33.0) && !of_changed.is_at_least(34.0));
    assert!(rate::Rate { served: 0, all: 0 }.is_at_least(100.0));
}
