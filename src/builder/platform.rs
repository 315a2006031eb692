//! Platforms of a node: each once, and grouped as buildx prints them.

use std::collections::HashSet;

pub use crate::options::platform::Platform;

/// Removes repeated platforms, keeping the first of each; all are normalised.
pub fn dedupe(platforms: impl IntoIterator<Item = Platform>) -> Vec<Platform> {
    let mut seen = HashSet::new();
    platforms
        .into_iter()
        .map(Platform::normalized)
        .filter(|platform| seen.insert(platform.format()))
        .collect()
}

/// Formats the platforms that the user fixed, each marked with `*`, then all others, each once.
pub fn format_groups(fixed: &[Platform], others: &[Platform]) -> Vec<String> {
    let mut seen = HashSet::new();
    let marked = fixed.iter().map(|p| (p, "*"));
    marked
        .chain(others.iter().map(|p| (p, "")))
        .filter_map(|(platform, mark)| {
            let text = platform.clone().normalized().format();
            let shown = format!("{text}{mark}");
            seen.insert(text).then_some(shown)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_platforms_come_first_with_a_star() {
        let parse = |text| Platform::parse(text).unwrap();
        let fixed = [parse("linux/arm64")];
        let others = ["linux/amd64", "linux/arm64/v8", "linux/amd64"].map(parse);
        assert_eq!(
            format_groups(&fixed, &others),
            ["linux/arm64*", "linux/amd64"]
        );
        assert_eq!(dedupe(others).len(), 2);
    }
}
