//! A report made of what was reported of a build and of what is known besides.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::critical;
use super::facts::{BuildFacts, Ending, Found, NodeFacts};
use super::model::{Caches, Cause, Export, Outcome, Report, SCHEMA, Step};
use super::step::{Clock, shown, told, without_values};
use super::{caches, sums};
use crate::cache::keys::twins::Twins;
use crate::cache::keys::{Facts, Keys};
use crate::explain::Miss;
use crate::explain::phrase::{self, Length};
use crate::progress::model::{self as progress, Vertex};
use crate::progress::time::Time;

/// Makes the report.
pub fn collect(build: BuildFacts, nodes: &[NodeFacts<'_>]) -> Report {
    let (began, ended) = build.time;
    let clock = Clock {
        began,
        ended,
        succeeded: build.ending == Ending::Succeeded,
    };
    let mut all = Vec::new();
    let mut exports = Vec::new();
    for (number, node) in nodes.iter().enumerate() {
        all.extend(found_steps(number, node, &clock));
        let model = node.model.vertices().iter().filter(|v| !v.hidden);
        exports.extend(model.filter_map(|vertex| {
            let export = clock.export(vertex)?;
            let node = node.name.map(shown);
            Some(Export { node, ..export })
        }));
    }
    exports.sort_by_key(|export| (export.kind, export.start_ms));
    let found = in_order(all, nodes);
    let (result, error) = match build.ending {
        Ending::Succeeded => (Outcome::Succeeded, None),
        Ending::Failed(error) => (Outcome::Failed, Some(told(&error))),
        Ending::Canceled => (Outcome::Canceled, None),
    };
    let took = ended.since(began).max(0) / 1_000_000;
    Report {
        schema: SCHEMA,
        version: build.version.to_owned(),
        name: shown(&build.name),
        target: build.target.as_deref().map(shown),
        result,
        error,
        started: moment(began),
        duration_ms: u64::try_from(took).unwrap_or(0),
        builder: shown(&build.builder.0),
        driver: shown(&build.builder.1),
        platforms: build.platforms,
        totals: sums::totals(&found, nodes),
        caches: Caches {
            read: caches::read(nodes, &found),
            written: caches::written(&build.written, &exports, &found, result),
        },
        steps: found.into_iter().map(|found| found.step).collect(),
        exports,
    }
}

/// Returns the steps of one node, in the order in which they became known.
fn found_steps(number: usize, node: &NodeFacts<'_>, clock: &Clock) -> Vec<Found> {
    let mut members = members(node, clock);
    let vertices = node.model.vertices().iter().enumerate();
    let found = vertices.filter_map(|(order, vertex)| {
        let members = members.remove(&order).unwrap_or_default();
        let is_dropped = is_dropped(vertex, clock);
        if vertex.hidden || is_dropped || !is_told(vertex, !members.is_empty(), clock.succeeded) {
            return None;
        }
        let name = node.known.and_then(|known| {
            let names = members.iter().filter_map(|at| known.names.get(*at));
            names.map(|name| shown(name)).find(|name| !name.is_empty())
        });
        let name = name.unwrap_or_else(|| without_values(&vertex.name));
        let mut step = clock.step(vertex, name);
        step.node = node.name.map(shown);
        if let Some(known) = node.known {
            step.describe(&known.plan, &members);
            step.cache = step.cache.and_then(|told| known.read_of(&told));
        }
        Some(Found {
            step,
            node: number,
            members,
            order,
        })
    });
    found.collect()
}

/// Returns the vertices of the plan that each vertex of the progress stands for. A builder may give a step another digest
/// than the definition has; then its name must fit. Of steps that are the same one stands for all.
fn members(node: &NodeFacts<'_>, clock: &Clock) -> BTreeMap<usize, Vec<usize>> {
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let Some(known) = node.known else {
        return members;
    };
    let reported = node.model.vertices().iter().enumerate();
    let by_name: HashMap<&str, usize> = reported
        .filter(|(_, vertex)| !vertex.name.is_empty())
        .map(|(at, vertex)| (vertex.name.as_str(), at))
        .collect();
    let found = |at: usize| {
        let planned = known.plan.vertices().get(at)?;
        let found = node.model.index_of(&planned.digest);
        let found = found.or_else(|| by_name.get(planned.name.as_str()).copied())?;
        let vertex = node.model.vertices().get(found)?;
        (!is_dropped(vertex, clock)).then_some(found)
    };
    let mut twins = None;
    for at in 0..known.plan.vertices().len() {
        let own = found(at);
        let found = own.or_else(|| {
            let twins: &Twins = twins.get_or_insert_with(|| {
                let keys = Keys::of(&known.plan, &Facts::default());
                Twins::of(&known.plan, &keys)
            });
            twins.of_vertex(at).find_map(found)
        });
        let Some(found) = found else { continue };
        let members: &mut Vec<usize> = members.entry(found).or_default();
        // It has the name of the one that was told.
        match own {
            Some(_) => members.insert(0, at),
            None => members.push(at),
        }
    }
    members
}

/// Returns whether a builder dropped a step for an equal one: it tells that as cancelled, also of a build that succeeds.
fn is_dropped(vertex: &Vertex, clock: &Clock) -> bool {
    clock.succeeded && vertex.outcome() == progress::Outcome::Canceled
}

/// Returns whether a vertex is told as a step. One that has not begun was not needed, unless the build did not come so far.
fn is_told(vertex: &Vertex, is_planned: bool, succeeded: bool) -> bool {
    let is_step = is_planned || vertex.name.starts_with('[') || vertex.name.starts_with("resolve ");
    let is_begun = vertex.is_started() || (!succeeded && vertex.is_numbered());
    is_step && is_begun
}

/// Puts the steps in order, and connects them.
fn in_order(mut all: Vec<Found>, nodes: &[NodeFacts<'_>]) -> Vec<Found> {
    all.sort_by_cached_key(|found| {
        let step = &found.step;
        // What stands in no line is in the order in which it became known.
        let first = found.members.iter().min().copied();
        let place = step.line.map(|line| (line, found.node, first));
        let file = step.dockerfile.clone().filter(|_| step.line.is_some());
        (step.line.is_none(), file, place, found.order)
    });
    let mut ids: HashMap<(usize, usize), usize> = HashMap::new();
    for (id, found) in all.iter_mut().enumerate() {
        found.step.id = id;
        let members = found.members.iter();
        ids.extend(members.map(|member| ((found.node, *member), id)));
    }
    for found in &mut all {
        found.step.inputs = inputs(found, nodes, &ids);
    }
    let mut steps: Vec<Step> = all.iter().map(|found| found.step.clone()).collect();
    for (number, node) in nodes.iter().enumerate() {
        for miss in node.known.iter().flat_map(|known| &known.misses) {
            explain(miss, &mut steps, |vertex| {
                ids.get(&(number, vertex)).copied()
            });
        }
    }
    critical::mark(&mut steps);
    for (found, step) in all.iter_mut().zip(steps) {
        found.step = step;
    }
    all
}

/// Returns the steps that a step is made of, also through vertices that nothing was reported of.
fn inputs(
    found: &Found,
    nodes: &[NodeFacts<'_>],
    ids: &HashMap<(usize, usize), usize>,
) -> Vec<usize> {
    let known = nodes.get(found.node).and_then(|node| node.known);
    let Some(known) = known else {
        return Vec::new();
    };
    let mut open = found.members.clone();
    let mut seen = BTreeSet::new();
    let mut inputs = BTreeSet::new();
    while let Some(at) = open.pop() {
        let vertex = known.plan.vertices().get(at);
        for edge in vertex.iter().flat_map(|v| v.inputs.iter().flatten()) {
            match ids.get(&(found.node, edge.vertex)) {
                Some(id) if *id == found.step.id => {}
                Some(id) => _ = inputs.insert(*id),
                None if seen.insert(edge.vertex) => open.push(edge.vertex),
                None => {}
            }
        }
    }
    inputs.into_iter().collect()
}

/// Notes why a step ran.
fn explain(miss: &Miss, steps: &mut [Step], id: impl Fn(usize) -> Option<usize>) {
    let Some(root) = id(miss.step.vertex) else {
        return;
    };
    let followers: BTreeSet<usize> = miss.followers.iter().filter_map(|f| id(f.vertex)).collect();
    for follower in &followers {
        if let Some(step) = steps.get_mut(*follower) {
            step.follows = Some(root);
        }
    }
    if let Some(step) = steps.get_mut(root) {
        step.cause = Some(Cause {
            code: miss.cause.code(),
            text: told(&phrase::cause(&miss.cause, Length::Short).join("; ")),
        });
        step.followers.extend(followers);
    }
}

/// Returns a moment in the form of RFC 3339, to the millisecond.
fn moment(time: Time) -> String {
    let stamp = jiff::Timestamp::from_nanosecond(i128::from(time.nanos()));
    let stamp = stamp.unwrap_or_default();
    format!("{stamp:.3}")
}
