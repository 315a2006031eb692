//! Which cache mounts a builder has. It tells of each only a description: `cached mount DEST from WHO`, and behind it
//! ` with id "ID"` where the id is not the target (BuildKit `solver/llbsolver/mounts`).

use super::uses::MountUse;
use crate::buildkit::disk::UsageRecord;
use crate::buildkit::{Client, RpcError};

/// The records of cache mounts.
const FILTER: &str = "type==exec.cachemount";
/// Prefix of the containers of this program, whose identifiers have letters and digits only.
const CONTAINER: &str = "cachexmount";

/// What a builder has of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// Nothing.
    Nothing,
    /// Something that this program has put there: it may be half of it.
    Restored,
    /// A mount that steps have used.
    Used,
    /// A mount that somebody uses now.
    InUse,
}

/// Returns an identifier for a container.
pub(super) fn new_container() -> String {
    format!("{CONTAINER}{}", crate::buildkit::new_id())
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

    /// Returns what it has of a mount. Of a private one there may be several: whoever opens it gets one that nobody uses.
    pub(super) fn of(&self, mount: &MountUse) -> Held {
        self.of_id(mount.builder_id(), mount.is_private())
    }

    /// Returns what it has of a mount with the id that the builder knows it by.
    fn of_id(&self, id: &str, is_private: bool) -> Held {
        let records = self
            .0
            .iter()
            .filter(|record| is_of(&record.description, id));
        let from_here = format!(" from container {CONTAINER}");
        records.fold(Held::Nothing, |held, record| {
            let this = match record {
                record if record.in_use => Held::InUse,
                record if record.description.contains(&from_here) => Held::Restored,
                _ => Held::Used,
            };
            match (held, this) {
                (Held::Nothing, this) => this,
                (Held::InUse, free) | (free, Held::InUse) if is_private => free,
                (Held::InUse, _) | (_, Held::InUse) => Held::InUse,
                (Held::Used, _) | (_, Held::Used) => Held::Used,
                _ => Held::Restored,
            }
        })
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
    fn descriptions_tell_the_id_of_a_mount_and_who_made_it() {
        let held = HeldMounts(vec![
            record("cached mount /root/.npm from exec /bin/sh -c npm ci", false),
            record(
                "cached mount /go from exec /bin/sh -c go build with id \"go\"",
                false,
            ),
            record(
                "cached mount /.docker-cachex-mount from container cachexmountx with id \"pip\"",
                false,
            ),
            record("cached mount /apt from exec /bin/sh -c apt", true),
            record("cached mount /apt from exec /bin/sh -c apt get", false),
        ]);
        for (id, expected) in [
            ("/root/.npm", Held::Used),
            ("go", Held::Used),
            ("/go", Held::Nothing),
            ("pip", Held::Restored),
            ("/apt", Held::InUse),
            ("x", Held::Nothing),
        ] {
            assert_eq!(held.of_id(id, false), expected, "{id}");
        }
        assert_eq!(held.of_id("/apt", true), Held::Used);
        assert_eq!(held.of_id("/root/.npm", true), Held::Used);
        assert!(new_container().starts_with(CONTAINER));
    }
}
