//! The caches that a build names: what is written is read strictly, what is read is left out if it is wrong.

use crate::build::cache::import::imports;
use crate::env::Env;
use crate::error::{CommandError, chain};
use crate::options::OptionError;
use crate::options::cache::{CacheFrom, CacheTo};

use super::flag;

/// Returns the caches to write. One that cannot be used here is left out, as in buildx.
pub(super) fn written(values: &[String], env: &Env) -> Result<Vec<CacheTo>, CommandError> {
    let mut caches = Vec::new();
    for value in values {
        for mut cache in flag("cache-to", CacheTo::parse(value))? {
            if flag("cache-to", cache.fill_from_env(|name| lookup(env, name)))? {
                caches.push(cache);
            }
        }
    }
    Ok(caches)
}

/// Returns the caches to read. A build does without a cache that is named wrongly, and `warnings` say
/// what is wrong.
pub(super) fn read(
    values: &[String],
    env: &Env,
    warnings: &mut Vec<String>,
) -> Result<Vec<CacheFrom>, CommandError> {
    let mut caches = Vec::new();
    for value in values {
        let (parsed, remarks) = flag("cache-from", CacheFrom::parse_leniently(value))?;
        for remark in remarks {
            let warning = format!("--cache-from: {remark}");
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
        for mut cache in parsed {
            match cache.fill_from_env(|name| lookup(env, name)) {
                Ok(false) => continue,
                Ok(true) => {}
                Err(error) => {
                    warnings.push(format!("--cache-from: not read: {error}"));
                    continue;
                }
            }
            match imports(std::slice::from_ref(&cache)) {
                Ok(_) => caches.push(cache),
                Err(error) => warnings.push(format!("--cache-from: not read: {}", chain(&error))),
            }
        }
    }
    Ok(caches)
}

fn lookup(env: &Env, name: &str) -> Result<Option<String>, OptionError> {
    super::variable(env, name)
}
