//! The grammar of the parts of a reference, that of `distribution/reference`.

/// The longest path of a repository, in bytes.
pub(super) const PATH_MAX: usize = 255;
/// The longest tag, in bytes.
pub(super) const TAG_MAX: usize = 128;

/// Returns whether the text is a tag: `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`.
pub fn is_tag(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= TAG_MAX
        && bytes.first().is_some_and(|byte| is_word(*byte))
        && bytes
            .iter()
            .all(|byte| is_word(*byte) || matches!(byte, b'.' | b'-'))
}

/// Checks a digest: `sha256`, `sha384` or `sha512`, a colon, and the right number of lowercase
/// hexadecimal digits. The error names what would be right.
pub fn check_digest(text: &str) -> Result<(), &'static str> {
    let Some((algorithm, digits)) = text.split_once(':') else {
        return Err("expected ALGORITHM:DIGITS, for example \"sha256:…\"");
    };
    let (length, expected) = match algorithm {
        "sha256" => (64, "sha256 has 64 lowercase hexadecimal digits"),
        "sha384" => (96, "sha384 has 96 lowercase hexadecimal digits"),
        "sha512" => (128, "sha512 has 128 lowercase hexadecimal digits"),
        _ => return Err("the algorithm must be sha256, sha384 or sha512"),
    };
    let right = digits.len() == length
        && digits
            .bytes()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'));
    if right { Ok(()) } else { Err(expected) }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
pub(super) fn is_component(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase();
    let ends = |byte: Option<&u8>| byte.is_some_and(|byte| plain(*byte));
    let bytes = text.as_bytes();
    ends(bytes.first())
        && ends(bytes.last())
        && bytes.split(|byte| plain(*byte)).all(|separator| {
            matches!(separator, b"" | b"." | b"_" | b"__")
                || separator.iter().all(|byte| *byte == b'-')
        })
}

/// A host name, an IPv4 address or a bracketed IPv6 address, with an optional port.
pub(super) fn is_domain(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port_fits =
        port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
    port_fits && (is_ipv6(host) || host.split('.').all(is_host_label))
}

fn is_ipv6(text: &str) -> bool {
    text.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|inner| {
            !inner.is_empty()
                && inner
                    .bytes()
                    .all(|byte| byte.is_ascii_hexdigit() || byte == b':')
        })
}

fn is_host_label(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
