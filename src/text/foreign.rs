//! Text that others wrote (steps, logs, errors of a builder or registry), made safe to show on a
//! terminal.
//!
//! It can hold escapes that move the cursor, change the title or answer on the terminal's input, and
//! characters that are not seen but turn the direction of what follows or make two names look alike.
//! [`line()`], [`lines`] and [`excerpt`] drop them all; [`log`] keeps colours and carriage returns, and [`json`] writes escapes of its own.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Returns one line: line ends and tabs become blanks.
pub fn line(input: &str) -> Cow<'_, str> {
    if input.chars().all(is_plain) {
        return Cow::Borrowed(input);
    }
    let mut out = String::with_capacity(input.len());
    filter(input, |piece| match piece {
        Piece::Char('\t' | '\n') => out.push(' '),
        Piece::Char(c) if !c.is_control() => out.push(c),
        Piece::Char(_) | Piece::Colour(_) => {}
    });
    Cow::Owned(out)
}

/// Returns the text with its line ends and tabs.
pub fn lines(input: &str) -> Cow<'_, str> {
    let harmless = |c: char| matches!(c, '\n' | '\t') || !c.is_control();
    if input
        .chars()
        .all(|c| matches!(c, '\n' | '\t') || is_plain(c))
    {
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

/// Returns one line of at most `max` characters; `…` stands for what is cut off.
pub fn excerpt(input: &str, max: usize) -> String {
    let line = line(input);
    let mut out: String = line.chars().take(max).collect();
    if line.chars().nth(max).is_some() {
        out.push('…');
    }
    out
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

/// Writes the characters of a JSON document that could steer a terminal or hide something as their escapes: the document
/// stays the same for who parses it.
pub fn json(document: &str) -> String {
    let mut out = String::with_capacity(document.len());
    for c in document.chars() {
        // Outside of strings there are only line breaks and blanks.
        if is_hidden(c) || (c.is_control() && c != '\n') {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// Returns whether a character is never seen on its own, and only changes how others are seen or hides
/// a difference: marks of direction, blanks without width, fillers, tags.
pub fn is_hidden(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'
            | '\u{1160}'
            | '\u{17b4}'
            | '\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Returns whether a character joins its neighbours or chooses their shape, as emoji and several
/// scripts need it. Beside a letter of ASCII it only hides.
fn is_joint(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}')
}

fn is_plain(c: char) -> bool {
    !c.is_control() && !is_hidden(c) && !is_joint(c)
}

enum Piece<'a> {
    Char(char),
    /// A complete SGR sequence, escape included.
    Colour(&'a str),
}

/// Takes a text apart: characters that are seen outside escape sequences, and colour sequences; other
/// escape sequences are passed over.
fn filter<'a>(input: &'a str, mut each: impl FnMut(Piece<'a>)) {
    let mut rest = input;
    let mut before = None;
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
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
            let stands_alone = is_joint(c) && !joins(before, c, rest.chars().next());
            if !is_hidden(c) && !stands_alone {
                each(Piece::Char(c));
                before = Some(c);
            }
        }
    }
}

/// Returns whether a joint stands behind what it can join, and one without a shape before such, too.
fn joins(before: Option<char>, joint: char, after: Option<char>) -> bool {
    let is_letter = |c: char| !c.is_ascii() && !c.is_control() && !is_hidden(c);
    let chooses_shape = matches!(joint, '\u{fe00}'..='\u{fe0f}');
    before.is_some_and(|c| is_letter(c) && (!is_joint(c) || !chooses_shape))
        && (chooses_shape || after.is_some_and(is_letter))
}

/// Returns how many bytes the escape sequence at the start of `input` has. An unfinished one
/// reaches to the end of its line, at most; one with a text of its own has only its two first
/// characters then, so that it hides nothing that follows.
fn escape_length(input: &str) -> usize {
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
                    '\u{1b}' if input.get(i..).is_some_and(|r| r.starts_with("\u{1b}\\")) => {
                        return i + 2;
                    }
                    '\u{1b}' | '\n' => break,
                    _ => {}
                }
            }
            at + kind.len_utf8()
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
    fn a_json_document_is_the_same_without_what_steers() {
        let value = serde_json::json!({"a\u{202e}": "\u{1b}[2J\u{9b}\u{e0001}\u{2028} ok"});
        let shown = json(&format!("{value:#}\n"));
        assert!(
            !shown.contains(|c| is_hidden(c) || (char::is_control(c) && c != '\n')),
            "{shown:?}"
        );
        assert!(
            shown.contains(r"\u202e")
                && shown.contains(r"\u009b")
                && shown.contains(r"\udb40\udc01"),
            "{shown}"
        );
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&shown).unwrap(),
            value
        );
    }

    #[test]
    fn a_line_loses_everything_that_is_not_text() {
        assert_eq!(line("plain"), "plain");
        assert_eq!(line("a\tb\r\nc\u{7}"), "a b c");
        assert_eq!(line("\u{1b}[31mred\u{1b}[0m"), "red");
        assert_eq!(line("\u{1b}]0;title\u{7}x"), "x");
        assert_eq!(line("\u{1b}]0;title\u{1b}\\x"), "x");
        assert_eq!(line("\u{1b}(Bx\u{1b}Mz\u{9b}1Jq"), "xz1Jq");
        assert_eq!(line("tail\u{1b}"), "tail");
        assert_eq!(lines("a\r\n\tb\u{1b}[2J"), "a\n\tb");
    }

    #[test]
    fn a_sequence_without_an_end_hides_nothing() {
        assert_eq!(line("a\u{1b}]0;b: hint"), "a0;b: hint");
        assert_eq!(lines("a\u{1b}Pb\nc\u{7}"), "ab\nc");
    }

    #[test]
    fn what_is_not_seen_is_dropped() {
        assert_eq!(line("user\u{202e}gpj.exe"), "usergpj.exe");
        assert_eq!(
            line("a\u{2066}b\u{2069}c\u{200b}d\u{feff}e\u{ad}f"),
            "abcdef"
        );
        assert_eq!(line("ad\u{200d}min\u{fe0f}\u{200c}"), "admin");
        assert_eq!(lines("a\u{2028}b\u{e0041}"), "ab");
        assert_eq!(log("x\u{202e}y\u{1b}[1mz".as_bytes()), "xy\u{1b}[1mz");
        // Emoji and scripts that need joints keep them.
        for kept in [
            "👩\u{200d}💻",
            "❤\u{fe0f}",
            "❤\u{fe0f}\u{200d}🔥",
            "می\u{200c}خواهم",
        ] {
            assert_eq!(line(kept), kept);
        }
    }

    #[test]
    fn an_excerpt_has_a_bound() {
        assert_eq!(excerpt("a\u{1b}[31mb\nc", 80), "ab c");
        assert_eq!(excerpt("abcdef", 3), "abc…");
        assert_eq!(excerpt("äöü", 3), "äöü");
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
            let steers = |c: char| c.is_control() || is_hidden(c);
            prop_assert!(!line(&input).chars().any(steers));
            let kept = log(&raw);
            let mut rest = kept.as_str();
            while let Some(i) = rest.find('\u{1b}') {
                let sequence = &rest[i..i + escape_length(&rest[i..])];
                prop_assert!(sequence.starts_with("\u{1b}[") && sequence.ends_with('m'), "{kept:?}");
                rest = &rest[i + sequence.len()..];
            }
            let soup = String::from_utf8_lossy(&raw).replace(['a', 'b', 'c'], "\u{1b}");
            prop_assert!(!line(&soup).chars().any(steers));
        }
    }
}
