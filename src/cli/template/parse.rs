//! From the text of a template to its tree.

use std::iter::Peekable;
use std::vec::IntoIter;

use serde_json::Value;

use super::TemplateError;
use super::functions::{self, Function};

mod lex;

use self::lex::{Action, Part, Token};

/// How deep parentheses and branches may be nested: what is read by recursion must not exhaust the stack.
const DEEPEST: usize = 100;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Text(String),
    /// Its value is printed, unless it sets a variable.
    Action(Pipe),
    Branch {
        kind: Kind,
        pipe: Pipe,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    If,
    With,
    Range,
}

impl Kind {
    fn named(word: &str) -> Option<Self> {
        Some(match word {
            "if" => Self::If,
            "with" => Self::With,
            "range" => Self::Range,
            _ => return None,
        })
    }
}

/// Commands, of which each gives its value to the next one as the last argument.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pipe {
    /// Variables that it sets: one, or for `range` also index and element.
    pub(super) names: Vec<String>,
    /// The variables are new, or else they are there already.
    pub(super) declares: bool,
    pub(super) commands: Vec<Command>,
}

/// A value, or a function with its arguments.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Command {
    pub(super) first: Term,
    pub(super) arguments: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Term {
    Function(Function),
    Dot,
    /// `$` is the variable without a name: the data itself.
    Variable(String),
    Literal(Value),
    Pipe(Box<Pipe>),
    Field(Box<Term>, Vec<String>),
}

/// What ends a list of nodes.
enum Ended {
    Text,
    Branch,
    Else,
    /// `{{else if …}}`, which is a branch of its own in the place of what is otherwise.
    ElseBranch(Kind, Pipe),
}

/// Parses a template.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, TemplateError> {
    let mut parser = Parser {
        parts: lex::parts(text)?.into_iter(),
        depth: 0,
    };
    let (nodes, end) = parser.nodes()?;
    match end {
        Ended::Text => Ok(nodes),
        Ended::Branch => Err(TemplateError::Unbalanced { what: "{{end}}" }),
        Ended::Else | Ended::ElseBranch(..) => Err(TemplateError::Unbalanced { what: "{{else}}" }),
    }
}

struct Parser {
    parts: IntoIter<Part>,
    depth: usize,
}

impl Parser {
    /// Parses up to the end of the template, or to an `{{else}}` or `{{end}}`.
    fn nodes(&mut self) -> Result<(Vec<Node>, Ended), TemplateError> {
        let mut nodes = Vec::new();
        while let Some(part) = self.parts.next() {
            let action = match part {
                Part::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Part::Action(action) => action,
            };
            let mut words = Words::new(action);
            match words.keyword().as_deref() {
                Some("end") => return words.finish().map(|()| (nodes, Ended::Branch)),
                Some("else") => {
                    let Some(word) = words.keyword() else {
                        return words.finish().map(|()| (nodes, Ended::Else));
                    };
                    let kind = Kind::named(&word).filter(|kind| *kind != Kind::Range);
                    let kind = kind.ok_or_else(|| words.not_supported())?;
                    return Ok((nodes, Ended::ElseBranch(kind, words.whole_pipe()?)));
                }
                Some(word) => {
                    let kind = Kind::named(word).ok_or_else(|| words.not_supported())?;
                    let pipe = words.whole_pipe()?;
                    nodes.push(self.branch(kind, pipe, &words)?);
                }
                None => nodes.push(Node::Action(words.whole_pipe()?)),
            }
        }
        Ok((nodes, Ended::Text))
    }

    /// Parses up to the `{{end}}` of a branch.
    fn branch(&mut self, kind: Kind, pipe: Pipe, words: &Words) -> Result<Node, TemplateError> {
        self.depth += 1;
        if self.depth > DEEPEST || (pipe.names.len() > 1 && kind != Kind::Range) {
            return Err(words.not_supported());
        }
        let (then, end) = self.nodes()?;
        let otherwise = match end {
            Ended::Branch => Vec::new(),
            Ended::Else => {
                let (otherwise, end) = self.nodes()?;
                match end {
                    Ended::Branch => otherwise,
                    Ended::Text => return Err(TemplateError::Unbalanced { what: "EOF" }),
                    _ => return Err(TemplateError::Unbalanced { what: "{{else}}" }),
                }
            }
            Ended::ElseBranch(kind, pipe) => vec![self.branch(kind, pipe, words)?],
            Ended::Text => return Err(TemplateError::Unbalanced { what: "EOF" }),
        };
        self.depth -= 1;
        Ok(Node::Branch {
            kind,
            pipe,
            then,
            otherwise,
        })
    }
}

/// The words of one action.
struct Words {
    text: String,
    tokens: Peekable<IntoIter<Token>>,
    depth: usize,
}

impl Words {
    fn new(action: Action) -> Self {
        Self {
            text: action.text,
            tokens: action.tokens.into_iter().peekable(),
            depth: 0,
        }
    }

    fn not_supported(&self) -> TemplateError {
        TemplateError::NotSupported {
            text: self.text.clone(),
        }
    }

    /// Takes a word of the language that begins an action.
    fn keyword(&mut self) -> Option<String> {
        let is_keyword = |token: &Token| matches!(token, Token::Word(word) if is_keyword(word));
        match self.tokens.next_if(is_keyword)? {
            Token::Word(word) => Some(word),
            _ => None,
        }
    }

    fn finish(&mut self) -> Result<(), TemplateError> {
        match self.tokens.next() {
            None => Ok(()),
            Some(_) => Err(self.not_supported()),
        }
    }

    fn whole_pipe(&mut self) -> Result<Pipe, TemplateError> {
        let pipe = self.pipe()?;
        self.finish()?;
        Ok(pipe)
    }

    fn pipe(&mut self) -> Result<Pipe, TemplateError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.not_supported());
        }
        let (names, declares) = self.names()?;
        let mut commands = vec![self.command(true)?];
        while self.tokens.next_if_eq(&Token::Bar).is_some() {
            commands.push(self.command(false)?);
        }
        self.depth -= 1;
        Ok(Pipe {
            names,
            declares,
            commands,
        })
    }

    /// Takes the variables that are set, as in `$i, $x := …`.
    fn names(&mut self) -> Result<(Vec<String>, bool), TemplateError> {
        let ahead: Vec<Token> = self.tokens.clone().take(4).collect();
        let (names, sign) = match ahead.as_slice() {
            [Token::Variable(one), sign, ..] if sign.sets() => (vec![one.clone()], sign),
            [
                Token::Variable(one),
                Token::Comma,
                Token::Variable(two),
                sign,
            ] if sign.sets() => (vec![one.clone(), two.clone()], sign),
            _ => return Ok((Vec::new(), false)),
        };
        if names.iter().any(String::is_empty) {
            return Err(self.not_supported());
        }
        for _ in 0..2 * names.len() {
            self.tokens.next();
        }
        Ok((names, *sign == Token::Declare))
    }

    fn command(&mut self, is_first: bool) -> Result<Command, TemplateError> {
        let first = self.term()?.ok_or_else(|| self.not_supported())?;
        let mut arguments = Vec::new();
        while let Some(argument) = self.term()? {
            arguments.push(argument);
        }
        let is_understood = match (&first, arguments.first()) {
            (Term::Function(Function::Printf), Some(Term::Literal(Value::String(format)))) => {
                functions::is_plain_format(format)
            }
            (Term::Function(Function::Printf), _) => false,
            (Term::Function(_), _) => true,
            // Nothing here is a function that a field holds.
            (_, argument) => is_first && argument.is_none(),
        };
        if !is_understood {
            return Err(self.not_supported());
        }
        Ok(Command { first, arguments })
    }

    /// Takes a value with the fields behind it; none at the end of a command.
    fn term(&mut self) -> Result<Option<Term>, TemplateError> {
        let is_term = |token: &Token| {
            use Token::{Assign, Bar, Close, Comma, Declare};
            !matches!(token, Assign | Bar | Close | Comma | Declare)
        };
        let Some(token) = self.tokens.next_if(is_term) else {
            return Ok(None);
        };
        let mut fields = Vec::new();
        let term = match token {
            Token::Word(word) => {
                Term::Function(Function::named(&word).ok_or_else(|| self.not_supported())?)
            }
            Token::Dot => Term::Dot,
            Token::Field { name, .. } => {
                fields.push(name);
                Term::Dot
            }
            Token::Variable(name) => Term::Variable(name),
            Token::Literal(value) => Term::Literal(value),
            _ => {
                let pipe = self.pipe()?;
                if self.tokens.next_if_eq(&Token::Close).is_none() {
                    return Err(self.not_supported());
                }
                Term::Pipe(Box::new(pipe))
            }
        };
        let is_attached = |token: &Token| matches!(token, Token::Field { attached: true, .. });
        while let Some(Token::Field { name, .. }) = self.tokens.next_if(is_attached) {
            fields.push(name);
        }
        Ok(Some(if fields.is_empty() {
            term
        } else {
            Term::Field(Box::new(term), fields)
        }))
    }
}

/// Returns whether a word is one of the language, not the name of a function.
fn is_keyword(word: &str) -> bool {
    matches!(
        word,
        "block"
            | "break"
            | "continue"
            | "define"
            | "else"
            | "end"
            | "if"
            | "range"
            | "template"
            | "with"
    )
}
