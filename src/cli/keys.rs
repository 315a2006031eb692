//! The keys that sign and verify caches: read from files and the environment. No message has any of a private key.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use zeroize::Zeroizing;

use crate::build::BuildRequest;
use crate::cache::sign::key::{PublicKey, SigningKey};
use crate::cache::sign::keyring::Keyring;
use crate::cache::sign::trust::{NamedKey, Trust, TrustError};
use crate::cache::sign::writer::Signer;
use crate::env::{self, Env};
use crate::error::{CommandError, chain};
use crate::options::cache::{CacheFrom, CacheTo};
use crate::options::signing::{KeyPlace, Sign, Verify};

/// The largest file of keys that is read, in bytes.
const MAX_BYTES: u64 = 256 << 10;
/// Where a repository says which keys count.
const TRUST_FILE: &str = ".cachex/trust.toml";
/// What a variable begins with, besides blanks, that has a key and not the path of one.
const PEM: &str = "-----BEGIN";

/// Reads the key that signs where nothing else is named; `None` where there is none.
///
/// # Errors
///
/// Fails if `CACHEX_SIGN_KEY` is set to what is no key.
pub(super) fn own_signer(env: &Env) -> Result<Option<Signer>, CommandError> {
    signer(&KeyPlace::Env(env::CACHEX_SIGN_KEY.to_owned()), env)
}

/// Reads a private key; `None` where the variable is empty, as a secret is in the pull request of a fork.
///
/// # Errors
///
/// Fails if there is no key, or one that cannot be used.
pub(super) fn signer(place: &KeyPlace, env: &Env) -> Result<Option<Signer>, CommandError> {
    let failed = |error: &dyn std::fmt::Display| {
        CommandError::failed(format!(
            "cannot read the key to sign with, {place}: {error}"
        ))
    };
    let text = match place {
        KeyPlace::File(path) => read(&env.current_dir().join(path)).map_err(|e| failed(&e))?,
        KeyPlace::Env(name) => match env.non_empty(name).map(str::trim) {
            None | Some("") => return Ok(None),
            Some(text) if text.starts_with(PEM) => Zeroizing::new(text.to_owned()),
            Some(path) => {
                // What is no path may be a secret.
                let path = KeyPlace::parse(path).map_err(|e| failed(&e))?;
                let KeyPlace::File(path) = path else {
                    return Err(failed(&"it names another variable"));
                };
                read(&env.current_dir().join(path)).map_err(|e| failed(&e))?
            }
        },
    };
    let key = SigningKey::parse(&text).map_err(|e| failed(&e))?;
    Ok(Some(Signer::new(key, &name_of(place))))
}

/// Reads public keys.
///
/// # Errors
///
/// Fails if there are none.
pub(super) fn public_keys(place: &KeyPlace, env: &Env) -> Result<Vec<NamedKey>, CommandError> {
    match place {
        KeyPlace::File(path) => public_file(&env.current_dir().join(path)),
        KeyPlace::Env(name) => match env.non_empty(name).map(str::trim) {
            None | Some("") => Err(CommandError::failed(format!(
                "cannot read the key to verify with: the variable {name} is not set"
            ))),
            Some(text) if text.starts_with(PEM) => public_text(text, name, name),
            Some(path) => public_file(&env.current_dir().join(path)),
        },
    }
}

fn public_file(path: &Path) -> Result<Vec<NamedKey>, CommandError> {
    let shown = path.display().to_string();
    let text = read(path).map_err(|error| {
        CommandError::failed(format!("cannot read the key to verify with: {error}"))
    })?;
    let name = path.file_name().map(|name| name.to_string_lossy());
    public_text(&text, &name.unwrap_or_default(), &shown)
}

fn public_text(text: &str, name: &str, shown: &str) -> Result<Vec<NamedKey>, CommandError> {
    let keys = PublicKey::parse_all(text).map_err(|error| {
        CommandError::failed(format!(
            "cannot read the key to verify with, {shown}: {error}"
        ))
    })?;
    let named = keys.into_iter().map(|key| NamedKey {
        name: name.to_owned(),
        key,
    });
    Ok(named.collect())
}

/// Returns which keys count where the options name none: by `--trust`, else by the trust file of the repository that a
/// folder lies in, else by `CACHEX_VERIFY_KEYS`; `None` where nothing says so. The last also counts with `own` keys, with
/// which this command signs.
///
/// # Errors
///
/// Fails if a file or a key cannot be read.
pub(super) fn trust(
    file: Option<&str>,
    folder: Option<&Path>,
    mut own: Vec<NamedKey>,
    env: &Env,
) -> Result<Option<Trust>, CommandError> {
    let file = file.map(|file| env.current_dir().join(file));
    if let Some(file) = file.or_else(|| trust_file(folder?)) {
        return read_trust(&file).map(Some);
    }
    if let Some(text) = env.non_empty(env::CACHEX_VERIFY_KEYS).map(str::trim) {
        let name = env::CACHEX_VERIFY_KEYS;
        if text.starts_with(PEM) {
            own.extend(public_text(text, name, name)?);
        } else {
            let places = KeyPlace::parse_list(text);
            let places =
                places.map_err(|e| CommandError::failed(format!("invalid {name}: {e}")))?;
            for place in places {
                own.extend(public_keys(&place, env)?);
            }
        }
    }
    Ok((!own.is_empty()).then(|| Trust::of(own)))
}

/// Finds the trust file of the repository that a folder lies in.
fn trust_file(folder: &Path) -> Option<PathBuf> {
    for folder in folder.ancestors() {
        let file = folder.join(TRUST_FILE);
        if file.is_file() {
            return Some(file);
        }
        if folder.join(".git").exists() {
            break;
        }
    }
    None
}

fn read_trust(path: &Path) -> Result<Trust, CommandError> {
    let failed = |error: &dyn std::fmt::Display| {
        CommandError::failed(format!("trust file {}: {error}", path.display()))
    };
    let text = read(path).map_err(|error| failed(&error))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let parsed = Trust::parse(&text, |file| {
        public_file(&folder.join(file)).map_err(TrustFailure::Key)
    });
    parsed.map_err(|error| match error {
        TrustFailure::File(error) => failed(&chain(&error)),
        TrustFailure::Key(error) => failed(&error),
    })
}

enum TrustFailure {
    File(TrustError),
    Key(CommandError),
}

impl From<TrustError> for TrustFailure {
    fn from(error: TrustError) -> Self {
        Self::File(error)
    }
}

/// Reads the keys of a build, and adds what is to be said about them.
///
/// # Errors
///
/// Fails if a key or the trust file cannot be read, or a cache must be verified and there is no key.
pub(super) fn of_build(
    request: &BuildRequest,
    trust_flag: Option<&str>,
    env: &Env,
    warnings: &mut Vec<String>,
) -> Result<Keyring, CommandError> {
    let mut keyring = Keyring::default();
    let written = request.cache_to.iter().filter_map(|cache| match cache {
        CacheTo::Registry(cache) => Some(cache),
        CacheTo::Other { .. } => None,
    });
    let written: Vec<_> = written.collect();
    let read: Vec<&Verify> = request.cache_from.iter().filter_map(verify).collect();
    if !written.is_empty() || read.iter().any(|verify| **verify != Verify::Off) {
        keyring.own = own_signer(env)?.map(Arc::new);
    }
    let mut own: Vec<NamedKey> = keyring.own.iter().map(|signer| signer.named()).collect();
    for cache in &written {
        let reference = &cache.raw_ref;
        match &cache.sign {
            Sign::With(place) => match signer(place, env)? {
                Some(signer) => {
                    own.push(signer.named());
                    keyring.signers.insert(place.clone(), Arc::new(signer));
                }
                None => warnings.push(format!(
                    "the cache {reference} is not signed: the variable of {place} is not set"
                )),
            },
            Sign::On if keyring.own.is_none() => warnings.push(format!(
                "the cache {reference} is not signed: {} is not set",
                env::CACHEX_SIGN_KEY
            )),
            _ => {}
        }
    }
    let folder = env.current_dir().join(&request.inputs.context);
    let folder = match request.inputs.context.as_str() {
        "-" => Some(env.current_dir()),
        _ => folder.is_dir().then_some(folder.as_path()),
    };
    if read.iter().any(|v| matches!(v, Verify::Auto | Verify::On)) || !own.is_empty() {
        keyring.trust = trust(trust_flag, folder, own, env)?.map(Arc::new);
    }
    if keyring.trust.is_none() && read.contains(&&Verify::On) {
        return Err(
            CommandError::failed("verify=true, but no key is known").hint(format!(
                "name the key with verify=FILE, {} or {TRUST_FILE}",
                env::CACHEX_VERIFY_KEYS
            )),
        );
    }
    keyring.public = named_keys(&read, env)?;
    Ok(keyring)
}

fn verify(cache: &CacheFrom) -> Option<&Verify> {
    match cache {
        CacheFrom::Registry { verify, .. } => Some(verify),
        CacheFrom::Other { .. } => None,
    }
}

fn named_keys(
    read: &[&Verify],
    env: &Env,
) -> Result<BTreeMap<KeyPlace, Vec<NamedKey>>, CommandError> {
    let mut keys = BTreeMap::new();
    for verify in read {
        let Verify::With(places) = verify else {
            continue;
        };
        for place in places {
            if !keys.contains_key(place) {
                keys.insert(place.clone(), public_keys(place, env)?);
            }
        }
    }
    Ok(keys)
}

/// The name of a key for people.
fn name_of(place: &KeyPlace) -> String {
    match place {
        KeyPlace::Env(name) => name.clone(),
        KeyPlace::File(path) => {
            let name = Path::new(path).file_name();
            name.map_or_else(|| path.clone(), |name| name.to_string_lossy().into_owned())
        }
    }
}

/// Reads a small file of text.
fn read(path: &Path) -> std::io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    let file = fs::File::open(path)?;
    let bytes = file.take(MAX_BYTES).read_to_string(&mut text)?;
    if bytes as u64 == MAX_BYTES {
        return Err(std::io::Error::other(
            "the file is too large to be one of keys",
        ));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::sign::key::Algorithm;

    fn env(pairs: &[(&str, &str)], folder: &Path) -> Env {
        Env::from_pairs(pairs.iter().copied(), folder)
    }

    #[test]
    fn keys_come_from_files_and_variables() {
        let dir = tempfile::tempdir().unwrap();
        let pem = SigningKey::generate(Algorithm::P256).unwrap();
        fs::write(dir.path().join("a.key"), &*pem).unwrap();
        let public = SigningKey::parse(&pem).unwrap().public();
        fs::write(dir.path().join("a.pub"), public.to_pem()).unwrap();
        let env = env(
            &[("K", &pem), ("F", "a.key"), ("P", "a.pub"), ("E", " ")],
            dir.path(),
        );
        let place = |text: &str| KeyPlace::parse(text).unwrap();
        for text in ["a.key", "env://K", "env://F"] {
            let signer = signer(&place(text), &env).unwrap().unwrap();
            assert_eq!(signer.named().key, public, "{text}");
        }
        for text in ["env://E", "env://NONE"] {
            assert!(signer(&place(text), &env).unwrap().is_none());
        }
        for text in ["a.pub", "env://P"] {
            let keys = public_keys(&place(text), &env).unwrap();
            assert_eq!((keys[0].name.as_str(), &keys[0].key), ("a.pub", &public));
        }
        let error = public_keys(&place("a.key"), &env).unwrap_err().message();
        assert!(
            error.contains("private key") && !error.contains("BEGIN"),
            "{error}"
        );
        assert!(public_keys(&place("env://NONE"), &env).is_err());
    }

    #[test]
    fn a_secret_in_the_wrong_place_is_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let body = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg";
        for value in [body, "-----BEGIN PRIVATE KEY-----\nMIGHAgEA\n"] {
            let env = env(&[("CACHEX_SIGN_KEY", value)], dir.path());
            let error = own_signer(&env).unwrap_err().message();
            assert!(!error.contains("MIGH"), "{error}");
        }
    }

    #[test]
    fn a_repository_says_whom_it_trusts() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("repo");
        for folder in [".git", ".cachex", "sub/dir"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let sub = root.join("sub/dir");
        let env = env(&[], &sub);
        assert!(trust(None, Some(&sub), Vec::new(), &env).unwrap().is_none());
        let file = root.join(TRUST_FILE);
        let rule = "[[rule]]\nscopes = [\"b-main\"]\nkeys = [\"main.pub\"]\n";
        fs::write(&file, rule).unwrap();
        let error = trust(None, Some(&sub), Vec::new(), &env).unwrap_err();
        assert!(error.message().contains("main.pub"), "{error}");
        let key = SigningKey::parse(&SigningKey::generate(Algorithm::Ed25519).unwrap());
        let key = key.unwrap().public();
        fs::write(root.join(".cachex/main.pub"), key.to_pem()).unwrap();
        let found = trust(None, Some(&sub), Vec::new(), &env).unwrap().unwrap();
        let rule = found.rule("b-main").unwrap();
        assert_eq!(
            (rule.keys[0].name.as_str(), &rule.keys[0].key),
            ("main.pub", &key)
        );
        assert!(found.rule("pr-1").is_none());
        // Not beyond the repository.
        fs::create_dir_all(root.join("sub/.git")).unwrap();
        assert!(trust(None, Some(&sub), Vec::new(), &env).unwrap().is_none());
    }
}
