//! Mounts put in a builder that lacks them, before the steps begin that use them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bollard_buildkit_proto::pb::Definition;
use futures_util::future::join_all;
use tonic::Status;

use super::errors::RestoreError;
use super::fill::{Received, fill};
use super::held::{self, Held, HeldMounts};
use super::script;
use super::uses::MountUse;
use super::watch::MountWatch;
use super::{DEST, FILES};
use crate::build::cache::CacheObserver;
use crate::build::cache::import::Imports;
use crate::build::cache::import::found::FoundMounts;
use crate::build::context::inputs::Folders;
use crate::build::explain::{Builder, forecast};
use crate::build::request::{BuildRequest, NoCache};
use crate::buildkit::RpcError;
use crate::buildkit::container::Container;
use crate::cache::export::ExportProgress;
use crate::cache::extras::mounts::{Mount, Packs};
use crate::error::chain;
use crate::explain::Outcome;
use crate::options::size::human_size;
use crate::reference::Reference;
use crate::registry::Repository;
use crate::text::foreign;

/// How long it is found out which steps will run. After that all may.
const FORECAST: Duration = Duration::from_secs(10);

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
        let stay = uses.iter().filter(|one| !one.is_emptied);
        let wanted = stay.filter_map(|one| wanted(one, &found));
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
        let client = &self.builder.client;
        let ask = || async { Ok::<_, RpcError>(HeldMounts::ask(client).await?.of(one)) };
        let is_new = match held::after_others(held, ask).await? {
            Held::InUse | Held::Restoring => return Err(RestoreError::InUse),
            Held::Used => return Ok(None),
            Held::Nothing => true,
            Held::Perhaps => false,
        };
        let (container, mut is_restored) = Box::pin(self.in_one(wanted, is_new, progress)).await?;
        let mut maker = Some(container.id.clone());
        if !is_new {
            let now = HeldMounts::ask(client).await?;
            if !now.has_made(&container.id) {
                maker = now.only_maker(one).map(str::to_owned);
            } else if !is_restored {
                // What was there is another one, and this has nothing but what it begins with.
                (_, is_restored) = Box::pin(self.in_one(wanted, true, progress)).await?;
            }
        }
        if let Some(maker) = maker {
            self.mark_whole(&container, one, &maker).await;
        }
        Ok(is_restored.then(|| mount.stored()))
    }

    /// Restores a mount in the first container that can do it, and returns whether it was to be.
    async fn in_one(
        &self,
        wanted: Wanted<'_>,
        is_new: bool,
        progress: &Arc<dyn ExportProgress>,
    ) -> Result<(Container, bool), RestoreError> {
        let Wanted { one, helper, .. } = wanted;
        let script = script::restore(DEST, is_new && one.has_base());
        let mut last = RestoreError::NoImage;
        for container in one.containers(&self.builder.session, helper) {
            let restored = self.restore_in(&container, &script, wanted, progress);
            match Box::pin(restored).await {
                Err(RestoreError::NoTar) => last = RestoreError::NoTar,
                restored => return Ok((container, restored?)),
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
            let packs = Received::new(packs, mount, progress);
            restored = Some(fill(process, index, packs).await);
            Ok::<(), Status>(())
        });
        Box::pin(run).await?;
        restored.ok_or(RestoreError::Thread)?
    }

    /// Makes the empty mount that tells later builds that a mount is whole.
    async fn mark_whole(&self, container: &Container, mount: &MountUse, maker: &str) {
        let container = Container {
            id: format!("{}w", container.id),
            mount: held::whole(mount, maker),
            base: None,
            ..container.clone()
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

fn remark(id: &str, error: &RestoreError) -> String {
    let why = foreign::excerpt(&chain(error), 300);
    format!("cache mount {id} is not restored: {why}")
}
