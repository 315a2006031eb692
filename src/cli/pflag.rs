//! Flags in the forms that docker's own flags take, those of Go's pflag, in the whole tree of commands.

use std::any::TypeId;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command};

use crate::options::boolean::{self, parse_bool};

/// Lets every flag of a command and of those below it be given as docker's flags are:
///
/// - a truth value may follow behind an equals sign: `--push=false`, `-q=1`;
/// - a flag with a value takes the next argument as it is, even if it begins with a dash:
///   `--buildkitd-flags --debug`.
pub(super) fn like_pflag(mut command: Command) -> Command {
    for inner in command.get_subcommands_mut() {
        let own = std::mem::take(inner);
        *inner = like_pflag(own);
    }
    command.mut_args(|arg| {
        if arg.is_positional() {
            arg
        } else if arg.get_value_parser().type_id() == TypeId::of::<bool>() {
            truth_value(arg)
        } else if matches!(arg.get_action(), ArgAction::Set | ArgAction::Append) {
            arg.allow_hyphen_values(true)
        } else {
            arg
        }
    })
}

/// Gives the flag of clap's own that takes no value, `--help`, the forms of the others: `--help=true` is `--help`, and
/// `--help=false` is left out.
pub(super) fn without_help_values(args: &[OsString]) -> Vec<OsString> {
    let mut may_be_flag = true;
    let given = args.iter().filter_map(|arg| {
        may_be_flag &= arg != "--";
        let text = arg.to_str().filter(|_| may_be_flag);
        let value = text.and_then(|text| text.strip_prefix("--help="));
        match value.and_then(parse_bool) {
            Some(false) => None,
            Some(true) => Some(OsString::from("--help")),
            None => Some(arg.clone()),
        }
    });
    given.collect()
}

/// Returns the error of a flag beside `--help` that is unknown or lacks its value: clap shows the help as soon as it has read
/// `--help`, and docker's commands read all flags first.
pub(super) fn wrong_beside_help(root: Command, args: &[OsString]) -> Option<clap::Error> {
    let error = with_plain_help(root).try_get_matches_from(args).err()?;
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let is_wrong = match error.kind() {
        ErrorKind::UnknownArgument => text(ContextKind::InvalidArg).starts_with('-'),
        ErrorKind::InvalidValue => text(ContextKind::InvalidValue).is_empty(),
        _ => false,
    };
    is_wrong.then_some(error)
}

/// Makes `--help` of a command and of those below it a flag like every other.
fn with_plain_help(mut command: Command) -> Command {
    for inner in command.get_subcommands_mut() {
        let own = std::mem::take(inner);
        *inner = with_plain_help(own);
    }
    let help = Arg::new("plain-help")
        .long("help")
        .short('h')
        .action(ArgAction::Count);
    command.disable_help_flag(true).arg(help)
}

fn truth_value(arg: Arg) -> Arg {
    let is_false_if_absent = matches!(arg.get_action(), ArgAction::SetTrue);
    let arg = arg
        .action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .value_name("bool")
        .value_parser(go_bool);
    if is_false_if_absent {
        arg.default_value("false").hide_default_value(true)
    } else {
        arg
    }
}

/// Reads a truth value as Go does, because scripts write `--push=1` and `--pull=TRUE` too.
fn go_bool(text: &str) -> Result<bool, String> {
    parse_bool(text).ok_or_else(|| format!("use {}", boolean::EXPECTED))
}

#[cfg(test)]
mod tests;
