//! `--format` of the commands that list: a table, JSON lines or a template.

use serde_json::{Value, json};

use super::table;
use super::template::{Template, TemplateError};

/// Go's tabwriter settings of docker's tables.
const MIN_WIDTH: usize = 10;
const PADDING: usize = 3;

/// A parsed `--format`.
#[derive(Debug, Clone, PartialEq)]
pub enum Format {
    /// Rows under headers.
    Table(Template),
    /// One JSON object per row.
    Json,
    /// A line per row.
    Lines(Template),
}

impl Format {
    /// Parses `table`, which is the default template, `table TEMPLATE`, `json` or `TEMPLATE`; `\t` and
    /// `\n` stand for themselves.
    ///
    /// # Errors
    ///
    /// Fails for a template that cannot be parsed.
    pub fn parse(text: &str, default: &str) -> Result<Self, TemplateError> {
        let template = |text: &str| {
            let text = text.trim_matches(' ');
            Template::parse(&text.replace("\\t", "\t").replace("\\n", "\n"))
        };
        match text.strip_prefix("table") {
            Some("") => Ok(Self::Table(template(default)?)),
            Some(rest) => Ok(Self::Table(template(rest)?)),
            None if text == "json" => Ok(Self::Json),
            None => Ok(Self::Lines(template(text)?)),
        }
    }

    /// Returns whether rows stand under headers.
    pub fn is_table(&self) -> bool {
        matches!(self, Self::Table(_))
    }
}

/// Lays out rows that were rendered with the template of a table, under the headers of its fields.
pub fn table(template: &Template, headers: &[(&str, &str)], rows: &str) -> String {
    let headers: Value = headers
        .iter()
        .map(|(field, text)| ((*field).to_owned(), json!(text)))
        .collect();
    let text = format!("{}\n{rows}", template.render_headers(&headers));
    table::columns(&text, MIN_WIDTH, PADDING)
}
