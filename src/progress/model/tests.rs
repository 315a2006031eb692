use super::*;
use crate::progress::testing::{
    at, cached, completed, failed, log, part, started, vertex, vertices,
};
use bollard_buildkit_proto::pb::ProgressGroup;

fn model() -> Model {
    Model::new(LogPolicy::lines(false))
}

fn member(digest: &str, weak: bool, from: Option<i64>, to: Option<i64>) -> api::Vertex {
    api::Vertex {
        progress_group: Some(ProgressGroup {
            id: "group".into(),
            name: "[1/2] COPY --link . .".into(),
            weak,
        }),
        ..vertex(digest, "part of it", from, to)
    }
}

#[test]
fn counts_and_failures() {
    let mut model = model();
    model.apply(&vertices(vec![vertex("w", "waits", None, None)]), at(0));
    model.apply(&cached("a", "FROM x", 0), at(0));
    model.apply(&started("b", "RUN make", 0), at(0));
    model.apply(&log("b", 500, "one\ntwo\n"), at(500));
    model.apply(&failed("b", "RUN make", 0, 900, "exit code: 2"), at(900));
    model.apply(
        &failed("c", "RUN z", 0, 900, "x: context canceled"),
        at(900),
    );
    assert_eq!(
        model.counts(),
        Counts {
            total: 4,
            completed: 3,
            cached: 1
        }
    );
    let failed = model.failed();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].name, "RUN make");
    assert_eq!(failed[0].error, "exit code: 2");
    assert_eq!(
        failed[0].logs,
        [b"0.500 one".to_vec(), b"0.500 two".to_vec()]
    );
    let names: Vec<&str> = model.shown().map(|v| v.name.as_str()).collect();
    assert_eq!(names, ["FROM x", "RUN make", "RUN z"]);
}

#[test]
fn logs_of_steps_that_are_done_are_not_kept() {
    let mut model = model();
    model.apply(&started("a", "RUN a", 0), at(0));
    model.apply(&log("a", 1, "text\n"), at(1));
    model.apply(&completed("a", "RUN a", 0, 5), at(5));
    assert_eq!(model.vertex(0).log.tail().count(), 0);
}

#[test]
fn a_group_is_one_step_and_hidden_while_only_weak_members_ran() {
    let mut model = model();
    model.apply(&vertices(vec![member("m1", true, Some(0), None)]), at(0));
    assert_eq!(model.shown().count(), 0);
    assert_eq!(model.counts().total, 0);
    model.apply(&vertices(vec![member("m2", false, None, None)]), at(1));
    assert_eq!(model.shown().count(), 0);
    model.apply(
        &vertices(vec![member("m2", false, Some(2), Some(4))]),
        at(4),
    );
    assert_eq!(model.shown().count(), 1);
    assert!(!model.vertex(0).is_completed());
    // Parts and logs of a member are the group's.
    model.apply(&part("m1", "load", (5, 10), (0, 3), false), at(4));
    assert_eq!(model.vertex(0).statuses().count(), 1);
    model.apply(&vertices(vec![member("m1", true, Some(0), Some(3))]), at(5));
    let group = model.vertex(0);
    assert!(group.is_completed());
    assert_eq!(group.name, "[1/2] COPY --link . .");
    assert_eq!(group.outcome(), Outcome::Done);
    assert_eq!(group.intervals.total(at(0)), 4_000_000);
}

#[test]
fn a_group_is_cached_when_every_member_is() {
    let mut model = model();
    let hit = |digest: &str| api::Vertex {
        cached: true,
        ..member(digest, false, Some(0), Some(1))
    };
    model.apply(&vertices(vec![hit("m1"), hit("m2")]), at(1));
    assert_eq!(model.vertex(0).outcome(), Outcome::Cached);
    model.apply(
        &vertices(vec![member("m3", false, Some(0), Some(1))]),
        at(2),
    );
    assert_eq!(model.vertex(0).outcome(), Outcome::Done);
}

#[test]
fn a_late_first_report_resets_nothing() {
    let mut model = model();
    model.apply(&cached("a", "FROM x", 0), at(0));
    model.apply(&vertices(vec![vertex("a", "FROM x", None, None)]), at(1));
    assert_eq!(model.vertex(0).outcome(), Outcome::Cached);
    assert_eq!(model.shown().count(), 1);
}

#[test]
fn the_builders_clock_is_converted() {
    let mut model = model();
    model.apply(&started("a", "RUN a", 0), at(60_000));
    assert_eq!(model.start(), Some(at(60_000)));
    assert_eq!(model.to_remote(at(61_000)), at(1_000));
    model.apply(&started("b", "RUN b", 500), at(99_000));
    assert_eq!(model.to_local(at(500)), at(60_500));
}

#[test]
fn unknown_vertices_are_ignored() {
    let mut model = model();
    model.apply(&log("nobody", 1, "text\n"), at(1));
    model.apply(&part("nobody", "x", (1, 2), (0, 1), false), at(1));
    assert_eq!(model.counts(), Counts::default());
    assert!(model.updates().is_empty());
}
