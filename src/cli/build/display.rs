//! How a build shows its progress: the flags, the terminal and the variables together.

use std::io;

use super::args::BuildArgs;
use crate::build::quiet_import;
use crate::builder::{BootEvent, Builder};
use crate::cli::Context;
use crate::env;
use crate::error::CommandError;
use crate::progress::{
    Colors, Mode, Progress, RenderOptions, Request, Resolved, StatusSender, Step, resolve, tty,
};
use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;

/// Chooses the display.
///
/// # Errors
///
/// Fails for an unknown mode, and for `tty` without a terminal.
pub fn choose(args: &BuildArgs, ctx: &Context) -> Result<Resolved, CommandError> {
    let request = Request {
        flag: args.progress.as_deref(),
        environment: ctx.env.get(env::BUILDKIT_PROGRESS),
        quiet: args.quiet == Some(true),
        is_terminal: ctx.ui.stderr_is_terminal(),
        is_ci: ctx.env.non_empty("CI").is_some(),
    };
    resolve(&request).map_err(CommandError::failed)
}

/// Starts the display of a build on a builder.
///
/// # Errors
///
/// Fails where the system gives no thread.
pub fn start(mode: Mode, builder: &Builder, ctx: &Context) -> Result<Progress, CommandError> {
    let mut options = RenderOptions::new(io::stderr());
    options.is_terminal = ctx.ui.stderr_is_terminal();
    options.debug = ctx.global.logs();
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
        options.size = Box::new(|| tty::terminal_size(io::stderr()));
    }
    Ok(Progress::start(mode, options)?)
}

/// Hands the builder's reports to the display.
#[derive(Debug)]
pub struct Reports {
    sender: StatusSender,
    soften: bool,
}

impl Reports {
    /// Makes a source of reports. JSON lines are handed on unchanged, for tools that parse them.
    pub fn new(progress: &Progress, mode: Mode) -> Self {
        Self {
            sender: progress.sender().with_reset_time(),
            soften: mode != Mode::RawJson,
        }
    }

    /// Hands on one report.
    pub fn send(&self, mut status: StatusResponse) {
        if self.soften {
            quiet_import::soften(&mut status);
        }
        self.sender.send(status);
    }
}

/// Shows the boot of a builder's node as a step.
#[derive(Debug)]
pub struct Boot<'a> {
    progress: &'a Progress,
    step: Option<Step>,
}

impl<'a> Boot<'a> {
    /// Shows nothing until the boot begins.
    pub fn new(progress: &'a Progress) -> Self {
        Self {
            progress,
            step: None,
        }
    }

    /// Shows one event.
    pub fn event(&mut self, event: BootEvent) {
        match event {
            BootEvent::Begin { .. } => {
                self.step = Some(self.progress.sender().step("[internal] booting buildkit"));
            }
            BootEvent::StepBegin { step: part, .. } => {
                if let Some(step) = &self.step {
                    step.progress(&part, 0, 0);
                }
            }
            BootEvent::StepEnd { step: part, .. } => {
                if let Some(step) = &self.step {
                    step.part_done(&part);
                }
            }
            BootEvent::End { ok, .. } => match self.step.take() {
                Some(step) if ok => step.done(),
                Some(step) => step.fail(&"the builder did not boot"),
                None => {}
            },
        }
    }
}
