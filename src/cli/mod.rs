//! The command line: one file per command.
//!
//! A command file holds its clap arguments (their doc comments are the help text), and
//! `pub async fn run(args, &Context) -> Result<(), CommandError>`, split into resolve (typed
//! request), call and render. To add one: its `mod` line, a variant of [`Commands`] and its arm in
//! `Commands::run`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::child;
use crate::docker::{ConfigError, ConfigFile, Contexts, config_dir};
use crate::env::{BUILDX_BUILDER, Env};
use crate::error::CommandError;
use crate::exit;
use crate::plugin::{self, Invocation, Metadata, Name};
use crate::ui::{self, Ui};

pub mod alias;
mod attend;
pub mod boot_progress;
pub mod build;
mod buildx_help;
pub mod cache;
mod complete;
pub mod completion;
mod confirm;
mod connect;
pub mod create;
pub mod dial_stdio;
mod disk;
pub mod docker_env;
pub mod doctor;
pub mod du;
mod errors;
pub mod format;
mod global;
mod hand_on;
pub mod inspect;
mod invocation;
mod keys;
mod logging;
pub mod ls;
pub mod man;
mod pflag;
pub mod probe;
pub mod prune;
pub mod rm;
pub mod stop;
pub mod table;
pub mod template;
mod usage;
pub mod use_;
pub mod version;

use hand_on::Call;

pub use global::GlobalFlags;

/// Builds with BuildKit and a registry cache that is fast, safe and visible
#[derive(Debug, clap::Parser)]
#[command(
    name = "docker cachex",
    bin_name = "docker cachex",
    version,
    no_binary_name = true,
    disable_version_flag = true,
    subcommand_value_name = "COMMAND",
    args_override_self = true
)]
struct Cli {
    #[command(flatten)]
    global: GlobalFlags,
    #[command(subcommand)]
    command: Option<Commands>,
}

/// The commands.
#[derive(Debug, clap::Subcommand)]
pub enum Commands {
    /// Let docker buildx be answered by this program, or by buildx again
    ///
    /// With the alias on, "docker buildx", "docker build", docker compose and the GitHub actions that build reach this
    /// program. What it does not have, such as bake, goes on to the buildx that is installed. The alias is one entry in
    /// docker's configuration file and one link in the folder "cachex" beside it; "off" takes both back.
    Alias(alias::AliasArgs),
    /// Start a build
    #[command(visible_alias = "b")]
    Build(Box<build::BuildArgs>),
    /// Look into registry caches, and merge them
    Cache(cache::CacheArgs),
    /// Generate the autocompletion script for a shell
    ///
    /// The script completes the stand-alone program docker-cachex. "docker cachex" is completed by docker's own script, which
    /// asks this program: "docker completion bash", "docker completion zsh" or "docker completion fish" prints it. Of the
    /// scripts in Debian's docker-cli only that for bash asks plugins.
    Completion(completion::CompletionArgs),
    /// Create a new builder instance
    Create(create::CreateArgs),
    /// Proxy current stdio streams to builder instance
    DialStdio(dial_stdio::DialStdioArgs),
    /// Tell what engine, builder, credentials and a registry can do
    ///
    /// With REPO, a repository such as registry.example/me/app, it also writes one small cache under a tag of its own,
    /// cachex-doctor-XXXXXXXX, and removes it again. Ends with 1 if something that a build with a registry cache needs is
    /// missing.
    Doctor(doctor::DoctorArgs),
    /// Disk usage
    Du(du::DuArgs),
    /// Inspect current builder instance
    Inspect(inspect::InspectArgs),
    /// List builder instances
    Ls(ls::LsArgs),
    /// Write the manual pages into a folder
    #[command(hide = true)]
    Man(man::ManArgs),
    /// Remove build cache
    Prune(prune::PruneArgs),
    /// Remove one or more builder instances
    Rm(rm::RmArgs),
    /// Stop builder instance
    Stop(stop::StopArgs),
    /// Set the current builder instance
    Use(use_::UseArgs),
    /// Show version information
    Version(version::VersionArgs),
}

impl Commands {
    async fn run(self, ctx: &Context) -> Result<(), CommandError> {
        match self {
            Self::Alias(args) => alias::run(&args, ctx),
            Self::Build(args) => Box::pin(build::run(*args, ctx)).await,
            Self::Cache(args) => Box::pin(cache::run(args, ctx)).await,
            Self::Completion(args) => completion::run(&args, ctx),
            Self::Create(args) => create::run(args, ctx).await,
            Self::DialStdio(args) => dial_stdio::run(args, ctx).await,
            Self::Doctor(args) => Box::pin(doctor::run(args, ctx)).await,
            Self::Du(args) => du::run(args, ctx).await,
            Self::Inspect(args) => inspect::run(args, ctx).await,
            Self::Ls(args) => ls::run(args, ctx).await,
            Self::Man(args) => man::run(&args, ctx),
            Self::Prune(args) => prune::run(args, ctx).await,
            Self::Rm(args) => rm::run(args, ctx).await,
            Self::Stop(args) => stop::run(args, ctx).await,
            Self::Use(args) => use_::run(args, ctx).await,
            Self::Version(args) => version::run(&args, ctx),
        }
    }

    /// Returns whether the command needs neither threads nor network.
    fn is_instant(&self) -> bool {
        matches!(
            self,
            Self::Alias(_) | Self::Completion(_) | Self::Man(_) | Self::Version(_)
        )
    }

    /// Returns whether the command heeds [`Context::cancel`] and cleans up on its own. All others are
    /// dropped where they stand when the user cancels.
    fn handles_cancel(&self) -> bool {
        matches!(self, Self::Build(_))
    }
}

/// What every command is given.
#[derive(Debug, Clone)]
pub struct Context {
    /// As what the program was started.
    pub name: Name,
    /// Environment, home and working folder.
    pub env: Env,
    /// Terminal output.
    pub ui: Ui,
    /// Docker's global flags.
    pub global: GlobalFlags,
    /// Cancelled by SIGINT, SIGTERM or the docker command line.
    pub cancel: CancellationToken,
    /// Cancelled by the second signal: what is done after a cancellation ends too.
    pub hurry: CancellationToken,
    /// Holds a token of each work that is ended in order after a cancellation. Without one, a command that does not
    /// notice its cancellation is left where it is stuck.
    pub orderly: TaskTracker,
}

/// The user's docker settings: configuration file and contexts.
#[derive(Debug, Clone)]
pub struct DockerSettings {
    /// Folder of the configuration file.
    pub config_dir: PathBuf,
    /// The configuration file.
    pub config: ConfigFile,
    /// The contexts, and which one is chosen.
    pub contexts: Contexts,
}

impl Context {
    /// Creates a context without flags, for a completion.
    fn bare(env: &Env) -> Self {
        Self {
            name: Name::default(),
            env: env.clone(),
            ui: Ui::from_process(),
            global: GlobalFlags::default(),
            cancel: CancellationToken::new(),
            hurry: CancellationToken::new(),
            orderly: TaskTracker::new(),
        }
    }

    /// Reads the user's docker settings.
    ///
    /// # Errors
    ///
    /// Fails if the configuration file is broken or flags exclude each other.
    pub fn docker(&self) -> Result<DockerSettings, CommandError> {
        // As docker: without the file there is less to find, such as logins, and that is no reason to
        // stop.
        self.docker_or(&|error| {
            self.ui.warning(&crate::error::chain(error));
            self.ui.status(&format!("hint: {}", error.hint()));
        })
    }

    /// Reads the same without a word about a file that cannot be read.
    ///
    /// # Errors
    ///
    /// Fails as [`docker`](Self::docker).
    pub fn docker_quietly(&self) -> Result<DockerSettings, CommandError> {
        self.docker_or(&|_| {})
    }

    /// Reads the same, with something else to do about a file that cannot be read.
    fn docker_or(&self, warn: &dyn Fn(&ConfigError)) -> Result<DockerSettings, CommandError> {
        let config_dir = config_dir(self.global.config.as_deref(), &self.env)?;
        // docker looks for TLS files in the folder that it has without --config.
        let cert_dir = crate::docker::config_dir(None, &self.env).unwrap_or(config_dir.clone());
        let config = ConfigFile::load(&config_dir).unwrap_or_else(|error| {
            warn(&error);
            ConfigFile::empty(&config_dir)
        });
        // The rest of the file counts, as in docker.
        if let Some(mismatch) = &config.mismatch {
            warn(mismatch);
        }
        let options = self.global.endpoint_options();
        let contexts = Contexts::new(&config_dir, &cert_dir, &config, &options, &self.env)?;
        Ok(DockerSettings {
            config_dir,
            config,
            contexts,
        })
    }

    /// Returns the builder that the user named: by argument, `--builder` or `BUILDX_BUILDER`. An empty
    /// flag hides the variable, as in buildx.
    pub fn builder_name<'a>(&'a self, argument: Option<&'a str>) -> Option<&'a str> {
        argument
            .or(self.global.builder.as_deref())
            .or(self.env.get(BUILDX_BUILDER))
            .filter(|name| !name.is_empty())
    }
}

/// Returns the tree of commands with all their flags.
pub fn command() -> clap::Command {
    command_as(&Name::default())
}

/// Returns the tree of commands as it is under a name of this program.
fn command_as(name: &Name) -> clap::Command {
    let words = name.command();
    let root = Cli::command().name(words.clone()).bin_name(words);
    let mut root = pflag::like_pflag(global::spread(root));
    if name.is_buildx() {
        root = buildx_help::dress(root);
    }
    root
}

/// Runs the program: parses the arguments, runs the command, prints its error.
pub fn main(mut args: Vec<OsString>) -> ExitCode {
    let ui = Ui::from_process();
    let name = Name::of(args.first().map(OsString::as_os_str));
    let invocation = plugin::invocation(args.clone(), &name);
    args.drain(..args.len().min(1));
    let env = Env::from_process();
    child::hide_named_in(&args);
    let call = Call {
        name: &name,
        env: &env,
        args: &args,
    };
    let code = match start(invocation, call, &ui) {
        Ok(()) => exit::SUCCESS,
        Err(error) if ui::is_stdout_closed(error.source.as_ref()) => exit::SUCCESS,
        Err(error) => {
            let error = error.with_hints_for(&Name::default().command(), &name.command());
            ui.error(&error, name.is_buildx());
            error.kind.exit_code()
        }
    };
    ExitCode::from(code)
}

fn start(invocation: Invocation, call: Call<'_>, ui: &Ui) -> Result<(), CommandError> {
    match invocation {
        Invocation::Metadata => {
            let metadata = if call.name.is_buildx() {
                Metadata::as_buildx(&call.version())
            } else {
                Metadata::own()
            };
            Ok(ui.data(metadata.text().trim_end())?)
        }
        Invocation::Complete {
            descriptions,
            words,
        } => {
            call.hand_on_completion(&words)?;
            complete_words(&words, descriptions, call, ui)
        }
        Invocation::Command(args) => run_command(&args, call, ui),
    }
}

fn run_command(args: &[OsString], call: Call<'_>, ui: &Ui) -> Result<(), CommandError> {
    let mut root = command_as(call.name);
    let args = &pflag::without_help_values(args)[..];
    let matches = match root.try_get_matches_from_mut(args) {
        Ok(matches) => matches,
        Err(error) => {
            let error = if error.use_stderr() {
                error
            } else if let Some(wrong) = pflag::wrong_beside_help(command_as(call.name), args) {
                wrong
            } else {
                return show_help(&error, ui);
            };
            let usage = usage::error(&error, &root, args);
            let also = format!("docker-cachex itself does not take it: {usage}");
            call.hand_on().map_err(|error| error.hint(also))?;
            return Err(usage);
        }
    };
    let cli = Cli::from_arg_matches(&matches).map_err(|error| usage::error(&error, &root, args))?;
    let mut global = cli.global;
    if let Some((_, inner)) = matches.subcommand() {
        global.overlay(inner);
    }
    let Some(command) = cli.command else {
        return Ok(ui.data(root.render_help().to_string().trim_end())?);
    };
    let ctx = Context {
        name: call.name.clone(),
        env: call.env.clone(),
        ui: ui.clone(),
        global,
        cancel: CancellationToken::new(),
        hurry: CancellationToken::new(),
        orderly: TaskTracker::new(),
    };
    call.hand_on_if_others(&command, &matches, &ctx)?;
    if ctx.global.logs() {
        logging::start(ui.stderr_is_terminal());
    }
    if command.is_instant() {
        let runtime = Builder::new_current_thread().build()?;
        return runtime.block_on(command.run(&ctx));
    }
    attend::run(command, ctx)
}

/// Reads the arguments of a build that stand behind those of another command, and what they say for all commands.
///
/// # Errors
///
/// Fails if they are not those of a build.
fn build_args(
    args: &[OsString],
    ctx: &Context,
) -> Result<(build::BuildArgs, Context), CommandError> {
    let mut root = command_as(&ctx.name);
    let args: Vec<OsString> = std::iter::once("build".into())
        .chain(args.iter().cloned())
        .collect();
    let read = root.try_get_matches_from_mut(&args);
    let read = read.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (cli, matches) = read.map_err(|error| usage::error(&error, &root, &args))?;
    let mut ctx = ctx.clone();
    ctx.global.overlay(&matches);
    match cli.command {
        Some(Commands::Build(args)) => Ok((*args, ctx)),
        _ => Err(CommandError::failed("these are no arguments of a build")),
    }
}

fn show_help(error: &clap::Error, ui: &Ui) -> Result<(), CommandError> {
    let text = error.render();
    let text = if ui.stdout_is_terminal() {
        text.ansi().to_string()
    } else {
        text.to_string()
    };
    Ok(ui.styled(text.trim_end())?)
}

fn complete_words(
    words: &[OsString],
    descriptions: bool,
    call: Call<'_>,
    ui: &Ui,
) -> Result<(), CommandError> {
    let mut root = command_as(call.name);
    // The flags that choose a configuration count for names, so what can be parsed is taken.
    root.build();
    let env = call.env;
    let dynamic = |id: &str| match id {
        "global-context" | "endpoint" => Some(context_names(env)),
        "global-builder" | "builder" => Some(builder_names(env, true)),
        "stored-builder" => Some(builder_names(env, false)),
        _ => None,
    };
    let text = complete::answer(&root, words, descriptions, &dynamic);
    Ok(ui.data(&text)?)
}

/// Names of the contexts; none if they cannot be read, for a completion must not print errors.
fn context_names(env: &Env) -> Vec<String> {
    let names = Context::bare(env)
        .docker()
        .map(|docker| docker.contexts.names());
    names.ok().and_then(Result::ok).unwrap_or_default()
}

/// Names of the builders in the store, and of the contexts that stand for one; none if they cannot be
/// read.
fn builder_names(env: &Env, with_contexts: bool) -> Vec<String> {
    let all = docker_env::docker_env(&Context::bare(env))
        .map(|docker_env| crate::builder::load::all(&docker_env));
    let all = all.ok().and_then(Result::ok).unwrap_or_default();
    all.into_iter()
        .filter(|found| with_contexts || !found.is_context)
        .map(|found| found.group.name)
        .collect()
}

#[cfg(test)]
mod tests;
