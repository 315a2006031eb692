//! `--attest`, `--provenance` and `--sbom`: statements about the build that go with the image.

use std::collections::BTreeMap;

use super::boolean::{EXPECTED, parse_bool};
use super::csv::{self, Writer};
use super::error::{OptionError, Problem};
use super::suggest;

/// The types that BuildKit knows.
const TYPES: [&str; 2] = ["provenance", "sbom"];

/// What is asked for each type, by type: the attributes as BuildKit's `attest:TYPE` attribute takes
/// them, or `None` if the type is switched off. A type that is not there is not spoken of:
/// buildx then sends a default for `provenance`.
pub type Attests = BTreeMap<String, Option<String>>;

/// One request for an attestation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attest {
    /// `provenance` or `sbom`.
    pub kind: String,
    /// Whether the type is switched off.
    pub disabled: bool,
    /// All other attributes; keys keep their letter case.
    pub attrs: BTreeMap<String, String>,
}

impl Attest {
    /// Parses the value of one `--attest`: `type=TYPE[,disabled=BOOL][,KEY=VALUE]`.
    pub fn parse(value: &str) -> Result<Self, OptionError> {
        let mut kind = None;
        let mut disabled = false;
        let mut attrs = BTreeMap::new();
        for field in csv::fields(value)? {
            let Some((key, text)) = field.text.split_once('=') else {
                return Err(OptionError::new(Problem::NotKeyValue { field: field.text })
                    .at(field.position)
                    .within(value));
            };
            match key.trim().to_lowercase().as_str() {
                "type" => kind = Some(text.to_owned()),
                "disabled" => {
                    disabled = parse_bool(text).ok_or_else(|| {
                        OptionError::bad_value("disabled", text, EXPECTED).within(value)
                    })?;
                }
                _ => {
                    attrs.insert(key.to_owned(), text.to_owned());
                }
            }
        }
        let kind = kind
            .filter(|kind| !kind.is_empty())
            .ok_or_else(|| OptionError::new(Problem::MissingKey { key: "type" }).within(value))?;
        if !TYPES.contains(&kind.to_lowercase().as_str()) {
            return Err(OptionError::bad_value("type", &kind, TYPES.join(" or "))
                .within(value)
                .suggest(suggest::closest(&kind, &TYPES)));
        }
        Ok(Self {
            kind: kind.to_lowercase(),
            disabled,
            attrs,
        })
    }

    /// Parses the value of `--provenance` or `--sbom` (`kind`): a boolean switches the type on or
    /// off, anything else is attributes. `None` for an empty value.
    pub fn parse_shorthand(kind: &str, value: &str) -> Result<Option<Self>, OptionError> {
        if value.is_empty() {
            return Ok(None);
        }
        if let Some(on) = parse_bool(value) {
            return Ok(Some(Self {
                kind: kind.to_owned(),
                disabled: !on,
                attrs: BTreeMap::new(),
            }));
        }
        Self::parse(&format!("type={kind},{value}"))
            .map(Some)
            .map_err(|error| OptionError {
                value: Some(value.to_owned()),
                ..error
            })
    }

    /// Returns the attributes as BuildKit takes them, `type` first, the others in order of their
    /// keys; `None` if the type is switched off.
    pub fn attr(&self) -> Option<String> {
        if self.disabled {
            return None;
        }
        let mut writer = Writer::new();
        writer.pair("type", &self.kind);
        for (key, value) in &self.attrs {
            writer.pair(key, value);
        }
        Some(writer.finish())
    }
}

/// Joins what all flags ask for, `--attest` before `--provenance` and `--sbom`. Of several requests for one type the
/// first counts, as in buildx.
pub fn merge(list: impl IntoIterator<Item = Attest>) -> Attests {
    let mut merged = Attests::new();
    for attest in list {
        merged
            .entry(attest.kind.clone())
            .or_insert_with(|| attest.attr());
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attests(entries: &[(&str, Option<&str>)]) -> Attests {
        entries
            .iter()
            .map(|(kind, attr)| ((*kind).to_owned(), attr.map(str::to_owned)))
            .collect()
    }

    #[test]
    fn shorthands_and_flags_are_joined() {
        type Case<'a> = (
            &'a [&'a str],
            Option<&'a str>,
            Option<&'a str>,
            &'a [(&'a str, Option<&'a str>)],
        );
        let cases: &[Case<'_>] = &[
            (&[], None, None, &[]),
            (&[], Some(""), Some(""), &[]),
            (&[], Some("false"), None, &[("provenance", None)]),
            (
                &[],
                Some("0"),
                Some("true"),
                &[("provenance", None), ("sbom", Some("type=sbom"))],
            ),
            (
                &[],
                Some("true"),
                None,
                &[("provenance", Some("type=provenance"))],
            ),
            (
                &[],
                Some("mode=max"),
                None,
                &[("provenance", Some("type=provenance,mode=max"))],
            ),
            (
                &["type=provenance,mode=min"],
                Some("false"),
                None,
                &[("provenance", Some("type=provenance,mode=min"))],
            ),
            (
                &["type=sbom,disabled=true"],
                None,
                Some("true"),
                &[("sbom", None)],
            ),
            (
                &["type=sbom,disabled=false,generator=g"],
                None,
                None,
                &[("sbom", Some("type=sbom,generator=g"))],
            ),
            (&["type=SBOM"], None, None, &[("sbom", Some("type=sbom"))]),
            (
                &[r#"type=sbom,generator=scan,"FOO=bar,baz",Hello=World"#],
                None,
                None,
                &[(
                    "sbom",
                    Some(r#"type=sbom,"FOO=bar,baz",Hello=World,generator=scan"#),
                )],
            ),
        ];
        for (flags, provenance, sbom, expected) in cases {
            let mut list: Vec<_> = flags.iter().map(|f| Attest::parse(f).unwrap()).collect();
            for (kind, value) in [("provenance", provenance), ("sbom", sbom)] {
                list.extend(Attest::parse_shorthand(kind, value.unwrap_or_default()).unwrap());
            }
            assert_eq!(merge(list), attests(expected), "{flags:?}");
        }
    }

    #[test]
    fn errors() {
        for (value, text) in [
            ("mode=max", r#"key "type" is required in "mode=max""#),
            ("type=", r#"key "type" is required in "type=""#),
            ("sbom", r#""sbom" is not of the form key=value"#),
            (
                "type=sbmo",
                r#"invalid value "sbmo" for "type", expected provenance or sbom in "type=sbmo", did you mean "sbom"?"#,
            ),
            (
                "type=sbom,disabled=no",
                r#"invalid value "no" for "disabled", expected true or false in "type=sbom,disabled=no""#,
            ),
        ] {
            assert_eq!(Attest::parse(value).unwrap_err().to_string(), text);
        }
        let error = Attest::parse_shorthand("provenance", "max").unwrap_err();
        assert_eq!(error.to_string(), r#""max" is not of the form key=value"#);
    }
}
