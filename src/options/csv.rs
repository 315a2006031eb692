//! Comma-separated fields with the rules of `tonistiigi/go-csvvalue`, and key=value lists of them.
//!
//! One line; a field that starts with `"` runs to its closing quote and has inner quotes doubled;
//! a quote anywhere else is an error. One line break at the end is dropped.

use std::fmt;

use super::boolean::{self, parse_bool};
use super::error::{OptionError, Problem};
use super::secret_keys::SECRET_KEYS;
use super::suggest;

/// One field of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The text, unquoted.
    pub text: String,
    /// The 1-based column, in bytes, where the field starts.
    pub position: usize,
}

/// Splits a line into its fields. An empty line is an error.
pub fn fields(line: &str) -> Result<Vec<Field>, OptionError> {
    let body = line
        .strip_suffix('\n')
        .map_or(line, |rest| rest.strip_suffix('\r').unwrap_or(rest));
    if body.is_empty() {
        return Err(OptionError::new(Problem::Empty {
            expected: "a comma-separated list",
        }));
    }
    let mut fields = Vec::new();
    let mut start = 0;
    loop {
        let rest = body.get(start..).unwrap_or_default();
        let (text, length) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted, start + 1),
            None => plain_field(rest, start),
        }
        .map_err(|error| error.within(line))?;
        fields.push(Field {
            text,
            position: start + 1,
        });
        start += length + 1;
        if start > body.len() {
            return Ok(fields);
        }
    }
}

/// Reads an unquoted field; gives its text and its length in bytes.
fn plain_field(rest: &str, start: usize) -> Result<(String, usize), OptionError> {
    let text = rest.split(',').next().unwrap_or_default();
    match text.find('"') {
        Some(quote) => Err(OptionError::new(Problem::BareQuote).at(start + quote + 1)),
        None => Ok((text.to_owned(), text.len())),
    }
}

/// Reads a field behind its opening quote; gives its text and its length with both quotes.
/// `start` is the offset of the text behind the opening quote.
fn quoted_field(mut rest: &str, start: usize) -> Result<(String, usize), OptionError> {
    let mut text = String::new();
    let mut offset = start;
    loop {
        let Some((part, behind)) = rest.split_once('"') else {
            return Err(OptionError::new(Problem::Quote).at(offset + 1));
        };
        text.push_str(part);
        offset += part.len() + 1;
        if let Some(more) = behind.strip_prefix('"') {
            text.push('"');
            offset += 1;
            rest = more;
        } else if behind.is_empty() || behind.starts_with(',') {
            return Ok((text, offset - start + 1));
        } else {
            return Err(OptionError::new(Problem::Quote).at(offset));
        }
    }
}

/// Writes fields to a line that [`fields`] reads back; quotes only where it must.
#[derive(Debug, Default)]
pub struct Writer {
    line: String,
    written: bool,
}

impl Writer {
    /// Creates an empty line.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one field.
    pub fn field(&mut self, text: &str) {
        if self.written {
            self.line.push(',');
        }
        // A lone empty field must be quoted: an empty line has no fields.
        let must_quote =
            text.contains([',', '"', '\n', '\r']) || (!self.written && text.is_empty());
        self.written = true;
        if must_quote {
            self.line.push('"');
            self.line.push_str(&text.replace('"', "\"\""));
            self.line.push('"');
        } else {
            self.line.push_str(text);
        }
    }

    /// Adds a field `key=value`.
    pub fn pair(&mut self, key: &str, value: &str) {
        self.field(&format!("{key}={value}"));
    }

    /// Returns the line.
    pub fn finish(self) -> String {
        self.line
    }
}

/// One `key=value` field.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key in lower case.
    pub key: String,
    /// The key as written.
    pub raw_key: String,
    /// The value; may be empty.
    pub value: String,
    /// The 1-based column, in bytes, of the field.
    pub position: usize,
}

impl fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = SECRET_KEYS.contains(&self.key.as_str());
        let value = if secret { "…" } else { &self.value };
        write!(f, "{}={value}", self.raw_key)
    }
}

/// A list of `key=value` fields, from which a parser takes what it knows.
#[derive(Clone)]
pub struct KeyValues {
    input: String,
    pairs: Vec<KeyValue>,
}

impl fmt::Debug for KeyValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.pairs).finish()
    }
}

impl KeyValues {
    /// Splits a line; every field must have an `=`. Keys are lower-cased, not trimmed.
    pub fn parse(input: &str) -> Result<Self, OptionError> {
        let pairs = Self::pairs(fields(input)?.into_iter(), input)?;
        let input = input.to_owned();
        Ok(Self { input, pairs })
    }

    fn pairs(
        fields: impl Iterator<Item = Field>,
        input: &str,
    ) -> Result<Vec<KeyValue>, OptionError> {
        let mut pairs = Vec::new();
        for field in fields {
            let Some((key, value)) = field.text.split_once('=') else {
                return Err(OptionError::new(Problem::NotKeyValue { field: field.text })
                    .at(field.position)
                    .within(input));
            };
            pairs.push(KeyValue {
                key: key.to_lowercase(),
                raw_key: key.to_owned(),
                value: value.to_owned(),
                position: field.position,
            });
        }
        Ok(pairs)
    }

    /// Splits a line whose first field is a value by itself; the others are as in [`parse`](Self::parse).
    pub fn parse_after_first(input: &str) -> Result<(String, Self), OptionError> {
        let mut fields = fields(input)?.into_iter();
        let first = fields.next().map(|field| field.text).unwrap_or_default();
        let pairs = Self::pairs(fields, input)?;
        let input = input.to_owned();
        Ok((first, Self { input, pairs }))
    }

    /// Returns whether there is a field of the key.
    pub fn has(&self, key: &str) -> bool {
        self.pairs.iter().any(|pair| pair.key == key)
    }

    /// Returns whether a field of the key has no value.
    pub fn is_empty_at(&self, key: &str) -> bool {
        let mut of_key = self.pairs.iter().filter(|pair| pair.key == key);
        of_key.any(|pair| pair.value.is_empty())
    }

    /// Takes out all fields of the key; gives their values in order.
    pub fn take_all(&mut self, key: &str) -> Vec<String> {
        let mut values = Vec::new();
        self.pairs.retain_mut(|pair| {
            if pair.key == key {
                values.push(std::mem::take(&mut pair.value));
            }
            pair.key != key
        });
        values
    }

    /// Refuses a key that is there twice.
    pub fn refuse_duplicates(self) -> Result<Self, OptionError> {
        for (index, pair) in self.pairs.iter().enumerate() {
            if self
                .pairs
                .iter()
                .take(index)
                .any(|seen| seen.key == pair.key)
            {
                return Err(OptionError::new(Problem::DuplicateKey {
                    key: pair.key.clone(),
                })
                .at(pair.position)
                .within(&self.input));
            }
        }
        Ok(self)
    }

    /// Drops white space around the keys.
    pub fn trim_keys(&mut self) {
        for pair in &mut self.pairs {
            pair.key = pair.key.trim().to_owned();
        }
    }

    /// Takes out all fields of the key; gives the last one's value.
    pub fn take(&mut self, key: &str) -> Option<String> {
        let mut value = None;
        self.pairs.retain_mut(|pair| {
            if pair.key == key {
                value = Some(std::mem::take(&mut pair.value));
            }
            pair.key != key
        });
        value
    }

    /// Takes out all fields of two keys that mean the same; gives the last one's value.
    pub fn take_either(&mut self, key: &str, other: &str) -> Option<String> {
        for pair in &mut self.pairs {
            if pair.key == other {
                key.clone_into(&mut pair.key);
            }
        }
        self.take(key)
    }

    /// Takes a value that must be there and not be empty.
    pub fn take_required(&mut self, key: &'static str) -> Result<String, OptionError> {
        self.take(key)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| self.error(OptionError::new(Problem::MissingKey { key })))
    }

    /// Takes a boolean.
    pub fn take_bool(&mut self, key: &str) -> Result<Option<bool>, OptionError> {
        self.take_with(key, boolean::EXPECTED, parse_bool)
    }

    /// Takes a value that the function reads; `None` from it is an error that names what is expected.
    pub fn take_with<T>(
        &mut self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, OptionError> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        match read(&value) {
            Some(read) => Ok(Some(read)),
            None => Err(self.error(OptionError::bad_value(key, &value, expected))),
        }
    }

    /// Takes a value that is one of several words; the error suggests the nearest word.
    pub fn take_word<T: Copy>(
        &mut self,
        key: &str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, OptionError> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        one_of(key, &value, words)
            .map(Some)
            .map_err(|error| self.error(error))
    }

    /// Adds the whole value to an error.
    pub fn error(&self, error: OptionError) -> OptionError {
        error.within(&self.input)
    }

    /// Returns what has not been taken.
    pub fn rest(self) -> Vec<KeyValue> {
        self.pairs
    }

    /// Ends the parse: a key that nobody took is unknown, the known ones are suggested.
    pub fn finish(self, known: &[&str]) -> Result<(), OptionError> {
        match self.pairs.first() {
            None => Ok(()),
            Some(pair) => Err(OptionError::new(Problem::UnknownKey {
                key: pair.raw_key.clone(),
            })
            .at(pair.position)
            .within(&self.input)
            .suggest(suggest::closest(&pair.key, known))),
        }
    }
}

/// Reads one of several words; the error lists them and suggests the nearest.
pub fn one_of<T: Copy>(key: &str, value: &str, words: &[(&str, T)]) -> Result<T, OptionError> {
    if let Some((_, found)) = words.iter().find(|(word, _)| *word == value) {
        return Ok(*found);
    }
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    Err(OptionError::bad_value(key, value, list_words(&known))
        .suggest(suggest::closest(value, &known)))
}

/// Joins words for a text: `a, b or c`.
fn list_words(words: &[&str]) -> String {
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((last, _)) => (*last).to_owned(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests;
