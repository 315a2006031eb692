//! A text that must never be shown.

use std::fmt;

use serde::{Deserialize, Deserializer};
use zeroize::Zeroize as _;

/// A password or token: redacted in `Debug`, without `Display`, wiped from memory when dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a text as a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text itself; for the place where it goes on the wire, never for messages.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns whether the secret is the empty text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        Ok(Self(text.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_the_text() {
        let shown = format!("{:?}", Some(Secret::new("hunter2")));
        assert_eq!(shown, "Some([redacted])");
    }

    #[test]
    fn deserializes_text_and_null() {
        let secrets: Vec<Secret> = serde_json::from_str(r#"["a", null]"#).unwrap();
        assert_eq!(secrets[0].expose(), "a");
        assert!(secrets[1].is_empty());
    }
}
