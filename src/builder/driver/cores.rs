//! How many cores the options of a container leave it.

/// Returns how many cores a container is limited to by its options.
pub(super) fn cores(quota: Option<i64>, period: Option<i64>, cores: &str) -> Option<f64> {
    // The kernel's period where only the quota is given.
    const PERIOD: i64 = 100_000;
    let number = |n: i64| i32::try_from(n).ok().filter(|n| *n > 0).map(f64::from);
    let quota = quota.and_then(number);
    let quota = quota.zip(number(period.unwrap_or(PERIOD)));
    let quota = quota.map(|(quota, period)| quota / period);
    quota.into_iter().chain(count(cores)).reduce(f64::min)
}

/// Counts a list of cores such as `0-2,5`; `None` if it is none.
fn count(list: &str) -> Option<f64> {
    let count = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (u16, u16) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
        Some(f64::from(to.checked_sub(from)?) + 1.0)
    };
    list.split(',').map(count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_counted_in_cores() {
        for (quota, period, list, expected) in [
            (None, None, "", None),
            (Some(50_000), None, "", Some(0.5)),
            (Some(50_000), Some(10_000), "", Some(5.0)),
            (Some(-1), None, "", None),
            (None, None, "0-2,5", Some(4.0)),
            (None, None, "2-0", None),
            (Some(150_000), None, "0-1", Some(1.5)),
        ] {
            assert_eq!(cores(quota, period, list), expected, "{quota:?} {list}");
        }
    }
}
