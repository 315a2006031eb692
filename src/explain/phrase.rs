//! Causes in words: one line of cause, with a hint only where it is certain.

use super::{Cause, FileChange, Files, Permissions, Step, Variable, VariableChange};
use crate::digest::Digest;
use crate::text::{counted, foreign};

/// How many files are named, and how many steps.
const FILES: usize = 5;
const STEPS: usize = 3;
/// The name of the step that unpacks an archive.
const CONTEXT: &str = "the build context";
/// Characters of a name that are shown.
const NAME: usize = 80;

/// Whether everything is told, or what fits under a summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// A few files and steps.
    Short,
    /// All of them.
    Full,
}

/// Returns the lines that tell a cause.
pub fn cause(cause: &Cause, length: Length) -> Vec<String> {
    let line = match cause {
        Cause::Files(files) => return changed_files(files, length),
        Cause::SomeFiles => "files that it reads differ".to_owned(),
        Cause::Asked(option) => format!("{} was given", foreign::line(option)),
        Cause::Variable(differs) => variable(differs),
        Cause::Command => "its command differs".to_owned(),
        Cause::Instruction => "its text in the Dockerfile differs".to_owned(),
        Cause::Heredoc => "the text of its heredoc differs, or a variable in it".to_owned(),
        Cause::Mounts => "its mounts differ".to_owned(),
        Cause::Options(options) if options.is_empty() => {
            "another option of the step differs".to_owned()
        }
        Cause::Options(options) => options_differ(options),
        Cause::Context => {
            "its text is the same, but WORKDIR or a variable in it differs".to_owned()
        }
        Cause::VariableOrder => {
            "the same environment variables are set in another order".to_owned()
        }
        Cause::Platforms(platforms) => {
            format!("the cache has this step for {} only", and(platforms))
        }
        Cause::Base { from, to } => base(from.as_ref(), to.as_ref()),
        Cause::Source => "the Git repository, URL or archive that it reads has changed".to_owned(),
        Cause::Frontend { from, to } => format!(
            "the Dockerfile frontend moved from {} to {}",
            foreign::line(from),
            foreign::line(to)
        ),
        Cause::Timestamp => "SOURCE_DATE_EPOCH differs".to_owned(),
        Cause::NoLayer => {
            "in the cache without its layer: mode=min keeps only layers of the final image, \
                           mode=max keeps all"
                .to_owned()
        }
        Cause::LayerLost(layer) => format!(
            "in the cache, but the registry has lost its layer {}; the next export puts it back",
            short(layer)
        ),
        Cause::OtherOrder => {
            "the cache has this step, but only after other steps than these".to_owned()
        }
        Cause::NotThere => "not in the cache: the step is new, or was changed".to_owned(),
        Cause::New => "not in the cache: no earlier build had a step like it".to_owned(),
        Cause::ShouldHaveHit => {
            "it is in the cache with its layer, but BuildKit did not use it (a known bug, \
                                 moby/buildkit#4674); running the build again may help"
                .to_owned()
        }
        Cause::Unknown(reason) => format!("not known: {}", foreign::line(reason)),
    };
    vec![line]
}

/// Returns the line about the steps that follow from one; `None` for none.
pub fn followers(steps: &[Step], length: Length) -> Option<String> {
    let verb = match steps.len() {
        0 => return None,
        1 => "follows",
        _ => "follow",
    };
    let shown = match length {
        // One more is named where that takes no more room than to count it.
        Length::Short if steps.len() > STEPS + 1 => STEPS,
        Length::Short | Length::Full => steps.len(),
    };
    let names: Vec<String> = steps.iter().take(shown).map(name).collect();
    let more = match steps.len() - shown {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let count = counted(steps.len(), "step");
    Some(format!(
        "{count} {verb} from it: {}{more}",
        names.join(", ")
    ))
}

/// Returns the name of a step as it is shown: an image without the digest that the builder has found. Only what the
/// frontend does to a context has no name: it unpacks an archive.
pub fn name(step: &Step) -> String {
    if step.name.is_empty() {
        return CONTEXT.to_owned();
    }
    let name = match step.name.split_once("@sha256:") {
        Some((image, _)) if image.contains("] FROM ") => image,
        _ => &step.name,
    };
    foreign::excerpt(name, NAME)
}

/// Returns the part of a name that tells which step it is, such as `[build 4/6]`.
pub fn label(step: &Step) -> String {
    let name = foreign::line(&step.name);
    match name.split_once(']') {
        Some((label, _)) if label.starts_with('[') => format!("{label}]"),
        _ => self::name(step),
    }
}

fn variable(variable: &Variable) -> String {
    let name = foreign::line(&variable.name);
    let kind = if variable.is_argument {
        "build argument"
    } else {
        "environment variable"
    };
    let differs = match variable.change {
        VariableChange::Value => "has another value",
        VariableChange::New => "is new",
        VariableChange::Gone => "is gone",
    };
    let is_gone = variable.change == VariableChange::Gone;
    let hint = if variable.is_argument && !variable.is_named && !is_gone {
        format!("; the command does not use it: declare ARG {name} below this step")
    } else {
        String::new()
    };
    format!("{kind} {name} {differs}{hint}")
}

fn base(from: Option<&Digest>, to: Option<&Digest>) -> String {
    match (from, to) {
        (Some(from), Some(to)) => format!("base image moved from {} to {}", short(from), short(to)),
        (None, Some(to)) => format!("base image moved to {}", short(to)),
        _ => "base image moved".to_owned(),
    }
}

fn changed_files(files: &Files, length: Length) -> Vec<String> {
    let mut lines = Vec::new();
    let of_all = |count: usize| {
        let total = counted(files.total, "file");
        let verb = if count == 1 { "differs" } else { "differ" };
        // Folders may be among those that differ, and are not in the total.
        let of_all = if count > files.total {
            format!("{count} files and folders")
        } else {
            format!("{count} of {total}")
        };
        (of_all, verb)
    };
    if !files.changed.is_empty() {
        let shown = match length {
            Length::Short if files.changed.len() > FILES + 1 => FILES,
            Length::Short | Length::Full => files.changed.len(),
        };
        let names = files.changed.iter().take(shown).map(|(path, change)| {
            let change = match change {
                FileChange::Content => "content",
                FileChange::New => "new",
                FileChange::Removed => "removed",
                FileChange::Ignored => "now ignored",
                FileChange::Kind => "another type of file",
            };
            format!("{} ({change})", foreign::line(path))
        });
        let names: Vec<String> = names.collect();
        let more = match files.changed.len() - shown {
            0 => String::new(),
            more => format!(", and {more} more (--explain=full)"),
        };
        let (count, verb) = of_all(files.changed.len());
        let hint = left_out(files);
        lines.push(format!("{count} {verb}: {}{more}{hint}", names.join(", ")));
    }
    if let Some(permissions) = &files.permissions {
        let is_all = files.changed.is_empty();
        lines.push(other_permissions(
            permissions,
            &of_all(permissions.count).0,
            is_all,
        ));
    }
    lines
}

/// Returns the hint where files are copied that only say what is built. The list of what is left out is told only where
/// nothing else differs: what it leaves out differs with it.
fn left_out(files: &Files) -> String {
    let is_all = files.own.len() == files.changed.len();
    let list = foreign::line(&files.left_out_by);
    let own = files
        .own
        .iter()
        .filter(|own| is_all || **own != files.left_out_by);
    let own: Vec<String> = own.map(|own| foreign::line(own).into_owned()).collect();
    match own.as_slice() {
        [] => String::new(),
        [_] if is_all => format!("; it is copied too: list it in {list}"),
        [one] => format!("; {one} is copied too: list it in {list}"),
        all => format!("; {} are copied too: list them in {list}", and(all)),
    }
}

/// `is_all` is whether nothing else differs.
fn other_permissions(permissions: &Permissions, count: &str, is_all: bool) -> String {
    let (differs, before_name) = if permissions.count == 1 {
        ("differs only in its permissions", ": ")
    } else {
        ("differ only in their permissions", ", such as ")
    };
    let hint = if is_all && permissions.same_in_git {
        "; --context-mode=git ignores that"
    } else {
        ""
    };
    format!(
        "{count} {differs}{before_name}{} ({:04o}, was {:04o}){hint}",
        foreign::line(&permissions.such_as),
        permissions.now,
        permissions.before,
    )
}

fn options_differ(options: &[&str]) -> String {
    let told = options.iter().map(|option| match *option {
        "WORKDIR" => "working directory (WORKDIR)".to_owned(),
        "USER" => "user (USER)".to_owned(),
        "--network" => "network mode (--network)".to_owned(),
        "--security" => "security mode (--security)".to_owned(),
        other => other.to_owned(),
    });
    let told: Vec<String> = told.collect();
    let verb = if told.len() == 1 { "differs" } else { "differ" };
    format!("its {} {verb}", and(&told))
}

/// Returns the beginning of a digest.
fn short(digest: &Digest) -> String {
    let hex: String = digest.hex().chars().take(4).collect();
    format!("{}:{hex}…", digest.algorithm())
}

/// Returns `a`, `a and b`, or `a, b and c`.
pub(super) fn and(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}
