//! Build arguments that a Dockerfile declares. A definition does not tell them from other variables.

use std::collections::BTreeSet;

use bollard_buildkit_proto::pb::Definition;

/// Returns the names that the Dockerfiles of a definition declare with `ARG` and do not set with `ENV`.
pub(super) fn arguments(definition: &Definition) -> BTreeSet<String> {
    let mut arguments = BTreeSet::new();
    let mut set = BTreeSet::new();
    let infos = definition.source.iter().flat_map(|source| &source.infos);
    for info in infos {
        let text = String::from_utf8_lossy(&info.data);
        let mut continued = "";
        for line in text.lines().map(str::trim) {
            if line.starts_with('#') || line.is_empty() {
                continue;
            }
            let (word, rest) = match continued {
                "" => line.split_once(char::is_whitespace).unwrap_or((line, "")),
                word => (word, line),
            };
            let names = match () {
                () if word.eq_ignore_ascii_case("ARG") => Some(&mut arguments),
                () if word.eq_ignore_ascii_case("ENV") => Some(&mut set),
                () => None,
            };
            if let Some(names) = names {
                names.extend(rest.split_whitespace().filter_map(name));
            }
            continued = if line.ends_with('\\') { word } else { "" };
        }
    }
    arguments.retain(|name| !set.contains(name));
    arguments
}

/// Returns the name of `NAME` or `NAME=VALUE`.
fn name(word: &str) -> Option<String> {
    let (name, _) = word.split_once('=').unwrap_or((word, ""));
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (!name.is_empty() && name.chars().all(is_name)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use bollard_buildkit_proto::pb::{Source, SourceInfo};

    use super::*;

    #[test]
    fn arguments_are_what_is_declared_and_not_set() {
        let text = "ARG BASE=a\nFROM $BASE\n# ARG NO\narg VERSION=1 \\\n  # x\n  OTHER=\"a b\"\n\
                    ARG SET\nENV SET=$SET A=1\nENV B c\nRUN echo ARG \\\n ARG X=1\n\u{fffd}ARG\nARG \u{1b}[1m=2\n";
        let definition = Definition {
            source: Some(Source {
                infos: vec![SourceInfo {
                    data: text.as_bytes().to_vec(),
                    ..SourceInfo::default()
                }],
                ..Source::default()
            }),
            ..Definition::default()
        };
        let names: Vec<String> = arguments(&definition).into_iter().collect();
        assert_eq!(names, ["BASE", "OTHER", "VERSION"]);
    }
}
