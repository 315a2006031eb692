//! A plan in one line.

use super::plan::Plan;
use crate::text::foreign;

/// What a scope holds before the build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// Nothing yet.
    Nothing,
    /// A cache, and how old it is, in words (`2 hours old`).
    Cache(Option<String>),
    /// It is not known.
    Unknown,
}

/// Says what is read and what is written. `held` tells what each scope that is read holds, in their order; those
/// that it does not tell of are named alone.
pub fn line(repository: &str, plan: &Plan, held: &[Held]) -> String {
    let Plan { what, reads, .. } = plan;
    // The name of a branch is whatever a variable holds.
    let what = foreign::line(what);
    let before = format!("cache {repository}: {what} → ");
    let state = |at: usize| match held.get(at) {
        Some(Held::Nothing) => " (none yet)".to_owned(),
        Some(Held::Cache(Some(age))) => format!(" ({age})"),
        Some(Held::Cache(None) | Held::Unknown) | None => String::new(),
    };
    let named: Vec<String> = reads
        .iter()
        .enumerate()
        .map(|(at, scope)| format!("{scope}{}", state(at)))
        .collect();
    let named = named.join(", ");
    match (&plan.writes, plan.why_not) {
        (Some(scope), _) if std::slice::from_ref(scope) == reads.as_slice() => {
            format!("{before}reads and writes {named}")
        }
        (Some(scope), _) => format!("{before}reads {named}; writes {scope}"),
        (None, Some(why)) => format!("{before}reads {named}; writes nothing ({why})"),
        (None, None) => format!("{before}reads {named}; writes nothing"),
    }
}
