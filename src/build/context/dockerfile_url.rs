//! A Dockerfile given by URL. The builder fetches it, as for buildx: it may reach what this machine does
//! not, and keeps what it has fetched.

use std::io;

use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;
use fs_err as fs;
use thiserror::Error;

use super::inputs::UrlDockerfile;
use crate::buildkit::read_file::{FileRequest, read_file};
use crate::buildkit::source::Source;
use crate::buildkit::{Client, RpcError};

/// The largest Dockerfile that is taken from a URL, in bytes.
pub const MAX_DOCKERFILE: u64 = 2 << 20;
/// What the builder calls it.
const NAME: &str = "Dockerfile";

/// Why a Dockerfile cannot be fetched.
#[derive(Debug, Error)]
pub enum FetchError {
    /// The builder does not get it.
    #[error("cannot fetch the Dockerfile {url}")]
    Solve {
        /// Where from, without credentials.
        url: String,
        /// Why.
        #[source]
        source: RpcError,
    },
    /// The builder's answer has no file.
    #[error("cannot fetch the Dockerfile {url}: the builder has no file of it")]
    Missing {
        /// Where from, without credentials.
        url: String,
    },
    /// It is too large to be one.
    #[error("Dockerfile {url} bigger than allowed max size ({MAX_DOCKERFILE} bytes)")]
    TooLarge {
        /// Where from, without credentials.
        url: String,
    },
    /// It cannot be written to a temporary file.
    #[error("cannot keep the Dockerfile")]
    Write(#[from] io::Error),
}

/// Fetches a Dockerfile into the folder that the session serves.
///
/// # Errors
///
/// Fails if the builder does not get it, or gets too much.
pub(in crate::build) async fn fetch(
    file: &UrlDockerfile,
    client: &Client,
    session: &str,
    on_status: impl FnMut(StatusResponse),
) -> Result<(), FetchError> {
    let url = shown(&file.url);
    let source = Source::http(&file.url, NAME, &format!("[internal] load {url}"));
    let request = FileRequest {
        session,
        definition: source.definition(),
        path: NAME,
        limit: MAX_DOCKERFILE,
    };
    match read_file(client, request, on_status).await {
        Ok(Some(found)) if found.size > MAX_DOCKERFILE => Err(FetchError::TooLarge { url }),
        Ok(Some(found)) => Ok(fs::write(&file.path, found.data)?),
        Ok(None) => Err(FetchError::Missing { url }),
        Err(source) => Err(FetchError::Solve { url, source }),
    }
}

/// A URL may hold a password, or a token in its query.
fn shown(url: &str) -> String {
    let Ok(url) = url::Url::parse(url) else {
        return String::new();
    };
    let port = url.port().map(|port| format!(":{port}"));
    format!(
        "{}://{}{}{}",
        url.scheme(),
        url.host_str().unwrap_or_default(),
        port.unwrap_or_default(),
        url.path()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_with_its_port_and_without_its_secrets() {
        for (url, want) in [
            (
                "http://me:secret@h:8080/a/Dockerfile?token=x#y",
                "http://h:8080/a/Dockerfile",
            ),
            ("https://[::1]:9/Dockerfile", "https://[::1]:9/Dockerfile"),
            ("https://h/Dockerfile", "https://h/Dockerfile"),
        ] {
            assert_eq!(shown(url), want);
        }
    }
}
