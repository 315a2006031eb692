//! Cache imports: `--cache-from`.

use std::collections::BTreeMap;
use std::fmt;

use super::words::Via;
use super::{Entry, export, line, other_attrs};
use crate::options::csv::KeyValues;
use crate::options::error::OptionError;
use crate::reference::Reference;

/// The cache types of imports.
const TYPES: [&str; 5] = ["registry", "local", "gha", "s3", "azblob"];
/// The keys of a registry cache import.
const KEYS: [&str; 4] = ["type", "ref", "registry.insecure", "via"];

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
        match Entry::parse(value, &TYPES)? {
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
        // Many CI files give the line of --cache-to here too (`mode=max`). What only an export reads
        // does no harm to an import, so such a file keeps working.
        for key in export::KEYS {
            pairs.take(key);
        }
        pairs.finish(&KEYS)?;
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
