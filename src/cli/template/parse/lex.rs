//! The text of a template, cut into text and the tokens of actions.

use serde_json::Value;

use crate::cli::template::TemplateError;

/// A piece of a template.
pub(super) enum Part {
    Text(String),
    Action(Action),
}

/// What stands between `{{` and `}}`.
pub(super) struct Action {
    pub(super) text: String,
    pub(super) tokens: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A keyword or the name of a function.
    Word(String),
    Dot,
    /// `.Name`; attached where it stands right behind what it is a field of.
    Field {
        name: String,
        attached: bool,
    },
    Variable(String),
    Literal(Value),
    Open,
    Close,
    Bar,
    Declare,
    Assign,
    Comma,
}

impl Token {
    /// Returns whether it sets the variables before it.
    pub(super) fn sets(&self) -> bool {
        matches!(self, Self::Declare | Self::Assign)
    }
}

/// Cuts a template into its parts. Trim marks and comments are gone afterwards.
pub(super) fn parts(text: &str) -> Result<Vec<Part>, TemplateError> {
    let mut parts = Vec::new();
    let (mut rest, mut trims) = (text, false);
    while let Some((before, mut inner)) = rest.split_once("{{") {
        let mut before = if trims {
            before.trim_start_matches(is_space)
        } else {
            before
        };
        if let Some(trimmed) = inner.strip_prefix('-').filter(|s| s.starts_with(is_space)) {
            (before, inner) = (before.trim_end_matches(is_space), trimmed);
        }
        parts.push(Part::Text(before.to_owned()));
        let length = action_length(inner).ok_or(TemplateError::Unclosed)?;
        let mut action = &inner[..length];
        rest = &inner[length + 2..];
        trims = false;
        if let Some(trimmed) = action.strip_suffix('-').filter(|s| s.ends_with(is_space)) {
            (action, trims) = (trimmed, true);
        }
        let action = action.trim();
        let is_comment = action.starts_with("/*") && action.ends_with("*/");
        if !is_comment {
            parts.push(Part::Action(Action {
                text: action.to_owned(),
                tokens: tokens(action)?,
            }));
        }
    }
    let rest = if trims {
        rest.trim_start_matches(is_space)
    } else {
        rest
    };
    parts.push(Part::Text(rest.to_owned()));
    Ok(parts)
}

/// Returns where an action ends: at the first `}}` that stands in no quotes.
fn action_length(text: &str) -> Option<usize> {
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("}}") {
            return Some(at);
        }
        at += match rest.chars().next()? {
            '"' | '`' => quoted_length(rest)?,
            other => other.len_utf8(),
        };
    }
    None
}

/// Returns the length of a text in quotes, both quotes included.
fn quoted_length(text: &str) -> Option<usize> {
    let mut chars = text.char_indices();
    let (_, quote) = chars.next()?;
    let mut is_escaped = false;
    for (at, c) in chars {
        if c == quote && !is_escaped {
            return Some(at + quote.len_utf8());
        }
        is_escaped = c == '\\' && quote == '"' && !is_escaped;
    }
    None
}

fn tokens(action: &str) -> Result<Vec<Token>, TemplateError> {
    let mut tokens = Vec::new();
    let mut rest = action;
    let mut attached = false;
    while !rest.is_empty() {
        let spaceless = rest.trim_start_matches(is_space);
        attached &= spaceless.len() == rest.len();
        rest = spaceless;
        let (token, length) = token(rest, attached).ok_or_else(|| TemplateError::NotSupported {
            text: action.to_owned(),
        })?;
        // A text or a number has no fields.
        attached = !matches!(token, Token::Literal(_));
        tokens.push(token);
        rest = &rest[length..];
    }
    Ok(tokens)
}

/// Reads the token that a text begins with, and its length.
fn token(text: &str, attached: bool) -> Option<(Token, usize)> {
    let name = |text: &str| {
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let length = text.find(|c| !is_name(c)).unwrap_or(text.len());
        text[..length].to_owned()
    };
    let first = text.chars().next()?;
    let one = |token| Some((token, 1));
    match first {
        '(' => one(Token::Open),
        ')' => one(Token::Close),
        '|' => one(Token::Bar),
        ',' => one(Token::Comma),
        '=' => one(Token::Assign),
        ':' => text.starts_with(":=").then_some((Token::Declare, 2)),
        '"' => {
            let length = quoted_length(text)?;
            // In Go a tab may stand in quotes as it is.
            let json = text[..length].replace('\t', "\\t");
            let value = serde_json::from_str(&json).ok()?;
            Some((Token::Literal(value), length))
        }
        '`' => {
            let length = quoted_length(text)?;
            let value = Value::from(&text[1..length - 1]);
            Some((Token::Literal(value), length))
        }
        '$' => {
            let name = name(&text[1..]);
            let length = 1 + name.len();
            Some((Token::Variable(name), length))
        }
        '.' => {
            let name = name(&text[1..]);
            let length = 1 + name.len();
            let token = match name.chars().next() {
                None => Token::Dot,
                Some(c) if c.is_numeric() => return None,
                Some(_) => Token::Field { name, attached },
            };
            Some((token, length))
        }
        '0'..='9' | '-' | '+' => {
            let end = text.find(|c: char| is_space(c) || "()|,".contains(c));
            let length = end.unwrap_or(text.len());
            let number: i64 = text[..length].parse().ok()?;
            Some((Token::Literal(Value::from(number)), length))
        }
        c if c.is_alphabetic() || c == '_' => {
            let word = name(text);
            let length = word.len();
            Some((constant(&word).unwrap_or(Token::Word(word)), length))
        }
        _ => None,
    }
}

fn constant(word: &str) -> Option<Token> {
    let value = match word {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "nil" => Value::Null,
        _ => return None,
    };
    Some(Token::Literal(value))
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}
