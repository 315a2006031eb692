//! `--call`: prints the frontend's answer as buildx does (buildx `printResult`, BuildKit
//! `frontend/subrequests`).

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cli::Context;
use crate::error::{CommandError, ErrorKind};
use crate::options::call::Call;

mod lint;
mod tables;

/// The version of the answers' forms that is known here; newer ones are printed as the frontend's
/// own text.
const VERSION: [u32; 3] = [1, 0, 0];

/// What there is to print, and how the command ends.
#[derive(Debug, Default, PartialEq, Eq)]
struct Printed {
    /// For standard output, with all its new lines.
    text: String,
    /// The exit code.
    code: u8,
    /// An error that ends the command after the text.
    error: Option<String>,
}

/// An answer that cannot be read.
#[derive(Debug, thiserror::Error)]
enum AnswerError {
    /// The answer is no JSON of the form expected.
    #[error("cannot read the frontend's answer to {call:?}")]
    Json {
        /// The call.
        call: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A warning points to a file that is not in the answer.
    #[error("sourceIndex is out of range")]
    Source,
}

/// Prints the answer to a call. `dockerfile` is the Dockerfile's name as the user knows it; empty:
/// the frontend's own.
///
/// # Errors
///
/// Fails if the answer cannot be read, where it holds an error, and with
/// [`ErrorKind::Status`] where its status is to be the exit code.
pub(super) fn print(
    call: &Call,
    answer: &BTreeMap<String, String>,
    dockerfile: &str,
    ctx: &Context,
) -> Result<(), CommandError> {
    let printed = printed(call, answer, dockerfile).map_err(CommandError::failed)?;
    if let Some(text) = printed.text.strip_suffix('\n') {
        ctx.ui.data(text)?;
    } else if !printed.text.is_empty() {
        ctx.ui.data(&printed.text)?;
    }
    match (printed.error, printed.code) {
        (Some(error), _) => Err(refused(&error)),
        (None, 0) => Ok(()),
        (None, code) => Err(CommandError::new(
            ErrorKind::Status(code),
            "the frontend's answer has this status",
        )),
    }
}

/// The excerpt of the source that follows the message of an error stands below it as it is.
fn refused(error: &str) -> CommandError {
    let (message, excerpt) = error.split_once('\n').unwrap_or((error, ""));
    CommandError {
        footer: excerpt.to_owned(),
        ..CommandError::failed(message)
    }
}

fn printed(
    call: &Call,
    answer: &BTreeMap<String, String>,
    dockerfile: &str,
) -> Result<Printed, AnswerError> {
    let mut printed = match call.name.as_str() {
        "outline" => form(call, answer, tables::outline)?,
        "targets" => form(call, answer, tables::targets)?,
        "subrequests.describe" => form(call, answer, tables::describe)?,
        "lint" => lint::printed(call, answer, dockerfile)?,
        _ => Printed {
            text: other(call, answer),
            ..Printed::default()
        },
    };
    if !call.ignore_status
        && let Some(status) = answer.get("result.statuscode")
    {
        // Exit codes are one byte; what does not fit must not become a success.
        printed.code = match status.parse::<i64>() {
            Ok(number) => u8::try_from(number).unwrap_or(1),
            Err(_) => 0,
        };
    }
    Ok(printed)
}

/// The answer as it is in JSON, as the frontend's own text, or in our words.
fn form(
    call: &Call,
    answer: &BTreeMap<String, String>,
    print: impl FnOnce(&str) -> Result<String, serde_json::Error>,
) -> Result<Printed, AnswerError> {
    let text = match given_form(call, answer) {
        Some(text) => text,
        None => print(json(answer)).map_err(|source| AnswerError::Json {
            call: call.name.clone(),
            source,
        })?,
    };
    Ok(Printed {
        text,
        ..Printed::default()
    })
}

/// The form that is printed as the frontend made it, if one is.
fn given_form(call: &Call, answer: &BTreeMap<String, String>) -> Option<String> {
    if call.format.as_deref() == Some("json") {
        return Some(format!("{}\n", json(answer)));
    }
    let text = answer.get("result.txt").filter(|text| !text.is_empty())?;
    let newer = answer.get("version").is_some_and(|v| is_newer(v));
    newer.then(|| text.clone())
}

fn json(answer: &BTreeMap<String, String>) -> &str {
    answer.get("result.json").map_or("", String::as_str)
}

fn is_newer(version: &str) -> bool {
    let mut parts = version.split('.').map(str::parse::<u32>);
    let parts = VERSION.map(|_| match parts.next() {
        Some(Ok(number)) => number,
        _ => 0,
    });
    parts > VERSION
}

/// The answer to a method that is not known here.
fn other(call: &Call, answer: &BTreeMap<String, String>) -> String {
    let result = answer.get("result.json");
    match (result, answer.get("result.txt")) {
        (Some(json), _) if call.format.as_deref() == Some("json") => format!("{json}\n"),
        (_, Some(text)) => text.clone(),
        _ => {
            let pairs = answer
                .iter()
                .map(|(key, value)| (key.clone(), Value::from(value.clone())));
            format!("{} {}\n", call.name, Value::Object(pairs.collect()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::map;

    fn call(value: &str) -> Call {
        Call::parse(value).unwrap().unwrap()
    }

    #[test]
    fn json_is_printed_as_it_came() {
        let answer = map(&[("result.json", "{\n  \"targets\": []\n}")]);
        for name in ["targets", "outline", "lint", "subrequests.describe", "x"] {
            let printed = printed(&call(&format!("{name},format=json")), &answer, "").unwrap();
            assert_eq!(printed.text, "{\n  \"targets\": []\n}\n", "{name}");
        }
    }

    #[test]
    fn newer_answers_are_the_frontends_text() {
        for (version, text) in [
            ("1.0.0", "TARGET DESCRIPTION\n"),
            ("0.9", "TARGET DESCRIPTION\n"),
            ("1.0.1", "new"),
            ("2", "new"),
        ] {
            let answer = map(&[
                ("version", version),
                ("result.json", "{}"),
                ("result.txt", "new"),
            ]);
            let printed = printed(&call("targets"), &answer, "").unwrap();
            assert_eq!(printed.text, text, "{version}");
        }
    }

    #[test]
    fn the_status_is_the_exit_code_unless_ignored() {
        for (status, value, code) in [
            ("3", "x", 3),
            ("0", "x", 0),
            ("3", "x,ignorestatus=true", 0),
            ("256", "x", 1),
            ("-1", "x", 1),
            ("no", "x", 0),
        ] {
            let answer = map(&[("result.txt", "t"), ("result.statuscode", status)]);
            let expected = Printed {
                text: "t".to_owned(),
                code,
                error: None,
            };
            assert_eq!(printed(&call(value), &answer, "").unwrap(), expected);
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for name in ["targets", "outline", "lint", "subrequests.describe"] {
            let answer = map(&[("result.json", "[17")]);
            let error = printed(&call(name), &answer, "").unwrap_err();
            assert!(error.to_string().contains(name), "{name}");
        }
        let unknown = printed(&call("x"), &map(&[("k", "v")]), "").unwrap();
        assert_eq!(unknown.text, "x {\"k\":\"v\"}\n");
    }
}
