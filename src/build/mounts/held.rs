//! Which cache mounts a builder has. It tells of each only a description: `cached mount DEST from WHO`, and behind it
//! ` with id "ID"` where the id is not the target (BuildKit `solver/llbsolver/mounts`).

use super::uses::MountUse;
use crate::buildkit::disk::UsageRecord;
use crate::buildkit::{Client, RpcError};
use crate::digest::Digest;

/// The records of cache mounts.
const FILTER: &str = "type==exec.cachemount";
/// Prefix of the containers of this program. Behind it stands what the mount begins with, and something random; all of it
/// are letters and digits.
const CONTAINER: &str = "cachexmount";
/// Digits of what a mount begins with.
const BASE: usize = 16;
/// How often a mount was opened that a container of this program has made: for it to be restored, and a second time when
/// it was whole. Each question what is on the disk may count, too, so one that was broken off counts as whole after the
/// second: it is empty then (see `script`).
const WHOLE: i64 = 2;

/// What a builder has of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Held {
    /// Nothing.
    Nothing,
    /// Something that has to be looked at: it was begun to be restored, or it has the same id and may begin with something
    /// else.
    Perhaps,
    /// A mount that was restored, or that steps have used.
    Used,
    /// A mount that somebody restores now.
    Restoring,
    /// A mount that somebody uses now.
    InUse,
}

/// Returns an identifier for a container that opens a mount which begins with this.
pub(super) fn new_container(base_key: &str) -> String {
    format!("{}{}", container_of(base_key), crate::buildkit::new_id())
}

/// How the identifiers of these containers begin.
fn container_of(base_key: &str) -> String {
    let digest = Digest::of(base_key.as_bytes());
    let base: String = digest.hex().chars().take(BASE).collect();
    format!("{CONTAINER}{base}")
}

/// The mounts of a builder.
#[derive(Debug, Default)]
pub(super) struct HeldMounts(Vec<UsageRecord>);

impl HeldMounts {
    /// Asks the builder.
    ///
    /// # Errors
    ///
    /// Fails if it does not answer.
    pub(super) async fn ask(client: &Client) -> Result<Self, RpcError> {
        Ok(Self(client.disk_usage(vec![FILTER.to_owned()]).await?))
    }

    /// Returns what it has of a mount.
    pub(super) fn of(&self, mount: &MountUse) -> Held {
        self.of_key(mount.key(), mount.is_private())
    }

    /// Returns what it has of a mount with this id and base. Of a private one there may be several: whoever opens it gets
    /// one that nobody uses.
    fn of_key(&self, (id, base_key): (&str, &str), is_private: bool) -> Held {
        let of_id = self.0.iter().filter(|one| is_of(&one.description, id));
        let all: Vec<Held> = of_id.map(|record| of_record(record, base_key)).collect();
        let is_free = |held: &&Held| !matches!(held, Held::InUse | Held::Restoring | Held::Nothing);
        let free = all.iter().filter(is_free).max();
        let most = all.iter().max();
        let most = free.filter(|_| is_private).or(most);
        most.copied().unwrap_or(Held::Nothing)
    }
}

/// Returns what a record is to the mount with its id that begins with this.
fn of_record(record: &UsageRecord, base_key: &str) -> Held {
    // What begins with something is the child of that.
    if record.parents.is_empty() != base_key.is_empty() {
        return Held::Nothing;
    }
    let from_here = format!(" from container {CONTAINER}");
    let from_same = format!(" from container {}", container_of(base_key));
    let is_from_here = record.description.contains(&from_here);
    if is_from_here && !record.description.contains(&from_same) {
        return Held::Nothing;
    }
    let is_whole = !is_from_here || record.usage_count >= WHOLE;
    match (record.in_use, is_whole) {
        (true, true) => Held::InUse,
        (true, false) => Held::Restoring,
        (false, true) if is_from_here || base_key.is_empty() => Held::Used,
        (false, _) => Held::Perhaps,
    }
}

fn is_of(description: &str, id: &str) -> bool {
    if let Some((_, quoted)) = description.rsplit_once(" with id \"") {
        return quoted.strip_suffix('"') == Some(id);
    }
    let dest = description.strip_prefix("cached mount ");
    dest.and_then(|rest| rest.split_once(" from "))
        .is_some_and(|(dest, _)| dest == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(description: &str, in_use: bool) -> UsageRecord {
        UsageRecord {
            description: description.to_owned(),
            in_use,
            ..UsageRecord::default()
        }
    }

    #[test]
    fn descriptions_tell_the_id_of_a_mount() {
        let held = HeldMounts(vec![
            record("cached mount /root/.npm from exec /bin/sh -c npm ci", false),
            record(
                "cached mount /go from exec /bin/sh -c go build with id \"go\"",
                false,
            ),
            record("cached mount /apt from exec /bin/sh -c apt", true),
            record("cached mount /apt from exec /bin/sh -c apt get", false),
        ]);
        for (id, expected) in [
            ("/root/.npm", Held::Used),
            ("go", Held::Used),
            ("/go", Held::Nothing),
            ("/apt", Held::InUse),
            ("x", Held::Nothing),
        ] {
            assert_eq!(held.of_key((id, ""), false), expected, "{id}");
        }
        assert_eq!(held.of_key(("/apt", ""), true), Held::Used);
        assert_eq!(held.of_key(("/root/.npm", ""), true), Held::Used);
    }

    #[test]
    fn what_was_restored_is_told_from_what_was_begun() {
        let restored = |usage_count, in_use| {
            let container = new_container("");
            let description = format!(
                "cached mount /.docker-cachex-mount from container {container} with id \"pip\""
            );
            let record = UsageRecord {
                usage_count,
                ..record(&description, in_use)
            };
            HeldMounts(vec![record]).of_key(("pip", ""), false)
        };
        // The builder was killed, or this program; it was whole; a step has used it since.
        let counts = [0, 1, 2, 3].map(|count| restored(count, false));
        assert_eq!(
            counts,
            [Held::Perhaps, Held::Perhaps, Held::Used, Held::Used]
        );
        assert_eq!(restored(0, true), Held::Restoring);
        assert_eq!(restored(2, true), Held::InUse);
    }

    #[test]
    fn mounts_of_one_id_are_told_apart_by_what_they_begin_with() {
        let with_base = |description: &str| UsageRecord {
            parents: vec!["parent".to_owned()],
            usage_count: 5,
            ..record(description, false)
        };
        let from_step = HeldMounts(vec![with_base("cached mount go from exec make")]);
        assert_eq!(from_step.of_key(("go", ""), false), Held::Nothing);
        assert_eq!(from_step.of_key(("go", "uid"), false), Held::Perhaps);
        let plain = HeldMounts(vec![record("cached mount go from exec make", false)]);
        assert_eq!(plain.of_key(("go", "uid"), false), Held::Nothing);
        let container = new_container("uid");
        let ours = format!("cached mount /m from container {container} with id \"go\"");
        let ours = HeldMounts(vec![with_base(&ours)]);
        assert_eq!(ours.of_key(("go", "uid"), false), Held::Used);
        assert_eq!(ours.of_key(("go", "gid"), false), Held::Nothing);
    }
}
