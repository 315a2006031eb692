//! `cache verify`: whether a cache is signed as it must be.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fs_err as fs;
use jiff::Timestamp;

use crate::cache::manifest::CacheManifest;
use crate::cache::sign::CacheName;
use crate::cache::sign::embedded;
use crate::cache::sign::trust::{NamedKey, Trust};
use crate::cache::sign::verdict::{self, Expected, Policy, Refusal, Signed};
use crate::cache::source::CacheSource;
use crate::cli::{Context, keys};
use crate::env::CACHEX_VERIFY_KEYS;
use crate::error::{CommandError, chain};
use crate::options::cosign::Identity;
use crate::options::duration;
use crate::options::signing::KeyPlace;
use crate::output_file;
use crate::reference::Reference;
use crate::registry::{RawManifest, Repository};

use super::place::{self, Places};

/// Tell whether a cache is signed, by whom and when
///
/// Ends with exit code 1 if it is not signed by one of the keys for this very reference. Without --key the keys of
/// `CACHEX_VERIFY_KEYS` count, or those of .cachex/trust.toml in the repository of the working folder.
#[derive(Debug, Clone, clap::Args)]
pub struct VerifyArgs {
    /// The cache
    #[arg(value_name = "REF")]
    cache: String,
    /// Take a signature that was made for another reference
    #[arg(long)]
    any_ref: bool,
    /// Read every blob, too, and compare its digest
    #[arg(long)]
    deep: bool,
    /// Write what was signed and the signature to this folder, for cosign: manifest.json and bundle.json
    #[arg(long, value_name = "FOLDER")]
    export: Option<String>,
    /// Use plain HTTP, or HTTPS with any certificate
    #[arg(long)]
    insecure: bool,
    /// A public key: a file, a variable as `env://NAME`, or `cosign:identity=WHO,issuer=URL`
    // A key in place of its file must not become part of an error, so it is taken whatever it is.
    #[arg(
        long,
        value_name = "FILE | env://NAME | cosign:FIELDS",
        allow_hyphen_values = true
    )]
    key: Vec<String>,
    /// How old the signature may be
    #[arg(long, value_name = "duration", value_parser = duration::parse)]
    max_age: Option<Duration>,
    /// The trust file, which says which keys count for which tags
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    trust: Option<String>,
}

/// Runs the command.
///
/// # Errors
///
/// Fails if the cache is not signed as it must be, or cannot be read.
pub async fn run(args: VerifyArgs, ctx: &Context) -> Result<(), CommandError> {
    let trust = trust(&args, ctx)?;
    let source = Places::new(ctx).find(&args.cache, args.insecure)?;
    let CacheSource::Registry { repository, .. } = &source else {
        let error = format!(
            "{} is a folder; signed are the caches of registries",
            args.cache
        );
        return Err(CommandError::failed(error));
    };
    let reference = Reference::parse_normalized(&args.cache).map_err(CommandError::failed)?;
    let name = CacheName::of(&reference);
    let waiting = format!("reading the cache {}", args.cache);
    let read = ctx
        .ui
        .patiently(&waiting, Box::pin(source.manifest()))
        .await;
    let raw = read.map_err(|error| place::failure(&args.cache, &error, ctx))?;
    let now = Timestamp::now();
    let failed = |why: &str| CommandError::failed(format!("cache {}: {why}", args.cache));
    let signed = judge(&raw, &name, &trust, &args, now).await;
    let signed = signed.map_err(|refusal| failed(&chain(&refusal)))?;
    if args.deep {
        let reading = read_all(repository, &raw);
        let read = ctx.ui.patiently(&waiting, Box::pin(reading)).await;
        read.map_err(|why| failed(&why))?;
    }
    if let Some(folder) = &args.export {
        let folder = ctx.env.current_dir().join(folder);
        export(&folder, &raw).map_err(|why| failed(&why))?;
    }
    let (cache, text, digest) = (&args.cache, signed.text(now), &raw.digest);
    Ok(ctx.ui.data(&format!("{cache}: {text}\n{digest}"))?)
}

fn trust(args: &VerifyArgs, ctx: &Context) -> Result<Arc<Trust>, CommandError> {
    let mut named = Vec::new();
    for text in &args.key {
        let invalid = |error| CommandError::failed(format!("invalid --key: {error}"));
        if let Some(identity) = Identity::parse(text).map_err(invalid)? {
            let cosign = keys::cosign_for(&identity, &ctx.env)?;
            named.push(NamedKey::cosign(cosign, identity));
        } else {
            let place = KeyPlace::parse(text).map_err(invalid)?;
            named.extend(keys::public_keys(&place, &ctx.env)?);
        }
    }
    if !named.is_empty() {
        return Ok(Arc::new(Trust::of(named)));
    }
    let folder = ctx.env.current_dir();
    let found = keys::trust(args.trust.as_deref(), Some(folder), Vec::new(), &ctx.env)?;
    let found = found.ok_or_else(|| {
        CommandError::failed("there is no key to verify with").hint(format!(
            "name it with --key or {CACHEX_VERIFY_KEYS}, or commit .cachex/trust.toml"
        ))
    })?;
    Ok(Arc::new(found))
}

/// Judges a manifest. A cache without a signature never passes here, whatever a rule allows.
async fn judge(
    raw: &RawManifest,
    name: &CacheName,
    trust: &Arc<Trust>,
    args: &VerifyArgs,
    now: Timestamp,
) -> Result<Signed, Refusal> {
    if args.any_ref {
        let rule = verdict::rule(trust, name)?;
        let expected = Expected {
            keys: &rule.keys,
            name: None,
            max_age: args.max_age,
            now,
        };
        return verdict::judge(&raw.bytes, &expected).await;
    }
    let policy = Policy {
        trust: Arc::clone(trust),
        max_age: args.max_age,
    };
    policy
        .judge(&raw.bytes, name, now)
        .await?
        .ok_or(Refusal::Unsigned)
}

/// Reads every blob; the registry client compares digests and sizes.
async fn read_all(repository: &Repository, raw: &RawManifest) -> Result<(), String> {
    let manifest = CacheManifest::parse(&raw.bytes, &raw.media_type);
    let manifest = manifest.map_err(|error| chain(&error))?;
    let blobs = manifest.layers.iter().chain(&manifest.config);
    for blob in blobs.chain(manifest.extras.entries()) {
        let failed = |error| format!("{}: {}", blob.digest, chain(&error));
        let download = repository.download(&blob.digest, Some(blob.size)).await;
        let mut download = download.map_err(failed)?;
        while download.next().await.map_err(failed)?.is_some() {}
    }
    Ok(())
}

/// Writes what was signed and the signature.
fn export(folder: &Path, raw: &RawManifest) -> Result<(), String> {
    let parts = embedded::take_apart(&raw.bytes).map_err(|error| chain(&error))?;
    let parts = parts.ok_or("it is not signed")?;
    fs::create_dir_all(folder).map_err(|error| chain(&error))?;
    let files = [
        ("manifest.json", parts.bare.as_slice()),
        ("bundle.json", parts.bundle.as_bytes()),
    ];
    for (name, text) in files {
        output_file::write(&folder.join(name), text).map_err(|error| chain(&error))?;
    }
    Ok(())
}
