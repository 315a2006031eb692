//! JSON as Go reads it: docker's and buildx's files, and what credential helpers print.
//!
//! Names of fields are known in any letter case, `null` is the empty value of whatever stands there,
//! base64 may have line breaks, and a byte order mark at the beginning is passed over. Messages name
//! the place and never a value, which may be a secret.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use regex::{Captures, Regex};
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Error as _, IntoDeserializer, Visitor};
use serde::{Deserializer, forward_to_deserialize_any};
use serde_json::{Error, Map, Value};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Parses a text.
///
/// # Errors
///
/// Fails if the text is no JSON, or a value is of another kind than its field.
pub fn from_slice<T: DeserializeOwned>(text: &[u8]) -> Result<T, Error> {
    T::deserialize(Go {
        value: value(text)?,
        place: String::new(),
        mismatch: None,
    })
}

/// Parses a text as Go's decoder leaves it: a value of another kind than its field is passed over.
/// Returns the first such mismatch beside what was read.
///
/// # Errors
///
/// Fails if the text is not JSON.
pub fn from_slice_leniently<T: DeserializeOwned>(text: &[u8]) -> Result<(T, Option<Error>), Error> {
    let mismatch = Rc::default();
    let read = T::deserialize(Go {
        value: value(text)?,
        place: String::new(),
        mismatch: Some(Rc::clone(&mismatch)),
    })?;
    Ok((read, mismatch.take()))
}

/// Parses a text into values, as they are.
///
/// # Errors
///
/// Fails if the text is no JSON.
pub fn value(text: &[u8]) -> Result<Value, Error> {
    // Go replaces what is not UTF-8, and its decoder reads the first value of a file.
    let text = String::from_utf8_lossy(text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text));
    let text = without_lone_surrogates(&text);
    let mut values = serde_json::Deserializer::from_str(&text).into_iter();
    values.next().unwrap_or_else(|| serde_json::from_str(""))
}

/// Replaces escapes of half a character, as Go does.
fn without_lone_surrogates(text: &str) -> Cow<'_, str> {
    // An escaped backslash is no beginning of an escape; a pair is a whole character.
    static ESCAPES: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let pair = r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}";
        let half = r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}";
        Regex::new(&format!(r"\\[^u]|{pair}|({half})")).ok()
    });
    // Nearly every file is without, and every command reads some at its start.
    if ![r"\ud", r"\uD"].iter().any(|escape| text.contains(escape)) {
        return Cow::Borrowed(text);
    }
    let Some(escapes) = &*ESCAPES else {
        return Cow::Borrowed(text);
    };
    escapes.replace_all(text, |found: &Captures<'_>| match found.get(1) {
        Some(_) => r"\ufffd".to_owned(),
        None => found[0].to_owned(),
    })
}

/// Decodes base64, passing over line breaks.
///
/// # Errors
///
/// Fails for anything else that is not base64.
pub fn base64(text: &str) -> Result<Vec<u8>, base64::DecodeError> {
    let breaks = ['\r', '\n'];
    if text.contains(breaks) {
        return STANDARD.decode(zeroize::Zeroizing::new(text.replace(breaks, "")).as_bytes());
    }
    STANDARD.decode(text)
}

/// Gives fields that differ in letter case only from one of these names that name. Of several for one name the
/// last counts, and objects are put together, as Go's decoder does.
pub fn fold_names(map: &mut Map<String, Value>, names: &[&str]) {
    let is_meant = |key: &String| names.iter().any(|name| key.eq_ignore_ascii_case(name));
    if map
        .keys()
        .all(|key| !is_meant(key) || names.contains(&key.as_str()))
    {
        return;
    }
    for (key, value) in std::mem::take(map) {
        let name = names.iter().find(|name| key.eq_ignore_ascii_case(name));
        let name = name.map_or(key, |name| (*name).to_owned());
        match (map.get_mut(&name), value) {
            (Some(Value::Object(earlier)), Value::Object(later)) => earlier.extend(later),
            (Some(_), Value::Null) => {}
            (_, value) => {
                map.insert(name, value);
            }
        }
    }
}

/// A value and its place, such as `.auths.docker.io`.
struct Go {
    value: Value,
    place: String,
    /// The first value of another kind than its field, where such values are passed over.
    mismatch: Option<Rc<RefCell<Option<Error>>>>,
}

impl Go {
    fn other_than(&self, expected: &str) -> Error {
        let found = match self.value {
            Value::Null => "null",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::String(_) => "a text",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        };
        let place = match self.place.as_str() {
            "" => "it",
            place => place,
        };
        Error::custom(format!("{place} is {found}, not {expected}"))
    }

    /// Passes over a value of another kind than its field, if that is allowed.
    fn pass_over(&self, expected: &str) -> Result<(), Error> {
        let error = self.other_than(expected);
        let Some(first) = &self.mismatch else {
            return Err(error);
        };
        first.borrow_mut().get_or_insert(error);
        Ok(())
    }

    fn child(&self, key: impl fmt::Display, value: Value) -> Self {
        Self {
            value,
            place: format!("{}.{key}", self.place),
            mismatch: self.mismatch.clone(),
        }
    }

    /// Returns the entries of an object, named as these fields where they are meant.
    fn entries(mut self, fields: &[&str]) -> Result<Vec<(String, Self)>, Error> {
        match self.value.take() {
            Value::Null => Ok(Vec::new()),
            Value::Object(mut map) => {
                fold_names(&mut map, fields);
                let entry = |(key, value)| (String::clone(&key), self.child(key, value));
                Ok(map.into_iter().map(entry).collect())
            }
            other => {
                self.value = other;
                self.pass_over("an object")?;
                Ok(Vec::new())
            }
        }
    }
}

impl fmt::Debug for Go {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Go({})", self.place)
    }
}

impl IntoDeserializer<'_, Error> for Go {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Go {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.value.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_bool(false),
            Value::Bool(value) => visitor.visit_bool(value),
            _ => {
                self.pass_over("true or false")?;
                visitor.visit_bool(false)
            }
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_str(""),
            Value::String(text) => visitor.visit_string(text),
            _ => {
                self.pass_over("a text")?;
                visitor.visit_str("")
            }
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_string(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let mut list = self;
        let items = match list.value.take() {
            Value::Null => Vec::new(),
            Value::Array(items) => items,
            other => {
                list.value = other;
                list.pass_over("a list")?;
                Vec::new()
            }
        };
        let items = items.into_iter().enumerate();
        let items = items.map(|(index, value)| list.child(index, value));
        visitor.visit_seq(SeqDeserializer::new(items))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(MapDeserializer::new(self.entries(&[])?.into_iter()))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(MapDeserializer::new(self.entries(fields)?.into_iter()))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple
        tuple_struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Inner {
        user_name: String,
        is_new: bool,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Outer {
        entries: BTreeMap<String, Inner>,
        list: Vec<String>,
        maybe: Option<String>,
    }

    fn parse(text: &str) -> Result<Outer, String> {
        from_slice(text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn names_have_any_case_and_null_is_empty() {
        let outer = parse(
            r#"{"ENTRIES":{"A":{"USERNAME":"u","isnew":null},"b":null},"List":null,"maybe":null,"x":1}"#,
        )
        .unwrap();
        assert_eq!(outer.entries["A"].user_name, "u");
        assert_eq!(outer.entries["b"], Inner::default());
        assert!(outer.list.is_empty() && outer.maybe.is_none());
        assert_eq!(parse("null").unwrap(), Outer::default());
        assert_eq!(
            parse("\u{feff}{\"list\":[\"a\",null]}").unwrap().list,
            ["a", ""]
        );
    }

    #[test]
    fn entries_of_one_name_are_put_together() {
        let outer = parse(r#"{"Entries":{"a":{}},"entries":{"b":{}},"maybe":"m","MAYBE":"n"}"#);
        let outer = outer.unwrap();
        assert_eq!(outer.entries.len(), 2);
        assert_eq!(outer.maybe.as_deref(), Some("n"));
        let outer = parse(
            r#"{"entries":{"a":{"userName":"u"}},"ENTRIES":{"a":{"isNew":true}},"maybe":"m","Maybe":null}"#,
        );
        let outer = outer.unwrap();
        // An entry of a map is a new one, not the earlier one with more in it.
        let expected = Inner {
            user_name: String::new(),
            is_new: true,
        };
        assert_eq!(outer.entries["a"], expected);
        assert_eq!(outer.maybe.as_deref(), Some("m"));
    }

    #[test]
    fn what_is_wrong_is_named_without_its_value() {
        for (text, expected) in [
            (
                r#"{"entries":{"a":"hunter2"}}"#,
                ".entries.a is a text, not an object",
            ),
            (
                r#"{"entries":{"a":{"userName":[1]}}}"#,
                ".entries.a.userName is a list, not a text",
            ),
            (r#"{"list":["a",7]}"#, ".list.1 is a number, not a text"),
            ("[]", "it is a list, not an object"),
        ] {
            assert_eq!(parse(text).unwrap_err(), expected);
        }
        assert!(parse("{").is_err() && parse("").is_err());
    }

    #[test]
    fn a_value_of_another_kind_costs_itself_and_nothing_else() {
        let text = br#"{"entries":{"a":5,"b":{"userName":[1]},"c":{"userName":"u"}},"list":"x"}"#;
        let (outer, mismatch) = from_slice_leniently::<Outer>(text).unwrap();
        assert_eq!(outer.entries["c"].user_name, "u");
        assert_eq!(outer.entries["b"], Inner::default());
        assert!(outer.list.is_empty());
        let mismatch = mismatch.unwrap().to_string();
        assert_eq!(mismatch, ".entries.a is a number, not an object");
        let (_, mismatch) = from_slice_leniently::<Outer>(b"{}").unwrap();
        assert!(mismatch.is_none());
    }

    #[test]
    fn what_go_passes_over_is_passed_over() {
        let outer: Outer = from_slice(b"{\"list\":[\"a\xff\"]} trailing \0").unwrap();
        assert_eq!(outer.list, ["a\u{fffd}"]);
        let halves = r#"{"list":["\ud83d\ude00","\ud83d x","\ude00","\\ud83d","\u00e9"]}"#;
        let expected = ["\u{1f600}", "\u{fffd} x", "\u{fffd}", r"\ud83d", "\u{e9}"];
        assert_eq!(parse(halves).unwrap().list, expected);
    }

    #[test]
    fn base64_may_have_line_breaks() {
        assert_eq!(base64("dT\r\npw\n").unwrap(), b"u:p");
        assert_eq!(base64("dTpw").unwrap(), b"u:p");
        assert!(base64("dT pw").is_err());
    }

    #[test]
    fn names_are_folded_in_place() {
        let mut value = json!({"NAME": "a", "other": 1});
        fold_names(value.as_object_mut().unwrap(), &["Name"]);
        assert_eq!(value, json!({"Name": "a", "other": 1}));
    }
}
