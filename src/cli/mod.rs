//! The command line: one file per command.
//!
//! A command file holds its clap arguments (their doc comments are the help text), and
//! `pub async fn run(args, &Context) -> Result<(), CommandError>`, split into resolve (typed
//! request), call and render.

pub mod boot_progress;
pub mod builder_flag;
pub mod create;
pub mod inspect;
pub mod ls;
pub mod probe;
pub mod rm;
pub mod stop;
pub mod surroundings;
pub mod table;
pub mod template;
pub mod use_;

use std::ffi::OsString;
use std::process::ExitCode;

use tokio_util::sync::CancellationToken;

use crate::env::Env;
use crate::ui::Ui;

/// What every command is given.
#[derive(Debug, Clone)]
pub struct Context {
    /// Environment, home and working folder.
    pub env: Env,
    /// Terminal output.
    pub ui: Ui,
    /// Docker's global flags.
    pub global: GlobalFlags,
    /// Cancelled by SIGINT, SIGTERM or the docker command line.
    pub cancel: CancellationToken,
}

/// The flags that the docker command line takes before a plugin's name, and the plugin after it.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct GlobalFlags {
    /// Location of client config files
    #[arg(long, global = true, value_name = "string")]
    pub config: Option<String>,
    /// Name of the context to use to connect to the daemon
    #[arg(short = 'c', long, global = true, value_name = "string")]
    pub context: Option<String>,
    /// Enable debug mode
    #[arg(short = 'D', long, global = true)]
    pub debug: bool,
    /// Daemon socket to connect to
    #[arg(short = 'H', long = "host", global = true, value_name = "list")]
    pub hosts: Vec<String>,
}

/// Runs the program: parses the arguments, runs the command, prints its error.
pub fn main(_args: Vec<OsString>) -> ExitCode {
    ExitCode::SUCCESS
}
