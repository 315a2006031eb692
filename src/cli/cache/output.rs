//! `--format` of the commands about caches.

use serde::Serialize;

use crate::cli::template::{Template, TemplateError};
use crate::text::foreign;

/// A parsed `--format`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Format {
    /// For people.
    Table,
    /// One JSON document.
    Json,
    /// A template over the JSON document.
    Template(Template),
}

impl Format {
    /// Parses the flag.
    ///
    /// # Errors
    ///
    /// Fails for a template that cannot be parsed.
    pub(super) fn parse(text: &str) -> Result<Self, TemplateError> {
        match text {
            "table" | "" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            text => Template::parse(text).map(Self::Template),
        }
    }

    /// Renders a value; `table` writes it for people.
    ///
    /// # Errors
    ///
    /// Fails if a template names what is not there.
    pub(super) fn render<T: Serialize>(
        &self,
        value: &T,
        table: impl FnOnce() -> String,
    ) -> Result<String, TemplateError> {
        let json = || serde_json::to_value(value).unwrap_or_default();
        match self {
            Self::Table => Ok(table()),
            Self::Json => Ok(foreign::json(&format!("{:#}\n", json()))),
            Self::Template(template) => Ok(template.render_data(&json())? + "\n"),
        }
    }
}
