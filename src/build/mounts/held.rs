//! Which cache mounts a builder has. It tells of each only a description: `cached mount DEST from WHO`, and behind it
//! ` with id "ID"` where the id is not the target (BuildKit `solver/llbsolver/mounts`).

use std::time::Duration;

use bollard_buildkit_proto::pb::{CacheOpt, CacheSharingOpt};
use tokio::time::{Instant, sleep};

use super::uses::MountUse;
use crate::buildkit::disk::UsageRecord;
use crate::buildkit::{Client, RpcError};
use crate::digest::Digest;
use crate::text::go_quote;

/// The records of cache mounts.
const FILTER: &str = "type==exec.cachemount";
/// Prefix of the containers of this program. Behind it stands what the mount begins with, and something random; all of it
/// are letters and digits.
const CONTAINER: &str = "cachexmount";
/// Prefix of the ids of empty mounts that each say of another one: it is whole. Behind it stands what that begins with, and
/// who made it. How often a mount was used says nothing: BuildKit counts each question what is on the disk.
const WHOLE: &str = "docker-cachex-whole-";
/// Digits of what a mount begins with.
const BASE: usize = 16;
/// How often a mount was used of which it is not known whether it is whole, for it to be one that steps use.
const OFTEN: i64 = 2;
/// How long a mount is waited for that another build restores, and how often it is looked at.
const OTHERS: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(500);

/// What a builder has of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Held {
    /// Nothing.
    Nothing,
    /// Something that has to be looked at: it was begun to be restored, or it has the same id and may begin with something
    /// else.
    Perhaps,
    /// A mount that is whole: it was restored, or steps have made it.
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
    format!("{CONTAINER}{}", base_of(base_key))
}

fn base_of(base_key: &str) -> String {
    let digest = Digest::of(base_key.as_bytes());
    digest.hex().chars().take(BASE).collect()
}

/// Returns the empty mount that says of one which `maker` has made that it is whole.
pub(super) fn whole(mount: &MountUse, maker: &str) -> CacheOpt {
    let (_, base_key) = mount.key();
    CacheOpt {
        id: format!("{WHOLE}{}-{maker}", base_of(base_key)),
        sharing: CacheSharingOpt::Shared.into(),
    }
}

/// Waits while another build restores a mount, and returns what the builder has of it then. It is not asked without need:
/// BuildKit may count that as a use (`cache/manager.go`, `DiskUsage`).
pub(super) async fn after_others<E, F: Future<Output = Result<Held, E>>>(
    mut held: Held,
    mut ask: impl FnMut() -> F,
) -> Result<Held, E> {
    let end = Instant::now() + OTHERS;
    while held == Held::Restoring && Instant::now() < end {
        sleep(LOOK).await;
        held = ask().await?;
    }
    Ok(held)
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
        let of_id = self.with_id(id);
        let all: Vec<Held> = of_id
            .map(|record| self.of_record(record, base_key))
            .collect();
        let is_free = |held: &&Held| !matches!(held, Held::InUse | Held::Restoring | Held::Nothing);
        let free = all.iter().filter(is_free).max();
        let most = all.iter().max();
        let most = free.filter(|_| is_private).or(most);
        most.copied().unwrap_or(Held::Nothing)
    }

    /// Returns whether a container has made a mount: whether that was not there before.
    pub(super) fn has_made(&self, container: &str) -> bool {
        let mut containers = self
            .0
            .iter()
            .map(|record| container_in(&record.description));
        containers.any(|made_by| made_by == Some(container))
    }

    /// Returns who made what may be this mount, where that is only one.
    pub(super) fn only_maker(&self, mount: &MountUse) -> Option<&str> {
        let (id, base_key) = mount.key();
        let of_id = self.with_id(id);
        let mut all = of_id.filter(|record| self.of_record(record, base_key) == Held::Perhaps);
        let maker = all.next().map(maker);
        maker.filter(|_| all.next().is_none())
    }

    fn with_id(&self, id: &str) -> impl Iterator<Item = &UsageRecord> {
        let of_id = self.0.iter();
        of_id.filter(move |record| is_of(&record.description, id))
    }

    /// Returns what a record is to the mount with its id that begins with this.
    fn of_record(&self, record: &UsageRecord, base_key: &str) -> Held {
        let container = container_in(&record.description);
        let whole = self.known_whole(maker(record));
        let is_other = container.is_some_and(|by| !by.starts_with(&container_of(base_key)))
            || whole.is_some_and(|base| base != base_of(base_key))
            // What begins with something is the child of that.
            || record.parents.is_empty() != base_key.is_empty();
        if is_other {
            return Held::Nothing;
        }
        let by_steps = container.is_none();
        let is_whole = whole.is_some() || (by_steps && base_key.is_empty());
        match (record.in_use, is_whole) {
            (false, true) => Held::Used,
            (false, false) => Held::Perhaps,
            (true, false) if !by_steps && record.usage_count < OFTEN => Held::Restoring,
            (true, _) => Held::InUse,
        }
    }

    /// Returns what a mount begins with that is known to be whole.
    fn known_whole(&self, maker: &str) -> Option<&str> {
        self.0.iter().find_map(|record| {
            let (_, known) = record.description.rsplit_once(" with id \"")?;
            let known = known.strip_suffix('"')?.strip_prefix(WHOLE)?;
            let (base, by) = known.split_once('-')?;
            (by == maker).then_some(base)
        })
    }
}

/// Returns who made a mount: a container of this program, else it is known by the record itself.
fn maker(record: &UsageRecord) -> &str {
    container_in(&record.description).unwrap_or(&record.id)
}

/// Returns the container of this program that has made a mount.
fn container_in(description: &str) -> Option<&str> {
    let (_, from) = description.split_once(" from container ")?;
    let container = from.split(' ').next()?;
    container.starts_with(CONTAINER).then_some(container)
}

fn is_of(description: &str, id: &str) -> bool {
    const WITH: &str = " with id \"";
    let mut ends = description.match_indices(WITH).filter_map(|(at, _)| {
        let quoted = description.get(at + WITH.len()..)?.strip_suffix('"')?;
        go_quote::unquote(quoted)
    });
    if let Some(found) = ends.next() {
        return found == id;
    }
    let rest = description.strip_prefix("cached mount ");
    let rest = rest.and_then(|rest| rest.strip_prefix(id));
    rest.is_some_and(|rest| rest.starts_with(" from "))
}

#[cfg(test)]
mod tests {
    use std::future::ready;

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
            record(
                r#"cached mount /q from exec /bin/sh -c q with id "/a\"b\\c\n\u00a0é\x7f""#,
                false,
            ),
            record("cached mount a from b from exec /bin/sh -c c", false),
            record(
                r#"cached mount /w from exec echo " with id "x" with id "/ with id ""#,
                false,
            ),
        ]);
        for (id, expected) in [
            ("/root/.npm", Held::Used),
            ("go", Held::Used),
            ("/go", Held::Nothing),
            ("/apt", Held::InUse),
            ("/a\"b\\c\n\u{a0}é\u{7f}", Held::Used),
            ("a from b", Held::Used),
            ("/ with id ", Held::Used),
            ("x", Held::Nothing),
        ] {
            assert_eq!(held.of_key((id, ""), false), expected, "{id}");
        }
        assert_eq!(held.of_key(("/apt", ""), true), Held::Used);
        assert_eq!(held.of_key(("/root/.npm", ""), true), Held::Used);
    }

    const HERE: &str = "cached mount /.docker-cachex-mount from container";

    fn made_by(container: &str, id: &str, in_use: bool) -> UsageRecord {
        record(&format!("{HERE} {container} with id \"{id}\""), in_use)
    }

    fn mark(base_key: &str, maker: &str) -> UsageRecord {
        let id = format!("{WHOLE}{}-{maker}", base_of(base_key));
        made_by("cachexmountw", &id, false)
    }

    #[test]
    fn what_was_restored_is_told_from_what_was_begun() {
        let container = new_container("");
        for usage_count in 0..4 {
            let begun = |in_use| UsageRecord {
                usage_count,
                ..made_by(&container, "pip", in_use)
            };
            let held = |records: Vec<UsageRecord>| HeldMounts(records).of_key(("pip", ""), false);
            // The builder was killed, or this program, however often somebody has asked since.
            assert_eq!(held(vec![begun(false)]), Held::Perhaps);
            let other = mark("", &new_container(""));
            assert_eq!(held(vec![begun(false), other]), Held::Perhaps);
            let whole = || mark("", &container);
            assert_eq!(held(vec![begun(false), whole()]), Held::Used);
            assert_eq!(held(vec![begun(true), whole()]), Held::InUse);
            let restoring = if usage_count < OFTEN {
                Held::Restoring
            } else {
                Held::InUse
            };
            assert_eq!(held(vec![begun(true)]), restoring);
        }
    }

    #[test]
    fn mounts_of_one_id_are_told_apart_by_what_they_begin_with() {
        let with_base = |record: UsageRecord| UsageRecord {
            parents: vec!["parent".to_owned()],
            usage_count: 5,
            ..record
        };
        let by_step = || UsageRecord {
            id: "r1".to_owned(),
            ..with_base(record("cached mount go from exec make", false))
        };
        let unknown = HeldMounts(vec![by_step()]);
        assert_eq!(unknown.of_key(("go", ""), false), Held::Nothing);
        assert_eq!(unknown.of_key(("go", "uid"), false), Held::Perhaps);
        // When it was looked at that is known.
        let known = HeldMounts(vec![by_step(), mark("uid", "r1")]);
        assert_eq!(known.of_key(("go", "uid"), false), Held::Used);
        assert_eq!(known.of_key(("go", "gid"), false), Held::Nothing);
        let plain = HeldMounts(vec![record("cached mount go from exec make", false)]);
        assert_eq!(plain.of_key(("go", "uid"), false), Held::Nothing);
        let container = new_container("uid");
        let ours = with_base(made_by(&container, "go", false));
        let ours = HeldMounts(vec![ours, mark("uid", &container)]);
        assert_eq!(ours.of_key(("go", "uid"), false), Held::Used);
        assert_eq!(ours.of_key(("go", "gid"), false), Held::Nothing);
        assert!(ours.has_made(&container) && !ours.has_made("cachexmount"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_another_build_restores_is_waited_for_within_bounds() {
        // It comes to its end, it is given up, it goes on for ever, or the builder is gone.
        for (last, expected) in [
            (Some(Held::Used), Ok(Held::Used)),
            (Some(Held::Perhaps), Ok(Held::Perhaps)),
            (Some(Held::Restoring), Ok(Held::Restoring)),
            (None, Err("gone")),
        ] {
            let (begin, mut asked) = (Instant::now(), 0);
            let held = after_others(Held::Restoring, || {
                asked += 1;
                let held = if asked < 5 {
                    Some(Held::Restoring)
                } else {
                    last
                };
                ready(held.ok_or("gone"))
            });
            assert_eq!(held.await, expected);
            let waited = begin.elapsed();
            let whole = if last == Some(Held::Restoring) {
                OTHERS
            } else {
                5 * LOOK
            };
            assert_eq!(waited, whole, "{last:?}");
        }
        let never = after_others(Held::Used, || ready(Err("nobody is to be asked")));
        assert_eq!(never.await, Ok(Held::Used));
    }
}
