//! Which of the running steps the plain printer turns to.

use std::collections::BTreeMap;

use crate::progress::model::{Model, Vertex};
use crate::progress::time::{self, Time};

const SECOND: i64 = 1_000_000_000;
/// A step that shares the output stays on it at least this long.
const ANTI_FLICKER: f64 = 5.0;
/// A step that has news is not passed over longer than this.
const MAX_DELAY: i64 = 10 * SECOND;
/// A step that waits with more log text than this is printed next, so that memory stays bounded.
pub(super) const MAX_PENDING: usize = 1024 * 1024;

/// How much a step has to say.
#[derive(Debug, Clone, Copy)]
struct Load {
    waiting: i64,
    speed: f64,
    over_limit: bool,
}

/// Chooses the running step to turn to, if it is time to: the busiest one when the output is on
/// none, one that waited too long, or the busiest one when the present one had its share.
pub(super) fn choose(
    model: &Model,
    now: Time,
    current: Option<usize>,
    current_done: bool,
    rest: &[usize],
) -> Option<usize> {
    let mut loads: BTreeMap<usize, Load> = BTreeMap::new();
    for index in rest.iter().copied().chain(current) {
        if let Some(load) = load(model.vertex(index), now, Some(index) == current) {
            loads.insert(index, load);
        }
    }
    let mut busiest: Option<(usize, f64)> = None;
    for (index, load) in &loads {
        if load.over_limit || busiest.is_none_or(|(_, speed)| speed < load.speed) {
            busiest = Some((*index, load.speed));
        }
    }
    let busiest = busiest.map(|(index, _)| index);
    let Some(present) = current.filter(|_| !current_done) else {
        return busiest;
    };
    let waited = loads
        .iter()
        .find(|(index, load)| load.over_limit && rest.contains(index));
    if let Some((index, _)) = waited {
        return Some(*index);
    }
    let sum: f64 = loads.values().map(|load| load.speed).sum();
    let load = loads.get(&present)?;
    let fair = 1.0 / (1.0 - load.speed / sum) * ANTI_FLICKER;
    if fair < time::seconds(load.waiting) {
        busiest
    } else {
        None
    }
}

fn load(vertex: &Vertex, now: Time, is_current: bool) -> Option<Load> {
    let waiting = now.since(vertex.changes_since?);
    #[expect(clippy::cast_precision_loss, reason = "a rate needs no exact count")]
    let speed = vertex.changes as f64 / time::seconds(waiting);
    let late = waiting > MAX_DELAY || vertex.log.pending_bytes() > MAX_PENDING;
    Some(Load {
        waiting,
        speed,
        over_limit: late && !is_current,
    })
}
