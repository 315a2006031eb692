//! Signed caches: written and read in every form, with cache mounts, refused when they are not what was signed, and never
//! vouching for what was not verified.

use std::path::Path;
use std::process::Output;

use fs_err as fs;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::bench::{Bench, assert_all_cached};
use crate::support::caches::{export, import, reference};
use crate::support::registry::Registry;
use crate::support::rig::{Client, Rig, context, text, unique};

const SIGNATURE: &str = "dev.docker-cachex.signature";

/// A build of two steps, whose image has `said` in `/said`.
fn project(seed: &str, said: &str) -> TempDir {
    let base = &Rig::get().busybox;
    let dockerfile = format!("FROM {base}\nCOPY seed /seed\nRUN echo {said} > /said\n");
    context(&[("Dockerfile", &dockerfile), ("seed", seed)])
}

/// Keys in a folder of their own.
struct Keys {
    folder: TempDir,
    names: Vec<&'static str>,
}

impl Keys {
    fn new(client: &Client, names: &[&'static str]) -> Self {
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

    fn path(&self, file: &str) -> String {
        self.folder
            .path()
            .join(file)
            .to_str()
            .expect("a path")
            .to_owned()
    }

    /// The private key as `sign=`.
    fn sign(&self, name: &str) -> String {
        format!("sign={}", self.path(&format!("{name}.key")))
    }

    /// The public key as `verify=`.
    fn verify(&self, name: &str) -> String {
        format!("verify={}", self.path(&format!("{name}.pub")))
    }

    /// The secret part of every private key.
    fn secrets(&self) -> Vec<String> {
        let body = |name: &&str| {
            let pem = fs::read_to_string(self.path(&format!("{name}.key"))).expect("a key");
            pem.lines().nth(1).expect("a body").to_owned()
        };
        self.names.iter().map(body).collect()
    }
}

/// Repository and tag of a reference to the rig's registry.
fn place(reference: &str) -> (String, String) {
    let rest = reference.strip_prefix(Rig::get().registry.host());
    let rest = rest.expect("a name").trim_start_matches('/');
    let (repository, tag) = rest.rsplit_once(':').expect("a tag");
    (repository.to_owned(), tag.to_owned())
}

fn registry() -> &'static Registry {
    &Rig::get().registry
}

fn manifest(reference: &str) -> Value {
    let (repository, tag) = place(reference);
    registry()
        .manifest(&repository, &tag)
        .expect("a cache")
        .json
}

fn digest(reference: &str) -> String {
    let (repository, tag) = place(reference);
    registry()
        .manifest(&repository, &tag)
        .expect("a cache")
        .digest
}

fn is_signed(reference: &str) -> bool {
    manifest(reference)["annotations"][SIGNATURE].is_string()
}

/// Runs `cachex cache verify`; gives its output where it succeeds and its error where it fails with code 1.
fn verify(client: &Client, args: &[&str]) -> Result<String, String> {
    outcome(&client.docker(&[&["cachex", "cache", "verify"], args].concat()))
}

fn outcome(output: &Output) -> Result<String, String> {
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    Err(error)
}

/// What the build of a project has in `/said`, and its progress.
fn said(bench: &Bench, tool: &str, from: &str, folder: &Path) -> (String, String) {
    let out = TempDir::new().expect("a folder");
    let output = format!("--output=type=local,dest={}", out.path().display());
    bench.prune();
    let log = bench.build(tool, &[from, &output], folder);
    let said = fs::read_to_string(out.path().join("said")).expect("a file");
    (said.trim().to_owned(), log)
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn signed_caches_are_read_by_both_tools_in_every_form() {
    let bench = Bench::new();
    let keys = Keys::new(&bench.client, &["main", "other"]);
    for (how, key, steady) in [
        ("mode=max,via=client", "main", true),
        ("mode=max,via=client,image-manifest=false", "other", true),
        ("mode=max,merge=true", "main", true),
        ("mode=max,via=client,record=off", "other", true),
        ("mode=max,via=builder", "main", false),
        (
            "mode=max,via=builder,oci-mediatypes=false,record=off",
            "other",
            false,
        ),
    ] {
        let (folder, reference) = (project(&unique("s"), "x"), reference("signed"));
        let to = export(&reference, &format!("{how},{}", keys.sign(key)));
        bench.prune();
        let log = bench.build("cachex", &[&to], folder.path());
        assert!(log.contains("signed with the key "), "{how}: {log}");
        assert!(is_signed(&reference), "{how}");
        let public = keys.path(&format!("{key}.pub"));
        let told = verify(&bench.client, &[&reference, "--key", &public, "--deep"]);
        let told = told.unwrap_or_else(|error| panic!("{how}: {error}"));
        assert!(told.contains(&format!("signed by {key}.pub (")), "{told}");
        assert!(told.contains(&digest(&reference)), "{told}");

        let plain = import(&reference);
        bench.prune();
        assert_all_cached(&bench.build("buildx", &[&plain], folder.path()), 2);
        let from = format!("{plain},{}", keys.verify(key));
        bench.prune();
        let log = bench.build("cachex", &[&from], folder.path());
        assert_all_cached(&log, 2);
        assert!(
            log.contains(&format!("signed by {key}.pub (")),
            "{how}: {log}"
        );
        // The builder is told what was verified, and not the tag alone.
        let pinned = format!("from {reference}@{}", digest(&reference));
        assert!(log.contains(&pinned), "{how}: {log}");

        let other = if key == "main" { "other" } else { "main" };
        let from = format!("{plain},{}", keys.verify(other));
        bench.prune();
        let log = bench.build("cachex", &[&from], folder.path());
        assert!(!log.contains(" CACHED\n"), "{how}: {log}");
        let warned = format!("the cache {reference} is passed over: none of the keys");
        assert!(log.contains(&warned), "{how}: {log}");

        if steady {
            let before = digest(&reference);
            bench.prune();
            let from = format!("{plain},{}", keys.verify(key));
            let log = bench.build("cachex", &[&from, &to], folder.path());
            assert_all_cached(&log, 2);
            assert!(log.contains("nothing new"), "{how}: {log}");
            assert_eq!(digest(&reference), before, "{how}");
        }
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_poisoned_cache_is_refused_where_it_must_be_signed() {
    let bench = Bench::new();
    let keys = Keys::new(&bench.client, &["main"]);
    let reference = reference("poisoned");
    let (repository, tag) = place(&reference);
    let seed = unique("s");
    let (good, evil) = (project(&seed, "good"), project(&seed, "EVIL"));
    let signed = export(
        &reference,
        &format!("mode=max,via=client,record=off,{}", keys.sign("main")),
    );
    bench.build("cachex", &[&signed], good.path());
    let theirs = format!("{}/{repository}:evil", registry().host());
    let to = export(&theirs, "mode=max,via=client,record=off,sign=false");
    bench.build("cachex", &[&to], evil.path());

    // One who may push puts his own layer in the place of one of theirs.
    let mut poisoned = manifest(&reference);
    let layers = |json: &Value| json["layers"].as_array().expect("layers").clone();
    let digests = |layers: &[Value]| -> Vec<String> {
        let digests = layers
            .iter()
            .map(|layer| layer["digest"].as_str().expect("a digest"));
        digests.map(str::to_owned).collect()
    };
    let (ours, theirs) = (layers(&poisoned), layers(&manifest(&theirs)));
    let (our_digests, their_digests) = (digests(&ours), digests(&theirs));
    let mine = our_digests
        .iter()
        .find(|digest| !their_digests.contains(digest))
        .expect("a layer");
    let new = their_digests
        .iter()
        .position(|digest| !our_digests.contains(digest))
        .expect("a layer");
    let place = our_digests
        .iter()
        .position(|digest| digest == mine)
        .expect("a place");
    poisoned["layers"][place] = theirs[new].clone();
    let config = poisoned["config"]["digest"].as_str().expect("a config");
    let config = String::from_utf8(registry().blob(&repository, config)).expect("JSON");
    let config = config.replace(mine.as_str(), &their_digests[new]);
    let stored = registry().put_blob(&repository, config.as_bytes());
    poisoned["config"]["digest"] = stored.into();
    poisoned["config"]["size"] = config.len().into();
    let media_type = poisoned["mediaType"].as_str().expect("a type").to_owned();
    registry().put_manifest(
        &repository,
        &tag,
        &media_type,
        poisoned.to_string().as_bytes(),
    );

    let plain = import(&reference);
    for tool in ["buildx", "cachex"] {
        let (said, log) = said(&bench, tool, &plain, good.path());
        assert_eq!(said, "EVIL", "{tool} read the cache without looking: {log}");
    }
    let verified = format!("{plain},{}", keys.verify("main"));
    let (right, log) = said(&bench, "cachex", &verified, good.path());
    assert_eq!(right, "good", "{log}");
    let warned = "is passed over: its signature does not fit the manifest";
    assert!(log.contains(warned), "{log}");

    // Without the signature it is no better.
    poisoned["annotations"] = serde_json::json!({});
    registry().put_manifest(
        &repository,
        &tag,
        &media_type,
        poisoned.to_string().as_bytes(),
    );
    let (right, log) = said(&bench, "cachex", &verified, good.path());
    assert_eq!(right, "good", "{log}");
    assert!(log.contains("is passed over: it is not signed"), "{log}");
}

/// A build of one step that tells what its cache mount has, and writes there.
fn mount_project(seed: &str, writes: &str) -> TempDir {
    let base = &Rig::get().busybox;
    let dockerfile = format!(
        "FROM {base}\nRUN --mount=type=cache,target=/c : {seed}; \
         echo \"it had $(cat /c/said || echo nothing)\"; echo {writes} > /c/said\n"
    );
    context(&[("Dockerfile", &dockerfile)])
}

/// The entries of cache mounts in a manifest.
fn mount_entries(manifest: &Value) -> Vec<Value> {
    let layers = manifest["layers"].as_array().expect("layers").iter();
    let is_mount = |entry: &&Value| entry["annotations"]["dev.docker-cachex.mount"].is_string();
    layers.filter(is_mount).cloned().collect()
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn cache_mounts_are_signed_and_come_only_from_what_was_signed() {
    for via in ["client", "builder"] {
        let bench = Bench::new();
        let keys = Keys::new(&bench.client, &["main"]);
        let (reference, seed) = (reference("mounts"), unique("s"));
        let how = format!("mode=max,via={via},mounts=all");
        let to = export(&reference, &format!("{how},{}", keys.sign("main")));
        let first = mount_project(&seed, "good");
        let log = bench.build("cachex", &[&to], first.path());
        let ours = mount_entries(&manifest(&reference));
        assert!(ours.len() >= 2, "{via}: {log}");
        let public = keys.path("main.pub");
        let told = verify(&bench.client, &[&reference, "--key", &public, "--deep"]);
        assert!(told.is_ok(), "{via}: {told:?}\n{log}");
        let verified = format!("{},{}", import(&reference), keys.verify("main"));
        let changed = mount_project(&format!("{seed} changed"), "more");
        let log = Bench::new().build("cachex", &[&verified], changed.path());
        assert!(log.contains("it had good"), "{via}: {log}");

        // One who may push puts his own mount in the place of theirs.
        let (repository, tag) = place(&reference);
        let theirs = format!("{}/{repository}:evil", registry().host());
        let evil = mount_project(&format!("{seed} evil"), "EVIL");
        let to = export(&theirs, &format!("{how},sign=false"));
        Bench::new().build("cachex", &[&to], evil.path());
        let mut poisoned = manifest(&reference);
        let layers = poisoned["layers"].as_array_mut().expect("layers");
        layers.retain(|entry| !ours.contains(entry));
        layers.extend(mount_entries(&manifest(&theirs)));
        let media_type = poisoned["mediaType"].as_str().expect("a type").to_owned();
        let bytes = poisoned.to_string();
        registry().put_manifest(&repository, &tag, &media_type, bytes.as_bytes());
        let log = Bench::new().build("cachex", &[&import(&reference)], changed.path());
        assert!(log.contains("it had EVIL"), "{via}: {log}");
        let log = Bench::new().build("cachex", &[&verified], changed.path());
        assert!(log.contains("it had nothing"), "{via}: {log}");
        assert!(!log.contains("restoring cache mount"), "{via}: {log}");
        let warned = "is passed over: its signature does not fit the manifest";
        assert!(log.contains(warned), "{via}: {log}");
    }
}

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
    let (repository, tag) = place(&reference);
    let raw = registry().raw_manifest(&repository, &tag);
    let media_type = manifest(&reference)["mediaType"]
        .as_str()
        .expect("a type")
        .to_owned();
    registry().put_manifest(&repository, "copy", &media_type, &raw);
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
    registry().put_manifest(&repository, &tag, &media_type, changed.as_bytes());
    let error = verify(client, &[&reference, "--key", &public]).unwrap_err();
    assert!(error.contains("does not fit the manifest"), "{error}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_signed_cache_is_merged_with_nothing_that_is_not() {
    let bench = Bench::new();
    let keys = Keys::new(&bench.client, &["main", "other"]);
    let reference = reference("merged");
    let seed = unique("s");
    let projects = ["first", "second", "third"].map(|said| project(&seed, said));
    let hits = |index: usize| {
        bench.prune();
        let log = bench.build("buildx", &[&import(&reference)], projects[index].path());
        log.matches(" CACHED\n").count()
    };
    let to = |key: &str| {
        export(
            &reference,
            &format!("mode=max,merge=true,{}", keys.sign(key)),
        )
    };
    let unsigned = export(&reference, "mode=max,merge=true");
    bench.build("cachex", &[&unsigned], projects[0].path());
    let log = bench.build("cachex", &[&to("main")], projects[1].path());
    assert!(
        log.contains("replaced what was there: it is not signed"),
        "{log}"
    );
    assert!(
        is_signed(&reference) && hits(0) < 2 && hits(1) == 2,
        "{log}"
    );
    let log = bench.build("cachex", &[&to("main")], projects[2].path());
    assert!(log.contains("merged with 1 other result"), "{log}");
    assert!(
        is_signed(&reference) && hits(1) == 2 && hits(2) == 2,
        "{log}"
    );
    let log = bench.build("cachex", &[&to("other")], projects[0].path());
    assert!(
        log.contains("replaced what was there: none of the keys"),
        "{log}"
    );
    assert!(
        is_signed(&reference) && hits(0) == 2 && hits(1) < 2,
        "{log}"
    );
    // One that does not sign adds to it, and does not pass the signature on.
    bench.build("cachex", &[&unsigned], projects[1].path());
    assert!(!is_signed(&reference) && hits(0) == 2 && hits(1) == 2);
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn what_was_read_unverified_is_not_vouched_for() {
    let bench = Bench::new();
    let keys = Keys::new(&bench.client, &["main"]);
    let (folder, unsigned) = (project(&unique("s"), "x"), reference("unsigned"));
    bench.build("cachex", &[&export(&unsigned, "mode=max")], folder.path());
    for how in [
        "mode=max,via=client",
        "mode=max,via=builder",
        "mode=max,merge=true",
    ] {
        let written = reference("vouched");
        let how = format!("{how},{}", keys.sign("main"));
        // A build that signs reads what its own key has signed, unless it is told otherwise.
        bench.prune();
        let args = [&import(&unsigned), &export(&written, &how)];
        let log = bench.build("cachex", &args.map(String::as_str), folder.path());
        assert!(
            log.contains("is passed over: it is not signed"),
            "{how}: {log}"
        );
        assert!(
            !log.contains(" CACHED\n") && is_signed(&written),
            "{how}: {log}"
        );
        let from = format!("{},verify=false", import(&unsigned));
        let written = reference("vouched");
        let args = [from.as_str(), &export(&written, &how)];
        let log = bench.build("cachex", &args, folder.path());
        let remark = format!("not signed: the build reads what is not verified ({unsigned})");
        assert!(
            log.contains(&remark) && !is_signed(&written),
            "{how}: {log}"
        );
        let in_spite = export(&written, &format!("{how},sign-unverified=true"));
        bench.build("cachex", &[from.as_str(), &in_spite], folder.path());
        assert!(is_signed(&written), "{how}");
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn one_variable_and_a_trust_file_are_enough() {
    let bench = Bench::new();
    let keys = Keys::new(&bench.client, &["main", "other"]);
    let folder = project(&unique("s"), "x");
    let trust = folder.path().join(".cachex");
    fs::create_dir(&trust).expect("a folder");
    let rule = "[[rule]]\nscopes = [\"b-*\"]\nkeys = [\"main.pub\"]\n";
    fs::write(trust.join("trust.toml"), rule).expect("a file");
    fs::copy(keys.path("main.pub"), trust.join("main.pub")).expect("a key");
    fs::write(folder.path().join(".dockerignore"), ".cachex\n").expect("a file");
    let repository = format!("{}/{}", registry().host(), unique("scoped"));
    let build = |key: &str| {
        bench.prune();
        let mut command = bench.command("cachex", &["--cache", &repository], folder.path());
        command.env("CACHEX_BRANCH", "main");
        if !key.is_empty() {
            // A secret of a CI, as text.
            let pem = fs::read_to_string(keys.path(&format!("{key}.key"))).expect("a key");
            command.env("CACHEX_SIGN_KEY", pem);
        }
        let output = command.output().expect("the docker CLI");
        let log = text(&output.stderr);
        assert!(output.status.success(), "{log}");
        log
    };
    let reference = format!("{repository}:b-main");
    let change = || fs::write(folder.path().join("seed"), unique("s")).expect("a file");
    build("main");
    assert!(is_signed(&reference));
    let log = build("");
    assert_all_cached(&log, 2);
    assert!(log.contains("signed by main.pub ("), "{log}");
    // What another key has signed counts for nobody but itself.
    change();
    let log = build("other");
    assert!(log.contains("signed by main.pub ("), "{log}");
    let log = build("main");
    assert!(
        log.contains("passed over: none of the keys") && is_signed(&reference),
        "{log}"
    );
    change();
    build("");
    assert!(!is_signed(&reference));
    let log = build("main");
    assert!(
        log.contains("passed over: it is not signed") && is_signed(&reference),
        "{log}"
    );
    // Whoever has not the right file in the repository is told before the build.
    fs::write(trust.join("trust.toml"), "[[rule]]\nkey = \"main.pub\"\n").expect("a file");
    let log = bench.fails(1, &["--cache", &repository], folder.path());
    assert!(log.contains("unknown key \"key\""), "{log}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn buildx_writes_over_a_signed_cache_and_it_is_passed_over() {
    let bench = Bench::new();
    let keys = Keys::new(&bench.client, &["main"]);
    let (folder, reference) = (project(&unique("s"), "x"), reference("over"));
    let to = export(
        &reference,
        &format!("mode=max,via=client,{}", keys.sign("main")),
    );
    bench.build("cachex", &[&to], folder.path());
    bench.prune();
    bench.build("buildx", &[&export(&reference, "mode=max")], folder.path());
    let from = format!("{},{}", import(&reference), keys.verify("main"));
    bench.prune();
    let log = bench.build("cachex", &[&from, &to], folder.path());
    assert!(log.contains("is passed over: it is not signed"), "{log}");
    assert!(is_signed(&reference), "{log}");
    bench.prune();
    assert_all_cached(&bench.build("cachex", &[&from], folder.path()), 2);
    // A cache that is not there is no more than a line.
    let missing = format!(
        "{},{}",
        import(&self::reference("none")),
        keys.verify("main")
    );
    let log = bench.build("cachex", &[&missing], folder.path());
    assert!(
        log.contains("no cache there yet") && !log.contains("cannot read the cache"),
        "{log}"
    );
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
        let (repository, _) = place(&reference);
        let stored = registry().raw_manifest(&repository, "cache");
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
