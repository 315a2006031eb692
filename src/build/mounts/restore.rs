//! Mounts put in a builder that lacks them, before the steps begin that use them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard_buildkit_proto::pb::Definition;
use bytes::Bytes;
use futures_util::future::join_all;
use thiserror::Error;
use tokio::sync::mpsc;
use tonic::Status;

use super::held::{Held, HeldMounts};
use super::script;
use super::uses::MountUse;
use super::watch::MountWatch;
use super::{DEST, lacks_shell};
use crate::build::cache::CacheObserver;
use crate::build::cache::import::Imports;
use crate::build::cache::import::found::FoundMounts;
use crate::build::context::inputs::Folders;
use crate::build::explain::{Builder, forecast};
use crate::build::request::{BuildRequest, NoCache};
use crate::buildkit::RpcError;
use crate::buildkit::container::{Container, Process, Said};
use crate::cache::export::ExportProgress;
use crate::cache::extras::mounts::{Mount, MountError, Packs};
use crate::error::chain;
use crate::explain::Outcome;
use crate::mounts::Index;
use crate::mounts::index::PackRef;
use crate::mounts::pipe::PipeWriter;
use crate::mounts::unpack::{Form, unpack};
use crate::options::size::human_size;
use crate::reference::Reference;
use crate::registry::Repository;
use crate::text::foreign;

/// How long it is found out which steps will run. After that all may.
const FORECAST: Duration = Duration::from_secs(10);
/// How long a mount is waited for that another build restores, and how often it is looked at.
const OTHERS: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(500);
/// Pieces of the stream that wait to be sent, and bytes of one.
const PIECES: usize = 4;
const PIECE: usize = 128 << 10;

/// What is shown while it goes on.
const FILES: &str = "its files";

/// Why a mount is not restored.
#[derive(Debug, Error)]
enum RestoreError {
    #[error("another build uses it now")]
    InUse,
    #[error(
        "no step that uses it has a base image, whose tar would carry it; mounts-helper= names an image that has one"
    )]
    NoImage,
    #[error("it begins with the result of a step, which has not run yet")]
    NeedsSteps,
    #[error("its base image has no shell or no tar; mounts-helper= names an image that has both")]
    NoTar,
    #[error("tar ended with code {0}: {1}")]
    Tar(u32, String),
    #[error("a step of another build has used it meanwhile")]
    Overtaken,
    #[error("tar said what nobody expects")]
    Odd,
    #[error(transparent)]
    Builder(#[from] RpcError),
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error("its files cannot be had")]
    Files(#[source] std::io::Error),
    #[error("the thread that unpacks it ended")]
    Thread,
}

/// Restores the mounts of one build.
pub struct Restorer<'a> {
    /// What the build is to do about mounts.
    pub watch: &'a MountWatch,
    /// The build.
    pub request: &'a BuildRequest,
    /// The folders of its contexts.
    pub folders: &'a Folders,
    /// The caches that it reads.
    pub imports: &'a Imports,
    /// The builder.
    pub builder: Builder,
    /// Shows what is restored.
    pub observer: &'a dyn CacheObserver,
}

/// A mount that a cache has.
#[derive(Debug, Clone, Copy)]
struct Wanted<'a> {
    one: &'a MountUse,
    repository: &'a Repository,
    helper: Option<&'a Reference>,
    mount: &'a Mount,
}

impl Restorer<'_> {
    /// Restores the mounts that the builder lacks, that a cache has, and that a step will use which may run.
    pub async fn restore(&self, definitions: &BTreeMap<String, Definition>) {
        let uses = self.watch.begin(definitions);
        let found = self.imports.mounts();
        let wanted = uses.iter().filter_map(|one| wanted(one, &found));
        let mut wanted: Vec<Wanted<'_>> = wanted.collect();
        if wanted.is_empty() {
            return;
        }
        let held = match HeldMounts::ask(&self.builder.client).await {
            Ok(held) => held,
            Err(error) => {
                tracing::debug!(error = %chain(&error), "which mounts there are is not known");
                return;
            }
        };
        wanted.retain(|wanted| held.of(wanted.one) != Held::Used);
        if wanted.is_empty() {
            return;
        }
        let served = self.served(definitions).await;
        wanted.retain(|wanted| !wanted.one.all_steps().all(|step| served.contains(step)));
        let restored = wanted
            .iter()
            .map(|wanted| self.restore_one(*wanted, held.of(wanted.one)));
        let remarks = join_all(restored).await;
        self.watch.remark(remarks.into_iter().flatten().collect());
    }

    /// Returns the steps that a cache serves.
    async fn served(&self, definitions: &BTreeMap<String, Definition>) -> BTreeSet<String> {
        if self.request.no_cache != NoCache::Never {
            return BTreeSet::new();
        }
        let found = self.imports.found(&BTreeMap::new());
        let folders = self.folders.clone();
        let forecast = forecast::of(self.request, definitions, folders, found, &self.builder);
        let forecast = tokio::time::timeout(FORECAST, Box::pin(forecast)).await;
        let rows = forecast.unwrap_or_default().rows.into_iter();
        let served = rows.filter(|row| row.outcome == Outcome::Served);
        served.map(|row| row.digest).collect()
    }

    async fn restore_one(&self, wanted: Wanted<'_>, held: Held) -> Option<String> {
        let id = foreign::line(wanted.one.id());
        let progress = self.observer.mount(&format!("restoring cache mount {id}"));
        progress.part(FILES, 0, 0);
        let tried = Box::pin(self.try_one(wanted, held, &progress)).await;
        progress.part_done(FILES);
        match tried {
            Ok(Some(bytes)) => {
                self.observer.mounts(None, Some(bytes));
                progress.done(&format!("received {}", human_size(bytes)));
                None
            }
            Ok(None) => {
                progress.done("it is there");
                None
            }
            Err(error) => {
                progress.done("left out");
                Some(remark(&id, &error))
            }
        }
    }

    /// Restores a mount, and returns the bytes of its packs; `None` where it is there.
    async fn try_one(
        &self,
        wanted: Wanted<'_>,
        held: Held,
        progress: &Arc<dyn ExportProgress>,
    ) -> Result<Option<u64>, RestoreError> {
        let Wanted { one, mount, .. } = wanted;
        if one.needs_steps {
            return Err(RestoreError::NeedsSteps);
        }
        let is_new = match self.held(one, held).await? {
            Held::InUse | Held::Restoring => return Err(RestoreError::InUse),
            Held::Used => return Ok(None),
            Held::Nothing => true,
            Held::Perhaps => false,
        };
        let script = script::restore(DEST, is_new && one.has_base());
        let mut last = RestoreError::NoImage;
        for container in one.containers(&self.builder.session, wanted.helper) {
            let restored = self.restore_in(&container, &script, wanted, progress);
            match Box::pin(restored).await {
                Err(RestoreError::NoTar) => last = RestoreError::NoTar,
                Err(RestoreError::Builder(error)) if lacks_shell(&error) => {
                    last = RestoreError::NoTar;
                }
                Err(error) => return Err(error),
                Ok(false) => return Ok(None),
                Ok(true) => {
                    self.mark_whole(container).await;
                    return Ok(Some(mount.stored()));
                }
            }
        }
        Err(last)
    }

    /// Restores a mount in a container, and returns whether it was to be.
    async fn restore_in(
        &self,
        container: &Container,
        script: &str,
        wanted: Wanted<'_>,
        progress: &Arc<dyn ExportProgress>,
    ) -> Result<bool, RestoreError> {
        let Wanted {
            mount, repository, ..
        } = wanted;
        let index = mount.read(repository).await?;
        let mut restored = None;
        let run = container.run(&self.builder.client, script, async |process| {
            let (packs, _end) = Packs::of(repository);
            let packs = Received {
                packs,
                bytes: 0,
                of: mount.stored(),
                progress: Arc::clone(progress),
            };
            restored = Some(talk(process, index, packs).await);
            Ok::<(), Status>(())
        });
        Box::pin(run).await?;
        restored.ok_or(RestoreError::Thread)?
    }

    /// Waits for what another build restores, and returns what the builder has of the mount then. It is not asked without
    /// need: BuildKit may count that as a use (`cache/manager.go`, `DiskUsage`).
    async fn held(&self, one: &MountUse, mut held: Held) -> Result<Held, RpcError> {
        let end = Instant::now() + OTHERS;
        while held == Held::Restoring && Instant::now() < end {
            tokio::time::sleep(LOOK).await;
            held = HeldMounts::ask(&self.builder.client).await?.of(one);
        }
        Ok(held)
    }

    /// Opens a mount once more: that counts, and tells later builds that it was whole.
    async fn mark_whole(&self, container: Container) {
        let container = Container {
            id: format!("{}w", container.id),
            ..container
        };
        let opened = Box::pin(container.open(&self.builder.client)).await;
        if let Err(error) = opened {
            tracing::debug!(error = %chain(&error), "the next build will look at the mount again");
        }
    }
}

/// Returns the mount of the first cache that has it; where that has one for each of several platforms, the youngest.
fn wanted<'a>(one: &'a MountUse, found: &'a [FoundMounts]) -> Option<Wanted<'a>> {
    let found = found.iter().filter(|found| found.wanted.wants(one.id()));
    let mut wanted = found.filter_map(|found| {
        let mounts = one.steps.keys().filter_map(|name| found.mounts.get(name));
        Some(Wanted {
            one,
            repository: &found.repository,
            helper: found.helper.as_ref(),
            mount: mounts.max_by_key(|mount| mount.created())?,
        })
    });
    wanted.next()
}

/// Sends the mount to the script if that wants it, and returns whether it did.
async fn talk(
    mut process: Process,
    index: Index,
    mut packs: Received,
) -> Result<bool, RestoreError> {
    let mut said = Vec::new();
    while !said.ends_with(b"\n") {
        match process.first().await.map_err(RpcError::from)? {
            Said::Output(bytes) => said.extend(bytes),
            Said::Ended(code) => return Err(failed(code, &process)),
        }
    }
    let form = match said.as_slice() {
        script::WANT => Some(Form::Container),
        script::WANT_SPARSE => Some(Form::ContainerSparse),
        _ => None,
    };
    let Some(form) = form else {
        process.stdin().close().await.map_err(RpcError::from)?;
        ended(&mut process).await?;
        return match said.as_slice() {
            script::HAVE => Ok(false),
            script::NONE => Err(RestoreError::NoTar),
            _ => Err(RestoreError::Odd),
        };
    };
    let (pieces, mut output) = mpsc::channel::<Bytes>(PIECES);
    let unpacking = tokio::task::spawn_blocking(move || {
        let to = std::io::BufWriter::with_capacity(PIECE, PipeWriter(pieces));
        let fetch = &mut |pack: &PackRef| packs.fetch(pack);
        unpack(&index, fetch, to, form)
    });
    let stdin = process.stdin();
    let write = async {
        while let Some(piece) = output.recv().await {
            stdin.write(&piece).await?;
        }
        stdin.close().await
    };
    let (written, ended) = tokio::join!(write, ended(&mut process));
    drop(output);
    let unpacked = unpacking.await.map_err(|_| RestoreError::Thread)?;
    if let Err(error) = unpacked
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        return Err(RestoreError::Files(error));
    }
    ended?;
    written.map_err(RpcError::from)?;
    Ok(true)
}

/// Waits until the script has ended.
async fn ended(process: &mut Process) -> Result<(), RestoreError> {
    loop {
        match process.next().await.map_err(RpcError::from)? {
            Said::Output(_) => {}
            Said::Ended(0) => return Ok(()),
            Said::Ended(code) => return Err(failed(code, process)),
        }
    }
}

fn failed(code: u32, process: &Process) -> RestoreError {
    match code {
        script::OVERTAKEN => RestoreError::Overtaken,
        code => RestoreError::Tar(code, process.errors()),
    }
}

/// Fetches packs, and shows how much has come. For a thread that may block.
struct Received {
    packs: Packs,
    bytes: u64,
    of: u64,
    progress: Arc<dyn ExportProgress>,
}

impl Received {
    fn fetch(&mut self, pack: &PackRef) -> std::io::Result<Vec<u8>> {
        let read = self.packs.fetch(pack)?;
        self.bytes = self.bytes.saturating_add(pack.stored);
        self.progress.part(FILES, self.bytes, self.of);
        Ok(read)
    }
}

fn remark(id: &str, error: &RestoreError) -> String {
    let why = foreign::excerpt(&chain(error), 300);
    format!("cache mount {id} is not restored: {why}")
}
