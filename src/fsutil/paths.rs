//! Paths as text: Go's lexical rules, which BuildKit's patterns and links follow.

use std::borrow::Cow;

/// Returns the shortest form of a path, as Go's `path.Clean` does: no empty parts, no `.`, no `..` that can be
/// resolved. An empty path becomes `.`.
pub(super) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => {
                    parts.pop();
                }
                _ if rooted => {}
                _ => parts.push(part),
            },
            _ => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// Joins two paths and cleans the result; an empty part is left out.
pub fn join(first: &str, second: &str) -> String {
    match (first.is_empty(), second.is_empty()) {
        (true, _) => clean(second),
        (_, true) => clean(first),
        _ => clean(&format!("{first}/{second}")),
    }
}

/// Splits a clean path into its directory (empty at the top) and its last part.
pub(super) fn split_name(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

/// Returns the name as text for matching: every byte that is not UTF-8 becomes U+FFFD, as Go decodes it.
pub(super) fn text(path: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(path) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_follows_go() {
        for (path, expected) in [
            ("", "."),
            (".", "."),
            ("/", "/"),
            ("a//b/./c/", "a/b/c"),
            ("a/../b", "b"),
            ("a/..", "."),
            ("../../a", "../../a"),
            ("/../a", "/a"),
            ("a/../../b", "../b"),
            ("!a/../b", "b"),
        ] {
            assert_eq!(clean(path), expected, "{path:?}");
        }
    }

    #[test]
    fn join_leaves_out_empty_parts() {
        assert_eq!(join("", "a"), "a");
        assert_eq!(join("a", ""), "a");
        assert_eq!(join("/a/b", "../c"), "/a/c");
        assert_eq!(join(".", "/x"), "x");
    }

    #[test]
    fn text_replaces_each_bad_byte() {
        assert_eq!(text(b"a\xf0\x9fb"), "a\u{fffd}\u{fffd}b");
    }
}
