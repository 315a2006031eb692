//! What of a URL or of a remote text may be shown.

use std::fmt;

use url::Url;

/// Makes a remote text fit for a terminal, with a bound in characters.
pub(super) use crate::text::foreign::excerpt as clean;

/// Query keys whose values are part of the protocol and hold no secret. Every other value is
/// hidden: signed storage URLs and upload states carry access rights in their query.
const SHOWN_KEYS: [&str; 9] = [
    "digest",
    "mount",
    "from",
    "n",
    "last",
    "scope",
    "service",
    "ns",
    "client_id",
];

/// Shows a URL without user name, password, fragment and the values of unknown query keys.
#[derive(Clone, Copy)]
pub(super) struct SafeUrl<'a>(pub(super) &'a Url);

impl fmt::Display for SafeUrl<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.0;
        write!(f, "{}://", url.scheme())?;
        if !url.username().is_empty() || url.password().is_some() {
            f.write_str("***@")?;
        }
        f.write_str(url.host_str().unwrap_or_default())?;
        if let Some(port) = url.port() {
            write!(f, ":{port}")?;
        }
        f.write_str(&clean(url.path(), 300))?;
        for (index, (key, value)) in url.query_pairs().enumerate() {
            f.write_str(if index == 0 { "?" } else { "&" })?;
            let shown = SHOWN_KEYS.contains(&key.as_ref());
            let value = if shown {
                clean(&value, 200)
            } else {
                "***".to_owned()
            };
            write!(f, "{}={value}", clean(&key, 40))?;
        }
        Ok(())
    }
}

impl fmt::Debug for SafeUrl<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_a_url_are_hidden() {
        let cases = [
            (
                "https://r.example:5000/v2/a/blobs/x?n=5",
                "https://r.example:5000/v2/a/blobs/x?n=5",
            ),
            ("https://joe:pw@r.example/v2/", "https://***@r.example/v2/"),
            ("https://joe@r.example/v2/", "https://***@r.example/v2/"),
            (
                "https://s3.example/b?X-Amz-Signature=abc&digest=sha256%3Aff#frag",
                "https://s3.example/b?X-Amz-Signature=***&digest=sha256:ff",
            ),
            (
                "http://[::1]:5000/v2/?_state=zzz",
                "http://[::1]:5000/v2/?_state=***",
            ),
        ];
        for (url, shown) in cases {
            assert_eq!(SafeUrl(&url.parse().unwrap()).to_string(), shown);
        }
    }
}
