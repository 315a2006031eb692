use super::*;
use crate::error::CommandError;

fn status(status: u16, body: &str) -> RegistryError {
    let (codes, excerpt) = match parse_codes(body.as_bytes()) {
        Ok(codes) => (codes, String::new()),
        Err(excerpt) => (Vec::new(), excerpt),
    };
    RegistryError::Status {
        request: RequestLabel::new(
            &Method::PUT,
            &"https://a:b@r.example/v2/x/manifests/t?sig=1"
                .parse()
                .unwrap(),
        ),
        status: StatusCode::from_u16(status).unwrap(),
        codes,
        excerpt,
        retry_after: None,
    }
}

#[test]
fn the_message_has_method_redacted_url_status_and_codes() {
    let error = status(
        403,
        r#"{"errors":[{"code":"DENIED","message":"no\u0007 push","detail":{"a":1}},{"code":"OWN_CODE"}]}"#,
    );
    assert_eq!(
        error.to_string(),
        "PUT https://***@r.example/v2/x/manifests/t?sig=***: 403 Forbidden: DENIED: no push: OWN_CODE"
    );
    assert!(error.has_code("OWN_CODE") && !error.has_code("UNSUPPORTED"));
    assert!(error.hint().unwrap().contains("may not"));
}

#[test]
fn a_command_ends_with_the_chain_and_the_hint() {
    let error = RegistryError::GaveUp {
        attempts: 3,
        source: Box::new(status(429, "")),
    };
    let command = CommandError::from(error);
    assert!(
        command
            .message()
            .starts_with("gave up after 3 attempts: PUT https://")
    );
    assert!(command.hints[0].contains("rate"), "{:?}", command.hints);
    assert!(CommandError::from(status(418, "")).hints.is_empty());
}

#[test]
fn a_body_of_another_kind_is_quoted_shortly() {
    let error = status(502, "<html>\n<b>Bad Gateway</b>");
    assert!(
        error
            .to_string()
            .ends_with("502 Bad Gateway: <html> <b>Bad Gateway</b>")
    );
    assert!(status(500, &"x".repeat(10_000)).to_string().len() < 400);
}

#[test]
fn only_what_may_pass_is_tried_again() {
    for (code, again) in [
        (400, false),
        (401, false),
        (403, false),
        (404, false),
        (408, true),
        (413, false),
        (429, true),
        (500, true),
        (501, false),
        (502, true),
        (503, true),
        (504, true),
    ] {
        assert_eq!(status(code, "").is_retryable(), again, "{code}");
    }
}

#[test]
fn a_refused_certificate_is_found_inside_other_errors() {
    let tls = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
    let connect = |source| RegistryError::Connect {
        request: RequestLabel::new(&Method::GET, &"https://r.example/".parse().unwrap()),
        source,
    };
    let refused = connect(Box::new(io::Error::other(io::Error::other(tls))));
    assert!(!refused.is_retryable());
    assert!(refused.hint().unwrap().contains("certs.d"));
    assert!(connect(Box::new(io::Error::other("refused"))).is_retryable());
    let plain = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
    let plain = connect(Box::new(io::Error::other(plain)));
    assert!(plain.hint().unwrap().contains("does not speak TLS"));
    assert!(status(503, "").hint().unwrap().contains("at fault"));
}

#[test]
fn a_spent_source_is_seen_through_the_last_attempt() {
    let spent = RegistryError::SourceSpent {
        source: Some(Box::new(status(503, ""))),
    };
    let error = RegistryError::GaveUp {
        attempts: 2,
        source: Box::new(spent),
    };
    assert!(error.needs_source());
    assert_eq!(error.status().unwrap().as_u16(), 503);
}
