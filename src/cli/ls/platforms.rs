//! The platforms of a node in a table: at most four groups, the common architectures first.

use std::collections::BTreeMap;

/// Architectures that are shown first, in this order.
const MAJOR: &[&str] = &[
    "linux/amd64",
    "linux/arm64",
    "linux/arm",
    "linux/ppc64le",
    "linux/s390x",
    "linux/riscv64",
    "linux/mips64",
];

/// Groups the platforms by system and architecture, and shows at most `max` groups: `linux/amd64`
/// for one platform, `linux/amd64 (+3)` for three, and `(5 more)` for those that are left out.
pub(super) fn truncated(platforms: &[String], max: usize) -> String {
    let groups = groups(platforms, max);
    let mut shown = Vec::new();
    let mut count = 0;
    let major = MAJOR.iter().filter(|name| groups.contains_key(**name));
    let minor = groups.keys().filter(|name| !MAJOR.contains(name));
    for (index, name) in major.chain(minor).enumerate() {
        if index >= max && !MAJOR.contains(name) {
            break;
        }
        let group = &groups[name];
        count += group.len();
        shown.push(match group.as_slice() {
            [one] => (*one).to_owned(),
            several => {
                let star = if several.iter().any(|p| p.ends_with('*')) {
                    "*"
                } else {
                    ""
                };
                format!("{name}{star} (+{})", several.len())
            }
        });
    }
    if count < platforms.len() {
        shown.push(format!("({} more)", platforms.len() - count));
    }
    shown.join(", ")
}

/// Returns the platforms by system and architecture. As in buildx, the limit is looked at before each
/// platform: once there are `max` groups of major architectures, not even their variants are added.
fn groups(platforms: &[String], max: usize) -> BTreeMap<&str, Vec<&str>> {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in MAJOR {
        for platform in platforms {
            if groups.len() >= max {
                break;
            }
            if base(platform) == *name {
                groups.entry(name).or_default().push(platform);
            }
        }
    }
    if groups.len() < max {
        for platform in platforms {
            let name = base(platform);
            if !MAJOR.contains(&name) {
                groups.entry(name).or_default().push(platform);
            }
        }
    }
    groups
}

/// Cuts a platform after system and architecture.
fn base(platform: &str) -> &str {
    let platform = platform.trim_end_matches('*');
    match platform.match_indices('/').nth(1) {
        Some((end, _)) => &platform[..end],
        None => platform,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let platforms: Vec<String> = text.split(", ").map(str::to_owned).collect();
        truncated(&platforms, 4)
    }

    #[test]
    fn groups_are_cut_as_buildx_does() {
        for (given, expected) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/arm64*, linux/amd64", "linux/amd64, linux/arm64*"),
            (
                "linux/amd64, linux/amd64/v2, linux/amd64/v3, linux/386",
                "linux/amd64 (+3), linux/386",
            ),
            (
                "linux/amd64, linux/amd64/v2*, linux/amd64/v3, linux/arm64, linux/riscv64, linux/ppc64le, linux/s390x, linux/386, linux/mips64le, linux/mips64, linux/arm/v7, linux/arm/v6",
                "linux/amd64* (+3), linux/arm64, linux/arm (+2), linux/ppc64le, (5 more)",
            ),
            (
                "windows/amd64, freebsd/amd64, linux/386, linux/foo, linux/bar",
                "freebsd/amd64, linux/386, linux/bar, linux/foo, (1 more)",
            ),
        ] {
            assert_eq!(shown(given), expected, "{given}");
        }
        assert_eq!(truncated(&[], 4), "");
    }
}
