//! Names of builders and nodes: validation, and random names for new builders.

use rand::seq::IndexedRandom as _;

/// A name that a builder or node cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid name {name}, name needs to start with a letter and may not contain symbols, except ._-"
)]
pub struct InvalidName {
    /// The refused name.
    pub name: String,
}

/// Checks a builder or node name and returns its lower-case form, which is the name of its file in
/// the store.
///
/// # Errors
///
/// Fails for a name that does not match `^[a-zA-Z][a-zA-Z0-9.\-_]*$` (the rule of buildx).
pub fn validate(name: &str) -> Result<String, InvalidName> {
    let mut chars = name.chars();
    let starts_well = chars.next().is_some_and(|c| c.is_ascii_alphabetic());
    if starts_well && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')) {
        return Ok(name.to_ascii_lowercase());
    }
    Err(InvalidName {
        name: name.to_owned(),
    })
}

/// Adjectives of random builder names.
const ADJECTIVES: &[&str] = &[
    "agile", "amber", "ample", "breezy", "bright", "brisk", "calm", "candid", "cheerful", "civil",
    "clever", "cosy", "crisp", "daring", "deft", "eager", "earnest", "fair", "fleet", "fresh",
    "gentle", "golden", "handy", "hardy", "humble", "jolly", "keen", "kind", "lively", "lucid",
    "mellow", "merry", "mighty", "modest", "neat", "nimble", "patient", "placid", "plucky",
    "polite", "prudent", "quick", "quiet", "ready", "robust", "sage", "serene", "silver", "smart",
    "sober", "steady", "sturdy", "sunny", "swift", "tidy", "tranquil", "trusty", "upbeat", "vivid",
    "warm", "wise", "witty", "worthy", "zesty",
];

/// Surnames of builders, masons and engineers, for random builder names.
const SURNAMES: &[&str] = &[
    "arkwright",
    "arup",
    "baker",
    "bazalgette",
    "brindley",
    "brunel",
    "brunelleschi",
    "candela",
    "clark",
    "darby",
    "eads",
    "eiffel",
    "ellet",
    "fairbairn",
    "freyssinet",
    "fuller",
    "gaudi",
    "hadid",
    "hawksmoor",
    "hennebique",
    "imhotep",
    "isidore",
    "isler",
    "jebb",
    "jessop",
    "kahn",
    "khan",
    "leonhardt",
    "locke",
    "maillart",
    "maudslay",
    "menn",
    "morandi",
    "nervi",
    "newcomen",
    "otto",
    "palladio",
    "paxton",
    "perronet",
    "piano",
    "pei",
    "rennie",
    "rice",
    "roebling",
    "sinan",
    "smeaton",
    "soane",
    "steinman",
    "stephenson",
    "stevenson",
    "strauss",
    "telford",
    "torroja",
    "trevithick",
    "utzon",
    "vauban",
    "vitruvius",
    "wallis",
    "watt",
    "wren",
    "wyatt",
];

/// Returns a name of the form `adjective_surname`; a retry greater than 0 adds one random digit.
///
/// The caller asks again with a higher `retry` if a builder of that name exists.
pub fn random(retry: usize, rng: &mut impl rand::Rng) -> String {
    let adjective = ADJECTIVES.choose(rng).unwrap_or(&"steady");
    let surname = SURNAMES.choose(rng).unwrap_or(&"brunel");
    let mut name = format!("{adjective}_{surname}");
    if retry > 0 {
        name.push_str(&rng.random_range(0..10).to_string());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_are_lower_cased() {
        for (given, expected) in [
            ("a", "a"),
            ("Foo", "foo"),
            ("MyBuilder1.2-x_Y", "mybuilder1.2-x_y"),
        ] {
            assert_eq!(validate(given).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn bad_names_are_refused() {
        for bad in [
            "", "1a", "_a", ".tmp-foo", "a/b", "a b", "ä", "aä", "../x", "a\n",
        ] {
            assert!(validate(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn random_names_are_valid_and_have_a_digit_on_retry() {
        let mut rng = rand::rng();
        for _ in 0..200 {
            let name = random(0, &mut rng);
            assert_eq!(validate(&name).as_ref(), Ok(&name));
            assert!(name.contains('_'), "{name}");
            assert!(!name.ends_with(|c: char| c.is_ascii_digit()), "{name}");
            assert!(random(1, &mut rng).ends_with(|c: char| c.is_ascii_digit()));
        }
    }

    #[test]
    fn every_word_is_plain_and_there_once() {
        for words in [ADJECTIVES, SURNAMES] {
            let unique: std::collections::BTreeSet<_> = words.iter().collect();
            assert_eq!(unique.len(), words.len());
            assert!(
                words
                    .iter()
                    .all(|w| w.chars().all(|c| c.is_ascii_lowercase()))
            );
        }
    }
}
