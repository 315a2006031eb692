//! The spans of time in which a step ran: a step can run again, and a group is many steps.

use std::collections::BTreeMap;

use crate::progress::time::Time;

/// A span; without a stop it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// When it began.
    pub start: Time,
    /// When it ended.
    pub stop: Option<Time>,
}

/// The spans of one step. A later report about a span (same start) replaces the earlier one.
#[derive(Debug, Clone, Default)]
pub struct Intervals {
    by_start: BTreeMap<Time, Option<Time>>,
    merged: Vec<Interval>,
}

impl Intervals {
    /// Sets a span; returns whether that changed anything.
    pub fn set(&mut self, start: Time, stop: Option<Time>) -> bool {
        let changed = self.by_start.insert(start, stop) != Some(stop);
        if changed {
            self.merged = merge(
                self.by_start
                    .iter()
                    .map(|(start, stop)| Interval {
                        start: *start,
                        stop: *stop,
                    })
                    .collect(),
            );
        }
        changed
    }

    /// Returns the spans in order, overlapping ones joined.
    pub fn merged(&self) -> &[Interval] {
        &self.merged
    }

    /// Returns the latest span.
    pub fn latest(&self) -> Option<Interval> {
        self.merged.last().copied()
    }

    /// Returns whether the latest span has ended.
    pub fn is_completed(&self) -> bool {
        self.latest().is_some_and(|span| span.stop.is_some())
    }

    /// Returns the time spent in all spans, in nanoseconds; an open span lasts until `now`. One that ends
    /// before it begins, by a clock that was set or a builder's whim, takes no time.
    pub fn total(&self, now: Time) -> i64 {
        self.merged
            .iter()
            .map(|span| span.stop.unwrap_or(now).since(span.start).max(0))
            .fold(0, i64::saturating_add)
    }
}

/// Joins spans that overlap or touch. An open span takes in all that begin after it. The spans
/// must be in order of their starts.
fn merge(spans: Vec<Interval>) -> Vec<Interval> {
    let mut merged: Vec<Interval> = Vec::new();
    for span in spans {
        match merged.last_mut() {
            Some(Interval { stop: None, .. }) => break,
            Some(Interval {
                stop: Some(stop), ..
            }) if *stop < span.start => merged.push(span),
            Some(last) => {
                // Equal to the later of both ends; an open end is later than any.
                last.stop = match (last.stop, span.stop) {
                    (Some(a), Some(b)) => Some(a.max(b)),
                    _ => None,
                };
            }
            None => merged.push(span),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_spans_are_joined() {
        type Span = (i64, Option<i64>);
        let cases: [(&[Span], &[Span]); 8] = [
            (&[], &[]),
            (&[(0, Some(1))], &[(0, Some(1))]),
            (&[(2, Some(4)), (2, Some(4))], &[(2, Some(4))]),
            (
                &[(7, Some(8)), (0, Some(1)), (2, Some(3))],
                &[(0, Some(1)), (2, Some(3)), (7, Some(8))],
            ),
            (
                &[(0, Some(10)), (1, Some(2)), (9, Some(10))],
                &[(0, Some(10))],
            ),
            (&[(0, Some(5)), (5, Some(7))], &[(0, Some(7))]),
            (&[(0, Some(5)), (3, None), (9, Some(11))], &[(0, None)]),
            (
                &[(0, Some(1)), (3, None), (2, Some(2))],
                &[(0, Some(1)), (2, Some(2)), (3, None)],
            ),
        ];
        for (input, want) in cases {
            let mut spans = Intervals::default();
            for (start, stop) in input {
                spans.set(Time::from_nanos(*start), stop.map(Time::from_nanos));
            }
            let got: Vec<Span> = spans
                .merged()
                .iter()
                .map(|i| (i.start.nanos(), i.stop.map(Time::nanos)))
                .collect();
            assert_eq!(got, want, "{input:?}");
        }
    }

    #[test]
    fn total_counts_an_open_span_until_now() {
        let mut spans = Intervals::default();
        assert!(spans.set(Time::from_nanos(0), Some(Time::from_nanos(4))));
        assert!(spans.set(Time::from_nanos(10), None));
        assert!(!spans.set(Time::from_nanos(10), None));
        assert!(!spans.is_completed());
        assert_eq!(spans.total(Time::from_nanos(15)), 9);
        assert!(spans.set(Time::from_nanos(10), Some(Time::from_nanos(12))));
        assert!(spans.is_completed());
        assert_eq!(spans.total(Time::from_nanos(99)), 6);
        assert!(spans.set(Time::from_nanos(i64::MAX), Some(Time::from_nanos(i64::MIN))));
        assert_eq!(spans.total(Time::from_nanos(99)), 6);
    }
}
