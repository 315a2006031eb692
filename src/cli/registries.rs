//! The registry clients of a command, with the proxies and certificates that docker uses.

use std::path::PathBuf;
use std::sync::Arc;

use crate::cache::registries::{NetworkSettings, Registries};
use crate::env::Env;
use crate::registry::{CredentialSource, ProxySettings};

/// Makes the clients. Nothing is sent.
pub(super) fn registries(credentials: Arc<dyn CredentialSource>, env: &Env) -> Registries {
    let either = |upper: &str, lower: &str| {
        env.non_empty(upper)
            .or(env.non_empty(lower))
            .map(str::to_owned)
    };
    let settings = NetworkSettings {
        proxy: ProxySettings {
            http: either("HTTP_PROXY", "http_proxy"),
            https: either("HTTPS_PROXY", "https_proxy"),
            no_proxy: either("NO_PROXY", "no_proxy"),
        },
        cert_dirs: vec![PathBuf::from("/etc/docker/certs.d")],
    };
    Registries::new(credentials, settings)
}
