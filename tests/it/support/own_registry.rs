//! A real registry of one test, which may be killed and whose files may be damaged.

use std::collections::BTreeSet;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use fs_err as fs;
use serde_json::Value;
use tempfile::TempDir;

use super::registry::Registry;
use super::rig::Rig;

/// A registry of its own with a folder that outlives it.
#[derive(Debug)]
pub(crate) struct OwnRegistry {
    /// `host:port`.
    pub(crate) host: String,
    folder: TempDir,
    child: Option<Child>,
}

impl OwnRegistry {
    /// Chooses a port. It does not run yet.
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a port")
            .port();
        let host = format!("127.0.0.1:{port}");
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}/data}}, delete: {{enabled: true}}}}\nhttp: {{addr: \"{host}\"}}\n",
            folder.path().display()
        );
        fs::write(folder.path().join("config.yml"), config).expect("a file");
        let child = None;
        Self {
            host,
            folder,
            child,
        }
    }

    /// Starts it, once more after [`kill`](Self::kill).
    pub(crate) fn start(&mut self) {
        let child = Command::new(Rig::get().tool("docker-registry"))
            .arg("serve")
            .arg(self.folder.path().join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the registry");
        self.child = Some(child);
        let end = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(&self.host).is_err() {
            assert!(Instant::now() < end, "the registry does not listen");
            sleep(Duration::from_millis(20));
        }
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _gone = child.kill();
            let _status = child.wait();
        }
    }

    /// Removes what no manifest with a tag needs. It must not run.
    pub(crate) fn collect_garbage(&self) {
        self.collect(&["--delete-untagged"]);
    }

    /// Removes what no manifest needs, with a tag or without. It must not run.
    pub(crate) fn collect_deleted(&self) {
        self.collect(&[]);
    }

    fn collect(&self, flags: &[&str]) {
        let collected = Command::new(Rig::get().tool("docker-registry"))
            .arg("garbage-collect")
            .args(flags)
            .arg(self.folder.path().join("config.yml"))
            .output()
            .expect("the registry");
        assert!(collected.status.success(), "{collected:?}");
    }

    /// Bytes in files of uploads that are not done.
    pub(crate) fn uploading(&self) -> u64 {
        fn sum(folder: &Path) -> u64 {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries
                .map(|entry| match entry.metadata() {
                    Ok(meta) if meta.is_dir() => sum(&entry.path()),
                    Ok(meta) if entry.path().to_string_lossy().contains("/_uploads/") => meta.len(),
                    _ => 0,
                })
                .sum()
        }
        sum(self.folder.path())
    }
}

impl OwnRegistry {
    /// The digests of all blobs, manifests among them.
    pub(crate) fn blobs(&self) -> BTreeSet<String> {
        let all = self
            .folder
            .path()
            .join("data/docker/registry/v2/blobs/sha256");
        let folders = |of: &Path| fs::read_dir(of).into_iter().flatten().flatten();
        let blobs = folders(&all).flat_map(|prefix| folders(&prefix.path()));
        let blobs = blobs.filter(|blob| blob.path().join("data").exists());
        blobs
            .map(|blob| format!("sha256:{}", blob.file_name().to_string_lossy()))
            .collect()
    }

    /// The file that holds the content of a blob.
    pub(crate) fn data(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").expect("a digest");
        let blobs = self
            .folder
            .path()
            .join("data/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }
}

impl OwnRegistry {
    /// The layers of a cache from the lowest to the highest; the base image's is the first.
    pub(crate) fn layers(&self, repository: &str, tag: &str) -> Vec<String> {
        let client = Registry::new(&self.host);
        let manifest = client.manifest(repository, tag).expect("a cache");
        let config = client.config(repository, &manifest);
        let all = config["layers"].as_array().expect("layers");
        let mut sorted: Vec<&Value> = all.iter().collect();
        sorted.sort_by_key(|layer| depth(all, layer));
        let blobs = sorted.into_iter().map(|layer| layer["blob"].as_str());
        blobs.map(|blob| blob.expect("a blob").to_owned()).collect()
    }
}

/// How many layers lie below one.
fn depth<'a>(all: &'a [Value], mut layer: &'a Value) -> usize {
    let mut depth = 0;
    while let Ok(parent) = usize::try_from(layer["parent"].as_i64().unwrap_or(0)) {
        depth += 1;
        layer = &all[parent];
    }
    depth
}

impl Drop for OwnRegistry {
    fn drop(&mut self) {
        self.kill();
    }
}
