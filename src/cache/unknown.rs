//! Fields that this program does not know. They are kept as the text that they came as: a number
//! keeps every digit.
//!
//! `serde`'s own `flatten` reads unknown values into numbers of 64 bits first. So an object derives its
//! reader for the fields that it knows (`#[serde(remote = "Self")]`), and `keeps_unknown` puts
//! `Fields` before it, which takes the others out of the object.

use std::cmp::Ordering;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

/// The field of a manifest that has its annotations.
const ANNOTATIONS: &str = "annotations";

/// Fields of newer formats, in the order of their names.
#[derive(Clone, Default)]
pub struct Unknown(Vec<(Box<str>, Box<RawValue>)>);

impl Unknown {
    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the text of a field's value.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let at = self.place(name).ok()?;
        self.0.get(at).map(|(_, value)| value.get())
    }

    /// Sets the value of a field; without one the field goes.
    pub(super) fn set(&mut self, name: &str, value: Option<Box<RawValue>>) {
        let at = self.place(name);
        match (at, value) {
            (Ok(at), Some(value)) => self.0[at].1 = value,
            (Ok(at), None) => drop(self.0.remove(at)),
            (Err(at), Some(value)) => self.0.insert(at, (name.into(), value)),
            (Err(_), None) => {}
        }
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(own, _)| (**own).cmp(name))
    }

    /// Adds the fields of another. Of two values of one name the one whose text is greater stays, so
    /// that the order of merging does not matter.
    pub(super) fn merge(&mut self, other: &Self) {
        if other.is_empty() || self == other {
            return;
        }
        let mut others = other.0.iter().peekable();
        let mut merged = Vec::with_capacity(self.0.len().max(other.0.len()));
        for ours in std::mem::take(&mut self.0) {
            while let Some(theirs) = others.next_if(|theirs| theirs.0 < ours.0) {
                merged.push(theirs.clone());
            }
            let same = others.next_if(|theirs| theirs.0 == ours.0);
            match same.filter(|theirs| theirs.1.get() > ours.1.get()) {
                Some(theirs) => merged.push(theirs.clone()),
                None => merged.push(ours),
            }
        }
        merged.extend(others.cloned());
        self.0 = merged;
    }

    /// Removes an annotation.
    pub(super) fn drop_annotation(&mut self, name: &str) {
        let text = self.get(ANNOTATIONS).filter(|text| text.contains(name));
        let all = text.and_then(|text| serde_json::from_str(text).ok());
        let Some(mut all): Option<Map<String, Value>> = all else {
            return;
        };
        all.shift_remove(name);
        let left = (!all.is_empty()).then(|| to_raw_value(&all).ok());
        self.set(ANNOTATIONS, left.flatten());
    }

    /// Puts fields as they came in order; of those of one name the last counts.
    fn sort(&mut self) {
        self.0.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.0.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                std::mem::swap(next, kept);
            }
            same
        });
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, value.get()))
    }
}

impl PartialEq for Unknown {
    fn eq(&self, other: &Self) -> bool {
        self.iter().cmp(other.iter()) == Ordering::Equal
    }
}

impl fmt::Debug for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for Unknown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// Reads and writes objects with all their fields. Each has a derived reader and writer of its own
/// (`#[serde(remote = "Self")]`) and a field `other`, which is flattened and not read.
macro_rules! keeps_unknown {
    ($($object:ty),+) => {$(
        impl<'de> serde::Deserialize<'de> for $object {
            fn deserialize<D: serde::Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
                let mut other = $crate::cache::unknown::Unknown::default();
                let fields = $crate::cache::unknown::Fields::new(reader, &mut other);
                // The derived function, which hides that of the trait.
                let mut object = Self::deserialize(fields)?;
                object.other = other;
                Ok(object)
            }
        }

        impl serde::Serialize for $object {
            fn serialize<S: serde::Serializer>(&self, writer: S) -> Result<S::Ok, S::Error> {
                Self::serialize(self, writer)
            }
        }
    )+};
}
pub(super) use keeps_unknown;

/// A reader of objects that shows only the fields which are asked for, and keeps the others.
pub(super) struct Fields<'a, D> {
    reader: D,
    other: &'a mut Unknown,
}

impl<'a, D> Fields<'a, D> {
    pub(super) fn new(reader: D, other: &'a mut Unknown) -> Self {
        Self { reader, other }
    }
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Fields<'_, D> {
    type Error = D::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let other = self.other;
        self.reader.deserialize_map(Object {
            known,
            visitor,
            other,
        })
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.reader.deserialize_any(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

struct Object<'a, V> {
    known: &'static [&'static str],
    visitor: V,
    other: &'a mut Unknown,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Object<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<V::Value, A::Error> {
        let object = self.visitor.visit_map(KnownFields {
            entries,
            known: self.known,
            other: &mut *self.other,
        });
        self.other.sort();
        object
    }
}

/// The known fields of an object.
struct KnownFields<'a, A> {
    entries: A,
    known: &'static [&'static str],
    other: &'a mut Unknown,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for KnownFields<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        loop {
            match self.entries.next_key_seed(Name(self.known))? {
                None => return Ok(None),
                Some(Ok(known)) => return seed.deserialize(StrDeserializer::new(known)).map(Some),
                Some(Err(name)) => self.other.0.push((name, self.entries.next_value()?)),
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.entries.next_value_seed(seed)
    }
}

/// The name of a field: one of those that are known, or another.
struct Name(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Result<&'static str, Box<str>>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Result<&'static str, Box<str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        let known = self.0.iter().find(|known| **known == name);
        Ok(known.copied().ok_or_else(|| name.into()))
    }
}

/// Any object, of which no field is known.
impl<'de> Deserialize<'de> for Unknown {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Nothing {}

        let mut all = Self::default();
        let Nothing {} = Nothing::deserialize(Fields::new(reader, &mut all))?;
        Ok(all)
    }
}

/// Reads `null`, which Go writes for a list or a map without entries, as an empty one.
pub(super) fn null_is_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(remote = "Self")]
    struct Step {
        name: String,
        #[serde(default)]
        count: u32,
        #[serde(flatten, skip_deserializing)]
        other: Unknown,
    }

    keeps_unknown!(Step);

    fn unknown(text: &str) -> Unknown {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn values_keep_every_letter() {
        let text = r#"{"name":"a","count":2,"big":123456789012345678901234567890,"exact":0.10000000000000000001,"list":[1, {"x":null}]}"#;
        let step: Step = serde_json::from_str(text).unwrap();
        assert_eq!((step.name.as_str(), step.count), ("a", 2));
        assert_eq!(serde_json::to_string(&step).unwrap(), text);
    }

    #[test]
    fn fields_come_in_the_order_of_their_names_and_the_last_of_one_name_counts() {
        let step: Step = serde_json::from_str(r#"{"z":1,"y":1,"name":"a","z":2}"#).unwrap();
        let text = serde_json::to_string(&step).unwrap();
        assert_eq!(text, r#"{"name":"a","count":0,"y":1,"z":2}"#);
    }

    #[test]
    fn what_is_no_object_or_lacks_a_field_is_refused() {
        for text in [
            "[]",
            "1",
            "null",
            r#"{"x":1}"#,
            r#"{"name":"a","name":"b"}"#,
            r#"{"name":"a","x":}"#,
        ] {
            assert!(serde_json::from_str::<Step>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_union_is_the_same_in_any_order() {
        let (a, b) = (
            r#"{"a":1,"c":"x","e":[2]}"#,
            r#"{"b":2,"c":"y","d":null,"e":[1]}"#,
        );
        let both = unknown(r#"{"a":1,"b":2,"c":"y","d":null,"e":[2]}"#);
        for (first, second) in [(a, b), (b, a)] {
            let mut merged = unknown(first);
            merged.merge(&unknown(second));
            assert_eq!(merged, both);
            merged.merge(&unknown(first));
            assert_eq!(merged, both);
        }
    }
}
