//! The causes for which a step runs.

use crate::digest::Digest;

/// Why a step ran: the most specific thing that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The build said so, with this option.
    Asked(String),
    /// Files that the step reads differ, and which ones is known.
    Files(Files),
    /// Files that the step reads differ.
    SomeFiles,
    /// A variable of the step's environment differs.
    Variable(Variable),
    /// The command differs.
    Command,
    /// The text of a step that is no command differs.
    Instruction,
    /// What its heredoc holds differs.
    Heredoc,
    /// The mounts of the command differ.
    Mounts,
    /// Options of the step differ: those that are known, as they are told.
    Options(Vec<&'static str>),
    /// The text of a file operation is the same, and something that it depends on is not.
    Context,
    /// The environment has the same variables in another order.
    VariableOrder,
    /// The cache has the step for these other platforms.
    Platforms(Vec<String>),
    /// The image has another digest.
    Base {
        /// The digest before, where that is known.
        from: Option<Digest>,
        /// The digest now, where that is known.
        to: Option<Digest>,
    },
    /// A Git repository or a web address has other content.
    Source,
    /// The frontend, which makes the steps of the Dockerfile, is another one.
    Frontend {
        /// The one before.
        from: String,
        /// The one now.
        to: String,
    },
    /// The time that files are given differs.
    Timestamp,
    /// The cache knows the step, and has no layer of it.
    NoLayer,
    /// The registry has lost a layer of it.
    LayerLost(Digest),
    /// The cache has the step with other steps before it.
    OtherOrder,
    /// The cache has no such step, and does not tell whether it had another one in its place.
    NotThere,
    /// The cache has nothing like it.
    New,
    /// The cache has it, and the builder did not take it.
    ShouldHaveHit,
    /// This cannot be told, for this reason.
    Unknown(String),
}

/// A variable that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Whether it is a build argument.
    pub is_argument: bool,
    /// How it differs.
    pub change: VariableChange,
    /// Whether the text of the command has the name.
    pub is_named: bool,
}

/// How a variable differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VariableChange {
    /// Its value.
    Value,
    /// It was not there.
    New,
    /// It is gone.
    Gone,
}

/// Files that differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// How many the step reads.
    pub total: usize,
    /// Those that differ, by path.
    pub changed: Vec<(String, FileChange)>,
    /// Those of which only the permissions differ.
    pub permissions: Option<Permissions>,
    /// Those of them that only say what is built.
    pub own: Vec<String>,
    /// The file that leaves files out of the context.
    pub left_out_by: String,
}

/// The files that say what is built, by their paths in the main context: nothing in an image needs them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnFiles {
    /// The Dockerfile, if it is in the context.
    pub dockerfile: Option<String>,
    /// The file that leaves files out of the context: `.dockerignore`, or one that the Dockerfile has for itself.
    pub ignore_file: String,
}

impl Default for OwnFiles {
    fn default() -> Self {
        Self {
            dockerfile: None,
            ignore_file: ".dockerignore".to_owned(),
        }
    }
}

impl OwnFiles {
    /// Returns their paths.
    pub(super) fn paths(&self) -> impl Iterator<Item = &String> {
        self.dockerfile.iter().chain([&self.ignore_file])
    }
}

/// How a file differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileChange {
    /// Its content.
    Content,
    /// It was not there.
    New,
    /// It is gone.
    Removed,
    /// It is left out of the context now (`.dockerignore`).
    Ignored,
    /// It is of another kind.
    Kind,
}

/// Files of which only the permissions differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    /// How many.
    pub count: usize,
    /// The bits of the first one now.
    pub now: u32,
    /// Its bits before.
    pub before: u32,
    /// The path of the first one.
    pub such_as: String,
    /// Git would see no difference in any of them.
    pub same_in_git: bool,
}

impl Cause {
    /// Returns the code, as reports name it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Asked(_) => "asked",
            Self::Files(files) if files.changed.is_empty() => "permissions",
            Self::Files(_) | Self::SomeFiles => "files",
            Self::Variable(variable) if variable.is_argument => "arg",
            Self::Variable(_) | Self::VariableOrder => "env",
            Self::Command | Self::Instruction | Self::Heredoc | Self::Context => "command",
            Self::Mounts => "mounts",
            Self::Options(_) => "options",
            Self::Platforms(_) => "platform",
            Self::Base { .. } => "base",
            Self::Source => "source",
            Self::Frontend { .. } => "frontend",
            Self::Timestamp => "timestamp",
            Self::NoLayer => "no-layer",
            Self::LayerLost(_) => "layer-lost",
            Self::OtherOrder | Self::NotThere | Self::New => "new",
            Self::ShouldHaveHit => "should-have-hit",
            Self::Unknown(_) => "unknown",
        }
    }
}
