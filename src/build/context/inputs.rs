//! Where a build gets its files from: context, Dockerfile and named contexts, each turned into
//! frontend attributes and the folders that the session serves.
//!
//! The attribute names are those of BuildKit's `frontend/dockerui`; which folder gets which name
//! follows buildx, because the names and the shared key decide whether BuildKit finds the files of
//! an earlier build again.

mod error;
mod folders;
mod git;
pub mod remote;

use std::collections::BTreeMap;
use std::io::{self, Seek as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bollard_buildkit_proto::pb::Definition;
use fs_err as fs;
use tempfile::TempDir;

pub use self::error::InputError;
pub use self::folders::Folders;
use self::remote::{is_http_url, is_remote_url, is_repository};
use super::stdin::Stdin;
use crate::buildkit::session::content::ContentStores;
use crate::buildkit::source::Source;
use crate::cache::layout::{Layout, LayoutError, LayoutStore};
use crate::digest::Digest;
use crate::options::context_mode::ContextMode;
use crate::options::oci_layout::LayoutRef;

/// Capability that a frontend needs for named contexts.
const CAP_CONTEXTS: &str = "moby.buildkit.frontend.contexts+forward";

/// What BuildKit calls the file that is fetched for a context.
const REMOTE_FILE: &str = "context";

/// What the user named as the build's inputs.
#[derive(Debug, Clone, Default)]
pub struct InputSpec {
    /// The context argument: a folder, a URL or `-`.
    pub context: String,
    /// The value of `--file`: a path, a URL, `-`, or nothing.
    pub dockerfile: Option<String>,
    /// The named contexts in the order given.
    pub named: Vec<(String, String)>,
    /// The working folder that relative paths start from.
    pub current_dir: PathBuf,
    /// A Git URL with a query reaches the frontend as a definition, and not as it is.
    pub git_query_as_input: bool,
    /// The folder `.git` stays in a context that is such a definition, where the user said.
    pub keep_git_dir: Option<bool>,
    /// Which permissions the files of folders have, where the user said.
    pub mode: Option<ContextMode>,
}

impl InputSpec {
    /// Returns whether BuildKit fetches the context itself. A folder of that name comes first, as in
    /// buildx: `github.com/me/app` may be a checkout.
    pub fn context_is_remote(&self) -> bool {
        is_remote_url(&self.context) && !self.current_dir.join(&self.context).is_dir()
    }

    /// Returns whether BuildKit fetches this named context itself. What is no URL may be a folder.
    /// (buildx takes `github.com/me/app` for a repository here, which no frontend knows.)
    fn named_is_remote(&self, word: &str) -> bool {
        let may_be_folder = !word.contains("://");
        is_remote_url(word) && !(may_be_folder && self.current_dir.join(word).is_dir())
    }

    fn dockerfile_url(&self) -> Option<&str> {
        self.dockerfile.as_deref().filter(|file| is_http_url(file))
    }
}

/// A Dockerfile that the builder fetches before the build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlDockerfile {
    /// Where from.
    pub url: String,
    /// Where the session serves it from.
    pub path: PathBuf,
}

/// Inputs made ready. Temporary folders live as long as this value.
#[derive(Debug, Default)]
pub struct Inputs {
    /// Attributes for the frontend.
    pub attrs: BTreeMap<String, String>,
    /// Definitions that are inputs of the frontend, by name.
    pub definitions: BTreeMap<String, Definition>,
    /// Folders that the session serves, by the name that BuildKit asks for.
    pub local_dirs: BTreeMap<String, PathBuf>,
    /// Which permissions their files have.
    pub mode: ContextMode,
    /// Key under which BuildKit keeps the context folder's files between builds.
    pub shared_key: String,
    /// A context archive that comes by standard input; the session hands it out.
    pub upload: Option<Stdin>,
    /// The Dockerfile, if it is given by URL and not there yet.
    pub url_dockerfile: Option<UrlDockerfile>,
    /// Layout folders that are contexts, by the name of their store.
    pub layouts: BTreeMap<String, Layout>,
    /// Name of the Dockerfile as the user knows it, for messages.
    pub dockerfile_name: String,
    temp_dirs: Vec<TempDir>,
}

impl Inputs {
    /// Looks at the named inputs and makes them ready; reads standard input only where it is named. `node_id` tells this
    /// machine's folders from those of other clients of a builder (the store's `.buildNodeID`).
    ///
    /// # Errors
    ///
    /// Fails if an input does not exist, cannot be read or is named twice.
    pub fn resolve(
        spec: &InputSpec,
        node_id: &str,
        stdin: impl FnOnce() -> Stdin,
    ) -> Result<Self, InputError> {
        let mut inputs = Self {
            mode: spec.mode.unwrap_or_default(),
            ..Self::default()
        };
        let mut caps = Vec::new();
        let dockerfile = spec.dockerfile.as_deref().filter(|f| !f.is_empty());
        if spec.context == "-" {
            inputs.context_from_stdin(dockerfile, stdin())?;
            inputs.dockerfile_from_url(spec)?;
        } else if spec.context_is_remote() {
            inputs.context_from_url(spec, dockerfile, stdin, &mut caps)?;
        } else {
            inputs.context_from_folder(spec, node_id, dockerfile, stdin)?;
        }
        for (name, path) in &spec.named {
            caps.push(CAP_CONTEXTS.to_owned());
            inputs.add_named(name, path, spec, node_id, &mut caps)?;
        }
        if !caps.is_empty() {
            caps.sort();
            caps.dedup();
            inputs.attrs.insert("frontend.caps".into(), caps.join(","));
        }
        Ok(inputs)
    }

    fn context_from_stdin(
        &mut self,
        dockerfile: Option<&str>,
        mut stdin: Stdin,
    ) -> Result<(), InputError> {
        if dockerfile == Some("-") {
            return Err(InputError::StdinTwice);
        }
        if stdin.is_archive().map_err(InputError::Stdin)? {
            self.upload = Some(stdin);
            let name = dockerfile.unwrap_or("Dockerfile");
            self.attrs.insert("filename".into(), name.to_owned());
            name.clone_into(&mut self.dockerfile_name);
            return Ok(());
        }
        if !stdin.is_text().map_err(InputError::Stdin)? {
            return Err(InputError::UnknownArchive);
        }
        if dockerfile.is_some() {
            return Err(InputError::AmbiguousDockerfile);
        }
        self.dockerfile_from_stdin(stdin)?;
        let empty = self.temp_dir()?;
        self.local_dirs.insert("context".into(), empty);
        Ok(())
    }

    fn context_from_url(
        &mut self,
        spec: &InputSpec,
        dockerfile: Option<&str>,
        stdin: impl FnOnce() -> Stdin,
        caps: &mut Vec<String>,
    ) -> Result<(), InputError> {
        self.attrs.insert("context".into(), spec.context.clone());
        self.git_query(&spec.context, "context", spec, caps)?;
        match dockerfile {
            Some("-") => self.dockerfile_from_stdin(stdin()),
            Some(file) if is_http_url(file) => self.dockerfile_from_url(spec),
            Some(file) if Path::new(file).is_absolute() => {
                self.attrs
                    .insert("dockerfilekey".into(), "dockerfile".into());
                self.dockerfile_from_path(Path::new(file));
                Ok(())
            }
            file => {
                let name = file.unwrap_or("Dockerfile");
                self.attrs.insert("filename".into(), name.to_owned());
                name.clone_into(&mut self.dockerfile_name);
                // It lies in the context, which the frontend does not take for granted with inputs.
                if let Some(context) = self.definitions.get("context").cloned() {
                    self.definitions.insert("dockerfile".into(), context);
                }
                Ok(())
            }
        }
    }

    fn context_from_folder(
        &mut self,
        spec: &InputSpec,
        node_id: &str,
        dockerfile: Option<&str>,
        stdin: impl FnOnce() -> Stdin,
    ) -> Result<(), InputError> {
        let folder = spec.current_dir.join(&spec.context);
        check_context_folder(&spec.context, &folder)?;
        self.shared_key = format!("{}:{node_id}", base_name(&folder));
        self.local_dirs.insert("context".into(), folder.clone());
        match dockerfile {
            Some("-") => self.dockerfile_from_stdin(stdin()),
            Some(file) if is_http_url(file) => self.dockerfile_from_url(spec),
            Some(file) => {
                self.dockerfile_from_path(&spec.current_dir.join(file));
                file.clone_into(&mut self.dockerfile_name);
                Ok(())
            }
            None => {
                self.dockerfile_from_path(&folder.join("Dockerfile"));
                let path = Path::new(&spec.context).join("Dockerfile");
                // Without the `.` of the working folder, as Go joins paths.
                let path: PathBuf = path
                    .components()
                    .filter(|part| *part != Component::CurDir)
                    .collect();
                self.dockerfile_name = path.display().to_string();
                Ok(())
            }
        }
    }

    fn dockerfile_from_path(&mut self, path: &Path) {
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        let name = base_name(path);
        let name = lower_case_dockerfile(&folder, &name).unwrap_or(name);
        self.local_dirs.insert("dockerfile".into(), folder);
        self.attrs.insert("filename".into(), name);
        self.dockerfile_name = path.display().to_string();
    }

    /// Creates a place for the Dockerfile that is fetched from its URL; nothing if it has none.
    fn dockerfile_from_url(&mut self, spec: &InputSpec) -> Result<(), InputError> {
        let Some(url) = spec.dockerfile_url() else {
            return Ok(());
        };
        self.url_dockerfile = Some(UrlDockerfile {
            url: url.to_owned(),
            path: self.dockerfile_of_its_own()?,
        });
        url.clone_into(&mut self.dockerfile_name);
        Ok(())
    }

    fn dockerfile_from_stdin(&mut self, stdin: Stdin) -> Result<(), InputError> {
        // The user may end the program while it reads: until then there is no folder that would be left.
        let mut read = tempfile::tempfile().map_err(InputError::Stdin)?;
        stdin.copy_to(&mut read).map_err(InputError::Stdin)?;
        read.rewind().map_err(InputError::Stdin)?;
        let path = self.dockerfile_of_its_own()?;
        let mut file = fs::File::create(path).map_err(InputError::Stdin)?;
        io::copy(&mut read, &mut file).map_err(InputError::Stdin)?;
        self.dockerfile_name = "stdin".into();
        Ok(())
    }

    /// Creates a folder for a Dockerfile that comes from elsewhere than the context, and returns its path.
    fn dockerfile_of_its_own(&mut self) -> Result<PathBuf, InputError> {
        let folder = self.temp_dir()?;
        let path = folder.join("Dockerfile");
        self.local_dirs.insert("dockerfile".into(), folder);
        self.attrs.insert("filename".into(), "Dockerfile".into());
        self.attrs
            .insert("dockerfilekey".into(), "dockerfile".into());
        Ok(path)
    }

    fn add_named(
        &mut self,
        name: &str,
        path: &str,
        spec: &InputSpec,
        node_id: &str,
        caps: &mut Vec<String>,
    ) -> Result<(), InputError> {
        let key = format!("context:{name}");
        let passed_on = ["docker-image://", "target:"];
        if spec.named_is_remote(path) || passed_on.iter().any(|p| path.starts_with(p)) {
            self.attrs.insert(key.clone(), path.to_owned());
            return self.git_query(path, &key, spec, caps);
        }
        if let Some(layout) = LayoutRef::parse(path).map_err(InputError::LayoutRef)? {
            let value = self.add_layout(path, &layout, &spec.current_dir)?;
            self.attrs.insert(key, value);
            return Ok(());
        }
        let folder = spec.current_dir.join(path);
        let error = |source| InputError::NamedContext {
            name: name.to_owned(),
            path: path.to_owned(),
            source,
        };
        if !fs::metadata(&folder).map_err(error)?.is_dir() {
            return Err(error(io::ErrorKind::NotADirectory.into()));
        }
        // The two names of the main inputs are taken; buildx puts an underscore before them.
        let local = match name {
            "context" | "dockerfile" => format!("_{name}"),
            _ => name.to_owned(),
        };
        self.attrs.insert(key, format!("local:{local}"));
        self.attrs.insert(
            format!("sharedkey:localdir:{name}"),
            format!("{}:{node_id}", base_name(&folder)),
        );
        self.local_dirs.insert(local, folder);
        Ok(())
    }

    /// Returns the context as BuildKit is told: a store of the session and the manifest's digest.
    fn add_layout(
        &mut self,
        text: &str,
        layout: &LayoutRef,
        current_dir: &Path,
    ) -> Result<String, InputError> {
        let folder = Layout::new(current_dir.join(&layout.path));
        let digest = manifest_of(&folder, layout).map_err(|source| InputError::Layout {
            text: text.to_owned(),
            source,
        })?;
        let store = crate::buildkit::new_id();
        let value = layout.to_store(&store, &digest);
        self.layouts.insert(store, folder);
        Ok(value)
    }

    /// Returns what makes the tree of a context that BuildKit fetches itself, as its frontends make it;
    /// `None` for any other context.
    ///
    /// # Errors
    ///
    /// Fails if the URL of a repository is wrong.
    pub(super) fn remote_context(
        &self,
        spec: &InputSpec,
    ) -> Result<Option<Definition>, InputError> {
        if let Some(given) = self.definitions.get("context") {
            return Ok(Some(given.clone()));
        }
        if !spec.context_is_remote() {
            return Ok(None);
        }
        if is_repository(&spec.context) {
            return git::definition(&spec.context).map(Some);
        }
        let load = "[internal] load remote build context";
        let source = Source::http(&spec.context, REMOTE_FILE, load);
        Ok(Some(source.unpacked(REMOTE_FILE)))
    }

    /// Offers the layout folders in the session.
    pub fn offer_layouts(&self, stores: &ContentStores) {
        for (name, folder) in &self.layouts {
            // BuildKit `client/solve.go`: the store of a layout context has this prefix.
            let store = Arc::new(LayoutStore::new(folder.clone()));
            stores.add(format!("oci:{name}"), store);
        }
    }

    fn temp_dir(&mut self) -> Result<PathBuf, InputError> {
        let dir = tempfile::Builder::new()
            .prefix("cachex-input-")
            .tempdir()
            .map_err(InputError::Stdin)?;
        let path = dir.path().to_owned();
        self.temp_dirs.push(dir);
        Ok(path)
    }
}

/// Finds the manifest that a reference stands for. A folder with only one means that one, whatever its
/// tag, as in buildx.
fn manifest_of(folder: &Layout, layout: &LayoutRef) -> Result<Digest, LayoutError> {
    if let Some(digest) = &layout.digest {
        return folder.check().map(|()| digest.clone());
    }
    match folder.manifest(layout.tag.as_deref()) {
        Err(no_tag @ LayoutError::NoTag { .. }) => folder.only()?.ok_or(no_tag),
        found => found,
    }
    .map(|manifest| manifest.digest)
}

fn check_context_folder(argument: &str, folder: &Path) -> Result<(), InputError> {
    match fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Err(InputError::ContextNotDirectory(argument.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(InputError::ContextNotFound(argument.to_owned()));
        }
        Err(source) => {
            return Err(InputError::ContextUnreadable {
                path: argument.to_owned(),
                source,
            });
        }
    }
    fs::read_dir(folder)
        .map(drop)
        .map_err(|source| InputError::ContextUnreadable {
            path: argument.to_owned(),
            source,
        })
}

/// Returns the last part of the absolute path, with `.` and `..` taken away, as Go's
/// `filepath.Base(filepath.Abs(p))`.
fn base_name(path: &Path) -> String {
    let mut parts: Vec<&std::ffi::OsStr> = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name),
            Component::ParentDir => {
                parts.pop();
            }
            _ => {}
        }
    }
    parts.last().map_or_else(
        || "/".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// A folder that holds `dockerfile` and no `Dockerfile` means the former (moby pull request 10858).
fn lower_case_dockerfile(folder: &Path, name: &str) -> Option<String> {
    if name != "Dockerfile" {
        return None;
    }
    let mut lower = None;
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let name = entry.file_name();
        if name == "Dockerfile" {
            return None;
        }
        if name == "dockerfile" {
            lower = Some("dockerfile".to_owned());
        }
    }
    lower
}

#[cfg(test)]
mod tests;
