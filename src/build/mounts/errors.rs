//! Why a mount is not saved, and why one is not restored.

use thiserror::Error;

use super::script;
use crate::buildkit::RpcError;
use crate::buildkit::container::{NO_SHELL, Process};
use crate::cache::extras::mounts::MountError;
use crate::mounts::index::IndexError;
use crate::mounts::pack::PackError;
use crate::registry::RegistryError;

/// Why a mount is not saved.
#[derive(Debug, Error)]
pub(super) enum SaveError {
    #[error("another build uses it now")]
    InUse,
    #[error("it begins with the result of a step, which a fresh builder does not have")]
    NeedsSteps,
    #[error(
        "no step that uses it has a base image, whose tar would carry it; mounts-helper= names an image that has one"
    )]
    NoImage,
    #[error("its base image has no shell or no tar; mounts-helper= names an image that has both")]
    NoTar,
    #[error("it was half restored when that was broken off; it has been emptied")]
    Half,
    #[error("tar ended with code {0}: {1}")]
    Tar(u32, String),
    #[error(transparent)]
    Builder(RpcError),
    #[error(transparent)]
    Pack(#[from] PackError),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("the thread that packs it ended")]
    Thread,
}

/// Why a mount is not restored.
#[derive(Debug, Error)]
pub(super) enum RestoreError {
    #[error("another build uses it now")]
    InUse,
    #[error(
        "no step that uses it has a base image, whose tar would carry it; mounts-helper= names an image that has one"
    )]
    NoImage,
    #[error("it begins with the result of a step, which has not run yet")]
    NeedsSteps,
    #[error("its base image has no shell or no tar; mounts-helper= names an image that has both")]
    NoTar,
    #[error("tar ended with code {0}: {1}")]
    Tar(u32, String),
    #[error("a step of another build has used it meanwhile")]
    Overtaken,
    #[error("tar said what nobody expects")]
    Odd,
    #[error(transparent)]
    Builder(RpcError),
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error("its files cannot be had")]
    Files(#[source] std::io::Error),
    #[error("the thread that unpacks it ended")]
    Thread,
}

impl SaveError {
    /// Of a script that ended with this code.
    pub(super) fn ended(code: u32, process: &Process) -> Self {
        match code {
            script::NO_TAR => Self::NoTar,
            script::HALF => Self::Half,
            code => Self::Tar(code, process.errors()),
        }
    }
}

impl RestoreError {
    /// Of a script that ended with this code.
    pub(super) fn ended(code: u32, process: &Process) -> Self {
        match code {
            script::OVERTAKEN => Self::Overtaken,
            code => Self::Tar(code, process.errors()),
        }
    }
}

impl From<RpcError> for SaveError {
    fn from(error: RpcError) -> Self {
        if lacks_shell(&error) {
            return Self::NoTar;
        }
        Self::Builder(error)
    }
}

impl From<RpcError> for RestoreError {
    fn from(error: RpcError) -> Self {
        if lacks_shell(&error) {
            return Self::NoTar;
        }
        Self::Builder(error)
    }
}

/// Returns whether an error says that the image of a container has no shell.
fn lacks_shell(error: &RpcError) -> bool {
    crate::error::chain(error).contains(NO_SHELL)
}

#[cfg(test)]
mod tests {
    use tonic::Status;

    use super::*;

    #[test]
    fn an_image_without_a_shell_is_one_without_tar() {
        let error = || RpcError::from(Status::not_found(format!("no container: {NO_SHELL}")));
        assert!(matches!(SaveError::from(error()), SaveError::NoTar));
        assert!(matches!(RestoreError::from(error()), RestoreError::NoTar));
        let other = || RpcError::from(Status::unavailable("gone"));
        assert!(matches!(SaveError::from(other()), SaveError::Builder(_)));
        assert!(matches!(
            RestoreError::from(other()),
            RestoreError::Builder(_)
        ));
    }
}
