//! What caches of type `gha` and `s3` take from the environment, as buildx does.

use std::collections::BTreeMap;

use super::{CacheFrom, CacheTo};
use crate::options::boolean::parse_bool;
use crate::options::error::OptionError;

/// The value of an environment variable, if it is set; an error if it cannot be sent.
type Lookup = Result<Option<String>, OptionError>;

impl CacheTo {
    /// Adds what a `gha` or `s3` cache takes from environment variables, which `lookup` gives, and
    /// says whether the cache can be used: a `gha` cache without token or address cannot, and
    /// buildx leaves it out.
    ///
    /// Of `s3`'s credentials only the variables are looked at, not the files and services that the
    /// AWS SDK knows.
    pub fn fill_from_env(&mut self, lookup: impl Fn(&str) -> Lookup) -> Result<bool, OptionError> {
        match self {
            Self::Registry(_) => Ok(true),
            Self::Other { kind, attrs } => fill(kind, attrs, lookup),
        }
    }
}

impl CacheFrom {
    /// The same as [`CacheTo::fill_from_env`].
    pub fn fill_from_env(&mut self, lookup: impl Fn(&str) -> Lookup) -> Result<bool, OptionError> {
        match self {
            Self::Registry { .. } => Ok(true),
            Self::Other { kind, attrs } => fill(kind, attrs, lookup),
        }
    }
}

fn fill(
    kind: &str,
    attrs: &mut BTreeMap<String, String>,
    lookup: impl Fn(&str) -> Lookup,
) -> Result<bool, OptionError> {
    match kind {
        "gha" => fill_github(attrs, lookup),
        "s3" => {
            fill_aws(attrs, lookup)?;
            Ok(true)
        }
        _ => Ok(true),
    }
}

fn fill_github(
    attrs: &mut BTreeMap<String, String>,
    lookup: impl Fn(&str) -> Lookup,
) -> Result<bool, OptionError> {
    let second_version = if let Some(version) = attrs.get("version") {
        version == "2"
    } else {
        let on = lookup("ACTIONS_CACHE_SERVICE_V2")?;
        on.and_then(|on| parse_bool(&on)) == Some(true)
    };
    let results = || lookup("ACTIONS_RESULTS_URL");
    set_default(attrs, "token", || lookup("ACTIONS_RUNTIME_TOKEN"))?;
    if second_version {
        set_default(attrs, "url_v2", results)?;
    }
    set_default(attrs, "url", || match lookup("ACTIONS_CACHE_URL")? {
        Some(url) => Ok(Some(url)),
        None => results(),
    })?;
    let given = |key: &str| attrs.get(key).is_some_and(|value| !value.is_empty());
    Ok(given("token") && (given("url") || given("url_v2")))
}

fn fill_aws(
    attrs: &mut BTreeMap<String, String>,
    lookup: impl Fn(&str) -> Lookup,
) -> Result<(), OptionError> {
    // A key pair of the user's must not be joined with a session of the environment's.
    if attrs.contains_key("access_key_id") && attrs.contains_key("secret_access_key") {
        return Ok(());
    }
    let first = |names: &[&str]| {
        for name in names {
            if let Some(value) = lookup(name)?.filter(|value| !value.is_empty()) {
                return Ok(Some(value));
            }
        }
        Ok(None)
    };
    let id = first(&["AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY"])?;
    let secret = first(&["AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY"])?;
    // The AWS SDK takes the variables only as a pair.
    if id.is_some() && secret.is_some() {
        set_default(attrs, "access_key_id", || Ok(id))?;
        set_default(attrs, "secret_access_key", || Ok(secret))?;
        set_default(attrs, "session_token", || first(&["AWS_SESSION_TOKEN"]))?;
    }
    Ok(())
}

fn set_default(
    attrs: &mut BTreeMap<String, String>,
    key: &str,
    value: impl FnOnce() -> Lookup,
) -> Result<(), OptionError> {
    if !attrs.contains_key(key)
        && let Some(value) = value()?
    {
        attrs.insert(key.to_owned(), value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(value: &str, env: &[(&str, &str)]) -> (bool, Vec<String>) {
        let lookup = |name: &str| {
            let found = env.iter().find(|(known, _)| *known == name);
            Ok(found.map(|(_, value)| (*value).to_owned()))
        };
        let mut export = CacheTo::parse(value).unwrap().remove(0);
        let active = export.fill_from_env(lookup).unwrap();
        let list = |attrs: BTreeMap<String, String>| -> Vec<String> {
            attrs
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect()
        };
        if value != "type=inline" {
            let mut import = CacheFrom::parse(value).unwrap().remove(0);
            assert_eq!(import.fill_from_env(lookup), Ok(active));
            assert_eq!(import.attrs(), export.attrs());
        }
        (active, list(export.attrs()))
    }

    #[test]
    fn github() {
        let both = [("ACTIONS_RUNTIME_TOKEN", "t"), ("ACTIONS_RESULTS_URL", "r")];
        let old = [both[0], both[1], ("ACTIONS_CACHE_URL", "c")];
        let new = [both[0], both[1], ("ACTIONS_CACHE_SERVICE_V2", "True")];
        for (value, env, active, attrs) in [
            ("type=gha", &[][..], false, vec![]),
            ("type=gha", &both[..1], false, vec!["token=t"]),
            ("type=gha", &both[1..], false, vec!["url=r"]),
            ("type=gha", &both, true, vec!["token=t", "url=r"]),
            ("type=gha", &old, true, vec!["token=t", "url=c"]),
            ("type=gha", &new, true, vec!["token=t", "url=r", "url_v2=r"]),
            (
                "type=gha,version=1",
                &new,
                true,
                vec!["token=t", "url=r", "version=1"],
            ),
            (
                "type=gha,version=2",
                &both,
                true,
                vec!["token=t", "url=r", "url_v2=r", "version=2"],
            ),
            (
                "type=gha,token=x,url=y",
                &old,
                true,
                vec!["token=x", "url=y"],
            ),
            (
                "type=gha,token=,url=y",
                &old,
                false,
                vec!["token=", "url=y"],
            ),
            (
                "type=gha,token=x,url_v2=y",
                &[],
                true,
                vec!["token=x", "url_v2=y"],
            ),
        ] {
            let attrs: Vec<String> = attrs.into_iter().map(str::to_owned).collect();
            assert_eq!(filled(value, env), (active, attrs), "{value} {env:?}");
        }
    }

    #[test]
    fn aws() {
        let pair = [("AWS_ACCESS_KEY_ID", "i"), ("AWS_SECRET_ACCESS_KEY", "s")];
        let session = [pair[0], pair[1], ("AWS_SESSION_TOKEN", "t")];
        let all = ["access_key_id=i", "secret_access_key=s", "session_token=t"];
        for (value, env, attrs) in [
            ("type=s3", &[][..], vec![]),
            ("type=s3", &pair[..1], vec![]),
            ("type=s3", &pair, all[..2].to_vec()),
            ("type=s3", &session, all.to_vec()),
            (
                "type=s3,access_key_id=x,secret_access_key=y",
                &session,
                vec!["access_key_id=x", "secret_access_key=y"],
            ),
        ] {
            let attrs: Vec<String> = attrs.into_iter().map(str::to_owned).collect();
            assert_eq!(filled(value, env), (true, attrs), "{value} {env:?}");
        }
    }

    #[test]
    fn others_are_left_alone() {
        let env = [("AWS_ACCESS_KEY_ID", "i"), ("ACTIONS_RUNTIME_TOKEN", "t")];
        for (value, attrs) in [("type=inline", vec![]), ("app", vec!["ref=app".to_owned()])] {
            assert_eq!(filled(value, &env), (true, attrs), "{value}");
        }
    }

    #[test]
    fn a_variable_that_cannot_be_sent_is_an_error() {
        for value in ["type=gha", "type=s3"] {
            let refused = |_: &str| Err(OptionError::other("no text"));
            let mut export = CacheTo::parse(value).unwrap().remove(0);
            assert!(export.fill_from_env(refused).is_err(), "{value}");
        }
    }
}
