//! Docker on this machine: config file, contexts, credential store, tokens of registries, Engine API.

pub mod config;
pub mod context;
pub mod credentials;
pub mod demux;
pub mod dial;
#[cfg(target_os = "linux")]
pub mod direct;
pub mod engine;
pub mod exec;
pub mod go_json;
pub mod hijack;
pub mod host;
pub mod http;
pub mod process;
pub mod secret;
pub mod settings;
pub mod ssh;
pub mod tls;
pub mod token;

/// Returns whether a socket in a container of the engine behind this socket may be opened past the engine; only Linux
/// has that.
pub fn direct_may_enter(engine_socket: &std::path::Path) -> bool {
    #[cfg(target_os = "linux")]
    return direct::may_enter(engine_socket);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = engine_socket;
        false
    }
}

pub use config::{ConfigError, ConfigFile, config_dir};
pub use context::{ContextError, Contexts, Endpoint, EndpointOptions, TlsFiles};
pub use credentials::{Credential, CredentialError};
pub use engine::{Engine, EngineError};
pub use exec::{ExecHandle, ExecStream};
pub use secret::Secret;
