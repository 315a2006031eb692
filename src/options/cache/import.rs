//! Cache imports: `--cache-from`.

use std::collections::BTreeMap;
use std::fmt;

use super::mounts::{self, Mounts};
use super::words::Via;
use super::{Entry, export, line, other_attrs};
use crate::options::csv::KeyValues;
use crate::options::duration;
use crate::options::error::{OptionError, Problem};
use crate::options::signing::{Verification, Verify};
use crate::reference::Reference;

/// The cache types of imports.
const TYPES: [&str; 5] = ["registry", "local", "gha", "s3", "azblob"];

/// The keys about signatures.
pub(super) const VERIFY_KEYS: [&str; 3] = ["verify", "max-signature-age", "verify-required"];

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
        /// Whether it must be signed, and how.
        verification: Verification,
        /// Which cache mounts are taken out of it.
        mounts: Mounts,
        /// The image that carries them where no image of a step can.
        mounts_helper: Option<Box<Reference>>,
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
    /// references is one import each. A build does without a cache that cannot be read, as with
    /// buildx: what is wrong with it is a remark.
    ///
    /// # Errors
    ///
    /// Fails for a value that does not have the form of one, or has no type.
    pub fn parse_leniently(value: &str) -> Result<(Vec<Self>, Vec<Remark>), OptionError> {
        let entry = match Entry::parse(value, &TYPES) {
            Ok(entry) => entry,
            Err(error) if breaks_the_form(&error) => return Err(error),
            Err(error) => return Ok((Vec::new(), vec![Remark::left_out(meant(error, value))])),
        };
        let results = match entry {
            Entry::Bare(references) => references
                .into_iter()
                .map(|raw_ref| {
                    let import = Self::registry(raw_ref);
                    Ok((import.map_err(|error| error.within(value))?, None))
                })
                .collect(),
            Entry::Keyed { kind, pairs } if kind == "registry" => vec![Self::from_pairs(pairs)],
            Entry::Keyed { kind, pairs } => {
                let attrs = other_attrs(&kind, pairs, "src");
                vec![attrs.map(|attrs| (Self::Other { kind, attrs }, None))]
            }
        };
        let (mut imports, mut remarks) = (Vec::new(), Vec::new());
        for result in results {
            match result {
                Ok((import, unknown)) => {
                    imports.push(import);
                    remarks.extend(unknown.map(Remark::passed_over));
                }
                Err(error) => remarks.push(Remark::left_out(error)),
            }
        }
        Ok((imports, remarks))
    }

    /// Parses as [`parse_leniently`](Self::parse_leniently), but fails with the first remark.
    #[cfg(test)]
    pub(crate) fn parse(value: &str) -> Result<Vec<Self>, OptionError> {
        let (imports, remarks) = Self::parse_leniently(value)?;
        match remarks.into_iter().next() {
            Some(remark) => Err(remark.error),
            None => Ok(imports),
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

    fn registry(raw_ref: String) -> Result<Self, OptionError> {
        Ok(Self::Registry {
            reference: super::reference(&raw_ref, "src")?,
            raw_ref,
            insecure: None,
            via: Via::Auto,
            verification: Verification::default(),
            mounts: Mounts::All,
            mounts_helper: None,
        })
    }

    /// Reads the fields of a registry cache; with it comes an error that names an unknown key.
    fn from_pairs(mut pairs: KeyValues) -> Result<(Self, Option<OptionError>), OptionError> {
        let raw_ref = pairs.take_required("ref")?;
        let reference = super::reference(&raw_ref, "src").map_err(|error| pairs.error(error))?;
        let verification = take_verification(&mut pairs)?;
        let mounts = pairs.take_with("mounts", mounts::EXPECTED, Mounts::parse)?;
        let mounts_helper = mounts::take_helper(&mut pairs)?.map(Box::new);
        let import = Self::Registry {
            reference,
            raw_ref,
            insecure: pairs.take_bool("registry.insecure")?,
            via: pairs.take_word("via", &Via::WORDS)?.unwrap_or_default(),
            verification,
            mounts: mounts.unwrap_or(Mounts::All),
            mounts_helper,
        };
        // Many CI files give the line of --cache-to here too (`mode=max`). What only an export reads
        // does no harm to an import, so such a file keeps working.
        for key in export::KEYS {
            pairs.take(key);
        }
        let known: Vec<&str> = export::KEYS.into_iter().chain(VERIFY_KEYS).collect();
        match pairs.finish(&known) {
            // A cache that was meant to be verified is never read without.
            Err(error) if error.suggestion.as_deref().is_some_and(is_about_signatures) => {
                Err(error)
            }
            unknown => Ok((import, unknown.err())),
        }
    }
}

fn is_about_signatures(key: &str) -> bool {
    VERIFY_KEYS.contains(&key)
}

/// Takes whether a cache must be signed, and how.
pub(super) fn take_verification(pairs: &mut KeyValues) -> Result<Verification, OptionError> {
    // A variable that is not set must not mean that nothing is verified.
    if pairs.is_empty_at("verify") {
        return Err(pairs.error(OptionError::other(
            "verify names no key: name one, give true or false, or leave it out",
        )));
    }
    let verify = match pairs.take("verify") {
        Some(value) => Verify::parse(&value).map_err(|error| pairs.error(error))?,
        None => Verify::Auto,
    };
    let max_age = pairs.take_with("max-signature-age", duration::EXPECTED, |value| {
        duration::parse(value).ok()
    })?;
    let is_required = pairs.take_bool("verify-required")?.unwrap_or_default();
    let verify = match verify {
        Verify::Off if is_required => {
            return Err(pairs.error(OptionError::other(
                "verify=false cannot be used with verify-required=true",
            )));
        }
        // How old a signature may be says that there must be one.
        Verify::Auto if is_required || max_age.is_some() => Verify::On,
        verify => verify,
    };
    Ok(Verification {
        verify,
        max_age,
        is_required,
    })
}

/// What is wrong with a cache that a build does without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// What is wrong.
    pub error: OptionError,
    /// Whether the cache is read all the same.
    pub is_read: bool,
}

impl Remark {
    fn left_out(error: OptionError) -> Self {
        let is_read = false;
        Self { error, is_read }
    }

    fn passed_over(error: OptionError) -> Self {
        let is_read = true;
        Self { error, is_read }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_read {
            "passed over"
        } else {
            "not read"
        };
        write!(f, "{what}: {}", self.error)
    }
}

/// Returns whether buildx refuses the value as well: it cannot be told what it says.
fn breaks_the_form(error: &OptionError) -> bool {
    matches!(
        *error.problem,
        Problem::Empty { .. }
            | Problem::BareQuote
            | Problem::Quote
            | Problem::NotKeyValue { .. }
            | Problem::MissingKey { .. }
    )
}

/// An inline cache is written with its type and read without.
fn meant(error: OptionError, value: &str) -> OptionError {
    match &*error.problem {
        Problem::BadValue {
            key, value: kind, ..
        } if key == "type" && kind == "inline" => OptionError::other(
            "the inline cache of an image is read with type=registry and the image as ref",
        )
        .within(value),
        _ => error,
    }
}

/// Credentials among the attributes of other backends are masked.
impl fmt::Display for CacheFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut attrs = self.attrs();
        if let Self::Registry {
            via,
            verification,
            mounts,
            mounts_helper,
            ..
        } = self
        {
            let verify = &verification.verify;
            if *via != Via::Auto {
                attrs.insert("via".to_owned(), via.as_str().to_owned());
            }
            if *verify != Verify::Auto {
                attrs.insert("verify".to_owned(), verify.to_string());
            }
            if let Some(age) = verification.max_age {
                attrs.insert("max-signature-age".to_owned(), duration::format(age));
            }
            if verification.is_required {
                attrs.insert("verify-required".to_owned(), true.to_string());
            }
            if *mounts != Mounts::All {
                attrs.insert("mounts".to_owned(), mounts.to_string());
            }
            if let Some(image) = mounts_helper {
                attrs.insert("mounts-helper".to_owned(), image.to_string());
            }
        }
        f.write_str(&line(self.kind(), &attrs))
    }
}

impl fmt::Debug for CacheFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheFrom({self})")
    }
}
