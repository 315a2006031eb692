//! One run of `build`, and all that can be seen of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use fs_err as fs;
use regex::Regex;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::bench::{Bench, steps};
use crate::support::compare::{archive, paths, tree, without_times};
use crate::support::registry::is_record;
use crate::support::rig::{Rig, text, unique};

/// A command line that both tools are given.
pub(super) struct Run<'a> {
    pub(super) bench: &'a Bench,
    pub(super) folder: &'a Path,
    pub(super) args: &'a str,
}

/// What came of it, without what differs between two runs of one tool.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Seen {
    code: Option<i32>,
    /// Lines that begin with `ERROR: `.
    errors: Vec<String>,
    stdout: String,
    /// Instructions of the Dockerfile but for base images, and whether they came from the cache.
    steps: BTreeSet<(String, bool)>,
    /// What steps printed behind the word SAID.
    said: Vec<String>,
    /// Keys of lines that are JSON.
    json: BTreeSet<String>,
    /// The image in the registry or in the engine.
    image: Value,
    /// What was written.
    files: BTreeMap<String, String>,
}

/// Names of one run's own.
struct Own {
    repository: String,
    loaded: String,
    out: TempDir,
}

impl Run<'_> {
    /// Runs the tool and looks at everything.
    pub(super) fn look(&self, tool: &str) -> Seen {
        let own = Own {
            repository: unique("it/parity"),
            loaded: format!("{}:1", unique("it-parity")),
            out: TempDir::new().expect("a temporary folder"),
        };
        let args: Vec<String> = self
            .args
            .split_whitespace()
            .map(|arg| self.filled(arg, &own))
            .collect();
        let mut all = vec![tool, "build"];
        if !args
            .iter()
            .any(|arg| arg.starts_with("--progress") || arg == "-q" || arg == "--quiet")
        {
            all.push("--progress=plain");
        }
        all.extend(args.iter().map(String::as_str));
        let output = self.bench.client.command(&all).arg(self.folder).output();
        let output = output.expect("the docker CLI");
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
        let plain = |text: &str| self.plain(text, &own, tool);
        let seen = Seen {
            code: output.status.code(),
            errors: lines(&stderr, "ERROR: ").map(|line| plain(&line)).collect(),
            stdout: plain(&stdout),
            steps: steps(&stderr)
                .into_iter()
                // Where two stages have one base image, which of them names it is chance.
                .filter(|(name, _)| !name.contains("] FROM "))
                .map(|(name, hit)| (plain(&name), hit))
                .collect(),
            said: said(&stderr),
            json: keys(&stderr),
            image: self.image(&own),
            files: files(own.out.path()),
        };
        self.assert_complete(&seen);
        seen
    }

    /// Nothing is compared where nothing was found: what the arguments ask for must be there.
    fn assert_complete(&self, seen: &Seen) {
        let asks = |word: &str| seen.code == Some(0) && self.args.contains(word);
        assert!(
            !asks("IMAGE") && !asks("LOADED") || !seen.image.is_null(),
            "{seen:#?}"
        );
        assert!(!asks("OUT") || !seen.files.is_empty(), "{seen:#?}");
        assert!(!asks("--no-cache ") || !seen.said.is_empty(), "{seen:#?}");
        assert!(!asks("rawjson") || !seen.json.is_empty(), "{seen:#?}");
        // A check that finds something fails without an error.
        let failed = seen.code != Some(0);
        assert!(failed || seen.errors.is_empty(), "{seen:#?}");
        assert!(
            !failed || !seen.errors.is_empty() || self.args == "--check",
            "{seen:#?}"
        );
    }

    fn filled(&self, arg: &str, own: &Own) -> String {
        let host = Rig::get().registry.host();
        arg.replace("IMAGE", &format!("{host}/{}:v1", own.repository))
            .replace("LOADED", &own.loaded)
            .replace("OUT", &own.out.path().display().to_string())
            .replace("CTX", &self.folder.display().to_string())
            .replace("HOST", host)
            .replace("BUSYBOX", &Rig::get().busybox)
    }

    /// A text without names of the run, digests and times.
    fn plain(&self, text: &str, own: &Own, tool: &str) -> String {
        let text = text
            .replace(&own.repository, "REPOSITORY")
            .replace(&own.loaded, "LOADED")
            .replace(&own.out.path().display().to_string(), "OUT")
            .replace(&self.folder.display().to_string(), "CTX")
            .replace(&format!("docker {tool}"), "docker TOOL");
        let rules = [
            ("sha256:[0-9a-f]{64}", "DIGEST"),
            (r#""session":"[a-z0-9]+""#, r#""session":"S""#),
            (r"local\.session\\*.{1,60}", "SESSION"),
            // A session's or a step's identifier.
            (r"\b[a-z0-9]{25}\b", "ID"),
        ];
        rules.iter().fold(text, |text, (pattern, new)| {
            let pattern = Regex::new(pattern).expect("a pattern");
            pattern.replace_all(&text, *new).into_owned()
        })
    }

    fn image(&self, own: &Own) -> Value {
        let registry = &Rig::get().registry;
        if let Some(mut manifest) = registry.manifest(&own.repository, "v1") {
            // buildx writes none.
            if let Some(layers) = manifest.json["layers"].as_array_mut() {
                layers.retain(|layer| !is_record(layer));
            }
            let mut found = Vec::new();
            paths(&manifest.json, "", &mut found);
            let config = manifest.json["config"]["mediaType"].clone();
            let is_image = config.as_str().is_some_and(|kind| {
                kind.contains("image.config") || kind.contains("container.image")
            });
            let config = if is_image {
                without_times(registry.config(&own.repository, &manifest))
            } else {
                config
            };
            return json!([
                manifest.media_type,
                found,
                manifest.json["annotations"],
                config
            ]);
        }
        let client = &self.bench.client;
        let inspected = client.docker(&["image", "inspect", &own.loaded]);
        if !inspected.status.success() {
            return Value::Null;
        }
        let list: Value = serde_json::from_slice(&inspected.stdout).expect("JSON");
        client.docker_ok(&["rmi", "--force", &own.loaded]);
        let keep = ["Architecture", "Os", "Config", "RootFS", "Size"];
        json!(keep.map(|key| list[0][key].clone()))
    }
}

impl Seen {
    /// Returns whether the tool ended without an error.
    pub(super) fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// Leaves out the texts of errors, and what is printed along with them.
    pub(super) fn forget_words(&mut self) {
        self.stdout.clear();
        self.errors.iter_mut().for_each(String::clear);
    }

    /// Tells where the other one differs.
    pub(super) fn difference(&self, other: &Self) -> String {
        let show = |seen: &Self| format!("{seen:#?}");
        let (left, right) = (show(self), show(other));
        let only = |of: &str, not: &str| -> String {
            let not: BTreeSet<&str> = not.lines().collect();
            of.lines()
                .filter(|line| !not.contains(line))
                .collect::<Vec<_>>()
                .join("\n")
        };
        format!(
            "\nbuildx:\n{}\ncachex:\n{}",
            only(&left, &right),
            only(&right, &left)
        )
    }
}

fn lines(text: &str, start: &'static str) -> impl Iterator<Item = String> {
    let lines = text.lines().filter(move |line| line.starts_with(start));
    lines.map(str::to_owned)
}

fn said(progress: &str) -> Vec<String> {
    let printed = progress.lines().filter(|line| !line.contains("RUN "));
    let said = printed.filter_map(|line| line.split_once("SAID"));
    said.map(|(_, said)| said.to_owned()).collect()
}

fn keys(text: &str) -> BTreeSet<String> {
    let documents = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let objects = documents.filter_map(|document| Some(document.as_object()?.clone()));
    objects
        .flat_map(|object| object.into_iter().map(|(key, _)| key))
        .collect()
}

/// Each file that was written: archives by their entries, the others by their content, metadata by its keys. The blobs
/// of a cache hang on the time of its making.
fn files(out: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (name, what) in tree(out) {
        if name.starts_with("cache/") {
            continue;
        }
        let path = out.join(&name);
        let what = match name.as_str() {
            "meta" => metadata(&path, &out.join("iid")),
            "iid" => fs::read(&path).expect("a file").len().to_string(),
            _ if path.extension().is_some_and(|kind| kind == "tar") => entries(&path),
            _ if path.is_dir() => "a folder".to_owned(),
            _ => what,
        };
        found.insert(name, what);
    }
    found
}

/// The keys of a metadata file, and whether its digest is that of the other file.
fn metadata(path: &Path, iid: &Path) -> String {
    let data: Value = serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON");
    let mut keys = Vec::new();
    paths(&data, "", &mut keys);
    keys.sort();
    keys.dedup();
    let digest = data["containerimage.digest"].as_str();
    let iid = fs::read_to_string(iid).ok();
    format!("{keys:#?} {}", iid.as_deref() == digest)
}

/// The entries of an archive. Those that hang on the time of an image's making are left out.
fn entries(path: &Path) -> String {
    let mut entries = archive(path);
    entries.retain(|name, _| !name.contains("blobs/") && !name.contains(".json"));
    format!("{entries:#?}")
}
