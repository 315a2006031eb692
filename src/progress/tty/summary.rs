//! The summary below the last picture: `7 steps, 5 cached, 12.4s; cache: sent 31.20MB, received 4.00MB; mounts:
//! sent 1.20MB`.

use unicode_width::UnicodeWidthStr as _;

use super::frame::{Line, Look};
use super::row::cut;
use crate::progress::model::Model;
use crate::progress::time::{self, Time};
use crate::progress::units;
use crate::text::counted;

/// Returns the summary of a build that is over: one line, or two where the screen is too narrow.
pub(super) fn lines(model: &Model, width: usize, now: Time) -> Vec<Line> {
    let (steps, cache) = (steps(model, now), cache(model));
    let texts = match cache {
        Some(cache) if steps.width() + cache.width() + 2 <= width => {
            vec![format!("{steps}; {cache}")]
        }
        Some(cache) => vec![steps, cache],
        None => vec![steps],
    };
    let line = |text: String| Line {
        text: cut(&text, width).to_owned(),
        look: Look::Plain,
    };
    texts.into_iter().map(line).collect()
}

fn steps(model: &Model, now: Time) -> String {
    let counts = model.numbered();
    let took = model.start().map_or(0, |start| now.since(start).max(0));
    let failed = match model.failed().len() {
        0 => String::new(),
        failed => format!(", {failed} failed"),
    };
    format!(
        "{}, {} cached{failed}, {:.1}s",
        counted(counts.total, "step"),
        counts.cached,
        time::seconds(took)
    )
}

/// What is not known is left out.
fn cache(model: &Model) -> Option<String> {
    let traffic = model.traffic();
    let layers = moved("cache", traffic.sent, traffic.received);
    let mounts = moved("mounts", traffic.mounts_sent, traffic.mounts_received);
    let parts: Vec<String> = layers.into_iter().chain(mounts).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn moved(of: &str, sent: Option<u64>, received: Option<u64>) -> Option<String> {
    let sent = sent.map(|bytes| ("sent", bytes));
    let received = received.map(|bytes| ("received", bytes));
    let parts = sent.into_iter().chain(received);
    let parts: Vec<_> = parts
        .map(|(what, bytes)| {
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            format!("{what} {}", units::bytes(bytes))
        })
        .collect();
    (!parts.is_empty()).then(|| format!("{of}: {}", parts.join(", ")))
}
