//! A cache in which somebody has put layers or cache mounts of his own: refused where it must be signed.

use serde_json::Value;
use tempfile::TempDir;

use crate::support::bench::Bench;
use crate::support::caches::{export, import, reference};
use crate::support::rig::{Rig, context, unique};
use crate::support::signing::{Keys, manifest, project, registry, said, verify};

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_poisoned_cache_is_refused_where_it_must_be_signed() {
    let bench = Bench::new();
    let keys = Keys::new(&bench.client, &["main"]);
    let reference = reference("poisoned");
    let (repository, tag) = registry().place(&reference);
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
    let config = String::from_utf8(registry().blob(repository, config)).expect("JSON");
    let config = config.replace(mine.as_str(), &their_digests[new]);
    let stored = registry().put_blob(repository, config.as_bytes());
    poisoned["config"]["digest"] = stored.into();
    poisoned["config"]["size"] = config.len().into();
    let media_type = poisoned["mediaType"].as_str().expect("a type").to_owned();
    registry().put_manifest(
        repository,
        tag,
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
        repository,
        tag,
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
        let (repository, tag) = registry().place(&reference);
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
        registry().put_manifest(repository, tag, &media_type, bytes.as_bytes());
        let log = Bench::new().build("cachex", &[&import(&reference)], changed.path());
        assert!(log.contains("it had EVIL"), "{via}: {log}");
        let log = Bench::new().build("cachex", &[&verified], changed.path());
        assert!(log.contains("it had nothing"), "{via}: {log}");
        assert!(!log.contains("restoring cache mount"), "{via}: {log}");
        let warned = "is passed over: its signature does not fit the manifest";
        assert!(log.contains(warned), "{via}: {log}");
    }
}
