//! `--explain`, `--min-hit-rate`: what is told of the steps that ran, and how many may.

use super::OptionError;

/// How much is told of why steps ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Explain {
    /// A few lines.
    #[default]
    Auto,
    /// Everything.
    Full,
    /// Nothing.
    Off,
}

impl Explain {
    /// Reads `auto`, `full` or `off`.
    ///
    /// # Errors
    ///
    /// Fails for any other text.
    pub fn parse(text: &str) -> Result<Self, OptionError> {
        match text {
            "auto" => Ok(Self::Auto),
            "full" => Ok(Self::Full),
            "off" => Ok(Self::Off),
            other => Err(OptionError::other(format!(
                "{other:?} is not one of auto, full and off"
            ))),
        }
    }
}

/// How many of the steps must come out of caches, in per cent.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct HitRate(f64);

impl HitRate {
    /// Reads a number from 0 to 100, with or without a per cent sign.
    ///
    /// # Errors
    ///
    /// Fails for any other text.
    pub fn parse(text: &str) -> Result<Self, OptionError> {
        let number = text.strip_suffix('%').unwrap_or(text).trim_end();
        match number.parse::<f64>() {
            Ok(rate) if (0.0..=100.0).contains(&rate) => Ok(Self(rate)),
            _ => Err(OptionError::other(format!(
                "{text:?} is not a rate such as 80%, from 0% to 100%"
            ))),
        }
    }

    /// Returns the per cent.
    pub fn percent(self) -> f64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_words_are_taken() {
        assert_eq!(Explain::parse("auto").unwrap(), Explain::Auto);
        assert_eq!(Explain::parse("full").unwrap(), Explain::Full);
        assert_eq!(Explain::parse("off").unwrap(), Explain::Off);
        for text in ["", "on", "AUTO"] {
            assert!(Explain::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_are_per_cent() {
        for (text, rate) in [("80%", 80.0), ("99.5 %", 99.5), ("0", 0.0), ("100", 100.0)] {
            let read = HitRate::parse(text).unwrap().percent();
            assert!((read - rate).abs() < f64::EPSILON, "{text}");
        }
        for text in ["", "%", "-1", "101%", "x", "NaN", "inf"] {
            assert!(HitRate::parse(text).is_err(), "{text}");
        }
    }
}
