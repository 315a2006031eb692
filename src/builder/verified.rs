//! Images whose signature buildx can be told to check (`BUILDX_DEFAULT_POLICY`).

use super::driver::container::Container;
use super::error::BuilderError;
use crate::env::BUILDX_DEFAULT_POLICY;
use crate::options::boolean::parse_bool;
use crate::reference::{DEFAULT_DOMAIN, Reference};

/// The repository whose images are signed.
const SIGNED: &str = "moby/buildkit";

/// Refuses to make a container of an image that would have to be checked first.
///
/// # Errors
///
/// Fails with [`BuilderError::Unverified`].
pub(super) fn refuse_unverified(container: &Container) -> Result<(), BuilderError> {
    let options = container.options();
    let policy = container.docker_env().env().get(BUILDX_DEFAULT_POLICY);
    let is_wanted = policy.and_then(parse_bool) == Some(true);
    if !is_wanted || options.allow_untrusted_image || !is_checked(&options.image) {
        return Ok(());
    }
    Err(BuilderError::Unverified {
        image: options.image.clone(),
    })
}

/// An image that is named by its digest alone cannot be another one.
fn is_checked(image: &str) -> bool {
    Reference::parse_normalized(image).is_ok_and(|image| {
        let is_pinned = image.digest.is_some() && image.tag.is_none();
        image.domain == DEFAULT_DOMAIN && image.path == SIGNED && !is_pinned
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_buildkit_are_checked_but_for_a_digest_alone() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for image in [
            "moby/buildkit",
            "docker.io/moby/buildkit:v0.30.0",
            &format!("moby/buildkit:v1@{digest}"),
        ] {
            assert!(is_checked(image), "{image}");
        }
        for image in [
            "127.0.0.1:5000/moby/buildkit:v1",
            "me/buildkit",
            &format!("moby/buildkit@{digest}"),
        ] {
            assert!(!is_checked(image), "{image}");
        }
    }
}
