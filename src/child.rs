//! Other programs that this one starts: git, ssh, credential helpers, cosign, the real buildx.
//!
//! What caches are signed with is none of their business: a variable with that key does not reach them.

use std::ffi::{OsStr, OsString};
use std::sync::OnceLock;

use crate::env::CACHEX_SIGN_KEY;

/// What names a variable in an argument.
const NAMED: &str = "env://";
/// Variables that arguments name as holding a key.
static HIDDEN: OnceLock<Vec<String>> = OnceLock::new();

/// Hides the variables that arguments name as `env://NAME` from programs that are started after this. Once a process.
pub fn hide_named_in(args: &[OsString]) {
    let names = args.iter().flat_map(|arg| named_in(&arg.to_string_lossy()));
    // The first ones stay: a process has its arguments once.
    let _set = HIDDEN.set(names.collect());
}

/// Prepares to start a program without the variables that hold a key.
pub fn command(program: impl AsRef<OsStr>) -> tokio::process::Command {
    std_command(program).into()
}

/// Prepares the same to be started without waiting for it in a task.
pub fn std_command(program: impl AsRef<OsStr>) -> std::process::Command {
    let mut command = std::process::Command::new(program);
    command.env_remove(CACHEX_SIGN_KEY);
    for name in HIDDEN.get().into_iter().flatten() {
        command.env_remove(name);
    }
    command
}

fn named_in(arg: &str) -> Vec<String> {
    let names = arg.split(NAMED).skip(1);
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names = names.map(|rest| rest.split(|c| !is_part(c)).next().unwrap_or_default());
    names
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_found_in_arguments() {
        for (arg, names) in [
            ("--key=env://A_1", &["A_1"][..]),
            (
                "type=registry,sign=env://A,verify=env://B+env://C,x=y",
                &["A", "B", "C"],
            ),
            ("env://", &[]),
            ("A", &[]),
        ] {
            assert_eq!(named_in(arg), names, "{arg}");
        }
    }

    #[test]
    fn no_program_is_given_the_key() {
        let command = std_command("git");
        let removed = command
            .get_envs()
            .any(|(name, value)| name == CACHEX_SIGN_KEY && value.is_none());
        assert!(removed);
    }
}
