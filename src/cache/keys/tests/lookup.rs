//! Steps looked up in caches.

use std::collections::HashSet;

use bollard_buildkit_proto::pb::{ExecOp, Mount, MountType, Platform, op};
use proptest::prelude::*;

use super::{PATH, X};
use crate::cache::config::CacheConfig;
use crate::cache::keys::calibrate::{Calibration, are_proven};
use crate::cache::keys::compare::{Comparison, Fate, State, forecast};
use crate::cache::keys::testing::*;
use crate::cache::keys::*;
use crate::fsutil::wire::Stat;

/// The build of most tests: a base, a copy of the context, a command on it, a second stage that copies
/// from the first.
struct Example {
    plan: Plan,
    /// base, context, copy, command, other base, copy from the stage.
    steps: [usize; 6],
}

fn example(command: &str) -> Example {
    let mut maker = Maker::default();
    let base = maker.add("[build 1/3] FROM debian", image(BASE), &[]);
    let context = maker.add("", source("local://context"), &[]);
    let copied = maker.add("[build 2/3] COPY . .", copy("/", "/w/"), &[&base, &context]);
    let ran = maker.add(
        "[build 3/3] RUN",
        run(command, &[PATH], Vec::new()),
        &[&copied],
    );
    let other = maker.add("FROM other", image(&Digest::of(b"other").to_string()), &[]);
    let last = maker.add("[stage-1 2/2] COPY", copy("/out", "/out"), &[&other, &ran]);
    let plan = Plan::of([&maker.end(&last)]);
    let steps = [&base, &context, &copied, &ran, &other, &last];
    let steps = steps.map(|digest| plan.index_of(digest).unwrap());
    Example { plan, steps }
}

impl Example {
    fn keys(&self, tree: &Tree) -> Keys {
        let mut facts = Facts::default();
        facts.trees.insert("context".to_owned(), tree);
        Keys::of(&self.plan, &facts)
    }

    /// The cache that a build with this tree leaves behind.
    fn cache(&self, keys: &Keys, layers: [bool; 3]) -> CacheConfig {
        let [base, _, copied, ran, other, last] = self.steps;
        let key = |at: usize| &keys.step(at).unwrap().digests[0];
        let selector = |at: usize, input: usize| {
            let selector = &keys.step(at).unwrap().inputs[input].selector;
            selector.as_ref().unwrap().to_string()
        };
        let Content::Keys(files) = keys.content(copied, 1) else {
            panic!("the context is unknown")
        };
        let mut cache = CacheMaker::default();
        let base = cache.root(&record(key(base), 0));
        let files = cache.root(&files[0]);
        let copied = cache.step(key(copied), &[&[("", base)], &[("", files)]], layers[0]);
        let root = selector(ran, 0);
        let ran = cache.step(key(ran), &[&[(&root, copied)]], layers[1]);
        let other = cache.root(&record(key(other), 0));
        let out = cache.root(&Digest::of(b"files of /out"));
        let from = selector(last, 1);
        let links = [(from.as_str(), ran), ("", out)];
        cache.step(key(last), &[&[("", other)], &links], layers[2]);
        cache.config()
    }

    fn states(&self, keys: &Keys, cache: &CacheConfig) -> Vec<State> {
        let comparison = Comparison::new(&self.plan, keys, cache, &HashSet::new());
        let [_, _, copied, ran, _, last] = self.steps;
        [copied, ran, last]
            .map(|at| comparison.state(at).clone())
            .to_vec()
    }

    fn fates(&self, keys: &Keys, cache: &CacheConfig) -> [Fate; 3] {
        let comparison = Comparison::new(&self.plan, keys, cache, &HashSet::new());
        let fates = forecast(&self.plan, &[comparison]);
        let [_, _, copied, ran, _, last] = self.steps;
        [copied, ran, last].map(|at| fates[at])
    }
}

#[test]
fn an_unchanged_build_is_all_in_the_cache() {
    let files = tree(&[("a", "1")]);
    let build = example("make");
    let keys = build.keys(&files);
    let cache = build.cache(&keys, [true; 3]);
    assert_eq!(build.states(&keys, &cache), vec![State::Hit; 3]);
    assert_eq!(build.fates(&keys, &cache), [Fate::Served; 3]);
    // With mode=min only the last step has its layer, and nothing runs either.
    let min = build.cache(&keys, [false, false, true]);
    let states = [State::NoLayer, State::NoLayer, State::Hit];
    assert_eq!(build.states(&keys, &min), states);
    assert_eq!(build.fates(&keys, &min), [Fate::Served; 3]);
}

#[test]
fn a_changed_file_reaches_as_far_as_contents_do() {
    let build = example("make");
    let cache = build.cache(&build.keys(&tree(&[("a", "1")])), [true; 3]);
    let changed = tree(&[("a", "2")]);
    let keys = build.keys(&changed);
    let states = [
        State::OtherInputs(vec![1]),
        State::OtherInputs(vec![0]),
        State::Perhaps(vec![1]),
    ];
    assert_eq!(build.states(&keys, &cache), states);
    let fates = [Fate::Runs, Fate::Runs, Fate::Perhaps];
    assert_eq!(build.fates(&keys, &cache), fates);
}

#[test]
fn a_changed_command_is_new() {
    let files = tree(&[("a", "1")]);
    let before = example("make");
    let cache = before.cache(&before.keys(&files), [true; 3]);
    let build = example("make all");
    let keys = build.keys(&files);
    let states = [State::Hit, State::New, State::Perhaps(vec![1])];
    assert_eq!(build.states(&keys, &cache), states);
}

#[test]
fn a_cache_proves_keys_and_may_be_of_no_use() {
    let files = tree(&[("a", "1")]);
    let build = example("make");
    let keys = build.keys(&files);
    let compared = |keys: &Keys, cache: &CacheConfig| {
        Comparison::new(&build.plan, keys, cache, &HashSet::new())
    };
    let (own, empty) = (build.cache(&keys, [true; 3]), CacheConfig::default());
    let proven = |keys: &Keys, caches: &[&CacheConfig]| {
        let caches: Vec<_> = caches.iter().map(|cache| compared(keys, cache)).collect();
        are_proven(&build.plan, keys, &caches)
    };
    assert!(proven(&keys, &[&empty, &own]) && !proven(&keys, &[&empty]));
    assert!(compared(&keys, &empty).is_useless(&build.plan));
    assert!(!compared(&keys, &own).is_useless(&build.plan));
    // What comes out of a step may be the same although all before it differs.
    let changed = tree(&[("a", "2")]);
    let other = build.keys(&changed);
    assert!(!compared(&other, &own).is_useless(&build.plan));
    // Nothing proves the checksums of files, and the commands of the other build say nothing about this one.
    assert!(!proven(&other, &[&own]));
    let with = example("make all");
    let with = with.cache(&with.keys(&files), [true; 3]);
    assert!(!proven(&keys, &[&with]));
    let own = compared(&keys, &own);
    assert!(own.is_known() && own.records().len() > 4);
}

#[test]
fn files_that_are_not_known_make_all_unknown_that_lies_on_them() {
    let build = example("make");
    let cache = build.cache(&build.keys(&tree(&[("a", "1")])), [true; 3]);
    let unread = Tree::of([(
        Stat {
            path: b"a".to_vec(),
            mode: 0o644,
            size: 1,
            ..Stat::default()
        },
        None,
    )]);
    let keys = build.keys(&unread);
    let unknown = State::Unknown(Unknown::NotRead);
    let states = build.states(&keys, &cache);
    let comparison = Comparison::new(&build.plan, &keys, &cache, &HashSet::new());
    assert!(!comparison.is_known() && !comparison.unsure().is_empty());
    assert_eq!(states[..2], [unknown.clone(), unknown]);
    assert_eq!(build.fates(&keys, &cache)[0], Fate::Unknown);
}

#[test]
fn a_lost_layer_is_no_result() {
    let files = tree(&[("a", "1")]);
    let build = example("make");
    let keys = build.keys(&files);
    let cache = build.cache(&keys, [true; 3]);
    let blob = cache.layers[1].blob.clone();
    let lost = HashSet::from([blob.clone()]);
    let comparison = Comparison::new(&build.plan, &keys, &cache, &lost);
    assert_eq!(comparison.state(build.steps[3]), &State::LayerLost(blob));
    assert_eq!(comparison.state(build.steps[5]), &State::Hit);
}

#[test]
fn of_several_caches_the_best_counts() {
    let files = tree(&[("a", "1")]);
    let (build, other) = (example("make"), example("make all"));
    let keys = build.keys(&files);
    let own = build.cache(&keys, [true; 3]);
    let foreign = other.cache(&other.keys(&files), [true; 3]);
    let compared =
        |cache: &CacheConfig| Comparison::new(&build.plan, &keys, cache, &HashSet::new());
    let caches = [compared(&foreign), compared(&own)];
    assert!(caches[1].known(&build.plan) > caches[0].known(&build.plan));
    let fates = forecast(&build.plan, &caches);
    assert!(fates.iter().all(|fate| *fate == Fate::Served));
    let none = forecast(&build.plan, &[]);
    assert_eq!(none[build.steps[5]], Fate::Runs);
}

#[test]
fn the_records_of_use_are_those_of_the_build() {
    let files = tree(&[("a", "1")]);
    let (build, other) = (example("make"), example("make all"));
    let keys = build.keys(&files);
    let used = |cache: &CacheConfig| {
        let comparison = Comparison::new(&build.plan, &keys, cache, &HashSet::new());
        comparison.records().len()
    };
    // Base, copy, command, other base and copy from the stage, which may be that of the other build.
    assert_eq!(used(&build.cache(&keys, [true; 3])), 5);
    assert_eq!(used(&other.cache(&other.keys(&files), [true; 3])), 4);
}

#[test]
fn only_what_a_fresh_export_confirms_is_believed() {
    let files = tree(&[("a", "1")]);
    let build = example("make");
    let mut keys = build.keys(&files);
    let fresh = build.cache(&keys, [true; 3]);
    let good = Comparison::new(&build.plan, &keys, &fresh, &HashSet::new());
    let good = Calibration::new(&build.plan, &keys, &good, |_| true);
    for kind in [Kind::Exec, Kind::File, Kind::Image, Kind::Local] {
        assert!(good.trusts(kind) && good.count(kind).all > 0, "{kind:?}");
    }
    let before = build.states(&keys, &fresh);
    good.apply(&build.plan, &mut keys);
    assert_eq!(build.states(&keys, &fresh), before);

    // A builder that writes commands in another way.
    let other = example("make, as another version writes it");
    let fresh = other.cache(&other.keys(&files), [true; 3]);
    let bad = Comparison::new(&build.plan, &keys, &fresh, &HashSet::new());
    let bad = Calibration::new(&build.plan, &keys, &bad, |_| true);
    assert!(!bad.trusts(Kind::Exec) && bad.trusts(Kind::File));
    bad.apply(&build.plan, &mut keys);
    let states = build.states(&keys, &fresh);
    assert_eq!(states[0], State::Hit);
    assert_eq!(states[1], State::Unknown(Unknown::Untrusted));
}

#[test]
fn a_builder_that_counts_files_otherwise_is_noticed() {
    let build = example("make");
    let mut keys = build.keys(&tree(&[("a", "1")]));
    let fresh = build.cache(&build.keys(&tree(&[("a", "2")])), [true; 3]);
    let bad = Comparison::new(&build.plan, &keys, &fresh, &HashSet::new());
    let bad = Calibration::new(&build.plan, &keys, &bad, |_| true);
    assert!(!bad.trusts(Kind::Local) && bad.trusts(Kind::File));
    bad.apply(&build.plan, &mut keys);
    let states = build.states(&keys, &fresh);
    assert_eq!(states[0], State::Unknown(Unknown::Untrusted));
}

/// Returns a plan of one command on an image, its index and a cache of it.
fn one_command(command: &str, env: &[&str], platform: Platform) -> (Plan, usize, CacheConfig) {
    let mut maker = Maker::default();
    let base = maker.add_op("", Some(image(BASE)), &[], platform.clone());
    let kind = Some(run(command, env, Vec::new()));
    let step = maker.add_op("", kind, &[&base], platform);
    let plan = Plan::of([&maker.end(&step)]);
    let keys = Keys::of(&plan, &Facts::default());
    let mut cache = CacheMaker::default();
    let [base, step] = [0, 1].map(|at| keys.step(at).unwrap());
    let base = cache.root(&record(&base.digests[0], 0));
    let selector = step.inputs[0].selector.clone().unwrap();
    cache.step(&step.digests[0], &[&[(selector.as_str(), base)]], true);
    (plan, 1, cache.config())
}

#[test]
fn a_step_of_another_platform_is_found() {
    let arm64 = Platform {
        architecture: "arm64".to_owned(),
        ..amd64()
    };
    let (_, _, cache) = one_command("make", &[PATH], arm64);
    let (plan, step, own) = one_command("make", &[PATH], amd64());
    let facts = Facts::default();
    let found = vary::other_platforms(&plan, &facts, step, &vary::Records::of(&cache));
    assert_eq!(found, ["linux/arm64"]);
    let found = vary::other_platforms(&plan, &facts, step, &vary::Records::of(&own));
    assert!(found.is_empty());
}

#[test]
fn an_added_variable_is_found() {
    let (_, _, cache) = one_command("make", &[PATH, X], amd64());
    let (plan, step, _) = one_command("make", &[PATH, "COMMIT=4f2a", X], amd64());
    let facts = Facts::default();
    let added =
        |plan: &Plan, step| vary::added_variable(plan, &facts, step, &vary::Records::of(&cache));
    assert_eq!(added(&plan, step), Some("COMMIT".to_owned()));
    let (plan, step, _) = one_command("other", &[PATH, "COMMIT=4f2a", X], amd64());
    assert_eq!(added(&plan, step), None);
}

#[test]
fn an_added_option_is_found() {
    let of = |change: &dyn Fn(&mut ExecOp)| {
        let op::Op::Exec(mut exec) = run("make", &[PATH], Vec::new()) else {
            unreachable!("a command")
        };
        change(&mut exec);
        let mut maker = Maker::default();
        let base = maker.add("", image(BASE), &[]);
        let step = maker.add("", op::Op::Exec(exec), &[&base]);
        Plan::of([&maker.end(&step)])
    };
    let (_, step, cache) = one_command("make", &[PATH], amd64());
    let records = vary::Records::of(&cache);
    let facts = Facts::default();
    let added =
        |change: &dyn Fn(&mut ExecOp)| vary::added_option(&of(change), &facts, step, &records);
    let mount = |exec: &mut ExecOp| {
        exec.mounts.push(Mount {
            input: -1,
            dest: "/t".to_owned(),
            output: -1,
            mount_type: MountType::Tmpfs.into(),
            ..Mount::default()
        });
    };
    assert_eq!(added(&mount), Some(vary::Extra::Mounts));
    assert_eq!(added(&|exec| exec.network = 2), Some(vary::Extra::Network));
    assert_eq!(
        added(&|exec| exec.security = 1),
        Some(vary::Extra::Security)
    );
    assert_eq!(added(&|_| {}), None);
    let both = |exec: &mut ExecOp| {
        mount(exec);
        exec.network = 2;
    };
    assert_eq!(added(&both), None);
}

#[test]
fn a_file_operation_without_its_time_is_found() {
    let build = |time: i64| {
        let mut maker = Maker::default();
        let base = maker.add("", image(BASE), &[]);
        let context = maker.add("", source("local://context"), &[]);
        let mut copy = copying("/a", "/");
        copy.timestamp = time;
        let step = maker.add("", copies(copy), &[&base, &context]);
        let plan = Plan::of([&maker.end(&step)]);
        let step = plan.index_of(&step).unwrap();
        (plan, step)
    };
    let files = tree(&[("a", "a")]);
    let facts = Facts {
        trees: [("context".to_owned(), &files)].into(),
        ..Facts::default()
    };
    let (plan, _) = build(-1);
    let keys = Keys::of(&plan, &facts);
    let cache = CacheMaker::of(&plan, &keys, |_| true).config();
    let found = |(plan, step): &(Plan, usize)| {
        vary::is_there_without_time(plan, &facts, *step, &vary::Records::of(&cache))
    };
    assert!(found(&build(1_700_000_000)));
    assert!(!found(&build(-1)), "nothing differs");
}

/// A plan of commands, each on the one before.
fn chain(commands: &[String]) -> Plan {
    let mut maker = Maker::default();
    let mut last = maker.add("", image(BASE), &[]);
    for command in commands {
        last = maker.add(command, run(command, &[PATH], Vec::new()), &[&last]);
    }
    Plan::of([&maker.end(&last)])
}

proptest! {
    #[test]
    fn all_after_a_changed_step_runs_and_nothing_before(
        commands in proptest::collection::vec("[a-c]", 1..8),
        at in any::<prop::sample::Index>(),
        layers in any::<u8>(),
    ) {
        let at = at.index(commands.len());
        let before = chain(&commands);
        let keys = Keys::of(&before, &Facts::default());
        let last = commands.len();
        // The last step always has its layer; others have it with mode=max only.
        let cache = |all: bool| {
            let layer = |vertex: &Vertex| {
                all || before.index_of(&vertex.digest) == Some(last)
            };
            CacheMaker::of(&before, &keys, layer).config()
        };
        let mut changed = commands.clone();
        changed[at].push('x');
        let plan = chain(&changed);
        let now = Keys::of(&plan, &Facts::default());
        let max = cache(layers % 2 == 0);
        let comparison = Comparison::new(&plan, &now, &max, &HashSet::new());
        for step in 1..=last {
            let state = comparison.state(step);
            let is_known = matches!(state, State::Hit | State::NoLayer);
            prop_assert_eq!(is_known, step <= at, "{}: {:?}", step, state);
        }
        prop_assert_eq!(comparison.state(at + 1), &State::New);
        let same = Comparison::new(&before, &keys, &max, &HashSet::new());
        let fates = forecast(&before, &[same]);
        prop_assert!(fates.iter().all(|fate| *fate == Fate::Served));
        let fates = forecast(&plan, &[comparison]);
        prop_assert!(fates[at + 1..].iter().all(|fate| *fate == Fate::Runs));
        if layers % 2 == 0 {
            prop_assert!(fates[..=at].iter().all(|fate| *fate == Fate::Served));
        }
    }
}
