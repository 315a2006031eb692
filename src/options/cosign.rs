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

    /// Returns as whom cosign signs with these arguments, as far as that can be told, for it to find its own signatures
    /// again: whom its arguments to verify name, a key in a KMS that it signs with, or the workflow of GitHub Actions.
    /// `get` looks up a variable.
    pub fn of_signer(
        sign_args: &[String],
        verify_args: &[String],
        get: &dyn Fn(&str) -> Option<String>,
    ) -> Option<Self> {
        if !verify_args.is_empty() {
            return Some(Self::default());
        }
        match key_of(sign_args) {
            Some(key) if is_in_kms(key) => Some(Self(vec![("key", key.to_owned())])),
            // The public half of a file is not known.
            Some(_) => None,
            None if sign_args.iter().any(|arg| names_signer(arg)) => None,
            None => of_workflow(get),
        }
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

/// Returns the key that arguments of cosign name.
fn key_of(args: &[String]) -> Option<&str> {
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--key" {
            return args.next().map(String::as_str);
        }
        if let Some(key) = arg.strip_prefix("--key=") {
            return Some(key);
        }
    }
    None
}

/// Returns whether a key is one that cosign both signs and verifies with by the same name
/// (<https://docs.sigstore.dev/cosign/key_management/overview/>).
fn is_in_kms(key: &str) -> bool {
    let kinds = ["awskms://", "azurekms://", "gcpkms://", "hashivault://"];
    kinds.iter().any(|kind| key.starts_with(kind))
}

/// Returns whether an argument has cosign sign as somebody else than the job.
fn names_signer(arg: &str) -> bool {
    let flags = [
        "--identity-token",
        "--sk",
        "--oidc",
        "--certificate",
        "--issue-certificate",
    ];
    flags.iter().any(|flag| arg.starts_with(flag))
}

/// Returns as whom a workflow of GitHub Actions signs: <https://docs.github.com/en/actions/reference/security/oidc>. One
/// that another workflow calls signs as itself, which no variable tells: its signatures are not found again.
fn of_workflow(get: &dyn Fn(&str) -> Option<String>) -> Option<Identity> {
    let server = "https://github.com";
    let is_there = get("GITHUB_ACTIONS")? == "true" && get("GITHUB_SERVER_URL")? == server;
    let workflow =
        get("GITHUB_WORKFLOW_REF").filter(|workflow| !workflow.is_empty() && is_there)?;
    Some(Identity(vec![
        ("identity", format!("{server}/{workflow}")),
        (
            "issuer",
            "https://token.actions.githubusercontent.com".to_owned(),
        ),
    ]))
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
    fn a_signer_is_known_by_arguments_and_by_its_workflow() {
        let strings = |args: &[&str]| args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>();
        let in_actions = |name: &str| {
            let value = match name {
                "GITHUB_ACTIONS" => "true",
                "GITHUB_SERVER_URL" => "https://github.com",
                "GITHUB_WORKFLOW_REF" => "acme/app/.github/workflows/ci.yml@refs/heads/main",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let nowhere = |_: &str| None;
        let of = |sign: &[&str], verify: &[&str], in_ci: bool| {
            let get: &dyn Fn(&str) -> Option<String> = if in_ci { &in_actions } else { &nowhere };
            let own = Identity::of_signer(&strings(sign), &strings(verify), get);
            own.map(|own| own.arguments().join(" "))
        };
        let kms = "awskms:///alias/a";
        assert_eq!(of(&[], &[], false), None);
        assert_eq!(
            of(&[], &["--certificate-identity=a"], true).as_deref(),
            Some("")
        );
        let expected = format!("--key={kms}");
        for args in [&["--key", kms][..], &["-y", &expected]] {
            assert_eq!(of(args, &[], true).as_deref(), Some(&*expected));
        }
        assert_eq!(
            of(&["--fulcio-url=x"], &[], true).unwrap(),
            "--certificate-identity=https://github.com/acme/app/.github/workflows/ci.yml@refs/heads/main \
             --certificate-oidc-issuer=https://token.actions.githubusercontent.com"
        );
        for args in [
            ["--key", "cosign.key"],
            ["--identity-token=x", ""],
            ["--sk", ""],
        ] {
            assert_eq!(of(&args, &[], true), None, "{args:?}");
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
