//! `--cache REPO[,key=value…]`: one repository, whose tags are chosen by what is built.

use std::time::Duration;

use super::export::{KEYS, RegistryCacheTo};
use super::import::{CacheFrom, VERIFY_KEYS, take_verification};
use super::mounts::Mounts;
use super::words::{Compression, Compressor, Mode, Via};
use crate::options::context_mode::ContextMode;
use crate::options::csv::KeyValues;
use crate::options::error::OptionError;
use crate::options::signing::Verification;
use crate::reference::{DEFAULT_TAG, Reference};

/// The keys besides those of a registry cache export.
const OWN_KEYS: [&str; 6] = ["scope", "also", "base", "default", "write", "context-mode"];
/// Keys of a registry cache export that say where it goes.
const PLACE: [&str; 2] = ["type", "ref"];
/// How long results are kept that no build uses: of branches, and of pull requests.
const MAX_AGE: Duration = Duration::from_secs(336 * 3600);
const MAX_AGE_OF_PULLS: Duration = Duration::from_secs(168 * 3600);
/// How long manifests stay that a scope held before: a build that began then may still read them.
const CLEAN: Duration = Duration::from_secs(24 * 3600);

/// The value of `--cache`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopedCache {
    /// The repository as the user wrote it.
    pub repository: String,
    /// The one scope to read and write.
    pub scope: Option<String>,
    /// Scopes to read, too.
    pub also: Vec<String>,
    /// The branch that a change goes to.
    pub base: Option<String>,
    /// The default branch.
    pub default: Option<String>,
    /// Whether the scope is written.
    pub write: WriteScope,
    /// Which permissions the files of folders have in the build, where given.
    pub context_mode: Option<ContextMode>,
    /// How it is written, but for the tag.
    export: RegistryCacheTo,
    /// Whether the scopes must be signed, and how.
    verification: Verification,
    /// The user said how old results may be.
    has_age: bool,
}

/// Whether a build writes its scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WriteScope {
    /// What is built decides.
    #[default]
    Auto,
    /// It does.
    Always,
    /// It does not.
    Never,
}

impl WriteScope {
    const WORDS: [(&'static str, Self); 3] = [
        ("auto", Self::Auto),
        ("true", Self::Always),
        ("false", Self::Never),
    ];
}

impl ScopedCache {
    /// Parses the value; `off`, `false` and an empty one are no cache.
    ///
    /// # Errors
    ///
    /// Fails if the repository is none or has a tag, or for a key or a value that is not known.
    pub fn parse(value: &str) -> Result<Option<Self>, OptionError> {
        if value.is_empty() || is_off(value) {
            return Ok(None);
        }
        let (repository, mut pairs) = KeyValues::parse_after_first(value)?;
        if is_off(&repository) {
            let error = format!("{repository:?} switches the caches off, and takes no keys");
            return Err(OptionError::other(error).within(value));
        }
        // Registries take no upper case, and a CI cannot lower what its variables have (`github.repository`).
        let repository = repository.to_ascii_lowercase();
        let wrong = || {
            OptionError::other(format!(
                "{repository:?} is no repository: name it first and without a tag, the tags are chosen by what is built"
            ))
            .within(value)
        };
        if repository.contains('=') {
            return Err(wrong());
        }
        let reference = super::reference(&repository, "dest").map_err(|e| e.within(value))?;
        if reference.tag.is_some() || reference.digest.is_some() {
            return Err(wrong());
        }
        if !repository.contains('/') {
            // Docker Hub's own images, which nobody else can write.
            return Err(OptionError::other(format!(
                "{repository:?} is no place of yours: give registry and path, such as ghcr.io/acme/app/cache, or off"
            ))
            .within(value));
        }
        for key in ["scope", "also"] {
            if pairs.is_empty_at(key) {
                return Err(OptionError::other(format!(
                    "{key} names no scope: give a name, or leave the key out"
                ))
                .within(value));
            }
        }
        let also = pairs.take_all("also");
        let mut pairs = pairs.refuse_duplicates()?;
        let write = pairs.take_word("write", &WriteScope::WORDS)?;
        let context_mode = pairs.take_word("context-mode", &ContextMode::WORDS)?;
        let text = |pairs: &mut KeyValues, key| pairs.take(key).filter(|text| !text.is_empty());
        let (scope, base) = (text(&mut pairs, "scope"), text(&mut pairs, "base"));
        let default = text(&mut pairs, "default");
        let has_age = pairs.has("max-age");
        let verification = take_verification(&mut pairs)?;
        let known: Vec<&str> = KEYS
            .into_iter()
            .filter(|key| !PLACE.contains(key))
            .collect();
        let known = known.into_iter().chain(OWN_KEYS).chain(VERIFY_KEYS);
        let known: Vec<&str> = known.collect();
        let given = |key| pairs.has(key);
        let defaults = ["mode", "merge", "ignore-error", "clean"].map(given);
        let keeps_compression = given("compression") || given("force-compression");
        let raw_ref = format!("{repository}:{DEFAULT_TAG}");
        let mut export = RegistryCacheTo::at(&raw_ref, pairs, &known)?;
        export.fill(defaults);
        export.hints_at_mounts = export.mounts.is_none();
        if !keeps_compression && export.compressor != Compressor::Client {
            export.compression = Some(Compression::Auto);
        }
        Ok(Some(Self {
            repository,
            scope,
            also,
            base,
            default,
            write: write.unwrap_or_default(),
            context_mode,
            export,
            verification,
            has_age,
        }))
    }

    /// Returns the export to a tag of the repository. `is_pull` is whether it is that of a pull request.
    ///
    /// # Errors
    ///
    /// Fails if the tag is none.
    pub fn to(&self, tag: &str, is_pull: bool) -> Result<RegistryCacheTo, OptionError> {
        let place = RegistryCacheTo::new(&self.raw_ref(tag))?;
        let age = if is_pull { MAX_AGE_OF_PULLS } else { MAX_AGE };
        let has_age = self.has_age || self.export.via == Via::Builder;
        Ok(RegistryCacheTo {
            reference: place.reference,
            raw_ref: place.raw_ref,
            max_age: if has_age {
                self.export.max_age
            } else {
                Some(age)
            },
            takes_in: self.export.merge,
            ..self.export.clone()
        })
    }

    /// Returns the import from a tag of the repository.
    ///
    /// # Errors
    ///
    /// Fails if the tag is none.
    pub fn from(&self, tag: &str) -> Result<CacheFrom, OptionError> {
        let raw_ref = self.raw_ref(tag);
        Ok(CacheFrom::Registry {
            reference: Reference::parse_normalized(&raw_ref)?,
            raw_ref,
            insecure: self.export.insecure,
            via: Via::Auto,
            verification: self.verification.clone(),
            mounts: match &self.export.mounts {
                Some(Mounts::None) => Mounts::None,
                _ => Mounts::All,
            },
            mounts_helper: self.export.mounts_helper.clone().map(Box::new),
        })
    }

    /// Returns the reference of a tag of the repository.
    pub fn raw_ref(&self, tag: &str) -> String {
        format!("{}:{tag}", self.repository)
    }
}

/// Returns whether a value is the word for no cache.
fn is_off(value: &str) -> bool {
    ["off", "false"]
        .iter()
        .any(|word| value.eq_ignore_ascii_case(word))
}

impl RegistryCacheTo {
    /// Sets what `--cache` does where the user says nothing. The builder unites nothing and drops nothing.
    fn fill(&mut self, [mode, merge, ignore_error, clean]: [bool; 4]) {
        if !mode {
            self.mode = Mode::Max;
        }
        if !merge && self.via != Via::Builder {
            self.merge = true;
        }
        if !ignore_error {
            self.ignore_error = true;
        }
        if !clean && self.via != Via::Builder && self.oci_mediatypes != Some(false) {
            self.clean = Some(CLEAN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str) -> ScopedCache {
        ScopedCache::parse(value).unwrap().unwrap()
    }

    fn error(value: &str) -> String {
        ScopedCache::parse(value).unwrap_err().to_string()
    }

    #[test]
    fn a_repository_is_enough() {
        let cache = parse("ghcr.io/acme/app/cache");
        let hour = Duration::from_secs(3600);
        let export = cache.to("b-main", false).unwrap();
        assert_eq!(export.raw_ref, "ghcr.io/acme/app/cache:b-main");
        assert!(export.merge && export.ignore_error && export.mode == Mode::Max);
        assert_eq!(export.compression, Some(Compression::Auto));
        assert_eq!(export.clean, Some(24 * hour));
        assert_eq!(export.max_age, Some(336 * hour));
        assert_eq!(cache.to("pr-1", true).unwrap().max_age, Some(168 * hour));
        let CacheFrom::Registry {
            raw_ref, insecure, ..
        } = cache.from("pr-1").unwrap()
        else {
            panic!()
        };
        assert_eq!(
            (raw_ref.as_str(), insecure),
            ("ghcr.io/acme/app/cache:pr-1", None)
        );
    }

    #[test]
    fn the_user_has_the_last_word() {
        let cache = parse(
            "localhost:5000/c,mode=min,merge=false,ignore-error=false,max-age=1h,registry.insecure=true",
        );
        let export = cache.to("pr-1", true).unwrap();
        assert!(!export.merge && !export.ignore_error && export.mode == Mode::Min);
        assert_eq!(export.max_age, Some(Duration::from_secs(3600)));
        assert_eq!(export.insecure, Some(true));
        let builder = parse("r.io/c,via=builder").to("b-main", false).unwrap();
        assert!(!builder.merge && builder.max_age.is_none() && builder.clean.is_none());
        let clean = |value: &str| parse(value).to("b-main", false).unwrap().clean;
        assert_eq!(clean("r.io/c,clean=1h"), Some(Duration::from_secs(3600)));
        assert_eq!(clean("r.io/c,clean=off"), None);
        assert_eq!(clean("r.io/c,oci-mediatypes=false"), None);
    }

    #[test]
    fn scopes_are_the_users() {
        let cache = parse(
            "r.io/c,scope=front,also=b-main,also=back,base=stable,default=develop,write=true,context-mode=git",
        );
        assert_eq!(cache.scope.as_deref(), Some("front"));
        assert_eq!(cache.also, ["b-main", "back"]);
        assert_eq!(cache.base.as_deref(), Some("stable"));
        assert_eq!(cache.default.as_deref(), Some("develop"));
        assert_eq!(cache.write, WriteScope::Always);
        assert_eq!(cache.context_mode, Some(ContextMode::Git));
    }

    #[test]
    fn the_repository_is_lower_case() {
        let cache = parse("ghcr.io/Acme/App/cache,scope=Front");
        assert_eq!(cache.raw_ref("b-main"), "ghcr.io/acme/app/cache:b-main");
        assert_eq!(cache.scope.as_deref(), Some("Front"));
    }

    #[test]
    fn off_is_no_cache() {
        for value in ["", "off", "OFF", "false"] {
            assert_eq!(ScopedCache::parse(value).unwrap(), None);
        }
        // What an event has none of is not set: nothing of it is meant.
        let cache = parse("r.io/c,base=,default=");
        assert_eq!((cache.base, cache.default), (None, None));
    }

    #[test]
    fn mistakes_are_named() {
        for (value, expected) in [
            ("r.io/c,mdoe=max", "mode"),
            ("r.io/c,scpe=x", "scope"),
            ("r.io/c,write=yes", "auto, true or false"),
            ("r.io/c,ref=r.io/d", "ref"),
            ("r.io/c:tag", "without a tag"),
            ("r.io/c,max", "max"),
            ("r.io/c,mode=max,mode=min", "mode"),
            ("mode=max", "no repository"),
            ("./folder", "no reference"),
            ("off,write=true", "takes no keys"),
            ("False,mode=max", "takes no keys"),
            ("true", "no place of yours"),
            ("cache", "no place of yours"),
            ("r.io/c,scope=", "scope names no scope"),
            ("r.io/c,also=", "also names no scope"),
            ("r.io/c,also=front,also=", "also names no scope"),
        ] {
            let error = error(value);
            assert!(error.contains(expected), "{value}: {error}");
        }
    }
}
