//! `cache sign`: the signature of a cache that exists.

use bytes::Bytes;
use jiff::Timestamp;

use crate::cache::referrers;
use crate::cache::sign::CacheName;
use crate::cache::sign::trust::NamedKey;
use crate::cache::sign::verdict::{self, Expected};
use crate::cache::sign::writer::{self, Signer};
use crate::cli::{Context, keys};
use crate::env::CACHEX_SIGN_KEY;
use crate::error::{CommandError, chain};
use crate::options::signing::{KeyPlace, Sign};
use crate::reference::Reference;
use crate::registry::manifest::ManifestDescriptor;
use crate::registry::{RawManifest, RegistryError, Repository};

use super::place::Places;

/// Sign a cache that exists
///
/// The signature becomes part of the manifest that REF holds, in place of one that it has. One that was made with the same
/// key for the same reference stays. What builds write they sign themselves (sign= of --cache-to, `CACHEX_SIGN_KEY`).
#[derive(Debug, Clone, clap::Args)]
pub struct SignArgs {
    /// The cache
    #[arg(value_name = "REF")]
    cache: String,
    /// Use plain HTTP, or HTTPS with any certificate
    #[arg(long)]
    insecure: bool,
    /// The private key: a file, a variable as `env://NAME`, or cosign (default: `CACHEX_SIGN_KEY`)
    // A key in place of its file must not become part of an error, so it is taken whatever it is.
    #[arg(
        long,
        value_name = "FILE | env://NAME | cosign",
        allow_hyphen_values = true
    )]
    key: Option<String>,
    /// Add a signature that is an object of its own, too, as cosign makes and verifies it
    #[arg(long)]
    referrer: bool,
}

/// Runs the command.
///
/// # Errors
///
/// Fails if there is no key or no cache, or the registry refuses.
pub async fn run(args: SignArgs, ctx: &Context) -> Result<(), CommandError> {
    let key = key(args.key.as_deref(), ctx)?;
    let places = Places::new(ctx);
    let (repository, tag) = places.destination(&args.cache, args.insecure)?;
    let reference = Reference::parse_normalized(&args.cache).map_err(CommandError::failed)?;
    let name = CacheName::of(&reference);
    let signing = async {
        let (text, signed) = sign(&repository, &tag, &name, &key).await?;
        if args.referrer {
            refer(&repository, signed, &name, &key).await?;
        }
        Ok::<_, String>(text)
    };
    let waiting = format!("signing the cache {}", args.cache);
    let signed = ctx.ui.patiently(&waiting, Box::pin(signing)).await;
    let text =
        signed.map_err(|why| CommandError::failed(format!("cache {}: {why}", args.cache)))?;
    Ok(ctx.ui.data(&format!("{}: {text}", args.cache))?)
}

fn key(named: Option<&str>, ctx: &Context) -> Result<Signer, CommandError> {
    let own = || KeyPlace::Env(CACHEX_SIGN_KEY.to_owned());
    let sign = named.map_or_else(|| Ok(Sign::With(own())), Sign::parse);
    let sign = sign.map_err(|error| CommandError::failed(format!("invalid --key: {error}")))?;
    let found = match sign {
        Sign::Cosign(identity) => Some(Signer::cosign(keys::cosign(&ctx.env)?, identity)),
        Sign::With(place) => keys::signer(&place, &ctx.env)?,
        Sign::Auto | Sign::On | Sign::Off => keys::signer(&own(), &ctx.env)?,
    };
    found.ok_or_else(|| {
        CommandError::failed("there is no key to sign with").hint(format!(
            "name it with --key or set {CACHEX_SIGN_KEY}; docker cachex cache keygen makes one"
        ))
    })
}

/// Signs what a tag holds, and returns what came of it and what the tag holds then; the error says why nothing did.
async fn sign(
    repository: &Repository,
    tag: &str,
    name: &CacheName,
    key: &Signer,
) -> Result<(String, RawManifest), String> {
    let found = repository.manifest(tag).await;
    let found = found.map_err(|error| chain(&error))?;
    let raw = found.ok_or("not found")?;
    let now = Timestamp::now();
    let own: Vec<NamedKey> = key.named().into_iter().collect();
    let expected = Expected {
        keys: &own,
        name: Some(name),
        max_age: None,
        now,
    };
    if let Ok(signed) = verdict::judge(&raw.bytes, &expected).await {
        return Ok((format!("is {}\n{}", signed.text(now), raw.digest), raw));
    }
    let signed = writer::sign(key, &raw.bytes, name, now)
        .await
        .map_err(|error| chain(&error))?;
    let signed = put(repository, tag, &raw, signed.into()).await?;
    let text = format!("signed with {}\n{}", key.text(), signed.digest);
    Ok((text, signed))
}

/// Adds a signature that refers to a manifest, unless there is one. The manifest is the one that was looked at or written:
/// what the tag holds by now may be another's.
async fn refer(
    repository: &Repository,
    raw: RawManifest,
    name: &CacheName,
    key: &Signer,
) -> Result<(), String> {
    let failed = |error: RegistryError| chain(&error);
    let bundles = referrers::bundles(repository, &raw.digest).await;
    if writer::has_signed(key, &raw.bytes, bundles.map_err(failed)?).await {
        return Ok(());
    }
    let now = Timestamp::now();
    let bundle = writer::refer(key, &raw.bytes, name, now).await;
    let bundle = bundle.map_err(|error| chain(&error))?;
    let subject = ManifestDescriptor {
        size: raw.bytes.len() as u64,
        media_type: raw.media_type,
        digest: raw.digest,
    };
    let added = referrers::attach(repository, &subject, &bundle, now).await;
    added.map(drop).map_err(|error| chain(&error))
}

/// Writes the signed manifest, unless another one has taken its place; returns it.
async fn put(
    repository: &Repository,
    tag: &str,
    raw: &RawManifest,
    signed: Bytes,
) -> Result<RawManifest, String> {
    let now = repository.manifest_descriptor(tag).await;
    let now = now.map_err(|error| chain(&error))?;
    if now.is_none_or(|now| now.digest != raw.digest) {
        return Err("another build has written it meanwhile: nothing was signed".to_owned());
    }
    let put = repository.put_manifest(tag, &raw.media_type, &signed).await;
    let digest = put.map_err(|error| chain(&error))?;
    Ok(RawManifest {
        bytes: signed,
        media_type: raw.media_type.clone(),
        digest,
    })
}
