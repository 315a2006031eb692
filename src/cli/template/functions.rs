//! The functions of templates: Go's own, and those that docker adds.

use std::cmp::Ordering;

use serde_json::Value;

use super::TemplateError;
use super::print::{self, kind, show};
use crate::text::go_json;

pub(super) use super::print::is_plain_format;

/// More spaces than a line has: a slip must not fill the memory.
const MOST_SPACES: usize = 10_000;

/// A function. `and` and `or` are among them, but are evaluated where their arguments are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    And,
    Compare(Comparison),
    Index,
    Join,
    Json,
    Len,
    Lower,
    Not,
    Or,
    Pad,
    Print,
    Printf,
    Println,
    Slice,
    Split,
    Title,
    Truncate,
    Upper,
}

/// A function that compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

const NAMES: [(&str, Function); 23] = [
    ("and", Function::And),
    ("eq", Function::Compare(Comparison::Eq)),
    ("ge", Function::Compare(Comparison::Ge)),
    ("gt", Function::Compare(Comparison::Gt)),
    ("index", Function::Index),
    ("join", Function::Join),
    ("json", Function::Json),
    ("le", Function::Compare(Comparison::Le)),
    ("len", Function::Len),
    ("lower", Function::Lower),
    ("lt", Function::Compare(Comparison::Lt)),
    ("ne", Function::Compare(Comparison::Ne)),
    ("not", Function::Not),
    ("or", Function::Or),
    ("pad", Function::Pad),
    ("print", Function::Print),
    ("printf", Function::Printf),
    ("println", Function::Println),
    ("slice", Function::Slice),
    ("split", Function::Split),
    ("title", Function::Title),
    ("truncate", Function::Truncate),
    ("upper", Function::Upper),
];

impl Function {
    pub(super) fn named(word: &str) -> Option<Self> {
        let found = NAMES.iter().find(|(name, _)| *name == word);
        found.map(|(_, function)| *function)
    }

    fn name(self) -> &'static str {
        let found = NAMES.iter().find(|(_, function)| *function == self);
        found.map_or("", |(name, _)| name)
    }

    fn fails(self, reason: impl Into<String>) -> TemplateError {
        TemplateError::Arguments {
            function: self.name(),
            reason: reason.into(),
        }
    }

    /// Calls it for the line of headers, which docker's functions that change a text leave as they are; `None` where it
    /// does there what it does elsewhere.
    pub(super) fn call_for_header(self, values: &[Value]) -> Option<Result<Value, TemplateError>> {
        let count = match self {
            Self::Json | Self::Title | Self::Lower | Self::Upper => 1,
            Self::Split | Self::Join | Self::Truncate => 2,
            _ => return None,
        };
        Some(match values {
            [header @ Value::String(_), ..] if values.len() == count => Ok(header.clone()),
            _ => Err(self.fails("has another argument than a header")),
        })
    }

    /// Calls it with values.
    pub(super) fn call(self, values: &[Value]) -> Result<Value, TemplateError> {
        let text = |at: usize| self.text(values, at);
        let value = match self {
            Self::Json => Value::from(go_json::encode_without_html(self.one(values)?)),
            Self::Lower => Value::from(self.only_text(values)?.to_lowercase()),
            Self::Upper => Value::from(self.only_text(values)?.to_uppercase()),
            Self::Title => Value::from(title(self.only_text(values)?)),
            Self::Len => Value::from(self.len(self.one(values)?)?),
            Self::Not => Value::from(!is_true(self.one(values)?)),
            Self::Print => Value::from(print::joined(values)),
            Self::Println => Value::from(print::line(values)),
            Self::Printf => Value::from(print::formatted(text(0)?, &values[1..])),
            Self::Split => {
                self.count(values, 2)?;
                split(text(0)?, text(1)?)
            }
            Self::Join => {
                self.count(values, 2)?;
                self.join(&values[0], text(1)?)?
            }
            Self::Pad => {
                self.count(values, 3)?;
                self.pad(text(0)?, self.number(values, 1)?, self.number(values, 2)?)?
            }
            Self::Truncate => {
                self.count(values, 2)?;
                Value::from(truncate(text(0)?, self.number(values, 1)?))
            }
            Self::Index => self.index(values)?,
            Self::Slice => self.slice(values)?,
            Self::Compare(comparison) => Value::from(self.compare(comparison, values)?),
            // Only with arguments that are evaluated one by one.
            Self::And | Self::Or => return Err(self.fails("has no arguments")),
        };
        Ok(value)
    }

    fn count(self, values: &[Value], count: usize) -> Result<(), TemplateError> {
        if values.len() == count {
            return Ok(());
        }
        let reason = format!("has {} arguments, and takes {count}", values.len());
        Err(self.fails(reason))
    }

    fn one(self, values: &[Value]) -> Result<&Value, TemplateError> {
        self.count(values, 1)?;
        Ok(&values[0])
    }

    fn only_text(self, values: &[Value]) -> Result<&str, TemplateError> {
        self.count(values, 1)?;
        self.text(values, 0)
    }

    fn text(self, values: &[Value], at: usize) -> Result<&str, TemplateError> {
        let value = values.get(at).unwrap_or(&Value::Null);
        value
            .as_str()
            .ok_or_else(|| self.fails(format!("takes a string, not {}", kind(value))))
    }

    fn number(self, values: &[Value], at: usize) -> Result<usize, TemplateError> {
        let value = values.get(at).unwrap_or(&Value::Null);
        let number = value.as_u64().and_then(|number| number.try_into().ok());
        number.ok_or_else(|| self.fails(format!("takes a number, not {}", show(value))))
    }

    fn len(self, value: &Value) -> Result<usize, TemplateError> {
        match value {
            Value::String(text) => Ok(text.len()),
            Value::Array(list) => Ok(list.len()),
            Value::Object(map) => Ok(map.len()),
            other => Err(self.fails(format!("of {}", kind(other)))),
        }
    }

    fn join(self, list: &Value, separator: &str) -> Result<Value, TemplateError> {
        let mut shown: Vec<String> = match list {
            Value::Null => Vec::new(),
            Value::Array(list) => list.iter().map(show).collect(),
            Value::Object(map) => map.values().map(show).collect(),
            other => return Err(self.fails(format!("takes a list, not {}", kind(other)))),
        };
        if list.is_object() {
            shown.sort();
        }
        Ok(Value::from(shown.join(separator)))
    }

    fn pad(self, text: &str, before: usize, behind: usize) -> Result<Value, TemplateError> {
        if before.max(behind) > MOST_SPACES {
            return Err(self.fails(format!("adds at most {MOST_SPACES} spaces")));
        }
        if text.is_empty() {
            return Ok(Value::from(text));
        }
        let spaces = |count| " ".repeat(count);
        Ok(Value::from(format!(
            "{}{text}{}",
            spaces(before),
            spaces(behind)
        )))
    }

    fn index(self, values: &[Value]) -> Result<Value, TemplateError> {
        let (mut value, keys) = values
            .split_first()
            .ok_or_else(|| self.fails("has no arguments"))?;
        for key in keys {
            value = match (value, key) {
                (Value::Array(list), key) => {
                    let at = key.as_u64().and_then(|at| usize::try_from(at).ok());
                    let found = at.and_then(|at| list.get(at));
                    found.ok_or_else(|| self.fails(format!("out of range: {}", show(key))))?
                }
                (Value::Object(map), Value::String(key)) => map.get(key).unwrap_or(&Value::Null),
                (other, _) => return Err(self.fails(format!("of {}", kind(other)))),
            };
        }
        Ok(value.clone())
    }

    fn slice(self, values: &[Value]) -> Result<Value, TemplateError> {
        let value = values.first().unwrap_or(&Value::Null);
        let length = self.len(value)?;
        let from = if values.len() > 1 {
            self.number(values, 1)?
        } else {
            0
        };
        let to = if values.len() > 2 {
            self.number(values, 2)?
        } else {
            length
        };
        let out_of_range = || self.fails(format!("out of range: {from}:{to}"));
        let cut = match value {
            _ if values.len() > 3 => None,
            Value::String(text) => text.get(from..to).map(Value::from),
            Value::Array(list) => list.get(from..to).map(|list| Value::from(list.to_vec())),
            _ => None,
        };
        cut.ok_or_else(out_of_range)
    }

    fn compare(self, comparison: Comparison, values: &[Value]) -> Result<bool, TemplateError> {
        let (first, others) = values
            .split_first()
            .filter(|(_, others)| !others.is_empty())
            .ok_or_else(|| self.fails("has nothing to compare with"))?;
        // Only `eq` takes several.
        if comparison != Comparison::Eq {
            self.count(values, 2)?;
        }
        if matches!(comparison, Comparison::Eq | Comparison::Ne) {
            let is_same_kind = |other: &Value| kind(first) == kind(other);
            if let Some(other) = others.iter().find(|other| !is_same_kind(other)) {
                return Err(self.fails(format!("compares {} with {}", kind(first), kind(other))));
            }
            return Ok(others.contains(first) == (comparison == Comparison::Eq));
        }
        let order = match (first, &others[0]) {
            (Value::String(one), Value::String(two)) => Some(one.cmp(two)),
            (Value::Number(one), Value::Number(two)) => match (one.as_i64(), two.as_i64()) {
                (Some(one), Some(two)) => Some(one.cmp(&two)),
                _ => one.as_f64().partial_cmp(&two.as_f64()),
            },
            _ => None,
        };
        let order = order.ok_or_else(|| self.fails(format!("cannot order {}", kind(first))))?;
        Ok(match comparison {
            Comparison::Lt => order == Ordering::Less,
            Comparison::Le => order != Ordering::Greater,
            Comparison::Gt => order == Ordering::Greater,
            _ => order != Ordering::Less,
        })
    }
}

/// Returns whether a value counts as true: one that is not empty.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(s) => !s.is_empty(),
        Value::Array(a) => !a.is_empty(),
        Value::Object(o) => !o.is_empty(),
    }
}

/// Splits as Go: without a separator into characters.
fn split(text: &str, separator: &str) -> Value {
    if separator.is_empty() {
        return text.chars().map(String::from).collect();
    }
    text.split(separator).collect()
}

/// Cuts a text to a number of bytes; a character is not cut.
fn truncate(text: &str, length: usize) -> &str {
    let mut end = length.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Puts the first letter of every word into upper case, as Go's `strings.Title`.
fn title(text: &str) -> String {
    let mut is_start = true;
    let mut out = String::new();
    for c in text.chars() {
        if is_start {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
        is_start = if c.is_ascii() {
            !c.is_ascii_alphanumeric() && c != '_'
        } else {
            c.is_whitespace()
        };
    }
    out
}
