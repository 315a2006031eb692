//! `cache keygen`: keys to sign caches with.

use std::io::Write as _;
use std::path::Path;

use fs_err as fs;

use crate::cache::sign::key::{Algorithm, SigningKey};
use crate::cli::Context;
use crate::env::CACHEX_SIGN_KEY;
use crate::error::CommandError;
use crate::platform::files;

/// Make a pair of keys to sign caches with
///
/// Writes the private key to NAME.key and the public one to NAME.pub. Files that are there are not replaced.
#[derive(Debug, Clone, clap::Args)]
pub struct KeygenArgs {
    /// Path of both files, without their endings
    #[arg(value_name = "NAME", default_value = "cachex")]
    name: String,
    /// Make an Ed25519 key; the default is one of ECDSA on P-256
    #[arg(long)]
    ed25519: bool,
}

/// Runs the command.
///
/// # Errors
///
/// Fails if one of the files is there, or cannot be written.
pub fn run(args: &KeygenArgs, ctx: &Context) -> Result<(), CommandError> {
    let algorithm = if args.ed25519 {
        Algorithm::Ed25519
    } else {
        Algorithm::P256
    };
    let private = SigningKey::generate(algorithm).map_err(CommandError::failed)?;
    let public = SigningKey::parse(&private).map_err(CommandError::failed)?;
    let public = public.public();
    let names = [format!("{}.key", args.name), format!("{}.pub", args.name)];
    let [key, public_key] = names
        .each_ref()
        .map(|name| ctx.env.current_dir().join(name));
    write(&key, private.as_bytes(), true)?;
    if let Err(error) = write(&public_key, public.to_pem().as_bytes(), false) {
        // One without the other is of no use.
        let _gone = fs::remove_file(&key);
        return Err(error.into());
    }
    let [key, public_key] = names;
    let fingerprint = public.short();
    Ok(ctx.ui.data(&format!(
        "{key}: the private key. Give it to the builds that may write the cache as the secret {CACHEX_SIGN_KEY}, \
         and do not commit it\n\
         {public_key}: the public key {fingerprint}. Commit it, and name it in verify= or in .cachex/trust.toml"
    ))?)
}

/// Writes a new file.
fn write(path: &Path, text: &[u8], is_private: bool) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    if is_private {
        files::private_file(&mut options);
    }
    let mut file = options.write(true).create_new(true).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}
