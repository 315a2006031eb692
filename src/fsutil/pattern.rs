//! The pattern lists of `.dockerignore`, `COPY --exclude` and includes, as moby's patternmatcher reads them.
//!
//! It is not gitignore: patterns are anchored at the root, a pattern that matches a directory matches all
//! that is in it, and the last pattern that matches decides.

use std::borrow::Cow;

use regex::Regex;

use super::glob::Glob;
use super::paths;

/// A pattern that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// An exception without a pattern.
    #[error("illegal exclusion pattern: \"!\"")]
    EmptyException,
    /// The syntax is wrong.
    #[error("syntax error in pattern {0:?}")]
    Syntax(
        /// The pattern, cleaned.
        String,
    ),
}

/// A list of patterns.
#[derive(Debug)]
pub struct Matcher {
    patterns: Vec<Pattern>,
    exceptions: bool,
}

#[derive(Debug)]
pub(super) struct Pattern {
    /// Cleaned, without the `!`.
    text: String,
    exception: bool,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Exact,
    /// Ends with `**`, no other wildcard.
    Prefix,
    /// Starts with `**`, no other wildcard.
    Suffix,
    Regex(Regex),
    /// Go's `filepath.Match` takes it, but the regular expression made of it is wrong. moby compiles a
    /// pattern when it is first tried, so one that is never tried is no error.
    Invalid,
}

impl Matcher {
    /// Parses a list of patterns. Blank ones are left out; one that starts with `!` is an exception.
    ///
    /// # Errors
    ///
    /// A pattern that Go's `filepath.Match` refuses. Others may turn out wrong only when they are tried.
    pub fn new<T: AsRef<str>>(patterns: &[T]) -> Result<Self, PatternError> {
        let patterns = patterns
            .iter()
            .map(|pattern| pattern.as_ref().trim())
            .filter(|pattern| !pattern.is_empty())
            .map(Pattern::new)
            .collect::<Result<Vec<_>, _>>()?;
        let exceptions = patterns.iter().any(|pattern| pattern.exception);
        Ok(Self {
            patterns,
            exceptions,
        })
    }

    /// Returns whether the path, or a directory above it, is matched. The path is relative and clean.
    ///
    /// # Errors
    ///
    /// A pattern that was tried and whose syntax is wrong.
    pub fn matches(&self, path: &str) -> Result<bool, PatternError> {
        Ok(self.matches_levels(path)?.0)
    }

    /// Returns the same, and which patterns match the path.
    ///
    /// # Errors
    ///
    /// As [`matches`](Self::matches).
    pub fn matches_levels(&self, path: &str) -> Result<(bool, Vec<bool>), PatternError> {
        let mut above = self.none();
        let mut here = self.none();
        for (at, _) in path.match_indices('/') {
            self.matches_below(&path[..at], &above, &mut here)?;
            std::mem::swap(&mut above, &mut here);
        }
        let matched = self.matches_below(path, &above, &mut here)?;
        Ok((matched, here))
    }

    /// Returns what the root of a tree has matched: nothing.
    pub(super) fn none(&self) -> Vec<bool> {
        vec![false; self.patterns.len()]
    }

    /// Returns whether the path is matched, where `above` says which patterns matched its directory, and writes
    /// into `here` which of them match the path.
    ///
    /// # Errors
    ///
    /// As [`matches`](Self::matches).
    pub fn matches_below(
        &self,
        path: &str,
        above: &[bool],
        here: &mut Vec<bool>,
    ) -> Result<bool, PatternError> {
        here.clear();
        let mut matched = false;
        for (pattern, &above) in self.patterns.iter().zip(above) {
            // A pattern that could not change the outcome is not tried, and then does not count as matched
            // for what is below either. This is moby's rule.
            let hit = above || (pattern.exception == matched && pattern.matches(path)?);
            here.push(hit);
            if hit {
                matched = !pattern.exception;
            }
        }
        Ok(matched)
    }

    pub(super) fn has_exceptions(&self) -> bool {
        self.exceptions
    }

    pub(super) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Iterates over the exceptions, or over the other patterns.
    pub(super) fn patterns(&self, exceptions: bool) -> impl Iterator<Item = &Pattern> {
        self.patterns
            .iter()
            .filter(move |pattern| pattern.exception == exceptions)
    }
}

impl Pattern {
    fn new(pattern: &str) -> Result<Self, PatternError> {
        let cleaned = paths::clean(pattern);
        let (text, exception) = match cleaned.strip_prefix('!') {
            Some("") => return Err(PatternError::EmptyException),
            Some(rest) => (rest.to_owned(), true),
            None => (cleaned, false),
        };
        if Glob::new(&text).is_err() {
            return Err(PatternError::Syntax(text));
        }
        let kind = compile(&text).unwrap_or(Kind::Invalid);
        Ok(Self {
            text,
            exception,
            kind,
        })
    }

    fn matches(&self, path: &str) -> Result<bool, PatternError> {
        Ok(match &self.kind {
            Kind::Exact => path == self.text,
            Kind::Prefix => path.starts_with(&self.text[..self.text.len() - 2]),
            Kind::Suffix => {
                let suffix = &self.text[2..];
                // "**/name" matches "name" at the top too.
                path.ends_with(suffix) || suffix.strip_prefix('/') == Some(path)
            }
            Kind::Regex(regex) => regex.is_match(path),
            Kind::Invalid => return Err(PatternError::Syntax(self.text.clone())),
        })
    }

    /// Returns the pattern without a last part that is `*` or `**`.
    pub(super) fn without_trailing_glob(&self) -> &str {
        let text = self.text.strip_suffix("/**").unwrap_or(&self.text);
        text.strip_suffix("/*").unwrap_or(text)
    }
}

/// Creates the matching form of a pattern.
fn compile(pattern: &str) -> Result<Kind, regex::Error> {
    let mut regex = Translation {
        source: String::from("^"),
        plain: true,
    };
    let mut kind = Kind::Exact;
    let mut chars = pattern.chars().peekable();
    let mut first = true;
    while let Some(char) = chars.next() {
        if char == '*' && chars.next_if_eq(&'*').is_some() {
            chars.next_if_eq(&'/');
            if chars.peek().is_some() {
                regex.wild("(.*/)?");
            } else if regex.plain && matches!(kind, Kind::Exact) {
                kind = Kind::Prefix;
            } else {
                regex.wild(".*");
            }
            if first {
                kind = Kind::Suffix;
                regex.plain = true;
            }
        } else {
            match char {
                '*' => regex.wild("[^/]*"),
                '?' => regex.wild("[^/]"),
                '\\' => {
                    let escaped: String = std::iter::once('\\').chain(chars.next()).collect();
                    regex.wild(&escaped);
                }
                '[' | ']' => regex.wild(char.encode_utf8(&mut [0; 4])),
                '.' | '+' | '(' | ')' | '|' | '{' | '}' | '$' => {
                    regex.source.push('\\');
                    regex.source.push(char);
                }
                other => regex.source.push(other),
            }
        }
        first = false;
    }
    if regex.plain {
        return Ok(kind);
    }
    regex.source.push('$');
    Regex::new(&to_rust_syntax(&regex.source)).map(Kind::Regex)
}

struct Translation {
    source: String,
    /// No wildcard so far that only a regular expression can match.
    plain: bool,
}

impl Translation {
    fn wild(&mut self, source: &str) {
        self.source.push_str(source);
        self.plain = false;
    }
}

/// Rewrites a regular expression in Go's syntax so that this crate's engine reads it the same way: sets are not
/// nested and know no `&&` and `~~`; `\d`, `\s`, `\w` mean ASCII.
fn to_rust_syntax(source: &str) -> Cow<'_, str> {
    if !source.contains(['\\', '[']) {
        return Cow::Borrowed(source);
    }
    let mut out = String::with_capacity(source.len() + 8);
    let mut chars = source.chars().peekable();
    let mut in_class = false;
    while let Some(char) = chars.next() {
        match char {
            '\\' => match (chars.next(), in_class) {
                (Some('d'), false) => out.push_str("[0-9]"),
                (Some('d'), true) => out.push_str("0-9"),
                (Some('D'), false) => out.push_str("[^0-9]"),
                (Some('s'), false) => out.push_str("[\\t\\n\\x0c\\r ]"),
                (Some('s'), true) => out.push_str("\\t\\n\\x0c\\r "),
                (Some('S'), false) => out.push_str("[^\\t\\n\\x0c\\r ]"),
                (Some('w'), false) => out.push_str("[0-9A-Za-z_]"),
                (Some('w'), true) => out.push_str("0-9A-Za-z_"),
                (Some('W'), false) => out.push_str("[^0-9A-Za-z_]"),
                (Some(escaped), _) => out.extend(['\\', escaped]),
                (None, _) => out.push('\\'),
            },
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                for literal in ['^', ']'] {
                    if chars.next_if_eq(&literal).is_some() {
                        // A bracket right after the opening is a member of the set.
                        out.push_str(if literal == ']' { "\\]" } else { "^" });
                    }
                }
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '[' | '&' | '~' if in_class => out.extend(['\\', char]),
            other => out.push(other),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_patterns() {
        for (pattern, path, expected) in [
            ("**", "file", true),
            ("**", "file/", true),
            ("**", "/", true),
            ("**", "dir/file", true),
            ("**/", "dir/file", true),
            ("**/**", "dir/file", true),
            ("dir/**", "dir/file", true),
            ("dir/**", "dir/dir2/file", true),
            ("dir/**", "dir", false),
            ("**/dir", "dir", true),
            ("**/dir", "dir/file", true),
            ("**/dir2/*", "dir/dir2/file", true),
            ("**/dir2/**", "dir/dir2/dir2/file", true),
            ("**file", "file", true),
            ("**file", "dir/file", true),
            ("**/file", "dir/dir/file", true),
            ("**/file", "filed", false),
            ("**/file*", "dir/dir/file.txt", true),
            ("**/file*txt", "dir/dir/file.txt", true),
            ("**/file*.txt*", "dir/dir/file.txt", true),
            ("**/**/*.txt", "dir/dir/file.txt", true),
            ("**/**/*.txt2", "dir/dir/file.txt", false),
            ("**/*.txt", "file.txt", true),
            ("**/**/*.txt", "file.txt", true),
            ("a**/*.txt", "a/file.txt", true),
            ("a**/*.txt", "a/dir/dir/file.txt", true),
            ("a/*.txt", "a/dir/file.txt", false),
            ("a/*.txt", "a/file.txt", true),
            ("a[b-d]e", "ae", false),
            ("a[b-d]e", "ace", true),
            ("a[^b-d]e", "aze", true),
            (".*", ".foo", true),
            (".*", "foo", false),
            ("abc.def", "abcdef", false),
            ("abc.def", "abc.def", true),
            ("abc?def", "abczdef", true),
            ("a\\\\", "a\\", true),
            ("**/foo/bar", "foo/bar", true),
            ("**/foo/bar", "dir/dir2/foo/bar", true),
            ("abc/**", "abc/def/ghi", true),
            ("**/.foo", ".foo", true),
            ("**/.foo", "bar.foo", false),
            ("a(b)c/def", "a(b)c/def", true),
            ("a(b)c/def", "a(b)c/xyz", false),
            ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
            (
                "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl",
                "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl",
                true,
            ),
            (
                "dist/*.whl",
                "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl",
                true,
            ),
            ("./docs/../docs/x", "docs/x", true),
            (" docs ", "docs/deep/er", true),
            ("/docs", "docs", false),
            ("caf?", "caf\u{e9}", true),
        ] {
            let matcher = Matcher::new(&[pattern]).unwrap();
            assert_eq!(matcher.matches(path), Ok(expected), "{pattern} on {path}");
        }
    }

    #[test]
    fn last_match_wins_and_parents_count() {
        let table: &[(&[&str], &str, bool)] = &[
            (&["docs", "!docs/README.md"], "docs/README.md", false),
            (&["docs", "!docs/README.md"], "docs/other", true),
            (&["docs/", "!docs/README.md"], "docs/README.md", false),
            (&["!docs/README.md", "docs"], "docs/README.md", true),
            (&["docs/*", "!docs/README.md"], "docs/README.md", false),
            (
                &["*.md", "!README*.md", "README-secret.md"],
                "README-secret.md",
                true,
            ),
            (
                &["*.md", "!README*.md", "README-secret.md"],
                "README-open.md",
                false,
            ),
            (
                &["util/docker", "!util/docker/web"],
                "util/docker/web",
                false,
            ),
            (
                &["util/docker", "!util/docker/web"],
                "util/docker/web/foo",
                false,
            ),
            (
                &["util/docker", "!util/docker/web", "util/docker/web/foo"],
                "util/docker/web/foo",
                true,
            ),
            (&["*", "!src"], "src/main.rs", false),
            (&["*", "!src", "src/main.rs"], "src/main.rs", true),
            (&["**", "!deep/er/one"], "deep/er/one", false),
            (&["**", "!deep/er/one"], "deep/er/two", true),
        ];
        for (patterns, path, expected) in table {
            let matcher = Matcher::new(patterns).unwrap();
            assert_eq!(
                matcher.matches(path),
                Ok(*expected),
                "{patterns:?} on {path}"
            );
        }
    }

    #[test]
    fn bad_patterns_are_refused() {
        assert_eq!(
            Matcher::new(&["!"]).unwrap_err(),
            PatternError::EmptyException
        );
        assert_eq!(
            Matcher::new(&[" ! "]).unwrap_err(),
            PatternError::EmptyException
        );
        for pattern in ["[", "a\\", "!x[", "[]a]"] {
            assert!(
                matches!(Matcher::new(&[pattern]), Err(PatternError::Syntax(_))),
                "{pattern}"
            );
        }
        assert!(Matcher::new(&["", "  "]).unwrap().is_empty());
        assert!(Matcher::new(&["![a"]).is_err());
    }

    #[test]
    fn pattern_is_wrong_when_it_is_tried() {
        let wrong = || Err(PatternError::Syntax("[z-a]".to_owned()));
        let of = |patterns: &[&str], path| Matcher::new(patterns).unwrap().matches(path);
        assert_eq!(of(&["[z-a]"], "b"), wrong());
        // An exception is tried only on what an earlier pattern matched, another pattern only on the rest.
        assert_eq!(of(&["!a", "![z-a]"], "a"), Ok(false));
        assert_eq!(of(&["a", "![z-a]"], "b"), Ok(false));
        assert_eq!(of(&["a", "![z-a]"], "a"), wrong());
        assert_eq!(of(&["*", "[z-a]"], "a/b"), Ok(true));
    }

    #[test]
    fn sets_mean_what_go_reads() {
        for (pattern, path, expected) in [
            ("[a&&b]x", "&x", true),
            ("[a&&b]x", "ax", true),
            ("[[a]x", "[x", true),
            ("[~]x", "~x", true),
            ("x\\dy?", "x7yz", true),
            ("[\\--0]x", ".x", true),
            ("[?]x", "/]x", true),
        ] {
            assert_eq!(
                Matcher::new(&[pattern]).unwrap().matches(path),
                Ok(expected),
                "{pattern} on {path}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn any_pattern_is_answered_or_refused(pattern in "[a-c*?/.!\\[\\]\\\\^&~-]{0,12}", path in "[a-c/]{1,8}") {
            if let Ok(matcher) = Matcher::new(&[pattern]) {
                let answer = matcher.matches(&path);
                proptest::prop_assert!(matches!(answer, Ok(_) | Err(PatternError::Syntax(_))));
            }
        }

        #[test]
        fn plain_path_matches_itself_and_below(path in "[a-z+(){}$|.]{1,6}(/[a-z]{1,4}){0,2}") {
            proptest::prop_assume!(!path.split('/').any(|part| part == "." || part == ".."));
            let matcher = Matcher::new(&[&path]).unwrap();
            proptest::prop_assert_eq!(matcher.matches(&path), Ok(true));
            let below = format!("{path}/x");
            proptest::prop_assert_eq!(matcher.matches(&below), Ok(true));
            let longer = format!("{path}x");
            proptest::prop_assert_eq!(matcher.matches(&longer), Ok(false));
        }
    }
}
