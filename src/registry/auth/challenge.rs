//! The `WWW-Authenticate` header: what kind of login a registry wants (RFC 9110, 11.6.1).

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;
use url::Url;

/// More than any registry sends; the rest is not read.
const MAX_HEADER: usize = 16 * 1024;
const MAX_CHALLENGES: usize = 16;
const MAX_PARAMS: usize = 32;

/// One challenge: a scheme with parameters, both with lower-case names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// `basic`, `bearer`, …
    pub(crate) scheme: String,
    /// Parameters in their order; the first of a name counts.
    pub(crate) params: Vec<(String, String)>,
}

impl Challenge {
    /// Returns a parameter.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.params
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }
}

/// The login that a registry wants, chosen among its challenges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// User name and password with each request.
    Basic,
    /// A token from a token server (Docker registry v2 token authentication).
    Bearer(Bearer),
}

/// Where to get a token, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bearer {
    /// The token server.
    pub(crate) realm: Url,
    /// Name of the registry at the token server.
    pub(crate) service: Option<String>,
    /// What the refused request needs, for example `repository:a/b:pull,push`.
    pub(crate) scopes: Vec<String>,
}

/// Chooses among the challenges of an answer: tokens before passwords.
///
/// # Errors
/// A text that says what is wrong with them.
pub(crate) fn wanted(headers: &HeaderMap) -> Result<Wanted, String> {
    let challenges = challenges(headers);
    let mut problem = None;
    for challenge in challenges.iter().filter(|c| c.scheme == "bearer") {
        match bearer(challenge) {
            Ok(bearer) => return Ok(Wanted::Bearer(bearer)),
            Err(text) => problem = Some(text),
        }
    }
    if challenges.iter().any(|c| c.scheme == "basic") {
        return Ok(Wanted::Basic);
    }
    Err(problem.unwrap_or_else(|| {
        let names: Vec<_> = challenges.iter().map(|c| c.scheme.as_str()).collect();
        if names.is_empty() {
            "the registry refuses the request and does not say which login it wants".to_owned()
        } else {
            format!(
                "the registry wants a login of kind {}, which is not supported",
                names.join(", ")
            )
        }
    }))
}

fn bearer(challenge: &Challenge) -> Result<Bearer, String> {
    let realm = challenge.param("realm").unwrap_or_default();
    let realm: Url = realm
        .parse()
        .map_err(|_| "the registry names a token server that is not a URL".to_owned())?;
    if !matches!(realm.scheme(), "https" | "http") || realm.host_str().is_none() {
        return Err("the registry names a token server that is not a web address".to_owned());
    }
    let scopes = challenge.param("scope").unwrap_or_default();
    Ok(Bearer {
        realm,
        service: challenge.param("service").map(str::to_owned),
        scopes: scopes
            .split_whitespace()
            .take(16)
            .map(str::to_owned)
            .collect(),
    })
}

/// Reads all challenges of an answer. What cannot be understood ends the reading of its header.
pub(crate) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let mut all = Vec::new();
    for value in headers.get_all(WWW_AUTHENTICATE) {
        let bytes = value.as_bytes();
        let bytes = bytes.get(..MAX_HEADER).unwrap_or(bytes);
        Parser { bytes, at: 0 }.run(&mut all);
    }
    all
}

struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn run(mut self, all: &mut Vec<Challenge>) {
        while all.len() < MAX_CHALLENGES {
            self.skip(|b| b == b' ' || b == b'\t' || b == b',');
            let Some(scheme) = self.token() else { return };
            let mut params = Vec::new();
            if self.skip(is_space) > 0 && !self.params(&mut params) {
                // Not parameters: credentials in one piece (token68), which no challenge of a
                // registry has, or the next challenge after a bare scheme name.
                self.skip(|b| !matches!(b, b',' | b' ' | b'\t'));
            }
            all.push(Challenge {
                scheme: scheme.to_ascii_lowercase(),
                params,
            });
        }
    }

    /// Reads `name=value` pairs up to the next challenge; `false` if there is none.
    fn params(&mut self, params: &mut Vec<(String, String)>) -> bool {
        let mut end = self.at;
        while params.len() < MAX_PARAMS {
            let Some(pair) = self.param() else { break };
            params.push(pair);
            end = self.at;
            self.skip(|b| b == b' ' || b == b'\t');
            if self.peek() != Some(b',') {
                end = self.at;
                break;
            }
            self.skip(|b| b == b' ' || b == b'\t' || b == b',');
        }
        self.at = end;
        !params.is_empty()
    }

    fn param(&mut self) -> Option<(String, String)> {
        let name = self.token()?;
        self.skip(is_space);
        if self.peek() != Some(b'=') {
            return None;
        }
        self.at += 1;
        self.skip(is_space);
        let value = if self.peek() == Some(b'"') {
            self.quoted()?
        } else {
            self.token()?
        };
        Some((name.to_ascii_lowercase(), value))
    }

    fn quoted(&mut self) -> Option<String> {
        self.at += 1;
        let mut value = Vec::new();
        loop {
            let byte = self.peek()?;
            self.at += 1;
            match byte {
                b'"' => return String::from_utf8(value).ok(),
                b'\\' => {
                    value.push(self.peek()?);
                    self.at += 1;
                }
                other => value.push(other),
            }
        }
    }

    fn token(&mut self) -> Option<String> {
        let start = self.at;
        self.skip(is_token);
        let bytes = self.bytes.get(start..self.at).filter(|b| !b.is_empty())?;
        String::from_utf8(bytes.to_vec()).ok()
    }

    fn skip(&mut self, wanted: impl Fn(u8) -> bool) -> usize {
        let start = self.at;
        while self.peek().is_some_and(&wanted) {
            self.at += 1;
        }
        self.at - start
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }
}

fn is_space(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// The characters of an RFC 9110 token, and `:` and `/`, which some registries leave unquoted in
/// a realm.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(
                WWW_AUTHENTICATE,
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        headers
    }

    #[test]
    fn a_docker_hub_challenge() {
        let wanted = wanted(&headers(&[
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push repository:c/d:pull""#,
        ]));
        let Ok(Wanted::Bearer(bearer)) = wanted else {
            panic!("{wanted:?}")
        };
        assert_eq!(bearer.realm.as_str(), "https://auth.docker.io/token");
        assert_eq!(bearer.service.as_deref(), Some("registry.docker.io"));
        assert_eq!(
            bearer.scopes,
            ["repository:a/b:pull,push", "repository:c/d:pull"]
        );
    }

    #[test]
    fn forms_of_one_header() {
        let cases: [(&str, &[&str]); 9] = [
            ("Basic", &["basic"]),
            ("Basic realm=\"x\"", &["basic"]),
            (
                "basic realm=\"x\", BEARER realm=\"https://t/\"",
                &["basic", "bearer"],
            ),
            ("Negotiate, Basic realm=x", &["negotiate", "basic"]),
            (
                "NTLM TlRMTVNTUAAB==, Basic realm=\"a, b\"",
                &["ntlm", "basic"],
            ),
            (",, Basic  realm = \"q\\\"q\" ,", &["basic"]),
            ("Bearer realm=https://t/token", &["bearer"]),
            ("", &[]),
            ("\"", &[]),
        ];
        for (text, schemes) in cases {
            let all = challenges(&headers(&[text]));
            let names: Vec<_> = all.iter().map(|c| c.scheme.as_str()).collect();
            assert_eq!(names, schemes, "{text}");
        }
        let quoted = challenges(&headers(&[r#"Basic realm="q\"q, x=1""#]));
        assert_eq!(quoted[0].param("realm"), Some("q\"q, x=1"));
    }

    #[test]
    fn tokens_are_preferred_over_several_headers() {
        let both = headers(&["Basic realm=\"r\"", "Bearer realm=\"https://t.example/x\""]);
        assert!(matches!(wanted(&both), Ok(Wanted::Bearer(_))));
        let broken = headers(&["Bearer realm=\"nonsense\"", "Basic realm=\"r\""]);
        assert_eq!(wanted(&broken), Ok(Wanted::Basic));
    }

    #[test]
    fn what_cannot_be_served_is_named() {
        assert!(
            wanted(&headers(&["Negotiate"]))
                .unwrap_err()
                .contains("negotiate")
        );
        assert!(wanted(&headers(&["Bearer realm=\"ftp://x/\""])).is_err());
        assert!(
            wanted(&HeaderMap::new())
                .unwrap_err()
                .contains("does not say")
        );
    }

    #[test]
    fn a_huge_header_is_bounded() {
        let many = "Basic a=b, ".repeat(5000);
        assert!(challenges(&headers(&[&many])).len() <= MAX_CHALLENGES);
        let params = format!("Bearer {}", "a=b,".repeat(5000));
        assert!(
            challenges(&headers(&[&params]))
                .iter()
                .all(|c| c.params.len() <= MAX_PARAMS)
        );
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_panic(bytes in proptest::collection::vec(32_u8..=255, 0..200)) {
            let Ok(value) = HeaderValue::from_bytes(&bytes) else { return Ok(()) };
            let mut headers = HeaderMap::new();
            headers.append(WWW_AUTHENTICATE, value);
            let all = challenges(&headers);
            prop_assert!(all.len() <= MAX_CHALLENGES);
            prop_assert!(all.iter().all(|c| !c.scheme.is_empty()));
        }

        #[test]
        fn a_written_challenge_is_read_back(
            scheme in "[a-z]{1,8}",
            params in proptest::collection::vec(("[a-z]{1,6}", "[ -~]{0,20}"), 1..5),
        ) {
            let written: Vec<_> = params
                .iter()
                .map(|(n, v)| format!("{n}=\"{}\"", v.replace('\\', "\\\\").replace('"', "\\\"")))
                .collect();
            let text = format!("{scheme} {}", written.join(", "));
            let all = challenges(&headers(&[&text]));
            prop_assert_eq!(all, vec![Challenge { scheme, params }]);
        }
    }
}
