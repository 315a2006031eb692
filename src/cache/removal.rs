//! One tag of a cache removed, and no other.
//!
//! Most registries delete by digest only, and with the digest goes every tag that has it (distribution,
//! `registry/handlers/manifests.go`). So a tag whose manifest another tag has is first given a manifest of its own.

use bytes::Bytes;
use http::StatusCode;
use serde_json::json;

use super::descriptor::Descriptor;
use super::media::OCI_MANIFEST;
use super::referrers::{self, EMPTY, EMPTY_TYPE};
use crate::digest::Digest;
use crate::forge::{ForgeError, Packages};
use crate::registry::{BlobSource, RegistryError, Repository, UploadOptions};

/// Why a manifest is not deleted.
#[derive(Debug, thiserror::Error)]
pub enum RemovalError {
    /// The registry does not answer, or refuses.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The forge that the registry belongs to does.
    #[error(transparent)]
    Forge(#[from] ForgeError),
}

impl RemovalError {
    /// Returns whether the registry deletes nothing, or not for this login.
    pub fn deletes_nothing(&self) -> bool {
        match self {
            Self::Registry(error) => deletes_nothing(error),
            Self::Forge(_) => false,
        }
    }
}

/// Where manifests are deleted.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// Its manifests at the forge, where that deletes them and the registry does not.
    pub packages: Option<&'a dyn Packages>,
}

impl Place<'_> {
    /// Removes a tag that holds this manifest. `is_shared` is whether another tag may hold it, too.
    ///
    /// # Errors
    ///
    /// Fails if the registry or its forge refuses.
    pub async fn remove(
        self,
        tag: &str,
        digest: &Digest,
        is_shared: bool,
    ) -> Result<(), RemovalError> {
        if !is_shared {
            return self.delete(digest).await.map(drop);
        }
        if self.packages.is_none() {
            // Some registries delete a tag alone.
            match self.repository.delete_manifest(tag).await {
                Ok(_) => return Ok(()),
                Err(error) if is_refusal(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let own = replace(self.repository, tag).await?;
        self.delete(&own).await.map(drop)
    }

    /// Deletes a manifest, with all tags that it has and the signatures that refer to it. `false`: it was not there.
    ///
    /// # Errors
    ///
    /// Fails if the registry or its forge refuses.
    pub async fn delete(self, digest: &Digest) -> Result<bool, RemovalError> {
        let left_behind = referrers::left_behind(self.repository, digest).await?;
        let deleted = self.delete_alone(digest).await?;
        for signature in left_behind {
            self.delete_alone(&signature).await?;
        }
        Ok(deleted)
    }

    async fn delete_alone(self, digest: &Digest) -> Result<bool, RemovalError> {
        match self.packages {
            Some(packages) => Ok(packages.delete(digest).await?),
            None => Ok(self.repository.delete_manifest(digest.as_str()).await?),
        }
    }
}

/// Returns whether the error is that the registry deletes no manifests, or not for this login.
pub fn deletes_nothing(error: &RegistryError) -> bool {
    let refused = [
        StatusCode::METHOD_NOT_ALLOWED,
        StatusCode::UNAUTHORIZED,
        StatusCode::FORBIDDEN,
    ];
    error.has_code("UNSUPPORTED")
        || error
            .status()
            .is_some_and(|status| refused.contains(&status))
}

fn is_refusal(error: &RegistryError) -> bool {
    let status = error.status();
    deletes_nothing(error) || status == Some(StatusCode::BAD_REQUEST)
}

/// Puts an empty manifest under the tag that no other tag has, and returns its digest.
async fn replace(repository: &Repository, tag: &str) -> Result<Digest, RegistryError> {
    let config = Descriptor::of(EMPTY_TYPE, EMPTY);
    let options = UploadOptions {
        check_exists: true,
        ..UploadOptions::default()
    };
    let source = BlobSource::Bytes(Bytes::from_static(EMPTY));
    let size = EMPTY.len() as u64;
    repository
        .upload(&config.digest, size, &source, &options)
        .await?;
    let unique = rand::random::<u128>();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": EMPTY_TYPE, "digest": config.digest.as_str(), "size": size},
        "layers": [],
        "annotations": {"dev.docker-cachex.removed": format!("{unique:032x}")},
    });
    let manifest = Bytes::from(manifest.to_string());
    repository.put_manifest(tag, OCI_MANIFEST, &manifest).await
}
