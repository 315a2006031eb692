use proptest::prelude::*;

use super::*;

#[test]
fn parse_keeps_what_is_written() {
    let os = local_os();
    let arch = local_arch();
    for (value, shown, normalized) in [
        ("linux/amd64", "linux/amd64", "linux/amd64"),
        ("Linux/AMD64", "linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64", "linux/amd64"),
        ("linux/x86-64", "linux/amd64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3", "linux/amd64/v3"),
        ("linux/i386", "linux/386", "linux/386"),
        ("linux/arm64", "linux/arm64", "linux/arm64"),
        ("linux/aarch64", "linux/arm64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/v9.0", "linux/arm64/v9", "linux/arm64/v9"),
        ("linux/arm64/v8.2", "linux/arm64/v8.2", "linux/arm64/v8.2"),
        ("linux/arm", "linux/arm", "linux/arm/v7"),
        ("linux/armhf", "linux/arm", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6", "linux/arm/v6"),
        ("linux/arm/7", "linux/arm/v7", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6", "linux/arm/v6"),
        ("linux/arm/5", "linux/arm/v5", "linux/arm/v5"),
        ("linux/arm/8", "linux/arm/v8", "linux/arm/v8"),
        ("macos/arm64", "darwin/arm64", "darwin/arm64"),
        ("plat/form", "plat/form", "plat/form"),
        ("linux", &format!("linux/{arch}"), &format!("linux/{arch}")),
        (
            "macOS",
            &format!("darwin/{arch}"),
            &format!("darwin/{arch}"),
        ),
        ("s390x", &format!("{os}/s390x"), &format!("{os}/s390x")),
        ("aarch64", &format!("{os}/arm64"), &format!("{os}/arm64")),
        ("armhf", &format!("{os}/arm"), &format!("{os}/arm/v7")),
        (
            "windows(10.0.17763)/amd64",
            "windows(10.0.17763)/amd64",
            "windows(10.0.17763)/amd64",
        ),
        (
            "windows(10.0+win32k+a)/amd64",
            "windows(10.0+a+win32k)/amd64",
            "windows(10.0+a+win32k)/amd64",
        ),
        (
            "windows(+win32k)/amd64",
            "windows(+win32k)/amd64",
            "windows(+win32k)/amd64",
        ),
        (
            "windows(1%2F2%2b)/amd64",
            "windows(1%2F2%2B)/amd64",
            "windows(1%2F2%2B)/amd64",
        ),
        ("linux()/amd64", "linux/amd64", "linux/amd64"),
    ] {
        let platform = Platform::parse(value).unwrap();
        assert_eq!(platform.to_string(), shown, "{value}");
        assert_eq!(platform.normalized().to_string(), normalized, "{value}");
    }
}

#[test]
fn short_form_has_no_version() {
    let platform = Platform::parse("windows(10.0.17763+win32k)/amd64").unwrap();
    assert_eq!(platform.os_version, "10.0.17763");
    assert_eq!(platform.os_features, ["win32k"]);
    assert_eq!(platform.format(), "windows/amd64");
}

#[test]
fn json_is_that_of_the_oci_specification() {
    let json = r#"{"architecture":"arm","os":"linux","variant":"v7"}"#;
    let platform: Platform = serde_json::from_str(json).unwrap();
    assert_eq!(platform.to_string(), "linux/arm/v7");
    assert_eq!(serde_json::to_string(&platform).unwrap(), json);
    assert_eq!(Platform::default().to_string(), "unknown");
}

#[test]
fn lists() {
    let list = Platform::parse_list(&["linux/amd64,linux/arm", "LOCAL", "linux/amd64"]).unwrap();
    let list: Vec<String> = list.iter().map(ToString::to_string).collect();
    let local = Platform::local().to_string();
    assert_eq!(
        list,
        ["linux/amd64", "linux/arm/v7", local.as_str(), "linux/amd64"]
    );
    assert_eq!(Platform::parse_list::<&str>(&[]).unwrap(), []);
    assert!(!local.is_empty() && local.contains('/'));
}

#[test]
fn errors() {
    for (value, part) in [
        ("", "an operating system"),
        ("/", "an operating system"),
        ("/amd64", "an operating system"),
        ("linux/", "in every part"),
        ("linux/*", "in every part"),
        ("*", "an operating system"),
        ("linux/a/b/c", "at most OS/ARCH/VARIANT"),
        ("linux/amd64 ", "in every part"),
        ("linux/arm64/..", "in every part"),
        ("linux(1.0/amd64", "an operating system"),
        ("linux(+)/amd64", "an operating system"),
        ("linux(%zz)/amd64", "an operating system"),
        ("linux(%)/amd64", "an operating system"),
        ("linux(%ff)/amd64", "an operating system"),
        ("linu", r#"did you mean "linux"?"#),
        ("amd46", r#"did you mean "amd64"?"#),
    ] {
        let error = Platform::parse(value).unwrap_err().to_string();
        assert!(error.contains(part), "{value}: {error}");
    }
    assert!(Platform::parse_list(&["linux/amd64,"]).is_err());
}

proptest! {
    #[test]
    fn parse_reads_what_display_writes(
        os in "[a-z]{1,8}",
        arch in "[a-z0-9_]{1,6}",
        variant in prop::option::of("v[0-9]{1,2}"),
        os_version in "[a-zA-Z0-9._%+()/-]{0,6}",
        os_features in prop::collection::btree_set("[a-zA-Z0-9._%+()/-]{1,4}", 0..3),
    ) {
        let platform = Platform {
            os,
            architecture: arch,
            variant: variant.unwrap_or_default(),
            os_version,
            os_features: os_features.into_iter().collect(),
        }
        .normalized();
        let again = Platform::parse(&platform.to_string()).unwrap();
        prop_assert_eq!(again.normalized(), platform);
    }

    #[test]
    fn never_panics(text in "([a-z0-9/(+)%,]|\\PC){0,20}") {
        if let Ok(platform) = Platform::parse(&text) {
            prop_assert!(!platform.format().is_empty());
        }
    }
}
