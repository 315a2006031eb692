use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::pb::{
    CacheOpt, CacheSharingOpt, ExecOp, Input, Meta, Mount, MountType, Op, op,
};
use prost::Message as _;

use super::*;
use crate::digest::Digest;

/// Adds a step with a shell command and cache mounts of these ids; returns its digest.
fn step(definition: &mut Definition, command: &str, below: Option<&str>, ids: &[&str]) -> String {
    let mount = |id: &&str| Mount {
        input: -1,
        dest: "/cache".to_owned(),
        mount_type: MountType::Cache.into(),
        cache_opt: Some(CacheOpt {
            id: (*id).to_owned(),
            sharing: CacheSharingOpt::Shared.into(),
        }),
        ..Mount::default()
    };
    let root = Mount {
        dest: "/".to_owned(),
        ..Mount::default()
    };
    let inputs = below.map(|digest| Input {
        digest: digest.to_owned(),
        index: 0,
    });
    let step = Op {
        inputs: inputs.into_iter().collect(),
        op: Some(op::Op::Exec(ExecOp {
            meta: Some(Meta {
                args: vec![command.to_owned()],
                ..Meta::default()
            }),
            mounts: std::iter::once(root).chain(ids.iter().map(mount)).collect(),
            ..ExecOp::default()
        })),
        ..Op::default()
    };
    let bytes = step.encode_to_vec();
    let digest = Digest::of(&bytes).to_string();
    definition.def.push(bytes);
    digest
}

fn watch(definition: Definition) -> MountWatch {
    let watch = MountWatch {
        hints: true,
        heard: Mutex::default(),
    };
    let definitions = BTreeMap::from([(String::new(), definition)]);
    assert!(!watch.begin(&definitions).is_empty());
    watch
}

/// A report of a step that began at this second.
fn report(digest: &str, second: i64, has_ended: bool) -> Vertex {
    let at = |second| {
        Some(Timestamp {
            seconds: second,
            nanos: 0,
        })
    };
    Vertex {
        digest: digest.to_owned(),
        started: at(second),
        completed: at(second + 1).filter(|_| has_ended),
        ..Vertex::default()
    }
}

fn hear(watch: &MountWatch, vertex: Vertex) -> bool {
    watch.observe(&StatusResponse {
        vertexes: vec![vertex],
        ..StatusResponse::default()
    })
}

fn cached(digest: &str, second: i64) -> Vertex {
    Vertex {
        cached: true,
        ..report(digest, second, true)
    }
}

fn ids(used: &[Used]) -> Vec<&str> {
    used.iter().map(|used| used.mount.id()).collect()
}

/// A step without a mount, and one on it that has one.
fn two_steps() -> (Definition, String) {
    let mut definition = Definition::default();
    let one = step(&mut definition, "one", None, &[]);
    let two = step(&mut definition, "two", Some(&one), &["go"]);
    (definition, two)
}

#[test]
fn what_ran_in_one_solve_has_run_though_the_next_one_finds_its_result() {
    let (definition, two) = two_steps();
    let watch = watch(definition.clone());
    assert!(watch.used().is_empty());
    assert!(hear(&watch, report(&two, 1, true)));
    assert!(!hear(&watch, report(&two, 1, true)), "it comes twice");
    let first = watch.used();
    assert_eq!((ids(&first), first[0].runs), (vec!["go"], 1));
    let definitions = BTreeMap::from([(String::new(), definition)]);
    assert!(watch.begin(&definitions).is_empty());
    assert!(watch.ready().is_empty(), "it may run again");
    hear(&watch, cached(&two, 5));
    assert_eq!(watch.used(), first);
    assert_eq!(watch.ready(), first);
    watch.begin(&definitions);
    hear(&watch, report(&two, 9, true));
    assert_eq!(watch.used()[0].runs, 2);
}

#[test]
fn a_step_whose_result_is_found_has_not_run() {
    let (definition, two) = two_steps();
    let watch = watch(definition);
    hear(&watch, cached(&two, 1));
    assert!(watch.used().is_empty() && watch.ready().is_empty());
    assert!(watch.take_remarks().is_empty());
}

#[test]
fn a_step_without_inputs_may_end_without_having_run() {
    let mut definition = Definition::default();
    let bare = step(&mut definition, "bare", None, &["go"]);
    let watch = watch(definition);
    hear(&watch, report(&bare, 1, true));
    assert!(watch.ready().is_empty() && watch.used_before_failure().is_empty());
    hear(&watch, cached(&bare, 2));
    assert!(watch.used().is_empty());
    hear(&watch, report(&bare, 3, true));
    hear(&watch, report(&bare, 4, true));
    watch.built();
    assert_eq!(watch.ready(), watch.used());
    assert_eq!(watch.used()[0].runs, 1);
}

#[test]
fn a_mount_is_ready_when_all_that_use_its_id_have_ended() {
    let mut definition = Definition::default();
    let one = step(&mut definition, "one", None, &[]);
    let two = step(&mut definition, "two", Some(&one), &["go", "npm"]);
    let three = step(&mut definition, "three", Some(&two), &["go"]);
    let watch = watch(definition);
    hear(&watch, report(&two, 1, true));
    assert_eq!(ids(&watch.ready()), ["npm"]);
    assert_eq!(ids(&watch.used_before_failure()), ["go", "npm"]);
    hear(&watch, report(&three, 3, false));
    assert_eq!(ids(&watch.used_before_failure()), ["npm"]);
    let failed = Vertex {
        error: "exit code: 1".to_owned(),
        ..report(&three, 3, true)
    };
    hear(&watch, failed);
    assert_eq!(ids(&watch.ready()), ["npm"]);
    assert_eq!(ids(&watch.used_before_failure()), ["npm"]);
    hear(&watch, report(&three, 5, true));
    assert_eq!(ids(&watch.ready()), ["go", "npm"]);
}
