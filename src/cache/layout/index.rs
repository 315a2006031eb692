//! `index.json` of a layout folder: which manifest a tag stands for.
//!
//! BuildKit's client (`client/ociindex`) locks `index.json.lock` for every access, and gives up at
//! once where it is locked; so the lock is held for as short as can be.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use fs_err as fs;
use serde_json::{Map, Value, json};

use super::{Layout, LayoutError};
use crate::cache::descriptor::Descriptor;
use crate::cache::media::OCI_INDEX;
use crate::output_file::{Devices, Place};
use crate::platform::files;
use crate::reference::DEFAULT_TAG;

const INDEX: &str = "index.json";
/// Marks the folder as a layout (OCI image layout specification).
const LAYOUT_FILE: &str = "oci-layout";
const LAYOUT_TEXT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
/// Annotation of an entry: the tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation of an entry: the whole name of an image (containerd).
const IMAGE_NAME: &str = "io.containerd.image.name";
/// How long another program's lock is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(10);
const LOCK_PAUSE: Duration = Duration::from_millis(20);

impl Layout {
    fn index_path(&self) -> PathBuf {
        self.root.join(INDEX)
    }

    /// Returns the manifest that a tag stands for, `None` if there is none or no index.
    ///
    /// # Errors
    ///
    /// Fails if the index cannot be read.
    pub fn tagged(&self, tag: &str) -> Result<Option<Descriptor>, LayoutError> {
        let entries = self.entries()?;
        let named = |key: &str| {
            entries
                .iter()
                .find(|entry| entry.annotation(key) == Some(tag))
        };
        Ok(named(IMAGE_NAME).or_else(|| named(REF_NAME)).cloned())
    }

    /// Returns the manifest that a tag stands for. Without a tag that is `latest`, or else the only
    /// manifest of the folder.
    ///
    /// # Errors
    ///
    /// Fails with [`LayoutError::NoTag`] if there is no such manifest, and if the folder is missing, is
    /// no layout or cannot be read.
    pub fn manifest(&self, tag: Option<&str>) -> Result<Descriptor, LayoutError> {
        self.check()?;
        let wanted = tag.unwrap_or(DEFAULT_TAG);
        if let Some(found) = self.tagged(wanted)? {
            return Ok(found);
        }
        if tag.is_none()
            && let Some(only) = self.only()?
        {
            return Ok(only);
        }
        let entries = self.entries()?;
        let name = |entry: &Descriptor| {
            let name = entry.annotation(IMAGE_NAME);
            name.or_else(|| entry.annotation(REF_NAME))
                .map(str::to_owned)
        };
        Err(LayoutError::NoTag {
            tag: wanted.to_owned(),
            tags: entries.iter().filter_map(name).collect(),
        })
    }

    /// Returns the manifest of a folder that has only one.
    ///
    /// # Errors
    ///
    /// Fails if the index cannot be read.
    pub fn only(&self) -> Result<Option<Descriptor>, LayoutError> {
        let mut entries = self.entries()?.into_iter();
        let first = entries.next();
        Ok(first.filter(|_| entries.next().is_none()))
    }

    /// Checks that there is a layout folder.
    ///
    /// # Errors
    ///
    /// Fails if there is none.
    pub fn check(&self) -> Result<(), LayoutError> {
        if self.is_file() {
            return Err(LayoutError::NotFolder(self.root.clone()));
        }
        if !self.root.is_dir() {
            return Err(LayoutError::NoFolder(self.root.clone()));
        }
        if !self.index_path().exists() {
            return Err(LayoutError::NoIndex(self.root.clone()));
        }
        Ok(())
    }

    /// Returns the entries of the index; `None` if there is no index.
    ///
    /// # Errors
    ///
    /// Fails if the index cannot be read.
    pub fn entries(&self) -> Result<Vec<Descriptor>, LayoutError> {
        let Some(mut index) = self.read_index()? else {
            return Ok(Vec::new());
        };
        let manifests = index.remove("manifests").filter(|value| !value.is_null());
        let entries = manifests.map(serde_json::from_value).transpose();
        Ok(entries
            .map_err(|error| self.invalid(error))?
            .unwrap_or_default())
    }

    /// An index is replaced as a whole, so it is read without the lock. BuildKit's client writes in
    /// place: text that is not an index may be one a moment later.
    fn read_index(&self) -> Result<Option<Map<String, Value>>, LayoutError> {
        for last in [false, false, true] {
            let bytes = match fs::read(self.index_path()) {
                Ok(bytes) if bytes.is_empty() => return Ok(None),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            match serde_json::from_slice(&bytes) {
                Ok(index) => return Ok(Some(index)),
                Err(error) if last => return Err(self.invalid(error)),
                Err(_) => sleep(LOCK_PAUSE),
            }
        }
        Ok(None)
    }

    fn invalid(&self, source: serde_json::Error) -> LayoutError {
        LayoutError::Index {
            path: self.index_path(),
            source,
        }
    }

    /// Points a tag to a manifest whose blobs are in the folder. All other entries stay.
    ///
    /// # Errors
    ///
    /// Fails if the index cannot be locked, read or written; it is then as it was.
    pub fn tag(&self, manifest: &Descriptor, tag: &str) -> Result<(), LayoutError> {
        self.put(manifest, &[EntryName::tag(tag)])
    }

    /// Enters a manifest whose blobs are in the folder under each of these names. Entries of other names
    /// stay.
    ///
    /// # Errors
    ///
    /// Fails if the index cannot be locked, read or written; it is then as it was.
    pub fn put(&self, manifest: &Descriptor, names: &[EntryName<'_>]) -> Result<(), LayoutError> {
        let _lock = self.lock()?;
        let mut index = self.read_index()?.unwrap_or_default();
        let entry = |key: &str, value: Value, index: &mut Map<String, Value>| {
            if index.get(key).is_none_or(is_unset) {
                index.insert(key.to_owned(), value);
            }
        };
        entry("schemaVersion", json!(2), &mut index);
        entry("mediaType", json!(OCI_INDEX), &mut index);
        entry("manifests", json!([]), &mut index);
        let Some(Value::Array(entries)) = index.get_mut("manifests") else {
            return Err(self.invalid(serde::de::Error::custom("manifests is not a list")));
        };
        for name in names {
            let manifest = serde_json::to_value(name.annotate(manifest));
            entries.retain(|entry| !name.is_of(entry));
            entries.push(manifest.map_err(|error| self.invalid(error))?);
        }
        let text = serde_json::to_vec(&index).map_err(|error| self.invalid(error))?;
        self.replace(LAYOUT_FILE, LAYOUT_TEXT.as_bytes())?;
        self.replace(INDEX, &text)?;
        Ok(())
    }

    /// Replaces a file as a whole; a link to it stays.
    fn replace(&self, name: &str, data: &[u8]) -> io::Result<()> {
        let mut file = Place::find(&self.root.join(name), Devices::Refused)?.open()?;
        file.write_all(data)?;
        file.sync_all()?;
        file.publish()
    }

    /// Locks the index against this and other programs.
    pub(super) fn lock(&self) -> Result<IndexLock, LayoutError> {
        let path = self.root.join(format!("{INDEX}.lock"));
        let end = Instant::now() + LOCK_WAIT;
        loop {
            match try_lock(&path)? {
                Some(file) => return Ok(IndexLock { path, _file: file }),
                None if Instant::now() >= end => return Err(LayoutError::Locked(path)),
                None => sleep(LOCK_PAUSE),
            }
        }
    }
}

/// Go leaves out what is not set, or writes its zero.
fn is_unset(value: &Value) -> bool {
    value.is_null() || value == &json!(0) || value == &json!("")
}

/// The name of an entry of the index (BuildKit `client/ociindex`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryName<'a> {
    /// The whole name of an image; empty for an entry that has only a tag.
    image: &'a str,
    /// The tag.
    tag: &'a str,
}

impl<'a> EntryName<'a> {
    /// Names an entry by a tag alone.
    pub fn tag(tag: &'a str) -> Self {
        Self { image: "", tag }
    }

    /// Names an entry by an image. Its tag is what follows the repository, as in containerd; a name
    /// without a registry is taken as a whole.
    pub fn image(image: &'a str) -> Self {
        let Some(slash) = image.find('/') else {
            return Self { image, tag: image };
        };
        let path = image.get(slash..).unwrap_or_default();
        let tag = path.find([':', '@']).and_then(|at| path.get(at..));
        let tag = tag.unwrap_or_default();
        Self {
            image,
            tag: tag.strip_prefix(':').unwrap_or(tag),
        }
    }

    fn annotate(self, manifest: &Descriptor) -> Descriptor {
        let mut manifest = manifest.clone();
        let annotations = &mut manifest.annotations;
        annotations.insert(REF_NAME.to_owned(), json!(self.tag));
        if !self.image.is_empty() {
            annotations.insert(IMAGE_NAME.to_owned(), json!(self.image));
        }
        manifest
    }

    fn is_of(self, entry: &Value) -> bool {
        let annotation = |key: &str| {
            let value = entry.get("annotations").and_then(|all| all.get(key));
            value.and_then(Value::as_str).unwrap_or_default()
        };
        annotation(REF_NAME) == self.tag && annotation(IMAGE_NAME) == self.image
    }
}

/// The lock of an index. Like BuildKit's client it removes the file when it lets go.
#[derive(Debug)]
pub(super) struct IndexLock {
    path: PathBuf,
    _file: fs::File,
}

impl Drop for IndexLock {
    fn drop(&mut self) {
        // Whoever waits for the file finds that it is no longer the one of this name.
        drop(fs::remove_file(&self.path));
    }
}

/// Locks the file as BuildKit does.
fn try_lock(path: &Path) -> io::Result<Option<fs::File>> {
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    if !files::try_flock(&file)? {
        return Ok(None);
    }
    // The file may have been removed by its last holder since it was opened.
    let ours = files::identity(&file.metadata()?);
    let named = fs::metadata(path).map(|found| files::identity(&found));
    Ok(named.is_ok_and(|named| named == ours).then_some(file))
}
