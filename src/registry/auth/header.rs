//! The `Authorization` headers of logins.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

use super::Authorization;
use crate::docker::{Credential, Secret};

/// Creates the login of a registry that wants a password.
pub(super) fn password_login(credential: &Credential) -> Authorization {
    let header = match credential {
        Credential::Basic { username, password } => Some(basic(username, password)),
        Credential::RegistryToken(token) => bearer_header(token.expose()),
        Credential::Anonymous | Credential::IdentityToken(_) => None,
    };
    Authorization {
        header,
        generation: 0,
    }
}

/// Creates the header of a password login (RFC 7617).
fn basic(username: &str, password: &Secret) -> HeaderValue {
    let mut pair = zeroize::Zeroizing::new(String::with_capacity(
        username.len() + password.expose().len() + 1,
    ));
    pair.push_str(username);
    pair.push(':');
    pair.push_str(password.expose());
    let text = zeroize::Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    let mut header =
        HeaderValue::from_str(&text).expect("base64 has only characters that a header can hold");
    header.set_sensitive(true);
    header
}

/// Creates the header of a token; `None` if it holds characters that no header can.
pub(super) fn bearer_header(token: &str) -> Option<HeaderValue> {
    let text = zeroize::Zeroizing::new(format!("Bearer {token}"));
    let mut header = HeaderValue::from_str(&text).ok()?;
    header.set_sensitive(true);
    Some(header)
}
