//! The keys that sign and verify caches: read from files and the environment. No message has any of a private key.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::build::BuildRequest;
use crate::cache::sign::cosign::Cosign;
use crate::cache::sign::key::SigningKey;
use crate::cache::sign::keyring::Keyring;
use crate::cache::sign::trust::NamedKey;
use crate::cache::sign::writer::Signer;
use crate::env::{self, Env};
use crate::error::CommandError;
use crate::options::OptionError;
use crate::options::cache::{CacheFrom, CacheTo};
use crate::options::cosign::{self, Identity};
use crate::options::signing::{KeyPlace, Sign, Verify};
use crate::scope;

mod file;
mod public;
#[cfg(test)]
mod tests;
mod trust;

use file::{read, read_named_by};
use public::PEM;
pub(super) use public::public_keys;
use trust::TRUST_FILE;
pub(super) use trust::{is_asked_for, trust};

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
            Some(text) if text.contains(PEM) => Zeroizing::new(text.to_owned()),
            Some(path) => {
                let path = file_of(path).map_err(|e| failed(&e))?;
                read_named_by(name, &env.current_dir().join(path)).map_err(|e| failed(&e))?
            }
        },
    };
    let key = SigningKey::parse(&text).map_err(|e| failed(&e))?;
    Ok(Some(Signer::new(key, &name_of(place))))
}

/// Returns the path that a variable names a key by; no error repeats what is in the variable.
fn file_of(value: &str) -> Result<String, OptionError> {
    match KeyPlace::parse(value)? {
        KeyPlace::File(path) => Ok(path),
        KeyPlace::Env(_) => Err(OptionError::other("it names another variable")),
    }
}

/// Returns the user's cosign with the arguments that the user gives it.
///
/// # Errors
///
/// Fails if a quote in them does not end.
pub(super) fn cosign(env: &Env) -> Result<Arc<Cosign>, CommandError> {
    let args = |name: &str| {
        let words = cosign::words(env.get(name).unwrap_or_default());
        words.map_err(|error| CommandError::failed(format!("invalid {name}: {error}")))
    };
    let sign_args = args(env::CACHEX_COSIGN_ARGS)?;
    let verify_args = args(env::CACHEX_COSIGN_VERIFY_ARGS)?;
    let get = |name: &str| env.get(name).map(str::to_owned);
    Ok(Arc::new(Cosign {
        own: Identity::of_signer(&sign_args, &verify_args, &get),
        sign_args,
        verify_args,
        ..Cosign::default()
    }))
}

/// Returns the user's cosign, to find this one.
///
/// # Errors
///
/// Fails as [`cosign()`], and if nobody is named: every signature would do.
pub(super) fn cosign_for(identity: &Identity, env: &Env) -> Result<Arc<Cosign>, CommandError> {
    let cosign = cosign(env)?;
    if identity.is_empty() && cosign.verify_args.is_empty() {
        return Err(
            CommandError::failed("cosign is not told who must have signed").hint(format!(
                "write cosign:identity=WHO,issuer=URL, or set {}",
                env::CACHEX_COSIGN_VERIFY_ARGS
            )),
        );
    }
    Ok(cosign)
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
    let keyring = Keyring::default();
    let written = request.cache_to.iter().filter_map(|cache| match cache {
        CacheTo::Registry(cache) => Some(cache),
        CacheTo::Other { .. } => None,
    });
    let written: Vec<_> = written.collect();
    let mut keyring = Keyring {
        cosign: cosign(env)?,
        commit: scope::commit(&|name| env.get(name).map(str::to_owned)),
        ..keyring
    };
    let read: Vec<&Verify> = request.cache_from.iter().filter_map(verify).collect();
    if !written.is_empty() || read.iter().any(|verify| **verify != Verify::Off) {
        keyring.own = own_signer(env)?.map(Arc::new);
    }
    let mut own: Vec<NamedKey> = keyring
        .own
        .iter()
        .filter_map(|signer| signer.named())
        .collect();
    for cache in &written {
        let reference = &cache.raw_ref;
        match &cache.sign {
            Sign::With(place) => match signer(place, env)? {
                Some(signer) => {
                    own.extend(signer.named());
                    keyring.signers.insert(place.clone(), Arc::new(signer));
                }
                None => warnings.push(format!(
                    "the cache {reference} is not signed: the variable of {place} is not set"
                )),
            },
            Sign::Cosign(identity) if !identity.is_empty() => {
                own.push(NamedKey::cosign(
                    Arc::clone(&keyring.cosign),
                    identity.clone(),
                ));
            }
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
            CommandError::failed("a cache must be verified, but no key is known").hint(format!(
                "name the key with verify=FILE, {} or {TRUST_FILE}",
                env::CACHEX_VERIFY_KEYS
            )),
        );
    }
    for verify in &read {
        if let Verify::Cosign(identity) = verify {
            cosign_for(identity, env)?;
        }
    }
    keyring.public = named_keys(&read, env)?;
    keyring.max_age = shortest_age(request);
    Ok(keyring)
}

/// Returns how old the signature of a cache may be by those that are read, by the strictest of them.
fn shortest_age(request: &BuildRequest) -> Option<Duration> {
    let ages = request.cache_from.iter().filter_map(|cache| match cache {
        CacheFrom::Registry { verification, .. } => verification.max_age,
        CacheFrom::Other { .. } => None,
    });
    ages.min()
}

fn verify(cache: &CacheFrom) -> Option<&Verify> {
    match cache {
        CacheFrom::Registry { verification, .. } => Some(&verification.verify),
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
