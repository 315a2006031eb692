//! Keys to sign caches with, and what the registry says of a signed cache.

use std::path::Path;
use std::process::Output;

use fs_err as fs;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::bench::Bench;
use crate::support::registry::Registry;
use crate::support::rig::{Client, Rig, context, text};

pub(crate) const SIGNATURE: &str = "dev.docker-cachex.signature";

/// A build of two steps, whose image has `said` in `/said`.
pub(crate) fn project(seed: &str, said: &str) -> TempDir {
    let base = &Rig::get().busybox;
    let dockerfile = format!("FROM {base}\nCOPY seed /seed\nRUN echo {said} > /said\n");
    context(&[("Dockerfile", &dockerfile), ("seed", seed)])
}

/// What the build of a project has in `/said`, and its progress.
pub(crate) fn said(bench: &Bench, tool: &str, from: &str, folder: &Path) -> (String, String) {
    let out = TempDir::new().expect("a folder");
    let output = format!("--output=type=local,dest={}", out.path().display());
    bench.prune();
    let log = bench.build(tool, &[from, &output], folder);
    let said = fs::read_to_string(out.path().join("said")).expect("a file");
    (said.trim().to_owned(), log)
}

/// Keys in a folder of their own.
pub(crate) struct Keys {
    folder: TempDir,
    names: Vec<&'static str>,
}

impl Keys {
    pub(crate) fn new(client: &Client, names: &[&'static str]) -> Self {
        let folder = TempDir::new().expect("a folder");
        for name in names {
            let path = folder.path().join(name);
            let path = path.to_str().expect("a path");
            let mut args = vec!["cachex", "cache", "keygen", path];
            if *name == "other" {
                args.push("--ed25519");
            }
            client.docker_ok(&args);
        }
        Self {
            folder,
            names: names.to_vec(),
        }
    }

    pub(crate) fn path(&self, file: &str) -> String {
        self.folder
            .path()
            .join(file)
            .to_str()
            .expect("a path")
            .to_owned()
    }

    /// The private key as `sign=`.
    pub(crate) fn sign(&self, name: &str) -> String {
        format!("sign={}", self.path(&format!("{name}.key")))
    }

    /// The public key as `verify=`.
    pub(crate) fn verify(&self, name: &str) -> String {
        format!("verify={}", self.path(&format!("{name}.pub")))
    }

    /// The secret part of every private key.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let body = |name: &&str| {
            let pem = fs::read_to_string(self.path(&format!("{name}.key"))).expect("a key");
            pem.lines().nth(1).expect("a body").to_owned()
        };
        self.names.iter().map(body).collect()
    }
}

pub(crate) fn registry() -> &'static Registry {
    &Rig::get().registry
}

pub(crate) fn manifest(reference: &str) -> Value {
    registry().manifest_of(reference).json
}

pub(crate) fn digest(reference: &str) -> String {
    registry().manifest_of(reference).digest
}

pub(crate) fn is_signed(reference: &str) -> bool {
    manifest(reference)["annotations"][SIGNATURE].is_string()
}

/// Runs `cachex cache verify`; gives its output where it succeeds and its error where it fails with code 1.
pub(crate) fn verify(client: &Client, args: &[&str]) -> Result<String, String> {
    outcome(&client.docker(&[&["cachex", "cache", "verify"], args].concat()))
}

pub(crate) fn outcome(output: &Output) -> Result<String, String> {
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    Err(error)
}
