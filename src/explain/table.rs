//! The table of a forecast: each step, the cache that has it, and why it would run.

use super::diagnose::is_inline;
use super::phrase::{self, Length};
use super::{Build, Diagnosis, Miss, Outcome, Place, Step};
use crate::cache::keys::Vertex;
use crate::cache::keys::compare::State;
use crate::cache::keys::twins::Twins;
use crate::text::foreign;

/// One step of a forecast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The step's name.
    pub step: String,
    /// The cache that has it, `perhaps` with the one that may have it, or `-`.
    pub cache: String,
    /// The name of the cache that has it, or may have it.
    pub cache_name: Option<String>,
    /// Why it would run; empty where it would not.
    pub why: String,
    /// What will become of it.
    pub outcome: Outcome,
    /// The code of the cause, or `follows`; `None` where it would not run, and where no cache was read.
    pub code: Option<&'static str>,
    /// Digest of the step.
    pub digest: String,
    /// Where it stands.
    pub place: Option<Place>,
}

/// Returns the rows, in the order of the Dockerfile.
pub fn rows(build: &Build<'_>, diagnosis: &Diagnosis) -> Vec<Row> {
    let twins = Twins::sure(build.plan, build.keys);
    let mut rows = Vec::new();
    for (at, vertex) in build.plan.vertices().iter().enumerate() {
        let is_cause = diagnosis.misses.iter().any(|miss| miss.step.vertex == at);
        let is_step = vertex.makes_layers() && !vertex.inputs.is_empty() && !vertex.name.is_empty();
        // An image has a row if it is why steps run.
        let outcome = match (is_step, is_cause) {
            (true, _) => build.outcomes.get(at),
            (false, true) => Outcome::Ran,
            (false, false) => continue,
        };
        let name = best(build, at).unwrap_or("-");
        let is_there = matches!(outcome, Outcome::Served | Outcome::Perhaps);
        let cache = match outcome {
            Outcome::Served => name.to_owned(),
            Outcome::Perhaps => format!("perhaps {name}"),
            Outcome::Ran | Outcome::Twin | Outcome::NotTold => "-".to_owned(),
            Outcome::Unknown => "?".to_owned(),
        };
        let row = Row {
            step: phrase::name(&step(at, vertex)),
            cache: foreign::line(&cache).into_owned(),
            cache_name: is_there.then(|| name.to_owned()),
            why: match twins.first(at) {
                first if first != at && outcome == Outcome::Ran => made_with(build, first),
                _ => why(build, diagnosis, at, outcome),
            },
            outcome,
            code: code(diagnosis, at, outcome),
            digest: vertex.digest.clone(),
            place: vertex.place.clone(),
        };
        rows.push(((vertex.place.clone(), at), row));
    }
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    // `COPY --link` is two vertices of one name.
    rows.dedup_by(|(_, next), (_, row)| {
        let is_same = row.step == next.step && !row.step.is_empty();
        if is_same && row.outcome == Outcome::Served {
            // It runs where one of them does.
            std::mem::swap(row, next);
        }
        is_same
    });
    rows.into_iter().map(|(_, row)| row).collect()
}

/// Returns the table as text.
pub fn text(rows: &[Row]) -> String {
    let width = |of: fn(&Row) -> &String, head: &str| {
        let widths = rows.iter().map(|row| of(row).chars().count());
        widths.chain([head.len()]).max().unwrap_or_default()
    };
    let (step, cache) = (
        width(|row| &row.step, "STEP"),
        width(|row| &row.cache, "CACHE"),
    );
    let line = |a: &str, b: &str, c: &str| {
        let line = format!("{a:<step$}  {b:<cache$}  {c}");
        format!("{}\n", line.trim_end())
    };
    let mut text = line("STEP", "CACHE", "WHY");
    for row in rows {
        text.push_str(&line(&row.step, &row.cache, &row.why));
    }
    text
}

/// Returns what is said of a step that the builder makes together with an equal one, such as one for another platform.
fn made_with(build: &Build<'_>, first: usize) -> String {
    let vertex = build.plan.vertices().get(first);
    let label = vertex.map(|vertex| phrase::label(&step(first, vertex)));
    format!("made once, with {}", label.unwrap_or_default())
}

fn why(build: &Build<'_>, diagnosis: &Diagnosis, at: usize, outcome: Outcome) -> String {
    if outcome == Outcome::Served {
        return String::new();
    }
    if let Some(miss) = diagnosis.misses.iter().find(|miss| miss.step.vertex == at) {
        return phrase::cause(&miss.cause, Length::Short).join("; ");
    }
    let is_follower = |step: &Step| step.vertex == at;
    let root = diagnosis
        .misses
        .iter()
        .find(|miss| miss.followers.iter().any(is_follower));
    match (outcome, root) {
        (Outcome::Perhaps, _) => {
            let Some(before) = before(build, at) else {
                return String::new();
            };
            let vertex = build.plan.vertices().get(before.vertex);
            if vertex.is_some_and(is_inline) {
                return "if what its heredoc holds is the same".to_owned();
            }
            let label = phrase::label(&before);
            format!("if the files of {label} come out the same")
        }
        (_, Some(root)) => format!("follows from {}", phrase::label(&root.step)),
        (_, None) => String::new(),
    }
}

fn code(diagnosis: &Diagnosis, at: usize, outcome: Outcome) -> Option<&'static str> {
    if outcome == Outcome::Served {
        return None;
    }
    let own = |miss: &&Miss| miss.step.vertex == at;
    if let Some(own) = diagnosis.misses.iter().find(own) {
        return Some(own.cause.code());
    }
    let is_follower = |miss: &Miss| miss.followers.iter().any(|step| step.vertex == at);
    let follows = outcome == Outcome::Perhaps || diagnosis.misses.iter().any(is_follower);
    follows.then_some("follows")
}

/// Returns the step whose files decide.
fn before(build: &Build<'_>, at: usize) -> Option<Step> {
    let vertex = build.plan.vertices().get(at)?;
    let input = |input: &usize| Some(vertex.inputs.get(*input)?.as_ref()?.vertex);
    let mut states = build.caches.iter().map(|cache| cache.comparison.state(at));
    let before = states.find_map(|state| match state {
        State::Perhaps(inputs) => inputs.iter().find_map(input),
        _ => None,
    })?;
    Some(step(before, build.plan.vertices().get(before)?))
}

/// Returns the name of the cache that has most of a step.
fn best<'a>(build: &'a Build<'_>, at: usize) -> Option<&'a str> {
    let rank = |state: &State| state.rank();
    let caches = build.caches.iter();
    let best = caches.min_by_key(|cache| rank(cache.comparison.state(at)));
    best.map(|cache| cache.name.as_str())
}

fn step(at: usize, vertex: &Vertex) -> Step {
    Step {
        vertex: at,
        name: vertex.name.clone(),
        place: vertex.place.clone(),
    }
}
