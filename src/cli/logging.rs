//! The debug log: on standard error, only when it is asked for.

use std::io;

use tracing_subscriber::EnvFilter;

/// The libraries below say too much, and could say secrets, so they only warn.
const FILTER: &str = "debug,bollard=warn,h2=warn,hyper=warn,hyper_util=warn,oci_client=warn,reqwest=warn,rustls=warn,tonic=warn,tower=warn";

/// Begins the log. A second call does nothing.
pub(super) fn start(ansi: bool) {
    let started = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(FILTER))
        .with_writer(io::stderr)
        .with_ansi(ansi)
        .try_init();
    if started.is_err() {
        tracing::debug!("the log is already running");
    }
}
