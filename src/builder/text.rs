//! Small text forms of flags: words of a shell line, comma-separated fields, sizes in bytes.

use std::collections::BTreeMap;

use crate::options::size;

/// A flag value of the wrong form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// A shell line ends inside quotes or after a backslash.
    #[error("end of text found {where_}")]
    Unfinished {
        /// Where the text ended.
        where_: &'static str,
    },
    /// A field is quoted wrongly.
    #[error("bad quotes in {text:?}")]
    Quotes {
        /// The whole flag value.
        text: String,
    },
    /// A field has no `=`.
    #[error("invalid value {field:?}, expecting k=v")]
    NoValue {
        /// The field.
        field: String,
    },
    /// A size has a bad number or unit.
    #[error("invalid size: '{text}'")]
    Size {
        /// The text.
        text: String,
    },
}

/// Splits a text into words as a POSIX shell does, without expansions: white space separates, both
/// kinds of quotes and the backslash work, `#` at the start of a word begins a comment.
///
/// # Errors
///
/// Fails for a text that ends inside quotes or after a backslash.
pub fn shell_words(text: &str) -> Result<Vec<String>, TextError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '#' if word.is_none() => {
                chars.by_ref().find(|c| *c == '\n');
            }
            '\\' => word.get_or_insert_default().push(escaped(&mut chars)?),
            '\'' => quoted(&mut chars, '\'', word.get_or_insert_default())?,
            '"' => quoted(&mut chars, '"', word.get_or_insert_default())?,
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn escaped(chars: &mut std::str::Chars<'_>) -> Result<char, TextError> {
    chars.next().ok_or(TextError::Unfinished {
        where_: "after escape character",
    })
}

fn quoted(
    chars: &mut std::str::Chars<'_>,
    quote: char,
    word: &mut String,
) -> Result<(), TextError> {
    while let Some(c) = chars.next() {
        match c {
            c if c == quote => return Ok(()),
            '\\' if quote == '"' => word.push(escaped(chars)?),
            c => word.push(c),
        }
    }
    Err(TextError::Unfinished {
        where_: "when expecting closing quote",
    })
}

/// Splits one line of comma-separated fields. `--driver-opt` has the rules of Go's `encoding/csv`, which
/// differ from those of [`options::csv`](crate::options::csv), `go-csvvalue`. A field that begins with `"` may hold commas, and two
/// quotes inside it are one.
///
/// # Errors
///
/// Fails for a quote in the middle of a bare field, or one that is not closed.
pub fn csv_fields(text: &str) -> Result<Vec<String>, TextError> {
    let bad = || TextError::Quotes {
        text: text.to_owned(),
    };
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        if let Some(inner) = rest.strip_prefix('"') {
            let (field, after) = csv_quoted(inner).ok_or_else(bad)?;
            fields.push(field);
            rest = after;
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            let (field, after) = rest.split_at(end);
            if field.contains('"') {
                return Err(bad());
            }
            fields.push(field.to_owned());
            rest = after;
        }
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.is_empty() => return Ok(fields),
            None => return Err(bad()),
        }
    }
}

fn csv_quoted(inner: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut rest = inner;
    loop {
        let (part, after) = rest.split_once('"')?;
        field.push_str(part);
        match after.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None => return Some((field, after)),
        }
    }
}

/// Reads `key=value` fields from repeated flags, each of which may hold several, separated by
/// commas. A later key wins.
///
/// # Errors
///
/// Fails for a field without `=` or with bad quotes.
pub fn csv_map(texts: &[String]) -> Result<BTreeMap<String, String>, TextError> {
    let mut map = BTreeMap::new();
    for text in texts {
        for field in csv_fields(text)? {
            let (key, value) = field.split_once('=').ok_or_else(|| TextError::NoValue {
                field: field.clone(),
            })?;
            map.insert(key.to_owned(), value.to_owned());
        }
    }
    Ok(map)
}

/// Reads a size in bytes with an optional binary unit: `1024`, `512m`, `1.5GiB`.
///
/// # Errors
///
/// Fails for a text without digits, a negative number, an unknown unit, or more than an `i64` holds.
pub fn bytes(text: &str) -> Result<i64, TextError> {
    let bytes = size::ram_in_bytes(text).ok();
    let bytes = bytes.and_then(|bytes| i64::try_from(bytes).ok());
    bytes.ok_or_else(|| TextError::Size {
        text: text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_lines() {
        for (line, words) in [
            ("", vec![]),
            (
                "  --debug   --oci-worker=true ",
                vec!["--debug", "--oci-worker=true"],
            ),
            (
                r#"--a "b c" 'd "e"' f\ g"#,
                vec!["--a", "b c", "d \"e\"", "f g"],
            ),
            (r#"--x="a\"b""#, vec!["--x=a\"b"]),
            ("a # rest\nb#c", vec!["a", "b#c"]),
            ("''", vec![""]),
        ] {
            assert_eq!(shell_words(line).unwrap(), words, "{line:?}");
        }
        for bad in ["'a", "\"a", "a\\", "\"a\\"] {
            assert!(shell_words(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn driver_options() {
        let flags = [
            "\"tolerations=key=foo,value=bar;key=foo2,value=bar2\",replicas=1".to_owned(),
            "namespace=default".to_owned(),
            "env.A=x=y".to_owned(),
            "\"q=say \"\"hi\"\"\"".to_owned(),
        ];
        let map = csv_map(&flags).unwrap();
        assert_eq!(map["tolerations"], "key=foo,value=bar;key=foo2,value=bar2");
        assert_eq!(map["replicas"], "1");
        assert_eq!(map["namespace"], "default");
        assert_eq!(map["env.A"], "x=y");
        assert_eq!(map["q"], "say \"hi\"");
        for bad in ["network", "a=b,c", "\"a=b", "a=\"b\"", "\"a=b\"c"] {
            assert!(csv_map(&[bad.to_owned()]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("32", 32),
            ("32b", 32),
            ("1k", 1024),
            ("1 KiB", 1024),
            ("1.5g", 1_610_612_736),
            ("2GB", 2_147_483_648),
            ("1t", 1_099_511_627_776),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for bad in ["", "g", "-1", "1gg", "1x", "1kbb", "1..2", "1 2 k"] {
            assert!(bytes(bad).is_err(), "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = shell_words(&text);
            let _ = csv_fields(&text);
            let _ = bytes(&text);
        }

        #[test]
        fn quoted_words_come_back(word in "[^']{0,20}") {
            proptest::prop_assert_eq!(shell_words(&format!("'{word}'")), Ok(vec![word]));
        }
    }
}
