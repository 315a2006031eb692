//! What a command has once, however many nodes, caches or registries it works with.

use std::path::PathBuf;
use std::sync::Arc;

use super::Context;
use crate::builder::DockerEnv;
use crate::cache::extras::refusals::Refusals;
use crate::cache::registries::{NetworkSettings, Registries};
use crate::compress::Workers;
use crate::docker::token::Tokens;
use crate::env::Env;
use crate::registry::{ProxySettings, SpoolDir};

/// The tools of one command. Shared, a credential helper is asked once, a warning is printed once, the limits of a
/// registry count for the whole command, and no core has more than one thread that compresses.
#[derive(Debug)]
pub(super) struct Invocation {
    /// What `docker login` left, and the tokens got with it.
    pub(super) tokens: Arc<Tokens>,
    /// The registry clients.
    pub(super) registries: Arc<Registries>,
    /// Threads for compression.
    pub(super) workers: Workers,
    /// Where spool files are.
    pub(super) spool: SpoolDir,
    /// What registries have refused.
    pub(super) refusals: Refusals,
}

impl Invocation {
    /// Gets them ready, and prints what is to be said about them: this comes before any live display. Nothing is sent.
    pub(super) fn new(docker_env: &DockerEnv, ctx: &Context) -> Self {
        let credentials = Arc::clone(docker_env.credentials());
        for warning in credentials.warnings() {
            ctx.ui.warning(warning);
        }
        let tokens = Arc::new(Tokens::new(credentials));
        Self {
            registries: Arc::new(registries(Arc::clone(&tokens), &ctx.env)),
            tokens,
            workers: Workers::all_cores(),
            spool: SpoolDir::new(ctx.env.spool_dirs()),
            refusals: Refusals::new(ctx.env.cache_dir()),
        }
    }
}

/// Creates the registry clients, with the proxies and certificates that docker uses.
fn registries(tokens: Arc<Tokens>, env: &Env) -> Registries {
    let either = |upper: &str, lower: &str| {
        env.non_empty(upper)
            .or(env.non_empty(lower))
            .map(str::to_owned)
    };
    let mut cert_dirs = vec![PathBuf::from("/etc/docker/certs.d")];
    if cfg!(target_vendor = "apple") {
        // Docker Desktop takes them from there into the machine of its engine.
        cert_dirs.extend(env.home().map(|home| home.join(".docker/certs.d")));
    }
    let settings = NetworkSettings {
        proxy: ProxySettings {
            http: either("HTTP_PROXY", "http_proxy"),
            https: either("HTTPS_PROXY", "https_proxy"),
            no_proxy: either("NO_PROXY", "no_proxy"),
        },
        cert_dirs,
    };
    Registries::new(tokens, settings)
}
