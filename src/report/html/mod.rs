//! The report as a page: one file that needs nothing from elsewhere, and may load nothing.
//!
//! | file | holds |
//! |---|---|
//! | `timeline` | when the steps ran, in lanes |
//! | `tables` | causes, caches, and the steps |
//! | `style.css`, `script.js` | how it looks, and how the table is sorted |
//!
//! A policy in the page allows its own style and script by their hashes and nothing else, so that even a name that got
//! through unescaped would not run. No element has a style of its own for the same reason.

mod tables;
mod timeline;

use std::borrow::Cow;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::model::{Outcome, Report};
use super::words;
use crate::text::foreign;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// Returns the page.
pub fn render(report: &Report) -> String {
    let title = escaped(&words::title(report)).into_owned();
    let verdict = words::verdict(report);
    let mut out = String::new();
    _ = write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n\
         <title>{title}: {verdict}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n",
        policy()
    );
    let result = match report.result {
        Outcome::Succeeded => "succeeded",
        Outcome::Failed => "failed",
        Outcome::Canceled => "canceled",
    };
    _ = write!(
        out,
        "<header class=\"{result}\">\n<h1>{title}</h1>\n<p id=\"verdict\">{verdict}</p>\n"
    );
    if let Some(error) = &report.error {
        _ = writeln!(out, "<pre id=\"error\">{}</pre>", escaped(error));
    }
    out.push_str("</header>\n<main>\n");
    tables::sums(&mut out, report);
    timeline::draw(&mut out, report);
    tables::causes(&mut out, report);
    tables::caches(&mut out, report);
    tables::steps(&mut out, report);
    footer(&mut out, report);
    _ = write!(out, "<script>{SCRIPT}</script>\n</body>\n</html>\n");
    out
}

/// Returns what the page may do.
fn policy() -> String {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
}

fn footer(out: &mut String, report: &Report) {
    let mut facts = vec![
        format!("builder {} ({})", report.builder, report.driver),
        format!("began {}", report.started),
    ];
    if !report.platforms.is_empty() {
        facts.push(report.platforms.join(", "));
    }
    facts.push(format!("docker-cachex {}", report.version));
    let facts = facts.iter().map(|fact| escaped(fact).into_owned());
    let facts: Vec<String> = facts.collect();
    _ = write!(out, "</main>\n<footer>{}</footer>\n", facts.join(" · "));
    // For programs that read the page. It is no script, and nothing in it ends the element.
    let json = serde_json::to_string(report).unwrap_or_default();
    let json = foreign::json(&json).replace('<', "\\u003c");
    _ = writeln!(
        out,
        "<script type=\"application/json\" id=\"report\">{json}</script>"
    );
}

/// Makes text harmless between tags and in quoted attributes.
fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}
