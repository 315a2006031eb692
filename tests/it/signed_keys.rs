//! Keys of signed caches: `cache sign` and `cache verify` by hand, and that a private key is never shown.

use std::path::Path;
use std::process::Output;

use fs_err as fs;
use tempfile::TempDir;

use crate::support::bench::{Bench, assert_all_cached};
use crate::support::caches::{export, import, reference};
use crate::support::rig::{text, unique};
use crate::support::signing::{
    Keys, SIGNATURE, digest, is_signed, manifest, project, registry, verify,
};

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_cache_is_signed_by_hand_and_counts_where_it_was_signed() {
    let bench = Bench::new();
    let keys = Keys::new(&bench.client, &["main", "other"]);
    let (folder, reference) = (project(&unique("s"), "x"), reference("by-hand"));
    bench.build("buildx", &[&export(&reference, "mode=max")], folder.path());
    let client = &bench.client;
    let (private, public) = (keys.path("main.key"), keys.path("main.pub"));
    let error = verify(client, &[&reference, "--key", &public]).unwrap_err();
    assert!(error.contains("it is not signed"), "{error}");
    let sign = ["cachex", "cache", "sign", &reference, "--key", &private];
    assert!(client.docker_ok(&sign).0.contains("signed with the key "));
    let before = digest(&reference);
    verify(client, &[&reference, "--key", &public]).expect("signed");
    let both = [
        &reference,
        "--key",
        &keys.path("other.pub"),
        "--key",
        &public,
    ];
    verify(client, &both).expect("one of two keys");
    // What is signed is not signed again.
    assert!(
        client
            .docker_ok(&sign)
            .0
            .contains("is signed by main.key (")
    );
    assert_eq!(digest(&reference), before);
    bench.prune();
    assert_all_cached(
        &bench.build("buildx", &[&import(&reference)], folder.path()),
        2,
    );

    let out = TempDir::new().expect("a folder");
    let out = out.path().join("signed");
    let out = out.to_str().expect("a path");
    verify(client, &[&reference, "--key", &public, "--export", out]).expect("signed");
    let bundle = fs::read_to_string(format!("{out}/bundle.json")).expect("a bundle");
    assert!(bundle.contains("dsseEnvelope"), "{bundle}");
    let bare = fs::read_to_string(format!("{out}/manifest.json")).expect("a manifest");
    assert!(!bare.contains(SIGNATURE));

    // Copied to another tag it does not count, nor where a byte of it was changed.
    let (repository, tag) = registry().place(&reference);
    let raw = registry().raw_manifest(repository, tag);
    let media_type = manifest(&reference)["mediaType"]
        .as_str()
        .expect("a type")
        .to_owned();
    registry().put_manifest(repository, "copy", &media_type, &raw);
    let copy = format!("{}/{repository}:copy", registry().host());
    let error = verify(client, &[&copy, "--key", &public]).unwrap_err();
    assert!(
        error.contains(&format!("signed as {reference} and copied here")),
        "{error}"
    );
    verify(client, &[&copy, "--key", &public, "--any-ref"]).expect("any reference");
    let log = bench.build(
        "cachex",
        &[&format!("{},{}", import(&copy), keys.verify("main"))],
        folder.path(),
    );
    assert!(log.contains("and copied here"), "{log}");
    let changed =
        String::from_utf8(raw)
            .expect("JSON")
            .replacen("createdat\":\"2", "createdat\":\"3", 1);
    registry().put_manifest(repository, tag, &media_type, changed.as_bytes());
    let error = verify(client, &[&reference, "--key", &public]).unwrap_err();
    assert!(error.contains("does not fit the manifest"), "{error}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_private_key_is_never_shown() {
    let bench = Bench::new();
    let keys = Keys::new(&bench.client, &["main", "other"]);
    let (folder, reference) = (project(&unique("s"), "x"), reference("secret"));
    let secrets = keys.secrets();
    let assert_silent = |what: &str, output: &Output| {
        let all = format!("{}{}", text(&output.stdout), text(&output.stderr));
        for secret in &secrets {
            // Not even a part of it.
            assert!(!all.contains(&secret[..40]), "{what}: {all}");
            assert!(!all.contains(&secret[20..60]), "{what}: {all}");
        }
        assert!(!all.contains("panicked"), "{what}: {all}");
    };
    let pem = |name: &str| fs::read_to_string(keys.path(&format!("{name}.key"))).expect("a key");
    for name in ["main", "other"] {
        let to = export(&reference, "mode=max,via=client");
        let mut command = bench.command("cachex", &["--debug", &to], folder.path());
        command.env("CACHEX_SIGN_KEY", pem(name));
        command.env("RUST_LOG", "trace");
        let output = command.output().expect("the docker CLI");
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_silent("build", &output);
        assert!(is_signed(&reference));
        let (repository, _) = registry().place(&reference);
        let stored = registry().raw_manifest(repository, "cache");
        assert!(!String::from_utf8_lossy(&stored).contains(&secrets[0][..40]));
    }
    // A key in place of its file.
    for key in ["main", "other"].map(pem).iter().chain(&secrets) {
        let sign = format!("type=registry,ref={reference},sign={key}");
        let wrong = format!("type=registry,ref={reference},sing={key}");
        let worse = format!("type=registry,ref={reference},sign={key},mode=mxa");
        let with_flag = format!("--key={key}");
        for args in [
            &["cache", "sign", &reference, "--key", key][..],
            &["cache", "sign", &reference, &with_flag],
            &["cache", "sign", &reference, key],
            &["cache", "verify", &reference, "--key", key],
            &["cache", "verify", &reference, "--nokey", key],
            &["build", "--cache-to", &sign, "/nowhere"],
            &["build", "--cache-to", &wrong, "/nowhere"],
            &["build", "--cache-to", &worse, "/nowhere"],
            &[
                "build",
                "--cache-from",
                &sign.replace("sign=", "verify="),
                "/nowhere",
            ],
        ] {
            let output = bench.client.docker(&[&["cachex"], args].concat());
            assert!(!output.status.success(), "{args:?}");
            assert_silent(&format!("{:?}", &args[..2]), &output);
        }
    }
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    fs::write(keys.path("locked.key"), encrypted).expect("a file");
    let sign = [
        "cachex",
        "cache",
        "sign",
        &reference,
        "--key",
        &keys.path("locked.key"),
    ];
    let error = text(&bench.client.docker(&sign).stderr);
    assert!(error.contains("the key is encrypted"), "{error}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn no_other_program_is_given_the_private_key() {
    let bench = Bench::new();
    let keys = Keys::new(&bench.client, &["main", "other"]);
    let (folder, reference) = (project(&unique("s"), "x"), reference("child"));
    fs::create_dir(folder.path().join(".git")).expect("a folder");
    fs::write(folder.path().join(".dockerignore"), ".git\n").expect("a file");
    // In place of git: notes its variables, and the arguments of every process.
    let (bin, out, spool) = (
        TempDir::new().expect("a folder"),
        TempDir::new().expect("a folder"),
        TempDir::new().expect("a folder"),
    );
    let script = format!(
        "#!/bin/sh\nout={}\nenv > $out/env.$$\ncat /proc/[0-9]*/cmdline > $out/args.$$ 2>/dev/null\nexit 1\n",
        out.path().display()
    );
    let git = bin.path().join("git");
    fs::write(&git, script).expect("a file");
    fs::set_permissions(&git, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
    let pem = |name: &str| fs::read_to_string(keys.path(&format!("{name}.key"))).expect("a key");
    let path = std::env::var("PATH").unwrap_or_default();
    for (sign, var) in [("true", "CACHEX_SIGN_KEY"), ("env://OWN_KEY", "OWN_KEY")] {
        let to = export(&reference, &format!("mode=max,via=client,sign={sign}"));
        let mut command = bench.command("cachex", &[&to], folder.path());
        command.env(var, pem("main")).env("TMPDIR", spool.path());
        command.env("PATH", format!("{}:{path}", bin.path().display()));
        let output = command.output().expect("the docker CLI");
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(is_signed(&reference));
    }
    let secrets = keys.secrets();
    let mut looked_at = 0;
    for folder in [out.path(), spool.path(), bench.client.config()] {
        looked_at += assert_nowhere(folder, &secrets);
    }
    let asked = fs::read_dir(out.path()).expect("a folder").count();
    assert!(asked >= 4 && looked_at >= asked, "{asked}, {looked_at}");
}

/// Looks through all files of a folder for a part of a secret; tells how many there were.
fn assert_nowhere(folder: &Path, secrets: &[String]) -> usize {
    let mut count = 0;
    for entry in fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        let kind = entry.file_type().expect("a kind");
        if kind.is_dir() {
            count += assert_nowhere(&entry.path(), secrets);
        } else if kind.is_file() {
            let bytes = fs::read(entry.path()).expect("a file");
            let text = String::from_utf8_lossy(&bytes);
            for secret in secrets {
                assert!(
                    !text.contains(&secret[20..60]),
                    "{}",
                    entry.path().display()
                );
            }
            count += 1;
        }
    }
    count
}
