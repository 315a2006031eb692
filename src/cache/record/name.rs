//! Names of steps as a record may tell them: frontends put the values of variables into the names, and
//! values never stand in a record. So the text is that of the Dockerfile.

use bollard_buildkit_proto::pb::Definition;

use crate::cache::keys::Vertex;

/// Characters of a name that are kept.
const MAX: usize = 200;

/// Returns the part of a name that tells which step it is, such as `[build 4/6]`.
pub fn label(name: &str) -> Option<&str> {
    let end = name.starts_with('[').then(|| name.find(']'))??;
    name.get(..=end)
}

/// Returns the stage of a label, such as `build` or `linux/amd64 build`; empty where there is none.
pub fn stage(label: &str) -> &str {
    let inner = label.trim_start_matches('[').trim_end_matches(']');
    let (stage, count) = inner.rsplit_once(' ').unwrap_or((inner, ""));
    if count.contains('/') { stage } else { inner }
}

/// Returns the number of the step in its stage.
pub fn number(label: &str) -> Option<u32> {
    let inner = label.trim_end_matches(']');
    let (_, count) = inner.rsplit_once(' ')?;
    count.split_once('/')?.0.parse().ok()
}

/// Returns the word of the instruction, such as `RUN`.
pub fn word(name: &str) -> &str {
    let text = label(name).map_or(name, |label| &name[label.len()..]);
    let word = text.split_whitespace().next().unwrap_or_default();
    let is_word = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase());
    if is_word { word } else { "" }
}

/// Returns the name of a step without the values of variables.
pub fn plain(vertex: &Vertex, definition: &Definition) -> String {
    let name = vertex.name.as_str();
    let label = label(name).unwrap_or_default();
    let internal = label == "[internal]";
    let text = match instruction(vertex, definition) {
        _ if internal => name
            .get(label.len()..)
            .unwrap_or_default()
            .trim()
            .to_owned(),
        Some(text) => text,
        None => word(name).to_owned(),
    };
    let name = format!("{label} {text}");
    let name: String = name.trim().chars().take(MAX).collect();
    name
}

/// Returns the text of the instruction that a step comes from, on one line.
fn instruction(vertex: &Vertex, definition: &Definition) -> Option<String> {
    let place = vertex.place.as_ref()?;
    let source = definition.source.as_ref()?;
    let mut infos = source.infos.iter();
    let info = infos.find(|info| info.filename == place.file)?;
    let text = String::from_utf8_lossy(&info.data);
    let first = usize::try_from(place.first).ok()?.checked_sub(1)?;
    let count = usize::try_from(place.last).ok()?.saturating_sub(first);
    let mut words = Vec::new();
    let mut continues = false;
    for (at, line) in text.lines().skip(first).take(50).enumerate() {
        if at >= count.max(1) && !continues {
            break;
        }
        let line = line.trim();
        if line.starts_with('#') {
            continue;
        }
        continues = line.ends_with('\\');
        words.extend(
            line.trim_end_matches('\\')
                .split_whitespace()
                .map(str::to_owned),
        );
        // What a heredoc holds is no part of the name.
        if line.contains("<<") && !continues {
            break;
        }
    }
    // One that makes other steps of it, such as ONBUILD, is told by its own word.
    let wanted = word(&vertex.name);
    let first = words.first()?;
    if wanted.is_empty() || !first.eq_ignore_ascii_case(wanted) {
        return None;
    }
    let rest = words.get(1..).unwrap_or_default().join(" ");
    Some(format!("{wanted} {rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_tell_stage_and_number() {
        let name = "[linux/arm64 build 4/6] COPY . .";
        let label = label(name).unwrap();
        assert_eq!(label, "[linux/arm64 build 4/6]");
        assert_eq!(
            (stage(label), number(label)),
            ("linux/arm64 build", Some(4))
        );
        assert_eq!(word(name), "COPY");
        assert_eq!(stage("[internal]"), "internal");
        assert_eq!(super::label("RUN x"), None);
        assert_eq!(word("[a] <script>"), "");
        assert_eq!(number("[]"), None);
        assert_eq!(super::label("["), None);
    }
}
