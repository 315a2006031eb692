//! Results that are kept twice: under a key, and under one that has all its alternatives and more.
//!
//! A step that ran leaves a record with more alternatives for its inputs than one that was found, so
//! the second export of an unchanged build has the same results under fewer keys. Those say nothing
//! new.

use std::collections::HashMap;

use super::record::{Found, Link, Record};

/// Comparisons of links after which no more are made: it saves space, and must not cost a hostile
/// config's readers their time.
const WORK: usize = 20_000_000;

/// Moves each result to the records that cover its own. Records come after their inputs.
pub(super) fn fold(records: &mut [Record]) {
    let covering = Covering::find(records);
    let mut moves: Vec<(usize, Option<usize>, Vec<usize>)> = Vec::new();
    for (index, record) in records.iter().enumerate() {
        for layer in record.results.keys() {
            let holds = |other: &usize| {
                let record = records.get(*other);
                record.is_some_and(|record| record.results.contains_key(layer))
            };
            let above = |index: usize| covering.above(records, index).filter(holds);
            // Only those that nothing covers: they have all that the others have.
            let targets: Vec<usize> = above(index)
                .filter(|other| above(*other).next().is_none())
                .collect();
            if !targets.is_empty() {
                moves.push((index, *layer, targets));
            }
        }
    }
    for (index, layer, targets) in moves {
        let taken = records.get_mut(index);
        let Some(found) = taken.and_then(|record| record.results.remove(&layer)) else {
            continue;
        };
        for target in targets {
            let known = records.get_mut(target);
            if let Some(known) = known.and_then(|record| record.results.get_mut(&layer)) {
                Found::merge(known, found.clone());
            }
        }
    }
}

/// Records by their digest, the place of an input, and a record that it may come from.
type Users<'a> = HashMap<(&'a str, usize, usize), Vec<usize>>;

/// For each record those that cover it, itself among them.
struct Covering(Vec<Vec<usize>>);

impl Covering {
    fn find(records: &[Record]) -> Self {
        let mut users = Users::new();
        for (index, record) in records.iter().enumerate() {
            for (input, link) in links(record) {
                let key = (record.digest.as_str(), input, link.record);
                users.entry(key).or_default().push(index);
            }
        }
        let mut covering = Self(Vec::with_capacity(records.len()));
        let mut work = WORK;
        for (index, record) in records.iter().enumerate() {
            let mut found = vec![index];
            for other in covering.candidates(record, &users) {
                let same = |other: &&Record| other.inputs.len() == record.inputs.len();
                if other != index
                    && let Some(candidate) = records.get(other).filter(same)
                    && covering.covers(candidate, record, &mut work)
                {
                    found.push(other);
                }
            }
            found.sort_unstable();
            found.dedup();
            covering.0.push(found);
        }
        covering
    }

    fn of(&self, index: usize) -> &[usize] {
        self.0.get(index).map_or(&[], Vec::as_slice)
    }

    /// Returns the records that may cover this one: those that use a record which covers one of its inputs, for
    /// the input with the fewest.
    fn candidates(&self, record: &Record, users: &Users<'_>) -> Vec<usize> {
        let using = |(input, link): (usize, &Link)| {
            let covering = self.of(link.record).iter();
            let key = move |other: &usize| (record.digest.as_str(), input, *other);
            covering.filter_map(move |other| users.get(&key(other)))
        };
        let rarest = links(record).min_by_key(|link| using(*link).map(Vec::len).sum::<usize>());
        let found = rarest.into_iter().flat_map(using).flatten();
        found.copied().collect()
    }

    fn covers(&self, candidate: &Record, record: &Record, work: &mut usize) -> bool {
        let inputs = candidate.inputs.iter().zip(&record.inputs);
        for (have, wanted) in inputs {
            for wanted in wanted {
                let covering = self.of(wanted.record);
                let cost = have.len();
                let Some(left) = work.checked_sub(cost) else {
                    return false;
                };
                *work = left;
                let same = |have: &Link| {
                    have.selector == wanted.selector && covering.binary_search(&have.record).is_ok()
                };
                if !have.iter().any(same) {
                    return false;
                }
            }
        }
        true
    }

    /// Returns the records that cover a record; of several that cover each other, only the first counts as above
    /// the rest.
    fn above<'a>(
        &'a self,
        records: &'a [Record],
        index: usize,
    ) -> impl Iterator<Item = usize> + use<'a> {
        let hash = move |index: usize| records.get(index).map(|record| record.hash);
        self.of(index).iter().copied().filter(move |other| {
            let mutual = self.of(*other).binary_search(&index).is_ok();
            *other != index && (!mutual || hash(*other) < hash(index))
        })
    }
}

fn links(record: &Record) -> impl Iterator<Item = (usize, &Link)> {
    let inputs = record.inputs.iter().enumerate();
    inputs.flat_map(|(input, links)| links.iter().map(move |link| (input, link)))
}
