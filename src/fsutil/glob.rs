//! Shell patterns as Go's `path.Match` understands them, for one name or one path.

/// The pattern's syntax is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadPattern;

/// A parsed pattern.
#[derive(Debug)]
pub struct Glob {
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    /// `*`: any run of characters but `/`.
    Star,
    /// `?`: one character but `/`.
    Any,
    Literal(char),
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Glob {
    /// Parses a pattern.
    ///
    /// # Errors
    ///
    /// Fails if the syntax is wrong.
    pub fn new(pattern: &str) -> Result<Self, BadPattern> {
        let mut parts = Vec::new();
        let mut chars = pattern.chars().peekable();
        while let Some(char) = chars.next() {
            parts.push(match char {
                '*' => Part::Star,
                '?' => Part::Any,
                '[' => class(&mut chars)?,
                '\\' => Part::Literal(chars.next().ok_or(BadPattern)?),
                other => Part::Literal(other),
            });
        }
        Ok(Self { parts })
    }

    /// Returns whether the pattern matches the whole name.
    pub fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        let (mut part, mut at) = (0, 0);
        // Where to go on if what follows the last star does not fit: the star takes one character more.
        let mut retry: Option<(usize, usize)> = None;
        loop {
            match self.parts.get(part) {
                Some(Part::Star) => {
                    part += 1;
                    retry = Some((part, at));
                    continue;
                }
                Some(one) if name.get(at).is_some_and(|&char| one.takes(char)) => {
                    part += 1;
                    at += 1;
                    continue;
                }
                None if at == name.len() => return true,
                _ => {}
            }
            match retry {
                Some((after, taken)) if name.get(taken).is_some_and(|&char| char != '/') => {
                    retry = Some((after, taken + 1));
                    (part, at) = (after, taken + 1);
                }
                _ => return false,
            }
        }
    }
}

impl Part {
    fn takes(&self, char: char) -> bool {
        match self {
            Self::Star => false,
            Self::Any => char != '/',
            Self::Literal(literal) => *literal == char,
            Self::Class { negated, ranges } => {
                ranges
                    .iter()
                    .any(|&(low, high)| low <= char && char <= high)
                    != *negated
            }
        }
    }
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn class(chars: &mut Chars<'_>) -> Result<Part, BadPattern> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && chars.next_if_eq(&']').is_some() {
            return Ok(Part::Class { negated, ranges });
        }
        let low = class_char(chars)?;
        let high = if chars.next_if_eq(&'-').is_some() {
            class_char(chars)?
        } else {
            low
        };
        ranges.push((low, high));
    }
}

fn class_char(chars: &mut Chars<'_>) -> Result<char, BadPattern> {
    match chars.next() {
        None | Some('-' | ']') => Err(BadPattern),
        Some('\\') => chars.next().ok_or(BadPattern),
        Some(char) => Ok(char),
    }
}

/// Returns whether a name is a pattern rather than a plain name.
pub(super) fn has_wildcards(name: &str) -> bool {
    let mut chars = name.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => {
                chars.next();
            }
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_like_go() {
        for (pattern, name, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a\u{263a}b", true),
            ("a[^a]b", "a\u{263a}b", true),
            ("a???b", "a\u{263a}b", false),
            ("[\\]a]", "]", true),
            ("[x\\-]", "-", true),
            ("*x", "xxx", true),
            ("?", "/", false),
            ("", "", true),
            ("", "a", false),
        ] {
            let glob = Glob::new(pattern).unwrap();
            assert_eq!(glob.matches(name), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn bad_patterns_are_found() {
        for pattern in [
            "[", "[]a]", "[-]", "[x-]", "[-x]", "\\", "[a-b-c]", "[^", "[^bc", "a[", "[]", "a[\\",
        ] {
            assert!(Glob::new(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn escaped_wildcards_are_none() {
        assert!(has_wildcards("a*") && has_wildcards("?") && has_wildcards("[a]"));
        assert!(!has_wildcards("a\\*") && !has_wildcards("plain]"));
    }
}
