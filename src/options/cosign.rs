//! Signatures by the user's cosign: `sign=cosign`, `verify=cosign:identity=…,issuer=…`, and the arguments that it gets.

use std::fmt;

use super::error::OptionError;
use super::signing::is_key_itself;

/// What a value begins with that is about cosign.
pub const COSIGN: &str = "cosign";
/// Keys of an identity, and the flag of `cosign verify-blob-attestation` that each is.
const FLAGS: [(&str, &str); 5] = [
    ("identity", "--certificate-identity"),
    ("identity-regexp", "--certificate-identity-regexp"),
    ("issuer", "--certificate-oidc-issuer"),
    ("issuer-regexp", "--certificate-oidc-issuer-regexp"),
    ("key", "--key"),
];

/// Who has signed, in cosign's words. One that names nobody leaves it to the arguments that the user gives cosign.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Identity(Vec<(&'static str, String)>);

impl Identity {
    /// Parses `cosign` or `cosign:KEY=VALUE…`, with `,` or `;` between the fields; `None` for a value that is not about
    /// cosign.
    ///
    /// # Errors
    ///
    /// Fails for a key that is not known, a value that is empty or a key itself, and an identity without its issuer.
    pub fn parse(text: &str) -> Result<Option<Self>, OptionError> {
        if text == COSIGN {
            return Ok(Some(Self::default()));
        }
        let Some(fields) = text.strip_prefix(COSIGN).and_then(|t| t.strip_prefix(':')) else {
            return Ok(None);
        };
        let wrong = |why: &str| {
            OptionError::other(format!(
                "{why}; write cosign:identity=WHO,issuer=URL (in quotes, because of the comma, or with a semicolon) or \
                 cosign:key=KEY"
            ))
        };
        let mut known = Vec::new();
        for field in fields.split([',', ';']) {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            if is_key_itself(value) || is_key_itself(key) {
                return Err(OptionError::other(
                    "a key itself is given in place of its name; keys never belong on a command line",
                ));
            }
            let found = FLAGS.iter().find(|(name, _)| *name == key);
            let (name, _) = found.ok_or_else(|| wrong(&format!("unknown key {key:?}")))?;
            if value.is_empty() || known.iter().any(|(other, _)| other == name) {
                return Err(wrong(&format!("{key} needs one value")));
            }
            known.push((*name, value.to_owned()));
        }
        let has = |word: &str| known.iter().any(|(name, _)| name.starts_with(word));
        if has("key") == has("identity") || has("identity") != has("issuer") {
            return Err(wrong("who has signed is not certain"));
        }
        Ok(Some(Self(known)))
    }

    /// Returns whether it names nobody.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the arguments of cosign for it.
    pub fn arguments(&self) -> Vec<String> {
        let flag = |key: &str| FLAGS.iter().find(|(name, _)| *name == key);
        let fields = self.0.iter();
        let args = fields.filter_map(|(key, value)| Some(format!("{}={value}", flag(key)?.1)));
        args.collect()
    }

    /// Returns who it is, for people.
    pub fn name(&self) -> &str {
        let first = self.0.iter().find(|(key, _)| !key.starts_with("issuer"));
        first.map_or(COSIGN, |(_, value)| value)
    }

    /// Returns who says so, for people.
    pub fn issuer(&self) -> &str {
        let first = self.0.iter().find(|(key, _)| key.starts_with("issuer"));
        first.map_or(COSIGN, |(_, value)| value)
    }
}

/// Displays as it is parsed.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(COSIGN)?;
        for (index, (key, value)) in self.0.iter().enumerate() {
            let before = if index == 0 { ':' } else { ',' };
            write!(f, "{before}{key}={value}")?;
        }
        Ok(())
    }
}

/// Takes the words of a line apart: blanks separate them, quotes of both kinds keep them.
///
/// # Errors
///
/// Fails if a quote does not end. The line is not repeated: it may hold a secret.
pub fn words(line: &str) -> Result<Vec<String>, OptionError> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match quote {
            Some(end) if c == end => quote = None,
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(OptionError::other("a quote does not end"));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_arguments_of_cosign() {
        let parse = |text: &str| Identity::parse(text).unwrap();
        assert_eq!(parse("cosign.key"), None);
        assert_eq!(parse("./cosign"), None);
        assert!(parse("cosign").unwrap().is_empty());
        let identity = parse("cosign:identity=a@b.c;issuer=https://x").unwrap();
        assert_eq!(
            identity.arguments(),
            [
                "--certificate-identity=a@b.c",
                "--certificate-oidc-issuer=https://x"
            ]
        );
        assert_eq!((identity.name(), identity.issuer()), ("a@b.c", "https://x"));
        assert_eq!(parse(&identity.to_string()), Some(identity));
        let key = parse("cosign:key=awskms:///alias/a").unwrap();
        assert_eq!(key.arguments(), ["--key=awskms:///alias/a"]);
        for wrong in [
            "cosign:",
            "cosign:who=a",
            "cosign:identity=a",
            "cosign:issuer=a",
            "cosign:identity=,issuer=b",
            "cosign:identity=a,identity=b,issuer=c",
            "cosign:key=a,identity=b,issuer=c",
        ] {
            assert!(Identity::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn quotes_keep_words_together() {
        let split = |line: &str| words(line).unwrap();
        assert_eq!(split(""), Vec::<String>::new());
        assert_eq!(split(" --a  b\tc "), ["--a", "b", "c"]);
        assert_eq!(split(r#"--a="b c" '' 'd"e'"#), ["--a=b c", "", "d\"e"]);
        let error = words("--token='secret").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
