//! Platforms of a node: parse, normalise, format and group as buildx prints them.
//!
//! The rules are those of containerd's `platforms` package, which buildx uses.

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A platform as the store holds it (OCI image specification, `platform` object).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// GOARCH name, for example `amd64`.
    #[serde(default)]
    pub architecture: String,
    /// GOOS name, for example `linux`.
    #[serde(default)]
    pub os: String,
    /// Version of the operating system; used for Windows.
    #[serde(
        rename = "os.version",
        default,
        skip_serializing_if = "String::is_empty"
    )]
    pub os_version: String,
    /// Features of the operating system; used for Windows.
    #[serde(rename = "os.features", default, skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// Variant of the architecture, for example `v7`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// A text that is no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid platform {text:?}: {reason}")]
pub struct InvalidPlatform {
    /// The refused text.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

const KNOWN_OS: &[&str] = &[
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "zos",
];

const KNOWN_ARCH: &[&str] = &[
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "armbe",
    "arm64",
    "arm64be",
    "ppc64",
    "ppc64le",
    "loong64",
    "mips",
    "mipsle",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "ppc",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
];

impl Platform {
    /// Makes a platform from its parts, normalised.
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
            ..Self::default()
        }
        .normalized()
    }

    /// Returns the platform of this machine.
    pub fn local() -> Self {
        Self::new(local_os(), local_arch(), "")
    }

    /// Returns the platform with the canonical names of its parts: `x86_64` is `amd64`, `arm` alone
    /// is `arm/v7`, `arm64/v8` is `arm64`.
    #[must_use]
    pub fn normalized(mut self) -> Self {
        self.os = normalize_os(&self.os);
        (self.architecture, self.variant) = normalize_arch(&self.architecture, &self.variant);
        self
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.os.is_empty() {
            return f.write_str("unknown");
        }
        f.write_str(&self.os)?;
        for part in [&self.architecture, &self.variant] {
            if !part.is_empty() {
                write!(f, "/{part}")?;
            }
        }
        Ok(())
    }
}

/// Parses a list of platform flags; each may hold several platforms separated by commas, and
/// `local` stands for the platform of this machine.
///
/// # Errors
///
/// Fails for the first text that is no platform.
pub fn parse_list(texts: &[String]) -> Result<Vec<Platform>, InvalidPlatform> {
    texts
        .iter()
        .flat_map(|text| text.split(','))
        .map(parse)
        .collect()
}

/// Parses one platform, `OS[(VERSION)][/ARCH[/VARIANT]]`, an architecture alone, or `local`.
///
/// # Errors
///
/// Fails for a text of another form.
pub fn parse(text: &str) -> Result<Platform, InvalidPlatform> {
    if text.eq_ignore_ascii_case("local") {
        return Ok(Platform::local());
    }
    let refuse = |reason| InvalidPlatform {
        text: text.to_owned(),
        reason,
    };
    let parts: Vec<&str> = text.split('/').collect();
    let (os, os_version) = split_os(parts[0]).ok_or_else(|| refuse("bad operating system"))?;
    if !parts[1..].iter().all(|part| is_component(part)) {
        return Err(refuse("bad architecture or variant"));
    }
    let mut platform = match parts.as_slice() {
        [_] => one_part(os).ok_or_else(|| refuse("unknown operating system or architecture"))?,
        [_, arch] => Platform::new(os, arch, ""),
        [_, arch, variant] => Platform::new(os, arch, variant),
        _ => return Err(refuse("too many parts")),
    };
    os_version.clone_into(&mut platform.os_version);
    Ok(platform)
}

fn one_part(text: &str) -> Option<Platform> {
    let os = normalize_os(text);
    if KNOWN_OS.contains(&os.as_str()) {
        return Some(Platform::new(&os, local_arch(), ""));
    }
    let platform = Platform::new(local_os(), text, "");
    KNOWN_ARCH
        .contains(&platform.architecture.as_str())
        .then_some(platform)
}

fn split_os(text: &str) -> Option<(&str, &str)> {
    let (os, version) = match text.split_once('(') {
        Some((os, rest)) => (os, rest.strip_suffix(')')?),
        None => (text, ""),
    };
    let os_ok = !os.is_empty()
        && os
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    let version_ok = version
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    (os_ok && version_ok).then_some((os, version))
}

fn is_component(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

fn local_os() -> &'static str {
    match std::env::consts::OS {
        "macos" => "darwin",
        os => os,
    }
}

fn local_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86" => "386",
        "loongarch64" => "loong64",
        "powerpc64" => "ppc64le",
        arch => arch,
    }
}

fn normalize_os(os: &str) -> String {
    let os = os.to_ascii_lowercase();
    match os.as_str() {
        "" => local_os().to_owned(),
        "macos" => "darwin".to_owned(),
        _ => os,
    }
}

fn normalize_arch(arch: &str, variant: &str) -> (String, String) {
    let (arch, variant) = (arch.to_ascii_lowercase(), variant.to_ascii_lowercase());
    let (arch, variant) = match (arch.as_str(), variant.as_str()) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", v) => ("amd64", v),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
        ("aarch64" | "arm64", v) => ("arm64", v),
        ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
        ("armel", _) | ("arm", "6") => ("arm", "v6"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "8") => ("arm", "v8"),
        (a, v) => (a, v),
    };
    (arch.to_owned(), variant.to_owned())
}

/// Removes repeated platforms, keeping the first of each; all are normalised.
pub fn dedupe(platforms: impl IntoIterator<Item = Platform>) -> Vec<Platform> {
    let mut seen = HashSet::new();
    platforms
        .into_iter()
        .map(Platform::normalized)
        .filter(|platform| seen.insert(platform.to_string()))
        .collect()
}

/// Formats the platforms that the user fixed, each marked with `*`, then all others, each once.
pub fn format_groups(fixed: &[Platform], others: &[Platform]) -> Vec<String> {
    let mut seen = HashSet::new();
    let marked = fixed.iter().map(|p| (p, "*"));
    marked
        .chain(others.iter().map(|p| (p, "")))
        .filter_map(|(platform, mark)| {
            let text = platform.clone().normalized().to_string();
            let shown = format!("{text}{mark}");
            seen.insert(text).then_some(shown)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formatted(text: &str) -> String {
        parse(text).unwrap().to_string()
    }

    #[test]
    fn parse_normalises() {
        for (given, expected) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v2", "linux/amd64/v2"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/i386", "linux/386"),
            ("Linux/AMD64", "linux/amd64"),
            ("macos/arm64", "darwin/arm64"),
            ("windows(10.0.17763)/amd64", "windows/amd64"),
        ] {
            assert_eq!(formatted(given), expected, "{given}");
        }
        assert_eq!(
            parse("windows(10.0.17763)/amd64").unwrap().os_version,
            "10.0.17763"
        );
    }

    #[test]
    fn one_part_is_an_os_or_an_architecture() {
        assert_eq!(parse("linux").unwrap().os, "linux");
        assert_eq!(parse("arm64").unwrap().architecture, "arm64");
        assert_eq!(parse("local").unwrap(), Platform::local());
    }

    #[test]
    fn bad_platforms_are_refused() {
        for bad in [
            "",
            "foo",
            "linux/",
            "linux/a*",
            "a/b/c/d",
            "/amd64",
            "li(x/amd64",
            "l nux/a",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_flag_may_hold_several() {
        let list = parse_list(&["linux/amd64,linux/arm64".to_owned(), "linux/386".to_owned()]);
        let texts: Vec<_> = list.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["linux/amd64", "linux/arm64", "linux/386"]);
    }

    #[test]
    fn fixed_platforms_come_first_with_a_star() {
        let fixed = [parse("linux/arm64").unwrap()];
        let others = ["linux/amd64", "linux/arm64/v8", "linux/amd64"].map(|p| parse(p).unwrap());
        assert_eq!(
            format_groups(&fixed, &others),
            ["linux/arm64*", "linux/amd64"]
        );
        assert_eq!(dedupe(others).len(), 2);
    }

    #[test]
    fn json_is_that_of_the_oci_specification() {
        let json = r#"{"architecture":"arm","os":"linux","variant":"v7"}"#;
        let platform: Platform = serde_json::from_str(json).unwrap();
        assert_eq!(platform.to_string(), "linux/arm/v7");
        assert_eq!(serde_json::to_string(&platform).unwrap(), json);
    }
}
