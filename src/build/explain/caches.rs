//! The caches that were read, as they are looked into.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;

use crate::build::cache::import::found::{Contents, FoundCache};
use crate::cache::config::CacheConfig;
use crate::cache::extras::store::{self, ReadError};
use crate::cache::record::Record;
use crate::digest::Digest;

/// A cache that was read.
#[derive(Debug)]
pub(super) struct ReadCache {
    /// Its name for the user.
    pub(super) name: String,
    pub(super) config: CacheConfig,
    /// Blobs that the registry has lost.
    pub(super) lost: HashSet<Digest>,
    /// What it tells of the builds that wrote it.
    pub(super) record: Option<Arc<Record>>,
}

impl ReadCache {
    /// Returns the commit that its youngest build was made from, if it tells.
    pub(super) fn commit(&self) -> Option<String> {
        self.record.as_ref()?.builds.first()?.commit.clone()
    }
}

/// The caches of a build.
#[derive(Debug, Default)]
pub(super) struct Caches {
    pub(super) read: Vec<ReadCache>,
    /// Those that were not read, each with the error, or none where it does not exist.
    pub(super) unread: Vec<(String, Option<String>)>,
}

/// Looks into the caches.
pub(super) async fn load(found: Vec<FoundCache>) -> Caches {
    let mut caches = Caches::default();
    let loaded = futures_util::future::join_all(found.into_iter().map(load_one)).await;
    for (name, contents, record) in loaded {
        match contents {
            Ok(configs) => {
                let read = configs.into_iter().map(|(config, lost)| ReadCache {
                    name: name.clone(),
                    config,
                    lost,
                    record: record.clone(),
                });
                caches.read.extend(read);
            }
            Err(error) => caches.unread.push((name, error)),
        }
    }
    caches
}

/// The configs of a cache with their lost blobs, or why there are none; an inline cache of several images has several.
type Configs = Result<Vec<(CacheConfig, HashSet<Digest>)>, Option<String>>;

async fn load_one(found: FoundCache) -> (String, Configs, Option<Arc<Record>>) {
    let mut record = match &found.record {
        Some((repository, entry)) => told(store::read(repository, entry).await),
        None => None,
    };
    let configs = match found.contents {
        Contents::Config(bytes, lost) => {
            // Up to a mebibyte of JSON takes long enough to hold up what else this thread does.
            let parsed = tokio::task::spawn_blocking(move || CacheConfig::parse(&bytes)).await;
            match parsed {
                Ok(Ok(config)) => Ok(vec![(config, lost.into_iter().collect())]),
                Ok(Err(error)) => Err(Some(crate::error::chain(&error))),
                Err(error) => Err(Some(error.to_string())),
            }
        }
        Contents::In(source) => match source.load().await {
            Ok(loaded) => {
                if let Some(entry) = loaded.manifest.extras.record() {
                    record = told(store::read_from(&source, entry).await);
                }
                let parts = loaded.parts.into_iter();
                Ok(parts.map(|part| (part.config, HashSet::new())).collect())
            }
            Err(error) if error.is_missing() => Err(None),
            Err(error) => Err(Some(crate::error::chain(&error))),
        },
        Contents::Missing => Err(None),
        Contents::Unreadable(error) => Err(Some(error)),
    };
    (found.name, configs, record)
}

/// A record that cannot be read is as none.
fn told(record: Result<Record, ReadError>) -> Option<Arc<Record>> {
    match record {
        Ok(record) => Some(Arc::new(record)),
        Err(error) => {
            tracing::debug!(error = %crate::error::chain(&error), "the record is not read");
            None
        }
    }
}

/// Returns when the newest result of a cache was made, where it says.
pub(super) fn newest(config: &CacheConfig) -> Option<Timestamp> {
    let results = config.records.iter().flat_map(|record| {
        let results = record.results.iter().map(|result| &result.created_at);
        results.chain(record.chains.iter().map(|chain| &chain.created_at))
    });
    let times = results.filter_map(|time| time.parse::<Timestamp>().ok());
    // Go writes the year 1 for a time that is not known.
    times.filter(|time| *time > Timestamp::UNIX_EPOCH).max()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn found(name: &str, contents: Contents) -> FoundCache {
        let name = name.to_owned();
        FoundCache {
            name,
            contents,
            record: None,
        }
    }

    #[tokio::test]
    async fn caches_are_read_or_not() {
        let caches = load(vec![
            found(
                "a",
                Contents::Config(Bytes::from_static(b"{}"), vec![Digest::of(b"x")]),
            ),
            found(
                "b",
                Contents::Config(Bytes::from_static(b"no JSON"), Vec::new()),
            ),
            found("c", Contents::Missing),
            found("d", Contents::Unreadable("refused".to_owned())),
        ])
        .await;
        let [read] = &caches.read[..] else {
            panic!("{caches:?}")
        };
        assert_eq!((read.name.as_str(), read.lost.len()), ("a", 1));
        let [broken, missing, refused] = &caches.unread[..] else {
            panic!("{caches:?}")
        };
        assert!(broken.0 == "b" && broken.1.is_some());
        assert_eq!(missing, &("c".to_owned(), None));
        assert_eq!(refused, &("d".to_owned(), Some("refused".to_owned())));
    }

    #[test]
    fn the_newest_result_tells_the_age() {
        let config = |times: &[&str]| {
            let record = |time: &&str| serde_json::json!({"digest": Digest::of(time.as_bytes()), "layers": [{"layer": 0, "createdAt": time}]});
            let records: Vec<_> = times.iter().map(record).collect();
            let layers = serde_json::json!([{"blob": Digest::of(b"x"), "parent": -1}]);
            let config = serde_json::json!({"layers": layers, "records": records});
            CacheConfig::parse(config.to_string().as_bytes()).unwrap()
        };
        let (old, new) = ("2026-11-01T00:00:00Z", "2026-11-28T12:00:00.5Z");
        assert_eq!(newest(&config(&[new, old])), new.parse().ok());
        assert_eq!(newest(&config(&["0001-01-01T00:00:00Z", ""])), None);
    }
}
