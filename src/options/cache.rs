//! `--cache-to` and `--cache-from`: where caches go and where they come from.
//!
//! The form is BuildKit's: comma-separated `key=value` fields with a `type`, or a bare list of
//! references, each of which is `type=registry,ref=REFERENCE`. Keys are case-insensitive. A registry
//! cache is read strictly; the other types are passed on, after the checks that buildx's client makes.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::csv::{self, KeyValues, Writer};
use super::error::{OptionError, Problem};
use super::{duration, size, suggest};
use crate::reference::Reference;

/// The cache types that BuildKit has besides `registry`.
const OTHER_TYPES: [&str; 5] = ["inline", "local", "gha", "s3", "azblob"];
/// Every cache type, for suggestions.
const TYPES: [&str; 6] = ["registry", "inline", "local", "gha", "s3", "azblob"];

/// The keys of a registry cache export.
const EXPORT_KEYS: [&str; 19] = [
    "type",
    "ref",
    "mode",
    "compression",
    "compression-level",
    "force-compression",
    "oci-mediatypes",
    "image-manifest",
    "ignore-error",
    "registry.insecure",
    "via",
    "compressor",
    "merge",
    "on-failure",
    "on-failure-timeout",
    "alongside",
    "max-age",
    "max-size",
    "max-records",
];
/// The keys of a registry cache import.
const IMPORT_KEYS: [&str; 4] = ["type", "ref", "registry.insecure", "via"];

/// Which results a cache holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// The layers of the result only.
    #[default]
    Min,
    /// The layers of every step.
    Max,
}

impl Mode {
    const WORDS: [(&'static str, Self); 2] = [("min", Self::Min), ("max", Self::Max)];

    /// Returns the value of the key `mode`.
    pub fn as_str(self) -> &'static str {
        word(&Self::WORDS, self)
    }
}

/// How the layers of a cache are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// gzip, BuildKit's default; levels 0 to 9.
    #[default]
    Gzip,
    /// Seekable gzip with a table of contents; levels 0 to 9.
    Estargz,
    /// Zstandard; levels 0 to 22.
    Zstd,
    /// Plain tar.
    Uncompressed,
}

impl Compression {
    const WORDS: [(&'static str, Self); 4] = [
        ("gzip", Self::Gzip),
        ("estargz", Self::Estargz),
        ("zstd", Self::Zstd),
        ("uncompressed", Self::Uncompressed),
    ];

    /// Returns the value of the key `compression`.
    pub fn as_str(self) -> &'static str {
        word(&Self::WORDS, self)
    }

    /// Returns the highest level (the lowest is 0); `None` where there are no levels.
    pub fn highest_level(self) -> Option<i32> {
        match self {
            Self::Gzip | Self::Estargz => Some(9),
            Self::Zstd => Some(22),
            Self::Uncompressed => None,
        }
    }
}

/// Who moves the bytes of a cache between builder and registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Via {
    /// The program chooses.
    #[default]
    Auto,
    /// The program itself, through the session's content store.
    Client,
    /// BuildKit's own exporter or importer.
    Builder,
}

impl Via {
    const WORDS: [(&'static str, Self); 3] = [
        ("auto", Self::Auto),
        ("client", Self::Client),
        ("builder", Self::Builder),
    ];

    /// Returns the value of the key `via`.
    pub fn as_str(self) -> &'static str {
        word(&Self::WORDS, self)
    }
}

/// Who compresses the layers of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compressor {
    /// The program chooses.
    #[default]
    Auto,
    /// The program itself, while it uploads.
    Client,
    /// BuildKit.
    Builder,
}

impl Compressor {
    const WORDS: [(&'static str, Self); 3] = [
        ("auto", Self::Auto),
        ("client", Self::Client),
        ("builder", Self::Builder),
    ];

    /// Returns the value of the key `compressor`.
    pub fn as_str(self) -> &'static str {
        word(&Self::WORDS, self)
    }
}

/// What becomes of the cache of a build that fails or is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// What is finished is published.
    #[default]
    Export,
    /// Nothing is published.
    Skip,
}

impl OnFailure {
    const WORDS: [(&'static str, Self); 2] = [("export", Self::Export), ("skip", Self::Skip)];

    /// Returns the value of the key `on-failure`.
    pub fn as_str(self) -> &'static str {
        word(&Self::WORDS, self)
    }
}

/// A cache export to a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryCacheTo {
    /// Where to, without digest.
    pub reference: Reference,
    /// The reference as the user wrote it; this goes to BuildKit.
    pub raw_ref: String,
    /// Which results.
    pub mode: Mode,
    /// The compression, where given; BuildKit's default is gzip.
    pub compression: Option<Compression>,
    /// The level, where given; in the range of the compression.
    pub compression_level: Option<i32>,
    /// Whether existing blobs of another compression are compressed anew, where given.
    pub force_compression: Option<bool>,
    /// OCI instead of Docker media types, where given.
    pub oci_mediatypes: Option<bool>,
    /// An image manifest instead of an image index, where given.
    pub image_manifest: Option<bool>,
    /// Whether the build succeeds though the export fails.
    pub ignore_error: bool,
    /// Plain HTTP, or HTTPS with any certificate, where given.
    pub insecure: Option<bool>,
    /// Who uploads.
    pub via: Via,
    /// Who compresses.
    pub compressor: Compressor,
    /// Whether the new cache is joined with the one that is there.
    pub merge: bool,
    /// What becomes of the cache of a failed build.
    pub on_failure: OnFailure,
    /// How long the export may take after a failure, where given.
    pub on_failure_timeout: Option<Duration>,
    /// Whether the cache is exported while the build runs, where given.
    pub alongside: Option<bool>,
    /// The age at which records are dropped, where given.
    pub max_age: Option<Duration>,
    /// The size in bytes to which the cache is cut, where given.
    pub max_size: Option<u64>,
    /// The number of records to which the cache is cut, where given.
    pub max_records: Option<u64>,
}

impl RegistryCacheTo {
    /// Makes an export with nothing but a reference.
    pub fn new(raw_ref: &str) -> Result<Self, OptionError> {
        let reference = Reference::parse_normalized(raw_ref)?;
        if reference.digest.is_some() {
            return Err(OptionError::other(format!(
                "a cache cannot be exported to a digest ({raw_ref:?}), name a tag"
            )));
        }
        Ok(Self {
            reference,
            raw_ref: raw_ref.to_owned(),
            mode: Mode::default(),
            compression: None,
            compression_level: None,
            force_compression: None,
            oci_mediatypes: None,
            image_manifest: None,
            ignore_error: false,
            insecure: None,
            via: Via::default(),
            compressor: Compressor::default(),
            merge: false,
            on_failure: OnFailure::default(),
            on_failure_timeout: None,
            alongside: None,
            max_age: None,
            max_size: None,
            max_records: None,
        })
    }

    /// Returns what goes to BuildKit with `via=builder`: only keys that BuildKit knows, and of them
    /// only those that do not say what BuildKit does anyway (`mode=min`, `ignore-error=false`) or
    /// that the user gave.
    pub fn attrs(&self) -> BTreeMap<String, String> {
        let mut attrs = BTreeMap::new();
        let mut set = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                attrs.insert(key.to_owned(), value);
            }
        };
        set("ref", Some(self.raw_ref.clone()));
        set(
            "mode",
            (self.mode != Mode::Min).then(|| self.mode.as_str().to_owned()),
        );
        set(
            "compression",
            self.compression.map(|kind| kind.as_str().to_owned()),
        );
        set(
            "compression-level",
            self.compression_level.map(|level| level.to_string()),
        );
        set(
            "force-compression",
            self.force_compression.map(|on| on.to_string()),
        );
        set(
            "oci-mediatypes",
            self.oci_mediatypes.map(|on| on.to_string()),
        );
        // BuildKit's own default would contradict Docker media types and fail the export.
        let list_form = (self.oci_mediatypes == Some(false)).then_some(false);
        set(
            "image-manifest",
            self.image_manifest.or(list_form).map(|on| on.to_string()),
        );
        set("ignore-error", self.ignore_error.then(|| true.to_string()));
        set("registry.insecure", self.insecure.map(|on| on.to_string()));
        attrs
    }

    /// Returns the keys that only this program knows and that differ from their defaults.
    fn own_attrs(&self) -> Vec<(&'static str, String)> {
        let mut attrs = Vec::new();
        let mut set = |key: &'static str, value: Option<String>| {
            if let Some(value) = value {
                attrs.push((key, value));
            }
        };
        set(
            "via",
            (self.via != Via::Auto).then(|| self.via.as_str().to_owned()),
        );
        set(
            "compressor",
            (self.compressor != Compressor::Auto).then(|| self.compressor.as_str().to_owned()),
        );
        set("merge", self.merge.then(|| true.to_string()));
        set(
            "on-failure",
            (self.on_failure != OnFailure::Export).then(|| self.on_failure.as_str().to_owned()),
        );
        set(
            "on-failure-timeout",
            self.on_failure_timeout.map(duration::format),
        );
        set("alongside", self.alongside.map(|on| on.to_string()));
        set("max-age", self.max_age.map(duration::format));
        set("max-size", self.max_size.map(|bytes| bytes.to_string()));
        set(
            "max-records",
            self.max_records.map(|count| count.to_string()),
        );
        attrs
    }

    fn from_pairs(mut pairs: KeyValues) -> Result<Self, OptionError> {
        let raw_ref = pairs.take_required("ref")?;
        let mut export = Self::new(&raw_ref).map_err(|error| pairs.error(error))?;
        export.mode = pairs.take_word("mode", &Mode::WORDS)?.unwrap_or_default();
        export.compression = pairs.take_word("compression", &Compression::WORDS)?;
        export.compression_level = take_level(&mut pairs, export.compression.unwrap_or_default())?;
        // BuildKit reads a key without a value as true here, and only here.
        export.force_compression =
            pairs.take_with("force-compression", super::boolean::EXPECTED, |value| {
                if value.is_empty() {
                    Some(true)
                } else {
                    super::boolean::parse_bool(value)
                }
            })?;
        export.oci_mediatypes = pairs.take_bool("oci-mediatypes")?;
        export.image_manifest = pairs.take_bool("image-manifest")?;
        export.ignore_error = pairs.take_bool("ignore-error")?.unwrap_or_default();
        export.insecure = pairs.take_bool("registry.insecure")?;
        export.take_own(&mut pairs)?;
        if export.oci_mediatypes == Some(false) && export.image_manifest == Some(true) {
            return Err(pairs.error(OptionError::other(
                "image-manifest=true needs OCI media types and cannot be used with oci-mediatypes=false",
            )));
        }
        pairs.finish(&EXPORT_KEYS)?;
        Ok(export)
    }

    fn take_own(&mut self, pairs: &mut KeyValues) -> Result<(), OptionError> {
        self.via = pairs.take_word("via", &Via::WORDS)?.unwrap_or_default();
        self.compressor = pairs
            .take_word("compressor", &Compressor::WORDS)?
            .unwrap_or_default();
        self.merge = pairs.take_bool("merge")?.unwrap_or_default();
        self.on_failure = pairs
            .take_word("on-failure", &OnFailure::WORDS)?
            .unwrap_or_default();
        self.alongside = pairs.take_bool("alongside")?;
        let time = |value: &str| duration::parse(value).ok();
        self.on_failure_timeout =
            pairs.take_with("on-failure-timeout", duration::EXPECTED, time)?;
        self.max_age = pairs.take_with("max-age", duration::EXPECTED, time)?;
        self.max_size = pairs.take_with("max-size", size::EXPECTED, |value| {
            size::ram_in_bytes(value).ok()
        })?;
        self.max_records =
            pairs.take_with("max-records", "a whole number", |value| value.parse().ok())?;
        Ok(())
    }
}

impl fmt::Display for RegistryCacheTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut attrs = self.attrs();
        attrs.extend(
            self.own_attrs()
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value)),
        );
        f.write_str(&line("registry", &attrs))
    }
}

/// A cache export.
#[derive(Clone, PartialEq, Eq)]
pub enum CacheTo {
    /// To a registry.
    Registry(Box<RegistryCacheTo>),
    /// To one of BuildKit's other backends: `inline`, `local`, `gha`, `s3`, `azblob`.
    Other {
        /// The type.
        kind: String,
        /// The attributes without `type`, as they go to BuildKit.
        attrs: BTreeMap<String, String>,
    },
}

impl CacheTo {
    /// Parses the value of one `--cache-to`. An empty value is no export; a bare list of references
    /// is one export each.
    pub fn parse(value: &str) -> Result<Vec<Self>, OptionError> {
        match Entry::parse(value)? {
            Entry::Bare(references) => references
                .iter()
                .map(|raw_ref| {
                    let export =
                        RegistryCacheTo::new(raw_ref).map_err(|error| error.within(value))?;
                    Ok(Self::Registry(Box::new(export)))
                })
                .collect(),
            Entry::Keyed { kind, pairs } if kind == "registry" => Ok(vec![Self::Registry(
                Box::new(RegistryCacheTo::from_pairs(pairs)?),
            )]),
            Entry::Keyed { kind, pairs } => {
                let attrs = other_attrs(&kind, pairs, "dest")?;
                Ok(vec![Self::Other { kind, attrs }])
            }
        }
    }

    /// Returns the type of the backend as BuildKit names it.
    pub fn kind(&self) -> &str {
        match self {
            Self::Registry(_) => "registry",
            Self::Other { kind, .. } => kind,
        }
    }

    /// Returns what goes to BuildKit; see [`RegistryCacheTo::attrs`].
    pub fn attrs(&self) -> BTreeMap<String, String> {
        match self {
            Self::Registry(export) => export.attrs(),
            Self::Other { attrs, .. } => attrs.clone(),
        }
    }
}

/// Credentials among the attributes of other backends are masked.
impl fmt::Display for CacheTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(export) => export.fmt(f),
            Self::Other { kind, attrs } => f.write_str(&line(kind, attrs)),
        }
    }
}

impl fmt::Debug for CacheTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheTo({self})")
    }
}

/// A cache import.
#[derive(Clone, PartialEq, Eq)]
pub enum CacheFrom {
    /// From a registry.
    Registry {
        /// Where from.
        reference: Reference,
        /// The reference as the user wrote it; this goes to BuildKit.
        raw_ref: String,
        /// Plain HTTP, or HTTPS with any certificate, where given.
        insecure: Option<bool>,
        /// Who downloads.
        via: Via,
    },
    /// From one of BuildKit's other backends: `local`, `gha`, `s3`, `azblob`.
    Other {
        /// The type.
        kind: String,
        /// The attributes without `type`, as they go to BuildKit.
        attrs: BTreeMap<String, String>,
    },
}

impl CacheFrom {
    /// Parses the value of one `--cache-from`. An empty value is no import; a bare list of
    /// references is one import each.
    pub fn parse(value: &str) -> Result<Vec<Self>, OptionError> {
        match Entry::parse(value)? {
            Entry::Bare(references) => references
                .into_iter()
                .map(|raw_ref| {
                    Self::registry(raw_ref, None, Via::Auto).map_err(|error| error.within(value))
                })
                .collect(),
            Entry::Keyed { kind, pairs } if kind == "registry" => {
                Ok(vec![Self::from_pairs(pairs)?])
            }
            Entry::Keyed { kind, pairs } => {
                let attrs = other_attrs(&kind, pairs, "src")?;
                Ok(vec![Self::Other { kind, attrs }])
            }
        }
    }

    /// Returns the type of the backend as BuildKit names it.
    pub fn kind(&self) -> &str {
        match self {
            Self::Registry { .. } => "registry",
            Self::Other { kind, .. } => kind,
        }
    }

    /// Returns what goes to BuildKit: of a registry cache `ref` and, where given,
    /// `registry.insecure`.
    pub fn attrs(&self) -> BTreeMap<String, String> {
        match self {
            Self::Registry {
                raw_ref, insecure, ..
            } => {
                let mut attrs = BTreeMap::from([("ref".to_owned(), raw_ref.clone())]);
                if let Some(on) = insecure {
                    attrs.insert("registry.insecure".to_owned(), on.to_string());
                }
                attrs
            }
            Self::Other { attrs, .. } => attrs.clone(),
        }
    }

    fn registry(raw_ref: String, insecure: Option<bool>, via: Via) -> Result<Self, OptionError> {
        Ok(Self::Registry {
            reference: Reference::parse_normalized(&raw_ref)?,
            raw_ref,
            insecure,
            via,
        })
    }

    fn from_pairs(mut pairs: KeyValues) -> Result<Self, OptionError> {
        let raw_ref = pairs.take_required("ref")?;
        let insecure = pairs.take_bool("registry.insecure")?;
        let via = pairs.take_word("via", &Via::WORDS)?.unwrap_or_default();
        let import = Self::registry(raw_ref, insecure, via).map_err(|error| pairs.error(error))?;
        if let Some(key) = EXPORT_KEYS.iter().find(|key| pairs.has(key)) {
            return Err(pairs.error(OptionError::other(format!(
                "key {key:?} is for exports only, it means nothing for an import"
            ))));
        }
        pairs.finish(&IMPORT_KEYS)?;
        Ok(import)
    }
}

/// Credentials among the attributes of other backends are masked.
impl fmt::Display for CacheFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut attrs = self.attrs();
        if let Self::Registry { via, .. } = self
            && *via != Via::Auto
        {
            attrs.insert("via".to_owned(), via.as_str().to_owned());
        }
        f.write_str(&line(self.kind(), &attrs))
    }
}

impl fmt::Debug for CacheFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheFrom({self})")
    }
}

/// The value of one flag, split.
enum Entry {
    /// References only.
    Bare(Vec<String>),
    /// Fields with a type.
    Keyed { kind: String, pairs: KeyValues },
}

impl Entry {
    fn parse(value: &str) -> Result<Self, OptionError> {
        if value.is_empty() {
            return Ok(Self::Bare(Vec::new()));
        }
        if !value.contains('=') {
            let fields = csv::fields(value)?;
            return Ok(Self::Bare(
                fields.into_iter().map(|field| field.text).collect(),
            ));
        }
        let mut pairs = KeyValues::parse(value)?.refuse_duplicates()?;
        let kind = pairs.take_required("type")?;
        if !TYPES.contains(&kind.as_str()) {
            return Err(pairs.error(
                OptionError::new(Problem::BadValue {
                    key: "type".to_owned(),
                    value: kind.clone(),
                    expected: format!("registry, {}", OTHER_TYPES.join(", ")),
                })
                .suggest(suggest::closest(&kind, &TYPES)),
            ));
        }
        Ok(Self::Keyed { kind, pairs })
    }
}

/// Takes the attributes of a backend that BuildKit serves by itself. `folder` is the key that a
/// local cache must have.
fn other_attrs(
    kind: &str,
    mut pairs: KeyValues,
    folder: &'static str,
) -> Result<BTreeMap<String, String>, OptionError> {
    let mut attrs = BTreeMap::new();
    if let Some(mode) = pairs.take_word("mode", &Mode::WORDS)? {
        attrs.insert("mode".to_owned(), mode.as_str().to_owned());
    }
    if kind == "local" {
        attrs.insert(folder.to_owned(), pairs.take_required(folder)?);
    }
    attrs.extend(pairs.rest().into_iter().map(|pair| (pair.key, pair.value)));
    Ok(attrs)
}

fn take_level(pairs: &mut KeyValues, kind: Compression) -> Result<Option<i32>, OptionError> {
    let name = kind.as_str();
    let Some(highest) = kind.highest_level() else {
        return match pairs.take("compression-level") {
            None => Ok(None),
            Some(_) => Err(pairs.error(OptionError::other(format!(
                "compression-level cannot be used with compression={name}"
            )))),
        };
    };
    let expected = format!("a whole number from 0 to {highest} for {name}");
    pairs.take_with("compression-level", &expected, |value| {
        value
            .parse()
            .ok()
            .filter(|level| (0..=highest).contains(level))
    })
}

/// Writes a type and its attributes, credentials masked.
fn line(kind: &str, attrs: &BTreeMap<String, String>) -> String {
    let mut writer = Writer::new();
    writer.pair("type", kind);
    for (key, value) in attrs {
        let secret = csv::SECRET_KEYS.contains(&key.as_str());
        writer.pair(key, if secret { "…" } else { value });
    }
    writer.finish()
}

fn word<T: PartialEq + Copy>(words: &[(&'static str, T)], value: T) -> &'static str {
    words
        .iter()
        .find(|(_, known)| *known == value)
        .map_or("", |(word, _)| *word)
}

#[cfg(test)]
mod tests;
