//! `cache merge`: caches merged by hand.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::cache::copy_blobs::{self, CopySource};
use crate::cache::export::beside::Beside;
use crate::cache::export::push_merged::{self, Merged, Place};
use crate::cache::extras::Extras;
use crate::cache::extras::store::{self, NewRecord};
use crate::cache::merge::{Bounds, Contents};
use crate::cache::record::Record;
use crate::cache::source::{CacheSource, SourceError};
use crate::cli::Context;
use crate::digest::Digest;
use crate::error::CommandError;
use crate::options::{duration, size};
use crate::text::counted;

use super::place::{self, Places};

/// Merge caches in one reference
///
/// Every SRC is a cache as in `cache inspect`: a reference, or a folder of the OCI image layout. DST is
/// a reference. What DST holds already is merged, too, and nothing is lost where others write to it at
/// the same time. Blobs are mounted where both are on one registry, and else copied.
#[derive(Debug, Clone, clap::Args)]
#[command(override_usage = "docker cachex cache merge [OPTIONS] <SRC>... <DST>")]
pub struct MergeArgs {
    /// The caches to merge, and the reference of the merged cache
    // One list: clap would not take a flag between two.
    #[arg(value_name = "REF", required = true, num_args = 1..)]
    refs: Vec<String>,
    /// Pass over caches that do not exist
    #[arg(long)]
    ignore_missing: bool,
    /// Use plain HTTP, or HTTPS with any certificate
    #[arg(long)]
    insecure: bool,
    /// Drop what no build has used for longer
    #[arg(long, value_name = "duration", value_parser = duration::parse)]
    max_age: Option<Duration>,
    /// Drop the least recently used records until this many are left
    #[arg(long, value_name = "number")]
    max_records: Option<u64>,
    /// Drop the least recently used layers until the rest takes this many bytes
    #[arg(long, value_name = "bytes", value_parser = size::ram_in_bytes)]
    max_size: Option<u64>,
    /// Replace what DST holds
    #[arg(long)]
    replace: bool,
}

const TOO_FEW: &str =
    "at least one cache to merge, and the reference of the merged cache, must be given";
const HELP: &str = "run \"docker cachex cache merge --help\"";

/// Runs the command.
///
/// # Errors
///
/// Fails if a cache does not exist or cannot be read, or DST cannot be written.
pub async fn run(args: MergeArgs, ctx: &Context) -> Result<(), CommandError> {
    let places = Places::new(ctx);
    let (dst, sources) = match args.refs.split_last() {
        Some((dst, sources)) if !sources.is_empty() => (dst, sources),
        _ => return Err(CommandError::failed(TOO_FEW).hint(HELP)),
    };
    let (repository, tag) = places.destination(dst, args.insecure)?;
    let given = Box::pin(load_all(sources, &args, &places, ctx)).await?;
    let Some(mut contents) = merge(&given) else {
        return Ok(ctx.ui.data("nothing to merge: none of the caches exists")?);
    };
    let now = Timestamp::now();
    let bounds = Bounds {
        max_age: args.max_age,
        max_size: args.max_size,
        max_records: args.max_records,
        ..Bounds::default()
    };
    // What would be dropped anyway need not be moved.
    let dropped = contents.bound(&bounds, now).map_err(CommandError::failed)?;
    let spool_dir = places.spool()?;
    let copied = copy_blobs::copy_blobs(&contents, &given, &repository, &spool_dir).await;
    if let Some(remark) = spool_dir.remark() {
        ctx.ui.warning(remark);
    }
    let copied = copied.map_err(CommandError::failed)?;
    let lost = contents.drop_layers(&copied.lost);
    let record = records(&given).await;
    let mut extras = Extras::default();
    extras.set_mounts(contents.extras().mounts().without(&copied.lost));
    contents.set_extras(extras);
    let place = Place {
        repository: &repository,
        reference: &tag,
        bounds: &bounds,
        now,
        beside: Beside {
            record: record.as_ref(),
            ..Beside::default()
        },
    };
    let mut merged = keep(place, &contents, &copied.there, args.replace).await?;
    merged.lost += lost;
    merged.dropped = merged.dropped.or(dropped);
    Ok(ctx.ui.data(&report(dst, &copied, &merged))?)
}

async fn keep(
    place: Place<'_>,
    contents: &Contents,
    there: &HashSet<Digest>,
    replace: bool,
) -> Result<Merged, CommandError> {
    let kept = if replace {
        push_merged::replace(place, contents).await
    } else {
        push_merged::merge(place, contents, there).await
    };
    kept.map_err(CommandError::failed)
}

/// Reads the caches; those that do not exist are reported, and an error unless they may be missing.
async fn load_all(
    sources: &[String],
    args: &MergeArgs,
    places: &Places<'_>,
    ctx: &Context,
) -> Result<Vec<CopySource>, CommandError> {
    let mut all = Vec::new();
    for name in sources {
        let source = places.find(name, args.insecure)?;
        let loaded = ctx
            .ui
            .patiently(
                &format!("reading the cache {name}"),
                Box::pin(load(&source)),
            )
            .await;
        match loaded {
            Ok(contents) => {
                ctx.ui.data(&format!(
                    "{name}: {} in {}, {}",
                    counted(contents.results(), "result"),
                    counted(contents.blobs().count(), "layer"),
                    size::human_size(contents.size())
                ))?;
                all.push(CopySource { source, contents });
            }
            Err(error) if error.is_missing() && args.ignore_missing => {
                ctx.ui
                    .warning(&format!("cache {name} does not exist, passed over"));
            }
            Err(error) => {
                let failed = place::failure(name, &error, ctx);
                return Err(if error.is_missing() {
                    failed.hint("--ignore-missing passes over caches that do not exist")
                } else {
                    failed
                });
            }
        }
    }
    Ok(all)
}

/// Reads a cache; the inline caches of an index of images are merged.
async fn load(source: &CacheSource) -> Result<Contents, SourceError> {
    let loaded = source.load().await?;
    let mut all: Option<Contents> = None;
    for part in &loaded.parts {
        let contents = Contents::of_part(&loaded.manifest, part)?;
        match &mut all {
            Some(all) => all.merge(&contents),
            None => all = Some(contents),
        }
    }
    all.ok_or(SourceError::NotFound)
}

/// Reads the records of the caches, merged; `None` where none has one that can be read.
async fn records(given: &[CopySource]) -> Option<NewRecord> {
    let mut merged: Option<Record> = None;
    for given in given {
        let Some(entry) = given.contents.extras().record() else {
            continue;
        };
        match store::read_from(&given.source, entry).await {
            Ok(record) => match &mut merged {
                Some(merged) => merged.add(&record),
                None => merged = Some(record),
            },
            Err(error) => {
                tracing::debug!(error = %crate::error::chain(&error), "a record is left out");
            }
        }
    }
    merged.map(|record| NewRecord::Of(Arc::new(record)))
}

/// The form is that of the first.
fn merge(given: &[CopySource]) -> Option<Contents> {
    let (first, rest) = given.split_first()?;
    let mut all = first.contents.clone();
    for given in rest {
        all.merge(&given.contents);
    }
    Some(all)
}

fn report(dst: &str, copied: &copy_blobs::CopyReport, merged: &Merged) -> String {
    let mut text = format!(
        "sent {} of {}, {}",
        copied.sent,
        counted(copied.there.len(), "layer"),
        size::human_size(copied.bytes)
    );
    if copied.mounted > 0 {
        // Writing to a text cannot fail.
        let _ = write!(text, "; {} mounted", copied.mounted);
    }
    let unchanged = if merged.unchanged { "unchanged, " } else { "" };
    let _ = write!(text, "\n{dst}: {unchanged}{merged}\n{}", merged.manifest);
    text
}
