//! `--platform`: operating systems and processors, in the notation of `containerd/platforms`:
//! `OS[(VERSION[+FEATURE]…)][/ARCH[/VARIANT]]`, or an architecture alone.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::OptionError;
use super::suggest;

/// The operating systems that may stand alone.
const SYSTEMS: [&str; 17] = [
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
/// The architectures that may stand alone.
const ARCHITECTURES: [&str; 24] = [
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

/// A platform, in JSON the `platform` object of the OCI image specification.
/// [`Display`](fmt::Display) writes everything; see [`Platform::format`] for the short form.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// The architecture in Go's names, for example `amd64`.
    #[serde(default)]
    pub architecture: String,
    /// The operating system in Go's names, for example `linux`.
    #[serde(default)]
    pub os: String,
    /// The version of the operating system; empty for none.
    #[serde(
        rename = "os.version",
        default,
        skip_serializing_if = "String::is_empty"
    )]
    pub os_version: String,
    /// Features of the operating system.
    #[serde(rename = "os.features", default, skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// The variant, for example `v7`; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl Platform {
    /// Parses one platform, as containerd's `Parse` does: `linux/arm64/v8` keeps its `v8`, and
    /// `linux/arm` has no variant. What is left out is that of this program's machine.
    pub fn parse(value: &str) -> Result<Self, OptionError> {
        let error =
            |expected: &str| OptionError::bad_value("platform", value, expected).within(value);
        let parts: Vec<&str> = value.split('/').collect();
        let (first, rest) = parts.split_first().unwrap_or((&"", &[]));
        if parts.len() > 3 {
            return Err(error("at most OS/ARCH/VARIANT"));
        }
        let (os, version, features) =
            split_os(first).ok_or_else(|| error("an operating system such as linux"))?;
        if rest.iter().any(|part| !is_specifier(part)) {
            return Err(error(
                "letters, digits, \"_\", \".\" and \"-\" in every part",
            ));
        }
        let mut platform = Self {
            os: normal_os(os),
            architecture: String::new(),
            variant: String::new(),
            os_version: version,
            os_features: features,
        };
        match *rest {
            [] => {
                return platform.complete(first).ok_or_else(|| {
                    let known: Vec<&str> = [&SYSTEMS[..], &ARCHITECTURES[..]].concat();
                    error("a known operating system or architecture")
                        .suggest(suggest::closest(first, &known))
                });
            }
            [architecture] => {
                platform.set_arch(architecture, "");
                if platform.architecture == "arm" && platform.variant == "v7" {
                    platform.variant.clear();
                }
            }
            [architecture, variant, ..] => {
                platform.set_arch(architecture, variant);
                if platform.architecture == "arm64" && platform.variant.is_empty() {
                    "v8".clone_into(&mut platform.variant);
                }
            }
        }
        Ok(platform)
    }

    /// Parses the values of all `--platform` flags, each a list with commas, and normalizes.
    /// `local` is [`Platform::local`]. Duplicates stay.
    pub fn parse_list<S: AsRef<str>>(values: &[S]) -> Result<Vec<Self>, OptionError> {
        let mut platforms = Vec::new();
        for part in values.iter().flat_map(|value| value.as_ref().split(',')) {
            platforms.push(if part.eq_ignore_ascii_case("local") {
                Self::local()
            } else {
                Self::parse(part)?.normalized()
            });
        }
        Ok(platforms)
    }

    /// Returns the platform of the machine for which this program was built, normalized. A 32-bit
    /// ARM counts as `v7`.
    pub fn local() -> Self {
        Self {
            os: local_os().to_owned(),
            architecture: local_arch().to_owned(),
            variant: String::new(),
            os_version: String::new(),
            os_features: Vec::new(),
        }
        .normalized()
    }

    /// Returns the platform with the usual names: `x86_64` is `amd64`, `arm64/v8` is `arm64`, `arm`
    /// is `arm/v7`.
    #[must_use]
    pub fn normalized(mut self) -> Self {
        self.os = normal_os(&self.os);
        let (architecture, variant) = (self.architecture.clone(), self.variant.clone());
        self.set_arch(&architecture, &variant);
        self.os_features.sort();
        self.os_features.dedup();
        self
    }

    /// Returns `OS/ARCH[/VARIANT]`, without version and features; `unknown` without an operating
    /// system.
    pub fn format(&self) -> String {
        if self.os.is_empty() {
            return "unknown".to_owned();
        }
        self.joined(&self.os)
    }

    fn joined(&self, os: &str) -> String {
        let parts = [os, &self.architecture, &self.variant];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        parts.join("/")
    }

    fn set_arch(&mut self, architecture: &str, variant: &str) {
        (self.architecture, self.variant) = normal_arch(architecture, variant);
    }

    /// Completes a platform of one part: an operating system, or else an architecture.
    fn complete(mut self, part: &str) -> Option<Self> {
        if SYSTEMS.contains(&self.os.as_str()) {
            local_arch().clone_into(&mut self.architecture);
            return Some(self);
        }
        self.set_arch(part, "");
        if !ARCHITECTURES.contains(&self.architecture.as_str()) {
            return None;
        }
        if self.architecture == "arm" && self.variant == "v7" {
            self.variant.clear();
        }
        local_os().clone_into(&mut self.os);
        Some(self)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut features = self.os_features.clone();
        features.sort();
        features.dedup();
        features.retain(|feature| !feature.is_empty());
        if self.os_version.is_empty() && features.is_empty() {
            return f.write_str(&self.format());
        }
        let mut os = format!("{}({}", self.os, encode(&self.os_version));
        for feature in features {
            os.push('+');
            os.push_str(&encode(&feature));
        }
        os.push(')');
        f.write_str(&self.joined(&os))
    }
}

/// Splits `OS(VERSION+FEATURE…)`.
fn split_os(text: &str) -> Option<(&str, String, Vec<String>)> {
    let (os, options) = match text.split_once('(') {
        Some((os, options)) => (os, options.strip_suffix(')')?),
        None => (text, ""),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if os.is_empty() || !os.bytes().all(plain) {
        return None;
    }
    let option = |byte: u8| plain(byte) || matches!(byte, b'.' | b'%' | b'+');
    if !options.bytes().all(option) {
        return None;
    }
    let mut options = options.split('+').map(decode);
    let version = options.next()??;
    let features = options.collect::<Option<Vec<_>>>()?;
    if features.iter().any(String::is_empty) {
        return None;
    }
    Some((os, version, features))
}

fn is_specifier(text: &str) -> bool {
    !text.is_empty()
        && !matches!(text, "." | "..")
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// Writes the characters that have a meaning in the notation as `%XX`.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '%' => encoded.push_str("%25"),
            '+' => encoded.push_str("%2B"),
            '(' => encoded.push_str("%28"),
            ')' => encoded.push_str("%29"),
            '/' => encoded.push_str("%2F"),
            other => encoded.push(other),
        }
    }
    encoded
}

/// Reads `%XX`; `None` if two hexadecimal digits do not follow or the result is not UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..2)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(part.get(2..)?.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

fn normal_os(os: &str) -> String {
    match os.to_lowercase().as_str() {
        "" => local_os().to_owned(),
        "macos" => "darwin".to_owned(),
        other => other.to_owned(),
    }
}

fn normal_arch(architecture: &str, variant: &str) -> (String, String) {
    let architecture = architecture.to_lowercase();
    let variant = variant.to_lowercase();
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
        ("aarch64", variant) => ("arm64", variant),
        ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
        ("armel", _) | ("arm", "6") => ("arm", "v6"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "8") => ("arm", "v8"),
        same => same,
    };
    (architecture.to_owned(), variant.to_owned())
}

/// Rust's name of this machine's operating system in Go's words.
fn local_os() -> &'static str {
    match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    }
}

/// Rust's name of this machine's architecture in Go's words.
fn local_arch() -> &'static str {
    let little = cfg!(target_endian = "little");
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" if little => "ppc64le",
        "powerpc64" => "ppc64",
        "loongarch64" => "loong64",
        "mips64" if little => "mips64le",
        "mips" if little => "mipsle",
        other => other,
    }
}

#[cfg(test)]
mod tests;
