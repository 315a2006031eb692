//! Makes text from elsewhere (steps, logs, errors of a builder) safe to print on a terminal.
//!
//! A log can hold escapes that move the cursor, change the title or answer on the terminal's
//! input. [`text`] drops every control character; [`log`] keeps colours, tabs, carriage returns
//! and new lines.

use std::borrow::Cow;

/// Drops control characters and escape sequences; a tab becomes a blank.
pub fn text(input: &str) -> Cow<'_, str> {
    if !input.chars().any(char::is_control) {
        return Cow::Borrowed(input);
    }
    let mut out = String::with_capacity(input.len());
    filter(input, |piece| match piece {
        Piece::Char('\t') => out.push(' '),
        Piece::Char(c) if !c.is_control() => out.push(c),
        Piece::Char(_) | Piece::Colour(_) => {}
    });
    Cow::Owned(out)
}

/// Drops control characters and escape sequences, but keeps line breaks; a tab stays.
pub fn lines(input: &str) -> Cow<'_, str> {
    let harmless = |c: char| !c.is_control() || c == '\n' || c == '\t';
    if input.chars().all(harmless) {
        return Cow::Borrowed(input);
    }
    let mut out = String::with_capacity(input.len());
    filter(input, |piece| {
        if let Piece::Char(c) = piece
            && harmless(c)
        {
            out.push(c);
        }
    });
    Cow::Owned(out)
}

/// Keeps text, tabs, line ends and colours (SGR sequences) of a log; drops all else. Bytes that
/// are not UTF-8 become U+FFFD.
pub fn log(input: &[u8]) -> String {
    let input = String::from_utf8_lossy(input);
    let mut out = String::with_capacity(input.len());
    filter(&input, |piece| match piece {
        Piece::Char(c @ ('\t' | '\r' | '\n')) => out.push(c),
        Piece::Char(c) if !c.is_control() => out.push(c),
        Piece::Colour(sequence) => out.push_str(sequence),
        Piece::Char(_) => {}
    });
    out
}

enum Piece<'a> {
    Char(char),
    /// A complete SGR sequence, escape included.
    Colour(&'a str),
}

/// Takes a text apart: characters outside escape sequences, and colour sequences; other escape
/// sequences are passed over.
fn filter<'a>(input: &'a str, mut each: impl FnMut(Piece<'a>)) {
    let mut rest = input;
    while let Some(c) = rest.chars().next() {
        if c == '\u{1b}' {
            let length = escape_length(rest);
            let (sequence, after) = rest.split_at(length);
            if sequence.starts_with("\u{1b}[")
                && sequence.ends_with('m')
                && sequence
                    .get(2..length - 1)
                    .is_some_and(|p| p.bytes().all(|b| matches!(b, b'0'..=b'9' | b';' | b':')))
            {
                each(Piece::Colour(sequence));
            }
            rest = after;
        } else {
            each(Piece::Char(c));
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
        }
    }
}

/// Returns how many bytes the escape sequence at the start of `input` has. An unfinished one
/// reaches to the end of its line, at most.
pub(super) fn escape_length(input: &str) -> usize {
    let mut chars = input.char_indices().skip(1);
    let Some((at, kind)) = chars.next() else {
        return input.len();
    };
    match kind {
        '[' => chars
            .find(|(_, c)| !matches!(c, ' '..='?'))
            .map_or(input.len(), |(i, c)| {
                if matches!(c, '@'..='~') {
                    i + c.len_utf8()
                } else {
                    i
                }
            }),
        // OSC, DCS, SOS, PM, APC: up to BEL or ESC \.
        ']' | 'P' | 'X' | '^' | '_' => {
            for (i, c) in chars {
                match c {
                    '\u{7}' | '\u{9c}' => return i + c.len_utf8(),
                    '\u{1b}' => {
                        return i + if input.get(i..).is_some_and(|r| r.starts_with("\u{1b}\\")) {
                            2
                        } else {
                            0
                        };
                    }
                    '\n' => return i,
                    _ => {}
                }
            }
            input.len()
        }
        // Character sets and the like: intermediate bytes and one final byte.
        ' '..='/' => chars
            .find(|(_, c)| !matches!(c, ' '..='/'))
            .map_or(input.len(), |(i, c)| {
                if c.is_control() { i } else { i + c.len_utf8() }
            }),
        c if c.is_control() => at,
        c => at + c.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_loses_everything_that_is_not_text() {
        assert_eq!(text("plain"), "plain");
        assert_eq!(text("a\tb\r\nc\u{7}"), "a bc");
        assert_eq!(text("\u{1b}[31mred\u{1b}[0m"), "red");
        assert_eq!(text("\u{1b}]0;title\u{7}x"), "x");
        assert_eq!(text("\u{1b}]0;title\u{1b}\\x"), "x");
        assert_eq!(text("\u{1b}(Bx\u{1b}Mz\u{9b}1Jq"), "xz1Jq");
        assert_eq!(text("tail\u{1b}"), "tail");
        assert_eq!(lines("a\r\n\tb\u{1b}[2J"), "a\n\tb");
    }

    #[test]
    fn log_keeps_colours_only() {
        assert_eq!(
            log(b"\x1b[1;32mok\x1b[m \x1b[2J\x1b[10;10H\x1b]8;;http://x\x07l\r"),
            "\u{1b}[1;32mok\u{1b}[m l\r"
        );
        assert_eq!(log(b"\xff\x9b2J"), "\u{fffd}\u{fffd}2J");
        assert_eq!(log(b"\x1b[>4;1mx"), "x");
    }

    proptest! {
        #[test]
        fn no_control_character_survives(input in ".{0,80}", raw in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(!text(&input).chars().any(char::is_control));
            let kept = log(&raw);
            let mut rest = kept.as_str();
            while let Some(i) = rest.find('\u{1b}') {
                let sequence = &rest[i..i + escape_length(&rest[i..])];
                prop_assert!(sequence.starts_with("\u{1b}[") && sequence.ends_with('m'), "{kept:?}");
                rest = &rest[i + sequence.len()..];
            }
            let soup = String::from_utf8_lossy(&raw).replace(['a', 'b', 'c'], "\u{1b}");
            prop_assert!(!text(&soup).chars().any(char::is_control));
        }
    }
}
