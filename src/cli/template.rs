//! Templates in the form of Go's `text/template`, for `--format`, with the functions that docker adds.
//!
//! What is understood: text, fields (`{{.A.B}}`), variables, pipes, parentheses, literals, comments, trim marks, `if`, `with`
//! and `range` with `else`, and the functions of [`Function`](functions::Function). Anything else of Go's language is refused
//! by name.

use serde_json::Value;

mod functions;
mod parse;
mod print;
mod run;

use self::parse::Node;
use self::run::{Run, Source};

/// A template that cannot be parsed or rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// An action has no end.
    #[error("template parsing error: unclosed action")]
    Unclosed,
    /// `{{if}}` without `{{end}}`, or the reverse.
    #[error("template parsing error: unexpected {what}")]
    Unbalanced {
        /// What is too much or missing.
        what: &'static str,
    },
    /// Something of Go's language that is not understood here.
    #[error("template parsing error: {text:?} is not supported")]
    NotSupported {
        /// The text.
        text: String,
    },
    /// `{{range}}` over something that is neither a list nor a map.
    #[error("template error: range can't iterate over {value}")]
    NoList {
        /// The value.
        value: String,
    },
    /// The data has no such field.
    #[error("template parsing error: there is no field {field}")]
    NoField {
        /// The field.
        field: String,
    },
    /// A variable that nothing has set.
    #[error("template parsing error: undefined variable ${name}")]
    NoVariable {
        /// Its name, without the dollar sign.
        name: String,
    },
    /// A function is given what it cannot work with.
    #[error("template parsing error: {function} {reason}")]
    Arguments {
        /// The function.
        function: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// A parsed template.
#[derive(Debug, Clone, PartialEq)]
pub struct Template(Vec<Node>);

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    ///
    /// Fails for an open action or branch, and by name for what is not understood.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        parse::parse(text).map(Self)
    }

    /// Renders the template with plain data.
    ///
    /// # Errors
    ///
    /// Fails for a field that is not there, and where a function cannot work with its arguments.
    pub fn render_data(&self, data: &Value) -> Result<String, TemplateError> {
        let mut run = Run::new(Source::Data(data));
        run.nodes(&self.0)?;
        Ok(run.out)
    }

    /// Renders the template with the fields of one row of docker's lists; `{{.}}` and `{{json .}}` show `whole`.
    ///
    /// # Errors
    ///
    /// Fails as [`render_data`](Self::render_data).
    pub fn render(&self, fields: &Value, whole: &Value) -> Result<String, TemplateError> {
        let mut run = Run::new(Source::Row { fields, whole });
        run.nodes(&self.0)?;
        Ok(run.out)
    }

    /// Renders the line of column headers: the functions that would change a header leave it as it is, and a field without
    /// one is `<no value>`. As in docker the line ends where something is wrong.
    pub fn render_headers(&self, headers: &Value) -> String {
        let mut run = Run::new(Source::Headers(headers));
        drop(run.nodes(&self.0));
        run.out
    }
}

#[cfg(test)]
mod tests;
