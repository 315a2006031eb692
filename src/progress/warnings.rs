//! The warnings of a build: each kept once, and the block that ends a build (buildx
//! `printWarnings`).

use std::collections::HashSet;
use std::fmt::Write as _;

use bollard_buildkit_proto::moby::buildkit::v1::VertexWarning;
use prost::Message as _;

use super::source_error;
use crate::text::counted;
use crate::text::foreign;

/// Warnings in the order they came, each once.
///
/// Two warnings are the same if all but the step and the definition of their source is equal: the
/// same Dockerfile line built for two platforms warns twice.
#[derive(Debug, Default)]
pub struct Warnings {
    seen: HashSet<Vec<u8>>,
    list: Vec<VertexWarning>,
}

impl Warnings {
    /// Takes a warning, unless it was there before.
    pub fn add(&mut self, warning: &VertexWarning) {
        let mut key = warning.clone();
        key.vertex.clear();
        if let Some(info) = &mut key.info {
            info.definition = None;
        }
        if self.seen.insert(key.encode_to_vec()) {
            self.list.push(warning.clone());
        }
    }

    /// Returns the warnings.
    pub fn into_list(self) -> Vec<VertexWarning> {
        self.list
    }

    /// Returns the warnings.
    pub fn list(&self) -> &[VertexWarning] {
        &self.list
    }
}

/// Returns the block printed at the end of a build, beginning with an empty line; an empty text
/// without warnings. `debug` prints details, links and source lines of each.
pub fn block(warnings: &[VertexWarning], debug: bool, color: bool) -> String {
    if warnings.is_empty() {
        return String::new();
    }
    let count = counted(warnings.len(), "warning");
    let hint = if debug {
        ""
    } else {
        " (use docker --debug to expand)"
    };
    let (on, off) = if color {
        ("\u{1b}[33m", "\u{1b}[0m")
    } else {
        ("", "")
    };
    let mut out = format!("\n {on}{count} found{hint}:\n{off}");
    for warning in warnings {
        one(&mut out, warning, debug);
    }
    out
}

/// Writing to a string cannot fail, so the results are dropped.
fn one(out: &mut String, warning: &VertexWarning, debug: bool) {
    let show = |bytes: &[u8]| foreign::lines(&String::from_utf8_lossy(bytes)).into_owned();
    let _ = writeln!(out, " - {}", show(&warning.short));
    if !debug {
        return;
    }
    for detail in &warning.detail {
        let _ = writeln!(out, "{}", show(detail));
    }
    if !warning.url.is_empty() {
        let _ = writeln!(out, "More info: {}", foreign::line(&warning.url));
    }
    if let Some(info) = &warning.info
        && let Some(lines) = source_error::excerpt(&info.filename, &info.data, &warning.ranges)
    {
        out.push_str(&lines);
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::source_error::tests::range;
    use bollard_buildkit_proto::pb::{Definition, SourceInfo};

    fn warning(vertex: &str) -> VertexWarning {
        VertexWarning {
            vertex: vertex.into(),
            level: 1,
            short: b"FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)".to_vec(),
            detail: vec![b"The 'as' keyword should match the case of the 'from' keyword".to_vec()],
            url: "https://docs.docker.com/go/dockerfile/rule/from-as-casing/".into(),
            info: Some(SourceInfo {
                filename: "Dockerfile".into(),
                data: b"FROM a as b\nRUN x\n".to_vec(),
                definition: Some(Definition {
                    def: vec![vertex.into()],
                    ..Definition::default()
                }),
                language: "Dockerfile".into(),
            }),
            ranges: vec![range(1, 1)],
        }
    }

    #[test]
    fn the_same_warning_of_two_steps_counts_once() {
        let mut warnings = Warnings::default();
        warnings.add(&warning("sha256:a"));
        warnings.add(&warning("sha256:b"));
        let mut other = warning("sha256:a");
        other.short.push(b'!');
        warnings.add(&other);
        assert_eq!(warnings.list().len(), 2);
        assert_eq!(warnings.into_list()[0].vertex, "sha256:a");
    }

    #[test]
    fn short_form() {
        assert_eq!(block(&[], false, true), "");
        assert_eq!(
            block(&[warning("a")], false, false),
            "\n 1 warning found (use docker --debug to expand):\n - FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)\n"
        );
        assert!(
            block(&[warning("a"), warning("b")], false, true).starts_with(
                "\n \u{1b}[33m2 warnings found (use docker --debug to expand):\n\u{1b}[0m - "
            )
        );
    }

    #[test]
    fn expanded_form() {
        assert_eq!(
            block(&[warning("a")], true, false),
            "\n 1 warning found:\n\
             \u{20}- FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)\n\
             The 'as' keyword should match the case of the 'from' keyword\n\
             More info: https://docs.docker.com/go/dockerfile/rule/from-as-casing/\n\
             Dockerfile:1\n\
             --------------------\n\
             \u{20}  1 | >>> FROM a as b\n\
             \u{20}  2 |     RUN x\n\
             \u{20}  3 |     \n\
             --------------------\n\n"
        );
    }
}
