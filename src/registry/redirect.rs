//! Where a redirect or an upload location may lead.

use http::header::LOCATION;
use http::{HeaderMap, Method, StatusCode};
use url::Url;

use super::error::{RegistryError, RequestLabel};
use super::redact::SafeUrl;

/// More than any registry needs; a circle ends here.
pub(super) const MAX_HOPS: usize = 5;

/// Returns whether the answer asks to send the same request elsewhere.
///
/// A 301 or 302 to anything but GET and HEAD would have to become a GET (as browsers do), which
/// is never what an upload wants; a 303 is only followed where it means the same.
pub(super) fn is_redirect(method: &Method, status: StatusCode) -> bool {
    match status {
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => true,
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER => {
            method == Method::GET || method == Method::HEAD
        }
        _ => false,
    }
}

/// Returns the target of the `Location` header of an answer to `url`; `None` without one.
///
/// A target without TLS is refused when the request had TLS. Only a location on the registry's
/// own host (`home`) is read as HTTPS instead: a registry behind a proxy that ends TLS often does
/// not know its own scheme.
pub(super) fn location(
    headers: &HeaderMap,
    method: &Method,
    url: &Url,
    home: &Url,
) -> Result<Option<Url>, RegistryError> {
    let Some(value) = headers.get(LOCATION) else {
        return Ok(None);
    };
    let refuse = |why, to| RegistryError::Redirect {
        request: RequestLabel::new(method, url),
        why,
        to,
    };
    let target = value
        .to_str()
        .ok()
        .and_then(|text| url.join(text.trim()).ok());
    let Some(mut target) = target else {
        return Err(refuse(
            "the registry sends a location that is not a URL",
            String::new(),
        ));
    };
    if !matches!(target.scheme(), "http" | "https") || target.host_str().is_none() {
        let to = target.scheme().to_owned();
        return Err(refuse(
            "the registry sends a location that is not a web address",
            to,
        ));
    }
    if url.scheme() == "https" && target.scheme() == "http" {
        let same_port = target.port() == home.port();
        if target.host_str() != home.host_str() || !same_port || target.set_scheme("https").is_err()
        {
            let to = SafeUrl(&target).to_string();
            return Err(refuse("refused to go from HTTPS to plain HTTP", to));
        }
    }
    // A fragment is for browsers only.
    target.set_fragment(None);
    Ok(Some(target))
}

/// Returns whether two URLs have the same scheme, host and port, so that one login is for both.
pub(super) fn same_origin(a: &Url, b: &Url) -> bool {
    a.origin().is_tuple() && a.origin() == b.origin()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn go(from: &str, to: &str) -> Result<Option<String>, String> {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, to.parse().unwrap());
        let url: Url = from.parse().unwrap();
        let home = url.join("/").unwrap();
        location(&headers, &Method::GET, &url, &home)
            .map(|l| l.map(|u| u.to_string()))
            .map_err(|e| e.to_string())
    }

    #[test]
    fn forms_of_locations() {
        let at = "https://r.example/v2/a/blobs/uploads/";
        let cases = [
            ("/v2/x?y=1", "https://r.example/v2/x?y=1"),
            ("x", "https://r.example/v2/a/blobs/uploads/x"),
            ("https://s.example/b?sig=1#f", "https://s.example/b?sig=1"),
            ("//s.example/b", "https://s.example/b"),
            ("http://r.example/v2/x", "https://r.example/v2/x"),
        ];
        for (to, wanted) in cases {
            assert_eq!(go(at, to), Ok(Some(wanted.to_owned())), "{to}");
        }
        let plain = go("http://r.example:5000/a", "http://s.example/b");
        assert_eq!(plain, Ok(Some("http://s.example/b".to_owned())));
        assert_eq!(
            location(
                &HeaderMap::new(),
                &Method::GET,
                &at.parse().unwrap(),
                &at.parse().unwrap()
            )
            .unwrap(),
            None
        );
    }

    #[test]
    fn plain_http_and_other_schemes_are_refused() {
        let at = "https://r.example/v2/";
        let error = go(at, "http://s.example/b?token=hunter2").unwrap_err();
        assert!(
            error.contains("HTTPS") && !error.contains("hunter2"),
            "{error}"
        );
        assert!(go(at, "http://r.example:8080/b").is_err());
        assert!(go(at, "file:///etc/passwd").is_err());
        assert!(go(at, "http://[bad").is_err());
    }

    #[test]
    fn methods_and_statuses() {
        let yes = [
            (Method::GET, 302),
            (Method::HEAD, 301),
            (Method::PUT, 307),
            (Method::POST, 308),
        ];
        let no = [
            (Method::POST, 302),
            (Method::PUT, 301),
            (Method::GET, 304),
            (Method::GET, 200),
        ];
        for (method, status) in yes {
            assert!(is_redirect(&method, StatusCode::from_u16(status).unwrap()));
        }
        for (method, status) in no {
            assert!(!is_redirect(&method, StatusCode::from_u16(status).unwrap()));
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let same = |a: &str, b: &str| same_origin(&a.parse().unwrap(), &b.parse().unwrap());
        assert!(same("https://r.example/a", "https://r.example:443/b"));
        for other in [
            "http://r.example/",
            "https://r.example:8443/",
            "https://r.example.evil/",
        ] {
            assert!(!same("https://r.example/", other), "{other}");
        }
    }
}
