//! The one error type of option values. It knows nothing of flags: the caller puts the flag's name
//! in front.

use std::fmt;

use super::secret_keys;
use crate::reference::ReferenceError;

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The value, or a field of it, is empty.
    #[error("empty value, expected {expected}")]
    Empty {
        /// What belongs there.
        expected: &'static str,
    },
    /// A quote is inside a field that does not start with one.
    #[error("quote inside an unquoted field (quote the whole field and double inner quotes)")]
    BareQuote,
    /// A quoted field does not end, or goes on behind its closing quote.
    #[error("quoted field that is not closed, or text behind its closing quote")]
    Quote,
    /// A field has no `=`.
    #[error("{field:?} is not of the form key=value")]
    NotKeyValue {
        /// The text of the field.
        field: String,
    },
    /// A key is not known here.
    #[error("unknown key {key:?}")]
    UnknownKey {
        /// The key as written.
        key: String,
    },
    /// A key is there twice.
    #[error("key {key:?} is given more than once")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A key that must be there is missing.
    #[error("key {key:?} is required")]
    MissingKey {
        /// The key.
        key: &'static str,
    },
    /// The value of a key is wrong.
    #[error("invalid value {value:?} for {key:?}, expected {expected}")]
    BadValue {
        /// The key, or what the value is (for example `size`).
        key: String,
        /// The value as written.
        value: String,
        /// What would be right.
        expected: String,
    },
    /// A reference is wrong.
    #[error("{0}")]
    Reference(ReferenceError),
    /// Parts that are right on their own do not go together, or anything else.
    #[error("{0}")]
    Other(String),
}

/// A wrong option value: what is wrong, in which value, where, and what may have been meant.
///
/// Displays for example as `unknown key "mod" in "type=registry,mod=max", did you mean "mode"?`.
/// Values of keys that hold credentials (see [`secret_keys::SECRET_KEYS`]) are never part of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionError {
    /// What is wrong.
    pub problem: Box<Problem>,
    /// The whole value of the flag, credentials masked.
    pub value: Option<String>,
    /// The 1-based column, in bytes, of the field or character that is wrong.
    pub position: Option<usize>,
    /// What may have been meant.
    pub suggestion: Option<String>,
}

impl OptionError {
    /// Creates an error without a place.
    pub fn new(problem: Problem) -> Self {
        Self {
            problem: Box::new(problem),
            value: None,
            position: None,
            suggestion: None,
        }
    }

    /// Creates an error with a text of its own.
    pub fn other(text: impl Into<String>) -> Self {
        Self::new(Problem::Other(text.into()))
    }

    /// Creates an error about a pair without a key, in buildx's words.
    pub fn empty_key(pair: &str) -> Self {
        Self::other(format!("invalid key-value pair {pair:?}: empty key"))
    }

    /// Creates an error about the value of a key.
    pub fn bad_value(key: &str, value: &str, expected: impl Into<String>) -> Self {
        Self::new(Problem::BadValue {
            key: key.to_owned(),
            value: value.to_owned(),
            expected: expected.into(),
        })
    }

    /// Names the whole value in which the problem is; credentials in it are masked.
    #[must_use]
    pub fn within(mut self, value: &str) -> Self {
        if self.value.is_some() {
            return self;
        }
        if secret_keys::has_secret_key(value)
            && let Problem::NotKeyValue { field } = self.problem.as_mut()
        {
            // The field may be the tail of a credential that has a comma in it.
            "…".clone_into(field);
        }
        self.value = Some(secret_keys::mask_secrets(value));
        self
    }

    /// Names the 1-based column, in bytes.
    #[must_use]
    pub fn at(mut self, position: usize) -> Self {
        self.position = Some(position);
        self
    }

    /// Adds what may have been meant.
    #[must_use]
    pub fn suggest(mut self, suggestion: Option<&str>) -> Self {
        self.suggestion = suggestion.map(str::to_owned);
        self
    }

    /// Returns whether the problem's own text already shows the whole value.
    fn shows_value(&self) -> bool {
        match (self.problem.as_ref(), &self.value) {
            (
                Problem::NotKeyValue { field: shown } | Problem::BadValue { value: shown, .. },
                Some(value),
            ) => shown == value,
            (Problem::Reference(error), Some(value)) => {
                error.to_string().contains(&format!("{value:?}"))
            }
            (_, None) => true,
            _ => false,
        }
    }
}

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.problem)?;
        if matches!(
            *self.problem,
            Problem::BareQuote | Problem::Quote | Problem::Empty { .. }
        ) && let Some(position) = self.position
        {
            write!(f, ", at column {position}")?;
        }
        if !self.shows_value()
            && let Some(value) = &self.value
        {
            write!(f, " in {value:?}")?;
        }
        if let Some(suggestion) = &self.suggestion {
            write!(f, ", did you mean {suggestion:?}?")?;
        }
        Ok(())
    }
}

impl std::error::Error for OptionError {}

impl From<ReferenceError> for OptionError {
    fn from(error: ReferenceError) -> Self {
        Self::new(Problem::Reference(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_problem_value_and_suggestion() {
        let error = OptionError::new(Problem::UnknownKey {
            key: "mod".to_owned(),
        })
        .within("type=registry,mod=max")
        .suggest(Some("mode"));
        assert_eq!(
            error.to_string(),
            r#"unknown key "mod" in "type=registry,mod=max", did you mean "mode"?"#
        );
    }

    #[test]
    fn value_is_not_repeated() {
        let error = OptionError::bad_value("size", "12q", "a size").within("12q");
        assert_eq!(
            error.to_string(),
            r#"invalid value "12q" for "size", expected a size"#
        );
    }

    #[test]
    fn credentials_are_masked() {
        let error = OptionError::new(Problem::NotKeyValue {
            field: "tail".to_owned(),
        })
        .within("type=s3,secret_access_key=hunter2,tail");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert!(!error.to_string().contains("tail"), "{error}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}
