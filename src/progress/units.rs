//! Byte counts as BuildKit prints them (Go package `tonistiigi/units`, verb `%.2f`); those of `du` and `prune` have
//! the form of `docker/go-units`, in `options::size`.

/// Prints a byte count with decimal units and two decimals: `999B`, `1.23kB`, `45.60MB`.
pub fn bytes(count: i64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    let magnitude = count.unsigned_abs();
    let mut base: u64 = 1;
    let mut unit = None;
    for name in UNITS {
        let Some(next) = base.checked_mul(1000).filter(|next| magnitude >= *next) else {
            break;
        };
        base = next;
        unit = Some(name);
    }
    match unit {
        None => format!("{count}B"),
        Some(unit) => {
            #[expect(
                clippy::cast_precision_loss,
                reason = "the original divides floating point numbers too; two decimals are shown"
            )]
            let value = count as f64 / base as f64;
            format!("{value:.2}{unit}")
        }
    }
}

/// Prints ` current / total`, ` current` or nothing, with the leading blank.
pub(super) fn amount(current: i64, total: i64) -> String {
    if total != 0 {
        format!(" {} / {}", bytes(current), bytes(total))
    } else if current != 0 {
        format!(" {}", bytes(current))
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_unit_that_fits() {
        let cases = [
            (0, "0B"),
            (123, "123B"),
            (999, "999B"),
            (1000, "1.00kB"),
            (1234, "1.23kB"),
            (999_999, "1000.00kB"),
            (1_000_000, "1.00MB"),
            (1_125_000, "1.12MB"),
            (29_380_000, "29.38MB"),
            (2_500_000_000, "2.50GB"),
            (i64::MAX, "9.22EB"),
            (-5, "-5B"),
            (-1234, "-1.23kB"),
        ];
        for (count, want) in cases {
            assert_eq!(bytes(count), want, "{count}");
        }
    }

    #[test]
    fn amount_leaves_out_what_is_not_known() {
        assert_eq!(amount(0, 0), "");
        assert_eq!(amount(50, 0), " 50B");
        assert_eq!(amount(0, 2000), " 0B / 2.00kB");
    }
}
