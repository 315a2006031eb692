//! Policies for sources in the language Rego, which buildx enforces and this program refuses by name: what they
//! would forbid must not be built for want of looking.
//!
//! buildx looks for `NAME.rego` where the Dockerfile `NAME` comes from: in its folder, or in the tree of a
//! remote context. A context that comes by standard input it does not look through, and neither do we.

use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;
use thiserror::Error;

use super::inputs::{InputError, InputSpec, Inputs};
use crate::buildkit::read_file::{FileRequest, read_file};
use crate::buildkit::{Client, RpcError};

const HINT: &str = "docker buildx build enforces it; --policy disabled=true builds without";

/// A policy that would have to be enforced.
#[derive(Debug, Error)]
pub enum PolicyError {
    /// It lies beside the Dockerfile.
    #[error("the policy {0} is not supported by this version of cachex")]
    File(String),
    /// It is in the context.
    #[error(
        "the policy {file} of the context {context} is not supported by this version of cachex"
    )]
    Remote {
        /// Its path in the context.
        file: String,
        /// The URL of the context, without credentials.
        context: String,
    },
    /// buildx has one built in.
    #[error(
        "BUILDX_DEFAULT_POLICY asks for the signatures of Docker's own images to be checked, which this version of \
         cachex does not do"
    )]
    Default,
    /// The context cannot be looked through.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The context cannot be fetched.
    #[error("failed to solve")]
    Solve(#[from] RpcError),
}

impl PolicyError {
    /// Returns what to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::File(_) | Self::Remote { .. } | Self::Default => Some(HINT),
            Self::Input(_) | Self::Solve(_) => None,
        }
    }
}

/// Refuses a policy beside a Dockerfile on this machine.
///
/// # Errors
///
/// Fails if there is one.
pub fn refuse_beside_dockerfile(inputs: &Inputs) -> Result<(), PolicyError> {
    let folder = inputs.local_dirs.get("dockerfile");
    let (Some(folder), Some(name)) = (folder, inputs.attrs.get("filename")) else {
        return Ok(());
    };
    let policy = folder.join(format!("{name}.rego"));
    // A link that leads nowhere is a policy that was lost.
    if policy.symlink_metadata().is_err() {
        return Ok(());
    }
    Err(PolicyError::File(policy.display().to_string()))
}

/// Refuses a policy in a remote context, which the builder is asked for.
///
/// # Errors
///
/// Fails if there is one, or if the context cannot be fetched.
pub(in crate::build) async fn refuse_in_remote_context(
    spec: &InputSpec,
    inputs: &Inputs,
    client: &Client,
    session: &str,
    on_status: impl FnMut(StatusResponse),
) -> Result<(), PolicyError> {
    let name = inputs.attrs.get("filename");
    let (Some(name), false) = (name, inputs.local_dirs.contains_key("dockerfile")) else {
        return Ok(());
    };
    let Some(definition) = inputs.remote_context(spec)? else {
        return Ok(());
    };
    let file = format!("{name}.rego");
    let request = FileRequest {
        session,
        definition,
        path: &file,
        limit: 0,
    };
    match read_file(client, request, on_status).await? {
        None => Ok(()),
        Some(_) => Err(PolicyError::Remote {
            context: without_credentials(&spec.context),
            file,
        }),
    }
}

fn without_credentials(text: &str) -> String {
    let Ok(mut url) = url::Url::parse(text) else {
        return text.to_owned();
    };
    // Only URLs without a host refuse this, and those have no credentials.
    if url.set_username("").is_err() || url.set_password(None).is_err() {
        return text.to_owned();
    }
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        let shown = without_credentials("https://me:secret@h:8443/r.git#main");
        assert_eq!(shown, "https://h:8443/r.git#main");
        assert_eq!(without_credentials("me@h:r.git"), "me@h:r.git");
    }
}
