//! `--cache REPO`: what CI and git say becomes caches to read and to write.

mod git;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;

use super::args::BuildArgs;
use crate::build::BuildRequest;
use crate::build::cache::import::{Holding, Probes};
use crate::build::run::BuildOutcome;
use crate::cli::Context;

use crate::env::{self, Env};
use crate::error::CommandError;
use crate::options::cache::{CacheTo, ScopedCache, WriteScope};
use crate::options::size::human_size;
use crate::progress::StatusSender;
use crate::scope::{self, Facts, GitFacts, Held, Plan, Wishes, Write};
use crate::text::{counted, human};

/// The largest file of an event that is read, in bytes.
const MAX_EVENT: u64 = 8 << 20;

/// The scopes of a build.
#[derive(Debug)]
pub(super) struct Scopes {
    cache: ScopedCache,
    plan: Plan,
    is_shown: AtomicBool,
    held: Mutex<Vec<Held>>,
}

/// Finds out what a build reads and writes; nothing without `--cache`.
///
/// # Errors
///
/// Fails if the value of the flag or of its variable is wrong.
pub(super) async fn resolve(
    args: &BuildArgs,
    ctx: &Context,
) -> Result<Option<Scopes>, CommandError> {
    let (name, value) = match &args.cache {
        Some(value) => ("--cache", value.as_str()),
        None => (
            env::CACHEX_CACHE,
            ctx.env.get(env::CACHEX_CACHE).unwrap_or_default(),
        ),
    };
    let parsed = ScopedCache::parse(value);
    let parsed = parsed.map_err(|e| CommandError::failed(format!("invalid {name}: {e}")))?;
    let Some(cache) = parsed else {
        return Ok(None);
    };
    let facts = facts(&ctx.env);
    for note in &facts.notes {
        tracing::debug!(note, "a variable of the CI is passed over");
    }
    let wishes = wishes(&cache);
    let git = match folder(&args.context, &ctx.env) {
        Some(folder) => git::facts(&folder, &facts, &wishes).await,
        None => GitFacts::default(),
    };
    let plan = scope::plan(&facts, &git, &wishes);
    tracing::debug!(?facts, ?git, ?plan, "scopes");
    Ok(Some(Scopes {
        cache,
        plan,
        is_shown: AtomicBool::new(false),
        held: Mutex::default(),
    }))
}

impl Scopes {
    /// Adds the scopes to a request. Caches that the user names are read first, and one that the user names to be
    /// written is written in place of the scope.
    ///
    /// # Errors
    ///
    /// Fails if a scope makes no reference.
    pub(super) fn add_to(&mut self, request: &mut BuildRequest) -> Result<(), CommandError> {
        if request.inputs.mode.is_none() {
            request.inputs.mode = self.cache.context_mode;
        }
        // Where BuildKit reads two caches that overlap it loses hits (moby/buildkit#4674), fewer of them where its own comes
        // last.
        for scope in self.plan.reads.iter().rev() {
            let import = self.cache.from(scope).map_err(CommandError::failed)?;
            request.cache_from.push(import);
        }
        if !request.cache_to.is_empty() {
            self.plan.writes = None;
            self.plan.why_not = Some("--cache-to is given");
        }
        let Some(scope) = self.plan.writes.as_ref().filter(|_| request.call.is_none()) else {
            return Ok(());
        };
        let export = self.cache.to(scope, self.plan.is_pull);
        let export = export.map_err(CommandError::failed)?;
        request.cache_to.push(CacheTo::Registry(Box::new(export)));
        Ok(())
    }

    /// Shows what is read and written, once the registry has said what there is.
    pub(super) async fn show(&self, probes: Probes, sender: StatusSender) {
        if self.is_shown.swap(true, Ordering::Relaxed) {
            return;
        }
        let now = Timestamp::now();
        let held = self.plan.reads.iter().map(async |scope| {
            let holding = probes.holding(&self.cache.raw_ref(scope)).await;
            held(holding.unwrap_or(Holding::Unknown), now)
        });
        let held = futures_util::future::join_all(held).await;
        let line = scope::line(&self.cache.repository, &self.plan, &held);
        *self.held.lock() = held;
        sender.step(&line).done();
    }

    /// Returns what came of it in one line.
    pub(super) fn ended(&self, outcome: &BuildOutcome) -> String {
        let repository = &self.cache.repository;
        let held = self.held.lock();
        let scopes = self.plan.reads.iter().zip(held.iter());
        let found = scopes.filter(|(_, held)| matches!(held, Held::Cache(_)));
        let found: Vec<&str> = found.map(|(scope, _)| scope.as_str()).collect();
        let read = match found.as_slice() {
            [] => "found nothing to read".to_owned(),
            found => format!("read {}", found.join(", ")),
        };
        format!("cache {repository}: {read}; {}", self.written(outcome))
    }

    fn written(&self, outcome: &BuildOutcome) -> String {
        let Some(scope) = &self.plan.writes else {
            return "wrote nothing".to_owned();
        };
        if !outcome.not_written.is_empty() {
            return format!("did not write {scope}");
        }
        match outcome.caches.first().map(|cache| &cache.outcome) {
            // The builder writes it, and does not tell how much.
            None => format!("wrote {scope}"),
            Some(Err(_)) => format!("could not write {scope}"),
            Some(Ok(None)) => "wrote nothing: no step made a layer".to_owned(),
            Some(Ok(Some(published))) if published.unchanged => format!("{scope} was up to date"),
            Some(Ok(Some(published))) => {
                let layers = counted(published.layers, "layer");
                let sent = human_size(published.sent_bytes);
                format!("wrote {scope}: {layers}, {sent} sent")
            }
        }
    }
}

fn held(holding: Holding, now: Timestamp) -> Held {
    match holding {
        Holding::Nothing => Held::Nothing,
        Holding::Unknown => Held::Unknown,
        Holding::Cache { newest } => {
            let age = newest.map(|newest| now.duration_since(newest));
            let age = age.and_then(|age| Duration::try_from(age).ok());
            Held::Cache(age.map(|age| human::duration(age).to_lowercase()))
        }
    }
}

fn wishes(cache: &ScopedCache) -> Wishes {
    Wishes {
        scope: cache.scope.clone(),
        also: cache.also.clone(),
        base: cache.base.clone(),
        default: cache.default.clone(),
        write: match cache.write {
            WriteScope::Auto => Write::Auto,
            WriteScope::Always => Write::Always,
            WriteScope::Never => Write::Never,
        },
    }
}

fn facts(env: &Env) -> Facts {
    let event = env.path(env::GITHUB_EVENT_PATH).and_then(read_event);
    let get = |name: &str| env.get(name).map(str::to_owned);
    scope::facts(&get, event.as_deref())
}

/// Reads the file of an event; one that cannot be read tells nothing.
fn read_event(path: &Path) -> Option<String> {
    let is_small = |meta: std::fs::Metadata| meta.is_file() && meta.len() <= MAX_EVENT;
    if !fs_err::metadata(path).is_ok_and(is_small) {
        return None;
    }
    fs_err::read_to_string(path).ok()
}

/// Returns the folder that is built, if it is one.
fn folder(context: &str, env: &Env) -> Option<PathBuf> {
    let folder = match context {
        "-" => env.current_dir().to_owned(),
        context => env.current_dir().join(context),
    };
    folder.is_dir().then_some(folder)
}

#[cfg(test)]
mod tests;
