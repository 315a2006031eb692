//! The caches that were read, as they are looked into.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
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
    pub(super) config: Arc<CacheConfig>,
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

/// A cache that was looked into.
#[derive(Debug)]
pub(super) struct Opened {
    found: FoundCache,
    configs: Configs,
    record: Option<Arc<Record>>,
}

/// The configs of a cache, or why there are none; an inline cache of several images has several.
type Configs = Result<Vec<Arc<CacheConfig>>, Option<String>>;

/// Looks into the caches.
pub(super) async fn open(found: Vec<FoundCache>) -> Vec<Opened> {
    futures_util::future::join_all(found.into_iter().map(Opened::of)).await
}

/// Looks into the caches. Of those that are `opened` already nothing is read again.
pub(super) async fn load(found: Vec<FoundCache>, mut opened: Vec<Opened>) -> Caches {
    let one = |found: FoundCache| {
        let known = opened.iter().position(|known| known.is(&found));
        let known = known.map(|at| opened.swap_remove(at));
        async move {
            match known {
                // What is lost of it may have turned out meanwhile.
                Some(known) => Opened { found, ..known },
                None => Opened::of(found).await,
            }
        }
    };
    let loads: Vec<_> = found.into_iter().map(one).collect();
    let mut caches = Caches::default();
    for opened in futures_util::future::join_all(loads).await {
        let Opened {
            found,
            configs,
            record,
        } = opened;
        let lost: HashSet<Digest> = match &found.contents {
            Contents::Config(_, lost) => lost.iter().cloned().collect(),
            _ => HashSet::new(),
        };
        match configs {
            Ok(configs) => {
                let read = configs.into_iter().map(|config| ReadCache {
                    name: found.name.clone(),
                    config,
                    lost: lost.clone(),
                    record: record.clone(),
                });
                caches.read.extend(read);
            }
            Err(error) => caches.unread.push((found.name, error)),
        }
    }
    caches
}

impl Opened {
    async fn of(found: FoundCache) -> Self {
        let mut record = match &found.record {
            Some((repository, entry)) => told(store::read(repository, entry).await),
            None => None,
        };
        let configs = match &found.contents {
            Contents::Config(bytes, _) => parsed(bytes.clone()).await,
            Contents::In(source) => match source.load().await {
                Ok(loaded) => {
                    if let Some(entry) = loaded.manifest.extras.record() {
                        record = told(store::read_from(source, entry).await);
                    }
                    let parts = loaded.parts.into_iter();
                    Ok(parts.map(|part| Arc::new(part.config)).collect())
                }
                Err(error) if error.is_missing() => Err(None),
                Err(error) => Err(Some(crate::error::chain(&error))),
            },
            Contents::Missing => Err(None),
            Contents::Unreadable(error) => Err(Some(error.clone())),
        };
        Self {
            found,
            configs,
            record,
        }
    }

    /// Returns whether this is that cache, of the same contents but for what is lost.
    fn is(&self, found: &FoundCache) -> bool {
        self.found.name == found.name && self.found.contents.is_same(&found.contents)
    }

    /// Returns its configs.
    pub(super) fn configs(&self) -> impl Iterator<Item = &CacheConfig> {
        let configs = self.configs.iter().flatten();
        configs.map(|config| &**config)
    }
}

async fn parsed(bytes: Bytes) -> Configs {
    // Up to a mebibyte of JSON takes long enough to hold up what else this thread does.
    let parsed = tokio::task::spawn_blocking(move || CacheConfig::parse(&bytes)).await;
    match parsed {
        Ok(Ok(config)) => Ok(vec![Arc::new(config)]),
        Ok(Err(error)) => Err(Some(crate::error::chain(&error))),
        Err(error) => Err(Some(error.to_string())),
    }
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
        let all = || {
            let a = Contents::Config(Bytes::from_static(b"{}"), vec![Digest::of(b"x")]);
            let b = Contents::Config(Bytes::from_static(b"no JSON"), Vec::new());
            let d = Contents::Unreadable("refused".to_owned());
            let all = [("a", a), ("b", b), ("c", Contents::Missing), ("d", d)];
            Vec::from(all.map(|(name, contents)| found(name, contents)))
        };
        let caches = load(all(), Vec::new()).await;
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

    #[tokio::test]
    async fn what_was_opened_is_not_read_again() {
        let with = |config: &'static [u8], lost: &[Digest]| {
            let contents = Contents::Config(Bytes::from_static(config), lost.to_vec());
            vec![found("a", contents)]
        };
        let opened = open(with(b"{}", &[])).await;
        let first = Arc::clone(&opened[0].configs.as_ref().unwrap()[0]);
        // A blob of it turned out to be lost.
        let caches = load(with(b"{}", &[Digest::of(b"x")]), opened).await;
        assert!(Arc::ptr_eq(&caches.read[0].config, &first));
        assert_eq!(caches.read[0].lost.len(), 1);
        let opened = open(with(b"{}", &[])).await;
        let caches = load(with(br#"{"layers":[]}"#, &[]), opened).await;
        assert!(!Arc::ptr_eq(&caches.read[0].config, &first));
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
