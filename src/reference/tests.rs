use proptest::prelude::*;

use super::*;

fn hex(length: usize) -> String {
    "0123456789abcdef".chars().cycle().take(length).collect()
}

#[test]
fn names_are_normalized() {
    let digest = format!("sha256:{}", hex(64));
    let pinned = format!("busybox:1@{digest}");
    let by_digest = format!("r.example/a@{digest}");
    for (text, canonical, familiar) in [
        ("busybox", "docker.io/library/busybox", "busybox"),
        ("busybox:1", "docker.io/library/busybox:1", "busybox:1"),
        ("docker.io/busybox", "docker.io/library/busybox", "busybox"),
        (
            "index.docker.io/busybox",
            "docker.io/library/busybox",
            "busybox",
        ),
        ("index.docker.io/user/app", "docker.io/user/app", "user/app"),
        (
            "docker.io/library/busybox",
            "docker.io/library/busybox",
            "busybox",
        ),
        ("library/a/b", "docker.io/library/a/b", "library/a/b"),
        ("user/app", "docker.io/user/app", "user/app"),
        ("a/b/c/d", "docker.io/a/b/c/d", "a/b/c/d"),
        ("localhost/app", "localhost/app", "localhost/app"),
        (
            "localhost:5000/app:x",
            "localhost:5000/app:x",
            "localhost:5000/app:x",
        ),
        (
            "localhost:5000",
            "docker.io/library/localhost:5000",
            "localhost:5000",
        ),
        ("r.example/app", "r.example/app", "r.example/app"),
        (
            "r.example:80/a/b:c",
            "r.example:80/a/b:c",
            "r.example:80/a/b:c",
        ),
        (
            "127.0.0.1:5000/app",
            "127.0.0.1:5000/app",
            "127.0.0.1:5000/app",
        ),
        ("[::1]/app", "[::1]/app", "[::1]/app"),
        ("[::1]:5000/app:1", "[::1]:5000/app:1", "[::1]:5000/app:1"),
        (
            "[fc00::1]:5000/a/b",
            "[fc00::1]:5000/a/b",
            "[fc00::1]:5000/a/b",
        ),
        ("Host/app", "Host/app", "Host/app"),
        (
            "UPPER.example/app:TAG",
            "UPPER.example/app:TAG",
            "UPPER.example/app:TAG",
        ),
        ("xn--n3h.com/app", "xn--n3h.com/app", "xn--n3h.com/app"),
        (
            "a__b/c--d/e.f_g",
            "docker.io/a__b/c--d/e.f_g",
            "a__b/c--d/e.f_g",
        ),
        ("a:_.-", "docker.io/library/a:_.-", "a:_.-"),
        (
            pinned.as_str(),
            &format!("docker.io/library/busybox:1@{digest}"),
            pinned.as_str(),
        ),
        (by_digest.as_str(), by_digest.as_str(), by_digest.as_str()),
    ] {
        let reference = Reference::parse_normalized(text).unwrap();
        assert_eq!(reference.to_string(), canonical, "{text}");
        assert_eq!(reference.familiar(), familiar, "{text}");
        assert_eq!(canonical.parse::<Reference>().unwrap(), reference, "{text}");
        assert_eq!(familiar.parse::<Reference>().unwrap(), reference, "{text}");
    }
}

#[test]
fn parts() {
    let text = format!("[::1]:5000/a/b:c@sha512:{}", hex(128));
    let reference = Reference::parse_normalized(&text).unwrap();
    assert_eq!(reference.domain, "[::1]:5000");
    assert_eq!(reference.path, "a/b");
    assert_eq!(reference.tag.as_deref(), Some("c"));
    assert_eq!(reference.digest.unwrap().len(), "sha512:".len() + 128);
}

#[test]
fn errors_tell_what_is_wrong() {
    let id = hex(64);
    for (text, part) in [
        ("", "empty reference"),
        (id.as_str(), "64 hexadecimal digits are an image ID"),
        ("https://r.example/app", r#"leave out "https://""#),
        ("docker-image://app", r#"leave out "docker-image://""#),
        (
            "App",
            r#"repository name must be lowercase, for example "app""#,
        ),
        (
            "r.example/User/App:TAG",
            r#"must be lowercase, for example "r.example/user/app:TAG""#,
        ),
        (
            "docker.io/App",
            r#"must be lowercase, for example "docker.io/app""#,
        ),
        (
            "index.docker.io/App:T",
            r#"must be lowercase, for example "index.docker.io/app:T""#,
        ),
        (
            "A.example/A/B",
            r#"must be lowercase, for example "A.example/a/b""#,
        ),
        (
            "library/A:A",
            r#"must be lowercase, for example "library/a:A""#,
        ),
        ("a//b", r#""" is not a valid part"#),
        ("a/", r#""" is not a valid part"#),
        ("/a", r#""" is not a valid part"#),
        ("r.example/", r#""" is not a valid part"#),
        ("-a", r#""-a" is not a valid part"#),
        ("a_", r#""a_" is not a valid part"#),
        ("a..b", r#""a..b" is not a valid part"#),
        ("a___b", r#""a___b" is not a valid part"#),
        ("a._b/c", r#""a._b" is not a valid registry host"#),
        ("a b", r#""a b" is not a valid part"#),
        ("ä/b", r#""ä" is not a valid part"#),
    ] {
        let error = Reference::parse_normalized(text).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn errors_of_hosts_tags_and_digests() {
    let short = format!("a@sha256:{}", hex(63));
    let upper_digest = format!("a@sha256:{}", hex(64).to_uppercase());
    let unknown = format!("a@md5:{}", hex(32));
    let no_algorithm = format!("a@{}", hex(64));
    let long_tag = format!("a:{}", "t".repeat(129));
    let long_path = format!("r.example/{}", "a".repeat(256));
    for (text, part) in [
        ("a:", r#"invalid tag """#),
        ("a:-b", r#"invalid tag "-b""#),
        ("a:b c", r#"invalid tag "b c""#),
        (
            "r.example:5000:6000/a",
            r#""r.example:5000:6000" is not a valid registry host"#,
        ),
        (
            "r.example:/a",
            r#""r.example:" is not a valid registry host"#,
        ),
        (
            "r.example:port/a",
            r#""r.example:port" is not a valid registry host"#,
        ),
        (
            "-r.example/a",
            r#""-r.example" is not a valid registry host"#,
        ),
        ("::1/a", r#""::1" is not a valid registry host"#),
        ("[fe80::1%eth0]:5000/a", "is not a valid registry host"),
        ("[]:5000/a", "is not a valid registry host"),
        (long_tag.as_str(), "invalid tag"),
        (long_path.as_str(), "must not be more than 255"),
        ("a@", "invalid digest"),
        (short.as_str(), "sha256 has 64 lowercase hexadecimal digits"),
        (
            upper_digest.as_str(),
            "sha256 has 64 lowercase hexadecimal digits",
        ),
        (
            unknown.as_str(),
            "the algorithm must be sha256, sha384 or sha512",
        ),
        (no_algorithm.as_str(), "expected ALGORITHM:DIGITS"),
    ] {
        let error = Reference::parse_normalized(text).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn limits_are_inclusive() {
    let tag = format!("a:{}", "t".repeat(128));
    let path = format!("r.example/{}", "a".repeat(255));
    for text in [tag, path] {
        assert!(Reference::parse_normalized(&text).is_ok(), "{text}");
    }
}

#[test]
fn effective_tag_is_latest_only_without_tag_and_digest() {
    let digest = format!("sha256:{}", hex(64));
    for (text, tag) in [
        ("a".to_owned(), Some("latest")),
        ("a:b".to_owned(), Some("b")),
        (format!("a:b@{digest}"), Some("b")),
        (format!("a@{digest}"), None),
    ] {
        let reference = Reference::parse_normalized(&text).unwrap();
        assert_eq!(reference.effective_tag(), tag, "{text}");
    }
}

#[test]
fn targets_and_repositories() {
    let digest = format!("sha256:{}", hex(64));
    for (left, right, repository, target) in [
        (
            "app".to_owned(),
            "docker.io/library/app:latest".to_owned(),
            true,
            true,
        ),
        ("app".to_owned(), "app:cache".to_owned(), true, false),
        ("app".to_owned(), "user/app".to_owned(), false, false),
        (
            "r.example/app".to_owned(),
            "R.example/app".to_owned(),
            true,
            true,
        ),
        (
            "r.example/app".to_owned(),
            "r.example:443/app".to_owned(),
            false,
            false,
        ),
        (format!("app@{digest}"), "app".to_owned(), true, false),
        (format!("app@{digest}"), format!("app@{digest}"), true, true),
        (format!("app:1@{digest}"), "app:1".to_owned(), true, true),
    ] {
        let a = Reference::parse_normalized(&left).unwrap();
        let b = Reference::parse_normalized(&right).unwrap();
        for (a, b) in [(&a, &b), (&b, &a)] {
            assert_eq!(a.same_repository(b), repository, "{left} {right}");
            assert_eq!(a.same_target(b), target, "{left} {right}");
        }
    }
}

proptest! {
    #[test]
    fn parse_reads_what_display_writes(
        domain in prop::option::of(
            "(localhost|[a-z0-9]{1,5}(\\.[a-zA-Z0-9]{1,5}){1,2}|\\[[0-9a-f]{0,4}:[0-9a-f:]{1,9}\\])(:[0-9]{1,5})?"
        ),
        path in "[a-z0-9]{1,4}((_|__|-{1,3})[a-z0-9]{1,3}){0,2}(/[a-z0-9]{1,4}(\\.[a-z0-9]{1,3}){0,2}){0,2}",
        tag in prop::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}"),
        digest in prop::option::of("sha256:[0-9a-f]{64}"),
    ) {
        let mut text = path;
        if let Some(domain) = domain {
            text = format!("{domain}/{text}");
        }
        if let Some(tag) = &tag {
            text = format!("{text}:{tag}");
        }
        if let Some(digest) = &digest {
            text = format!("{text}@{digest}");
        }
        let reference = Reference::parse_normalized(&text).unwrap();
        prop_assert_eq!(&reference.tag, &tag);
        prop_assert_eq!(&reference.digest, &digest);
        let again = Reference::parse_normalized(&reference.to_string());
        prop_assert_eq!(again.as_ref(), Ok(&reference));
        prop_assert_eq!(Reference::parse_normalized(&reference.familiar()), Ok(reference));
    }

    #[test]
    fn what_parses_also_parses_in_its_canonical_form(text in "[a-zA-Z0-9:/@._\\[\\]-]{0,30}") {
        if let Ok(reference) = Reference::parse_normalized(&text) {
            let canonical = reference.to_string();
            prop_assert_eq!(Reference::parse_normalized(&canonical), Ok(reference));
        }
    }

    #[test]
    fn never_panics(text in "\\PC{0,40}") {
        if let Err(error) = Reference::parse_normalized(&text) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
