//! Texts as Go writes them between quotes (`strconv.Quote`, `%q`).

use std::fmt::Write as _;
use std::str::Chars;

/// Quotes a text.
pub fn quote(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if c.is_ascii_control() => {
                let _ = write!(quoted, "\\x{:02x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Returns the text of what stands between the quotes; `None` if nothing is written so.
pub fn unquote(quoted: &str) -> Option<String> {
    let mut text = String::new();
    let mut left = quoted.chars();
    while let Some(char) = left.next() {
        text.push(match char {
            '"' => return None,
            '\\' => escaped(&mut left)?,
            char => char,
        });
    }
    Some(text)
}

/// Returns the character that stands behind a backslash.
fn escaped(left: &mut Chars<'_>) -> Option<char> {
    Some(match left.next()? {
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        'x' => coded(left, 2)?,
        'u' => coded(left, 4)?,
        'U' => coded(left, 8)?,
        char @ ('"' | '\\') => char,
        _ => return None,
    })
}

/// Returns the character with the code of so many hexadecimal digits.
fn coded(left: &mut Chars<'_>, digits: usize) -> Option<char> {
    let code: String = left.take(digits).collect();
    let code = u32::from_str_radix(&code, 16).ok()?;
    char::from_u32(code)
}

#[cfg(test)]
mod tests {
    use super::{quote, unquote};

    #[test]
    fn what_go_quotes_is_read() {
        for (quoted, expected) in [
            ("", Some("")),
            ("/root/.npm é", Some("/root/.npm é")),
            (r#"a\"b\\c"#, Some("a\"b\\c")),
            (r"\a\b\f\n\r\t\v", Some("\u{7}\u{8}\u{c}\n\r\t\u{b}")),
            (r"\x7f1\u00a0\U000e0001", Some("\u{7f}1\u{a0}\u{e0001}")),
            ("a\"b", None),
            ("a\\", None),
            (r"\q", None),
            (r"\u00g0", None),
            (r"\u", None),
        ] {
            assert_eq!(unquote(quoted).as_deref(), expected, "{quoted}");
        }
    }

    #[test]
    fn what_is_quoted_is_read_again() {
        let text = "a\"b\\c\n\t\r\u{1}\u{7f}é";
        let quoted = quote(text);
        assert_eq!(quoted, r#""a\"b\\c\n\t\r\x01\x7fé""#);
        assert_eq!(unquote(&quoted[1..quoted.len() - 1]).as_deref(), Some(text));
    }
}
