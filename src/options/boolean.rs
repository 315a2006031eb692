//! Booleans as Go's `strconv.ParseBool` reads them.

/// What [`parse_bool`] accepts, for error texts.
pub const EXPECTED: &str = "true or false";

/// Reads `1 t T TRUE true True` and `0 f F FALSE false False`; anything else is `None`.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::parse_bool;

    #[test]
    fn only_the_spellings_of_go() {
        for text in ["1", "t", "T", "TRUE", "true", "True"] {
            assert_eq!(parse_bool(text), Some(true), "{text}");
        }
        for text in ["0", "f", "F", "FALSE", "false", "False"] {
            assert_eq!(parse_bool(text), Some(false), "{text}");
        }
        for text in ["", "yes", "tRUE", " true", "2", "on"] {
            assert_eq!(parse_bool(text), None, "{text}");
        }
    }
}
