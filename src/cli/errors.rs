//! Errors of the other rooms as errors of a command, with their hints.

use crate::builder::BuilderError;
use crate::buildkit::RpcError;
use crate::docker::{ConfigError, ContextError, CredentialError, EngineError};
use crate::error::{CommandError, ErrorKind};
use crate::registry::RegistryError;

impl From<ConfigError> for CommandError {
    fn from(error: ConfigError) -> Self {
        let hint = error.hint();
        Self::failed(error).hint(hint)
    }
}

impl From<ContextError> for CommandError {
    fn from(error: ContextError) -> Self {
        let hint = error.hint();
        with_hint(Self::failed(error), hint)
    }
}

impl From<CredentialError> for CommandError {
    fn from(error: CredentialError) -> Self {
        let hint = error.hint();
        Self::failed(error).hint(hint)
    }
}

impl From<EngineError> for CommandError {
    fn from(error: EngineError) -> Self {
        let hint = error.hint();
        with_hint(Self::failed(error), hint)
    }
}

impl From<RpcError> for CommandError {
    fn from(error: RpcError) -> Self {
        Self::new(error.kind(), error)
    }
}

impl From<RegistryError> for CommandError {
    fn from(error: RegistryError) -> Self {
        let hint = registry_hint(&error);
        with_hint(Self::failed(error), hint.as_deref())
    }
}

/// Returns what the user can do about an error of a registry; about credentials the credential store says it.
pub(super) fn registry_hint(error: &RegistryError) -> Option<String> {
    let hint = match error.last() {
        RegistryError::Credentials { source, .. } => source
            .downcast_ref::<CredentialError>()
            .map(CredentialError::hint),
        _ => None,
    };
    hint.or_else(|| error.hint().map(str::to_owned))
}

impl From<BuilderError> for CommandError {
    fn from(error: BuilderError) -> Self {
        let hints = error.hints();
        let detail = error.detail();
        Self {
            hints,
            detail,
            ..Self::new(ErrorKind::Failed, error)
        }
    }
}

fn with_hint(error: CommandError, hint: Option<&str>) -> CommandError {
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}
