//! Errors of clap in docker's words: one line, then where the help is.

use std::ffi::OsString;

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind as ClapKind};

use crate::error::{CommandError, ErrorKind};
use crate::options::OptionError;
use crate::options::secret_keys::holds_private_key;
use crate::plugin::name::BUILDX;

/// Commands of buildx that are not here.
const ONLY_BUILDX: [&str; 8] = [
    "bake",
    "dap",
    "debug",
    "history",
    "imagetools",
    "install",
    "policy",
    "uninstall",
];
/// Shorter words are like too many others.
const SHORTEST_SUGGESTION: usize = 2;

/// Turns an error of clap into one of ours. The exit codes are those of buildx under docker: a flag
/// that is unknown, has no value or one that cannot be parsed is a usage error; an unknown command, a
/// wrong number of arguments and a value outside a list is a failure like others.
pub(super) fn error(error: &clap::Error, root: &Command, args: &[OsString]) -> CommandError {
    let invalid_arg = text(error, ContextKind::InvalidArg);
    let is_flag = invalid_arg.starts_with('-');
    let name = flag_name(&invalid_arg);
    let value = text(error, ContextKind::InvalidValue);
    let valid = text(error, ContextKind::ValidValue);
    let (kind, message) = match error.kind() {
        ClapKind::UnknownArgument if is_flag => {
            (ErrorKind::Usage, format!("unknown flag: {invalid_arg}"))
        }
        ClapKind::UnknownArgument => (
            ErrorKind::Failed,
            format!("unexpected argument {invalid_arg:?}"),
        ),
        ClapKind::InvalidSubcommand => (
            ErrorKind::Failed,
            format!(
                "unknown command: {:?}",
                text(error, ContextKind::InvalidSubcommand)
            ),
        ),
        ClapKind::MissingRequiredArgument => (
            ErrorKind::Failed,
            format!("missing argument: {invalid_arg}"),
        ),
        ClapKind::InvalidValue if value.is_empty() => {
            (ErrorKind::Usage, format!("flag needs an argument: {name}"))
        }
        ClapKind::InvalidValue => (
            ErrorKind::Failed,
            format!("invalid value {value:?} for {name}: it is none of {valid}"),
        ),
        ClapKind::ValueValidation => (
            ErrorKind::Usage,
            match std::error::Error::source(error) {
                // It shows the value itself, or hides what is secret in it.
                Some(cause) if cause.is::<OptionError>() => format!("invalid {name}: {cause}"),
                Some(cause) => format!("invalid value {value:?} for {name}: {cause}"),
                None => format!("invalid value {value:?} for {name}"),
            },
        ),
        ClapKind::ArgumentConflict => {
            let prior = text(error, ContextKind::PriorArg);
            let message = if prior == invalid_arg {
                format!("{name} can be given only once")
            } else {
                format!("{name} and {} cannot be used together", flag_name(&prior))
            };
            (ErrorKind::Usage, message)
        }
        _ => (ErrorKind::Usage, first_line(error)),
    };
    let mut result = CommandError::new(kind, message);
    let command = text(error, ContextKind::InvalidSubcommand);
    if ONLY_BUILDX.contains(&&*command) {
        return result.hint(where_it_is(&command, root));
    }
    let kinds = [
        ContextKind::SuggestedArg,
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedValue,
    ];
    let mut suggested = kinds.map(|k| text(error, k)).into_iter();
    if let Some(suggested) = suggested.find(|text| text.len() >= SHORTEST_SUGGESTION) {
        result = result.hint(format!("did you mean {suggested}?"));
    }
    result.hint(format!("run \"{} --help\"", command_path(root, args)))
}

/// Says where a command is that only buildx has.
fn where_it_is(command: &str, root: &Command) -> String {
    let here = root.get_bin_name().unwrap_or_default();
    if here.ends_with(BUILDX) {
        "only the real buildx has it, and none was found".to_owned()
    } else {
        format!("only buildx has it, and it serves the same builders: docker {BUILDX} {command}")
    }
}

/// Joins what clap noted of one kind.
fn text(error: &clap::Error, kind: ContextKind) -> String {
    let text = match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(", "),
        _ => String::new(),
    };
    hidden(text)
}

/// Hides a private key that stands among the arguments by mistake.
fn hidden(text: String) -> String {
    if holds_private_key(&text) {
        "…".to_owned()
    } else {
        text
    }
}

/// Cuts the name out of clap's `--file <string>`.
fn flag_name(shown: &str) -> &str {
    shown.split([' ', '=', '[']).next().unwrap_or(shown)
}

fn first_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let line = text.lines().next().unwrap_or_default();
    hidden(line.trim_start_matches("error: ").to_owned())
}

/// Finds the command that the arguments lead to, for the hint.
fn command_path(root: &Command, args: &[OsString]) -> String {
    let mut command = root;
    let mut path = command.get_bin_name().unwrap_or_default().to_owned();
    for arg in args {
        if let Some(inner) = command.find_subcommand(arg) {
            command = inner;
            path = format!("{path} {}", inner.get_name());
        }
    }
    path
}
