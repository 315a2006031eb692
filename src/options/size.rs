//! Sizes in bytes, as `docker/go-units` reads and writes them.

use super::error::OptionError;

/// What [`ram_in_bytes`] accepts, for error texts.
pub const EXPECTED: &str = "a size such as 512m or 2g";

const BINARY_UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
const DECIMAL_UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];

/// Reads a size whose units are powers of 1024: `512m`, `1.5GiB`, `64 kb`, `100`. Letter case does
/// not count. `--shm-size` and the space limits of `prune` are such sizes.
pub fn ram_in_bytes(value: &str) -> Result<u64, OptionError> {
    let error = || OptionError::bad_value("size", value, EXPECTED).within(value);
    let last = value
        .rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')
        .ok_or_else(error)?;
    let (number, suffix) = value.split_at_checked(last + 1).ok_or_else(error)?;
    let number = number.strip_suffix(' ').unwrap_or(number);
    // `f64` also reads words; a size has to start like a number.
    if !number.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '.' | '+')) {
        return Err(error());
    }
    let number: f64 = number.parse().map_err(|_| error())?;
    let power = power(suffix).ok_or_else(error)?;
    let bytes = number * 1024_f64.powi(power);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "checked to be in the range of i64, as in Go; fractions of a byte are dropped"
    )]
    if bytes < i64::MAX as f64 {
        Ok(bytes as u64)
    } else {
        Err(error())
    }
}

/// Writes a size with decimal units and up to four digits: `1.21GB`.
pub fn human_size(bytes: u64) -> String {
    humanize(bytes, 1000, &DECIMAL_UNITS)
}

/// Writes a size with binary units and up to four digits: `1.127GiB`.
pub fn bytes_size(bytes: u64) -> String {
    humanize(bytes, 1024, &BINARY_UNITS)
}

/// Reads a unit: `b`, or a letter with an optional `b` or `ib`.
fn power(suffix: &str) -> Option<i32> {
    let suffix = suffix.to_lowercase();
    let mut characters = suffix.chars();
    let power = match characters.next() {
        None => return Some(0),
        Some('b') => return characters.next().is_none().then_some(0),
        Some('k') => 1,
        Some('m') => 2,
        Some('g') => 3,
        Some('t') => 4,
        Some('p') => 5,
        Some(_) => return None,
    };
    matches!(characters.as_str(), "" | "b" | "ib").then_some(power)
}

fn humanize(bytes: u64, base: u32, units: &[&str]) -> String {
    #[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
    let mut size = bytes as f64;
    let base = f64::from(base);
    let mut unit = 0;
    while size >= base && unit + 1 < units.len() {
        size /= base;
        unit += 1;
    }
    let decimals = match size {
        size if size >= 1000.0 => 0,
        size if size >= 100.0 => 1,
        size if size >= 10.0 => 2,
        _ => 3,
    };
    let number = format!("{size:.decimals$}");
    let number = if number.contains('.') {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        &number
    };
    format!("{number}{}", units.get(unit).unwrap_or(&""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024() {
        const K: u64 = 1024;
        for (value, bytes) in [
            ("0", 0),
            ("32", 32),
            ("32b", 32),
            ("32B", 32),
            ("32k", 32 * K),
            ("32K", 32 * K),
            ("32kb", 32 * K),
            ("32KiB", 32 * K),
            ("32 kb", 32 * K),
            ("32 ", 32),
            ("1.5m", 3 * K * K / 2),
            (".5k", 512),
            ("1e3", 1000),
            ("2g", 2 * K * K * K),
            ("2Tb", 2 * K * K * K * K),
            ("2PiB", 2 * K * K * K * K * K),
            ("1.9b", 1),
        ] {
            assert_eq!(ram_in_bytes(value).unwrap(), bytes, "{value}");
        }
    }

    #[test]
    fn errors() {
        for value in [
            "", "hello", "-32", "-0.1k", "32bb", "32kbb", "32mm", "32q", "k", "32  kb", " 32",
            "inf1", "nan0", "9000000p", "32kibb", "1 2", "32é",
        ] {
            let error = ram_in_bytes(value).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("invalid value {value:?} for \"size\", expected a size such as 512m or 2g")
            );
        }
    }

    #[test]
    fn human_forms() {
        for (bytes, decimal, binary) in [
            (0, "0B", "0B"),
            (999, "999B", "999B"),
            (1000, "1kB", "1000B"),
            (1024, "1.024kB", "1KiB"),
            (2_746_000, "2.746MB", "2.619MiB"),
            (1_000_000, "1MB", "976.6KiB"),
            (999_960, "1000kB", "976.5KiB"),
            (44 * 1024, "45.06kB", "44KiB"),
            (u64::MAX, "18.45EB", "16EiB"),
        ] {
            assert_eq!(human_size(bytes), decimal, "{bytes}");
            assert_eq!(bytes_size(bytes), binary, "{bytes}");
        }
    }
}
