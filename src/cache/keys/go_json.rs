//! JSON as Go's `encoding/json` writes it: BuildKit's keys are digests of such texts.
//!
//! Fields stand in the order of the Go struct; fields of the kind `omitempty` are left out where they
//! are empty; `<`, `>`, `&` and the two Unicode line separators are escaped.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::text::go_json;

/// An object that is written field by field. Every method but [`Object::raw`] leaves out an empty
/// value.
#[derive(Debug)]
pub(super) struct Object {
    text: String,
}

impl Object {
    pub(super) fn new() -> Self {
        Self { text: "{".into() }
    }

    /// Adds a value that is JSON already, whatever it is.
    pub(super) fn raw(mut self, name: &str, value: &str) -> Self {
        if self.text.len() > 1 {
            self.text.push(',');
        }
        self.text.push('"');
        self.text.push_str(name);
        self.text.push_str("\":");
        self.text.push_str(value);
        self
    }

    /// Adds what a pointer of Go points to.
    pub(super) fn maybe(self, name: &str, value: Option<String>) -> Self {
        match value {
            Some(value) => self.raw(name, &value),
            None => self,
        }
    }

    pub(super) fn text(self, name: &str, value: &str) -> Self {
        self.maybe(name, (!value.is_empty()).then(|| quote(value)))
    }

    pub(super) fn number(self, name: &str, value: impl Into<i64>) -> Self {
        let value = value.into();
        self.maybe(name, (value != 0).then(|| value.to_string()))
    }

    pub(super) fn flag(self, name: &str, value: bool) -> Self {
        self.maybe(name, value.then(|| "true".to_owned()))
    }

    pub(super) fn bytes(self, name: &str, value: &[u8]) -> Self {
        self.maybe(name, (!value.is_empty()).then(|| base64(value)))
    }

    pub(super) fn list(self, name: &str, values: &[String]) -> Self {
        self.maybe(name, (!values.is_empty()).then(|| array(values)))
    }

    pub(super) fn texts(self, name: &str, values: &[String]) -> Self {
        let values: Vec<String> = values.iter().map(|value| quote(value)).collect();
        self.list(name, &values)
    }

    pub(super) fn end(mut self) -> String {
        self.text.push('}');
        self.text
    }
}

/// Returns the array of values that are JSON already.
pub(super) fn array(values: &[String]) -> String {
    format!("[{}]", values.join(","))
}

/// Returns bytes as Go writes them.
pub(super) fn base64(bytes: &[u8]) -> String {
    format!("\"{}\"", STANDARD.encode(bytes))
}

/// Returns a text in quotes.
pub(super) fn quote(text: &str) -> String {
    go_json::encode(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn empty_fields_are_left_out() {
        let object = Object::new()
            .text("a", "")
            .number("b", 0)
            .flag("c", false)
            .list("d", &[])
            .bytes("e", b"")
            .maybe("f", None);
        assert_eq!(object.end(), "{}");
        let object = Object::new()
            .text("a", "x")
            .number("b", -1)
            .flag("c", true)
            .texts("d", &["<".to_owned()])
            .bytes("e", b"hello\n")
            .raw("f", "0");
        assert_eq!(
            object.end(),
            r#"{"a":"x","b":-1,"c":true,"d":["\u003c"],"e":"aGVsbG8K","f":0}"#
        );
    }

    #[test]
    fn texts_are_escaped_as_go_does() {
        assert_eq!(
            quote("a\u{1}\u{8}\u{c}\n\r\t\"\\/<>&\u{2028}\u{2029}ü\u{7f}"),
            "\"a\\u0001\\b\\f\\n\\r\\t\\\"\\\\/\\u003c\\u003e\\u0026\\u2028\\u2029ü\u{7f}\""
        );
    }

    proptest! {
        #[test]
        fn a_quoted_text_is_json_of_the_same_text(text in any::<String>()) {
            let read: String = serde_json::from_str(&quote(&text)).unwrap();
            prop_assert_eq!(read, text);
        }
    }
}
