//! How figures are put into words, [durations](human) among them, how [text of others](foreign) is made safe to show, and
//! JSON and quoted texts as Go writes them ([`go_json`], [`go_quote`]).

pub mod foreign;
pub mod go_json;
pub mod go_quote;
pub mod human;

/// Prints a count with its noun: `1 layer`, `2 layers`. For nouns whose plural ends in a mere `s`.
pub fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_is_singular() {
        assert_eq!(counted(0, "layer"), "0 layers");
        assert_eq!(counted(1, "layer"), "1 layer");
        assert_eq!(counted(2, "other result"), "2 other results");
    }
}
