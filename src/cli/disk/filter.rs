//! `--filter name=value` of `du` and `prune`, and what BuildKit is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::options::duration;

/// One `--filter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Filter {
    name: String,
    value: String,
}

/// Why filters are refused. The texts are those of buildx.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::cli) enum FilterError {
    /// There is no `=`.
    #[error("bad format of filter (expected name=value)")]
    NoValue,
    /// The old and the new name of one filter.
    #[error("conflicting filters \"until\" and \"unused-for\"")]
    Conflict,
    /// A filter with several values.
    #[error("{name:?} filter expects only one value")]
    Several {
        /// Its name.
        name: String,
    },
    /// The value is not a duration.
    #[error("{name:?} filter expects a duration (e.g., '24h')")]
    Duration {
        /// Its name.
        name: String,
    },
}

/// What BuildKit is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::cli) struct Selection {
    /// Records used within this time stay.
    pub(in crate::cli) keep_duration: Duration,
    /// One expression, whose parts must all be true.
    pub(in crate::cli) expression: String,
}

impl Filter {
    /// Returns whether the flag had an empty value, which filters nothing.
    pub(in crate::cli) fn is_empty(&self) -> bool {
        self.name.is_empty()
    }
}

/// Reads one `--filter`; an empty one is none.
///
/// # Errors
///
/// Fails without a `=`.
pub(in crate::cli) fn parse(text: &str) -> Result<Filter, FilterError> {
    if text.is_empty() {
        return Ok(Filter {
            name: String::new(),
            value: String::new(),
        });
    }
    let (name, value) = text.split_once('=').ok_or(FilterError::NoValue)?;
    Ok(Filter {
        name: name.trim().to_lowercase(),
        value: value.trim().to_owned(),
    })
}

impl Selection {
    /// Puts the filters together.
    ///
    /// # Errors
    ///
    /// Fails for a filter with several values, and for a time that is none.
    pub(in crate::cli) fn new(filters: &[Filter]) -> Result<Self, FilterError> {
        let mut by_name: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for filter in filters.iter().filter(|filter| !filter.is_empty()) {
            by_name
                .entry(&filter.name)
                .or_default()
                .insert(&filter.value);
        }
        let until = match (by_name.remove("until"), by_name.remove("unused-for")) {
            (Some(_), Some(_)) => return Err(FilterError::Conflict),
            (Some(values), None) => Some(("until", values)),
            (None, values) => values.map(|values| ("unused-for", values)),
        };
        let mut selection = Self::default();
        if let Some((name, values)) = until {
            let value = only(name, &values)?;
            selection.keep_duration =
                duration::parse(value).map_err(|_| FilterError::Duration {
                    name: name.to_owned(),
                })?;
        }
        let parts = by_name
            .iter()
            .map(|(name, values)| Ok(expression(name, only(name, values)?)));
        selection.expression = parts.collect::<Result<Vec<_>, _>>()?.join(",");
        Ok(selection)
    }
}

fn only<'a>(name: &str, values: &BTreeSet<&'a str>) -> Result<&'a str, FilterError> {
    match values.first() {
        Some(value) if values.len() == 1 => Ok(value),
        _ => Err(FilterError::Several {
            name: name.to_owned(),
        }),
    }
}

/// `id` finds by the beginning; `!=` and `~=` have lost their `=` to the split, others get `==`.
fn expression(name: &str, value: &str) -> String {
    if name == "id" {
        format!("{name}~={value}")
    } else if name.ends_with(['!', '~']) {
        format!("{name}={value}")
    } else {
        format!("{name}=={value}")
    }
}

/// Adds the filters that the docker configuration has for every prune. Those without `=` are left
/// out, and those that a filter of the command line contradicts (docker `PruneFilters`).
pub(in crate::cli) fn with_configured(given: &[Filter], configured: &[String]) -> Vec<Filter> {
    let mut all = given.to_vec();
    for text in configured {
        let Some((name, value)) = text.split_once('=') else {
            continue;
        };
        let opposite = match name {
            "label" => Some("label!"),
            "label!" => Some("label"),
            _ => None,
        };
        let contradicted = given
            .iter()
            .any(|filter| Some(filter.name.as_str()) == opposite && filter.value == value);
        if !contradicted {
            all.push(Filter {
                name: name.to_owned(),
                value: value.to_owned(),
            });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(texts: &[&str]) -> Result<Selection, FilterError> {
        let filters: Result<Vec<_>, _> = texts.iter().map(|text| parse(text)).collect();
        Selection::new(&filters?)
    }

    #[test]
    fn filters_become_one_expression() {
        for (texts, want) in [
            (&[][..], ""),
            (&[""], ""),
            (&["type=regular"], "type==regular"),
            (&["Type = regular "], "type==regular"),
            (&["type!=regular"], "type!=regular"),
            (&["description~=^foo=bar"], "description~=^foo=bar"),
            (&["id=abc"], "id~=abc"),
            (&["shared=true", "inuse=false"], "inuse==false,shared==true"),
            (&["inuse=false", "inuse=false"], "inuse==false"),
        ] {
            let selection = select(texts).unwrap();
            assert_eq!(selection.expression, want, "{texts:?}");
            assert_eq!(selection.keep_duration, Duration::ZERO);
        }
        for name in ["until", "unused-for"] {
            let selection = select(&[&format!("{name}=24h"), "id=x"]).unwrap();
            assert_eq!(selection.keep_duration, Duration::from_secs(24 * 3600));
            assert_eq!(selection.expression, "id~=x");
        }
    }

    #[test]
    fn what_buildx_refuses_is_refused() {
        for (texts, want) in [
            (&["type"][..], "bad format of filter"),
            (&["until=1h", "unused-for=1h"], "conflicting filters"),
            (
                &["until=1h", "until=2h"],
                "\"until\" filter expects only one value",
            ),
            (&["until=soon"], "\"until\" filter expects a duration"),
            (
                &["type=a", "type=b"],
                "\"type\" filter expects only one value",
            ),
        ] {
            let error = select(texts).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn configured_filters_are_added_unless_contradicted() {
        let given = [parse("label!=keep").unwrap()];
        let configured = ["label=keep", "label=x", "until=1h", "nonsense"].map(str::to_owned);
        let all = with_configured(&given, &configured);
        let all: Vec<String> = all
            .iter()
            .map(|f| format!("{}={}", f.name, f.value))
            .collect();
        assert_eq!(all, ["label!=keep", "label=x", "until=1h"]);
    }
}
