//! Caches that the user's cosign signs and verifies: one in its place that notes what it is asked, and the real one where it
//! is installed.

use std::env::{split_paths, var_os};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::bench::{Bench, assert_all_cached};
use crate::support::caches::{export, import, reference};
use crate::support::rig::{text, unique};
use crate::support::signing::{Keys, digest, is_signed, project, registry, verify};

/// In place of cosign: `attest-blob` makes a statement about the file, `verify-blob-attestation` takes any that names
/// `ci@x`, and both note their arguments and variables.
const FAKE: &str = r#"#!/bin/sh
here=$(dirname "$0")
{ echo "$*"; env; } >> "$here/asked"
for arg; do
  case $arg in
    --predicate=*) predicate=${arg#--predicate=} ;;
    --bundle=*) bundle=${arg#--bundle=} ;;
  esac
  file=$arg
done
if [ "$1" = attest-blob ]; then
  hex=$(sha256sum < "$file" | cut -d' ' -f1)
  type=https://sigstore.dev/cosign/sign/v1
  said='{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"","digest":{"sha256":"'$hex'"}}],'
  said=$said'"predicateType":"'$type'","predicate":'$(cat "$predicate")'}'
  payload=$(printf %s "$said" | base64 -w0)
  printf '%s\n' '{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":' \
    '{"certificate":{"rawBytes":"AA=="},"tlogEntries":[]},"dsseEnvelope":{"payload":"'$payload'",' \
    '"payloadType":"application/vnd.in-toto+json","signatures":[{"sig":"AAAA"}]}}' > "$bundle"
else
  test -s "$bundle" || exit 2
  case "$*" in *identity=ci@x*|*--key=awskms:///alias/ci*) exit 0 ;; esac
  printf '\033]0;x\007none of the expected identities matched: %s\n' "$*" >&2
  exit 5
fi
"#;
const SECRET: &str = "s3cr3t-of-the-ci";

struct Fake(TempDir);

impl Fake {
    fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("cosign");
        let mut options = fs::OpenOptions::new();
        let file = fs::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o755);
        let mut file = file
            .write(true)
            .create_new(true)
            .open(path)
            .expect("a file");
        file.write_all(FAKE.as_bytes()).expect("a file");
        Self(folder)
    }

    /// What it was asked since the last call.
    fn asked(&self) -> String {
        let path = self.0.path().join("asked");
        let asked = fs::read_to_string(&path).unwrap_or_default();
        let _gone = fs::remove_file(path);
        asked
    }
}

/// Runs a build with a cosign and more variables; it must succeed.
fn build(
    bench: &Bench,
    cosign: &Path,
    vars: &[(&str, &str)],
    args: &[&str],
    folder: &Path,
) -> String {
    let mut command = bench.command("cachex", args, folder);
    let paths = var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(cosign.to_owned()).chain(split_paths(&paths));
    command.env("PATH", std::env::join_paths(paths).expect("paths"));
    command.envs(vars.iter().copied());
    let output = command.output().expect("the docker CLI");
    let log = text(&output.stderr);
    assert!(output.status.success(), "{args:?}: {log}");
    assert!(!log.contains("\u{1b}]0"), "{log}");
    log
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn cosign_signs_and_verifies_in_place_of_a_key() {
    let bench = Bench::new();
    let fake = Fake::new();
    let args = format!("--identity-token={SECRET} --fulcio-url='https://f x'");
    let vars = [
        ("CACHEX_COSIGN_ARGS", args.as_str()),
        ("CACHEX_SIGN_KEY", ""),
    ];
    for how in [
        "mode=max,via=client",
        "mode=max,via=builder",
        "mode=max,merge=true",
    ] {
        let (folder, reference) = (project(&unique("s"), "x"), reference("cosign"));
        let to = export(
            &reference,
            &format!("{how},sign=cosign:identity=ci@x;issuer=https://i"),
        );
        bench.prune();
        let log = build(&bench, fake.0.path(), &vars, &[&to], folder.path());
        assert!(
            log.contains("signed with cosign as ci@x") && is_signed(&reference),
            "{how}: {log}"
        );
        let asked = fake.asked();
        let expected = "attest-blob --yes --type=https://sigstore.dev/cosign/sign/v1 --predicate=";
        assert!(asked.contains(expected), "{asked}");
        assert!(asked.contains("--fulcio-url=https://f x"), "{asked}");
        assert!(
            asked.contains(SECRET) && !log.contains(SECRET),
            "{how}: {log}"
        );
        assert!(!asked.contains("CACHEX_SIGN_KEY"), "{asked}");

        let from = |who: &str| {
            format!(
                "{},\"verify=cosign:identity={who},issuer=https://i\"",
                import(&reference)
            )
        };
        bench.prune();
        let log = build(&bench, fake.0.path(), &[], &[&from("ci@x")], folder.path());
        assert_all_cached(&log, 2);
        assert!(log.contains("signed by ci@x (https://i), "), "{how}: {log}");
        let asked = fake.asked();
        assert!(asked.contains("verify-blob-attestation --type="), "{asked}");
        assert!(
            asked.contains("--certificate-identity=ci@x --certificate-oidc-issuer=https://i"),
            "{asked}"
        );

        bench.prune();
        let log = build(
            &bench,
            fake.0.path(),
            &[],
            &[&from("other@x")],
            folder.path(),
        );
        assert!(!log.contains(" CACHED\n"), "{how}: {log}");
        let why = "is passed over: cosign does not verify it: none of the expected identities";
        assert!(log.contains(why), "{how}: {log}");

        // An unchanged one is not written anew.
        if how != "mode=max,via=builder" {
            bench.prune();
            let log = build(
                &bench,
                fake.0.path(),
                &vars,
                &[&from("ci@x"), &to],
                folder.path(),
            );
            assert!(log.contains("nothing new"), "{how}: {log}");
        }
    }
    // What others have signed is not merged.
    let (folder, reference) = (project(&unique("s"), "x"), reference("cosign"));
    let keys = Keys::new(&bench.client, &["main"]);
    let to = export(
        &reference,
        &format!("mode=max,merge=true,{}", keys.sign("main")),
    );
    bench.build("cachex", &[&to], folder.path());
    let to = export(
        &reference,
        "mode=max,merge=true,sign=cosign:identity=no@x;issuer=https://i",
    );
    let log = build(&bench, fake.0.path(), &vars, &[&to], folder.path());
    assert!(
        log.contains("replaced what was there: cosign does not verify it"),
        "{log}"
    );
    // Nobody is named.
    let from = format!("{},verify=cosign", import(&reference));
    let log = bench.fails(1, &[&from], folder.path());
    assert!(
        log.contains("cosign is not told who must have signed"),
        "{log}"
    );
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn cosign_is_run_once_and_knows_its_own_caches() {
    let bench = Bench::new();
    let fake = Fake::new();
    let who = "--certificate-identity=ci@x --certificate-oidc-issuer=https://i";
    let told = [("CACHEX_COSIGN_VERIFY_ARGS", who)];
    let kms = [("CACHEX_COSIGN_ARGS", "--key awskms:///alias/ci")];
    for (vars, verify, how) in [
        (&told, "verify=cosign", "mode=max,via=client"),
        (&told, "verify=cosign", "mode=max,merge=true"),
        (
            &kms,
            "verify=cosign:key=awskms:///alias/ci",
            "mode=max,merge=true",
        ),
    ] {
        let (folder, reference) = (project(&unique("s"), "x"), reference("own"));
        let to = export(&reference, &format!("{how},sign=cosign"));
        let signed = || fake.asked().matches("attest-blob --yes").count();
        bench.prune();
        build(&bench, fake.0.path(), vars, &[&to], folder.path());
        assert_eq!((signed(), is_signed(&reference)), (1, true), "{how}");
        let from = format!("{},{verify}", import(&reference));
        let read = [&*from, &*to];
        // The record of the build that ran settles in the one after it.
        bench.prune();
        build(&bench, fake.0.path(), vars, &read, folder.path());
        let before = (digest(&reference), signed() <= 1);
        bench.prune();
        let log = build(&bench, fake.0.path(), vars, &read, folder.path());
        assert!(log.contains("nothing new"), "{how}: {log}");
        assert_eq!((digest(&reference), true), before, "{how}");
        assert_eq!(signed(), 0, "{how}: {log}");
    }
    // Where nobody is named and nothing tells, what is there is not trusted.
    let (folder, reference) = (project(&unique("s"), "x"), reference("own"));
    let to = export(&reference, "mode=max,merge=true,sign=cosign");
    let nobody = [("CACHEX_COSIGN_ARGS", "--key cosign.key")];
    build(&bench, fake.0.path(), &nobody, &[&to], folder.path());
    let log = build(&bench, fake.0.path(), &nobody, &[&to], folder.path());
    assert!(
        log.contains("replaced what was there: none of the keys"),
        "{log}"
    );
    assert_eq!(fake.asked().matches("attest-blob --yes").count(), 2);
}

/// The real cosign; `None` where it is not installed.
fn cosign() -> Option<PathBuf> {
    let found = split_paths(&var_os("PATH")?).find(|folder| folder.join("cosign").is_file());
    if found.is_none() {
        let mut err = std::io::stderr();
        let _told = writeln!(err, "cosign is not installed: nothing is tried with it");
    }
    found
}

/// Runs the real cosign, which must succeed.
fn run(folder: &Path, args: &[&str]) {
    let output = Command::new("cosign")
        .args(args)
        .current_dir(folder)
        .env("COSIGN_PASSWORD", "")
        .output()
        .expect("cosign");
    assert!(
        output.status.success(),
        "{args:?}: {}",
        text(&output.stderr)
    );
}

const TYPE: &str = "--type=https://sigstore.dev/cosign/sign/v1";

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn the_real_cosign_verifies_what_is_in_the_manifest() {
    if cosign().is_none() {
        return;
    }
    let bench = Bench::new();
    let keys = Keys::new(&bench.client, &["main", "other"]);
    for key in ["main", "other"] {
        let (folder, reference) = (project(&unique("s"), "x"), reference("real"));
        let to = export(
            &reference,
            &format!("mode=max,via=client,{}", keys.sign(key)),
        );
        bench.build("cachex", &[&to], folder.path());
        let out = TempDir::new().expect("a folder");
        let place = out.path().to_str().expect("a path");
        let public = keys.path(&format!("{key}.pub"));
        verify(
            &bench.client,
            &[&reference, "--key", &public, "--export", place],
        )
        .expect("signed");
        let (key, ignore) = (format!("--key={public}"), "--insecure-ignore-tlog");
        run(
            out.path(),
            &[
                "verify-blob-attestation",
                &key,
                ignore,
                "--bundle=bundle.json",
                TYPE,
                "manifest.json",
            ],
        );
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn the_real_cosign_signs_a_cache() {
    let Some(path) = cosign() else {
        return;
    };
    let bench = Bench::new();
    let home = TempDir::new().expect("a folder");
    run(home.path(), &["generate-key-pair"]);
    let key = |name: &str| home.path().join(name).to_str().expect("a path").to_owned();
    let args = format!(
        "--key {} --tlog-upload=false --use-signing-config=false",
        key("cosign.key")
    );
    let vars = [
        ("CACHEX_COSIGN_ARGS", args.as_str()),
        ("CACHEX_COSIGN_VERIFY_ARGS", "--insecure-ignore-tlog"),
        ("COSIGN_PASSWORD", ""),
    ];
    let (folder, reference) = (project(&unique("s"), "x"), reference("real"));
    let as_key = format!("cosign:key={}", key("cosign.pub"));
    let to = export(&reference, &format!("mode=max,via=client,sign={as_key}"));
    let log = build(&bench, &path, &vars, &[&to], folder.path());
    assert!(is_signed(&reference), "{log}");
    let from = format!("{},verify={as_key}", import(&reference));
    bench.prune();
    let log = build(&bench, &path, &vars, &[&from, &to], folder.path());
    assert_all_cached(&log, 2);
    assert!(log.contains("nothing new"), "{log}");
    // Its key is one of P-256, so this program verifies it alone, too.
    let public = key("cosign.pub");
    verify(&bench.client, &[&reference, "--key", &public]).expect("signed");
}

/// The tags of the repository of a reference.
fn tags(reference: &str) -> Vec<String> {
    let (repository, _) = registry().place(reference);
    let url = format!("http://{}/v2/{repository}/tags/list", registry().host());
    let output = Command::new("curl")
        .args(["-sf", &url])
        .output()
        .expect("curl");
    let list: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let tags = list["tags"].as_array().into_iter().flatten();
    tags.map(|tag| tag.as_str().expect("a tag").to_owned())
        .collect()
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_signature_of_its_own_is_cosigns_and_goes_with_the_cache() {
    let bench = Bench::new();
    let keys = Keys::new(&bench.client, &["main", "other"]);
    for (key, by_hand) in [("main", false), ("other", true), ("main", true)] {
        let (folder, reference) = (project(&unique("s"), "x"), reference("referrer"));
        let more = if by_hand {
            "sign=false"
        } else {
            "sign-as=referrer"
        };
        let signs = if by_hand {
            String::new()
        } else {
            format!(",{}", keys.sign(key))
        };
        let to = export(&reference, &format!("mode=max,via=client,{more}{signs}"));
        bench.prune();
        bench.build("cachex", &[&to], folder.path());
        let private = keys.path(&format!("{key}.key"));
        let sign = [
            "cachex",
            "cache",
            "sign",
            "--referrer",
            &reference,
            "--key",
            &private,
        ];
        if by_hand {
            bench.client.docker_ok(&sign);
        }
        let digest = digest(&reference);
        let fallback = digest.replace(':', "-");
        let listed = || {
            let (repository, _) = registry().place(&reference);
            let index = registry()
                .manifest(repository, &fallback)
                .expect("an index");
            index.json["manifests"]
                .as_array()
                .expect("manifests")
                .clone()
        };
        let before = listed();
        assert_eq!(before.len(), 1, "{before:?}");
        // Once is enough.
        bench.client.docker_ok(&sign);
        assert_eq!(listed(), before);
        bench.prune();
        let from = format!("{},{}", import(&reference), keys.verify(key));
        assert_all_cached(&bench.build("cachex", &[&from], folder.path()), 2);
        if cosign().is_some() {
            let public = format!("--key={}", keys.path(&format!("{key}.pub")));
            let named = reference.replace(":cache", &format!("@{digest}"));
            let insecure = ["--allow-http-registry", "--allow-insecure-registry"];
            let verify = ["verify", &public, "--insecure-ignore-tlog", &named];
            run(folder.path(), &[&verify[..], &insecure].concat());
        }
        let inspected = bench
            .client
            .docker_ok(&["cachex", "cache", "inspect", &reference])
            .0;
        for form in [
            "in the manifest, by the key ",
            "an object of its own, by the key ",
        ] {
            assert!(inspected.contains(form), "{inspected}");
        }
        assert!(
            inspected.contains(&format!(", for {reference}, ")),
            "{inspected}"
        );
        bench
            .client
            .docker_ok(&["cachex", "cache", "rm", &reference]);
        assert!(tags(&reference).is_empty(), "{:?}", tags(&reference));
        let (repository, _) = registry().place(&reference);
        let own = before[0]["digest"].as_str().expect("a digest");
        assert!(registry().manifest(repository, own).is_none());
    }
}
