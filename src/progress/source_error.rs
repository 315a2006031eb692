//! The lines of a source file that an error or a warning is about, as buildx prints them
//! (BuildKit `solver/errdefs` `Source.Print`).

use std::fmt::Write as _;

use bollard_buildkit_proto::pb::Range;

use crate::text::foreign;

const RULE: &str = "--------------------";

/// First and last line of a range, counted from 1; an end before the start counts as the start.
fn span(range: &Range) -> (i32, i32) {
    let start = range.start.as_ref().map_or(0, |p| p.line);
    let end = range.end.as_ref().map_or(start, |p| p.line);
    (start, end.max(start))
}

/// Returns the excerpt around `ranges` of a file: `name:line`, a rule, the numbered lines, those
/// in a range marked with `>>>`, a rule. `None` if the ranges are empty or outside the file.
/// Control characters are left out.
pub fn excerpt(filename: &str, data: &[u8], ranges: &[Range]) -> Option<String> {
    let text = String::from_utf8_lossy(data);
    let lines: Vec<&str> = text.split('\n').collect();
    let spans: Vec<(i32, i32)> = ranges.iter().map(span).collect();
    let start = usize::try_from(spans.iter().map(|s| s.0).min()?).ok()?;
    let end = usize::try_from(spans.iter().map(|s| s.1).max()?).ok()?;
    if start < 1 || start > lines.len() {
        return None;
    }
    let (from, to) = widen(start, end.min(lines.len()), lines.len());
    let mut out = format!("{}:{start}\n{RULE}\n", foreign::line(filename));
    for (number, line) in (1i32..).zip(&lines).skip(from - 1).take(to + 1 - from) {
        let inside = spans.iter().any(|(s, e)| (*s..=*e).contains(&number));
        let mark = if inside { ">>>" } else { "   " };
        // Writing to a string cannot fail.
        let _ = writeln!(out, " {number:3} | {mark} {}", foreign::lines(line));
    }
    out.push_str(RULE);
    out.push('\n');
    Some(out)
}

/// Adds lines of context on both sides: about four for one line, two for several. Where one side
/// has none left, the other gets them.
fn widen(mut start: usize, mut end: usize, count: usize) -> (usize, usize) {
    let wanted = if start == end { 4 } else { 2 };
    let mut added = 0;
    while added < wanted {
        if start > 1 {
            start -= 1;
            added += 1;
        }
        if end != count {
            end += 1;
            added += 1;
        }
        // Each round counts too; this is what keeps it finite, and the number of lines the same
        // as in the original.
        added += 1;
    }
    (start, end)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use bollard_buildkit_proto::pb::Position;
    use proptest::prelude::*;

    pub(in super::super) fn range(start: i32, end: i32) -> Range {
        let at = |line| Some(Position { line, character: 0 });
        Range {
            start: at(start),
            end: at(end),
        }
    }

    const FILE: &[u8] = b"FROM a\nRUN one\nRUN two\nRUN three\nRUN four\nRUN five\n";

    #[test]
    fn one_line_has_context_on_both_sides() {
        assert_eq!(
            excerpt("Dockerfile", FILE, &[range(3, 3)]).unwrap(),
            "Dockerfile:3\n\
             --------------------\n\
             \u{20}  1 |     FROM a\n\
             \u{20}  2 |     RUN one\n\
             \u{20}  3 | >>> RUN two\n\
             \u{20}  4 |     RUN three\n\
             \u{20}  5 |     RUN four\n\
             --------------------\n"
        );
    }

    #[test]
    fn several_lines_at_the_start_and_the_end() {
        assert_eq!(
            excerpt("D", b"A\r\nB\nC", &[range(1, 2)]).unwrap(),
            "D:1\n--------------------\n   1 | >>> A\n   2 | >>> B\n   3 |     C\n--------------------\n"
        );
        assert_eq!(
            excerpt("D", b"A\nB\nC\nD", &[range(4, 4)]).unwrap(),
            "D:4\n--------------------\n   2 |     B\n   3 |     C\n   4 | >>> D\n--------------------\n"
        );
        assert_eq!(
            excerpt("D", b"A\nB", &[range(1, 9)]).unwrap(),
            "D:1\n--------------------\n   1 | >>> A\n   2 | >>> B\n--------------------\n"
        );
    }

    #[test]
    fn what_is_not_in_the_file_has_no_excerpt() {
        assert_eq!(excerpt("D", FILE, &[]), None);
        assert_eq!(excerpt("D", FILE, &[range(0, 0)]), None);
        assert_eq!(excerpt("D", FILE, &[range(-3, 2)]), None);
        assert_eq!(excerpt("D", FILE, &[range(80, 80)]), None);
        assert_eq!(
            excerpt(
                "D",
                FILE,
                &[Range {
                    start: None,
                    end: None
                }]
            ),
            None
        );
    }

    proptest! {
        #[test]
        fn any_file_and_range_is_safe(
            data in proptest::collection::vec(any::<u8>(), 0..60),
            ranges in proptest::collection::vec((any::<i32>(), any::<i32>()), 0..4),
            near in (0..8i32, 0..8i32),
        ) {
            let mut ranges: Vec<Range> = ranges.into_iter().map(|(s, e)| range(s, e)).collect();
            drop(excerpt("f", &data, &ranges));
            ranges.clear();
            ranges.push(range(near.0, near.1));
            if let Some(text) = excerpt("f", &data, &ranges) {
                prop_assert!(text.contains(">>>"));
                prop_assert!(text.lines().count() >= 4);
            }
        }
    }
}
