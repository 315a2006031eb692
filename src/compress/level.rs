//! An algorithm together with a level it has.

use super::{Algorithm, Error, gzip, zstd};

/// How to compress: an algorithm and a valid level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Level {
    algorithm: Algorithm,
    number: i32,
}

impl Level {
    /// Checks a level; none is the algorithm's default.
    ///
    /// - gzip: 0 (stored) to 9 as for Go's `compress/gzip`; −1 and none are 4, which makes layers of the
    ///   size that Go's default has.
    /// - zstd: 0 to 22 as for the `zstd` program; 0 and none are its default, 3.
    /// - uncompressed: no level has a meaning; any is taken, as BuildKit does.
    ///
    /// # Errors
    /// [`Error::Level`] if the algorithm has no such level.
    pub fn new(algorithm: Algorithm, number: Option<i32>) -> Result<Self, Error> {
        let (range, default, means_default) = match algorithm {
            Algorithm::Gzip => (-1..=9, gzip::DEFAULT_LEVEL, -1),
            Algorithm::Zstd => (0..=22, zstd::DEFAULT_LEVEL, 0),
            Algorithm::Uncompressed => (i32::MIN..=i32::MAX, 0, 0),
        };
        let number = number.unwrap_or(means_default);
        if !range.contains(&number) {
            return Err(Error::Level {
                algorithm,
                number,
                least: if algorithm == Algorithm::Gzip {
                    0
                } else {
                    *range.start()
                },
                most: *range.end(),
            });
        }
        let number = match algorithm {
            Algorithm::Uncompressed => 0,
            _ if number == means_default => default,
            _ => number,
        };
        Ok(Self { algorithm, number })
    }

    /// Returns the algorithm.
    pub fn algorithm(self) -> Algorithm {
        self.algorithm
    }

    /// Returns the level in the algorithm's own numbers; 0 for uncompressed.
    pub fn number(self) -> i32 {
        self.number
    }
}

impl From<Algorithm> for Level {
    /// The default level.
    fn from(algorithm: Algorithm) -> Self {
        let number = match algorithm {
            Algorithm::Gzip => gzip::DEFAULT_LEVEL,
            Algorithm::Zstd => zstd::DEFAULT_LEVEL,
            Algorithm::Uncompressed => 0,
        };
        Self { algorithm, number }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_of_each_algorithm() {
        let number = |algorithm, number| Level::new(algorithm, number).map(Level::number).ok();
        for (algorithm, wanted, effective) in [
            (Algorithm::Gzip, None, Some(4)),
            (Algorithm::Gzip, Some(-1), Some(4)),
            (Algorithm::Gzip, Some(0), Some(0)),
            (Algorithm::Gzip, Some(9), Some(9)),
            (Algorithm::Gzip, Some(10), None),
            (Algorithm::Gzip, Some(-2), None),
            (Algorithm::Zstd, None, Some(3)),
            (Algorithm::Zstd, Some(0), Some(3)),
            (Algorithm::Zstd, Some(1), Some(1)),
            (Algorithm::Zstd, Some(22), Some(22)),
            (Algorithm::Zstd, Some(23), None),
            (Algorithm::Zstd, Some(-1), None),
            (Algorithm::Uncompressed, Some(5), Some(0)),
        ] {
            assert_eq!(
                number(algorithm, wanted),
                effective,
                "{algorithm} {wanted:?}"
            );
        }
        for algorithm in [Algorithm::Gzip, Algorithm::Zstd, Algorithm::Uncompressed] {
            assert_eq!(Level::new(algorithm, None).unwrap(), Level::from(algorithm));
        }
    }

    #[test]
    fn the_error_names_the_range() {
        let error = Level::new(Algorithm::Gzip, Some(12)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "gzip has no compression level 12: 0 to 9"
        );
    }
}
