//! Why a build's inputs cannot be used.

use std::io;

use thiserror::Error;

use crate::cache::layout::LayoutError;
use crate::options::OptionError;

/// Why the inputs cannot be used.
#[derive(Debug, Error)]
pub enum InputError {
    /// The context argument names nothing that exists.
    #[error("unable to prepare context: path {0:?} not found")]
    ContextNotFound(String),
    /// The context argument is a file.
    #[error("unable to prepare context: {0:?} is not a directory")]
    ContextNotDirectory(String),
    /// The context folder cannot be read.
    #[error("unable to prepare context: cannot read {path:?}")]
    ContextUnreadable {
        /// The folder.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Both context and Dockerfile are to come from standard input.
    #[error("invalid argument: can't use stdin for both build context and dockerfile")]
    StdinTwice,
    /// Standard input holds a Dockerfile and `--file` names another one.
    #[error("ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles")]
    AmbiguousDockerfile,
    /// Standard input is something else than BuildKit can read.
    #[error(
        "standard input is neither a Dockerfile nor a tar archive that can be unpacked (plain, gzip, bzip2, xz or zstd)"
    )]
    UnknownArchive,
    /// A named context is not a folder.
    #[error("failed to get build context {name:?} from {path:?}")]
    NamedContext {
        /// Name of the context.
        name: String,
        /// The path given for it.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A reference to a layout folder has no valid form.
    #[error(transparent)]
    LayoutRef(OptionError),
    /// A layout folder is missing, cannot be read or has no such manifest.
    #[error("oci-layout reference {text:?} could not be resolved")]
    Layout {
        /// The reference.
        text: String,
        /// Why.
        #[source]
        source: LayoutError,
    },
    /// The query of a Git URL is wrong.
    #[error("invalid Git URL {url:?}: {why}")]
    GitQuery {
        /// The URL.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// Standard input or a temporary file failed.
    #[error("cannot take the build's input from stdin")]
    Stdin(#[source] io::Error),
}
