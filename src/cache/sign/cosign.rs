//! The user's cosign: it signs with what is no key file (an identity of a CI, a key in a KMS), and finds out who signed.
//!
//! Used are `cosign attest-blob` and `cosign verify-blob-attestation` (cosign, `doc/cosign_attest-blob.md`,
//! `doc/cosign_verify-blob-attestation.md`), whose bundle has the form of [`bundle`]. What the user adds to
//! their arguments may hold a secret and is never shown; what cosign says never steers the terminal.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use fs_err as fs;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::bundle::{self, Claims, Opened};
use crate::child;
use crate::digest::Digest;
use crate::options::cosign::{COSIGN, Identity};
use crate::text::foreign;

/// How long cosign may take to sign: the services that it asks are far away.
const SIGN_PATIENCE: Duration = Duration::from_secs(120);
/// How long it may take to verify. A build waits for that.
const VERIFY_PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of what it says that are read, and characters that are shown.
const HEARD: u64 = 64 << 10;
const SHOWN: usize = 300;
/// Words in the name of a flag whose value is a secret.
const SECRET_FLAGS: [&str; 3] = ["token", "secret", "password"];

/// The user's cosign, and the arguments that the user gives it.
#[derive(Clone, PartialEq, Eq)]
pub struct Cosign {
    /// The program: a name for `PATH`, or a path.
    pub program: String,
    /// More arguments to sign with.
    pub sign_args: Vec<String>,
    /// More arguments to verify with.
    pub verify_args: Vec<String>,
    /// As whom it signs where nobody is named, as far as that is known.
    pub own: Option<Identity>,
    /// How long it may take to sign.
    pub sign_patience: Duration,
    /// How long it may take to verify.
    pub verify_patience: Duration,
}

// The arguments may hold a secret.
impl std::fmt::Debug for Cosign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cosign")
            .field("program", &self.program)
            .finish_non_exhaustive()
    }
}

impl Default for Cosign {
    fn default() -> Self {
        Self {
            program: COSIGN.to_owned(),
            sign_args: Vec::new(),
            verify_args: Vec::new(),
            own: None,
            sign_patience: SIGN_PATIENCE,
            verify_patience: VERIFY_PATIENCE,
        }
    }
}

/// Why cosign did not do what it was asked for.
#[derive(Debug, Error)]
pub enum CosignError {
    /// It is not installed.
    #[error("cosign is not installed: there is no {0} in PATH")]
    Missing(String),
    /// It cannot be run, or its files cannot be written or read.
    #[error("cannot run cosign")]
    Run(#[from] io::Error),
    /// It does not end.
    #[error("cosign did not answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    /// It failed.
    #[error("{0}")]
    Failed(String),
    /// It wrote something else than was asked for.
    #[error("cosign made a signature of another form: version 3 or newer is needed")]
    Form,
}

impl Cosign {
    /// Has a manifest signed that is [bare](super::embedded::bare), with these claims; returns the bundle.
    ///
    /// # Errors
    ///
    /// Fails if cosign cannot be run, fails, or makes something else.
    pub async fn sign(&self, bare: &[u8], claims: &Claims) -> Result<String, CosignError> {
        let folder = tempfile::tempdir()?;
        let place = |name: &str| folder.path().join(name);
        fs::write(place("manifest.json"), bare)?;
        // Texts and a time: writing these cannot fail.
        let predicate = serde_json::to_vec(claims).unwrap_or_default();
        fs::write(place("predicate.json"), predicate)?;
        let mut args = vec!["attest-blob".to_owned(), "--yes".to_owned()];
        args.push(format!("--type={}", bundle::PREDICATE));
        args.extend(file_flag("predicate", &place("predicate.json")));
        args.extend(file_flag("bundle", &place("bundle.json")));
        args.extend(self.sign_args.iter().cloned());
        args.extend(text_of(&place("manifest.json")));
        self.run(&args, &self.sign_args, self.sign_patience).await?;
        let made = fs::read_to_string(place("bundle.json"))?;
        let made = made.trim().to_owned();
        let opened = Opened::parse(&made).map_err(|_| CosignError::Form)?;
        match opened.claims(&Digest::of(bare)) {
            Ok(Some(found)) if found == *claims => Ok(made),
            _ => Err(CosignError::Form),
        }
    }

    /// Has a bundle about a bare manifest verified: whether this one signed it.
    ///
    /// # Errors
    ///
    /// Fails if cosign cannot be run, or finds that it is not so.
    pub async fn verify(
        &self,
        identity: &Identity,
        bare: &[u8],
        bundle: &str,
    ) -> Result<(), CosignError> {
        let folder = tempfile::tempdir()?;
        let place = |name: &str| folder.path().join(name);
        fs::write(place("manifest.json"), bare)?;
        fs::write(place("bundle.json"), bundle)?;
        let mut args = vec!["verify-blob-attestation".to_owned()];
        args.push(format!("--type={}", bundle::PREDICATE));
        args.extend(file_flag("bundle", &place("bundle.json")));
        args.extend(identity.arguments());
        args.extend(self.verify_args.iter().cloned());
        args.extend(text_of(&place("manifest.json")));
        self.run(&args, &self.verify_args, self.verify_patience)
            .await
    }

    async fn run(
        &self,
        args: &[String],
        users: &[String],
        patience: Duration,
    ) -> Result<(), CosignError> {
        let mut child = child::command(&self.program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => CosignError::Missing(self.program.clone()),
                _ => CosignError::Run(error),
            })?;
        let said = child.stderr.take();
        let ended = async {
            let said = match said {
                Some(said) => hear(said).await?,
                None => Vec::new(),
            };
            Ok::<_, io::Error>((child.wait().await?, said))
        };
        let ended = tokio::time::timeout(patience, ended).await;
        let (status, said) = ended.map_err(|_| CosignError::Timeout(patience))??;
        if status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&said);
        let last = said.lines().map(str::trim).rfind(|line| !line.is_empty());
        let last = without_secrets(last.unwrap_or_default(), users);
        Err(CosignError::Failed(match foreign::excerpt(&last, SHOWN) {
            said if said.is_empty() => format!("it ended with {status}"),
            said => said,
        }))
    }
}

/// Reads what a program says to its end, and keeps the last of it.
async fn hear(mut from: impl AsyncRead + Unpin) -> io::Result<Vec<u8>> {
    let mut heard = Vec::new();
    loop {
        let read = (&mut from).take(HEARD).read_to_end(&mut heard).await?;
        if read == 0 {
            return Ok(heard);
        }
        let over = heard
            .len()
            .saturating_sub(usize::try_from(HEARD).unwrap_or(usize::MAX));
        heard.drain(..over);
    }
}

/// A file as a flag. Temporary folders have names that are text.
fn file_flag(flag: &str, path: &Path) -> Option<String> {
    Some(format!("--{flag}={}", path.to_str()?))
}

fn text_of(path: &Path) -> Option<String> {
    path.to_str().map(str::to_owned)
}

/// Masks the secrets among the user's arguments in a text.
fn without_secrets(text: &str, args: &[String]) -> String {
    let mut shown = text.to_owned();
    let mut follows = false;
    for arg in args {
        let (flag, value) = arg.split_once('=').unwrap_or((arg, ""));
        let is_flag = flag.starts_with('-');
        let is_secret = is_flag && SECRET_FLAGS.iter().any(|word| flag.contains(word));
        let secret = match (follows, is_secret) {
            (true, _) if !is_flag => arg,
            (_, true) => value,
            _ => "",
        };
        if !secret.is_empty() {
            shown = shown.replace(secret, "***");
        }
        follows = is_secret && value.is_empty();
    }
    shown
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::key::{Algorithm, SigningKey};
    use super::*;
    use crate::platform::files;

    /// A program in place of cosign.
    fn fake(folder: &Path, script: &str) -> Cosign {
        let path = folder.join("cosign");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, files::permissions(0o755)).unwrap();
        Cosign {
            program: path.to_str().unwrap().to_owned(),
            ..Cosign::default()
        }
    }

    fn claims() -> Claims {
        Claims {
            repository: "r.io/a".into(),
            tag: "c".into(),
            commit: None,
            signed_at: Timestamp::UNIX_EPOCH,
            tool: "test".into(),
        }
    }

    #[tokio::test]
    async fn what_it_makes_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let key = SigningKey::parse(&SigningKey::generate(Algorithm::P256).unwrap()).unwrap();
        let bundle = bundle::sign(&key, &Digest::of(b"m"), &claims()).unwrap();
        fs::write(folder.path().join("made"), &bundle).unwrap();
        let script = format!(
            "for a; do case $a in --bundle=*) cp {}/made ${{a#--bundle=}};; esac; done",
            folder.path().display()
        );
        let cosign = fake(folder.path(), &script);
        assert_eq!(cosign.sign(b"m", &claims()).await.unwrap(), bundle);
        // Of another manifest, or nothing at all.
        let other = cosign.sign(b"n", &claims()).await;
        assert!(matches!(other, Err(CosignError::Form)), "{other:?}");
        let silent = fake(folder.path(), ":").sign(b"m", &claims()).await;
        assert!(matches!(silent, Err(CosignError::Run(_))), "{silent:?}");
    }

    #[tokio::test]
    async fn its_words_show_no_secret_and_steer_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut cosign = fake(
            folder.path(),
            r#"printf '\033]0;title\007bad: %s\n\n' "$*" >&2; exit 3"#,
        );
        cosign.verify_args = [
            "--identity-token=s3cret",
            "--client-secret",
            "hidden",
            "--x",
        ]
        .map(str::to_owned)
        .to_vec();
        let identity = Identity::parse("cosign:key=k").unwrap().unwrap();
        let error = cosign.verify(&identity, b"m", "b").await.unwrap_err();
        let said = error.to_string();
        assert!(said.starts_with("bad: verify-blob-attestation"), "{said}");
        assert!(
            said.contains("--identity-token=***") && !said.contains('\u{1b}'),
            "{said}"
        );
        for secret in ["s3cret", "hidden"] {
            assert!(!said.contains(secret), "{said}");
        }
        let silent = fake(folder.path(), "exit 4")
            .verify(&identity, b"m", "b")
            .await;
        let said = silent.unwrap_err().to_string();
        assert!(said.contains("exit status: 4"), "{said}");
    }

    #[tokio::test]
    async fn it_is_not_waited_for_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity::default();
        let stuck = Cosign {
            verify_patience: Duration::from_millis(100),
            ..fake(folder.path(), "exec sleep 600")
        };
        let error = stuck.verify(&identity, b"m", "b").await.unwrap_err();
        assert!(matches!(error, CosignError::Timeout(_)), "{error}");
        let talkative = Cosign {
            verify_patience: Duration::from_millis(300),
            ..fake(folder.path(), "exec yes >&2")
        };
        let error = talkative.verify(&identity, b"m", "b").await.unwrap_err();
        assert!(matches!(error, CosignError::Timeout(_)), "{error}");
        let missing = Cosign {
            program: "/nowhere/cosign".to_owned(),
            ..Cosign::default()
        };
        let error = missing.verify(&identity, b"m", "b").await.unwrap_err();
        assert!(matches!(error, CosignError::Missing(_)), "{error}");
    }
}
