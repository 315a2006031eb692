//! The answers that are tables: what can be set, which targets there are, which methods.

use std::fmt::Write as _;

use serde::Deserialize;

use crate::cli::table::columns;
use crate::text::foreign;

/// What a target takes (BuildKit `subrequests/outline`).
#[derive(Default, Deserialize)]
#[serde(default)]
struct Outline {
    name: String,
    description: String,
    args: Option<Vec<Arg>>,
    secrets: Option<Vec<Needed>>,
    ssh: Option<Vec<Needed>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Arg {
    name: String,
    description: String,
    value: String,
}

/// A secret or an SSH agent.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Needed {
    name: String,
    required: bool,
}

/// Prints an outline.
pub(super) fn outline(json: &str) -> Result<String, serde_json::Error> {
    let outline: Outline = serde_json::from_str(json)?;
    let mut out = String::new();
    if !outline.name.is_empty() || !outline.description.is_empty() {
        let name = if outline.name.is_empty() {
            "(default)"
        } else {
            &outline.name
        };
        let mut table = format!("TARGET:\t{}\n", cell(name));
        if !outline.description.is_empty() {
            // Writing to a string cannot fail.
            let _ = writeln!(table, "DESCRIPTION:\t{}", cell(&outline.description));
        }
        add(&mut out, &table, 1);
    }
    let args = outline.args.unwrap_or_default();
    if !args.is_empty() {
        let mut table = "BUILD ARG\tVALUE\tDESCRIPTION\n".to_owned();
        for arg in &args {
            let (name, value) = (cell(&arg.name), cell(&arg.value));
            let _ = writeln!(table, "{name}\t{value}\t{}", cell(&arg.description));
        }
        add(&mut out, &table, 3);
    }
    needed(&mut out, "SECRET", &outline.secrets.unwrap_or_default());
    needed(&mut out, "SSH", &outline.ssh.unwrap_or_default());
    Ok(out)
}

fn needed(out: &mut String, head: &str, list: &[Needed]) {
    if list.is_empty() {
        return;
    }
    let mut table = format!("{head}\tREQUIRED\n");
    for one in list {
        let required = if one.required { "true" } else { "" };
        let _ = writeln!(table, "{}\t{required}", cell(&one.name));
    }
    add(out, &table, 3);
}

/// Adds a table and an empty line.
fn add(out: &mut String, table: &str, padding: usize) {
    out.push_str(&columns(table, 0, padding));
    out.push('\n');
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Targets {
    targets: Option<Vec<Target>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Target {
    name: String,
    default: bool,
    description: String,
}

/// Prints the targets.
pub(super) fn targets(json: &str) -> Result<String, serde_json::Error> {
    let list: Targets = serde_json::from_str(json)?;
    let mut table = "TARGET\tDESCRIPTION\n".to_owned();
    for target in list.targets.unwrap_or_default() {
        let name = match (target.name.as_str(), target.default) {
            ("", true) => "(default)".to_owned(),
            (name, true) => format!("{name} (default)"),
            (name, false) => name.to_owned(),
        };
        let _ = writeln!(table, "{}\t{}", cell(&name), cell(&target.description));
    }
    Ok(columns(&table, 0, 1))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Method {
    name: String,
    version: String,
    description: String,
}

/// Prints the methods.
pub(super) fn describe(json: &str) -> Result<String, serde_json::Error> {
    let methods: Option<Vec<Method>> = serde_json::from_str(json)?;
    let mut table = "NAME\tVERSION\tDESCRIPTION\n".to_owned();
    for method in methods.unwrap_or_default() {
        let name = cell(&method.name);
        let name = name.strip_prefix("frontend.").unwrap_or(&name);
        let (version, description) = (cell(&method.version), cell(&method.description));
        let _ = writeln!(table, "{name}\t{version}\t{description}");
    }
    Ok(columns(&table, 0, 1))
}

/// A text of a Dockerfile as a cell: no control characters, so that it stays on its line.
fn cell(text: &str) -> String {
    foreign::line(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outline_has_a_table_for_each_kind() {
        let json = r#"{"name":"prod","description":"all of it",
            "args":[{"name":"VERSION","description":"what to build","value":"1"},{"name":"X"}],
            "secrets":[{"name":"token","required":true},{"name":"other"}],
            "ssh":[{"name":"default"}],
            "cache":[{"ID":"c"}], "sources":["RlJPTQ=="]}"#;
        assert_eq!(
            outline(json).unwrap(),
            "TARGET:      prod\nDESCRIPTION: all of it\n\n\
             BUILD ARG   VALUE   DESCRIPTION\nVERSION     1       what to build\nX                   \n\n\
             SECRET   REQUIRED\ntoken    true\nother    \n\n\
             SSH       REQUIRED\ndefault   \n\n"
        );
        assert_eq!(outline("{}").unwrap(), "");
        assert_eq!(
            outline(r#"{"description":"d"}"#).unwrap(),
            "TARGET:      (default)\nDESCRIPTION: d\n\n"
        );
    }

    #[test]
    fn targets_mark_the_default() {
        let json = r#"{"targets":[{"name":"base","base":"alpine"},
            {"name":"prod","default":true,"description":"d\u001b[31m"},{"default":true}],"sources":null}"#;
        assert_eq!(
            targets(json).unwrap(),
            "TARGET         DESCRIPTION\nbase           \nprod (default) d\n(default)      \n"
        );
    }

    #[test]
    fn methods_are_named_without_frontend() {
        let json = r#"[{"name":"frontend.lint","version":"1.0.0","type":"rpc","description":"Lint"},
            {"name":"frontend.x","version":"2","description":"y"}]"#;
        assert_eq!(
            describe(json).unwrap(),
            "NAME VERSION DESCRIPTION\nlint 1.0.0   Lint\nx    2       y\n"
        );
    }
}
