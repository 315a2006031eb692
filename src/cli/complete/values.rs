//! The words that values of flags are made of, where they are known beforehand.

use std::collections::HashSet;

use crate::builder::driver::container_options::{KEYS, REMOTE_KEYS};
use crate::options::cache::EXPORT_KEYS;

type Words = &'static [&'static str];

/// Fields `key=value` with commas between them.
struct Fields {
    /// The first field, offered whole.
    first: Words,
    /// Keys of the others.
    keys: &'static [Words],
    /// Values of keys, where they are known.
    values: &'static [(&'static str, Words)],
}

const BOOL: &[&str] = &["true", "false"];
const COMPRESSIONS: &[&str] = &["gzip", "zstd", "estargz", "uncompressed"];
const PLATFORMS: &[&str] = &[
    "linux/amd64",
    "linux/arm64",
    "linux/arm/v7",
    "linux/arm/v6",
    "linux/386",
    "linux/ppc64le",
    "linux/riscv64",
    "linux/s390x",
];

/// What can stand in the place of a value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// Whole values, as far as they are typed.
    pub(super) candidates: Vec<String>,
    /// The value can go on behind a candidate.
    pub(super) goes_on: bool,
}

/// Returns what the value of a flag can be; `None` if nothing is known of it.
pub(super) fn known(id: &str, typed: &str) -> Option<Known> {
    if let Some((_, words)) = ONE_WORD.iter().find(|(known, _)| *known == id) {
        let fitting = words.iter().filter(|word| word.starts_with(typed));
        return Some(Known {
            candidates: fitting.map(|word| (*word).to_owned()).collect(),
            goes_on: false,
        });
    }
    // Only the last field is being typed.
    let start = typed.rfind(',').map_or(0, |comma| comma + 1);
    let (before, field) = typed.split_at(start);
    let words = if id == "platforms" {
        let given: Vec<&str> = before.split(',').collect();
        let left = PLATFORMS.iter().filter(|word| !given.contains(word));
        left.map(|word| (*word).to_owned()).collect()
    } else {
        let (_, fields) = FIELDS.iter().find(|(known, _)| *known == id)?;
        fields.offered(before, field)?
    };
    let fitting = words.into_iter().filter(|word| word.starts_with(field));
    let candidates: Vec<String> = fitting.map(|word| format!("{before}{word}")).collect();
    // What begins otherwise is a bare value, such as a reference.
    (!candidates.is_empty()).then_some(Known {
        candidates,
        goes_on: true,
    })
}

impl Fields {
    /// Returns the fields that can follow, or the values that a key has; `None` for a key with any value.
    fn offered(&self, before: &str, field: &str) -> Option<Vec<String>> {
        if before.is_empty() && !self.first.is_empty() {
            return Some(self.first.iter().map(|word| (*word).to_owned()).collect());
        }
        let Some((key, _)) = field.split_once('=') else {
            let is_given = |key: &str| {
                let mut given = before.split(',').filter_map(|field| field.split_once('='));
                given.any(|(given, _)| given == key)
            };
            let mut left = self.keys.concat();
            let mut seen = HashSet::new();
            left.retain(|key| !is_given(key) && seen.insert(*key));
            return Some(left.iter().map(|key| format!("{key}=")).collect());
        };
        let (_, words) = self.values.iter().find(|(known, _)| *known == key)?;
        Some(words.iter().map(|word| format!("{key}={word}")).collect())
    }
}

/// Flags whose value is one word, by their identifiers.
const ONE_WORD: &[(&str, Words)] = &[
    ("allow", &["network.host", "security.insecure", "device"]),
    ("call", &["check", "outline", "targets"]),
    ("context_mode", &["as-is", "git"]),
    ("driver", &["docker-container", "remote"]),
    ("explain", &["auto", "full", "off"]),
    ("format", &["table", "json"]),
    ("network", &["default", "host", "none"]),
    ("policy", &["disabled=true"]),
    (
        "progress",
        &["auto", "none", "plain", "quiet", "rawjson", "tty"],
    ),
    ("provenance", &["true", "false", "mode=min", "mode=max"]),
    ("reports", &["md", "json", "html"]),
    ("sbom", BOOL),
    ("ssh", &["default"]),
];

/// Flags whose value has fields, by their identifiers.
const FIELDS: &[(&str, Fields)] = &[
    (
        "attests",
        Fields {
            first: &["type=provenance", "type=sbom"],
            keys: &[&["mode", "disabled", "generator"]],
            values: &[("mode", &["min", "max"]), ("disabled", BOOL)],
        },
    ),
    (
        "cache_from",
        Fields {
            first: &[
                "type=registry",
                "type=local",
                "type=gha",
                "type=s3",
                "type=azblob",
            ],
            keys: &[&[
                "ref",
                "src",
                "via",
                "registry.insecure",
                "verify",
                "verify-required",
                "max-signature-age",
                "mounts",
                "mounts-helper",
            ]],
            values: CACHE_VALUES,
        },
    ),
    (
        "cache_to",
        Fields {
            first: &[
                "type=registry",
                "type=inline",
                "type=local",
                "type=gha",
                "type=s3",
                "type=azblob",
            ],
            keys: &[&EXPORT_KEYS],
            values: CACHE_VALUES,
        },
    ),
    (
        "driver_opts",
        Fields {
            first: &[],
            keys: &[KEYS, REMOTE_KEYS],
            values: &[
                ("network", &["host", "bridge", "none"]),
                ("default-load", BOOL),
            ],
        },
    ),
    (
        "outputs",
        Fields {
            first: &[
                "type=image",
                "type=registry",
                "type=docker",
                "type=local",
                "type=oci",
                "type=tar",
                "type=cacheonly",
            ],
            keys: &[&[
                "dest",
                "name",
                "push",
                "push-by-digest",
                "compression",
                "compression-level",
                "force-compression",
                "oci-mediatypes",
                "rewrite-timestamp",
                "registry.insecure",
            ]],
            values: &[
                ("push", BOOL),
                ("push-by-digest", BOOL),
                ("compression", COMPRESSIONS),
                ("force-compression", BOOL),
                ("oci-mediatypes", BOOL),
                ("rewrite-timestamp", BOOL),
                ("registry.insecure", BOOL),
            ],
        },
    ),
    (
        "secrets",
        Fields {
            first: &["id="],
            keys: &[&["src", "env", "type"]],
            values: &[("type", &["file", "env"])],
        },
    ),
];

const CACHE_VALUES: &[(&str, Words)] = &[
    ("mode", &["min", "max"]),
    (
        "compression",
        &["auto", "gzip", "zstd", "estargz", "uncompressed"],
    ),
    ("via", &["auto", "builder", "client"]),
    ("compressor", &["auto", "builder", "client"]),
    ("on-failure", &["export", "skip"]),
    ("record", &["full", "steps", "off"]),
    ("sign-as", &["manifest", "referrer"]),
    ("mounts", &["all", "none"]),
    ("force-compression", BOOL),
    ("oci-mediatypes", BOOL),
    ("image-manifest", BOOL),
    ("ignore-error", BOOL),
    ("registry.insecure", BOOL),
    ("merge", BOOL),
    ("alongside", BOOL),
    ("sign-unverified", BOOL),
    ("verify-required", BOOL),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::cache::CacheTo;

    fn ask(id: &str, typed: &str) -> Vec<String> {
        known(id, typed)
            .map(|known| known.candidates)
            .unwrap_or_default()
    }

    /// A flag, what is typed of its value, and what is offered.
    const TYPED: &[(&str, &str, &[&str])] = &[
        ("progress", "r", &["rawjson"]),
        ("driver", "", &["docker-container", "remote"]),
        (
            "platforms",
            "linux/amd64,linux/arm/",
            &["linux/amd64,linux/arm/v7", "linux/amd64,linux/arm/v6"],
        ),
        ("platforms", "linux/s390x,linux/s", &[]),
        ("cache_to", "type=re", &["type=registry"]),
        (
            "cache_to",
            "type=registry,re",
            &[
                "type=registry,ref=",
                "type=registry,registry.insecure=",
                "type=registry,record=",
            ],
        ),
        (
            "cache_to",
            "type=registry,ref=a,mode=",
            &[
                "type=registry,ref=a,mode=min",
                "type=registry,ref=a,mode=max",
            ],
        ),
        (
            "cache_to",
            "type=registry,mode=max,mo",
            &[
                "type=registry,mode=max,mounts=",
                "type=registry,mode=max,mounts-max-size=",
                "type=registry,mode=max,mounts-helper=",
            ],
        ),
        ("cache_to", "registry.example/", &[]),
        ("outputs", "type=local,de", &["type=local,dest="]),
        ("outputs", "type=local,dest=", &[]),
        ("driver_opts", "network=h", &["network=host"]),
        ("driver_opts", "network=host,im", &["network=host,image="]),
        ("tags", "", &[]),
    ];

    #[test]
    fn the_field_that_is_typed_is_completed() {
        for (id, typed, expected) in TYPED {
            assert_eq!(ask(id, typed), *expected, "{id} {typed}");
        }
        assert!(!known("progress", "r").unwrap().goes_on);
        assert!(known("cache_to", "type=r").unwrap().goes_on);
    }

    #[test]
    fn every_word_that_is_offered_for_a_cache_is_taken() {
        let keys = ask("cache_to", "type=registry,ref=a,");
        let values: Vec<String> = keys.iter().flat_map(|key| ask("cache_to", key)).collect();
        assert!(values.len() > 20, "{values:?}");
        for value in values {
            if let Err(error) = CacheTo::parse(&value) {
                // What a word asks for besides is no matter of its form.
                let text = error.to_string();
                assert!(
                    !text.contains("not one of") && !text.contains("did you mean"),
                    "{text}"
                );
            }
        }
    }
}
