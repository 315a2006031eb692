//! `--call`: what the frontend is asked for, instead of a build.

use super::boolean::{EXPECTED, parse_bool};
use super::csv;
use super::error::{OptionError, Problem};
use super::suggest;

/// A request to the frontend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The method: `lint` (which `check` is another word for), `outline`, `targets`, or any other
    /// that a frontend may have.
    pub name: String,
    /// The format of the answer, where given.
    pub format: Option<String>,
    /// Whether the answer's status does not become the exit code.
    pub ignore_status: bool,
}

impl Call {
    /// Parses `NAME[,format=FORMAT][,ignorestatus=BOOL]`. `None` for an empty value and for `build`.
    pub fn parse(value: &str) -> Result<Option<Self>, OptionError> {
        if value.is_empty() {
            return Ok(None);
        }
        let mut call = Self {
            name: String::new(),
            format: None,
            ignore_status: false,
        };
        for field in csv::fields(value)? {
            match field.text.split_once('=') {
                None if call.name.is_empty() => call.name = field.text,
                None => {
                    let text = format!("second method {:?}", field.text);
                    return Err(OptionError::other(text).at(field.position).within(value));
                }
                Some(("format", format)) => call.format = Some(format.to_owned()),
                Some(("ignorestatus", on)) => {
                    call.ignore_status = parse_bool(on).ok_or_else(|| {
                        OptionError::bad_value("ignorestatus", on, EXPECTED).within(value)
                    })?;
                }
                Some((key, _)) => {
                    return Err(OptionError::new(Problem::UnknownKey {
                        key: key.to_owned(),
                    })
                    .at(field.position)
                    .within(value)
                    .suggest(suggest::closest(key, &["format", "ignorestatus"])));
                }
            }
        }
        match call.name.as_str() {
            "build" => return Ok(None),
            "check" => "lint".clone_into(&mut call.name),
            _ => {}
        }
        Ok(Some(call))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let call = |name: &str, format: Option<&str>, ignore_status| {
            Some(Call {
                name: name.to_owned(),
                format: format.map(str::to_owned),
                ignore_status,
            })
        };
        for (value, expected) in [
            ("", None),
            ("build", None),
            ("check", call("lint", None, false)),
            ("lint", call("lint", None, false)),
            ("outline,format=json", call("outline", Some("json"), false)),
            (
                "format=json,targets,ignorestatus=1",
                call("targets", Some("json"), true),
            ),
            ("format=json", call("", Some("json"), false)),
        ] {
            assert_eq!(Call::parse(value).unwrap(), expected, "{value}");
        }
    }

    #[test]
    fn errors() {
        for (value, text) in [
            (
                "check,outline",
                r#"second method "outline" in "check,outline""#,
            ),
            (
                "check,fromat=x",
                r#"unknown key "fromat" in "check,fromat=x", did you mean "format"?"#,
            ),
            (
                "check,ignorestatus=x",
                r#"invalid value "x" for "ignorestatus", expected true or false in "check,ignorestatus=x""#,
            ),
        ] {
            assert_eq!(Call::parse(value).unwrap_err().to_string(), text);
        }
    }
}
