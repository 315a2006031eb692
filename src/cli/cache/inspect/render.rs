//! The output of `cache inspect` for people: a summary with a table of layers.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;

use crate::cache::inspect::{Inspection, Layer, SignatureRow};
use crate::cli::table::columns;
use crate::options::size::human_size;
use crate::text::foreign;
use crate::text::human;

/// What stands where nothing is known.
const UNKNOWN: &str = "unknown";
/// Hexadecimal digits of a truncated digest.
const SHORT: usize = 12;
/// Characters of a truncated step.
const STEP: usize = 48;
const PADDING: usize = 3;

/// Renders the cache for people: a summary and a table of its layers.
pub(super) fn table(cache: &Inspection, now: Timestamp, truncate: bool) -> String {
    summary(cache, now) + &layers(cache, now, truncate) + &mounts(cache, now)
}

fn summary(cache: &Inspection, now: Timestamp) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a text does not fail.
        let _written = writeln!(text, "{name}:\t{value}");
    };
    line("Name", &cache.name);
    line("Form", cache.form);
    line("MediaType", &cache.media_type);
    line("Digest", cache.digest.as_str());
    line("Manifest", &human_size(cache.manifest_size));
    for config in &cache.configs {
        let size = human_size(config.size);
        line("Config", &format!("{} ({size})", config.digest));
    }
    let platforms: Vec<_> = cache.platforms.iter().map(|p| plain(p)).collect();
    let platforms = platforms.join(", ");
    line(
        "Platforms",
        if platforms.is_empty() {
            UNKNOWN
        } else {
            &platforms
        },
    );
    line("Records", &cache.records.to_string());
    line("Results", &cache.results.to_string());
    line("Layers", &cache.layers.len().to_string());
    line("Total size", &human_size(cache.total_size));
    line("Shared", &human_size(cache.shared_size));
    if cache.unreachable_size > 0 {
        line("Unreachable", &human_size(cache.unreachable_size));
    }
    if let (Some(oldest), Some(newest)) = (&cache.oldest, &cache.newest) {
        let age = |time: &str| age(Some(time), now);
        line("Age", &format!("{} to {}", age(newest), age(oldest)));
    }
    for signature in &cache.signatures {
        line("Signature", &describe(signature, now));
    }
    let mut text = columns(&text, 0, 1);
    for warning in &cache.warnings {
        let _written = writeln!(text, "WARNING: {warning}");
    }
    text
}

/// What a signature says itself; whoever may push can write anything there.
fn describe(signature: &SignatureRow, now: Timestamp) -> String {
    let mut text = match signature.form {
        "manifest" => "in the manifest".to_owned(),
        _ => "an object of its own".to_owned(),
    };
    let key: Option<String> = signature
        .key
        .as_deref()
        .map(|key| key.chars().take(SHORT).collect());
    let parts = [
        ("by the key", &key),
        ("for", &signature.reference),
        ("of commit", &signature.commit),
    ];
    for (what, value) in parts {
        if let Some(value) = value {
            let _written = write!(text, ", {what} {}", plain(value));
        }
    }
    if let Some(time) = &signature.signed_at {
        let _written = write!(text, ", {}", age(Some(time), now));
    }
    text + " (not verified here)"
}

fn layers(cache: &Inspection, now: Timestamp, truncate: bool) -> String {
    if cache.layers.is_empty() {
        return String::new();
    }
    let checked = cache.layers.iter().any(|layer| layer.present.is_some());
    let state = if checked { "\tSTATE" } else { "" };
    let timed = cache
        .layers
        .iter()
        .any(|layer| layer.milliseconds.is_some());
    let runs = if timed { "\tRUNS" } else { "" };
    let mut text = format!("LAYER\tSIZE\tCOMPRESSION\tAGE\tRESULTS{state}{runs}\tSTEP\n");
    for layer in &cache.layers {
        let state = state_of(layer.present);
        let _written = writeln!(
            text,
            "{}\t{}\t{}\t{}\t{}{state}{}\t{}",
            digest(layer, truncate),
            human_size(layer.size),
            layer.compression,
            age(layer.created_at.as_deref(), now),
            layer.results,
            if timed { runs_of(layer) } else { String::new() },
            step(layer, truncate),
        );
    }
    format!("\n{}", trim_lines(&columns(&text, 0, PADDING)))
}

/// A table of the cache mounts.
fn mounts(cache: &Inspection, now: Timestamp) -> String {
    if cache.mounts.is_empty() {
        return String::new();
    }
    let checked = cache.mounts.iter().any(|mount| mount.present.is_some());
    let state = if checked { "\tSTATE" } else { "" };
    let mut text = format!("MOUNT\tKEY\tPLATFORM\tFILES\tSIZE\tSTORED\tAGE{state}\n");
    for mount in &cache.mounts {
        let unknown = || UNKNOWN.to_owned();
        let _written = writeln!(
            text,
            "{}\t{}\t{}\t{}\t{}\t{}\t{}{}",
            plain(&mount.id),
            plain(&mount.key),
            plain(&mount.platform),
            mount.files.map_or_else(unknown, |files| files.to_string()),
            mount.size.map_or_else(unknown, human_size),
            human_size(mount.stored_size),
            age(mount.created_at.as_deref(), now),
            state_of(mount.present),
        );
    }
    format!("\n{}", trim_lines(&columns(&text, 0, PADDING)))
}

/// Whether blobs are there, as a cell; nothing where that was not checked.
fn state_of(present: Option<bool>) -> &'static str {
    match present {
        Some(true) => "\tpresent",
        Some(false) => "\tmissing",
        None => "",
    }
}

/// How long the step of a layer ran, as a cell.
fn runs_of(layer: &Layer) -> String {
    layer.milliseconds.map_or_else(
        || "\t".to_owned(),
        |milliseconds| format!("\t{}.{}s", milliseconds / 1000, milliseconds % 1000 / 100),
    )
}

/// A column that is empty at the end of a line leaves no spaces.
fn trim_lines(text: &str) -> String {
    let lines = text.lines().map(str::trim_end);
    lines.flat_map(|line| [line, "\n"]).collect()
}

fn digest(layer: &Layer, truncate: bool) -> String {
    let digest = &layer.digest;
    match digest.hex().get(..SHORT).filter(|_| truncate) {
        Some(short) => format!("{}:{short}", digest.algorithm()),
        None => digest.to_string(),
    }
}

/// A text on one line. It comes from whoever made the cache: nothing of it may steer the terminal.
fn plain(text: &str) -> String {
    let line = foreign::line(text);
    let words: Vec<&str> = line.split_whitespace().collect();
    words.join(" ")
}

fn step(layer: &Layer, truncate: bool) -> String {
    let step = plain(layer.step.as_deref().unwrap_or_default());
    if !truncate || step.chars().count() <= STEP {
        return step;
    }
    let mut short: String = step.chars().take(STEP - 1).collect();
    short.push('…');
    short
}

fn age(time: Option<&str>, now: Timestamp) -> String {
    let time = time.and_then(|time| time.parse::<Timestamp>().ok());
    time.map_or_else(
        || UNKNOWN.to_owned(),
        |time| {
            let since = Duration::try_from(now.duration_since(time)).unwrap_or_default();
            format!("{} ago", human::duration(since))
        },
    )
}

#[cfg(test)]
mod tests;
