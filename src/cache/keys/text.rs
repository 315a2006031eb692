//! The instruction of a step, as the Dockerfile has it: names and operations of a definition have the values of
//! variables in their place.

use std::collections::BTreeMap;

use bollard_buildkit_proto::pb::Definition;

use super::plan::Place;

/// Bytes of an instruction that are looked at.
const MAX: usize = 1 << 20;

/// Returns all lines of the instruction at a place, with what its heredocs hold.
pub(super) fn of(place: &Place, definition: &Definition) -> Option<String> {
    let source = definition.source.as_ref()?;
    let mut infos = source.infos.iter();
    let info = infos.find(|info| info.filename == place.file)?;
    let text = String::from_utf8_lossy(&info.data);
    let first = usize::try_from(place.first).ok()?.checked_sub(1)?;
    let count = usize::try_from(place.last).ok()?.saturating_sub(first);
    let mut lines: Vec<&str> = Vec::new();
    let (mut continues, mut bytes) = (false, 0);
    for (at, line) in text.lines().skip(first).enumerate() {
        bytes += line.len();
        if (at >= count.max(1) && !continues) || bytes > MAX {
            break;
        }
        let is_comment = line.trim_start().starts_with('#');
        continues = line.trim_end().ends_with('\\') || (is_comment && continues);
        lines.push(line);
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// Returns the image of the `syntax` line at the top of the Dockerfile.
pub(super) fn frontend(definition: &Definition) -> String {
    let infos = definition.source.iter().flat_map(|source| &source.infos);
    let mut syntax = infos.filter_map(|info| {
        let text = String::from_utf8_lossy(&info.data);
        let mut comments = text.lines().map(str::trim);
        comments.find_map(|line| {
            let line = line.strip_prefix('#')?.trim();
            let (name, value) = line.split_once('=')?;
            let is_syntax = name.trim().eq_ignore_ascii_case("syntax");
            is_syntax.then(|| value.trim().chars().take(200).collect())
        })
    });
    syntax.next().unwrap_or_else(|| "builtin".to_owned())
}

/// Returns the instruction on one line, without comments and what heredocs hold.
pub fn on_one_line(text: &str) -> String {
    let mut words = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with('#') {
            continue;
        }
        let continues = line.ends_with('\\');
        words.extend(line.trim_end_matches('\\').split_whitespace());
        if line.contains("<<") && !continues {
            break;
        }
    }
    words.join(" ")
}

/// Returns the instruction without what is said in other words only by white space and comments. What heredocs hold stays
/// as it is.
pub fn normalized(text: &str) -> String {
    let held = text
        .split_once("<<")
        .and_then(|(_, rest)| rest.split_once('\n'));
    let line = on_one_line(text);
    held.map_or(line.clone(), |(_, held)| format!("{line}\n{held}"))
}

/// Returns the values that variables of an instruction have in its `expanded` form, by name. Of those that cannot be told
/// apart from what stands beside them there are none.
pub fn values(plain: &str, expanded: &str) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    let words = plain.split_whitespace().zip(expanded.split_whitespace());
    if plain.split_whitespace().count() != expanded.split_whitespace().count() {
        return values;
    }
    for (plain, expanded) in words {
        if let Some((before, name, after)) = variable(plain)
            && variable(after).is_none()
            && let Some(value) = expanded.strip_prefix(before)
            && let Some(value) = value.strip_suffix(after)
        {
            values
                .entry(name.to_owned())
                .or_insert_with(|| value.to_owned());
        }
    }
    values
}

/// Returns the first variable of a word: what is before it, its name, and what is behind it.
fn variable(word: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = word.split_once('$')?;
    // It stands for itself.
    if before.ends_with('\\') {
        return None;
    }
    let (inner, braced) = match rest.strip_prefix('{') {
        Some(inner) => (inner, true),
        None => (rest, false),
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let end = inner.find(|c| !is_name(c)).unwrap_or(inner.len());
    let (name, after) = inner.split_at_checked(end)?;
    let after = if braced {
        after.split_once('}')?.1
    } else {
        after
    };
    (!name.is_empty()).then_some((before, name, after))
}

#[cfg(test)]
mod tests {
    use bollard_buildkit_proto::pb::{Source, SourceInfo};

    use super::*;

    #[test]
    fn an_instruction_has_all_its_lines() {
        let file = "FROM x\nRUN a \\\n# c \\\n  b\nCOPY <<EOT /a\n# text\nEOT\nRUN c \\\n";
        let definition = Definition {
            source: Some(Source {
                infos: vec![SourceInfo {
                    filename: "Dockerfile".to_owned(),
                    data: file.into(),
                    ..SourceInfo::default()
                }],
                ..Source::default()
            }),
            ..Definition::default()
        };
        let text = |first, last| {
            let file = "Dockerfile".to_owned();
            of(&Place { file, first, last }, &definition).unwrap_or_default()
        };
        assert_eq!(text(2, 4), "RUN a \\\n# c \\\n  b");
        // A frontend may name the first line only.
        assert_eq!(text(2, 2), text(2, 4));
        assert_eq!(text(5, 7), "COPY <<EOT /a\n# text\nEOT");
        assert_eq!(text(8, 8), "RUN c \\");
        assert_eq!((text(0, 0), text(99, 99)), (String::new(), String::new()));
        assert_eq!(text(1, u32::MAX), file.trim_end());
        assert_eq!(on_one_line(&text(2, 4)), "RUN a b");
        assert_eq!(on_one_line(&text(5, 7)), "COPY <<EOT /a");
        assert_eq!(normalized(&text(2, 4)), "RUN a b");
        assert_eq!(normalized(&text(5, 7)), "COPY <<EOT /a\n# text\nEOT");
    }

    #[test]
    fn values_are_found_where_they_can_be_told() {
        let of = |plain: &str, expanded: &str| {
            let values = values(plain, expanded).into_iter();
            values
                .map(|(name, value)| format!("{name}={value}"))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(of("COPY a-$V.txt /${V}/", "COPY a-1.txt /1/"), "V=1");
        assert_eq!(of("COPY ${A:-x} $B /", "COPY x y /"), "A=x B=y");
        assert_eq!(of("COPY $A$B $C /", "COPY xy z /"), "C=z");
        for (plain, expanded) in [
            ("COPY $A b /", "COPY b /"),
            ("COPY \\$A /", "COPY $A /"),
            ("COPY $ /", "COPY $ /"),
            ("COPY ${A /", "COPY x /"),
            ("COPY x$A /", "COPY y /"),
        ] {
            assert_eq!(of(plain, expanded), "", "{plain}");
        }
    }
}
