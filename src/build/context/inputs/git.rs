//! Git URLs with a query: `https://example.com/app.git?branch=main&subdir=docker`.
//!
//! A frontend must know the query, which is asked of it as a capability; older ones do not. With
//! `BUILDX_SEND_GIT_QUERY_AS_INPUT` the repository reaches the frontend as a definition instead, made here
//! (BuildKit `frontend/dockerfile/dfgitutil`, `client/llb`).

use std::borrow::Cow;
use std::collections::BTreeMap;

use bollard_buildkit_proto::pb::Definition;
use percent_encoding::percent_decode_str;
use url::Url;

use super::remote::{GITHUB, is_git_ssh, is_git_url};
use super::{InputError, InputSpec, Inputs};
use crate::buildkit::source::Source;
use crate::options::boolean::parse_bool;

/// Capability that a frontend needs for Git URLs with a query.
pub(super) const CAP_GIT_QUERY: &str = "moby.buildkit.frontend.gitquerystring";
/// The agent of the session that Git gets for SSH.
const SSH_AGENT: &str = "default";
/// Attribute of the main context.
const CONTEXT: &str = "context";

/// A Git repository and what is wanted of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Repository {
    /// The URL for Git, without query and fragment.
    remote: String,
    /// Host and path, which are the same for all protocols.
    place: String,
    revision: String,
    folder: String,
    checksum: Option<String>,
    keep_git_dir: bool,
    without_submodules: bool,
    modified: Option<String>,
    fetch_by_commit: bool,
    by_ssh: bool,
}

/// Returns the definition of a step that fetches the repository of a Git URL.
pub(super) fn definition(url: &str) -> Result<Definition, InputError> {
    Ok(repository(url)?.definition(url))
}

fn repository(url: &str) -> Result<Repository, InputError> {
    Repository::parse(url).map_err(|why| InputError::GitQuery {
        url: url.to_owned(),
        why,
    })
}

impl Inputs {
    /// Sees to a Git URL with a query, which is the value of the attribute `key`. SSH stays with the
    /// builder, which looks for the host's key.
    pub(super) fn git_query(
        &mut self,
        url: &str,
        key: &str,
        spec: &InputSpec,
        caps: &mut Vec<String>,
    ) -> Result<(), InputError> {
        let (base, _) = url.split_once('#').unwrap_or((url, ""));
        if !is_git_url(url) || !base.contains('?') {
            return Ok(());
        }
        let is_context = key == CONTEXT;
        if !spec.git_query_as_input || is_git_ssh(url) {
            let forward = if is_context { "" } else { "+forward" };
            caps.push(format!("{CAP_GIT_QUERY}{forward}"));
            return Ok(());
        }
        let mut repository = repository(url)?;
        repository.keep_git_dir |= is_context && spec.keep_git_dir == Some(true);
        let input = if is_context {
            self.attrs.remove(key);
            key.to_owned()
        } else {
            let input = format!("git_state_{key}");
            self.attrs.insert(key.to_owned(), format!("input:{input}"));
            input
        };
        self.attrs.insert(format!("input:{key}"), url.to_owned());
        self.definitions.insert(input, repository.definition(url));
        Ok(())
    }
}

impl Repository {
    fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(&with_scheme(text)).map_err(|error| error.to_string())?;
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let port = url.port().map(|port| format!(":{port}"));
        let fragment = decoded(url.fragment().unwrap_or_default());
        let (revision, folder) = fragment.split_once(':').unwrap_or((&fragment, ""));
        let mut repository = Self {
            place: format!(
                "{}{}{}",
                url.host_str().unwrap_or_default(),
                port.unwrap_or_default(),
                cleaned(&decoded(url.path()))
            ),
            revision: revision.to_owned(),
            folder: cleaned(folder).trim_start_matches('/').to_owned(),
            ..Self::default()
        };
        repository.take_query(&url)?;
        let mut remote = url;
        remote.set_query(None);
        remote.set_fragment(None);
        repository.remote = remote.into();
        repository.by_ssh = is_git_ssh(text);
        if repository.by_ssh && !text.contains("://") {
            let remote = text.split(['?', '#']).next();
            remote.unwrap_or(text).clone_into(&mut repository.remote);
        }
        Ok(repository)
    }

    fn take_query(&mut self, url: &Url) -> Result<(), String> {
        let mut pairs = BTreeMap::new();
        for (key, value) in url.query_pairs() {
            if pairs.insert(key.clone(), value).is_some() {
                return Err(format!("query {key:?} has multiple values"));
            }
        }
        let mut names = Vec::new();
        for (key, value) in &pairs {
            let value = match (key.as_ref(), value.as_ref()) {
                ("submodules" | "keep-git-dir" | "fetch-by-commit", "") => "true",
                (_, "") => return Err(format!("query {key:?} has no value")),
                (_, value) => value,
            };
            let flag =
                || parse_bool(value).ok_or_else(|| format!("invalid {key} value: {value:?}"));
            match key.as_ref() {
                "ref" => names.push(value.to_owned()),
                "tag" => names.push(within("refs/tags/", value)),
                "branch" => names.push(within("refs/heads/", value)),
                "subdir" => only(&mut self.folder, value, "subdir")?,
                "checksum" | "commit" => self.checksum = Some(value.to_owned()),
                "keep-git-dir" => self.keep_git_dir = flag()?,
                "submodules" => self.without_submodules = !flag()?,
                "fetch-by-commit" => self.fetch_by_commit = flag()?,
                "mtime" if matches!(value, "checkout" | "commit") => {
                    self.modified = Some(value.to_owned());
                }
                "mtime" => {
                    return Err(format!(
                        "invalid mtime value: {value:?} (must be \"checkout\" or \"commit\")"
                    ));
                }
                _ => return Err(format!("unexpected query {key:?}")),
            }
        }
        names
            .iter()
            .try_for_each(|name| only(&mut self.revision, name, "ref"))
    }

    /// The definition of a step that fetches the repository. `shown` is its URL for the user.
    fn definition(&self, shown: &str) -> Definition {
        let mut identifier = format!("git://{}", self.place);
        if !self.revision.is_empty() || !self.folder.is_empty() {
            identifier.push('#');
            identifier.push_str(&self.revision);
        }
        if !self.folder.is_empty() {
            identifier.push(':');
            identifier.push_str(&self.folder);
        }
        let (attrs, caps) = self.attributes();
        Source {
            identifier,
            attrs,
            caps,
            name: format!("[internal] load git source {shown}"),
        }
        .definition()
    }

    /// The attributes of the step and the capabilities that they need.
    fn attributes(&self) -> (BTreeMap<String, String>, Vec<String>) {
        let mut caps = vec!["source.git".to_owned(), "source.git.fullurl".to_owned()];
        let mut attrs = BTreeMap::from([
            ("git.fullurl".to_owned(), self.remote.clone()),
            (
                "git.authheadersecret".to_owned(),
                "GIT_AUTH_HEADER".to_owned(),
            ),
            (
                "git.authtokensecret".to_owned(),
                "GIT_AUTH_TOKEN".to_owned(),
            ),
        ]);
        let yes = |on: bool| on.then(|| "true".to_owned());
        for (name, value) in [
            ("keepgitdir", yes(self.keep_git_dir)),
            ("checksum", self.checksum.clone()),
            ("skipsubmodules", yes(self.without_submodules)),
            ("mtime", self.modified.clone()),
            ("fetchbycommit", yes(self.fetch_by_commit)),
            ("mountsshsock", self.by_ssh.then(|| SSH_AGENT.to_owned())),
        ] {
            if let Some(value) = value {
                attrs.insert(format!("git.{name}"), value);
                caps.push(format!("source.git.{name}"));
            }
        }
        (attrs, caps)
    }
}

/// Writes the two short forms of a Git URL as a URL: `github.com/…`, and `user@host:path`.
fn with_scheme(text: &str) -> Cow<'_, str> {
    if text.starts_with(GITHUB) {
        return format!("https://{text}").into();
    }
    match text.split_once(':') {
        Some((host, path)) if is_git_ssh(text) && !text.contains("://") => {
            format!("ssh://{host}/{}", path.trim_start_matches('/')).into()
        }
        _ => text.into(),
    }
}

/// Sets what was not set to another value before.
fn only(field: &mut String, value: &str, what: &str) -> Result<(), String> {
    if !field.is_empty() && field != value {
        return Err(format!("{what} conflicts: {field:?} vs {value:?}"));
    }
    value.clone_into(field);
    Ok(())
}

fn within(prefix: &str, name: &str) -> String {
    if name.starts_with(prefix) {
        name.to_owned()
    } else {
        format!("{prefix}{name}")
    }
}

/// An absolute path without `.`, `..` and empty parts.
fn cleaned(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests;
