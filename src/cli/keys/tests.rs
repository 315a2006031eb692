use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fs_err as fs;

use super::trust::TRUST_FILE;
use super::*;
use crate::cache::sign::key::{Algorithm, SigningKey};
use crate::cache::sign::trust::{NamedKey, Verifier};
use crate::platform::files;

fn env(pairs: &[(&str, &str)], folder: &Path) -> Env {
    Env::from_pairs(pairs.iter().copied(), folder)
}

#[test]
fn keys_come_from_files_and_variables() {
    let dir = tempfile::tempdir().unwrap();
    let pem = SigningKey::generate(Algorithm::P256).unwrap();
    fs::write(dir.path().join("a.key"), &*pem).unwrap();
    let public = SigningKey::parse(&pem).unwrap().public();
    fs::write(dir.path().join("a.pub"), public.to_pem()).unwrap();
    let env = env(
        &[("K", &pem), ("F", "a.key"), ("P", "a.pub"), ("E", " ")],
        dir.path(),
    );
    let place = |text: &str| KeyPlace::parse(text).unwrap();
    for text in ["a.key", "env://K", "env://F"] {
        let signer = signer(&place(text), &env).unwrap().unwrap();
        let named = signer.named().unwrap();
        assert_eq!(named.key, Verifier::Key(public.clone()), "{text}");
    }
    for text in ["env://E", "env://NONE"] {
        assert!(signer(&place(text), &env).unwrap().is_none());
    }
    for text in ["a.pub", "env://P"] {
        let keys = public_keys(&place(text), &env).unwrap();
        assert_eq!(keys, [NamedKey::new("a.pub", public.clone())]);
    }
    let error = public_keys(&place("a.key"), &env).unwrap_err().message();
    assert!(
        error.contains("private key") && !error.contains("BEGIN"),
        "{error}"
    );
    assert!(public_keys(&place("env://NONE"), &env).is_err());
}

#[test]
fn a_secret_in_the_wrong_place_is_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let body = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg";
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
    let of_pem = STANDARD.encode(&pem);
    let hex = "308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420";
    let shapes = [
        body.to_owned(),
        "-----BEGIN PRIVATE KEY-----\nMIGHAgEA\n".to_owned(),
        pem,
        of_pem.clone(),
        format!("base64:{of_pem}"),
        hex.to_owned(),
        format!("'{body}'"),
        format!("{} {}", &body[..20], &body[20..]),
        format!("./{body}"),
        body.replace('w', "_"),
    ];
    for value in &shapes {
        let hidden = |error: CommandError| {
            let error = format!("{error} {}", error.message());
            for part in ["GHAgEA", "MBMGBy", "LS0t", "3081870201"] {
                assert!(!error.contains(part), "{value}: {error}");
            }
        };
        let variables = [
            ("CACHEX_SIGN_KEY", value.as_str()),
            ("CACHEX_VERIFY_KEYS", value),
            ("X", value),
        ];
        let env = env(&variables, dir.path());
        hidden(own_signer(&env).unwrap_err());
        hidden(trust(None, None, Vec::new(), &env).unwrap_err());
        let named = KeyPlace::Env("X".to_owned());
        hidden(signer(&named, &env).unwrap_err());
        hidden(public_keys(&named, &env).unwrap_err());
        let given = KeyPlace::parse(value).map(|place| format!("{place}"));
        let error = given.unwrap_err().to_string();
        assert!(error.contains("a key itself"), "{value}: {error}");
    }
    // Whatever else is in a variable may be a secret, too.
    let env = env(&[("X", "hunter2")], dir.path());
    for error in [
        signer(&KeyPlace::Env("X".to_owned()), &env).unwrap_err(),
        public_keys(&KeyPlace::Env("X".to_owned()), &env).unwrap_err(),
    ] {
        assert!(!error.message().contains("hunter2"), "{error}");
        assert!(error.message().contains("X names"), "{error}");
    }
}

#[test]
fn a_repository_says_whom_it_trusts() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("repo");
    for folder in [".git", ".cachex", "sub/dir"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    let sub = root.join("sub/dir");
    let env = env(&[], &sub);
    assert!(trust(None, Some(&sub), Vec::new(), &env).unwrap().is_none());
    let file = root.join(TRUST_FILE);
    let rule = "[[rule]]\nscopes = [\"b-main\"]\nkeys = [\"main.pub\"]\n";
    fs::write(&file, rule).unwrap();
    let error = trust(None, Some(&sub), Vec::new(), &env).unwrap_err();
    assert!(error.message().contains("main.pub"), "{error}");
    let key = SigningKey::parse(&SigningKey::generate(Algorithm::Ed25519).unwrap());
    let key = key.unwrap().public();
    fs::write(root.join(".cachex/main.pub"), key.to_pem()).unwrap();
    let found = trust(None, Some(&sub), Vec::new(), &env).unwrap().unwrap();
    let rule = found.rule(Some("b-main")).unwrap();
    assert_eq!(rule.keys, [NamedKey::new("main.pub", key)]);
    assert!(found.rule(Some("pr-1")).is_none());
    // Not beyond the repository.
    fs::create_dir_all(root.join("sub/.git")).unwrap();
    assert!(trust(None, Some(&sub), Vec::new(), &env).unwrap().is_none());
}

#[test]
fn a_trust_file_that_cannot_be_read_is_not_taken_for_absent() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("repo");
    fs::create_dir_all(root.join(".git")).unwrap();
    fs::create_dir_all(root.join(".cachex")).unwrap();
    let env = env(&[], &root);
    let file = root.join(TRUST_FILE);
    let refused = |expected: &str| {
        let error = trust(None, Some(&root), Vec::new(), &env).unwrap_err();
        assert!(error.message().contains(expected), "{error}");
        assert!(error.message().contains(TRUST_FILE), "{error}");
    };
    fs::create_dir(&file).unwrap();
    refused("not a regular file");
    fs::remove_dir(&file).unwrap();
    files::link_program(Path::new("nowhere"), &file).unwrap();
    refused("No such file");
    fs::remove_file(&file).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&file).status();
    assert!(made.unwrap().success());
    refused("not a regular file");
    fs::remove_file(&file).unwrap();
    fs::write(&file, b"\xff\xfe[").unwrap();
    refused("not text in UTF-8");
    fs::write(&file, " ".repeat(300 << 10)).unwrap();
    refused("too large");
    fs::remove_file(&file).unwrap();
    fs::remove_dir(root.join(".cachex")).unwrap();
    fs::write(root.join(".cachex"), "").unwrap();
    refused("cannot look for");
    fs::remove_file(root.join(".cachex")).unwrap();
    files::link_program(Path::new("nowhere"), &root.join(".cachex")).unwrap();
    refused("No such file");
    fs::remove_file(root.join(".cachex")).unwrap();
    assert!(
        trust(None, Some(&root), Vec::new(), &env)
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_trust_file_is_looked_for_where_the_folder_truly_is() {
    let dir = tempfile::tempdir().unwrap();
    let [here, there] = ["here", "there"].map(|name| dir.path().join(name));
    for folder in [here.join("sub"), there.join(".git"), there.join("sub")] {
        fs::create_dir_all(folder).unwrap();
    }
    let env = env(&[], &here);
    let find = |folder: PathBuf| trust(None, Some(&folder), Vec::new(), &env);
    fs::create_dir(there.join(".cachex")).unwrap();
    let rule = "\u{feff}[[rule]]\r\nunsigned = \"allow\"\r\n";
    fs::write(there.join(TRUST_FILE), rule).unwrap();
    assert!(find(here.join("../there/sub")).unwrap().is_some());
    files::link_program(&there.join("sub"), &here.join("link")).unwrap();
    assert!(find(here.join("link")).unwrap().is_some());
    fs::create_dir_all(here.join(".git")).unwrap();
    assert!(find(here.join("sub")).unwrap().is_none());
}

#[test]
fn files_of_windows_are_read_and_odd_ones_refused() {
    let dir = tempfile::tempdir().unwrap();
    let pem = SigningKey::generate(Algorithm::P256).unwrap();
    let public = SigningKey::parse(&pem).unwrap().public();
    let windows = format!("\u{feff}{}", pem.replace('\n', "\r\n"));
    fs::write(dir.path().join("a.key"), &windows).unwrap();
    let text = format!("\u{feff}{}", public.to_pem().replace('\n', "\r\n"));
    fs::write(dir.path().join("a.pub"), text).unwrap();
    let env = env(&[("K", &windows)], dir.path());
    let place = |text: &str| KeyPlace::parse(text).unwrap();
    for text in ["a.key", "env://K"] {
        let signer = signer(&place(text), &env).unwrap().unwrap();
        let named = signer.named().unwrap();
        assert_eq!(named.key, Verifier::Key(public.clone()), "{text}");
    }
    let keys = public_keys(&place("a.pub"), &env).unwrap();
    assert_eq!(keys, [NamedKey::new("a.pub", public)]);
    let pipe = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    for text in ["pipe", "/dev/zero", "."] {
        let error = signer(&place(text), &env).unwrap_err().message();
        assert!(error.contains("not a regular file"), "{error}");
        let error = public_keys(&place(text), &env).unwrap_err().message();
        assert!(error.contains("not a regular file"), "{error}");
    }
}
