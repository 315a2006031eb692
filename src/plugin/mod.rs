//! The contract with the docker command line: metadata, argv form, cancel socket.
//!
//! Docker starts a plugin with its own arguments: `docker -c ctx cachex ls` becomes
//! `docker-cachex -c ctx cachex ls`. Started by hand, the name of the plugin is left out.
//!
//! | file | holds |
//! |---|---|
//! | [`name`] | as which plugin the program was started |
//! | [`hand_on`] | the buildx whose place it takes: finding it, and becoming it |
//! | [`alias`] | the entry in docker's configuration that makes `docker buildx` this program |
//! | [`cancel`] | signals, and docker's socket |

use std::ffi::{OsStr, OsString};

use serde::{Deserialize, Serialize};

pub mod alias;
pub mod cancel;
pub mod hand_on;
pub mod name;

pub use name::Name;

const METADATA: &str = include_str!("../../plugin-metadata/metadata.json");
/// The question that docker asks each plugin.
const METADATA_COMMAND: &str = "docker-cli-plugin-metadata";
const COMPLETE_COMMAND: &str = "__complete";
const COMPLETE_NO_DESCRIPTIONS_COMMAND: &str = "__completeNoDesc";
const HELP_COMMAND: &str = "help";

/// Docker's global flags that take a value, and those of this program before the command.
const VALUE_FLAGS: [&str; 8] = [
    "--config",
    "--context",
    "--host",
    "--log-level",
    "--tlscacert",
    "--tlscert",
    "--tlskey",
    "--builder",
];
const VALUE_SHORTS: [u8; 3] = [b'c', b'H', b'l'];

/// What the program was started for.
#[derive(Debug, PartialEq, Eq)]
pub enum Invocation {
    /// Docker asks what this plugin is.
    Metadata,
    /// A shell asks for completions of the last word (cobra's protocol).
    Complete {
        /// With descriptions of the candidates.
        descriptions: bool,
        /// The words behind the name of the plugin; the last one is not complete.
        words: Vec<OsString>,
    },
    /// A command: global flags, command, its arguments; without program and plugin name.
    Command(Vec<OsString>),
}

/// What a plugin says of itself; docker's `SchemaVersion` 0.1.0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Metadata {
    /// Version of the form.
    pub schema_version: String,
    /// Who made the plugin; never empty.
    #[serde(default)]
    pub vendor: String,
    /// Version of the plugin.
    #[serde(default)]
    pub version: String,
    /// A line for docker's help.
    #[serde(default)]
    pub short_description: String,
}

impl Metadata {
    /// Returns what this program says of itself as `docker cachex`.
    pub fn own() -> Self {
        let text = METADATA.replace("@VERSION@", env!("CARGO_PKG_VERSION"));
        serde_json::from_str(&text).expect("the metadata of this program")
    }

    /// Returns what it says under the name of buildx: the version is that of a buildx, because programs ask by it for
    /// what they can use; vendor and description say who answers.
    pub fn as_buildx(version: &str) -> Self {
        let own = Self::own();
        let description = format!("Docker Buildx, by docker-cachex {}", own.version);
        Self {
            version: version.to_owned(),
            short_description: description,
            ..own
        }
    }

    /// Returns it as JSON, a new line at the end.
    pub fn text(&self) -> String {
        format!("{:#}\n", serde_json::json!(self))
    }
}

/// Understands the arguments of the process, the program's own path first.
pub fn invocation(mut args: Vec<OsString>, name: &Name) -> Invocation {
    args.drain(..args.len().min(1));
    let name = name.word();
    match first_word(&args) {
        Some(at) if args[at] == METADATA_COMMAND => Invocation::Metadata,
        Some(at) if args[at] == COMPLETE_COMMAND => complete(args, at, name, true),
        Some(at) if args[at] == COMPLETE_NO_DESCRIPTIONS_COMMAND => complete(args, at, name, false),
        Some(at) if args[at] == name => {
            args.remove(at);
            Invocation::Command(args)
        }
        // "docker help cachex ls" comes as "help cachex ls".
        Some(at) if args[at] == HELP_COMMAND && args.get(at + 1).is_some_and(|a| a == name) => {
            args.remove(at + 1);
            Invocation::Command(args)
        }
        _ => Invocation::Command(args),
    }
}

fn complete(mut args: Vec<OsString>, at: usize, name: &str, descriptions: bool) -> Invocation {
    let mut words = args.split_off(at + 1);
    // Not where the name itself is being typed.
    if words.len() > 1
        && let Some(first) = first_word(&words[..words.len() - 1])
        && words[first] == name
    {
        words.remove(first);
    }
    Invocation::Complete {
        descriptions,
        words,
    }
}

/// Returns the arguments for the real buildx: where this program's own name stands on docker's command line, buildx's.
pub fn renamed(mut args: Vec<OsString>, name: &Name) -> Vec<OsString> {
    let complete = [
        COMPLETE_COMMAND,
        COMPLETE_NO_DESCRIPTIONS_COMMAND,
        HELP_COMMAND,
    ];
    if let Some(mut at) = first_word(&args) {
        at += usize::from(complete.iter().any(|word| args[at] == *word));
        if let Some(arg) = args.get_mut(at)
            && *arg == name.word()
        {
            *arg = name::BUILDX.into();
        }
    }
    args
}

/// Returns the folder that docker's flag `--config` before the command names.
pub fn config_flag(args: &[OsString]) -> Option<OsString> {
    let end = first_word(args).unwrap_or(args.len());
    let mut found = None;
    for (at, arg) in args[..end].iter().enumerate() {
        if arg == "--config" {
            found = args.get(at + 1).cloned();
        } else if let Some(value) = arg.to_str().and_then(|arg| arg.strip_prefix("--config=")) {
            found = Some(value.into());
        }
    }
    found
}

/// Finds the first argument that is neither a global flag nor the value of one.
pub fn first_word(args: &[OsString]) -> Option<usize> {
    let mut at = 0;
    while let Some(arg) = args.get(at) {
        if arg == "--" || !is_flag(arg) {
            return (arg != "--").then_some(at);
        }
        at += if takes_next(arg) { 2 } else { 1 };
    }
    None
}

fn is_flag(arg: &OsStr) -> bool {
    let bytes = arg.as_encoded_bytes();
    bytes.len() > 1 && bytes[0] == b'-'
}

/// Returns whether the value of a global flag is the next argument.
fn takes_next(arg: &OsStr) -> bool {
    let bytes = arg.as_encoded_bytes();
    if bytes.starts_with(b"--") {
        return VALUE_FLAGS.iter().any(|flag| arg == *flag);
    }
    // In a group such as -Dc the first short flag with a value takes the rest, or the next argument.
    let shorts = &bytes[1..];
    shorts.iter().position(|short| VALUE_SHORTS.contains(short)) == Some(shorts.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(args: Vec<OsString>) -> Invocation {
        let name = Name::of(args.first().map(OsString::as_os_str));
        invocation(args, &name)
    }

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ')
            .filter(|w| !w.is_empty())
            .map(Into::into)
            .collect()
    }

    #[test]
    fn both_argv_forms_give_the_same_command() {
        for (line, want) in [
            ("docker-cachex cachex build .", "build ."),
            ("docker-cachex build .", "build ."),
            ("docker-cachex -c ctx cachex ls", "-c ctx ls"),
            (
                "docker-cachex --context cachex cachex ls",
                "--context cachex ls",
            ),
            ("docker-cachex --context=x cachex ls", "--context=x ls"),
            ("docker-cachex -Dc x cachex ls", "-Dc x ls"),
            ("docker-cachex -cD cachex ls", "-cD ls"),
            (
                "docker-cachex -H unix:///s -D cachex -l debug ls",
                "-H unix:///s -D -l debug ls",
            ),
            (
                "docker-cachex --tls --tlscacert ca cachex ls",
                "--tls --tlscacert ca ls",
            ),
            ("docker-cachex cachex --help", "--help"),
            ("docker-cachex help cachex ls", "help ls"),
            ("docker-cachex build cachex", "build cachex"),
            ("docker-cachex build -t cachex .", "build -t cachex ."),
            ("docker-cachex cachex cachex", "cachex"),
            ("docker-cachex -- cachex", "-- cachex"),
            ("docker-cachex", ""),
            ("docker-buildx buildx build .", "build ."),
            ("docker-buildx buildx cachex", "cachex"),
            ("docker-buildx cachex buildx", "cachex buildx"),
            ("docker-cachex buildx ls", "buildx ls"),
            ("buildx buildx ls", "ls"),
            ("docker-cachex --config", "--config"),
        ] {
            assert_eq!(of(words(line)), Invocation::Command(words(want)), "{line}");
        }
        assert_eq!(of(Vec::new()), Invocation::Command(Vec::new()));
    }

    #[test]
    fn metadata_and_completion_are_seen() {
        let metadata_line = words("docker-cachex docker-cli-plugin-metadata");
        assert_eq!(of(metadata_line), Invocation::Metadata);
        for (line, descriptions, want) in [
            ("x __complete cachex build --pu", true, "build --pu"),
            (
                "x __completeNoDesc cachex -D build --pu",
                false,
                "-D build --pu",
            ),
            ("x __complete build --pu", true, "build --pu"),
            ("x --config d __complete cachex ls", true, "ls"),
            ("x __complete cachex", true, "cachex"),
        ] {
            assert_eq!(
                of(words(line)),
                Invocation::Complete {
                    descriptions,
                    words: words(want)
                },
                "{line}"
            );
        }
    }

    #[test]
    fn metadata_is_what_docker_wants() {
        let buildx = Metadata::as_buildx("v0.36.1");
        assert_eq!(buildx.vendor, Metadata::own().vendor);
        let own_version = env!("CARGO_PKG_VERSION");
        for (metadata, version) in [(Metadata::own(), own_version), (buildx, "v0.36.1")] {
            let value: serde_json::Value = serde_json::from_str(&metadata.text()).unwrap();
            assert_eq!(value["SchemaVersion"], "0.1.0");
            assert_eq!(value["Version"], version);
            for key in ["Vendor", "ShortDescription"] {
                let text = value[key].as_str().unwrap();
                assert!(text.contains("achex"), "{key}: {text}");
            }
        }
    }

    #[test]
    fn the_folder_of_the_configuration_is_docker_s_flag() {
        for (line, want) in [
            ("--config /d buildx build", Some("/d")),
            ("-D --config=/d buildx", Some("/d")),
            ("buildx create --config /d", None),
            ("--config", None),
            ("", None),
        ] {
            assert_eq!(config_flag(&words(line)), want.map(Into::into), "{line}");
        }
    }

    #[test]
    fn the_name_is_changed_where_it_is_one() {
        for (line, want) in [
            ("cachex bake", "buildx bake"),
            (
                "-c cachex cachex bake cachex",
                "-c cachex buildx bake cachex",
            ),
            ("__complete cachex b", "__complete buildx b"),
            ("help cachex", "help buildx"),
            ("bake cachex", "bake cachex"),
            ("", ""),
        ] {
            assert_eq!(
                renamed(words(line), &Name::default()),
                words(want),
                "{line}"
            );
        }
    }
}
