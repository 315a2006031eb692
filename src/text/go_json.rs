//! JSON text as Go's `encoding/json` writes it: `<`, `>`, `&` and the line separators U+2028 and U+2029 are escaped.

use std::io;

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

/// What Go escapes and JSON need not.
const SPECIAL: [char; 5] = ['<', '>', '&', '\u{2028}', '\u{2029}'];

/// Escapes characters within texts, and leaves all else to another formatter.
struct Escaping<'a, F> {
    special: &'a [char],
    layout: F,
}

impl<F: Formatter> Formatter for Escaping<'_, F> {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        let mut rest = fragment;
        while let Some(at) = rest.find(self.special) {
            let (plain, special) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let mut chars = special.chars();
            if let Some(c) = chars.next() {
                write!(writer, "\\u{:04x}", u32::from(c))?;
            }
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.layout.begin_array(writer)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.layout.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.layout.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.layout.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.layout.begin_object(writer)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.layout.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.layout.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.layout.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.layout.end_object_value(writer)
    }
}

/// Encodes a value whose encoding cannot fail: plain structs, lists, and maps with text keys.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> String {
    write(value, &SPECIAL, CompactFormatter)
}

/// Encodes such a value over several lines, each level two spaces further in.
pub fn encode_pretty<T: Serialize + ?Sized>(value: &T) -> String {
    write(value, &SPECIAL, PrettyFormatter::new())
}

/// Encodes such a value as Go does where it is asked not to care for HTML.
pub fn encode_without_html<T: Serialize + ?Sized>(value: &T) -> String {
    write(value, &SPECIAL[3..], CompactFormatter)
}

fn write<T: Serialize + ?Sized>(value: &T, special: &[char], layout: impl Formatter) -> String {
    let mut out = Vec::new();
    let formatter = Escaping { special, layout };
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    if value.serialize(&mut serializer).is_err() {
        return "{}".to_owned();
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_characters_are_escaped_as_in_go() {
        let text = "a<b>&\u{2028}\u{2029}\"\\\n\t\u{1}é";
        assert_eq!(
            encode(&text),
            r#""a\u003cb\u003e\u0026\u2028\u2029\"\\\n\t\u0001é""#
        );
        assert_eq!(
            encode_without_html(&text),
            r#""a<b>&\u2028\u2029\"\\\n\t\u0001é""#
        );
    }

    #[test]
    fn lines_are_those_of_go() {
        let value = serde_json::json!({"a<": ["x>", {}], "b": {"c": 1}, "d": []});
        assert_eq!(
            encode_pretty(&value),
            "{\n  \"a\\u003c\": [\n    \"x\\u003e\",\n    {}\n  ],\n  \"b\": {\n    \"c\": 1\n  },\n  \"d\": []\n}"
        );
    }
}
