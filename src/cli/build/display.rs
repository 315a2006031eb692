//! How a build shows its progress: the flags, the terminal and the variables together.

use std::io;

use super::args::BuildArgs;
use crate::builder::Builder;
use crate::cli::Context;
use crate::env;
use crate::error::CommandError;
use crate::progress::{Colors, Mode, Progress, RenderOptions, Request, Resolved, resolve, tty};

/// Chooses the display.
///
/// # Errors
///
/// Fails for an unknown mode, and for `tty` without a terminal.
pub(super) fn choose(args: &BuildArgs, ctx: &Context) -> Result<Resolved, CommandError> {
    let request = Request {
        flag: args.progress.as_deref(),
        environment: ctx.env.get(env::BUILDKIT_PROGRESS),
        quiet: args.quiet,
        is_terminal: ctx.ui.stderr_is_terminal(),
        is_ci: ctx.env.non_empty("CI").is_some(),
    };
    resolve(&request).map_err(CommandError::failed)
}

/// Starts the display of a build on a builder, or of a call of its frontend.
///
/// # Errors
///
/// Fails if the system gives no thread.
pub(super) fn start(
    mode: Mode,
    builder: &Builder,
    is_call: bool,
    ctx: &Context,
) -> Result<Progress, CommandError> {
    let mut options = RenderOptions::new(io::stderr());
    options.summary = !is_call;
    options.is_terminal = ctx.ui.stderr_is_terminal();
    options.debug = ctx.global.logs();
    options.truncate_names = ctx.env.get(env::PROGRESS_NO_TRUNC) == Some("0");
    let rows = ctx.env.get(env::BUILDKIT_TTY_LOG_LINES);
    let rows = rows.and_then(|text| text.parse().ok());
    options.log_rows = rows.filter(|rows| *rows > 0).unwrap_or(options.log_rows);
    options.description = format!(
        "building with {:?} instance using {} driver",
        builder.name(),
        builder.driver()
    );
    options.terminal_description = format!("{}:{}", builder.driver(), builder.name());
    if options.is_terminal {
        let (colors, complaints) = Colors::from_variables(
            ctx.env.get(env::NO_COLOR),
            ctx.env.get(env::BUILDKIT_COLORS),
            false,
        );
        for complaint in complaints {
            ctx.ui.warning(&complaint);
        }
        options.colors = colors;
        options.size = Box::new(tty::error_size);
    }
    Ok(Progress::start(mode, options)?)
}
