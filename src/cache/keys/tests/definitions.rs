//! Definitions that no builder would take.

use std::collections::HashSet;

use bollard_buildkit_proto::pb::{Definition, MergeInput, MergeOp, op};
use proptest::prelude::*;

use crate::cache::config::CacheConfig;
use crate::cache::keys::compare::{Comparison, State, forecast};
use crate::cache::keys::testing::*;
use crate::cache::keys::*;

#[test]
fn fields_of_newer_versions_make_a_key_unknown() {
    let mut maker = Maker::default();
    let base = maker.add("", image(BASE), &[]);
    let step = maker.add("", run("true", &[], Vec::new()), &[&base]);
    let mut definition = maker.0;
    let bytes = definition.def.last_mut().unwrap();
    // Field 99 of the operation itself, a number.
    bytes.extend([0x98, 0x06, 0x01]);
    let changed = Digest::of(bytes).to_string();
    let plan = Plan::of([&definition]);
    assert_eq!(plan.index_of(&step), None);
    let index = plan.index_of(&changed).unwrap();
    let keys = Keys::of(&plan, &Facts::default());
    assert_eq!(keys.step(index), Err(Unknown::NewFields));
}

#[test]
fn bad_definitions_have_unknown_steps() {
    let plan = Plan::of([&Definition {
        def: vec![vec![0xff; 4], Vec::new(), Vec::new()],
        ..Definition::default()
    }]);
    let keys = Keys::of(&plan, &Facts::default());
    assert_eq!(plan.vertices().len(), 2);
    assert!((0..3).all(|at| keys.step(at).is_err()));

    let mut maker = Maker::default();
    let step = maker.add("", run("true", &[], Vec::new()), &["sha256:absent"]);
    let plan = Plan::of([&maker.end(&step)]);
    let keys = Keys::of(&plan, &Facts::default());
    assert_eq!(keys.step(0), Err(Unknown::MissingInput));
}

#[test]
fn the_merge_of_a_linked_copy_has_the_name_of_the_copy() {
    let mut maker = Maker::default();
    let base = maker.add("[1/2] FROM debian", image(BASE), &[]);
    let context = maker.add("", source("local://context"), &[]);
    let copied = maker.add(
        "[2/2] COPY --link a /",
        copy("/a", "/"),
        &[&context, &context],
    );
    let merge = || {
        let inputs = [0, 1].map(|input| MergeInput { input });
        op::Op::Merge(MergeOp {
            inputs: inputs.into(),
        })
    };
    let merged = maker.add("[2/2] LINK COPY --link a /", merge(), &[&base, &copied]);
    let unlabelled = maker.add("LINK COPY a /", merge(), &[&merged, &copied]);
    let command = run("LINK", &[], Vec::new());
    let command = maker.add("[3/3] LINK x", command, &[&unlabelled]);
    let plan = Plan::of([&maker.end(&command)]);
    let name = |digest: &str| plan.vertices()[plan.index_of(digest).unwrap()].name.clone();
    assert_eq!(name(&merged), name(&copied));
    assert_eq!(name(&unlabelled), "COPY a /");
    assert_eq!(name(&command), "[3/3] LINK x");
}

#[test]
fn a_definition_may_be_as_deep_as_it_is_long() {
    let mut maker = Maker::default();
    let mut last = maker.add("", image(BASE), &[]);
    for _ in 0..20_000 {
        last = maker.add("", run("true", &[], Vec::new()), &[&last]);
    }
    let plan = Plan::of([&maker.end(&last)]);
    let keys = Keys::of(&plan, &Facts::default());
    let empty = CacheConfig::default();
    let comparison = Comparison::new(&plan, &keys, &empty, &HashSet::new());
    assert_eq!(plan.vertices().len(), 20_001);
    assert_eq!(comparison.state(20_000), &State::New);
}

proptest! {
    #[test]
    fn no_definition_panics(def in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..24), 0..6)) {
        let definition = Definition { def, ..Definition::default() };
        let plan = Plan::of([&definition]);
        let keys = Keys::of(&plan, &Facts::default());
        let comparison = Comparison::new(&plan, &keys, &CacheConfig::default(), &HashSet::new());
        let _ = forecast(&plan, &[comparison]);
    }
}
