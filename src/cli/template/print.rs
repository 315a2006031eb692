//! Values as Go's `fmt` prints them.

use std::fmt::Write as _;

use serde_json::Value;

use crate::text::go_quote;

/// Shows a value as Go prints it: a list is `[a b]`, a map `map[k:v]`, its keys in order.
pub(super) fn show(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        other => inner(other),
    }
}

fn inner(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(inner).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let mut keys: Vec<_> = map.iter().collect();
            keys.sort_by_key(|(key, _)| *key);
            let items = keys
                .iter()
                .map(|(key, value)| format!("{key}:{}", inner(value)));
            format!("map[{}]", items.collect::<Vec<_>>().join(" "))
        }
        other => other.to_string(),
    }
}

/// Joins values as Go's `Sprint`: a space between two of which neither is a text.
pub(super) fn joined(values: &[Value]) -> String {
    let mut out = String::new();
    for (at, value) in values.iter().enumerate() {
        let is_apart = at > 0 && !value.is_string() && !values[at - 1].is_string();
        if is_apart {
            out.push(' ');
        }
        out.push_str(&inner(value));
    }
    out
}

/// Joins values as Go's `Sprintln`.
pub(super) fn line(values: &[Value]) -> String {
    let shown: Vec<String> = values.iter().map(inner).collect();
    shown.join(" ") + "\n"
}

/// A part of a format of `printf`.
enum Piece<'a> {
    Text(&'a str),
    Verb(Verb),
}

#[derive(Clone, Copy)]
struct Verb {
    is_left: bool,
    has_zeros: bool,
    width: usize,
    letter: char,
}

/// Returns whether a format has only the verbs `%s`, `%v`, `%d`, `%q`, `%t` and `%%`, with a width perhaps.
pub(super) fn is_plain_format(format: &str) -> bool {
    pieces(format).is_some()
}

/// Formats values as Go's `Sprintf`.
pub(super) fn formatted(format: &str, values: &[Value]) -> String {
    let mut out = String::new();
    let mut left = values.iter();
    for piece in pieces(format).unwrap_or_default() {
        let verb = match piece {
            Piece::Text(text) => {
                out.push_str(text);
                continue;
            }
            Piece::Verb(verb) => verb,
        };
        let text = match left.next() {
            Some(value) => verb.show(value),
            None => format!("%!{}(MISSING)", verb.letter),
        };
        out.push_str(&verb.padded(&text));
    }
    let extra: Vec<String> = left
        .map(|value| format!("{}={}", kind(value), inner(value)))
        .collect();
    if !extra.is_empty() {
        let _ = write!(out, "%!(EXTRA {})", extra.join(", "));
    }
    out
}

impl Verb {
    fn show(self, value: &Value) -> String {
        let fits = match self.letter {
            'v' => true,
            's' => !value.is_number() && !value.is_boolean(),
            'd' => value.is_i64() || value.is_u64(),
            't' => value.is_boolean(),
            _ => value.is_string(),
        };
        match value {
            _ if !fits => format!("%!{}({}={})", self.letter, kind(value), inner(value)),
            Value::String(text) if self.letter == 'q' => go_quote::quote(text),
            other => inner(other),
        }
    }

    fn padded(self, text: &str) -> String {
        let missing = self.width.saturating_sub(text.chars().count());
        match (self.is_left, self.has_zeros) {
            (true, _) => format!("{text}{}", " ".repeat(missing)),
            (false, true) => match text.strip_prefix('-') {
                Some(number) => format!("-{}{number}", "0".repeat(missing)),
                None => format!("{}{text}", "0".repeat(missing)),
            },
            (false, false) => format!("{}{text}", " ".repeat(missing)),
        }
    }
}

/// Cuts a format into pieces; `None` where it has something else than these verbs.
fn pieces(format: &str) -> Option<Vec<Piece<'_>>> {
    let mut pieces = Vec::new();
    let mut rest = format;
    while let Some((before, verb)) = rest.split_once('%') {
        pieces.push(Piece::Text(before));
        if let Some(after) = verb.strip_prefix('%') {
            pieces.push(Piece::Text("%"));
            rest = after;
            continue;
        }
        let flags = verb.trim_start_matches(['-', '0']);
        let width = flags.trim_start_matches(|c: char| c.is_ascii_digit());
        let (set, digits) = (
            &verb[..verb.len() - flags.len()],
            &flags[..flags.len() - width.len()],
        );
        let letter = width.chars().next().filter(|c| "svdqt".contains(*c))?;
        let number = if digits.is_empty() {
            Some(0)
        } else {
            digits.parse().ok()
        };
        pieces.push(Piece::Verb(Verb {
            is_left: set.contains('-'),
            has_zeros: set.contains('0'),
            // Far more than a line has.
            width: number.filter(|width| *width <= 1000)?,
            letter,
        }));
        rest = &width[1..];
    }
    pieces.push(Piece::Text(rest));
    Some(pieces)
}

/// The name of a value's kind, as Go calls it.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "[]string",
        Value::Object(_) => "map[string]string",
    }
}
