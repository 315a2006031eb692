//! `cache mounts`: the cache mounts that a cache brings along.

use std::io::ErrorKind;
use std::path::Path;

use crate::cache::extras::mounts::{Mount, Packs};
use crate::cache::manifest::{CacheManifest, ManifestError};
use crate::cache::source::{CacheSource, SourceError};
use crate::cli::Context;
use crate::error::CommandError;
use crate::mounts::Index;
use crate::mounts::index::PackRef;
use crate::mounts::unpack::{Form, unpack};
use crate::options::size::human_size;
use crate::text::{counted, foreign};

use super::place::{self, Places};

/// Look into the cache mounts that a cache brings along
#[derive(Debug, Clone, clap::Args)]
#[command(subcommand_value_name = "COMMAND")]
pub struct MountsArgs {
    #[command(subcommand)]
    command: Option<MountsCommands>,
}

/// The commands.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum MountsCommands {
    /// Write the files of a cache mount to a folder
    Export(ExportArgs),
}

/// Write the files of a cache mount to a folder
///
/// Owners are not kept, nor are extended attributes. `cache inspect` lists the mounts of a cache.
#[derive(Debug, Clone, clap::Args)]
pub struct ExportArgs {
    /// The cache: a reference
    #[arg(value_name = "CACHE")]
    cache: String,
    /// Id of the mount: its `id=`, or its target; or its key, as `cache inspect` shows it
    #[arg(value_name = "ID")]
    id: String,
    /// The folder, which is made; it must not exist, or be empty
    #[arg(value_name = "FOLDER")]
    folder: String,
    /// Use plain HTTP, or HTTPS with any certificate
    #[arg(long)]
    insecure: bool,
    /// Platform of the steps that use it, where several have their own
    #[arg(long, value_name = "string")]
    platform: Option<String>,
}

/// Runs the command: without one of its commands the help.
///
/// # Errors
///
/// Fails with the error of the command.
pub async fn run(args: MountsArgs, ctx: &Context) -> Result<(), CommandError> {
    match args.command {
        Some(MountsCommands::Export(args)) => export(args, ctx).await,
        None => Ok(ctx.ui.data(super::help(&["cache", "mounts"]).trim_end())?),
    }
}

/// # Errors
///
/// Fails if the cache has no such mount, if it cannot be read, or the folder cannot be written.
async fn export(args: ExportArgs, ctx: &Context) -> Result<(), CommandError> {
    let folder = ctx.env.current_dir().join(&args.folder);
    let is_there = is_empty(&folder, &args.folder)?;
    let source = Places::new(ctx).find(&args.cache, args.insecure)?;
    let CacheSource::Registry { repository, .. } = &source else {
        let error = format!(
            "{} is a folder; only caches in registries have cache mounts",
            args.cache
        );
        return Err(CommandError::failed(error));
    };
    let waiting = format!("reading the cache {}", args.cache);
    let work = Box::pin(find(&source, &args, ctx));
    let mount = ctx.ui.patiently(&waiting, work).await?;
    let index = mount.read(repository).await.map_err(CommandError::failed)?;
    let (files, size) = (index.files(), index.size());
    let (packs, _end) = Packs::of(repository);
    let written = tokio::task::spawn_blocking(move || {
        let written = write(&index, &packs, &folder);
        if written.is_err() {
            clear(&folder, is_there);
        }
        written
    });
    let written = written.await.map_err(CommandError::failed)?;
    written.map_err(|error| {
        let error = crate::error::chain(&error);
        CommandError::failed(format!("cannot write {}: {error}", args.folder))
    })?;
    Ok(ctx.ui.data(&format!(
        "{}: {}, {}",
        args.folder,
        counted(files, "file"),
        human_size(size)
    ))?)
}

/// Returns whether the folder is there.
///
/// # Errors
///
/// Fails if something else is there, or something is in it.
fn is_empty(folder: &Path, name: &str) -> Result<bool, CommandError> {
    match fs_err::read_dir(folder) {
        Ok(mut entries) => match entries.next() {
            None => Ok(true),
            Some(_) => Err(CommandError::failed(format!("{name} is not empty"))),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(CommandError::failed(error)),
    }
}

/// Removes what has been written of a mount, of which not all could be.
fn clear(folder: &Path, stays: bool) {
    let cleared = if stays {
        let entries = fs_err::read_dir(folder);
        entries.and_then(|mut entries| entries.try_for_each(|entry| remove(&entry?.path())))
    } else {
        remove(folder)
    };
    if let Err(error) = cleared {
        tracing::debug!(%error, "part of a mount is left");
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    if path.symlink_metadata()?.is_dir() {
        fs_err::remove_dir_all(path)
    } else {
        fs_err::remove_file(path)
    }
}

/// Finds the mount in the cache.
async fn find(
    source: &CacheSource,
    args: &ExportArgs,
    ctx: &Context,
) -> Result<Mount, CommandError> {
    let failed = |error: &SourceError| place::failure(&args.cache, error, ctx);
    let raw = source.manifest().await.map_err(|error| failed(&error))?;
    let manifest = CacheManifest::parse(&raw.bytes, &raw.media_type);
    let manifest = manifest.map_err(|error: ManifestError| failed(&error.into()))?;
    let is_it = |mount: &&Mount| {
        let platform = args.platform.as_deref();
        (mount.id() == args.id || mount.key() == args.id)
            && platform.is_none_or(|platform| platform == mount.platform())
    };
    let found: Vec<&Mount> = manifest.extras.mounts().iter().filter(is_it).collect();
    match found[..] {
        [mount] => Ok(mount.clone()),
        [] => {
            let error = format!("cache {}: it has no mount {}", args.cache, args.id);
            let hint = "docker cachex cache inspect lists them";
            Err(CommandError::failed(error).hint(hint))
        }
        [..] => {
            let names = found.iter().map(|mount| {
                let [key, platform] = [mount.key(), mount.platform()].map(foreign::line);
                format!("{key} ({platform})")
            });
            let names: Vec<_> = names.collect();
            let error = format!("cache {}: it has several mounts {}", args.cache, args.id);
            let hint = format!(
                "choose one with --platform, or by its key: {}",
                names.join(", ")
            );
            Err(CommandError::failed(error).hint(hint))
        }
    }
}

/// Unpacks the tree in a folder. Nothing of it is written outside.
fn write(index: &Index, packs: &Packs, folder: &Path) -> std::io::Result<()> {
    fs_err::create_dir_all(folder)?;
    let fetch = &mut |pack: &PackRef| packs.fetch(pack);
    let (reader, writer) = std::io::pipe()?;
    std::thread::scope(|scope| {
        let unpacking = scope.spawn(move || {
            let mut archive = tar::Archive::new(reader);
            archive.unpack(folder)?;
            // The rest is padding.
            std::io::copy(&mut archive.into_inner(), &mut std::io::sink())
        });
        let to = std::io::BufWriter::with_capacity(1 << 16, writer);
        let sent = unpack(index, fetch, to, Form::Plain);
        let unpacked = unpacking.join();
        let unpacked = unpacked.unwrap_or_else(|_| Err(std::io::Error::other("the thread died")));
        match sent {
            // The folder cannot be written, and that is why.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => unpacked.and(Err(error)),
            sent => sent.and(unpacked.map(drop)),
        }
    })
}
