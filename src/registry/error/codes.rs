//! The registry's own errors.

use std::fmt;

use oci_client::errors::{OciEnvelope, OciErrorCode};

use crate::registry::redact::clean;

/// One entry of the error list that a registry answers with (OCI distribution spec, "Error codes").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// Code such as `DENIED`, `MANIFEST_UNKNOWN`; registries have codes of their own too.
    pub code: String,
    /// The registry's text, made safe for a terminal; may be empty.
    pub message: String,
}

/// Reads the registry's own errors out of a body; `Err` gives a short excerpt of another body.
pub(in crate::registry) fn parse_codes(body: &[u8]) -> Result<Vec<ApiError>, String> {
    let Ok(envelope) = serde_json::from_slice::<OciEnvelope>(body) else {
        return Err(clean(String::from_utf8_lossy(body).trim(), 200));
    };
    let errors = envelope.errors.into_iter().take(16).map(|error| ApiError {
        code: clean(&code_text(&error.code), 60),
        message: clean(&error.message, 300),
    });
    Ok(errors.collect())
}

fn code_text(code: &OciErrorCode) -> String {
    match serde_json::to_value(code) {
        Ok(serde_json::Value::String(text)) => text,
        _ => String::new(),
    }
}

/// What an answer said, behind its status.
pub(super) struct Details<'a>(pub(super) &'a [ApiError], pub(super) &'a str);

impl fmt::Display for Details<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in self.0 {
            write!(f, ": {}", error.code)?;
            if !error.message.is_empty() {
                write!(f, ": {}", error.message)?;
            }
        }
        if self.0.is_empty() && !self.1.is_empty() {
            write!(f, ": {}", self.1)?;
        }
        Ok(())
    }
}
