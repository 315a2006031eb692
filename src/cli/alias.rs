//! `docker cachex alias`: who answers `docker buildx`.

use std::path::{Path, PathBuf};

use super::Context;
use super::hand_on::Call;
use crate::error::{CommandError, ErrorKind};
use crate::plugin::alias::{Alias, AliasError, Status};

/// The arguments; the text of the help is at the command.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = false)]
pub struct AliasArgs {
    /// What to do; "status" ends with 1 where the alias is off
    #[arg(value_name = "on|off|status")]
    action: Action,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Action {
    On,
    Off,
    Status,
}

impl From<AliasError> for CommandError {
    fn from(error: AliasError) -> Self {
        let hint = error.hint();
        hint.into_iter().fold(Self::failed(error), Self::hint)
    }
}

/// Runs the command.
///
/// # Errors
///
/// Fails if docker's configuration cannot be read or written, or if the alias is asked for and is off.
pub fn run(args: &AliasArgs, ctx: &Context) -> Result<(), CommandError> {
    let docker = ctx.docker()?;
    let config_dir = std::path::absolute(&docker.config_dir)?;
    let config_file = std::path::absolute(&docker.config.path)?;
    let alias = Alias::new(&config_dir, &config_file);
    match args.action {
        Action::On => {
            alias.on(&program(&alias)?)?;
            tell(&alias, ctx)
        }
        Action::Off => {
            let text = if alias.off()? {
                "the alias is off: docker buildx is buildx again"
            } else {
                "the alias was off"
            };
            Ok(ctx.ui.data(text)?)
        }
        Action::Status => tell(&alias, ctx),
    }
}

fn tell(alias: &Alias, ctx: &Context) -> Result<(), CommandError> {
    let text = match alias.status()? {
        Status::On(path) => format!("the alias is on: docker buildx is {}", path.display()),
        Status::Off => "the alias is off".to_owned(),
        Status::Broken => format!(
            "the alias is broken: {} leads nowhere; docker cachex alias on mends it",
            alias.link_path().display()
        ),
        Status::Behind(first) => format!(
            "the alias is hidden by {}; docker cachex alias on puts it first",
            first.display()
        ),
    };
    ctx.ui.data(&text)?;
    if !matches!(alias.status()?, Status::On(_)) {
        return Err(CommandError::new(ErrorKind::Status(1), text));
    }
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let call = Call {
        name: &ctx.name,
        env: &ctx.env,
        args: &args,
    };
    let text = match call.original() {
        Ok(Some(original)) => format!(
            "what it does not have goes on to {} ({})",
            original.path.display(),
            original.version
        ),
        Err(silent) => format!(
            "what it does not have goes on to nobody, since {silent}; {}",
            silent.hint()
        ),
        Ok(None) => "no other buildx is installed, so there is no bake, no history and no building with the docker driver: for docker build set BUILDX_BUILDER to a builder that docker buildx create has made"
            .to_owned(),
    };
    Ok(ctx.ui.data(&text)?)
}

/// Returns the file that the link leads to: the one that docker calls as `docker cachex`, which may be a link that leads
/// to another version one day; where the program was called otherwise, its own file.
fn program(alias: &Alias) -> Result<PathBuf, CommandError> {
    let own = std::env::current_exe()?;
    let called = std::env::args_os().next().map(PathBuf::from);
    let is_kept = |called: &Path| {
        called.is_absolute()
            && *called != alias.link_path()
            && same_file::is_same_file(called, &own).unwrap_or(false)
    };
    Ok(called.filter(|called| is_kept(called)).unwrap_or(own))
}
