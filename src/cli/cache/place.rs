//! Where a cache is: a reference, or a layout folder.

use std::path::Path;
use std::sync::OnceLock;

use url::Url;

use crate::cache::layout::Layout;
use crate::cache::source::{CacheSource, SourceError};
use crate::cli::Context;
use crate::cli::docker_env::docker_env;
use crate::cli::invocation::Invocation;
use crate::docker::credentials::Credential;
use crate::docker::secret::Secret;
use crate::env;
use crate::error::CommandError;
use crate::forge::github::{self, GitHubPackages};
use crate::forge::{self, Api};
use crate::options::oci_layout::{LayoutRef, PREFIX};
use crate::reference::{DEFAULT_TAG, Reference};
use crate::registry::{Access, Repository, SpoolDir};
use crate::scope::address;

/// Finds caches. All that one command finds share its registry clients.
pub(super) struct Places<'a> {
    ctx: &'a Context,
    /// Made for the first reference: a folder needs none of docker's settings.
    invocation: OnceLock<Invocation>,
}

impl<'a> Places<'a> {
    /// Finds them for a command.
    pub(super) fn new(ctx: &'a Context) -> Self {
        Self {
            ctx,
            invocation: OnceLock::new(),
        }
    }

    /// Finds a cache by what the user named. Nothing is read.
    ///
    /// A folder is a text that begins with `oci-layout://`, `/`, `./` or `../`; all else is a reference.
    ///
    /// # Errors
    ///
    /// Fails if the text is neither, or docker's configuration is broken.
    pub(super) fn find(&self, text: &str, insecure: bool) -> Result<CacheSource, CommandError> {
        if let Some(layout) = layout(text)? {
            return Ok(CacheSource::Layout {
                layout: Layout::new(self.ctx.env.current_dir().join(&layout.path)),
                tag: layout.tag,
                digest: layout.digest,
            });
        }
        let reference = Reference::parse_normalized(text).map_err(CommandError::failed)?;
        let tag = reference.tag.as_deref().unwrap_or(DEFAULT_TAG);
        let named = reference.digest.as_deref().unwrap_or(tag);
        Ok(CacheSource::Registry {
            repository: self.repository(&reference, insecure, Access::Pull)?,
            reference: named.to_owned(),
        })
    }

    /// Finds the repository and the tag that a cache is written to. Nothing is sent.
    ///
    /// # Errors
    ///
    /// Fails if the text is not a reference with at most a tag, or docker's configuration is broken.
    pub(super) fn destination(
        &self,
        text: &str,
        insecure: bool,
    ) -> Result<(Repository, String), CommandError> {
        if layout(text)?.is_some() {
            let error =
                format!("{text} is a folder; a cache is written to a reference of a registry");
            return Err(CommandError::failed(error));
        }
        let reference = Reference::parse_normalized(text).map_err(CommandError::failed)?;
        if reference.digest.is_some() {
            let error = format!("a cache cannot be written to a digest ({text}), name a tag");
            return Err(CommandError::failed(error));
        }
        let repository = self.repository(&reference, insecure, Access::Push)?;
        Ok((
            repository,
            reference.tag.unwrap_or_else(|| DEFAULT_TAG.to_owned()),
        ))
    }

    /// Finds a repository as a whole, to look at its tags and to remove some. Nothing is sent.
    ///
    /// # Errors
    ///
    /// Fails if the text is no repository, or has a tag, or docker's configuration is broken.
    pub(super) fn whole(&self, text: &str, insecure: bool) -> Result<Repository, CommandError> {
        // As `--cache` takes it.
        let lower = text.to_ascii_lowercase();
        let reference = Reference::parse_normalized(&lower).map_err(CommandError::failed)?;
        if reference.tag.is_some() || reference.digest.is_some() {
            let error = format!("{text} names one cache; name the repository, without a tag");
            return Err(CommandError::failed(error));
        }
        self.repository(&reference, insecure, Access::Delete)
    }

    /// Finds one cache that is to be removed: its repository and its tag. Nothing is sent.
    ///
    /// # Errors
    ///
    /// Fails if the text is not a reference with a tag, or docker's configuration is broken.
    pub(super) fn tagged(
        &self,
        text: &str,
        insecure: bool,
    ) -> Result<(Repository, String), CommandError> {
        let reference = Reference::parse_normalized(text).map_err(CommandError::failed)?;
        let (Some(tag), None) = (&reference.tag, &reference.digest) else {
            let error = format!("{text} names no tag; what is removed is named by its tag");
            return Err(CommandError::failed(error));
        };
        let tag = tag.clone();
        Ok((self.repository(&reference, insecure, Access::Delete)?, tag))
    }

    /// Returns what the forge of a repository deletes, where the registry deletes nothing: for GHCR, with the password of its
    /// login.
    ///
    /// # Errors
    ///
    /// Fails if docker's configuration is broken.
    pub(super) async fn packages(
        &self,
        repository: &Repository,
    ) -> Result<Option<GitHubPackages>, CommandError> {
        if repository.client().host() != github::REGISTRY {
            return Ok(None);
        }
        let invocation = self.invocation()?;
        let login = invocation.tokens.credential(github::REGISTRY, &[]).await;
        let login = login.map_err(CommandError::failed)?;
        let Credential::Basic { password, .. } = login else {
            return Ok(None);
        };
        let api = self.api(password)?;
        Ok(GitHubPackages::new(api, repository.name()))
    }

    /// Returns the API of the forge that has a Git repository at a host, with the token that the environment has for it.
    /// `None` where there is no token, or the API of that host is not known: no other one gets the token.
    ///
    /// # Errors
    ///
    /// Fails if the URL of the API is none, or docker's configuration is broken.
    pub(super) fn forge(&self, host: &str) -> Result<Option<Api>, CommandError> {
        let env = &self.ctx.env;
        let server = env.non_empty(env::GITHUB_SERVER_URL);
        let server = server.unwrap_or("https://github.com");
        let is_there = address(&format!("{server}/x")).is_some_and(|(server, _)| server == host);
        let mut tokens = env::GITHUB_TOKENS.into_iter();
        match tokens.find_map(|name| env.non_empty(name)) {
            Some(token) if is_there => Ok(Some(self.api(Secret::new(token))?)),
            _ => Ok(None),
        }
    }

    fn api(&self, token: Secret) -> Result<Api, CommandError> {
        let url = self.ctx.env.non_empty(env::GITHUB_API_URL);
        let url = Url::parse(url.unwrap_or(forge::API)).map_err(|error| {
            CommandError::failed(format!("invalid {}: {error}", env::GITHUB_API_URL))
        })?;
        let host = url.host_str().unwrap_or_default();
        let http = self.invocation()?.registries.web(host);
        Ok(Api::new(http.map_err(CommandError::failed)?, url, token))
    }

    /// Returns where spool files are.
    ///
    /// # Errors
    ///
    /// Fails if docker's configuration is broken.
    pub(super) fn spool(&self) -> Result<SpoolDir, CommandError> {
        Ok(self.invocation()?.spool.clone())
    }

    fn repository(
        &self,
        reference: &Reference,
        insecure: bool,
        access: Access,
    ) -> Result<Repository, CommandError> {
        self.invocation()?
            .registries
            .repository(reference, insecure, access)
            .map_err(CommandError::failed)
    }

    fn invocation(&self) -> Result<&Invocation, CommandError> {
        if let Some(invocation) = self.invocation.get() {
            return Ok(invocation);
        }
        let docker_env = docker_env(self.ctx)?;
        let invocation = Invocation::new(&docker_env, self.ctx);
        Ok(self.invocation.get_or_init(|| invocation))
    }
}

fn layout(text: &str) -> Result<Option<LayoutRef>, CommandError> {
    let is_path = ["/", "./", "../"]
        .iter()
        .any(|prefix| text.starts_with(prefix));
    if text.starts_with(PREFIX) {
        LayoutRef::parse(text).map_err(CommandError::failed)
    } else if is_path || text == "." || text == ".." {
        let layout = LayoutRef::parse_path(text).map_err(CommandError::failed)?;
        Ok(Some(layout))
    } else {
        Ok(None)
    }
}

/// Turns a failure into the command's error.
pub(super) fn failure(text: &str, error: &SourceError, ctx: &Context) -> CommandError {
    let hint = match error {
        SourceError::Registry(error) => error.hint().map(str::to_owned),
        SourceError::NotFound if is_folder_without_dot(text, ctx.env.current_dir()) => {
            Some(format!("for the folder write ./{text}"))
        }
        SourceError::NoCache(_) => {
            Some("an image has a cache only where it was built with --cache-to type=inline".into())
        }
        _ => None,
    };
    let message = format!("cache {text}: {}", crate::error::chain(error));
    let failed = CommandError::failed(message);
    match hint {
        Some(hint) => failed.hint(hint),
        None => failed,
    }
}

/// Returns whether a text that was taken for a reference is the name of a folder as well.
fn is_folder_without_dot(text: &str, current_dir: &Path) -> bool {
    matches!(layout(text), Ok(None)) && current_dir.join(text).is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_names_only_what_is_not_a_folder_already() {
        let dir = tempfile::tempdir().unwrap();
        fs_err::create_dir(dir.path().join("a")).unwrap();
        assert!(is_folder_without_dot("a", dir.path()));
        for text in ["/tmp", "./a", "oci-layout://a", "b"] {
            assert!(!is_folder_without_dot(text, dir.path()), "{text}");
        }
    }

    #[test]
    fn folders_are_told_from_references() {
        for text in ["/a/b", "./a", "../a:t", ".", "oci-layout://a"] {
            assert!(layout(text).unwrap().is_some(), "{text}");
        }
        for text in ["a", "r.io/a:c", "localhost:5000/a/b"] {
            assert!(layout(text).unwrap().is_none(), "{text}");
        }
        let found = layout("./a/b:t").unwrap().unwrap();
        assert_eq!(
            (found.path.as_str(), found.tag.as_deref()),
            ("./a/b", Some("t"))
        );
    }
}
