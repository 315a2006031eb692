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

pub use config::{ConfigError, ConfigFile, config_dir};
pub use context::{ContextError, Contexts, Endpoint, EndpointOptions, TlsFiles};
pub use credentials::{Credential, CredentialError};
pub use engine::{Engine, EngineError};
pub use exec::{ExecHandle, ExecStream};
pub use secret::Secret;
