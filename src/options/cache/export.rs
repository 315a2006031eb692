//! Cache exports: `--cache-to`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::mounts::{self, Mounts};
use super::words::{Compression, Compressor, Mode, OnFailure, SignAs, Told, Via};
use super::{Entry, line, other_attrs};
use crate::options::boolean::{self, parse_bool};
use crate::options::csv::KeyValues;
use crate::options::error::OptionError;
use crate::options::signing::Sign;
use crate::options::{duration, size};
use crate::reference::Reference;

/// The cache types of exports.
const TYPES: [&str; 6] = ["registry", "inline", "local", "gha", "s3", "azblob"];
/// The keys of a registry cache export.
pub const KEYS: [&str; 27] = [
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
    "record",
    "clean",
    "sign",
    "sign-as",
    "sign-unverified",
    "mounts",
    "mounts-max-size",
    "mounts-helper",
];

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
    /// Whether existing blobs of another compression are compressed again, where given.
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
    /// How the cache of a failed build is handled.
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
    /// What the cache tells about its builds, where given.
    pub record: Option<Told>,
    /// How long manifests that the tag held before stay; where nothing is given, for good.
    pub clean: Option<Duration>,
    /// Whether it takes in what the build reads of other tags of its repository: a scope of `--cache` that merges. There is no
    /// key for it.
    pub takes_in: bool,
    /// Whether and with which key it is signed.
    pub sign: Sign,
    /// Where its signature is.
    pub sign_as: SignAs,
    /// Whether it is signed though the build reads caches that are not verified.
    pub sign_unverified: bool,
    /// Which cache mounts it brings along, where given.
    pub mounts: Option<Mounts>,
    /// The size in bytes over which a mount is left out, where given.
    pub mounts_max_size: Option<u64>,
    /// The image whose shell and `tar` carry a mount where no step's image has them, where given.
    pub mounts_helper: Option<Reference>,
    /// Whether a build says that cache mounts could be brought along.
    pub hints_at_mounts: bool,
}

impl RegistryCacheTo {
    /// Creates an export with nothing but a reference.
    pub fn new(raw_ref: &str) -> Result<Self, OptionError> {
        let reference = super::reference(raw_ref, "dest")?;
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
            record: None,
            clean: None,
            takes_in: false,
            sign: Sign::default(),
            sign_as: SignAs::default(),
            sign_unverified: false,
            mounts: None,
            mounts_max_size: None,
            mounts_helper: None,
            hints_at_mounts: false,
        })
    }

    /// Returns what the cache tells about its builds. A cache with the results only must not tell what files the stages
    /// before them read.
    pub fn told(&self) -> Told {
        self.record.unwrap_or(match self.mode {
            Mode::Max => Told::Full,
            Mode::Min => Told::Steps,
        })
    }

    /// Returns the cache mounts that it brings along, and the size in bytes over which one is left out; `None` where it
    /// brings none.
    pub fn kept_mounts(&self) -> Option<(&Mounts, u64)> {
        let mounts = self.mounts.as_ref().filter(|mounts| !mounts.is_none())?;
        Some((mounts, self.mounts_max_size.unwrap_or(mounts::MAX_SIZE)))
    }

    /// Returns what goes to BuildKit with `via=builder`: only keys that BuildKit knows, and of them
    /// only those that do not say what BuildKit does anyway (`mode=min`, `ignore-error=false`) or
    /// that the user gave. With Docker media types the image manifest, BuildKit's default, would be a
    /// contradiction that fails the export, so the list form is asked for.
    pub fn attrs(&self) -> BTreeMap<String, String> {
        let mut attrs = self.given_attrs();
        if self.oci_mediatypes == Some(false) {
            attrs
                .entry("image-manifest".to_owned())
                .or_insert_with(|| false.to_string());
        }
        attrs
    }

    fn given_attrs(&self) -> BTreeMap<String, String> {
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
        let compression = self.compression.filter(|kind| *kind != Compression::Auto);
        set(
            "compression",
            compression.map(|kind| kind.as_str().to_owned()),
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
        set(
            "image-manifest",
            self.image_manifest.map(|on| on.to_string()),
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
        let is_auto = self.compression == Some(Compression::Auto);
        set("compression", is_auto.then(|| "auto".to_owned()));
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
        set("record", self.record.map(|told| told.as_str().to_owned()));
        set("clean", self.clean.map(duration::format));
        set(
            "sign",
            (self.sign != Sign::Auto).then(|| self.sign.to_string()),
        );
        set(
            "sign-as",
            (self.sign_as != SignAs::default()).then(|| self.sign_as.as_str().to_owned()),
        );
        set(
            "sign-unverified",
            self.sign_unverified.then(|| true.to_string()),
        );
        set("mounts", self.mounts.as_ref().map(ToString::to_string));
        set(
            "mounts-max-size",
            self.mounts_max_size.map(|bytes| bytes.to_string()),
        );
        let helper = self.mounts_helper.as_ref();
        set("mounts-helper", helper.map(ToString::to_string));
        attrs
    }

    fn from_pairs(mut pairs: KeyValues) -> Result<Self, OptionError> {
        let raw_ref = pairs.take_required("ref")?;
        Self::at(&raw_ref, pairs, &KEYS)
    }

    /// Reads an export whose reference is known by now; `known` are the keys that an error may suggest.
    pub(super) fn at(
        raw_ref: &str,
        mut pairs: KeyValues,
        known: &[&str],
    ) -> Result<Self, OptionError> {
        let mut export = Self::new(raw_ref).map_err(|error| pairs.error(error))?;
        export.mode = pairs.take_word("mode", &Mode::WORDS)?.unwrap_or_default();
        export.compression = pairs.take_word("compression", &Compression::WORDS)?;
        export.compression_level = take_level(&mut pairs, export.compression.unwrap_or_default())?;
        // BuildKit reads a key without a value as true here, and only here.
        export.force_compression =
            pairs.take_with("force-compression", boolean::EXPECTED, |value| {
                if value.is_empty() {
                    Some(true)
                } else {
                    parse_bool(value)
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
        if export.compression == Some(Compression::Auto) && export.force_compression == Some(true) {
            return Err(pairs.error(OptionError::other(
                "compression=auto keeps the layers of images as they are and cannot be used with force-compression=true",
            )));
        }
        pairs.finish(known)?;
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
        self.record = pairs.take_word("record", &Told::WORDS)?;
        let grace = |value: &str| match value {
            "off" => Some(None),
            value => duration::parse(value).ok().map(Some),
        };
        let clean = pairs.take_with("clean", "off, or a duration such as 24h", grace)?;
        self.clean = clean.flatten();
        if let Some(value) = pairs.take("sign") {
            self.sign = Sign::parse(&value).map_err(|error| pairs.error(error))?;
        }
        self.sign_as = pairs
            .take_word("sign-as", &SignAs::WORDS)?
            .unwrap_or_default();
        self.sign_unverified = pairs.take_bool("sign-unverified")?.unwrap_or_default();
        self.mounts = pairs.take_with("mounts", mounts::EXPECTED, Mounts::parse)?;
        self.mounts_max_size = pairs.take_with("mounts-max-size", size::EXPECTED, |value| {
            size::ram_in_bytes(value).ok()
        })?;
        self.mounts_helper = mounts::take_helper(pairs)?;
        Ok(())
    }
}

impl fmt::Display for RegistryCacheTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut attrs = self.given_attrs();
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
        match Entry::parse(value, &TYPES)? {
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
