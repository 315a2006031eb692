//! What caches of type `gha` and `s3` take from the environment, as buildx does.

use std::collections::BTreeMap;

use super::{CacheFrom, CacheTo};
use crate::options::boolean::parse_bool;

impl CacheTo {
    /// Adds what a `gha` or `s3` cache takes from environment variables, which `lookup` gives, and
    /// tells whether the cache can be used: a `gha` cache without token or address cannot, and
    /// buildx leaves it out.
    ///
    /// Of `s3`'s credentials only the variables are looked at, not the files and services that the
    /// AWS SDK knows.
    pub fn fill_from_env(&mut self, lookup: impl Fn(&str) -> Option<String>) -> bool {
        match self {
            Self::Registry(_) => true,
            Self::Other { kind, attrs } => fill(kind, attrs, lookup),
        }
    }
}

impl CacheFrom {
    /// The same as [`CacheTo::fill_from_env`].
    pub fn fill_from_env(&mut self, lookup: impl Fn(&str) -> Option<String>) -> bool {
        match self {
            Self::Registry { .. } => true,
            Self::Other { kind, attrs } => fill(kind, attrs, lookup),
        }
    }
}

fn fill(
    kind: &str,
    attrs: &mut BTreeMap<String, String>,
    lookup: impl Fn(&str) -> Option<String>,
) -> bool {
    match kind {
        "gha" => fill_github(attrs, lookup),
        "s3" => {
            fill_aws(attrs, lookup);
            true
        }
        _ => true,
    }
}

fn fill_github(
    attrs: &mut BTreeMap<String, String>,
    lookup: impl Fn(&str) -> Option<String>,
) -> bool {
    let second_version = match attrs.get("version") {
        Some(version) => version == "2",
        None => lookup("ACTIONS_CACHE_SERVICE_V2").and_then(|on| parse_bool(&on)) == Some(true),
    };
    let results = || lookup("ACTIONS_RESULTS_URL");
    set_default(attrs, "token", || lookup("ACTIONS_RUNTIME_TOKEN"));
    if second_version {
        set_default(attrs, "url_v2", results);
    }
    set_default(attrs, "url", || {
        lookup("ACTIONS_CACHE_URL").or_else(results)
    });
    let given = |key: &str| attrs.get(key).is_some_and(|value| !value.is_empty());
    given("token") && (given("url") || given("url_v2"))
}

fn fill_aws(attrs: &mut BTreeMap<String, String>, lookup: impl Fn(&str) -> Option<String>) {
    // A key pair of the user's must not be joined with a session of the environment's.
    if attrs.contains_key("access_key_id") && attrs.contains_key("secret_access_key") {
        return;
    }
    let set = |name: &str| lookup(name).filter(|value| !value.is_empty());
    let id = set("AWS_ACCESS_KEY_ID").or_else(|| set("AWS_ACCESS_KEY"));
    let secret = set("AWS_SECRET_ACCESS_KEY").or_else(|| set("AWS_SECRET_KEY"));
    // The AWS SDK takes the variables only as a pair.
    if id.is_some() && secret.is_some() {
        set_default(attrs, "access_key_id", || id);
        set_default(attrs, "secret_access_key", || secret);
        set_default(attrs, "session_token", || set("AWS_SESSION_TOKEN"));
    }
}

fn set_default(
    attrs: &mut BTreeMap<String, String>,
    key: &str,
    value: impl FnOnce() -> Option<String>,
) {
    if !attrs.contains_key(key)
        && let Some(value) = value()
    {
        attrs.insert(key.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(value: &str, env: &[(&str, &str)]) -> (bool, Vec<String>) {
        let lookup = |name: &str| {
            env.iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        };
        let mut export = CacheTo::parse(value).unwrap().remove(0);
        let active = export.fill_from_env(lookup);
        let list = |attrs: BTreeMap<String, String>| -> Vec<String> {
            attrs
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect()
        };
        if value != "type=inline" {
            let mut import = CacheFrom::parse(value).unwrap().remove(0);
            assert_eq!(import.fill_from_env(lookup), active);
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
}
