//! Caches whose record or config somebody else has written: no build fails, nothing steers the terminal, and no report
//! runs a script.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use fs_err as fs;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::bench::Bench;
use crate::support::caches::{export, import, reference};
use crate::support::registry::{Registry, digest, is_record};
use crate::support::rig::{Rig, context, text, unique};

/// The file in a record's archive.
const FILE: &str = ".docker-cachex/record.json";
/// What a name may try in a terminal, in HTML and in Markdown.
const EVIL: &str = "\u{1b}[2J\u{1b}]0;t\u{7}\u{202e}\u{2028}\r\n<script>alert(1)</script><img src=x onerror=alert(1)> `|` ](http://evil) @all";

fn project() -> TempDir {
    let dockerfile = format!(
        "FROM {}\nWORKDIR /w\nCOPY src src\nRUN echo {} > /a\nRUN ls /w > /b\n",
        Rig::get().busybox,
        unique("s")
    );
    context(&[("Dockerfile", &dockerfile), ("src/a", "a"), ("src/b", "b")])
}

fn packed(tar: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(tar).expect("memory");
    packer.finish().expect("memory")
}

/// A blob with these files.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, name, *content)
            .expect("memory");
    }
    packed(&archive.into_inner().expect("memory"))
}

fn record_of(json: &Value) -> Vec<u8> {
    archive(&[(FILE, json.to_string().as_bytes())])
}

/// A cache in the rig's registry.
struct Stored {
    registry: Registry,
    reference: String,
    manifest: Value,
    media_type: String,
}

impl Stored {
    fn of(reference: &str) -> Self {
        let registry = Registry::new(Rig::get().registry.host());
        let manifest = registry.manifest_of(reference);
        Self {
            registry,
            reference: reference.to_owned(),
            manifest: manifest.json,
            media_type: manifest.media_type,
        }
    }

    fn repository(&self) -> &str {
        self.registry.place(&self.reference).0
    }

    fn record(&self) -> Value {
        let layers = self.manifest["layers"].as_array().expect("layers");
        let entry = layers.iter().find(|layer| is_record(layer));
        let wanted = entry.expect("a record")["digest"]
            .as_str()
            .expect("a digest");
        let blob = self.registry.blob(self.repository(), wanted);
        let mut tar = Vec::new();
        GzDecoder::new(blob.as_slice())
            .read_to_end(&mut tar)
            .expect("gzip");
        let mut archive = tar::Archive::new(tar.as_slice());
        let mut files = archive.entries().expect("a tar");
        serde_json::from_reader(files.next().expect("a file").expect("a file")).expect("JSON")
    }

    /// Puts the cache under another tag, with this record.
    fn with_record(&self, tag: &str, blob: &[u8]) -> String {
        let mut manifest = self.manifest.clone();
        self.registry.put_blob(self.repository(), blob);
        let layers = manifest["layers"].as_array_mut().expect("layers");
        let entry = layers.iter_mut().find(|layer| is_record(layer));
        let entry = entry.expect("a record");
        entry["digest"] = digest(blob).into();
        entry["size"] = blob.len().into();
        self.put(tag, &manifest)
    }

    /// Puts the cache under another tag, with another config.
    fn with_config(&self, tag: &str, change: impl FnOnce(&mut Value)) -> String {
        let mut manifest = self.manifest.clone();
        let wanted = manifest["config"]["digest"].as_str().expect("a digest");
        let config = self.registry.blob(self.repository(), wanted);
        let mut config: Value = serde_json::from_slice(&config).expect("JSON");
        change(&mut config);
        let blob = config.to_string().into_bytes();
        self.registry.put_blob(self.repository(), &blob);
        manifest["config"]["digest"] = digest(&blob).into();
        manifest["config"]["size"] = blob.len().into();
        self.put(tag, &manifest)
    }

    fn put(&self, tag: &str, manifest: &Value) -> String {
        let json = manifest.to_string().into_bytes();
        self.registry
            .put_manifest(self.repository(), tag, &self.media_type, &json);
        format!("{}/{}:{tag}", self.registry.host(), self.repository())
    }
}

/// Checks text for the terminal.
fn assert_plain(what: &str, shown: &str) {
    let bad = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202e}' | '\u{2028}');
    assert!(!shown.contains(bad), "{what}: {shown:?}");
}

/// A cache that is as it was written, and the build that wrote it, of which a file is another one now.
struct Healthy {
    bench: Bench,
    folder: TempDir,
    cache: String,
    stored: Stored,
}

impl Healthy {
    fn new() -> Self {
        let (bench, folder) = (Bench::new(), project());
        let cache = reference("it/hostile");
        bench.build("cachex", &[&export(&cache, "mode=max")], folder.path());
        fs::write(folder.path().join("src/a"), "other").expect("a file");
        Self {
            stored: Stored::of(&cache),
            bench,
            folder,
            cache,
        }
    }

    /// Builds with a cache, and asks everything of it that there is to ask.
    fn look_at(&self, what: &str, cache: &str) -> String {
        let (bench, folder, healthy) = (&self.bench, self.folder.path(), self.cache.as_str());
        bench.prune();
        let reports = TempDir::new().expect("a folder");
        let file = |form: &str| reports.path().join(format!("report.{form}"));
        let flags =
            ["md", "json", "html"].map(|form| format!("--report={form}={}", file(form).display()));
        let from = import(cache);
        let mut args = vec![from.as_str(), "--explain=full"];
        args.extend(flags.iter().map(String::as_str));
        let progress = bench.build("cachex", &args, folder);
        assert_plain(what, &progress);
        let report = |form: &str| fs::read_to_string(file(form)).expect("a report");
        serde_json::from_str::<Value>(&report("json")).expect("JSON");
        for form in ["md", "html"] {
            let report = report(form);
            assert_plain(what, &report);
            for tag in ["<script>alert", "<img", "](http", "@all"] {
                let is_free = form == "html" && !tag.starts_with('<');
                assert!(is_free || !report.contains(tag), "{what}: {tag}: {report}");
            }
        }
        let path = folder.to_str().expect("UTF-8");
        for args in [
            &["explain", &from, path][..],
            &["explain", "--format=json", &from, path],
            &["inspect", "--no-trunc", cache],
            &["inspect", "--check", cache],
            &["inspect", "--format=json", cache],
            &["tree", cache],
            &["tree", "--format=json", cache],
            &["diff", cache, healthy],
            &["diff", "--format=json", healthy, cache],
        ] {
            let args = [&["cachex", "cache"][..], args].concat();
            let output = bench.client.docker(&args);
            let (shown, errors) = (text(&output.stdout), text(&output.stderr));
            assert_plain(what, &shown);
            assert_plain(what, &errors);
            assert!(!errors.contains("panicked"), "{what}: {args:?}: {errors}");
            let code = output.status.code();
            assert!(
                matches!(code, Some(0 | 1)),
                "{what}: {args:?}: {code:?} {errors}"
            );
        }
        progress
    }
}

/// Puts a text into every text of a document but those of these fields.
fn poison(value: &mut Value, keep: &[&str]) {
    match value {
        Value::String(text) => *text = format!("{text}{EVIL}"),
        Value::Array(list) => list.iter_mut().for_each(|value| poison(value, keep)),
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                if !keep.contains(&name.as_str()) {
                    poison(value, keep);
                }
            }
        }
        _ => {}
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn no_record_of_a_stranger_breaks_a_build_or_steers_what_is_shown() {
    let healthy = Healthy::new();
    let stored = &healthy.stored;
    let record = stored.record();

    let changed = |change: &dyn Fn(&mut Value)| {
        let mut changed = record.clone();
        change(&mut changed);
        record_of(&changed)
    };
    let steps = |record: &mut Value, change: &dyn Fn(usize, &mut Value)| {
        let steps = record["builds"][0]["steps"].as_array_mut().expect("steps");
        for (at, step) in steps.iter_mut().enumerate() {
            change(at, step);
        }
    };
    let deep = format!("{{\"v\":1,\"builds\":{}", "[".repeat(1 << 20));
    let variants: Vec<(&str, Vec<u8>)> = vec![
        ("noise", vec![0x1b; 2 << 20]),
        ("too large", vec![0; (2 << 20) + 1]),
        ("a gzip of much", packed(&vec![0; 256 << 20])),
        ("deep JSON", archive(&[(FILE, deep.as_bytes())])),
        (
            "another version",
            changed(&|record| record["v"] = json!(4_294_967_295_u32)),
        ),
        (
            "no number for a version",
            changed(&|record| record["v"] = json!(EVIL)),
        ),
        (
            "several files",
            archive(&[
                (FILE, b"{}"),
                ("x", b"x"),
                (FILE, record.to_string().as_bytes()),
            ]),
        ),
        (
            "another file",
            archive(&[("etc/passwd", record.to_string().as_bytes())]),
        ),
        (
            "names",
            changed(&|record| {
                poison(
                    record,
                    &[
                        "v", "id", "salt", "key", "digest", "kind", "root", "env", "args",
                        "mounts", "options", "time", "rest", "ref",
                    ],
                );
            }),
        ),
        ("names of all", changed(&|record| poison(record, &["v"]))),
        (
            "counts",
            changed(&|record| {
                steps(record, &|_, step| {
                    step["line"] = json!([u32::MAX, 0]);
                    step["ms"] = json!(u64::MAX);
                    step["inputs"] = json!([u64::MAX, null, 0]);
                });
                record["sets"][0]["n"] = json!(u64::MAX);
                record["sets"][0]["bytes"] = json!(u64::MAX);
                record["builds"][0]["sets"] = json!({"context": u64::MAX});
            }),
        ),
        (
            "circles",
            changed(&|record| steps(record, &|at, step| step["inputs"] = json!([at, at + 1, 0]))),
        ),
        (
            "many builds",
            changed(&|record| {
                let build = record["builds"][0].clone();
                record["builds"] = Value::Array(vec![build; 3_000]);
            }),
        ),
        (
            "long and deep paths",
            changed(&|record| {
                let long = "d/".repeat(40_000);
                let more = json!([
                    [0, long, 33188, 1, null],
                    [79_999, "x", 33188, 1, null],
                    [usize::MAX, "y", u32::MAX, u64::MAX, null],
                    [3, "../../../x", 0, 0, null]
                ]);
                record["sets"][0]["files"] = more;
            }),
        ),
    ];
    for (at, (what, blob)) in variants.iter().enumerate() {
        let cache = stored.with_record(&format!("v{at}"), blob);
        let progress = healthy.look_at(what, &cache);
        assert!(progress.contains("why 3 steps ran"), "{what}: {progress}");
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn no_config_or_manifest_of_a_stranger_breaks_a_build() {
    let healthy = Healthy::new();
    let stored = &healthy.stored;
    let records = |config: &mut Value, change: &dyn Fn(usize, &mut Value)| {
        let records = config["records"].as_array_mut().expect("records");
        for (at, record) in records.iter_mut().enumerate() {
            change(at, record);
        }
    };
    let mut caches = vec![
        (
            "records in a circle",
            stored.with_config("c0", |config| {
                records(config, &|at, record| {
                    record["inputs"] = json!([[{"link": at}, {"link": at + 1}, {"link": 0}]]);
                });
            }),
        ),
        (
            "links to nothing",
            stored.with_config("c1", |config| {
                records(config, &|_, record| {
                    record["inputs"] = json!([[{"link": u32::MAX}], []]);
                    record["layers"] = json!([{"layer": u32::MAX, "createdAt": EVIL}]);
                });
            }),
        ),
        (
            "layers in a circle",
            stored.with_config("c2", |config| {
                let layers = config["layers"].as_array_mut().expect("layers");
                let count = layers.len();
                for (at, layer) in layers.iter_mut().enumerate() {
                    layer["parent"] = json!((at + 1) % count);
                }
            }),
        ),
        (
            "digests of nonsense",
            stored.with_config("c3", |config| {
                records(config, &|_, record| record["digest"] = json!(EVIL));
            }),
        ),
    ];
    let marked = |change: &dyn Fn(&mut Vec<Value>)| {
        let mut manifest = stored.manifest.clone();
        change(manifest["layers"].as_array_mut().expect("layers"));
        manifest
    };
    // The mark of a record on layers of steps, and on what is no archive.
    let all = marked(&|layers| {
        let entry = layers
            .iter()
            .find(|layer| is_record(layer))
            .expect("a record");
        let mark = entry["annotations"].clone();
        for layer in layers.iter_mut() {
            let fields = layer["annotations"].as_object_mut().expect("annotations");
            for (name, value) in mark.as_object().expect("annotations") {
                fields.entry(name).or_insert(value.clone());
            }
        }
    });
    caches.push(("every layer a record", stored.put("m0", &all)));
    let other = marked(&|layers| {
        let entry = layers.iter_mut().find(|layer| is_record(layer));
        let entry = entry.expect("a record");
        entry["mediaType"] = json!("application/vnd.evil+json");
        entry["annotations"][EVIL] = json!(EVIL);
    });
    caches.push(("a record of another type", stored.put("m1", &other)));
    let mut annotated = stored.manifest.clone();
    annotated["annotations"] = json!({"dev.docker-cachex.tag": EVIL, "dev.docker-cachex.replaced": EVIL,
        "dev.docker-cachex.commit": EVIL, "dev.docker-cachex.signature": EVIL, EVIL: EVIL});
    caches.push(("annotations", stored.put("m2", &annotated)));
    for (what, cache) in &caches {
        healthy.look_at(what, cache);
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn names_of_files_break_no_line_and_no_report() {
    let healthy = Healthy::new();
    let folder = healthy.folder.path().join("src");
    for name in [
        "<img src=x onerror=alert(1)>",
        "a`b|c",
        "](http",
        "@all",
        "\u{1b}[2Jred",
        "line\nend",
        "bidi\u{202e}gpj",
        "&lt;script&gt;",
    ] {
        fs::write(folder.join(name), "x").expect("a file");
    }
    let progress = healthy.look_at("names", &healthy.cache);
    for shown in [
        "<img src=x onerror=alert(1)> (new)",
        "a`b|c (new)",
        "red (new)",
        "line end (new)",
    ] {
        assert!(progress.contains(shown), "{shown}: {progress}");
    }
}
