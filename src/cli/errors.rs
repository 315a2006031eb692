//! Errors of the docker room as errors of a command, with their hints.

use crate::docker::{ConfigError, ContextError, CredentialError, EngineError};
use crate::error::CommandError;

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

fn with_hint(error: CommandError, hint: Option<&str>) -> CommandError {
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}
