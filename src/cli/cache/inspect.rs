//! `cache inspect`: what is in a cache.

use std::collections::HashSet;

use crate::cache::extras::store;
use crate::cache::inspect::Inspection;
use crate::cache::outline::Outline;
use crate::cache::record::Record;
use crate::cache::referrers;
use crate::cache::source::{CacheSource, Loaded, SourceError};
use crate::cli::Context;
use crate::digest::Digest;
use crate::error::{CommandError, chain};

use super::like::LikeArgs;
use super::output::Format;
use super::place::{self, Places};

mod render;

/// Show what is in a cache
///
/// The cache is one of a registry (REFERENCE), or in a folder of the OCI image layout: a path that
/// begins with `/`, `./` or `../`, or `oci-layout://FOLDER`, each with `:TAG` or `@DIGEST`.
///
/// Fields of `--format`: name, form (image-manifest, index, manifest-list or inline), mediaType, digest,
/// manifestSize, configs (digest, size), platforms (empty where not known), records, results, layers,
/// totalSize, sharedSize, unreachableSize, oldest, newest, mounts, signatures, warnings. Fields of a layer: digest, size,
/// mediaType, compression (gzip, estargz, zstd, uncompressed or unknown), diffId, createdAt, step, stage, platform,
/// milliseconds (how long the step ran), results (how many use it), present (with --check). Fields of a mount: key, id,
/// platform, size, files, storedSize, createdAt, present (with --check). Fields of a signature, as it says itself (cache
/// verify looks whether it is so): form (manifest or referrer), key, reference, signedAt, commit. Sizes are bytes. Steps have
/// names where the cache has a record of its builds, or where a build given with --like has such steps.
#[derive(Debug, Clone, clap::Args)]
pub struct InspectArgs {
    /// The cache: a reference or a folder
    #[arg(value_name = "CACHE")]
    cache: String,
    /// Ask for every blob whether it is there
    #[arg(long)]
    check: bool,
    /// Format the output: table, json, or a template such as '{{.totalSize}}'
    #[arg(
        long,
        value_name = "string",
        default_value = "table",
        conflicts_with = "raw"
    )]
    format: String,
    /// Use plain HTTP, or HTTPS with any certificate
    #[arg(long)]
    insecure: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Show the manifest, or the config of the cache, byte by byte as it is stored
    #[arg(
        long,
        value_name = "manifest|config",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "manifest",
        value_enum
    )]
    raw: Option<Raw>,
    #[command(flatten)]
    like: LikeArgs,
}

/// What is shown as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Raw {
    /// The manifest.
    Manifest,
    /// The config.
    Config,
}

/// Runs the command.
///
/// # Errors
///
/// Fails if there is no cache, or it cannot be read; with `--check` also where a blob is missing,
/// after everything was shown.
pub async fn run(args: InspectArgs, ctx: &Context) -> Result<(), CommandError> {
    let format = Format::parse(&args.format).map_err(CommandError::failed)?;
    let like = args.like.read(ctx)?;
    let source = Places::new(ctx).find(&args.cache, args.insecure)?;
    let failed = |error: SourceError| place::failure(&args.cache, &error, ctx);
    let waiting = format!("reading the cache {}", args.cache);
    if let Some(raw) = args.raw {
        let text = ctx
            .ui
            .patiently(&waiting, Box::pin(read_raw(&source, raw)))
            .await;
        let text = text.map_err(failed)?;
        return Ok(ctx.ui.text(&text)?);
    }
    let read = Box::pin(read(&source, args.check));
    let (loaded, record, missing) = ctx.ui.patiently(&waiting, read).await.map_err(failed)?;
    let record = match like {
        Some(like) => Some(Box::pin(like.add_to(record)).await?),
        None => record,
    };
    let mut inspection = Inspection::new(&args.cache, &loaded, missing.as_ref());
    if let CacheSource::Registry { repository, .. } = &source {
        let bundles = referrers::bundles(repository, &inspection.digest);
        match ctx.ui.patiently(&waiting, Box::pin(bundles)).await {
            Ok(bundles) => inspection.add_referrers(&bundles),
            Err(error) => {
                let warning = format!("its signatures cannot be listed: {}", chain(&error));
                inspection.warnings.push(warning);
            }
        }
    }
    inspection.name_steps(&Outline::of(&loaded, record.as_ref()));
    let now = jiff::Timestamp::now();
    let text = format
        .render(&inspection, || {
            render::table(&inspection, now, !args.no_trunc)
        })
        .map_err(CommandError::failed)?;
    ctx.ui.text(&text)?;
    if inspection.lacks_blobs() {
        return Err(CommandError::failed(format!(
            "cache {}: blobs are missing",
            args.cache
        )));
    }
    Ok(())
}

/// Reads a cache with its record and, if that is wanted, which of its blobs are missing.
async fn read(
    source: &CacheSource,
    check: bool,
) -> Result<(Loaded, Option<Record>, Option<HashSet<Digest>>), SourceError> {
    let (loaded, record) = load_with_record(source).await?;
    let missing = if check {
        let layers = loaded.parts.iter().flat_map(|part| &part.layers);
        let mut blobs: Vec<Digest> = layers.map(|layer| layer.digest.clone()).collect();
        let extras = loaded.manifest.extras.entries();
        blobs.extend(extras.map(|entry| entry.digest.clone()));
        blobs.sort();
        blobs.dedup();
        Some(source.missing(&blobs).await?)
    } else {
        None
    };
    Ok((loaded, record, missing))
}

/// Reads a cache, and its record where it has one that can be read.
pub(super) async fn load_with_record(
    source: &CacheSource,
) -> Result<(Loaded, Option<Record>), SourceError> {
    let loaded = source.load().await?;
    let record = match loaded.manifest.extras.record() {
        Some(entry) => match store::read_from(source, entry).await {
            Ok(record) => Some(record),
            Err(error) => {
                tracing::debug!(error = %chain(&error), "the record is not read");
                None
            }
        },
        None => None,
    };
    Ok((loaded, record))
}

/// Reads a manifest, or the config of the first part. Both are JSON and so UTF-8.
async fn read_raw(source: &CacheSource, raw: Raw) -> Result<String, SourceError> {
    let bytes = match raw {
        Raw::Manifest => source.manifest().await?.bytes,
        Raw::Config => {
            let loaded = source.load().await?;
            let part = loaded.parts.first();
            let part = part.ok_or(SourceError::NoCache("the manifest"))?;
            source.blob(&part.config_blob).await?
        }
    };
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
