//! The tree as text.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;

use crate::cache::outline::{Outline, OutlineStep};
use crate::options::size::human_size;
use crate::text::human;
use crate::text::{counted, foreign};

/// Characters of a name that are shown.
const NAME: usize = 72;
/// The widest column of names.
const WIDTH: usize = 100;

/// Writes the tree, a part for each platform.
pub(super) fn table(outline: &Outline, now: Timestamp) -> String {
    let mut children: BTreeMap<Option<usize>, Vec<usize>> = BTreeMap::new();
    for (at, step) in outline.steps.iter().enumerate() {
        children.entry(step.parent).or_default().push(at);
    }
    let mut platforms: Vec<Option<&String>> = Vec::new();
    let roots = children.get(&None).cloned().unwrap_or_default();
    for root in &roots {
        let platform = outline
            .steps
            .get(*root)
            .and_then(|step| step.platform.as_ref());
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    let mut lines = Vec::new();
    for platform in platforms {
        lines.push(Line::heading(
            platform.map_or("no platform known", String::as_str),
        ));
        let of_platform = roots.iter().copied();
        let of_platform = of_platform.filter(|root| {
            outline
                .steps
                .get(*root)
                .and_then(|step| step.platform.as_ref())
                == platform
        });
        add(
            outline,
            &of_platform.collect::<Vec<_>>(),
            &children,
            now,
            &mut lines,
        );
    }
    let widths = lines
        .iter()
        .filter(|line| line.size.is_some())
        .map(Line::width);
    let width = widths.max().unwrap_or(0).min(WIDTH);
    let mut text = String::new();
    for line in &lines {
        line.write(width, &mut text);
    }
    if outline.left_out > 0 {
        // Writing to a text does not fail.
        let _written = writeln!(text, "… {} deeper", counted(outline.left_out, "step"));
    }
    text
}

struct Line {
    /// The branches and the name.
    title: String,
    /// The size, empty where it is not known; `None` of a line that is no step.
    size: Option<String>,
    notes: Vec<String>,
}

impl Line {
    fn heading(text: &str) -> Self {
        Self {
            title: foreign::line(text).into_owned(),
            size: None,
            notes: Vec::new(),
        }
    }

    fn width(&self) -> usize {
        self.title.chars().count()
    }

    fn write(&self, width: usize, text: &mut String) {
        let notes = self.notes.join("   ");
        let line = match &self.size {
            None => self.title.clone(),
            Some(size) => format!("{:<width$}   {size:<8}  {notes}", self.title),
        };
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

/// Adds the steps of a platform, without recursion.
fn add(
    outline: &Outline,
    roots: &[usize],
    children: &BTreeMap<Option<usize>, Vec<usize>>,
    now: Timestamp,
    lines: &mut Vec<Line>,
) {
    let last = roots.len().saturating_sub(1);
    let mut open: Vec<(usize, String, bool)> = roots
        .iter()
        .enumerate()
        .rev()
        .map(|(place, root)| (*root, String::new(), place == last))
        .collect();
    while let Some((at, before, is_last)) = open.pop() {
        let Some(step) = outline.steps.get(at) else {
            continue;
        };
        let branch = if is_last { "└─ " } else { "├─ " };
        lines.push(Line {
            title: format!("{before}{branch}{}", foreign::excerpt(&step.name, NAME)),
            size: Some(step.size.map(human_size).unwrap_or_default()),
            notes: notes(step, now),
        });
        let below = format!("{before}{}", if is_last { "   " } else { "│  " });
        let steps = children
            .get(&Some(at))
            .map(Vec::as_slice)
            .unwrap_or_default();
        if step.other_ways > 0 {
            let ways = counted(step.other_ways, "more way");
            lines.push(Line::heading(&format!(
                "{below}… {ways} to the same result"
            )));
        }
        let last = steps.len().saturating_sub(1);
        let steps = steps.iter().enumerate().rev();
        open.extend(steps.map(|(place, child)| (*child, below.clone(), place == last)));
    }
}

fn notes(step: &OutlineStep, now: Timestamp) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(age) = age(step.created_at.as_deref(), now) {
        notes.push(age);
    }
    if let Some(age) = age(step.last_used.as_deref(), now) {
        notes.push(format!("used {age}"));
    }
    if let Some(milliseconds) = step.milliseconds {
        notes.push(format!(
            "runs {}.{}s",
            milliseconds / 1000,
            milliseconds % 1000 / 100
        ));
    }
    notes
}

fn age(time: Option<&str>, now: Timestamp) -> Option<String> {
    let time: Timestamp = time?.parse().ok()?;
    let since = Duration::try_from(now.duration_since(time)).unwrap_or_default();
    Some(format!("{} ago", human::duration(since)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(parent: Option<usize>, name: &str, size: u64) -> OutlineStep {
        OutlineStep {
            parent,
            name: name.to_owned(),
            platform: Some("linux/amd64".to_owned()),
            size: Some(size),
            ..OutlineStep::default()
        }
    }

    #[test]
    fn steps_hang_under_each_other() {
        let now: Timestamp = "2026-11-28T12:00:00Z".parse().unwrap();
        let mut outline = Outline {
            steps: vec![
                step(None, "FROM debian@sha256:305d4434", 50_900_000),
                step(Some(0), "[build 2/4] WORKDIR /src", 92),
                step(Some(1), "[build 3/4] RUN npm ci", 214_000_000),
                step(Some(0), "[stage-1 2/2] COPY \u{1b}[2J/out /app", 7),
            ],
            left_out: 2,
        };
        outline.steps[1].created_at = Some("2026-11-28T10:00:00Z".to_owned());
        outline.steps[1].last_used = Some("2026-11-28T11:48:00Z".to_owned());
        outline.steps[2].milliseconds = Some(41_230);
        outline.steps[2].other_ways = 2;
        assert_eq!(
            table(&outline, now),
            "linux/amd64\n\
             └─ FROM debian@sha256:305d4434       50.9MB\n   \
             ├─ [build 2/4] WORKDIR /src       92B       2 hours ago   used 12 minutes ago\n   \
             │  └─ [build 3/4] RUN npm ci      214MB     runs 41.2s\n   \
             │     … 2 more ways to the same result\n   \
             └─ [stage-1 2/2] COPY /out /app   7B\n\
             … 2 steps deeper\n"
        );
    }
}
