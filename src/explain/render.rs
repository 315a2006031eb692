//! The lines under the summary of a build.

use super::phrase::{self, Length, and};
use super::{Cache, Cause, Diagnosis, Miss, Place};
use crate::text::{counted, foreign};

/// Lines at most, unless all is wanted.
const LINES: usize = 12;

/// Returns the lines that tell why steps ran; none where no step has a cause.
pub fn lines(diagnosis: &Diagnosis, caches: &[Cache<'_>], length: Length) -> Vec<String> {
    if diagnosis.misses.is_empty() && diagnosis.reused.is_empty() {
        return Vec::new();
    }
    let mut lines = Vec::new();
    if !diagnosis.misses.is_empty() {
        lines.push(header(diagnosis, caches));
    }
    let places = diagnosis
        .misses
        .iter()
        .map(|miss| place(miss.step.place.as_ref()));
    let width = places.map(|place| place.chars().count()).max().unwrap_or(0);
    let mut blocks: Vec<Vec<String>> = Vec::new();
    for miss in &diagnosis.misses {
        blocks.push(block(miss, width, length));
    }
    for reused in &diagnosis.reused {
        blocks.push(vec![format!(
            "  {}: taken from the cache although {} ran, since that made the same files again",
            phrase::name(&reused.step),
            phrase::label(&reused.although)
        )]);
    }
    fill(&mut lines, blocks, length);
    lines
}

/// Returns the line for a build that could read none of its caches, each with the error, or none where
/// it does not exist.
pub fn no_cache(caches: &[(String, Option<String>)]) -> Option<String> {
    let (missing, broken): (Vec<_>, Vec<_>) = caches.iter().partition(|(_, error)| error.is_none());
    let mut told = Vec::new();
    if let Some((first, rest)) = missing.split_first() {
        let repository = first
            .0
            .rsplit_once(':')
            .map_or("", |(repository, _)| repository);
        let mut names = vec![foreign::line(&first.0).into_owned()];
        for (name, _) in rest {
            let tag = name
                .strip_prefix(repository)
                .filter(|tag| tag.starts_with(':'));
            names.push(foreign::line(tag.unwrap_or(name)).into_owned());
        }
        let verb = if names.len() == 1 { "does" } else { "do" };
        told.push(format!("{} {verb} not exist", and(&names)));
    }
    for (name, error) in broken {
        let error = error.as_deref().unwrap_or_default();
        told.push(format!("{}: {}", foreign::line(name), foreign::line(error)));
    }
    (!told.is_empty()).then(|| format!("no cache could be read: {}", told.join("; ")))
}

/// Adds whole blocks as long as they fit.
fn fill(lines: &mut Vec<String>, blocks: Vec<Vec<String>>, length: Length) {
    let mut left: usize = blocks.iter().map(Vec::len).sum();
    let count = blocks.len();
    for (at, block) in blocks.into_iter().enumerate() {
        // The last line is kept for the rest, unless there is none.
        let room = LINES.saturating_sub(lines.len());
        let is_too_long = left > room && block.len() + 1 > room;
        if length == Length::Short && at > 0 && is_too_long {
            let more = counted(count - at, "more cause");
            lines.push(format!("  and {more} (--explain=full)"));
            return;
        }
        left -= block.len();
        lines.extend(block);
    }
}

fn header(diagnosis: &Diagnosis, caches: &[Cache<'_>]) -> String {
    let ran = counted(diagnosis.ran, "step");
    let cache = diagnosis.compared.and_then(|at| caches.get(at));
    let compared = cache.map_or_else(String::new, |cache| {
        let age = cache
            .age
            .as_ref()
            .map(|age| format!(", {} old", foreign::line(age)));
        let commit = cache.commit.as_ref();
        let commit = commit.map(|commit| {
            let commit: String = foreign::line(commit).chars().take(7).collect();
            format!(", commit {commit}")
        });
        format!(
            " (compared with {}{}{})",
            foreign::line(&cache.name),
            age.unwrap_or_default(),
            commit.unwrap_or_default()
        )
    });
    format!("why {ran} ran{compared}:")
}

fn block(miss: &Miss, width: usize, length: Length) -> Vec<String> {
    let place = place(miss.step.place.as_ref());
    let gap = if width == 0 { 0 } else { 2 };
    let mut lines = vec![format!(
        "  {place:<width$}{:gap$}{}",
        "",
        phrase::name(&miss.step)
    )];
    let mut told = phrase::cause(&miss.cause, length);
    let followers = phrase::followers(&miss.followers, length);
    match (&miss.cause, told.last_mut()) {
        // All that is built on an image follows from it: names would say nothing.
        (Cause::Base { .. }, Some(last)) if !miss.followers.is_empty() => {
            let verb = if miss.followers.len() == 1 {
                "follows"
            } else {
                "follow"
            };
            let count = counted(miss.followers.len(), "step");
            *last = format!("{last}; {count} {verb} from it");
        }
        _ => told.extend(followers),
    }
    let indent = 2 + width + gap + usize::from(width == 0) * 2;
    lines.extend(told.into_iter().map(|line| format!("{:indent$}{line}", "")));
    lines
}

fn place(place: Option<&Place>) -> String {
    place.map_or_else(String::new, |place| {
        format!("{}:{}", foreign::line(&place.file), place.first)
    })
}
