//! The cache mounts that a cache brings along: of each an index and the packs that it names, all marked with the name of
//! the mount.

use std::collections::{BTreeMap, HashSet};
use std::io;

use jiff::Timestamp;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::cache::descriptor::Descriptor;
use crate::cache::media::layer_type;
use crate::compress::Algorithm;
use crate::digest::Digest;
use crate::mounts::Index;
use crate::mounts::index::{IndexError, MAX_STORED, PackRef};
use crate::registry::{Download, RegistryError, Repository};

/// Annotation of all entries of a mount: its key.
const MOUNT: &str = "dev.docker-cachex.mount";
/// Annotations of the index: the id, the platform of the steps, bytes and number of files, when it was packed.
const ID: &str = "dev.docker-cachex.mount.id";
const PLATFORM: &str = "dev.docker-cachex.mount.platform";
const SIZE: &str = "dev.docker-cachex.mount.size";
const FILES: &str = "dev.docker-cachex.mount.files";
const CREATED: &str = "dev.docker-cachex.mount.created";
/// Hexadecimal digits of a key.
const KEY: usize = 16;

/// What tells a mount from others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MountName {
    /// Its id: `id=`, else the target.
    pub id: String,
    /// Platform of the steps that use it.
    pub platform: String,
    /// What it begins with: the step that makes it (`from=`, `uid=`, `gid=`, `mode=`); empty for nothing.
    pub base: String,
}

impl MountName {
    /// Returns the key under which a cache has it.
    pub fn key(&self) -> String {
        let name = [&self.id, &self.platform, &self.base].map(String::as_str);
        let digest = Digest::of(name.join("\0").as_bytes());
        digest.hex().chars().take(KEY).collect()
    }
}

/// A mount in a cache.
#[derive(Debug, Clone, PartialEq)]
pub struct Mount {
    /// The blob of its index.
    pub index: Descriptor,
    /// The blobs of its packs.
    pub packs: Vec<Descriptor>,
}

/// Why a mount cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The registry does not answer, or refuses.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Its index is none, or not for this version.
    #[error(transparent)]
    Index(#[from] IndexError),
}

impl Mount {
    /// Creates the entries of a mount whose index has this blob.
    pub fn new(name: &MountName, blob: &[u8], index: &Index, now: Timestamp) -> Self {
        let key = name.key();
        let media_type = layer_type(Algorithm::Gzip, true);
        let mark = |mut entry: Descriptor| {
            let key = Value::from(key.as_str());
            entry.annotations.insert(MOUNT.to_owned(), key);
            entry
        };
        let mut entry = mark(Descriptor::of(media_type, blob));
        for (annotation, value) in [
            (ID, name.id.clone()),
            (PLATFORM, name.platform.clone()),
            (SIZE, index.size().to_string()),
            (FILES, index.files().to_string()),
            (CREATED, now.to_string()),
        ] {
            let value = Value::from(value);
            entry.annotations.insert(annotation.to_owned(), value);
        }
        let pack = |pack: &PackRef| {
            let digest = pack.digest.clone();
            mark(Descriptor::new(media_type, digest, pack.stored))
        };
        Self {
            index: entry,
            packs: index.packs.iter().map(pack).collect(),
        }
    }

    fn entries(&self) -> impl Iterator<Item = &Descriptor> {
        std::iter::once(&self.index).chain(&self.packs)
    }

    /// Returns whether a blob of it is among these.
    pub fn lacks(&self, lost: &HashSet<Digest>) -> bool {
        self.entries().any(|entry| lost.contains(&entry.digest))
    }

    /// Returns its key, which tells it from others with the same id.
    pub fn key(&self) -> &str {
        self.index.annotation(MOUNT).unwrap_or_default()
    }

    /// Returns its id.
    pub fn id(&self) -> &str {
        self.index.annotation(ID).unwrap_or_default()
    }

    /// Returns the platform of the steps that use it.
    pub fn platform(&self) -> &str {
        self.index.annotation(PLATFORM).unwrap_or_default()
    }

    /// Returns when it was packed, where that is told; in a cache with `max-age` when it was noted last that it is used.
    pub fn created(&self) -> Option<Timestamp> {
        self.index.annotation(CREATED)?.parse().ok()
    }

    /// Returns the bytes of its files, where that is told.
    pub fn size(&self) -> Option<u64> {
        self.index.annotation(SIZE)?.parse().ok()
    }

    /// Returns the number of its files, where that is told.
    pub fn files(&self) -> Option<u64> {
        self.index.annotation(FILES)?.parse().ok()
    }

    /// Returns the bytes of its blobs.
    pub fn stored(&self) -> u64 {
        let sizes = self.entries().map(|entry| entry.size);
        sizes.fold(0, u64::saturating_add)
    }

    /// Reads its index.
    ///
    /// # Errors
    ///
    /// Fails if it is not there, or is none.
    pub async fn read(&self, repository: &Repository) -> Result<Index, MountError> {
        if self.index.size > MAX_STORED {
            return Err(IndexError::Invalid("it is too large").into());
        }
        let blob = read_whole(repository, &self.index.digest, self.index.size).await?;
        Ok(Index::from_blob(&blob)?)
    }

    /// The younger of two counts, else the one of the greater digest.
    fn order(&self) -> (Option<Timestamp>, &Digest) {
        (self.created(), &self.index.digest)
    }
}

/// Reads a blob of a few megabytes, however long it takes.
async fn read_whole(
    repository: &Repository,
    digest: &Digest,
    size: u64,
) -> Result<Vec<u8>, RegistryError> {
    let mut download: Download = repository.download(digest, Some(size)).await?;
    // Both limits are checked: those of an index, and those of what it names.
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    while let Some(piece) = download.next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// Fetches packs for a thread that may block.
#[derive(Debug)]
pub struct Packs {
    repository: Repository,
    handle: Handle,
    ended: CancellationToken,
}

impl Packs {
    /// Fetches from a repository until the guard is dropped: a thread may outlive whoever waits for it, and even the runtime.
    pub fn of(repository: &Repository) -> (Self, DropGuard) {
        let ended = CancellationToken::new();
        let packs = Self {
            repository: repository.clone(),
            handle: Handle::current(),
            ended: ended.clone(),
        };
        (packs, ended.drop_guard())
    }

    /// Returns a pack as it is stored.
    ///
    /// # Errors
    ///
    /// Fails if it is not there, or nobody waits for it any more.
    pub fn fetch(&self, pack: &PackRef) -> io::Result<Vec<u8>> {
        self.handle.block_on(async {
            tokio::select! {
                biased;
                () = self.ended.cancelled() => Err(io::ErrorKind::BrokenPipe.into()),
                read = read_whole(&self.repository, &pack.digest, pack.stored) => read.map_err(io::Error::other),
            }
        })
    }
}

/// The mounts of one cache, by key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mounts(BTreeMap<String, Mount>);

impl Mounts {
    /// Takes the entries of mounts out of those of a manifest. Of several with one key the first counts.
    pub(super) fn take(entries: &mut Vec<Descriptor>) -> Self {
        let mut mounts: BTreeMap<String, Mount> = BTreeMap::new();
        let mut packs: Vec<(String, Descriptor)> = Vec::new();
        entries.retain(|entry| {
            let Some(key) = entry.annotation(MOUNT) else {
                return true;
            };
            if entry.annotations.contains_key(ID) {
                mounts.entry(key.to_owned()).or_insert_with(|| Mount {
                    index: entry.clone(),
                    packs: Vec::new(),
                });
            } else {
                packs.push((key.to_owned(), entry.clone()));
            }
            false
        });
        for (key, pack) in packs {
            if let Some(mount) = mounts.get_mut(&key) {
                mount.packs.push(pack);
            }
        }
        Self(mounts)
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the mounts.
    pub fn iter(&self) -> impl Iterator<Item = &Mount> {
        self.0.values()
    }

    /// Returns the mount of this name.
    pub fn get(&self, name: &MountName) -> Option<&Mount> {
        self.0.get(&name.key())
    }

    /// Sets the mount of this name.
    pub fn set(&mut self, name: &MountName, mount: Mount) {
        self.0.insert(name.key(), mount);
    }

    /// Returns the entries in the order in which they stand in a manifest.
    pub fn entries(&self) -> impl Iterator<Item = &Descriptor> {
        self.0.values().flat_map(Mount::entries)
    }

    pub(super) fn entries_mut(&mut self) -> impl Iterator<Item = &mut Descriptor> {
        let mounts = self.0.values_mut();
        mounts.flat_map(|mount| std::iter::once(&mut mount.index).chain(&mut mount.packs))
    }

    /// Drops the mounts that were packed, or noted to be used, before this, and returns how many. One that does not tell when
    /// goes, too.
    pub fn drop_older(&mut self, oldest: Timestamp) -> usize {
        let before = self.0.len();
        self.0.retain(|_, mount| mount.created() >= Some(oldest));
        before - self.0.len()
    }

    /// Takes the mounts of another cache. Of two with one name the younger stays, whole.
    pub fn merge(&mut self, other: &Self) {
        for (key, theirs) in &other.0 {
            let ours = self.0.get(key);
            if ours.is_none_or(|ours| ours.order() < theirs.order()) {
                self.0.insert(key.clone(), theirs.clone());
            }
        }
    }

    /// Returns the mounts but for those with a blob among these.
    pub fn without(&self, lost: &HashSet<Digest>) -> Self {
        let whole = self.0.iter().filter(|(_, mount)| !mount.lacks(lost));
        Self(
            whole
                .map(|(key, mount)| (key.clone(), mount.clone()))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::extras::Extras;
    use crate::cache::unknown::Unknown;

    fn name(id: &str) -> MountName {
        MountName {
            id: id.to_owned(),
            platform: "linux/amd64".to_owned(),
            base: String::new(),
        }
    }

    fn mount(id: &str, blob: &[u8], second: i64) -> Mount {
        let mut index = Index::default();
        index.packs.push(PackRef {
            digest: Digest::of(blob),
            stored: 5,
            plain: 9,
        });
        let now = Timestamp::from_second(second).unwrap();
        Mount::new(&name(id), blob, &index, now)
    }

    fn mounts(all: &[(&str, &[u8], i64)]) -> Mounts {
        let mut mounts = Mounts::default();
        for (id, blob, second) in all {
            mounts.set(&name(id), mount(id, blob, *second));
        }
        mounts
    }

    #[test]
    fn entries_of_a_manifest_are_taken_and_come_back() {
        let all = mounts(&[("/root/.npm", b"one", 1), ("go", b"two", 2)]);
        let mut entries: Vec<Descriptor> = all.entries().cloned().collect();
        entries.insert(1, Descriptor::of("x", b"layer"));
        let extras = Extras::take(&mut entries, &mut Unknown::default());
        assert_eq!(entries.len(), 1);
        assert!(extras.mounts() == &all && !extras.has_no_entry());
        assert_eq!(extras.entries().count(), 4);
        let go = all.get(&name("go")).unwrap();
        assert_eq!(
            (go.id(), go.platform(), go.files()),
            ("go", "linux/amd64", Some(0))
        );
        assert_eq!(go.stored(), 8);
    }

    #[test]
    fn the_younger_of_two_stays_whole_whatever_the_order() {
        let (old, new) = (
            mounts(&[("go", b"old", 1), ("a", b"a", 1)]),
            mounts(&[("go", b"new", 2)]),
        );
        let (mut one, mut other) = (old.clone(), new.clone());
        one.merge(&new);
        other.merge(&old);
        assert_eq!(one, other);
        assert_eq!(one.get(&name("go")), new.get(&name("go")));
        assert_eq!(one.iter().count(), 2);
    }

    #[test]
    fn old_mounts_are_dropped() {
        let mut all = mounts(&[("go", b"go", 10), ("a", b"a", 5)]);
        assert_eq!(all.drop_older(Timestamp::from_second(5).unwrap()), 0);
        assert_eq!(all.drop_older(Timestamp::from_second(6).unwrap()), 1);
        assert_eq!(all, mounts(&[("go", b"go", 10)]));
    }

    #[test]
    fn a_mount_that_has_lost_a_blob_is_left_out() {
        let all = mounts(&[("go", b"go", 1), ("a", b"a", 1)]);
        let left = all.without(&HashSet::from([Digest::of(b"go")]));
        assert_eq!(left, mounts(&[("a", b"a", 1)]));
    }

    #[test]
    fn names_are_told_apart() {
        let platform = MountName {
            platform: "linux/arm64".to_owned(),
            ..name("go")
        };
        let base = MountName {
            base: "x".to_owned(),
            ..name("go")
        };
        let keys = [name("go"), platform, base].map(|name| name.key());
        assert!(keys.iter().all(|key| key.len() == KEY));
        assert!(keys[0] != keys[1] && keys[0] != keys[2] && keys[1] != keys[2]);
    }
}
