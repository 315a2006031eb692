//! The texts of one record of BuildKit's cache, as buildx shows them.

use std::time::Duration;

use jiff::Timestamp;

use crate::buildkit::disk::UsageRecord;
use crate::options::size;
use crate::text::human;

/// Go's form of a time in UTC. A record without one is from the beginning of Unix time.
pub(in crate::cli) fn created_at(record: &UsageRecord) -> String {
    let time = record.created_at.as_ref();
    let time = time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok());
    let time = time.unwrap_or(Timestamp::UNIX_EPOCH);
    time.strftime("%Y-%m-%d %H:%M:%S%.f +0000 UTC").to_string()
}

/// `4 minutes ago`; empty for a record that was never used.
pub(in crate::cli) fn last_used(record: &UsageRecord, now: Timestamp) -> String {
    let time = record.last_used_at.as_ref();
    let time = time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok());
    time.map(|time| {
        let since = Duration::try_from(now.duration_since(time)).unwrap_or_default();
        format!("{} ago", human::duration(since))
    })
    .unwrap_or_default()
}

/// A size in decimal units; BuildKit's -1 for one that is not known yet stays as it is.
pub(in crate::cli) fn human_size(bytes: i64) -> String {
    u64::try_from(bytes).map_or_else(|_| format!("{bytes}B"), size::human_size)
}

/// Returns what the verbose forms tell about a record, name and value, in buildx's order. The parents,
/// which the forms write in different ways, come as the caller has them; what is empty is left out.
pub(in crate::cli) fn details(
    record: &UsageRecord,
    now: Timestamp,
    parents: (&'static str, String),
) -> Vec<(&'static str, String)> {
    let optional = |pair: (&'static str, String)| Some(pair).filter(|(_, value)| !value.is_empty());
    let always = |name, value| Some((name, value));
    [
        always("ID", record.id.clone()),
        optional(parents).filter(|_| !record.parents.is_empty()),
        always("Created at", created_at(record)),
        always("Mutable", record.mutable.to_string()),
        always("Reclaimable", (!record.in_use).to_string()),
        always("Shared", record.shared.to_string()),
        always("Size", human_size(record.size)),
        optional(("Description", record.description.clone())),
        always("Usage count", record.usage_count.to_string()),
        optional(("Last used", last_used(record, now))),
        optional(("Type", record.record_type.clone())),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard_buildkit_proto::google::protobuf::Timestamp as Wire;

    #[test]
    fn times_and_sizes_are_gos() {
        let mut record = UsageRecord::default();
        assert_eq!(created_at(&record), "1970-01-01 00:00:00 +0000 UTC");
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        assert_eq!(last_used(&record, now), "");
        let wire = |nanos| {
            Some(Wire {
                seconds: now.as_second() - 125,
                nanos,
            })
        };
        record.created_at = wire(120_300_000);
        record.last_used_at = wire(0);
        assert_eq!(created_at(&record), "2026-01-02 03:02:00.1203 +0000 UTC");
        assert_eq!(last_used(&record, now), "2 minutes ago");
        // The daemon's clock may be ahead.
        let before = now - Duration::from_secs(1000);
        assert_eq!(last_used(&record, before), "Less than a second ago");
        assert_eq!(human_size(8192), "8.192kB");
        assert_eq!(human_size(-1), "-1B");
    }
}
