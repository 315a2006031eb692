//! Names of steps as a record may tell them: frontends put the values of variables into the names, and
//! values never stand in a record. So the text is that of the Dockerfile.

use std::collections::BTreeMap;

use crate::cache::keys::{Vertex, text};

/// Characters of a name that are kept.
const MAX: usize = 200;

/// Returns the part of a name that tells which step it is, such as `[build 4/6]`.
pub fn label(name: &str) -> Option<&str> {
    let end = name.starts_with('[').then(|| name.find(']'))??;
    name.get(..=end)
}

/// A label taken apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Label<'a> {
    /// The platform, which a build for several ones names.
    pub platform: Option<&'a str>,
    /// The stage; empty where the Dockerfile has but one without a name.
    pub stage: &'a str,
    /// The number of the step in its stage.
    pub number: Option<u32>,
}

impl<'a> Label<'a> {
    /// Takes apart what [`label`] returns, such as `[linux/arm64 build 4/6]`, `[build 4/6]`, `[4/6]` or `[internal]`.
    pub fn of(label: &'a str) -> Self {
        let inner = label.trim_start_matches('[').trim_end_matches(']').trim();
        let (before, last) = inner.rsplit_once(' ').unwrap_or(("", inner));
        let number = number(last);
        let rest = if number.is_some() {
            before.trim_end()
        } else {
            inner
        };
        let (first, behind) = rest.split_once(' ').unwrap_or((rest, ""));
        let platform = Some(first).filter(|first| first.contains('/'));
        Self {
            platform,
            stage: if platform.is_some() {
                behind.trim_start()
            } else {
                rest
            },
            number,
        }
    }
}

/// Returns the first of the numbers of `4/6`.
fn number(word: &str) -> Option<u32> {
    let (number, all) = word.split_once('/')?;
    let _all: u32 = all.parse().ok()?;
    number.parse().ok()
}

/// Returns the word of the instruction, such as `RUN`.
pub fn word(name: &str) -> &str {
    let text = label(name).map_or(name, |label| &name[label.len()..]);
    let word = text.split_whitespace().next().unwrap_or_default();
    let is_word = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase());
    if is_word { word } else { "" }
}

/// Returns the name of a step without the values of variables.
pub fn plain(vertex: &Vertex) -> String {
    let name = vertex.name.as_str();
    let label = label(name).unwrap_or_default();
    let internal = label == "[internal]";
    let text = match instruction(vertex) {
        _ if internal => name
            .get(label.len()..)
            .unwrap_or_default()
            .trim()
            .to_owned(),
        Some(text) => text,
        None => word(name).to_owned(),
    };
    let name = format!("{label} {text}");
    let name: String = name.trim().chars().take(MAX).collect();
    name
}

/// Returns the instruction that a step comes from, on one line.
fn instruction(vertex: &Vertex) -> Option<String> {
    let text = text::on_one_line(vertex.text.as_deref()?);
    // One that makes other steps of it, such as ONBUILD, is told by its own word.
    let wanted = word(&vertex.name);
    let (first, rest) = text.split_once(' ').unwrap_or((&text, ""));
    if wanted.is_empty() || !first.eq_ignore_ascii_case(wanted) {
        return None;
    }
    Some(format!("{wanted} {rest}"))
}

/// Returns the values of variables that the name of a step has in its place, as far as they can be told.
pub fn values(vertex: &Vertex) -> BTreeMap<String, String> {
    let told = vertex.name.get(label(&vertex.name).map_or(0, str::len)..);
    let both = instruction(vertex).zip(told);
    both.map_or_else(BTreeMap::new, |(plain, told)| text::values(&plain, told))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_tell_platform_stage_and_number() {
        let name = "[linux/arm64 build 4/6] COPY . .";
        let label = label(name).unwrap();
        assert_eq!(label, "[linux/arm64 build 4/6]");
        assert_eq!(word(name), "COPY");
        assert_eq!(super::label("RUN x"), None);
        assert_eq!(word("[a] <script>"), "");
        assert_eq!(super::label("["), None);
        for (label, platform, stage, number) in [
            (label, Some("linux/arm64"), "build", Some(4)),
            ("[build 4/6]", None, "build", Some(4)),
            ("[linux/amd64 2/4]", Some("linux/amd64"), "", Some(2)),
            ("[2/4]", None, "", Some(2)),
            ("[internal]", None, "internal", None),
            ("[context a b]", None, "context a b", None),
            ("[]", None, "", None),
            ("[", None, "", None),
        ] {
            let expected = Label {
                platform,
                stage,
                number,
            };
            assert_eq!(Label::of(label), expected, "{label}");
        }
    }
}
