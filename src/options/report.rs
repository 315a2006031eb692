//! `--report md|json|html[=FILE]`: the forms of a build's report, and where each goes.

use super::OptionError;
use super::suggest::closest;

/// The forms.
const FORMATS: [(&str, Format); 3] = [
    ("md", Format::Md),
    ("json", Format::Json),
    ("html", Format::Html),
];

/// A form of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Markdown, as GitHub shows it.
    Md,
    /// JSON, for programs.
    Json,
    /// A page.
    Html,
}

/// A report that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportTo {
    /// Its form.
    pub format: Format,
    /// The file; `None` is standard output.
    pub file: Option<String>,
}

impl ReportTo {
    /// Reads a form, with or without a file. `-` is standard output.
    ///
    /// # Errors
    ///
    /// Fails for an unknown form and for an empty name of a file.
    pub fn parse(text: &str) -> Result<Self, OptionError> {
        let (word, file) = match text.split_once('=') {
            Some((word, file)) => (word, Some(file)),
            None => (text, None),
        };
        let known = FORMATS.iter().find(|(name, _)| *name == word);
        let Some((name, format)) = known else {
            let words = FORMATS.map(|(name, _)| name);
            let error = OptionError::other(format!("{word:?} is not one of md, json and html"));
            return Err(error.suggest(closest(word, &words)));
        };
        let file = match file {
            Some("") => {
                return Err(OptionError::other(format!("{text:?} names no file")));
            }
            Some("-") => None,
            Some(file) => Some(file.to_owned()),
            None => Some(format!("cachex-report.{name}")),
        };
        Ok(Self {
            format: *format,
            file,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_has_a_file_of_its_own_unless_another_is_named() {
        let parse = |text: &str| {
            let report = ReportTo::parse(text).map_err(|error| error.to_string())?;
            Ok::<_, String>((report.format, report.file.unwrap_or_default()))
        };
        let file = |name: &str| name.to_owned();
        assert_eq!(parse("md"), Ok((Format::Md, file("cachex-report.md"))));
        assert_eq!(
            parse("json"),
            Ok((Format::Json, file("cachex-report.json")))
        );
        assert_eq!(
            parse("html=a/b=c.html"),
            Ok((Format::Html, file("a/b=c.html")))
        );
        assert_eq!(parse("md=-"), Ok((Format::Md, file(""))));
        assert_eq!(parse("md="), Err(file("\"md=\" names no file")));
        assert_eq!(
            parse("htm"),
            Err(file(
                "\"htm\" is not one of md, json and html, did you mean \"html\"?"
            ))
        );
        assert!(parse("").is_err() && parse("MD").is_err());
    }
}
