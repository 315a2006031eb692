//! Simple templates in the form of Go's `text/template`, for `--format`.
//!
//! What is understood: text, `{{.Field}}`, nested `{{.A.B}}`, `{{json .Field}}` and `{{json .}}`,
//! the functions `lower upper title len` and pipes (`{{.Name | upper}}`), texts in quotes, comments,
//! `{{if .Field}}…{{else}}…{{end}}`, `{{range .List}}…{{else}}…{{end}}`, and the trim marks `{{-` and `-}}`. Anything else of Go's
//! language is refused by name.

use serde_json::Value;

/// A template that cannot be parsed or rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// An action has no end.
    #[error("template parsing error: unclosed action")]
    Unclosed,
    /// `{{if}}` without `{{end}}`, or the reverse.
    #[error("template parsing error: unexpected {what}")]
    Unbalanced {
        /// What is too much or missing.
        what: &'static str,
    },
    /// Something of Go's language that is not understood here.
    #[error("template parsing error: {text:?} is not supported")]
    NotSupported {
        /// The text.
        text: String,
    },
    /// `{{range}}` over something that is neither a list nor a map.
    #[error("template error: range can't iterate over {value}")]
    NoList {
        /// The value.
        value: String,
    },
    /// The data has no such field.
    #[error("template parsing error: there is no field {field}")]
    NoField {
        /// The field.
        field: String,
    },
}

/// A parsed template.
#[derive(Debug, Clone, PartialEq)]
pub struct Template(Vec<Node>);

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Text(String),
    Print(Pipe),
    If {
        condition: Pipe,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Range {
        list: Pipe,
        each: Vec<Node>,
        otherwise: Vec<Node>,
    },
}

/// A value and the functions that it goes through.
#[derive(Debug, Clone, PartialEq)]
struct Pipe {
    value: Operand,
    functions: Vec<Function>,
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    /// Path of a field; empty for the data itself.
    Field(Vec<String>),
    Text(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Json,
    Lower,
    Upper,
    Title,
    Len,
}

impl Function {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "json" => Self::Json,
            "lower" => Self::Lower,
            "upper" => Self::Upper,
            "title" => Self::Title,
            "len" => Self::Len,
            _ => return None,
        })
    }

    fn apply(self, value: &Value) -> Value {
        Value::from(match self {
            Self::Json => value.to_string(),
            Self::Lower => show(value).to_lowercase(),
            Self::Upper => show(value).to_uppercase(),
            Self::Title => title(&show(value)),
            Self::Len => match value {
                Value::Array(list) => list.len(),
                Value::Object(map) => map.len(),
                other => show(other).len(),
            }
            .to_string(),
        })
    }
}

/// What a template is rendered with.
struct Data<'a> {
    fields: &'a Value,
    whole: &'a Value,
}

/// What comes next in a template: text, or the inside of an action.
enum Token {
    Text(String),
    Action(String),
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    ///
    /// Fails for an open action or branch, and by name for what is not understood.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut tokens = tokens(text)?.into_iter();
        let (nodes, end) = parse_nodes(&mut tokens)?;
        match end {
            None => Ok(Self(nodes)),
            Some(what) => Err(TemplateError::Unbalanced { what }),
        }
    }

    /// Renders the template with the fields of one row; `{{.}}` and `{{json .}}` show `whole`.
    ///
    /// # Errors
    ///
    /// Fails for a field that is not there.
    pub fn render(&self, fields: &Value, whole: &Value) -> Result<String, TemplateError> {
        let mut out = String::new();
        render_nodes(&self.0, &Data { fields, whole }, &mut out)?;
        Ok(out)
    }

    /// Renders the line of column headers: functions change nothing, a field without a header is
    /// `<no value>`, and of a branch the first part counts.
    pub fn render_headers(&self, headers: &Value) -> String {
        let mut out = String::new();
        render_header_nodes(&self.0, headers, &mut out);
        out
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, TemplateError> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut trim = false;
    while let Some((before, after)) = rest.split_once("{{") {
        let (action, after) = after.split_once("}}").ok_or(TemplateError::Unclosed)?;
        let before = if trim { before.trim_start() } else { before };
        let (action, trim_left) = match action.strip_prefix("- ") {
            Some(action) => (action, true),
            None => (action, false),
        };
        let before = if trim_left { before.trim_end() } else { before };
        tokens.push(Token::Text(before.to_owned()));
        let (action, trim_right) = match action.strip_suffix(" -") {
            Some(action) => (action, true),
            None => (action, false),
        };
        trim = trim_right;
        let action = action.trim();
        if !(action.starts_with("/*") && action.ends_with("*/")) {
            tokens.push(Token::Action(action.to_owned()));
        }
        rest = after;
    }
    let rest = if trim { rest.trim_start() } else { rest };
    tokens.push(Token::Text(rest.to_owned()));
    Ok(tokens)
}

/// Parses up to the end of the template, or to an `{{else}}` or `{{end}}`, which is returned.
fn parse_nodes(
    tokens: &mut std::vec::IntoIter<Token>,
) -> Result<(Vec<Node>, Option<&'static str>), TemplateError> {
    let mut nodes = Vec::new();
    while let Some(token) = tokens.next() {
        match token {
            Token::Text(text) if text.is_empty() => {}
            Token::Text(text) => nodes.push(Node::Text(text)),
            Token::Action(action) => match action.split_once(' ') {
                Some(("if", condition)) => {
                    let condition = parse_pipe(condition)?;
                    let (then, otherwise) = parse_branches(tokens)?;
                    nodes.push(Node::If {
                        condition,
                        then,
                        otherwise,
                    });
                }
                Some(("range", list)) => {
                    let list = parse_pipe(list)?;
                    let (each, otherwise) = parse_branches(tokens)?;
                    nodes.push(Node::Range {
                        list,
                        each,
                        otherwise,
                    });
                }
                None if action == "end" => return Ok((nodes, Some("{{end}}"))),
                None if action == "else" => return Ok((nodes, Some("{{else}}"))),
                _ => nodes.push(Node::Print(parse_pipe(&action)?)),
            },
        }
    }
    Ok((nodes, None))
}

/// Parses up to the `{{end}}`: what is before an `{{else}}`, and what is behind it.
fn parse_branches(
    tokens: &mut std::vec::IntoIter<Token>,
) -> Result<(Vec<Node>, Vec<Node>), TemplateError> {
    let (then, mut end) = parse_nodes(tokens)?;
    let mut otherwise = Vec::new();
    if end == Some("{{else}}") {
        (otherwise, end) = parse_nodes(tokens)?;
    }
    match end {
        Some("{{end}}") => Ok((then, otherwise)),
        Some(what) => Err(TemplateError::Unbalanced { what }),
        None => Err(TemplateError::Unbalanced { what: "EOF" }),
    }
}

fn parse_pipe(text: &str) -> Result<Pipe, TemplateError> {
    let not_supported = || TemplateError::NotSupported {
        text: text.to_owned(),
    };
    let mut stages = text.split('|').map(str::trim);
    let first = stages.next().unwrap_or_default();
    let (value, mut functions) = match first.split_once(char::is_whitespace) {
        Some((name, operand)) if !first.starts_with('"') => {
            let function = Function::named(name).ok_or_else(not_supported)?;
            (operand.trim(), vec![function])
        }
        _ => (first, Vec::new()),
    };
    for name in stages {
        functions.push(Function::named(name).ok_or_else(not_supported)?);
    }
    Ok(Pipe {
        value: parse_operand(value).ok_or_else(not_supported)?,
        functions,
    })
}

fn parse_operand(text: &str) -> Option<Operand> {
    if let Some(path) = text.strip_prefix('.') {
        let is_name = |name: &str| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        if path.is_empty() {
            return Some(Operand::Field(Vec::new()));
        }
        let path: Vec<String> = path.split('.').map(str::to_owned).collect();
        return path
            .iter()
            .all(|n| is_name(n))
            .then_some(Operand::Field(path));
    }
    if text.starts_with('"') {
        return serde_json::from_str(text).ok().map(Operand::Text);
    }
    None
}

fn render_nodes(nodes: &[Node], data: &Data<'_>, out: &mut String) -> Result<(), TemplateError> {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Print(pipe) => out.push_str(&show(&evaluate(pipe, data)?)),
            Node::If {
                condition,
                then,
                otherwise,
            } => {
                let branch = if is_true(&evaluate(condition, data)?) {
                    then
                } else {
                    otherwise
                };
                render_nodes(branch, data, out)?;
            }
            Node::Range {
                list,
                each,
                otherwise,
            } => {
                let list = evaluate(list, data)?;
                if !is_true(&list) {
                    render_nodes(otherwise, data, out)?;
                    continue;
                }
                let items: Vec<&Value> = match &list {
                    Value::Array(items) => items.iter().collect(),
                    Value::Object(map) => map.values().collect(),
                    other => {
                        return Err(TemplateError::NoList { value: show(other) });
                    }
                };
                for item in items {
                    let data = Data {
                        fields: item,
                        whole: item,
                    };
                    render_nodes(each, &data, out)?;
                }
            }
        }
    }
    Ok(())
}

fn evaluate(pipe: &Pipe, data: &Data<'_>) -> Result<Value, TemplateError> {
    let mut value = match &pipe.value {
        Operand::Text(text) => Value::from(text.as_str()),
        Operand::Field(path) if path.is_empty() => data.whole.clone(),
        Operand::Field(path) => path
            .iter()
            .try_fold(data.fields, |value, name| value.get(name))
            .cloned()
            .ok_or_else(|| TemplateError::NoField {
                field: format!(".{}", path.join(".")),
            })?,
    };
    for function in &pipe.functions {
        value = function.apply(&value);
    }
    Ok(value)
}

fn render_header_nodes(nodes: &[Node], headers: &Value, out: &mut String) {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            // Headers are texts, which have nothing to go through.
            Node::Range { .. } => {}
            Node::If { then, .. } => render_header_nodes(then, headers, out),
            Node::Print(pipe) => match &pipe.value {
                Operand::Text(text) => out.push_str(text),
                Operand::Field(path) => {
                    let header = path.first().and_then(|name| headers.get(name));
                    out.push_str(&show(header.unwrap_or(&Value::Null)));
                }
            },
        }
    }
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(s) => !s.is_empty(),
        Value::Array(a) => !a.is_empty(),
        Value::Object(o) => !o.is_empty(),
    }
}

/// Shows a value as Go prints it: a list is `[a b]`, a map `map[k:v]`.
fn show(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(show).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let items: Vec<String> = map
                .iter()
                .map(|(k, v)| format!("{k}:{}", show(v)))
                .collect();
            format!("map[{}]", items.join(" "))
        }
        other => other.to_string(),
    }
}

fn title(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().into_iter().flat_map(char::to_uppercase);
    first.chain(chars).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &str) -> Result<String, TemplateError> {
        let data = serde_json::json!({
            "Name": "foo", "Empty": "", "List": ["a", "b"], "Yes": true, "Map": {"K": 1}
        });
        Template::parse(template)?.render(&data, &data)
    }

    #[test]
    fn templates_are_rendered_as_go_does() {
        for (template, expected) in [
            ("plain", "plain"),
            ("{{.Name}}", "foo"),
            ("{{ .Name }}\t{{.Yes}}", "foo\ttrue"),
            ("{{json .Name}}", "\"foo\""),
            ("{{json .List}} {{.List}}", "[\"a\",\"b\"] [a b]"),
            ("{{.Map.K}} {{.Map}}", "1 map[K:1]"),
            (
                "{{upper .Name}} {{.Name | upper | lower}} {{title .Name}}",
                "FOO foo Foo",
            ),
            ("{{len .List}}", "2"),
            ("{{\"x y\"}}", "x y"),
            ("{{if .Empty}}a{{else}}b{{end}}{{if .Name}}c{{end}}", "bc"),
            (
                "{{range .List}}<{{.}}>{{end}}{{range .Empty}}x{{else}}y{{end}}",
                "<a><b>y",
            ),
            ("{{range .Map}}{{.}}{{end}} {{.Name}}", "1 foo"),
            ("a  {{- .Name -}}  b", "afoob"),
            ("a{{/* no */}}b", "ab"),
            (
                "{{json .}}",
                r#"{"Name":"foo","Empty":"","List":["a","b"],"Yes":true,"Map":{"K":1}}"#,
            ),
        ] {
            assert_eq!(render(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for bad in [
            "{{.Name",
            "{{.Nothing}}",
            "{{range .List}}",
            "{{range .Name}}{{end}}",
            "{{range .List}}{{.Name}}{{end}}",
            "{{end}}",
            "{{if .Name}}",
            "{{if .Name}}{{else}}{{else}}{{end}}",
            "{{foo .Name}}",
            "{{}}",
            "{{.Name | nope}}",
        ] {
            assert!(render(bad).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_template_panics(text in "[{}.a |\"-]{0,30}") {
            let _ = render(&text);
        }
    }
}
