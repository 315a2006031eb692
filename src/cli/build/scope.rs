//! `--cache REPO`: what CI and git say becomes caches to read and to write.

mod git;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use std::time::Duration;

use jiff::Timestamp;

use super::args::BuildArgs;
use crate::build::BuildRequest;
use crate::build::cache::import::{Age, Holding, Probes};
use crate::build::cache::{CacheEnds, ReadEnd, WriteEnd};
use crate::cli::Context;

use crate::env::{self, Env};
use crate::error::CommandError;
use crate::options::cache::{CacheTo, ScopedCache, WriteScope};
use crate::options::size::human_size;
use crate::progress::StatusSender;
use crate::scope::{self, BadVariable, Facts, GitFacts, Held, Plan, Wishes, Write};
use crate::text::{counted, human};

/// The largest file of an event that is read, in bytes.
const MAX_EVENT: u64 = 8 << 20;

/// The scopes of a build.
#[derive(Debug)]
pub(super) struct Scopes {
    cache: ScopedCache,
    plan: Plan,
    is_shown: AtomicBool,
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
    let facts = facts(&ctx.env)
        .map_err(|error| CommandError::failed(error).hint("correct it, or do not set it"))?;
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

    /// Returns the references of what is read.
    pub(super) fn read_refs(&self) -> Vec<String> {
        let scopes = self.plan.reads.iter();
        scopes.map(|scope| self.cache.raw_ref(scope)).collect()
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
        sender.step(&line).done();
    }

    /// Returns what came of it in one line.
    pub(super) fn ended(&self, ends: &CacheEnds) -> String {
        let (repository, read) = (&self.cache.repository, self.read(ends));
        format!("cache {repository}: {read}; {}", self.written(ends, true))
    }

    /// Returns what came of it in one line where the build has failed; nothing if it came to nothing before.
    pub(super) fn failed(&self, ends: &CacheEnds) -> Option<String> {
        if !self.is_shown.load(Ordering::Relaxed) {
            return None;
        }
        let repository = &self.cache.repository;
        if ends.read.is_empty() && !self.plan.reads.is_empty() {
            return Some(format!("cache {repository}: read and wrote nothing"));
        }
        let (read, written) = (self.read(ends), self.written(ends, false));
        Some(format!("cache {repository}: {read}; {written}"))
    }

    fn read(&self, ends: &CacheEnds) -> String {
        let end = |scope: &String| ends.of_read(&self.cache.raw_ref(scope));
        let with = |wanted: ReadEnd| {
            let scopes = self.plan.reads.iter();
            let scopes = scopes.filter(|scope| end(scope) == Some(wanted));
            scopes.map(String::as_str).collect::<Vec<_>>().join(", ")
        };
        let named = [
            ("read", with(ReadEnd::Read)),
            ("could not read", with(ReadEnd::Failed)),
        ];
        let named = named.into_iter().filter(|(_, scopes)| !scopes.is_empty());
        let named: Vec<String> = named.map(|(did, names)| format!("{did} {names}")).collect();
        if named.is_empty() {
            return "found nothing to read".to_owned();
        }
        named.join("; ")
    }

    fn written(&self, ends: &CacheEnds, is_built: bool) -> String {
        let Some(scope) = &self.plan.writes else {
            return "wrote nothing".to_owned();
        };
        if ends.refused {
            return format!("did not write {scope}");
        }
        let raw_ref = self.cache.raw_ref(scope);
        let all: Vec<&WriteEnd> = ends.of_written(&raw_ref).collect();
        if all.contains(&&WriteEnd::Failed) {
            return format!("could not write {scope}");
        }
        // The nodes of one build write one after the other: the last one has the most.
        let stored = all.iter().filter_map(|end| match end {
            WriteEnd::Stored(published) | WriteEnd::Kept(published) => Some(published),
            WriteEnd::Nothing | WriteEnd::Failed => None,
        });
        let stored: Vec<_> = stored.collect();
        let Some(layers) = stored.iter().map(|published| published.layers).max() else {
            return match (is_built, all.is_empty()) {
                // The builder writes it, and does not tell how much.
                (true, true) if ends.by_builder => format!("wrote {scope}"),
                (true, true) => format!("the builder did not write {scope}"),
                (true, false) => "wrote nothing: no step made a layer".to_owned(),
                (false, _) => "wrote nothing".to_owned(),
            };
        };
        if stored.iter().all(|published| published.unchanged) {
            return format!("{scope} was up to date");
        }
        let sent = stored.iter().map(|published| published.sent_bytes);
        let (layers, sent) = (counted(layers, "layer"), human_size(sent.sum()));
        let part = if is_built { "" } else { ", what had finished" };
        format!("wrote {scope}{part}: {layers}, {sent} sent")
    }
}

fn held(holding: Holding, now: Timestamp) -> Held {
    let old = |at: Timestamp| {
        let age = Duration::try_from(now.duration_since(at)).ok()?;
        Some(format!("{} old", human::duration(age).to_lowercase()))
    };
    match holding {
        Holding::Nothing => Held::Nothing,
        Holding::Unknown => Held::Unknown,
        Holding::Cache(None) => Held::Cache(None),
        Holding::Cache(Some(Age::Written(at))) => Held::Cache(old(at)),
        Holding::Cache(Some(Age::Made(at))) => {
            Held::Cache(old(at).map(|age| format!("newest layer {age}")))
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

fn facts(env: &Env) -> Result<Facts, BadVariable> {
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
