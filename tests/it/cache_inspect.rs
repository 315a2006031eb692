//! `docker cachex cache inspect` on caches that buildx made.

use fs_err as fs;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::bench::Bench;
use crate::support::registry::digest;
use crate::support::rig::{Rig, context, text, unique};

fn inspect(bench: &Bench, args: &[&str]) -> String {
    let mut all = vec!["cachex", "cache", "inspect"];
    all.extend(args);
    bench.client.docker_ok(&all).0
}

fn fails(bench: &Bench, args: &[&str]) -> String {
    let mut all = vec!["cachex", "cache", "inspect"];
    all.extend(args);
    let output = bench.client.docker(&all);
    assert_eq!(output.status.code(), Some(1), "{args:?}");
    text(&output.stderr)
}

/// A cache that buildx made of two steps on a base image of one layer.
fn check(json: &str, form: &str, compression: &str) {
    let cache: Value = serde_json::from_str(json).expect("JSON");
    assert_eq!(cache["form"], form, "{json}");
    assert_eq!(cache["results"], 2, "{json}");
    assert_eq!(cache["warnings"], Value::Array(Vec::new()), "{json}");
    let layers = cache["layers"].as_array().expect("layers");
    let sizes = layers
        .iter()
        .map(|layer| layer["size"].as_u64().expect("a size"));
    assert_eq!(cache["totalSize"], sizes.sum::<u64>());
    for layer in layers {
        assert_eq!(layer["present"], true);
        assert_eq!(layer["compression"], compression, "{json}");
        assert!(layer["diffId"].is_string(), "{json}");
    }
    // Of a base layer BuildKit tells no time once it is compressed again.
    let dated = layers.iter().filter(|layer| layer["createdAt"].is_string());
    assert!(dated.count() >= 2, "{json}");
    // The base and the first step are below both results.
    let mut uses: Vec<_> = layers.iter().map(|l| l["results"].as_u64()).collect();
    uses.sort_unstable();
    assert_eq!(uses, [Some(1), Some(2), Some(2)], "{json}");
}

/// The Dockerfile of a base image and two steps that no other test has.
fn two_steps() -> TempDir {
    let (base, name) = (&Rig::get().busybox, unique("a"));
    let dockerfile = format!("FROM {base}\nRUN date > /{name}\nRUN date > /b\n");
    context(&[("Dockerfile", &dockerfile)])
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn all_forms_of_caches_are_read() {
    let bench = Bench::new();
    let registry = &Rig::get().registry;
    let repository = unique("it/inspect");
    let name = |tag: &str| format!("{}/{repository}:{tag}", registry.host());
    let folder = two_steps();
    for (tag, extra, form, compression) in [
        ("gzip", "", "image-manifest", "gzip"),
        ("index", ",image-manifest=false", "index", "gzip"),
        ("docker", ",oci-mediatypes=false", "manifest-list", "gzip"),
        (
            "zstd",
            ",compression=zstd,force-compression=true",
            "image-manifest",
            "zstd",
        ),
    ] {
        let to = format!("type=registry,ref={},mode=max{extra}", name(tag));
        bench.build("buildx", &["--cache-to", &to], folder.path());
        let json = inspect(&bench, &["--format", "json", "--check", &name(tag)]);
        check(&json, form, compression);

        let cache: Value = serde_json::from_str(&json).expect("JSON");
        let stored = registry.manifest(&repository, tag).expect("a manifest");
        assert_eq!(cache["digest"], stored.digest.as_str());
        let manifest = inspect(&bench, &["--raw", &name(tag)]);
        assert_eq!(digest(manifest.as_bytes()), stored.digest);
        let config = digest(inspect(&bench, &["--raw=config", &name(tag)]).as_bytes());
        assert_eq!(cache["configs"][0]["digest"], config.as_str());
        let table = inspect(&bench, &[&name(tag)]);
        assert!(
            table.contains("Platforms:  unknown") && table.contains(compression),
            "{table}"
        );
    }
    let error = fails(&bench, &[&name("gone")]);
    assert!(error.contains("not found"), "{error}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn an_image_is_a_cache_only_with_one_inline() {
    let bench = Bench::new();
    let image = format!(
        "{}/{}:app",
        Rig::get().registry.host(),
        unique("it/inspect")
    );
    let folder = two_steps();
    let args = ["--push", "-t", &image];
    bench.build("buildx", &args, folder.path());
    let error = fails(&bench, &[&image]);
    assert!(
        error.contains("holds no build cache") && error.contains("hint:"),
        "{error}"
    );
    let inline = [&args[..], &["--cache-to", "type=inline"]].concat();
    bench.build("buildx", &inline, folder.path());
    let json = inspect(&bench, &["--format=json", &image]);
    let cache: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(cache["form"], "inline");
    let platform = cache["platforms"][0].as_str().expect("a platform");
    assert!(platform.starts_with("linux/"), "{json}");
    let step = cache["layers"][1]["step"].as_str().expect("a step");
    assert!(step.contains("date"), "{json}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_folder_is_looked_at_and_checked() {
    let bench = Bench::new();
    let folder = TempDir::new().expect("a temporary folder");
    let app = context(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /a\n")]);
    let path = folder.path().display().to_string();
    let to = format!("type=local,dest={path},tag=t");
    bench.build("buildx", &["--cache-to", &to], app.path());
    let name = format!("{path}:t");
    let template = inspect(
        &bench,
        &["--format", "{{.form}} {{.results}}", "--check", &name],
    );
    assert_eq!(template, "image-manifest 1\n");
    let json = inspect(&bench, &["--format=json", &format!("oci-layout://{name}")]);
    let cache: Value = serde_json::from_str(&json).expect("JSON");
    let layer = cache["layers"][0]["digest"].as_str().expect("a digest");
    let blob = folder.path().join("blobs").join(layer.replace(':', "/"));
    fs::remove_file(blob).expect("removed");
    let output = bench
        .client
        .docker(&["cachex", "cache", "inspect", "--check", &name]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("WARNING: 1 layer is missing"));
    assert!(text(&output.stderr).contains("blobs are missing"));
    let error = fails(&bench, &[&format!("{path}:u")]);
    assert!(error.contains("the folder has t"), "{error}");
    let only = inspect(&bench, &["--format={{.form}}", &path]);
    assert_eq!(only, "image-manifest\n");
    let error = fails(&bench, &[&format!("{path}/none")]);
    assert!(error.contains("there is no folder"), "{error}");
}
