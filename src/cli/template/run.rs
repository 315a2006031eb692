//! The rendering of a parsed template.

use serde_json::Value;

use super::TemplateError;
use super::functions::{self, Function};
use super::parse::{Command, Kind, Node, Pipe, Term};
use super::print::show;
use crate::text::go_json;

/// What a template is rendered with.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// Plain data.
    Data(&'a Value),
    /// A row: its fields, and what it is as a whole.
    Row { fields: &'a Value, whole: &'a Value },
    /// The headers of all fields.
    Headers(&'a Value),
}

/// A value, or the source itself.
#[derive(Clone)]
enum Item {
    Source,
    Value(Value),
}

/// One rendering.
pub(super) struct Run<'a> {
    source: Source<'a>,
    variables: Vec<(String, Item)>,
    dot: Item,
    pub(super) out: String,
}

impl<'a> Run<'a> {
    pub(super) fn new(source: Source<'a>) -> Self {
        Self {
            source,
            variables: vec![(String::new(), Item::Source)],
            dot: Item::Source,
            out: String::new(),
        }
    }

    pub(super) fn nodes(&mut self, nodes: &[Node]) -> Result<(), TemplateError> {
        for node in nodes {
            match node {
                Node::Text(text) => self.out.push_str(text),
                Node::Action(pipe) => {
                    let item = self.pipe(pipe)?;
                    if pipe.names.is_empty() {
                        let shown = show(&self.value(item));
                        self.out.push_str(&shown);
                    } else {
                        self.set(pipe, &[item])?;
                    }
                }
                Node::Branch {
                    kind,
                    pipe,
                    then,
                    otherwise,
                } => {
                    // What a branch declares is gone behind it.
                    let (kept, dot) = (self.variables.len(), self.dot.clone());
                    self.branch(*kind, pipe, then, otherwise)?;
                    self.variables.truncate(kept);
                    self.dot = dot;
                }
            }
        }
        Ok(())
    }

    fn branch(
        &mut self,
        kind: Kind,
        pipe: &Pipe,
        then: &[Node],
        otherwise: &[Node],
    ) -> Result<(), TemplateError> {
        let item = self.pipe(pipe)?;
        let is_true = match &item {
            Item::Source => true,
            Item::Value(value) => functions::is_true(value),
        };
        if kind == Kind::Range {
            return self.range(pipe, self.value(item), then, otherwise);
        }
        self.set(pipe, std::slice::from_ref(&item))?;
        if !is_true {
            return self.nodes(otherwise);
        }
        if kind == Kind::With {
            self.dot = item;
        }
        self.nodes(then)
    }

    fn range(
        &mut self,
        pipe: &Pipe,
        list: Value,
        each: &[Node],
        otherwise: &[Node],
    ) -> Result<(), TemplateError> {
        let items: Vec<(Value, Value)> = match list {
            Value::Null => Vec::new(),
            Value::Array(list) => (0..).map(Value::from).zip(list).collect(),
            Value::Object(map) => {
                let mut items: Vec<_> = map.into_iter().collect();
                items.sort_by(|(one, _), (two, _)| one.cmp(two));
                let items = items.into_iter();
                items
                    .map(|(key, value)| (Value::from(key), value))
                    .collect()
            }
            other => {
                return Err(TemplateError::NoList {
                    value: show(&other),
                });
            }
        };
        if items.is_empty() {
            return self.nodes(otherwise);
        }
        let kept = self.variables.len();
        for (key, value) in items {
            self.dot = Item::Value(value);
            let element = self.dot.clone();
            match pipe.names.len() {
                2 => self.set(pipe, &[Item::Value(key), element])?,
                _ => self.set(pipe, &[element])?,
            }
            self.nodes(each)?;
            self.variables.truncate(kept);
        }
        Ok(())
    }

    fn set(&mut self, pipe: &Pipe, items: &[Item]) -> Result<(), TemplateError> {
        for (name, item) in pipe.names.iter().zip(items) {
            if pipe.declares {
                self.variables.push((name.clone(), item.clone()));
            } else {
                *self.variable(name)? = item.clone();
            }
        }
        Ok(())
    }

    fn variable(&mut self, wanted: &str) -> Result<&mut Item, TemplateError> {
        let mut variables = self.variables.iter_mut().rev();
        let found = variables.find(|(name, _)| name == wanted);
        found
            .map(|(_, item)| item)
            .ok_or_else(|| TemplateError::NoVariable {
                name: wanted.to_owned(),
            })
    }

    fn pipe(&mut self, pipe: &Pipe) -> Result<Item, TemplateError> {
        let mut last = None;
        for command in &pipe.commands {
            last = Some(self.command(command, last)?);
        }
        Ok(last.unwrap_or(Item::Value(Value::Null)))
    }

    fn command(&mut self, command: &Command, last: Option<Item>) -> Result<Item, TemplateError> {
        let Term::Function(function) = command.first else {
            return self.term(&command.first);
        };
        if let Function::And | Function::Or = function {
            return self.decide(function, &command.arguments, last);
        }
        let arguments = command.arguments.iter();
        let mut items: Vec<Item> = arguments
            .map(|term| self.term(term))
            .collect::<Result<_, _>>()?;
        items.extend(last);
        self.call(function, items)
    }

    /// The first argument that decides, or else the last one.
    fn decide(
        &mut self,
        function: Function,
        arguments: &[Term],
        last: Option<Item>,
    ) -> Result<Item, TemplateError> {
        let mut found = None;
        for term in arguments {
            let item = self.term(term)?;
            let is_true = functions::is_true(&self.value(item.clone()));
            if is_true == (function == Function::Or) {
                return Ok(item);
            }
            found = Some(item);
        }
        match last.or(found) {
            Some(item) => Ok(item),
            None => function.call(&[]).map(Item::Value),
        }
    }

    fn call(&self, function: Function, items: Vec<Item>) -> Result<Item, TemplateError> {
        if let (Function::Json, [item], Source::Row { whole, .. }) =
            (function, &items[..], self.source)
            && let Some(text) = json_of_row(item, whole)
        {
            return Ok(Item::Value(text.into()));
        }
        let values: Vec<Value> = items.into_iter().map(|item| self.value(item)).collect();
        let for_header = match self.source {
            Source::Headers(_) => function.call_for_header(&values),
            Source::Data(_) | Source::Row { .. } => None,
        };
        let value = for_header.unwrap_or_else(|| function.call(&values))?;
        Ok(Item::Value(value))
    }

    fn term(&mut self, term: &Term) -> Result<Item, TemplateError> {
        match term {
            Term::Function(function) => self.call(*function, Vec::new()),
            Term::Dot => Ok(self.dot.clone()),
            Term::Variable(name) => self.variable(name).cloned(),
            Term::Literal(value) => Ok(Item::Value(value.clone())),
            Term::Pipe(pipe) => self.pipe(pipe),
            Term::Field(term, path) => {
                let item = self.term(term)?;
                self.field(&item, path).map(Item::Value)
            }
        }
    }

    fn field(&self, item: &Item, path: &[String]) -> Result<Value, TemplateError> {
        let (base, is_lenient) = match (item, self.source) {
            (Item::Source, Source::Headers(headers)) => (headers, true),
            (Item::Source, Source::Data(data) | Source::Row { fields: data, .. }) => (data, false),
            (Item::Value(value), _) => (value, false),
        };
        let mut value = base;
        for name in path {
            value = match value.get(name) {
                Some(value) => value,
                None if is_lenient => &Value::Null,
                None => {
                    return Err(TemplateError::NoField {
                        field: format!(".{}", path.join(".")),
                    });
                }
            };
        }
        Ok(value.clone())
    }

    fn value(&self, item: Item) -> Value {
        match (item, self.source) {
            (Item::Value(value), _) => value,
            (
                Item::Source,
                Source::Data(data) | Source::Row { whole: data, .. } | Source::Headers(data),
            ) => data.clone(),
        }
    }
}

/// The JSON of what differs in a row of docker's: the row itself cares for HTML, and a list without elements is nil in Go.
fn json_of_row(item: &Item, whole: &Value) -> Option<String> {
    match item {
        Item::Source => Some(go_json::encode(whole)),
        Item::Value(Value::Array(list)) if list.is_empty() => Some("null".to_owned()),
        Item::Value(_) => None,
    }
}
