//! Which node builds which platform (buildx `build/resolver`, containerd `platforms`).

use super::platform::Platform;

/// The platforms that one node builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Place of the node in the builder.
    pub node: usize,
    /// Its platforms in the order asked for; empty: its own.
    pub platforms: Vec<Platform>,
}

/// How exactly a node must have a platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// The very platform.
    Exact,
    /// One that runs it, as arm64 runs arm/v7.
    Compatible,
}

/// Gives each platform to the node that has it best, the earlier of two that are alike. A platform
/// that no node has goes to the first node, and the second value is false. `nodes` holds the
/// platforms of each node.
pub fn assign(wanted: &[Platform], nodes: &[Vec<Platform>], how: Match) -> (Vec<Share>, bool) {
    if wanted.is_empty() {
        let platforms = Vec::new();
        return (vec![Share { node: 0, platforms }], true);
    }
    let mut shares: Vec<Share> = Vec::new();
    let mut perfect = true;
    for platform in wanted {
        let best = best_node(platform, nodes, how);
        perfect &= best.is_some();
        let node = best.unwrap_or(0);
        match shares.iter_mut().find(|share| share.node == node) {
            Some(share) => share.platforms.push(platform.clone()),
            None => shares.push(Share {
                node,
                platforms: vec![platform.clone()],
            }),
        }
    }
    (shares, perfect)
}

fn best_node(wanted: &Platform, nodes: &[Vec<Platform>], how: Match) -> Option<usize> {
    let mut best: Option<(usize, &Platform)> = None;
    for (index, platforms) in nodes.iter().enumerate() {
        for own in platforms {
            let Some(rank) = rank(own, wanted, how) else {
                continue;
            };
            // Ranks are those of the newcomer's own list, in which the other one may be missing.
            let better = best.is_none_or(|(_, known)| {
                self::rank(own, known, how).is_none_or(|other| rank < other)
            });
            if better {
                best = Some((index, own));
            }
        }
    }
    best.map(|(index, _)| index)
}

/// The place of a platform among those that `own` runs, its own first.
fn rank(own: &Platform, wanted: &Platform, how: Match) -> Option<usize> {
    let own = own.clone().normalized();
    let wanted = wanted.clone().normalized();
    if own.os != wanted.os || (!own.os_version.is_empty() && own.os_version != wanted.os_version) {
        return None;
    }
    let list = match how {
        Match::Exact => vec![(own.architecture, own.variant)],
        Match::Compatible => runs(&own.architecture, &own.variant),
    };
    let wanted = (wanted.architecture, wanted.variant);
    list.iter().position(|one| *one == wanted)
}

/// What a processor runs, best first.
fn runs(architecture: &str, variant: &str) -> Vec<(String, String)> {
    let pair = |a: &str, v: &str| (a.to_owned(), v.to_owned());
    let number: u32 = variant.trim_start_matches('v').parse().unwrap_or(0);
    let mut list = vec![pair(architecture, variant)];
    let arm = |from: u32| (5..=from).rev().map(|n| pair("arm", &format!("v{n}")));
    match architecture {
        "amd64" => {
            list.extend((2..number).rev().map(|n| pair("amd64", &format!("v{n}"))));
            if number > 1 {
                list.push(pair("amd64", ""));
            }
            list.push(pair("386", ""));
        }
        "arm" => list.extend(arm(number.saturating_sub(1))),
        "arm64" => {
            if number > 8 {
                list.push(pair("arm64", ""));
            }
            list.extend(arm(8));
        }
        _ => {}
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platforms(text: &str) -> Vec<Platform> {
        Platform::parse_list(&[text]).unwrap()
    }

    fn shares(wanted: &str, nodes: &[&str], how: Match) -> (Vec<(usize, String)>, bool) {
        let nodes: Vec<_> = nodes.iter().map(|text| platforms(text)).collect();
        let (shares, perfect) = assign(&platforms(wanted), &nodes, how);
        let shown = |share: Share| {
            let list: Vec<String> = share.platforms.iter().map(Platform::format).collect();
            (share.node, list.join(","))
        };
        (shares.into_iter().map(shown).collect(), perfect)
    }

    /// Wanted, platforms of each node, shares, perfect.
    type Case = (
        &'static str,
        &'static [&'static str],
        &'static [(usize, &'static str)],
        bool,
    );
    const CASES: &[Case] = &[
        (
            "linux/amd64",
            &["linux/amd64,linux/arm64", "linux/riscv64"],
            &[(0, "linux/amd64")],
            true,
        ),
        (
            "linux/riscv64",
            &["linux/amd64", "linux/riscv64", "linux/riscv64"],
            &[(1, "linux/riscv64")],
            true,
        ),
        (
            "linux/mips",
            &["linux/amd64", "linux/riscv64"],
            &[(0, "linux/mips")],
            false,
        ),
        // Compatible, lower, exact.
        (
            "linux/arm/v8",
            &["linux/amd64", "linux/arm64"],
            &[(1, "linux/arm/v8")],
            true,
        ),
        (
            "linux/arm/v7",
            &["linux/amd64", "linux/arm64"],
            &[(1, "linux/arm/v7")],
            true,
        ),
        (
            "linux/arm/v8",
            &["linux/amd64", "linux/arm64", "linux/arm/v8"],
            &[(2, "linux/arm/v8")],
            true,
        ),
        (
            "linux/arm/v7",
            &["linux/amd64", "linux/arm64", "linux/arm/v8"],
            &[(2, "linux/arm/v7")],
            true,
        ),
        (
            "linux/arm/v8",
            &["linux/amd64", "linux/arm/v7"],
            &[(0, "linux/arm/v8")],
            false,
        ),
        (
            "linux/arm/v6",
            &["linux/amd64", "linux/arm/v7"],
            &[(1, "linux/arm/v6")],
            true,
        ),
        (
            "linux/arm/v7",
            &["linux/arm/v8", "linux/arm/v7"],
            &[(1, "linux/arm/v7")],
            true,
        ),
        (
            "linux/386",
            &["linux/arm64", "linux/amd64"],
            &[(1, "linux/386")],
            true,
        ),
        // Several.
        (
            "linux/amd64,linux/riscv64,linux/arm64",
            &["linux/amd64,linux/arm64", "linux/riscv64"],
            &[(0, "linux/amd64,linux/arm64"), (1, "linux/riscv64")],
            true,
        ),
        (
            "linux/amd64,linux/riscv64",
            &["linux/amd64", "linux/amd64,linux/riscv64"],
            &[(0, "linux/amd64"), (1, "linux/riscv64")],
            true,
        ),
    ];

    #[test]
    fn each_platform_goes_to_the_node_that_has_it_best() {
        for (wanted, nodes, expected, perfect) in CASES {
            let expected: Vec<_> = expected
                .iter()
                .map(|(n, p)| (*n, (*p).to_owned()))
                .collect();
            let found = shares(wanted, nodes, Match::Compatible);
            assert_eq!(found, (expected, *perfect), "{wanted} {nodes:?}");
        }
    }

    #[test]
    fn exact_takes_nothing_else_and_nothing_asked_is_the_first_node() {
        let (_, perfect) = shares("linux/arm/v7", &["linux/arm64"], Match::Exact);
        assert!(!perfect);
        let (found, perfect) = shares("linux/arm64/v8", &["linux/arm64"], Match::Exact);
        assert_eq!(
            (found, perfect),
            (vec![(0, "linux/arm64".to_owned())], true)
        );
        let (first, perfect) = assign(&[], &[vec![], vec![]], Match::Exact);
        assert_eq!(
            (first[0].node, first[0].platforms.len(), perfect),
            (0, 0, true)
        );
    }
}
