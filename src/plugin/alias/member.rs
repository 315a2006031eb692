//! One entry of one list in docker's `config.json`, put in and taken out as text, so that every other byte of the file
//! stays: layout, order, fields that nobody here knows, long numbers.

use std::ops::Range;
use std::path::Path;

use serde_json::Value;

/// The list: folders with plugins that docker looks into before all others.
const KEY: &str = "cliPluginsExtraDirs";

/// What a file had in the place of the list before an entry was put in; [`remove`] needs it to put everything back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Before {
    /// There was no file, or nothing in it.
    Nothing,
    /// There was no list.
    NoList,
    /// The list was `null`.
    Null,
    /// There was a list.
    List,
}

/// Why a file is not changed.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// It is no JSON.
    #[error("it is not JSON")]
    Json(#[from] serde_json::Error),
    /// It is no JSON object.
    #[error("it is not a JSON object")]
    NoObject,
    /// The list is something else.
    #[error("{KEY} in it is not a list of texts")]
    NoList,
}

/// Returns the entries of the list.
///
/// # Errors
///
/// Fails if the text is not what docker writes.
pub fn entries(text: &str) -> Result<Vec<String>, MemberError> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let object = Object::read(text)?;
    let Some(value) = object.list.map(|member| &text[member.value]) else {
        return Ok(Vec::new());
    };
    let list: Option<Vec<String>> = serde_json::from_str(value).map_err(|_| MemberError::NoList)?;
    Ok(list.unwrap_or_default())
}

/// Puts an entry at the head of the list, which must not hold it.
///
/// # Errors
///
/// Fails if the text is not what docker writes.
pub fn insert(text: &str, entry: &str) -> Result<(String, Before), MemberError> {
    let entry = Value::from(entry).to_string();
    if text.trim().is_empty() {
        let whole = format!("{{\n\t\"{KEY}\": [\n\t\t{entry}\n\t]\n}}\n");
        return Ok((whole, Before::Nothing));
    }
    entries(text)?;
    let object = Object::read(text)?;
    let Some(list) = object.list else {
        let member = format!("\"{KEY}\": [{entry}]");
        return Ok((at_head(text, object.open + 1, &member), Before::NoList));
    };
    let value = &text[list.value.clone()];
    if value == "null" {
        let changed = replaced(text, list.value, &format!("[{entry}]"));
        return Ok((changed, Before::Null));
    }
    Ok((at_head(text, list.value.start + 1, &entry), Before::List))
}

/// Returns whether two entries name one folder, such as with and without a slash at the end.
pub fn is_same_folder(entry: &str, other: &str) -> bool {
    // Paths are compared part by part.
    Path::new(entry) == Path::new(other)
}

/// Takes the entry out of the list, wherever and however often it stands in it; `None` where nothing of the file is left.
///
/// # Errors
///
/// Fails if the text is not what docker writes.
pub fn remove(text: &str, entry: &str, before: Before) -> Result<Option<String>, MemberError> {
    let mut text = text.to_owned();
    loop {
        let all = entries(&text)?;
        let mut found = (0..all.len()).filter(|at| is_same_folder(&all[*at], entry));
        let Some(at) = found.next() else {
            return Ok(Some(text));
        };
        let is_last = found.next().is_none();
        let rest = remove_one(&text, at, all.len(), before)?;
        match rest {
            Some(rest) if !is_last => text = rest,
            rest => return Ok(rest),
        }
    }
}

/// Takes the entry at a place out of a list of so many.
fn remove_one(
    text: &str,
    at: usize,
    count: usize,
    before: Before,
) -> Result<Option<String>, MemberError> {
    let object = Object::read(text)?;
    let Some(list) = object.list else {
        return Ok(Some(text.to_owned()));
    };
    if count > 1 || before == Before::List {
        let items = Items::read(text, list.value.start);
        return Ok(Some(items.without(text, at)));
    }
    if before == Before::Null {
        return Ok(Some(replaced(text, list.value, "null")));
    }
    let members = Items::read(text, object.open);
    let mut ends = members.ranges.iter().map(|member| member.end);
    let at = ends.position(|end| end == list.value.end);
    let rest = members.without(text, at.unwrap_or_default());
    let nothing_left = Items::read(&rest, Object::read(&rest)?.open)
        .ranges
        .is_empty();
    Ok((before != Before::Nothing || !nothing_left).then_some(rest))
}

/// Puts an item behind an opening bracket, with the space that the next one has before it.
fn at_head(text: &str, open: usize, item: &str) -> String {
    let rest = &text[open..];
    let space = rest.len() - rest.trim_start().len();
    if rest[space..].starts_with(['}', ']']) {
        return format!("{}{item}{rest}", &text[..open]);
    }
    format!("{}{}{item},{rest}", &text[..open], &rest[..space])
}

fn replaced(text: &str, range: Range<usize>, by: &str) -> String {
    format!("{}{by}{}", &text[..range.start], &text[range.end..])
}

/// A member of an object, as a place in its text.
struct Member {
    value: Range<usize>,
}

/// The outermost object of a text that is known to be JSON.
struct Object {
    /// Where its bracket is.
    open: usize,
    list: Option<Member>,
}

impl Object {
    fn read(text: &str) -> Result<Self, MemberError> {
        let json = text.strip_prefix('\u{feff}').unwrap_or(text);
        let value: Value = serde_json::from_str(json)?;
        if !value.is_object() {
            return Err(MemberError::NoObject);
        }
        let open = text.find('{').ok_or(MemberError::NoObject)?;
        let items = Items::read(text, open).ranges.into_iter();
        // Of members with one name, whatever its letter case, the last counts in Go.
        let list = items.rev().find_map(|item| {
            let (name, value) = split_member(text, item);
            let name: String = serde_json::from_str(&text[name]).unwrap_or_default();
            name.eq_ignore_ascii_case(KEY).then_some(Member { value })
        });
        Ok(Self { open, list })
    }
}

/// Splits `"name" : value` into both.
fn split_member(text: &str, item: Range<usize>) -> (Range<usize>, Range<usize>) {
    let name = item.start..string_end(text, item.start);
    let colon = name.end + text[name.end..item.end].find(':').unwrap_or_default();
    let rest = &text[colon + 1..item.end];
    let start = item.end - rest.trim_start().len();
    (name, start..item.end)
}

/// What stands between a pair of brackets, item by item, without the space around it.
struct Items {
    open: usize,
    ranges: Vec<Range<usize>>,
    commas: Vec<usize>,
}

impl Items {
    /// Reads them behind the bracket at `open`. The text is known to be JSON.
    fn read(text: &str, open: usize) -> Self {
        let (mut items, mut commas) = (Vec::new(), Vec::new());
        let (mut depth, mut start, mut at) = (0_usize, open + 1, open);
        while let Some(byte) = text.as_bytes().get(at) {
            match byte {
                b'"' => {
                    at = string_end(text, at);
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            let ends = depth == 0;
            if ends || (depth == 1 && *byte == b',') {
                let item = trimmed(text, start..at);
                if !item.is_empty() {
                    items.push(item);
                }
                if ends {
                    break;
                }
                commas.push(at);
                start = at + 1;
            }
            at += 1;
        }
        Self {
            open,
            ranges: items,
            commas,
        }
    }

    /// Returns the text without an item: a first one goes with the comma and the space before it, as it was put in,
    /// another with the comma before it.
    fn without(&self, text: &str, at: usize) -> String {
        let Some(item) = self.ranges.get(at) else {
            return text.to_owned();
        };
        let range = match (at, self.commas.first()) {
            (0, Some(comma)) => self.open + 1..comma + 1,
            (0, None) => item.clone(),
            (_, _) => self.commas[at - 1]..item.end,
        };
        replaced(text, range, "")
    }
}

fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let part = &text[range.clone()];
    let start = range.end - part.trim_start().len();
    start..start + part.trim().len()
}

/// Returns the end of the string literal that begins at `start`.
fn string_end(text: &str, start: usize) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(start + 1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests;
