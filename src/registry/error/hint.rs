//! What the user can do about an error of a registry.

use http::StatusCode;

use super::RegistryError;
use super::cause::{is_certificate_error, is_no_tls};

impl RegistryError {
    /// Returns what the user can do about it, one sentence.
    pub fn hint(&self) -> Option<&'static str> {
        match self.last() {
            Self::Status { status, .. } => self.status_hint(*status),
            Self::Connect { source, .. } if is_certificate_error(source.as_ref()) => Some(
                "put the certificate of the server's authority into the registry's folder of certs.d, or, if it is the registry itself and you trust it, set registry.insecure=true",
            ),
            Self::Connect { source, .. } if is_no_tls(source.as_ref()) => Some(
                "the server does not speak TLS; if it is the registry itself and you trust the network, set registry.insecure=true",
            ),
            Self::Connect { .. } => {
                Some("check the name of the registry, the network and the proxy settings")
            }
            Self::Credentials { .. } => {
                Some("check the credential helper of the docker config file")
            }
            _ => None,
        }
    }

    fn status_hint(&self, status: StatusCode) -> Option<&'static str> {
        match status {
            StatusCode::UNAUTHORIZED => Some("log in with `docker login` to the registry"),
            StatusCode::FORBIDDEN => {
                Some("the account that is logged in may not do this in the repository")
            }
            StatusCode::NOT_FOUND if self.has_code("NAME_UNKNOWN") => {
                Some("the repository does not exist; some registries want it created first")
            }
            StatusCode::PAYLOAD_TOO_LARGE => {
                Some("the registry or a proxy in front of it limits the size of an upload")
            }
            StatusCode::TOO_MANY_REQUESTS => {
                Some("the registry limits the rate of requests; log in or try again later")
            }
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                Some("the proxy wants a login; check the proxy settings")
            }
            status if status.is_server_error() => Some(
                "the registry or a proxy in front of it is at fault: try again later, or look at its log",
            ),
            _ => None,
        }
    }
}
