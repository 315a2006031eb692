//! How much of others' JSON is read. In memory a value takes many times its text where it is small, so
//! the values are counted before anything is made of them.

use thiserror::Error;

/// How deep values may lie in each other.
const DEPTH: usize = 128;

/// What may still be read of one cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    bytes: usize,
    values: usize,
}

/// Why a text is not read. It is the end of a sentence that names the text.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TooMuch {
    /// It is too long.
    #[error("has {size} bytes, more than the {limit} that are read")]
    Bytes {
        /// Its size.
        size: usize,
        /// The bound.
        limit: usize,
    },
    /// It has too many values.
    #[error("has {values} values, more than the {limit} that are read")]
    Values {
        /// Its values.
        values: usize,
        /// The bound.
        limit: usize,
    },
    /// Its values lie too deep in each other.
    #[error("has values that lie deeper in each other than the {DEPTH} levels that are read")]
    Depth,
}

impl Budget {
    /// For this many bytes and values.
    pub const fn new(bytes: usize, values: usize) -> Self {
        Self { bytes, values }
    }

    /// Takes a text out of the budget.
    ///
    /// # Errors
    ///
    /// Fails if the text is more than what is left.
    pub fn take(&mut self, json: &[u8]) -> Result<(), TooMuch> {
        let size = json.len();
        let limit = self.bytes;
        self.bytes = limit
            .checked_sub(size)
            .ok_or(TooMuch::Bytes { size, limit })?;
        let (values, depth) = count(json);
        if depth > DEPTH {
            return Err(TooMuch::Depth);
        }
        let limit = self.values;
        self.values = limit
            .checked_sub(values)
            .ok_or(TooMuch::Values { values, limit })?;
        Ok(())
    }
}

/// Returns how many values a text has at most, and how deep they lie in each other.
fn count(json: &[u8]) -> (usize, usize) {
    let (mut values, mut depth, mut deepest) = (1, 0_usize, 0);
    let (mut in_text, mut escaped) = (false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_text,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b',' => values += 1,
            b'[' | b'{' => {
                values += 1;
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    (values, deepest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_outside_texts() {
        assert_eq!(count(br#"{"a":[1,2],"b":"[{,\"[,"}"#), (5, 2));
        assert_eq!(count(b"7"), (1, 0));
    }

    #[test]
    fn several_texts_share_a_budget() {
        let mut budget = Budget::new(10, 4);
        budget.take(b"[1]").unwrap();
        budget.take(b"[2]").unwrap();
        let values = TooMuch::Values {
            values: 2,
            limit: 0,
        };
        assert_eq!(budget.take(b"[3]"), Err(values));
        let bytes = TooMuch::Bytes { size: 3, limit: 1 };
        assert_eq!(budget.take(b"[4]"), Err(bytes));
    }

    #[test]
    fn deep_texts_are_not_read() {
        let mut budget = Budget::new(1000, 1000);
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert_eq!(budget.take(deep(DEPTH).as_bytes()), Ok(()));
        let deeper = budget.take(deep(DEPTH + 1).as_bytes());
        assert_eq!(deeper, Err(TooMuch::Depth));
    }
}
