//! A cache cut to bounds: the least recently used results go, with all that only they need.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Contents;
use super::reduce::{Place, reduce};
use super::times::{NEAR, Times};
use crate::cache::MAX_METADATA;
use crate::options::size::human_size;
use crate::text::counted;

/// How much a cache may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Results and cache mounts that no build has used for longer are dropped.
    pub max_age: Option<Duration>,
    /// Size of all layers together, in bytes.
    pub max_size: Option<u64>,
    /// Number of records.
    pub max_records: Option<u64>,
    /// Size of the manifest and of the config, in bytes each.
    pub metadata: usize,
}

impl Default for Bounds {
    /// What BuildKit reads, and nothing else.
    fn default() -> Self {
        Self {
            max_age: None,
            max_size: None,
            max_records: None,
            metadata: MAX_METADATA,
        }
    }
}

/// What was dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Results that were dropped.
    pub results: usize,
    /// Results before.
    pub of: usize,
    /// Blobs that are no longer referred to.
    pub layers: usize,
    /// Size of these blobs in bytes.
    pub bytes: u64,
    /// Cache mounts that were dropped.
    pub mounts: usize,
    /// The bounds that were exceeded, as the user knows them.
    pub bounds: Vec<&'static str>,
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mounts, bounds) = (
            counted(self.mounts, "cache mount"),
            self.bounds.join(" and "),
        );
        if self.results == 0 {
            return write!(f, "dropped {mounts}, over {bounds}");
        }
        let mounts = match self.mounts {
            0 => String::new(),
            _ => format!(" and {mounts}"),
        };
        write!(
            f,
            "dropped the {} least recently used of {} ({}, {}){mounts}, over {bounds}",
            self.results,
            counted(self.of, "result"),
            counted(self.layers, "layer"),
            human_size(self.bytes)
        )
    }
}

/// Returns when something must have been used to be no older than this.
pub fn oldest(age: Duration, now: Timestamp) -> Timestamp {
    // What a build has just used stays: of a result that is as young as that its use is not noted.
    let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX);
    now.checked_sub(age.max(NEAR)).unwrap_or(Timestamp::MIN)
}

impl Contents {
    /// Drops the least recently used results until the bounds hold. Returns what was dropped, if
    /// anything was.
    ///
    /// # Errors
    ///
    /// Fails only where a kept unknown field cannot be written as JSON.
    pub fn bound(
        &mut self,
        bounds: &Bounds,
        now: Timestamp,
    ) -> Result<Option<Dropped>, serde_json::Error> {
        let places = self.by_use();
        let oldest = bounds.max_age.map(|age| oldest(age, now));
        let mut mounts = self.extras.mounts().clone();
        let dropped_mounts = oldest.map_or(0, |oldest| mounts.drop_older(oldest));
        self.extras.set_mounts(mounts);
        let mut exceeded = Vec::new();
        // One more than may be kept.
        let mut too_many = places.len() + 1;
        if let Some(oldest) = oldest {
            let young = places.partition_point(|(used, _)| *used >= Some(oldest));
            if young < places.len() {
                too_many = young + 1;
            }
            if young < places.len() || dropped_mounts > 0 {
                exceeded.push("max-age");
            }
        }
        let places: Vec<Place> = places.into_iter().map(|(_, place)| place).collect();
        let mut best = self.with(&places, too_many - 1);
        let others = best.exceeded(bounds)?;
        if !others.is_empty() {
            // Fewer results are never larger, so the border is found by halving.
            let mut fits = 0;
            best = self.with(&places, fits);
            too_many -= 1;
            while too_many - fits > 1 {
                let count = fits + (too_many - fits) / 2;
                let made = self.with(&places, count);
                if made.exceeded(bounds)?.is_empty() {
                    (fits, best) = (count, made);
                } else {
                    too_many = count;
                }
            }
        }
        exceeded.extend(others);
        let dropped = Dropped {
            results: places.len() - best.results(),
            of: places.len(),
            layers: self.blobs().count() - best.blobs().count(),
            bytes: self.size() - best.size(),
            mounts: dropped_mounts,
            bounds: exceeded,
        };
        *self = best;
        Ok((dropped.results + dropped.mounts > 0).then_some(dropped))
    }

    /// All results, the last used first; one without a time comes last.
    fn by_use(&self) -> Vec<(Option<Timestamp>, Place)> {
        let mut places = Vec::new();
        for (record, content) in self.config.records.iter().enumerate() {
            let results = content
                .results
                .iter()
                .map(|r| (&r.created_at, &r.last_used));
            let chains = content.chains.iter().map(|c| (&c.created_at, &c.last_used));
            for (result, (created_at, last_used)) in results.chain(chains).enumerate() {
                let used = Times::of(created_at, last_used).used();
                places.push((used, Place { record, result }));
            }
        }
        places.sort_by_key(|(used, place)| (std::cmp::Reverse(*used), *place));
        places
    }

    fn with(&self, places: &[Place], count: usize) -> Self {
        if count >= places.len() {
            return self.clone();
        }
        let kept: HashSet<Place> = places.iter().take(count).copied().collect();
        self.replaced(reduce(&self.config, &kept))
    }

    fn exceeded(&self, bounds: &Bounds) -> Result<Vec<&'static str>, serde_json::Error> {
        let mut exceeded = Vec::new();
        if bounds.max_size.is_some_and(|max| self.size() > max) {
            exceeded.push("max-size");
        }
        let records = self.config.records.len() as u64;
        if bounds.max_records.is_some_and(|max| records > max) {
            exceeded.push("max-records");
        }
        let parts = self.to_parts()?;
        if parts.manifest.len().max(parts.config.len()) > bounds.metadata {
            exceeded.push("BuildKit's 1 MiB");
        }
        Ok(exceeded)
    }
}
