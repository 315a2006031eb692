//! `--check`: the warnings about a Dockerfile and the lines that they are about
//! (BuildKit `subrequests/lint`).

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard_buildkit_proto::pb;
use serde::Deserialize;

use super::{AnswerError, Printed, given_form, json};
use crate::options::call::Call;
use crate::progress::source_error;
use crate::text::foreign;

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Results {
    warnings: Option<Vec<Warning>>,
    sources: Option<Vec<Option<Source>>>,
    build_error: Option<BuildError>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Warning {
    rule_name: String,
    url: String,
    detail: String,
    location: Option<Location>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct BuildError {
    message: String,
    location: Option<Location>,
}

/// Where in the sources; a negative index is nowhere.
#[derive(Default, Clone, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Location {
    source_index: i32,
    ranges: Option<Vec<Range>>,
}

#[derive(Default, Clone, Deserialize)]
#[serde(default)]
struct Range {
    start: Option<Position>,
    end: Option<Position>,
}

#[derive(Default, Clone, Deserialize)]
#[serde(default)]
struct Position {
    line: i32,
}

/// A file; its data is base64.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Source {
    filename: String,
    data: Option<String>,
}

/// Prints the warnings and an end line. A Dockerfile that cannot be built is an error after them.
pub(super) fn printed(
    call: &Call,
    answer: &BTreeMap<String, String>,
    dockerfile: &str,
) -> Result<Printed, AnswerError> {
    let results = match answer.get("result.json") {
        Some(text) => serde_json::from_str(text).map_err(|source| AnswerError::Json {
            call: call.name.clone(),
            source,
        })?,
        None => Results::default(),
    };
    let is_json = call.format.as_deref() == Some("json");
    let count = results.warnings.as_ref().map_or(0, Vec::len);
    let mut text = match count {
        _ if is_json => String::new(),
        0 => String::new(),
        1 => "Check complete, 1 warning has been found!\n".to_owned(),
        _ => format!("Check complete, {count} warnings have been found!\n"),
    };
    match given_form(call, answer) {
        Some(given) => text.push_str(&given),
        None if json(answer).is_empty() => {}
        None => text.push_str(&results.warnings(dockerfile)?),
    }
    let error = results.build_error.as_ref();
    let error = error.map(|error| results.error(error, dockerfile));
    if !is_json {
        match (&error, count) {
            (None, 0) => text.push_str("Check complete, no warnings found.\n"),
            (Some(_), 1..) => text.push('\n'),
            _ => {}
        }
    }
    Ok(Printed {
        text,
        code: 0,
        error,
    })
}

impl Results {
    fn warnings(&self, dockerfile: &str) -> Result<String, AnswerError> {
        let mut list: Vec<&Warning> = self.warnings.iter().flatten().collect();
        for warning in &list {
            if let Some(index) = warning.index() {
                self.source(index).ok_or(AnswerError::Source)?;
            }
        }
        list.sort_by(|a, b| self.order(a, b));
        let mut out = String::new();
        for warning in list {
            let rule = foreign::line(&warning.rule_name);
            // Writing to a string cannot fail.
            let _ = write!(out, "\nWARNING: {rule}");
            if !warning.url.is_empty() {
                let _ = write!(out, " - {}", foreign::line(&warning.url));
            }
            let _ = writeln!(out, "\n{}", foreign::lines(&warning.detail));
            out.push_str(&self.excerpt(warning.location.as_ref(), dockerfile));
        }
        Ok(out)
    }

    fn error(&self, error: &BuildError, dockerfile: &str) -> String {
        let excerpt = self.excerpt(error.location.as_ref(), dockerfile);
        format!("{}\n{excerpt}", foreign::lines(&error.message))
    }

    fn source(&self, index: usize) -> Option<&Source> {
        self.sources.as_ref()?.get(index)?.as_ref()
    }

    /// The lines that a location is about, in the Dockerfile as the user named it.
    fn excerpt(&self, location: Option<&Location>, dockerfile: &str) -> String {
        let text = || {
            let location = location?;
            let source = self.source(location.index()?)?;
            let data = STANDARD.decode(source.data.as_deref()?).ok()?;
            let name = match dockerfile {
                "" => &source.filename,
                name => name,
            };
            source_error::excerpt(name, &data, &location.ranges())
        };
        text().unwrap_or_default()
    }

    /// Warnings without a place come first by their rule, then by file and line.
    fn order(&self, a: &Warning, b: &Warning) -> Ordering {
        let (Some(file_a), Some(file_b)) = (a.index(), b.index()) else {
            let no_file = a.index().is_none() && b.index().is_none();
            let by_rule = a.rule_name.cmp(&b.rule_name);
            return if no_file {
                by_rule
            } else {
                a.index().is_some().cmp(&b.index().is_some())
            };
        };
        let name = |index| self.source(index).map_or("", |s| s.filename.as_str());
        name(file_a)
            .cmp(name(file_b))
            .then_with(|| match (a.line(), b.line()) {
                (None, None) => a.rule_name.cmp(&b.rule_name),
                (line_a, line_b) => line_a.cmp(&line_b),
            })
    }
}

impl Warning {
    fn index(&self) -> Option<usize> {
        self.location.as_ref()?.index()
    }

    fn line(&self) -> Option<i32> {
        let first = self.location.as_ref()?.ranges.as_ref()?.first()?;
        Some(first.start.as_ref().map_or(0, |p| p.line))
    }
}

impl Location {
    fn index(&self) -> Option<usize> {
        usize::try_from(self.source_index).ok()
    }

    fn ranges(&self) -> Vec<pb::Range> {
        let position = |p: &Option<Position>| {
            p.as_ref().map(|p| pb::Position {
                line: p.line,
                character: 0,
            })
        };
        let ranges = self.ranges.iter().flatten();
        ranges
            .map(|r| pb::Range {
                start: position(&r.start),
                end: position(&r.end),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three warnings, the later line first, one without a place; base64 is `FROM a\nMAINTAINER b\n`.
    const THREE: &str = r#"{"warnings":[
        {"ruleName":"Late","detail":"late","location":{"ranges":[{"start":{"line":2},"end":{"line":2}}]}},
        {"ruleName":"Early","url":"https://x","detail":"early","location":{"ranges":[{"start":{"line":1},"end":{"line":1}}]}},
        {"ruleName":"Nowhere","detail":"all","location":{"sourceIndex":-1}}],
        "sources":[{"filename":"Dockerfile","data":"RlJPTSBhCk1BSU5UQUlORVIgYgo="}]}"#;

    fn run(value: &str, json: &str, dockerfile: &str) -> Printed {
        let call = Call::parse(value).unwrap().unwrap();
        let answer = BTreeMap::from([("result.json".to_owned(), json.to_owned())]);
        printed(&call, &answer, dockerfile).unwrap()
    }

    #[test]
    fn warnings_are_sorted_and_show_their_lines() {
        let rule = "--------------------";
        assert_eq!(
            run("check", THREE, "app/Dockerfile").text,
            format!(
                "Check complete, 3 warnings have been found!\n\
                 \nWARNING: Nowhere\nall\n\
                 \nWARNING: Early - https://x\nearly\napp/Dockerfile:1\n{rule}\n   1 | >>> FROM a\n   2 |     MAINTAINER b\n   3 |     \n{rule}\n\
                 \nWARNING: Late\nlate\napp/Dockerfile:2\n{rule}\n   1 |     FROM a\n   2 | >>> MAINTAINER b\n   3 |     \n{rule}\n"
            )
        );
        assert!(run("check", THREE, "").text.contains("\nDockerfile:1\n"));
    }

    #[test]
    fn nothing_to_say_is_said() {
        for json in ["{}", r#"{"warnings":null,"sources":null}"#] {
            let text = run("check", json, "").text;
            assert_eq!(text, "Check complete, no warnings found.\n");
        }
        let call = Call::parse("check").unwrap().unwrap();
        let none = printed(&call, &BTreeMap::new(), "").unwrap();
        assert_eq!(none.text, "Check complete, no warnings found.\n");
    }

    #[test]
    fn a_broken_dockerfile_is_an_error() {
        let json = r#"{"warnings":[],"sources":[{"filename":"D","data":"RlJPTQ=="}],
            "buildError":{"message":"no base","location":{"ranges":[{"start":{"line":1},"end":{"line":1}}]}}}"#;
        let printed = run("check", json, "D");
        assert_eq!(printed.text, "");
        let error = printed.error.unwrap();
        assert!(error.starts_with("no base\nD:1\n"), "{error}");
        let as_json = run("check,format=json", json, "D");
        assert_eq!(as_json.text, format!("{json}\n"));
        assert!(as_json.error.is_some());
    }

    #[test]
    fn a_place_outside_the_sources_is_refused() {
        let json =
            r#"{"warnings":[{"ruleName":"x","location":{"sourceIndex":3}}],"sources":[null]}"#;
        let call = Call::parse("check").unwrap().unwrap();
        for json in [json.to_owned(), json.replace('3', "0")] {
            let answer = BTreeMap::from([("result.json".to_owned(), json)]);
            let error = printed(&call, &answer, "").unwrap_err();
            assert!(matches!(error, AnswerError::Source));
        }
    }
}
