//! Mounts taken out of the builder: a tar stream, packed and stored beside the cache that will name them.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use thiserror::Error;
use tokio::sync::mpsc;
use tonic::Status;

use super::DEST;
use super::held::{self, Held, HeldMounts};
use super::script;
use super::uses::MountUse;
use crate::build::cache::export::RegistryExport;
use crate::build::cache::import::found::FoundMounts;
use crate::buildkit::container::{Process, Said};
use crate::buildkit::{Client, RpcError};
use crate::cache::extras::mounts::{Mount, MountError, Mounts};
use crate::digest::Digest;
use crate::error::chain;
use crate::mounts::Index;
use crate::mounts::index::IndexError;
use crate::mounts::pack::{Pack, PackError, pack};
use crate::mounts::pipe::{END_OF_STREAM, PipeReader};
use crate::options::size::human_size;
use crate::registry::{Arrival, BlobSource, RegistryError, Repository, UploadOptions};
use crate::text::foreign;

/// Pieces of the stream, and packs, that wait for who takes them.
const PIECES: usize = 16;
const PACKS: usize = 1;

/// What is shown while it goes on.
const FILES: &str = "its files";

/// What became of the mounts of a build.
#[derive(Debug, Default)]
pub struct Saved {
    /// For each cache, in their order, the mounts that have changed.
    pub changed: Vec<Mounts>,
    /// What there is to tell the user.
    pub remarks: Vec<String>,
}

/// Why a mount is not saved.
#[derive(Debug, Error)]
enum SaveError {
    #[error("another build uses it now")]
    InUse,
    #[error("no step that uses it has a base image, whose tar would carry it")]
    NoImage,
    #[error("its base image has no tar")]
    NoTar,
    #[error("it was being restored when that was broken off")]
    Half,
    #[error("tar ended with code {0}: {1}")]
    Tar(u32, String),
    #[error(transparent)]
    Builder(#[from] RpcError),
    #[error(transparent)]
    Pack(#[from] PackError),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("the thread that packs it ended")]
    Thread,
}

/// What the mounts are taken with.
#[derive(Debug, Clone, Copy)]
pub struct Saver<'a> {
    /// The builder.
    pub client: &'a Client,
    /// Identifier of the build's session.
    pub session: &'a str,
    /// What the caches have that were read: what is packed there need not be packed again in the same repository.
    pub found: &'a [FoundMounts],
}

impl Saver<'_> {
    /// Takes the mounts that each of the caches is to keep out of the builder, and stores their blobs.
    pub async fn save(&self, caches: &[Arc<RegistryExport>], used: &[MountUse]) -> Saved {
        let mut saved = Saved::default();
        let wanted = caches
            .iter()
            .filter_map(|cache| cache.target().cache.kept_mounts());
        let wants = |one: &&MountUse| {
            let mut wanted = wanted.clone();
            wanted.any(|(mounts, _)| mounts.wants(&one.name.id))
        };
        if !used.iter().any(|one| wants(&one)) {
            return saved;
        }
        let held = match HeldMounts::ask(self.client).await {
            Ok(held) => held,
            Err(error) => {
                let why = chain(&error);
                saved
                    .remarks
                    .push(format!("cache mounts are not saved: {why}"));
                return saved;
            }
        };
        for cache in caches {
            let mut changed = Mounts::default();
            for one in used {
                let id = &one.name.id;
                let kept = cache.target().cache.kept_mounts();
                let Some((_, most)) = kept.filter(|(mounts, _)| mounts.wants(id)) else {
                    continue;
                };
                let progress = cache.shows_mount(&format!("saving cache mount {id}"));
                progress.part(FILES, 0, 0);
                let tried = self.save_one(cache, one, &held, most).await;
                progress.part_done(FILES);
                match tried {
                    Ok((mount, summary)) => {
                        progress.done(&summary);
                        if let Some(mount) = mount {
                            changed.set(&one.name, mount);
                        }
                    }
                    Err(error) => {
                        progress.done("left out");
                        saved.remarks.push(remark(id, &chain(&error)));
                    }
                }
            }
            saved.changed.push(changed);
        }
        saved
    }

    /// Saves one mount, and returns it if it has changed, with one line about it.
    async fn save_one(
        &self,
        cache: &RegistryExport,
        one: &MountUse,
        held: &HeldMounts,
        most: u64,
    ) -> Result<(Option<Mount>, String), SaveError> {
        if held.of(one.builder_id()) == Held::InUse {
            return Err(SaveError::InUse);
        }
        let container = one.container(held::new_container(), self.session);
        let container = container.ok_or(SaveError::NoImage)?;
        let repository = cache.repository();
        let before = cache.mounts_before().await;
        let before = before.get(&one.name).cloned();
        let same_repository = |found: &&FoundMounts| {
            found.repository.name() == repository.name()
                && found.repository.client().host() == repository.client().host()
        };
        let found = self.found.iter().filter(same_repository);
        let mut found = found.filter_map(|found| found.mounts.get(&one.name));
        let old = match before.as_ref().or_else(|| found.next()) {
            Some(old) => packed_before(repository, old).await,
            None => None,
        };
        let (mut index, mut sent) = (None, 0);
        let script = script::save(DEST);
        let packed = container.run(self.client, &script, async |process| {
            index = Some(stream(process, old, most, repository, &mut sent).await);
            Ok::<(), Status>(())
        });
        Box::pin(packed).await?;
        let index = index.ok_or(SaveError::Thread)??;
        let blob = index.to_blob()?;
        let size = human_size(index.size());
        if before.is_some_and(|before| before.index.digest == Digest::of(&blob)) {
            return Ok((None, format!("nothing new in {size}")));
        }
        sent += upload(repository, blob.clone().into()).await?;
        let mount = Mount::new(&one.name, &blob, &index, Timestamp::now());
        let summary = format!("sent {} of {size}", human_size(sent));
        Ok((Some(mount), summary))
    }
}

/// Reads what was packed before, if all of it is still there.
async fn packed_before(repository: &Repository, old: &Mount) -> Option<Index> {
    let packs = old.packs.iter().map(|pack| pack.digest.clone());
    let missing =
        async { Ok::<HashSet<Digest>, MountError>(repository.missing_blobs(packs).await?) };
    match tokio::try_join!(old.read(repository), missing) {
        Ok((index, missing)) if missing.is_empty() => Some(index),
        Ok(_) => None,
        Err(error) => {
            tracing::debug!(error = %chain(&error), "the old mount is not read");
            None
        }
    }
}

/// Packs what the process writes, while its packs are stored.
async fn stream(
    mut process: Process,
    old: Option<Index>,
    most: u64,
    repository: &Repository,
    sent: &mut u64,
) -> Result<Index, SaveError> {
    let (pieces, input) = mpsc::channel::<Bytes>(PIECES);
    let (output, mut packs) = mpsc::channel::<Pack>(PACKS);
    let packing = tokio::task::spawn_blocking(move || {
        let store = &mut |pack: Pack| output.blocking_send(pack).is_ok();
        pack(PipeReader::new(input), old, most, store)
    });
    let read = async {
        if let Err(status) = process.stdin().close().await {
            return Some(RpcError::from(status).into());
        }
        let mut said = process.first().await;
        loop {
            match said {
                Ok(Said::Output(bytes)) => {
                    if pieces.send(bytes.into()).await.is_err() {
                        // Whoever packs has given up, and says why.
                        return None;
                    }
                }
                Ok(Said::Ended(0)) => {
                    let _told = pieces.send(END_OF_STREAM).await;
                    drop(pieces);
                    return None;
                }
                Ok(Said::Ended(code)) => return Some(failed(code, &process)),
                Err(status) => return Some(RpcError::from(status).into()),
            }
            said = process.next().await;
        }
    };
    // A pack that cannot be stored ends the packing, and that the reading.
    let store = async move {
        while let Some(pack) = packs.recv().await {
            *sent += upload(repository, pack.bytes).await?;
        }
        Ok::<_, RegistryError>(())
    };
    let (ended, stored, packed) = tokio::join!(read, store, packing);
    if let Some(error) = ended {
        return Err(error);
    }
    stored?;
    Ok(packed.map_err(|_| SaveError::Thread)??)
}

fn failed(code: u32, process: &Process) -> SaveError {
    match code {
        script::NO_TAR => SaveError::NoTar,
        script::HALF => SaveError::Half,
        code => SaveError::Tar(code, process.errors()),
    }
}

/// Stores a blob, and returns how many bytes were sent.
async fn upload(repository: &Repository, bytes: Bytes) -> Result<u64, RegistryError> {
    let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
    let options = UploadOptions {
        check_exists: true,
        ..UploadOptions::default()
    };
    let source = BlobSource::Bytes(bytes);
    let uploaded = repository.upload(&digest, size, &source, &options).await?;
    Ok(if uploaded.arrival == Arrival::Sent {
        size
    } else {
        0
    })
}

/// The remark about a mount that is left out.
fn remark(id: &str, why: &str) -> String {
    let why = foreign::excerpt(why, 300);
    format!("cache mount {} is not saved: {why}", foreign::line(id))
}
