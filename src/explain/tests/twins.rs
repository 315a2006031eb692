//! Steps that a build has twice, and the builder makes once.

use std::collections::{BTreeMap, HashSet};

use crate::cache::keys::compare::Comparison;
use crate::cache::keys::testing::*;
use crate::cache::keys::{Keys, Plan, Tree};
use crate::explain::rate::Rate;
use crate::explain::tests::builds::facts;
use crate::explain::*;

/// A copy and a command on it, for each of two platforms.
fn plan() -> Plan {
    let definitions = ["amd64", "arm64"].map(|arch| {
        let platform = bollard_buildkit_proto::pb::Platform {
            architecture: arch.to_owned(),
            ..amd64()
        };
        let mut maker = Maker::default();
        let mut add = |name: &str, op, inputs: &[&str]| {
            let name = format!("[linux/{arch} {name}");
            maker.add_op(&name, Some(op), inputs, platform.clone())
        };
        let base = add("1/3] FROM debian", image(BASE), &[]);
        let context = add("internal] load", source("local://context"), &[]);
        let copied = add("2/3] COPY a /", copy("/a", "/"), &[&base, &context]);
        let made = add("3/3] RUN make", run("make", &[], Vec::new()), &[&copied]);
        maker.end(&made)
    });
    Plan::of(&definitions)
}

/// Builds with another file than the cache has. Of each step it is said whether it came out of a cache; of those that are
/// not named, nothing.
fn explained(said: &[(&str, bool)]) -> (Vec<(String, Vec<String>)>, usize, Rate) {
    let plan = plan();
    let trees = [tree(&[("a", "old")]), tree(&[("a", "new")])];
    let [old, new]: [Keys; 2] = [0, 1].map(|at: usize| {
        let tree: &Tree = &trees[at];
        Keys::of(&plan, &facts(tree))
    });
    let config = CacheMaker::of(&plan, &old, |_| true).config();
    let comparison = Comparison::new(&plan, &new, &config, &HashSet::new());
    let statuses: BTreeMap<_, _> = said
        .iter()
        .map(|(name, cached)| {
            let mut vertices = plan.vertices().iter();
            let vertex = vertices.find(|vertex| vertex.name == *name).unwrap();
            let status = Status {
                started: true,
                cached: *cached,
            };
            (vertex.digest.as_str(), status)
        })
        .collect();
    // The builder announces all steps.
    let vertices = plan.vertices().iter().map(|vertex| {
        let status = statuses.get(vertex.digest.as_str());
        let status = status.copied().unwrap_or_default();
        (vertex.digest.clone(), (vertex.told_as.clone(), status))
    });
    let statuses = vertices.collect();
    let outcomes = Outcomes::of_build(&plan, &statuses);
    let cache = Cache {
        name: "cache".to_owned(),
        age: None,
        commit: None,
        config: &config,
        comparison,
    };
    let diagnosis = diagnose(
        &Build {
            plan: &plan,
            keys: &new,
            facts: &facts(&trees[1]),
            outcomes: &outcomes,
            caches: &[cache],
            asked: None,
            arguments: &[],
            own: &OwnFiles::default(),
        },
        &(),
    );
    assert!(diagnosis.reused.is_empty(), "{diagnosis:?}");
    let misses = diagnosis.misses.iter().map(|miss| {
        assert_eq!(miss.cause, Cause::SomeFiles);
        let followers = miss.followers.iter().map(|step| step.name.clone());
        (miss.step.name.clone(), followers.collect())
    });
    (misses.collect(), diagnosis.ran, Rate::of(&plan, &outcomes))
}

const COPIES: [&str; 2] = ["[linux/amd64 2/3] COPY a /", "[linux/arm64 2/3] COPY a /"];
const RUNS: [&str; 2] = ["[linux/amd64 3/3] RUN make", "[linux/arm64 3/3] RUN make"];

#[test]
fn a_step_that_is_made_once_for_two_platforms_is_told_once() {
    let rate = |all| Rate { served: 0, all };
    for made in COPIES {
        let said = [(made, false), (RUNS[0], false), (RUNS[1], false)];
        let expected = vec![(made.to_owned(), RUNS.map(str::to_owned).to_vec())];
        assert_eq!(explained(&said), (expected, 3, rate(3)));
    }
}

#[test]
fn a_step_out_of_the_builder_that_has_just_made_its_twin_is_no_hit_of_the_cache() {
    let said = [
        (COPIES[0], false),
        (COPIES[1], true),
        (RUNS[0], false),
        (RUNS[1], false),
    ];
    let expected = vec![(COPIES[0].to_owned(), RUNS.map(str::to_owned).to_vec())];
    assert_eq!(explained(&said), (expected, 3, Rate { served: 1, all: 4 }));
}

#[test]
fn what_is_not_told_and_has_no_twin_is_not_known_to_have_run() {
    let plan = plan();
    let outcomes = Outcomes::of_build(&plan, &BTreeMap::new());
    let all = (0..plan.vertices().len()).map(|at| outcomes.get(at));
    assert!(all.into_iter().all(|outcome| outcome == Outcome::NotTold));
}
