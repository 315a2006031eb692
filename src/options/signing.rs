//! Where keys are: `sign=` and `verify=` of caches, and `--key`. A key itself is never a value, and never shown.

use std::fmt;
use std::time::Duration;

use super::cosign::Identity;
use super::error::OptionError;
use super::secret_keys::holds_private_key;

/// What a place in the environment begins with.
const ENV: &str = "env://";

/// Where a key is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyPlace {
    /// In a file.
    File(String),
    /// In an environment variable.
    Env(String),
}

impl KeyPlace {
    /// Parses a path, or `env://NAME`.
    ///
    /// # Errors
    ///
    /// Fails if the text is empty, or a key itself, which is not repeated.
    pub fn parse(text: &str) -> Result<Self, OptionError> {
        if is_key_itself(text) {
            return Err(OptionError::other(
                "a key itself is given in place of its file; keys never belong on a command line: name a file, or a variable as env://NAME",
            ));
        }
        match text.strip_prefix(ENV) {
            Some("") => Err(OptionError::other("env:// names no variable")),
            Some(name) => Ok(Self::Env(name.to_owned())),
            None if text.is_empty() => Err(OptionError::other(
                "no key is named: name a file, or a variable as env://NAME",
            )),
            None => Ok(Self::File(text.to_owned())),
        }
    }

    /// Parses places joined by `+`.
    ///
    /// # Errors
    ///
    /// Fails as [`parse`](Self::parse) does.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, OptionError> {
        if is_key_itself(text) {
            return Self::parse(text).map(|place| vec![place]);
        }
        text.split('+').map(Self::parse).collect()
    }
}

impl fmt::Display for KeyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.write_str(path),
            Self::Env(name) => write!(f, "{ENV}{name}"),
        }
    }
}

impl fmt::Debug for KeyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Returns whether a text looks like a key in place of the name of its file: PEM, or what is between its lines.
pub(super) fn is_key_itself(text: &str) -> bool {
    text.contains("-----") || text.contains('\n') || holds_private_key(text)
}

/// `sign=` of a cache that is written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Sign {
    /// It is signed where `CACHEX_SIGN_KEY` is set.
    #[default]
    Auto,
    /// It is signed with the key of `CACHEX_SIGN_KEY`.
    On,
    /// It is not signed.
    Off,
    /// It is signed with this key.
    With(KeyPlace),
    /// The user's cosign signs it, as whom this says.
    Cosign(Identity),
}

impl Sign {
    /// Parses the value.
    ///
    /// # Errors
    ///
    /// Fails if it is a key itself.
    pub fn parse(text: &str) -> Result<Self, OptionError> {
        Ok(match text {
            "" => Self::Auto,
            "true" => Self::On,
            "false" => Self::Off,
            text => match Identity::parse(text)? {
                Some(identity) => Self::Cosign(identity),
                None => Self::With(KeyPlace::parse(text)?),
            },
        })
    }
}

/// Displays as it is parsed.
impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => Ok(()),
            Self::On => f.write_str("true"),
            Self::Off => f.write_str("false"),
            Self::With(place) => place.fmt(f),
            Self::Cosign(identity) => identity.fmt(f),
        }
    }
}

/// `verify=` of a cache that is read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Verify {
    /// It must be signed where a trust file, `CACHEX_VERIFY_KEYS` or a key to sign with says by whom.
    #[default]
    Auto,
    /// It must be signed.
    On,
    /// It need not be signed.
    Off,
    /// It must be signed with one of these keys.
    With(Vec<KeyPlace>),
    /// The user's cosign must find that it was signed by this one.
    Cosign(Identity),
}

/// How a cache that is read is verified.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verification {
    /// Whether and by whom it must be signed (`verify`).
    pub verify: Verify,
    /// How old its signature may be, where given (`max-signature-age`).
    pub max_age: Option<Duration>,
    /// One that is not signed as it must be is an error (`verify-required`), and not only not read.
    pub is_required: bool,
}

impl Verify {
    /// Parses the value.
    ///
    /// # Errors
    ///
    /// Fails if it is a key itself.
    pub fn parse(text: &str) -> Result<Self, OptionError> {
        Ok(match text {
            "" => Self::Auto,
            "true" => Self::On,
            "false" => Self::Off,
            text => match Identity::parse(text)? {
                Some(identity) => Self::Cosign(identity),
                None => Self::With(KeyPlace::parse_list(text)?),
            },
        })
    }
}

/// Displays as it is parsed.
impl fmt::Display for Verify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => Ok(()),
            Self::On => f.write_str("true"),
            Self::Off => f.write_str("false"),
            Self::With(places) => {
                let places: Vec<String> = places.iter().map(ToString::to_string).collect();
                f.write_str(&places.join("+"))
            }
            Self::Cosign(identity) => identity.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cosign::COSIGN;
    use super::*;

    #[test]
    fn places_are_files_and_variables() {
        let file = |path: &str| KeyPlace::File(path.into());
        assert_eq!(KeyPlace::parse("a/b.key").unwrap(), file("a/b.key"));
        let places = KeyPlace::parse_list("a.pub+env://B").unwrap();
        assert_eq!(places, [file("a.pub"), KeyPlace::Env("B".into())]);
        assert_eq!(Verify::With(places).to_string(), "a.pub+env://B");
        for wrong in ["", "env://"] {
            assert!(KeyPlace::parse(wrong).is_err());
        }
        assert_eq!(Sign::parse("true").unwrap(), Sign::On);
        assert_eq!(Verify::parse("false").unwrap(), Verify::Off);
    }

    #[test]
    fn a_key_in_place_of_its_file_is_not_repeated() {
        let body = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg";
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
        for key in [body, &pem, pem.trim_end()] {
            for error in [
                Sign::parse(key).unwrap_err(),
                Verify::parse(key).unwrap_err(),
            ] {
                assert!(!error.to_string().contains("MIGH"), "{error}");
            }
        }
        let named = format!("{COSIGN}:key={body}");
        let error = Verify::parse(&named).unwrap_err();
        assert!(!error.to_string().contains("MIGH"), "{error}");
        let path = "/home/me/projects/a-long-name-of-a-folder/cachex.key";
        assert!(KeyPlace::parse(path).is_ok());
    }
}
