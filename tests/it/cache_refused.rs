//! Registry caches that cannot be: a registry that is not there, and options that are refused.

use std::path::Path;
use std::sync::Weak;

use parking_lot::Mutex;

use crate::support::bench::{Bench, Shared};
use crate::support::rig::{Rig, context, text, unique};

static SHARED: Shared = Mutex::new(Weak::new());

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_registry_that_is_not_there() {
    let bench = Bench::shared(&SHARED);
    let dockerfile = format!("FROM {}\nRUN echo {}\n", Rig::get().busybox, unique("x"));
    let folder = context(&[("Dockerfile", &dockerfile)]);
    let gone = "127.0.0.1:1/app:cache";
    let metadata = folder.path().join("meta.json");
    let metadata_flag = format!("--metadata-file={}", metadata.display());

    let imported = bench.build("cachex", &["--cache-from", gone], folder.path());
    assert!(imported.contains("connection refused"), "{imported}");
    let to = format!("type=registry,ref={gone}");
    let error = bench.fails(1, &["--cache-to", &to, &metadata_flag], folder.path());
    let last = error
        .lines()
        .filter(|l| l.starts_with("ERROR:"))
        .collect::<Vec<_>>();
    assert_eq!(last.len(), 1, "{error}");
    assert!(
        last[0].contains("connection refused") && last[0].contains("127.0.0.1:1"),
        "{error}"
    );
    assert!(!metadata.exists());
    let ignored = format!("{to},ignore-error=true");
    let progress = bench.build(
        "cachex",
        &["--cache-to", &ignored, &metadata_flag],
        folder.path(),
    );
    assert!(progress.contains("connection refused"), "{progress}");
    assert!(metadata.exists());
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn what_would_destroy_a_cache_is_refused_by_name() {
    let folder = context(&[("Dockerfile", "FROM scratch\n")]);
    let folder = folder.path().to_str().expect("UTF-8");
    let bench = Bench::shared(&SHARED);
    let with_builder = |args: &[&str]| {
        let error = bench.fails(1, args, Path::new(folder));
        assert!(!error.contains("#1 "), "the build began: {error}");
        error
    };
    let error = with_builder(&[
        "--cache-to",
        "type=registry,ref=r.io/a:c,merge=true,via=builder",
    ]);
    assert!(error.contains("merge=true needs via=client"), "{error}");
    let error = with_builder(&["--cache-to", "r.io/a:1", "--push", "-t", "r.io/a:1"]);
    assert!(
        error.contains("r.io/a:1") && error.contains("hint: "),
        "{error}"
    );
    let error = with_builder(&["--cache-to", "r.io/a:1", "--cache-to", "r.io/a:1"]);
    assert!(error.contains("two caches"), "{error}");
}

/// A flag, its value, and what the message must contain.
const WRONG: &[(&str, &str, &str)] = &[
    (
        "--cache-to",
        "type=registry,ref=r.io/a:c,mod=max",
        "did you mean \"mode\"?",
    ),
    (
        "--cache-to",
        "type=registry,ref=r.io/a:c,mode=mx",
        "\"mode\"",
    ),
    (
        "--cache-to",
        "type=registry,mode=max",
        "key \"ref\" is required",
    ),
    (
        "--cache-to",
        "type=registy,ref=r.io/a:c",
        "did you mean \"registry\"?",
    ),
    ("--cache-to", "type=registry,ref=r.io/A:c", "lowercase"),
    (
        "--cache-to",
        "type=registry,ref=r.io/a:c,ref=r.io/b",
        "more than once",
    ),
    (
        "--cache-to",
        "type=registry,ref=r.io/a:c,compression=lz4",
        "\"compression\"",
    ),
    (
        "--cache-to",
        "type=registry,ref=r.io/a:c,compression-level=10",
        "0 to 9",
    ),
    (
        "--cache-to",
        "type=registry,ref=r.io/a:c,compression=zstd,compression-level=23",
        "0 to 22",
    ),
    (
        "--cache-to",
        "type=registry,ref=r.io/a:c,compression=uncompressed,compression-level=1",
        "cannot be used",
    ),
    (
        "--cache-to",
        "type=registry,ref=r.io/a:c,oci-mediatypes=maybe",
        "\"oci-mediatypes\"",
    ),
    (
        "--cache-to",
        "type=registry,ref=r.io/a:c,oci-mediatypes=false,image-manifest=true",
        "image-manifest=true needs",
    ),
];

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn wrong_cache_options_are_errors_before_the_build() {
    // Nothing of this needs a builder: there is none.
    let client = Rig::get().client();
    let folder = context(&[("Dockerfile", "FROM scratch\n")]);
    let folder = folder.path().to_str().expect("UTF-8");
    for (flag, value, expected) in WRONG {
        let output = client.docker(&["cachex", "build", flag, value, folder]);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{flag} {value}: {error}");
        assert!(
            error.starts_with(&format!("ERROR: invalid {flag}: ")) && error.contains(expected),
            "{flag} {value}: {error}"
        );
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_cache_to_read_that_is_wrong_is_a_warning() {
    let bench = Bench::shared(&SHARED);
    let folder = context(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
    for (value, meant) in [
        ("type=registry", "ref"),
        ("r.io/Upper:c", "must be lowercase"),
        ("type=inline", "type=registry"),
        (
            "type=registry,ref=127.0.0.1:1/a:c,platform=linux/amd64",
            "platform",
        ),
        (
            "type=registry,ref=127.0.0.1:1/a:c,ignore-errors=true",
            "ignore-error",
        ),
    ] {
        let progress = bench.build("cachex", &["--cache-from", value], folder.path());
        let warnings: Vec<&str> = progress
            .lines()
            .filter(|line| line.starts_with("WARNING: ") && line.contains("cache"))
            .collect();
        let told = warnings.iter().filter(|line| line.contains(meant));
        assert_eq!(told.count(), 1, "{value}: {progress}");
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_folder_without_the_cache_says_what_it_has() {
    let bench = Bench::shared(&SHARED);
    let folder = context(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
    let layout = folder.path().join("cache");
    let to = format!("--cache-to=type=local,dest={},tag=other", layout.display());
    bench.build("cachex", &[&to], folder.path());
    let from = |place: &Path, tag: &str| {
        let from = format!("--cache-from=type=local,src={}{tag}", place.display());
        bench.build("cachex", &[&from], folder.path())
    };
    let progress = from(&layout, "");
    let told = "no manifest has the tag \"latest\"; the folder has other; building without it";
    assert!(progress.contains(told), "{progress}");
    assert!(!progress.contains("no cache there yet"), "{progress}");
    let progress = from(&folder.path().join("absent"), "");
    assert!(progress.contains("no cache there yet"), "{progress}");
    assert!(!progress.contains("cannot read the cache"), "{progress}");
    let progress = from(&folder.path().join("Dockerfile"), "");
    let warning = |line: &&str| {
        line.starts_with("WARNING: cannot read the cache") && line.ends_with("is not a folder")
    };
    assert_eq!(progress.lines().filter(warning).count(), 1, "{progress}");
    let progress = from(&layout, ",tag=other");
    assert!(!progress.contains("building without it"), "{progress}");
}
