//! Credentials in the values of flags, which no message may show.

/// Keys of cache backends whose values are credentials: never shown.
pub const SECRET_KEYS: [&str; 6] = [
    "token",
    "ghtoken",
    "access_key_id",
    "secret_access_key",
    "session_token",
    "account_key",
];

/// A text of this many characters that could be base64 may be a key.
const LONG: usize = 44;

/// What the text of a private key begins with where it is no PEM: DER as base64 and as hexadecimal digits, and PEM as both.
const BEGINNINGS: [&str; 5] = ["M", "30", "LS0t", "2d2d2d", "2D2D2D"];

/// Returns whether a text seems to have a private key in it, and must not be shown.
pub fn holds_private_key(text: &str) -> bool {
    let body = text.trim_matches(|c: char| c.is_whitespace() || "\"'`".contains(c));
    let body = body.rsplit_once(':').map_or(body, |(_, body)| body);
    let body = body.strip_prefix("./").unwrap_or(body);
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || c.is_whitespace() || "+/=-_".contains(c);
    let is_body = body.len() >= LONG
        && BEGINNINGS
            .iter()
            .any(|beginning| body.starts_with(beginning))
        && body.chars().all(is_base64);
    text.contains("PRIVATE KEY") || is_body
}

/// Returns whether a line seems to hold a key of [`SECRET_KEYS`].
pub(super) fn has_secret_key(line: &str) -> bool {
    line.split(',').any(is_secret_field)
}

fn is_secret_field(field: &str) -> bool {
    let key = field.split('=').next().unwrap_or_default();
    let key = key.trim_matches(|c: char| c == '"' || c.is_whitespace());
    let value = field.split_once('=').map_or(field, |(_, value)| value);
    // A key in place of the name of its file.
    if holds_private_key(value) {
        return true;
    }
    SECRET_KEYS
        .iter()
        .any(|secret| key.eq_ignore_ascii_case(secret))
}

/// Masks the credentials in a line. From the first one on nothing is shown, as a credential may have
/// commas in it.
pub(super) fn mask_secrets(line: &str) -> String {
    let mut shown = String::new();
    for field in line.split(',') {
        if !shown.is_empty() {
            shown.push(',');
        }
        if is_secret_field(field) {
            if let Some((key, _)) = field.split_once('=') {
                shown.push_str(key);
                shown.push('=');
            }
            shown.push('…');
            return shown;
        }
        shown.push_str(field);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked() {
        for (line, shown) in [
            (
                "type=s3,secret_access_key=a,b,c=d",
                "type=s3,secret_access_key=…",
            ),
            (r#"type=gha,"token=a,b",c=d"#, r#"type=gha,"token=…"#),
            ("TOKEN=a", "TOKEN=…"),
            ("-----BEGIN PRIVATE KEY-----\nMC4C", "…"),
            (
                "ref=a,sign=MC4CAQAwBQYDK2VwBCIEIJ1hsZ3vVpguoRK9JLsLMREScVpe",
                "ref=a,sign=…",
            ),
            ("ref=a,sign=my.key", "ref=a,sign=my.key"),
            (
                "ref=a,sign=base64:LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCk1DNENBUUF3",
                "ref=a,sign=…",
            ),
            (
                "ref=a,sign=302e020100300506032b6570042204209d61b19deffd5a60ba",
                "ref=a,sign=…",
            ),
            (
                "ref=a,verify='MC4CAQAwBQYDK2VwBCIEIJ1hsZ3vVpguoRK9_LsLMREScVpe '",
                "ref=a,verify=…",
            ),
            ("type=s3,region=token", "type=s3,region=token"),
        ] {
            assert_eq!(mask_secrets(line), shown);
        }
    }
}
